"""The lists of hstmap and of SExtractor itself, of the same frames with the same settings."""

from __future__ import annotations

import io

import pytest

from benchmarks.lists import agreement, parameters
from benchmarks.sextractor import find_sextractor, run_sextractor
from hstmap.wfc3.image import read_image
from hstmap.wfc3.simulate import simulate_flt
from hstmap.wfc3.simulate_scene import scene

pytestmark = pytest.mark.skipif(
    find_sextractor() is None,
    reason="SExtractor is not installed: apt-get install source-extractor",
)


def simulated(name):
    frame = simulate_flt(scene(name), "isim01a1q")
    return read_image(io.BytesIO(frame.content), frame.filename)


def real(data_dir, rootname):
    name = f"{rootname}_flt.fits"
    with (data_dir / "frames/hst/public" / rootname[:4] / rootname / name).open("rb") as file:
        return read_image(file, name)


@pytest.fixture(params=["sparse", "normal", "ib6o23rtq", "ib6o04uwq"])
def image(request):
    if request.param.startswith("ib6o"):
        return real(request.getfixturevalue("data_dir"), request.param)
    return simulated(request.param)


def test_sextractor_has_the_same_sources(image, tmp_path):
    found = agreement(image, run_sextractor(image, parameters(), tmp_path))
    assert found.n_ours > 200
    assert found.share_of_ours >= 0.98
    # SExtractor convolves the noise, too, and cleans otherwise: it has some more.
    assert found.share_of_theirs >= 0.95
    assert found.distance < 0.03
    # Its circles and background are the same to the last digits,
    assert abs(found.aperture.bias) < 1e-4
    # and its ellipses but for what whole pixels make of them.
    assert found.magnitude.n > 20
    assert abs(found.magnitude.bias) < 0.005
    assert found.magnitude.scatter < 0.05


def test_a_crowded_field_agrees_as_well(tmp_path):
    image = simulated("crowded")
    found = agreement(image, run_sextractor(image, parameters(), tmp_path))
    assert found.share_of_ours >= 0.97
    assert found.share_of_theirs >= 0.94
    assert abs(found.aperture.bias) < 1e-4
    assert abs(found.magnitude.bias) < 0.005


def test_a_pixel_that_was_moved_would_show(tmp_path):
    """The comparison itself: what it would say of the one-pixel error."""
    image = simulated("sparse")
    theirs = run_sextractor(image, parameters(), tmp_path)
    theirs["X_IMAGE"] += 1.0
    moved = agreement(image, theirs)
    assert moved.distance > 0.5 or moved.share_of_ours < 0.6
