"""Why exposures are not for use."""

from __future__ import annotations

import pyarrow as pa
import pytest

from hstmap.archive.mast import EXPOSURE_SCHEMA
from hstmap.archive.use import REASONS, reasons

GOOD = {
    "rootname": "ib6o23rtq",
    "association": "ib6o23010",
    "filter": "F140W",
    "target": "GOODS-S",
    "ra": 53.1,
    "dec": -27.8,
    "footprint": None,
    "exposure_s": 202.9,
    "start_mjd": 55000.0,
    "program_id": 11359,
    "aperture": "IR",
    "intent": "science",
    "obs_type": "IMAGE",
    "exposure_flag": "NORMAL",
    "moving_target": False,
    "scan": None,
    "guiding": "FINE",
    "release_mjd": 55365.0,
    "generated_mjd": 58000.0,
}


def reason(product="flt", **changes):
    table = pa.Table.from_pylist([GOOD | changes], EXPOSURE_SCHEMA)
    return reasons(table, product, now_mjd=60000.0).to_pylist()[0]


def test_a_good_exposure_has_no_reason_against_it():
    assert reason() is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"filter": "G141"}, "grism"),
        ({"filter": "G102", "obs_type": "SPECTRUM"}, "grism"),
        ({"obs_type": "SPECTRUM"}, "spectroscopic"),
        ({"intent": "calibration"}, "calibration"),
        ({"filter": "BLANK"}, "calibration"),
        ({"target": "DARK"}, "calibration"),
        ({"target": "EARTH-CALIB"}, "calibration"),
        ({"target": "TUNGSTEN"}, "calibration"),
        ({"scan": "C"}, "spatial_scan"),
        ({"scan": "D"}, "spatial_scan"),
        ({"moving_target": True}, "moving_target"),
        ({"exposure_flag": "INTERRUPTED"}, "expflag"),
        ({"exposure_s": 0.0}, "no_exposure"),
        ({"release_mjd": 60001.0}, "proprietary"),
        ({"rootname": "ib6o23010"}, "association"),
    ],
)
def test_each_reason(changes, expected):
    assert reason(**changes) == expected
    assert expected in REASONS


def test_an_association_is_what_is_drizzled():
    assert reason("drz", rootname="ib6o23010") is None


def test_several_reasons_give_the_first_of_the_list():
    found = reason(filter="G141", intent="calibration", moving_target=True)
    assert found == next(name for name in REASONS if name in ("grism", "calibration"))


@pytest.mark.parametrize(
    "column",
    [
        "filter",
        "target",
        "exposure_s",
        "intent",
        "obs_type",
        "exposure_flag",
        "moving_target",
        "release_mjd",
    ],
)
def test_what_is_not_known_is_no_reason(column):
    assert reason(**{column: None}) is None


def test_a_target_that_merely_contains_a_word_is_kept():
    assert reason(target="ANY-DARK-CLOUD") is None
