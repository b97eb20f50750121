"""What a catalogue is judged by: the part of a reference that it could have seen, and no less."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hstmap.errors import UsageError
from hstmap.report.score_inputs import ImageSources, Inputs, compare_all, read_inputs
from hstmap.wfc3.compare import MatchParameters, compare
from hstmap.wfc3.source_list import make_source_list

SECOND = 1 / 3600


def pair_of(found, truth):
    return Inputs(((ImageSources("i", make_source_list(found)), make_source_list(truth)),))


@settings(max_examples=60)
@given(
    ra=st.floats(0, 359.99) | st.sampled_from([0.0, 1e-7, 359.99999]),
    dec=st.floats(-89.5, 89.5) | st.sampled_from([89.9999, -89.9999, 90.0]),
    n=st.integers(1, 6),
    seed=st.integers(0, 2**32),
    n_unknown=st.integers(0, 2),
)
@example(ra=0.0, dec=-89.9999, n=3, seed=19930644, n_unknown=0)
def test_no_source_that_could_be_matched_is_left_out_of_the_reference(ra, dec, n, seed, n_unknown):
    rng = np.random.default_rng(seed)
    centre = SkyCoord(ra, dec, unit="deg")
    found = centre.directional_offset_by(
        rng.uniform(0, 360, n) * u.deg, rng.uniform(0, 60, n) * u.arcsec
    )
    # Each has its source at most a radius away, on whatever side.
    radius = 0.5
    near = found.directional_offset_by(
        rng.uniform(0, 360, n) * u.deg, rng.uniform(0, 0.99, n) * radius * u.arcsec
    )
    far = centre.directional_offset_by(rng.uniform(0, 360, 5) * u.deg, 20 * u.deg)
    unknown = np.full(n_unknown, np.nan)  # sources of an image without a place on the sky
    catalogue = {
        "ra": np.concatenate([unknown, found.ra.deg]),
        "dec": np.concatenate([unknown, found.dec.deg]),
    }
    truth = {
        "ra": np.concatenate([near.ra.deg, far.ra.deg]),
        "dec": np.concatenate([near.dec.deg, far.dec.deg]),
    }
    inputs = pair_of(catalogue, truth)
    (comparison,), used = compare_all(inputs, "sky", radius, MatchParameters())
    ((image, reference),) = inputs.pairs
    whole = compare(image.sources, reference, used)
    assert len(comparison.pairs.first) == len(whole.pairs.first) > 0


@given(
    x=st.lists(st.floats(0, 1000), min_size=1, max_size=8),
    shift=st.floats(-1.99, 1.99),
)
def test_in_pixels_nothing_is_left_out_either(x, shift):
    x = np.unique(np.round(np.array(x) / 10) * 10)  # far enough apart to tell them
    columns = {"x": x, "y": np.zeros(len(x))}
    truth = {
        "x": np.append(x + shift, [-500.0, 5000.0]),
        "y": np.append(np.zeros(len(x)), [0.0, 0.0]),
    }
    (comparison,), used = compare_all(pair_of(columns, truth), "", None, MatchParameters())
    assert (used.by, used.radius) == ("pixel", 2.0)
    assert len(comparison.pairs.first) == len(x)


def test_what_is_far_off_is_not_held_against_a_catalogue():
    found = {"ra": [10.0, 10.01], "dec": [60.0, 60.01], "snr": [9.0, 9.0]}
    truth = {"ra": [10.0, 10.01, 50.0, 10.0], "dec": [60.0, 60.01, 60.0, -60.0], "snr": [9.0] * 4}
    (comparison,), used = compare_all(pair_of(found, truth), "", None, MatchParameters())
    assert (used.by, used.radius) == ("sky", 0.25)
    assert len(comparison.pairs.first) == 2
    assert len(comparison.reference) == 2


def test_a_catalogue_of_nothing_is_judged_by_all():
    nothing = {"ra": np.array([]), "dec": np.array([])}
    truth = {"ra": [10.0], "dec": [60.0]}
    for found in (nothing, {"ra": [np.nan], "dec": [np.nan]}):
        (comparison,), _ = compare_all(pair_of(found, truth), "sky", None, MatchParameters())
        assert len(comparison.pairs.first) == 0
        assert len(comparison.reference) == 1


# -- reading ---------------------------------------------------------------------------------------

CATALOGUE = "rootname,x,y\nisim02a1q,1,1\nisim01a1q,2,2\nisim02a1q,3,3\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "cat.csv").write_text(CATALOGUE)
    (tmp_path / "isim01a1q_truth.ecsv").write_text("x,y\n2,2\n")
    return tmp_path


def test_a_file_of_several_images_is_told_apart_by_them(folder):
    inputs = read_inputs(str(folder / "cat.csv"), str(folder))
    ((image, truth),) = inputs.pairs
    assert (image.rootname, image.sources.x.tolist(), truth.x.tolist()) == ("isim01a1q", [2], [2])
    assert inputs.without_reference == ("isim02a1q",)
    (folder / "isim02a1q_truth.ecsv").write_text("x,y\n1,1\n")
    both = read_inputs(str(folder / "cat.csv"), str(folder))
    assert [image.rootname for image, _ in both.pairs] == ["isim01a1q", "isim02a1q"]
    assert both.pairs[1][0].sources.x.tolist() == [1, 3]


def test_one_image_can_be_asked_for(folder):
    (pair,) = read_inputs(str(folder / "cat.csv"), str(folder), image="isim01a1q").pairs
    assert pair[0].rootname == "isim01a1q"
    with pytest.raises(UsageError, match="has no source of an image 'isim03a1q'"):
        read_inputs(str(folder / "cat.csv"), str(folder), image="isim03a1q")


def test_a_file_without_names_is_named_like_its_image(folder):
    (folder / "isim01a1q_cat.csv").write_text("x,y\n2,2\n")
    ((image, _),) = read_inputs(str(folder / "isim01a1q_cat.csv"), str(folder)).pairs
    assert image.rootname == "isim01a1q"


def test_one_list_of_pixels_cannot_judge_several_images(folder):
    (folder / "list.csv").write_text("x,y\n2,2\n")
    with pytest.raises(UsageError, match="is of 2 images; say which of them it belongs to"):
        read_inputs(str(folder / "cat.csv"), str(folder / "list.csv"))
    # Named like one of them, it is that one's.
    (folder / "isim02a1q_list.csv").write_text("x,y\n1,1\n")
    (pair,) = read_inputs(str(folder / "cat.csv"), str(folder / "isim02a1q_list.csv")).pairs
    assert pair[0].rootname == "isim02a1q"


def test_a_folder_without_the_truth_is_told_with_what_was_looked_for(folder):
    (folder / "isim01a1q_truth.ecsv").unlink()
    said = r"\(isim01a1q, isim02a1q\): expected \{rootname\}_truth\.ecsv"
    with pytest.raises(UsageError, match=said):
        read_inputs(str(folder / "cat.csv"), str(folder))
