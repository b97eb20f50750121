"""What different readers see in one summary."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import votable
from astropy.table import QTable, Table
from hypothesis import given
from hypothesis import strategies as st
from mocpy import MOC

from hstmap import sky
from hstmap.cli import main
from hstmap.sky import coverage_moc, healpix_29
from hstmap.wfc3.schema import SOURCE_COLUMNS, SUMMARY_COLUMNS
from support.archive import write_archive

COLUMNS = (*SOURCE_COLUMNS, *SUMMARY_COLUMNS)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("summary")
    write_archive(folder / "images", 3)
    arguments = ["map", str(folder / "images"), "-o", str(folder / "out"), "--engine", "inprocess"]
    assert main([*arguments, "--quiet"]) == 0
    return folder / "out"


def test_every_reader_sees_units(out, recwarn):
    path = out / "sources.parquet"
    frame = pd.read_parquet(path)
    astropy_table = QTable.read(path)
    vo_table = Table.read(path, format="parquet.votable")
    arrow = pq.read_schema(path)
    for column in COLUMNS:
        assert frame.attrs["units"].get(column.name, "") == column.unit
        assert frame.attrs["descriptions"][column.name] == column.description
        for table in (astropy_table, vo_table):
            assert str(getattr(table[column.name], "unit", None) or "") == column.unit
            assert table[column.name].info.description == column.description
        assert vo_table[column.name].info.meta["ucd"] == column.ucd
        metadata = arrow.field(column.name).metadata
        assert metadata.get(b"unit", b"").decode() == column.unit
        assert metadata[b"ucd"].decode() == column.ucd
    assert not [str(w.message) for w in recwarn.list if "astropy" in str(w.filename)]


def test_the_votable_in_it_is_one_without_data(out):
    content = pq.read_metadata(out / "sources.parquet").metadata[b"IVOA.VOTable-Parquet.content"]
    document = votable.parse(io.BytesIO(content))
    names = [field.name for field in document.get_first_table().fields]
    assert names == [column.name for column in COLUMNS]
    tags = {element.tag.rpartition("}")[2] for element in ET.fromstring(content).iter()}
    assert "PARQUET" in tags
    assert not tags & {"DATA", "TABLEDATA"}


def test_the_healpix_index_is_that_of_the_position(out):
    frame = pd.read_parquet(out / "sources.parquet")
    from cdshealpix.nested import healpix_to_skycoord

    there = healpix_to_skycoord(frame["_healpix_29"].to_numpy().astype(np.uint64), 29)
    here = SkyCoord(frame["ra"], frame["dec"], unit="deg")
    assert here.separation(there).to_value("mas").max() < 1


@given(
    ra=st.lists(st.floats(0, 360, exclude_max=True) | st.just(float("nan")), max_size=20),
    dec=st.floats(-90, 90),
)
def test_coarser_indices_are_shifts_of_it(ra, dec):
    index = healpix_29(np.array(ra, dtype=float), np.full(len(ra), dec))
    known = np.isfinite(np.array(ra, dtype=float))
    assert (index[~known] == -1).all()
    assert ((index[known] >= 0) & (index[known] < 12 * 4**29)).all()


def test_the_coverage_holds_the_sources(out):
    frame = pd.read_parquet(out / "sources.parquet")
    images = pd.read_parquet(out / "images.parquet")
    moc = MOC.from_fits(out / "coverage.moc.fits")
    inside = moc.contains_skycoords(SkyCoord(frame["ra"], frame["dec"], unit="deg"))
    assert inside.mean() > 0.98  # a cell of the edge may lie outside an image's outline
    area = (images["nx"] * images["ny"] * images["pixel_scale"] ** 2).max()
    covered = moc.sky_fraction * 4 * np.pi * np.degrees(1) ** 2 * 3600**2
    assert area * 0.9 < covered < area * len(images) * 3
    assert moc.contains_skycoords(SkyCoord(images["ra"], images["dec"], unit="deg")).all()


def test_no_footprint_no_coverage():
    assert coverage_moc([]) is None


def test_the_coverage_does_not_depend_on_how_many_are_done_at_a_time(monkeypatch):
    footprints = [
        f"POLYGON ICRS {ra} 10.0 {ra} 10.03 {ra + 0.03} 10.03 {ra + 0.03} 10.0"
        for ra in (20.0, 20.01, 50.0, 50.02, 80.0)
    ]
    at_once = coverage_moc(footprints)
    monkeypatch.setattr(sky, "_POLYGONS_A_TIME", 2)
    assert coverage_moc(footprints) == at_once
    assert coverage_moc(footprints[:3]) != at_once


def test_a_footprint_is_the_outline_of_the_image(out):
    row = pd.read_parquet(out / "images.parquet").iloc[0]
    corners = np.array(row["footprint"].removeprefix("POLYGON ICRS ").split(), dtype=float)
    corners = SkyCoord(corners[0::2], corners[1::2], unit="deg")
    assert len(corners) == 4
    centre = SkyCoord(row["ra"], row["dec"], unit="deg")
    half = row["nx"] * row["pixel_scale"] / np.sqrt(2)
    assert corners.separation(centre).arcsec == pytest.approx([half] * 4, rel=0.1)
