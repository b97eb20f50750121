"""The rows that are read are those that are asked for, and little else is read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hstmap import merge, summary
from hstmap.errors import UsageError
from hstmap.report.cone import Cone
from hstmap.report.results import RunResults
from hstmap.report.selection import images, sources_of_images, sources_of_summary
from hstmap.storage import open_store
from hstmap.wfc3.schema import IMAGE_COLUMNS, SOURCE_COLUMNS, SUMMARY_COLUMNS
from support.runs import PLACES, REJECTED, WITHOUT_WCS, write_run

NAMES = [column.name for column in (*SOURCE_COLUMNS, *SUMMARY_COLUMNS)]
#: So that there are many row groups.
ROWS = 7
IMAGE_NAMES = [column.name for column in IMAGE_COLUMNS]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A run, reduced into row groups of a few sources."""
    folder = write_run(tmp_path_factory.mktemp("selection"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merge, "_ROWS_A_GROUP", ROWS)
        summary.reduce_run(str(folder))
    return folder


@pytest.fixture(scope="module")
def sources(out):
    return pd.read_parquet(out / "sources.parquet")


@pytest.fixture(scope="module")
def sky(sources):
    """Where sources are, as far as they are anywhere."""
    known = np.isfinite(sources["ra"]) & np.isfinite(sources["dec"])
    assert 0 < known.sum() < len(sources)
    return known.to_numpy(), SkyCoord(sources["ra"][known], sources["dec"][known], unit="deg")


def assert_same(values, frame):
    assert list(values) == list(frame)
    for name in frame:
        expected = frame[name].to_numpy()
        np.testing.assert_array_equal(values[name], expected, err_msg=name)
        if expected.dtype != object:
            assert values[name].dtype == expected.dtype


@settings(max_examples=40)
@given(
    place=st.sampled_from([*PLACES.values(), (0.0, 90.0), (180.0, -90.0), (300.0, 10.0)]),
    towards=st.tuples(st.floats(0, 360), st.floats(0, 15)),
    radius=st.floats(-1, 5.8).map(lambda power: 10**power),
)
def test_sources_of_a_cone_are_those_that_astropy_finds_near(
    out, sources, sky, place, towards, radius
):
    axis = SkyCoord(*place, unit="deg").directional_offset_by(
        towards[0] * u.deg, towards[1] * u.arcsec
    )
    known, positions = sky
    distance = axis.separation(positions).arcsec
    assume((np.abs(distance - radius) > 1e-6).all())
    expected = sources[known][distance < radius]
    cone = Cone(axis.ra.deg, axis.dec.deg, radius)
    assert_same(sources_of_summary(open_store(str(out)), NAMES, cone), expected[NAMES])


def test_cones_over_the_pole_and_across_0_h_find_both_sides(out, sources):
    store = open_store(str(out))
    pole = sources_of_summary(store, ["rootname", "ra", "dec"], Cone(0.0, 90.0, 6.0))
    assert set(pole["rootname"]) == {"isim03a1q"}
    assert np.ptp(pole["ra"]) > 180
    zero = sources_of_summary(store, ["rootname", "ra"], Cone(0.0, 12.0, 10.0))
    assert set(zero["rootname"]) == {"isim02a1q"}
    assert zero["ra"].min() < 1
    assert zero["ra"].max() > 359


def test_all_sources_are_all_sources(out, sources):
    assert_same(sources_of_summary(open_store(str(out)), NAMES), sources[NAMES])


@pytest.fixture
def reads(monkeypatch):
    """Row groups that are read, with their columns."""
    done = []
    real = pq.ParquetFile.read_row_group

    def read_row_group(file, group, columns):
        done.append((group, columns))
        return real(file, group, columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", read_row_group)
    return done


def test_only_row_groups_of_images_near_are_read(out, sources, reads):
    assert pq.read_metadata(out / "sources.parquet").num_row_groups == -(-len(sources) // ROWS)
    near = sources_of_summary(open_store(str(out)), ["number"], Cone(*PLACES["isim02a1q"], 3.0))
    assert len(near["number"]) > 0
    rows = np.flatnonzero(sources["rootname"] == "isim02a1q")
    assert {group for group, _ in reads} == set(rows // ROWS)


def test_columns_are_read_where_a_source_is_near_only(out, sources, reads):
    row = int(np.flatnonzero(sources["rootname"] == "isim03a1q")[0])
    place = sources.loc[row, ["ra", "dec"]]
    one = sources_of_summary(open_store(str(out)), ["number", "snr"], Cone(*place, 0.01))
    assert one["number"].tolist() == [sources.loc[row, "number"]]
    assert [each for each in reads if each[1] != ["ra", "dec"]] == [
        (row // ROWS, ["number", "snr"])
    ]


def test_a_cone_of_no_image_reads_no_sources(out, reads):
    nothing = sources_of_summary(open_store(str(out)), NAMES, Cone(150.0, 2.0, 600.0))
    assert reads == []
    assert {name: len(values) for name, values in nothing.items()} == dict.fromkeys(NAMES, 0)


@pytest.mark.parametrize("chosen", [["isim02a1q"], [WITHOUT_WCS, "isim01a1q", "isim04a1q"]])
def test_sources_of_images_come_from_parts_as_from_the_summary(out, sources, chosen):
    expected = pd.concat([sources[sources["rootname"] == name] for name in chosen])
    results = RunResults(str(out))
    assert_same(sources_of_images(results, chosen, NAMES), expected[NAMES])
    few = ["_healpix_29", "flux_auto"]
    assert_same(sources_of_images(results, chosen, few), expected[few])


def test_the_pixel_scale_of_its_image_is_given_with_a_source(out):
    rows = pd.read_parquet(out / "images.parquet").set_index("rootname")
    names = ["rootname", "pixel_scale"]
    of_parts = sources_of_images(RunResults(str(out)), ["isim01a1q", WITHOUT_WCS], names)
    for values in (of_parts, sources_of_summary(open_store(str(out)), names)):
        expected = rows.loc[values["rootname"], "pixel_scale"]
        np.testing.assert_array_equal(values["pixel_scale"], expected)
        assert np.isnan(expected[WITHOUT_WCS]).all()


def test_a_summary_of_two_reduces_is_noticed(out, tmp_path):
    store = open_store(str(tmp_path))
    for key in ("sources.parquet", "images.parquet"):
        store.put(key, (out / key).read_bytes())
    table = pq.read_table(out / "sources.parquet")
    pq.write_table(table.slice(1), tmp_path / "sources.parquet")
    with pytest.raises(UsageError, match="two runs of `hstmap reduce`; run"):
        sources_of_summary(store, ["ra"])


@pytest.mark.parametrize("which", [None, ["isim04a1q", REJECTED, "isim01a1q"], Cone(0, 90, 60)])
def test_rows_of_images(out, which):
    rows = pd.read_parquet(out / "images.parquet")
    values = images(open_store(str(out)), IMAGE_NAMES, which)
    if isinstance(which, list):
        rows = rows.set_index("rootname").loc[which].reset_index()
    elif which is not None:
        rows = rows[rows["rootname"] == "isim03a1q"]
    assert_same(values, rows[IMAGE_NAMES])


def test_images_that_are_not_there_are_refused(out):
    with pytest.raises(UsageError, match="no image 'isim1a1q'; it has isim01a1q"):
        images(open_store(str(out)), IMAGE_NAMES, ["isim1a1q"])
