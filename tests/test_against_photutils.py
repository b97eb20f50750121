"""The lists of hstmap and of photutils, of the same frames with the same settings."""

from __future__ import annotations

import io

import pytest

from benchmarks.lists import agreement, parameters
from benchmarks.photutils_list import run_photutils
from hstmap.wfc3.image import read_image
from hstmap.wfc3.simulate import simulate_flt
from hstmap.wfc3.simulate_scene import scene


@pytest.mark.parametrize("name", ["sparse", "normal"])
def test_photutils_has_the_same_sources(name):
    frame = simulate_flt(scene(name), "isim01a1q")
    image = read_image(io.BytesIO(frame.content), frame.filename)
    found = agreement(image, run_photutils(image, parameters()))
    assert found.n_ours > 200
    assert found.share_of_ours >= 0.98
    # It does not clean, and deblends by a watershed.
    assert found.share_of_theirs >= 0.93
    assert found.distance < 0.005
    assert abs(found.aperture.bias) < 0.002
    assert abs(found.magnitude.bias) < 0.003
    assert found.magnitude.scatter < 0.01


def test_photutils_agrees_on_a_real_frame(data_dir):
    name = "ib6o23rtq_flt.fits"
    path = data_dir / "frames" / "hst" / "public" / "ib6o" / "ib6o23rtq" / name
    with path.open("rb") as file:
        image = read_image(file, name)
    found = agreement(image, run_photutils(image, parameters()))
    assert found.share_of_ours >= 0.97
    assert found.distance < 0.01
    assert abs(found.aperture.bias) < 0.003
    assert abs(found.magnitude.bias) < 0.003
