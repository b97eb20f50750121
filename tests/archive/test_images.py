"""Exposures become images, in the order of the sky."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.archive.images import IMAGE_NAMES, images_of, sky_order
from hstmap.archive.mast import EXPOSURE_SCHEMA

NOW_MJD = 60000.0


def exposures(*rows):
    unknown = dict.fromkeys(EXPOSURE_SCHEMA.names)
    return pa.Table.from_pylist([unknown | row for row in rows], EXPOSURE_SCHEMA)


MEMBERS = [
    {
        "rootname": f"ib6o23{k}q",
        "association": "ib6o23010",
        "filter": "F140W",
        "exposure_s": 200.0 + n,
        "start_mjd": 55000.0 - n,
        "ra": 10.0 + n,
        "dec": 5.0,
    }
    for n, k in enumerate(("rt", "ru", "rw"))
]
ALONE = {"rootname": "ib6o24aaq", "filter": "F125W", "exposure_s": 50.0, "start_mjd": 56000.0}


def test_every_exposure_has_its_flt():
    table = images_of(exposures(*MEMBERS, ALONE), "flt", NOW_MJD)
    assert table.column_names == list(IMAGE_NAMES)
    assert table["rootname"].to_pylist() == [m["rootname"] for m in [*MEMBERS, ALONE]]
    assert table["key"][3].as_py() == "hst/public/ib6o/ib6o24aaq/ib6o24aaq_flt.fits"
    assert set(table["product"].to_pylist()) == {"flt"}
    assert table["use"].to_pylist() == [""] * 4


def test_an_association_is_one_drz():
    table = images_of(exposures(*MEMBERS, ALONE), "drz", NOW_MJD)
    rows = {row["rootname"]: row for row in table.to_pylist()}
    assert set(rows) == {"ib6o23010", "ib6o24aaq"}
    assert rows["ib6o23010"]["key"] == "hst/public/ib6o/ib6o23010/ib6o23010_drz.fits"
    assert rows["ib6o23010"]["exposure_s"] == 603.0
    assert rows["ib6o23010"]["start_mjd"] == 54998.0
    assert rows["ib6o23010"]["ra"] == 10.0
    assert rows["ib6o24aaq"]["key"] == "hst/public/ib6o/ib6o24aaq/ib6o24aaq_drz.fits"


def test_a_drz_is_for_use_if_one_of_its_exposures_is():
    bad = [member | {"exposure_flag": "INTERRUPTED"} for member in MEMBERS]
    some = images_of(exposures(bad[0], MEMBERS[1]), "drz", NOW_MJD)
    none = images_of(exposures(*bad), "drz", NOW_MJD)
    assert some["use"].to_pylist() == [""]
    assert none["use"].to_pylist() == ["expflag"]


def test_an_association_that_the_archive_lists_itself_is_not_made_again():
    itself = {"rootname": "ib6o23010", "association": "ib6o23010", "exposure_s": 999.0}
    table = images_of(exposures(itself, *MEMBERS), "drz", NOW_MJD)
    assert table["rootname"].to_pylist() == ["ib6o23010"]
    assert table["exposure_s"].to_pylist() == [999.0]


def test_an_association_among_exposures_stays_with_its_reason():
    itself = {"rootname": "ib6o23010", "association": "ib6o23010"}
    table = images_of(exposures(itself, *MEMBERS), "flt", NOW_MJD)
    assert table["use"].to_pylist() == ["association", "", "", ""]


def test_release_dates_are_days():
    row = ALONE | {"release_mjd": 51544.99}
    table = images_of(exposures(row, MEMBERS[0]), "flt", NOW_MJD)
    assert table["release_date"].to_pylist() == ["2000-01-01", ""]


def test_neighbours_on_the_sky_are_neighbours_in_the_table():
    """Two fields whose exposures come in turns are put together."""
    fields = [(10.0, 60.0), (200.0, -30.0)]
    rows = [
        {"rootname": f"i{n:08d}", "ra": ra + 0.001 * n, "dec": dec}
        for n in range(10)
        for ra, dec in [fields[n % 2]]
    ]
    order = sky_order(exposures(*rows)).to_pylist()
    assert {row % 2 for row in order[:5]} in ({0}, {1})


def test_a_stretch_of_rows_is_a_patch_of_sky():
    """Batches of a whole-sky sample are far more compact than drawn at random."""
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(0, 360, 4000), np.degrees(np.arcsin(rng.uniform(-1, 1, 4000)))
    table = pa.table({"rootname": [f"i{n:08d}" for n in range(4000)], "ra": ra, "dec": dec})
    order = sky_order(table).to_numpy()
    x = np.stack(
        [
            np.cos(np.radians(dec)) * np.cos(np.radians(ra)),
            np.cos(np.radians(dec)) * np.sin(np.radians(ra)),
            np.sin(np.radians(dec)),
        ],
        axis=1,
    )[order].reshape(40, 100, 3)
    spread = np.degrees(np.linalg.norm(x - x.mean(axis=1, keepdims=True), axis=2)).mean()
    # A fortieth of the sky is a disc of 18 degrees radius; at random it would be 57 degrees.
    assert spread < 20


def test_rows_without_a_position_come_last_by_name():
    rows = [
        {"rootname": "ib", "ra": None, "dec": 1.0},
        {"rootname": "ic", "ra": 1.0, "dec": 1.0},
        {"rootname": "ia", "ra": None, "dec": None},
    ]
    assert sky_order(exposures(*rows)).to_pylist() == [1, 2, 0]


def test_without_positions_the_order_is_that_of_the_names():
    table = pa.table({"rootname": ["ic", "ia", "ib"]})
    assert sky_order(table).to_pylist() == [1, 2, 0]


@given(
    st.lists(
        st.tuples(
            st.none() | st.floats(0, 359.9),
            st.none() | st.floats(-90, 90),
        ),
        max_size=30,
    ),
    st.randoms(),
)
def test_the_order_is_a_permutation_that_does_not_depend_on_the_order_before(positions, random):
    rows = [
        {"rootname": f"i{n:08d}", "ra": ra, "dec": dec} for n, (ra, dec) in enumerate(positions)
    ]
    shuffled = list(rows)
    random.shuffle(shuffled)
    first, second = (
        [listed[k]["rootname"] for k in sky_order(exposures(*listed)).to_pylist()]
        for listed in (rows, shuffled)
    )
    assert first == second
    assert sorted(first) == [row["rootname"] for row in rows]


@pytest.mark.parametrize("product", ["flt", "ima", "drz"])
def test_no_exposure_is_lost(product):
    rows = [*MEMBERS, ALONE, ALONE | {"rootname": "ib6o24abq", "filter": "G141"}]
    table = images_of(exposures(*rows), product, NOW_MJD)
    total = 613.0 - 10.0 + 100.0
    assert sum(table["exposure_s"].to_pylist()) == total
