"""What is written in each format is what its readers find."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.io import fits, votable
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hstmap.errors import UsageError
from hstmap.report.export import (
    FORMATS,
    TEXT_FORMATS,
    ExportTable,
    choose_columns,
    choose_format,
    to_bytes,
)
from hstmap.report.sextractor import SEXTRACTOR_FLAGS, as_sextractor
from hstmap.wfc3.schema import FLAGS, IMAGE_COLUMNS, SOURCE_COLUMNS, SUMMARY_COLUMNS

COLUMNS = (*SOURCE_COLUMNS, *SUMMARY_COLUMNS)
TABLES = [kind for kind in FORMATS if kind != "reg"]
ORIGIN = {"ORIGIN": "hstmap 1.2.3", "RUN": "/somewhere/" + "long/" * 20 + "out"}


def made_up(columns, n, seed=0):
    """Numbers of every size that their types hold, NaN among them, and awkward texts."""
    rng = np.random.default_rng(seed)
    texts = np.array(["", "a,b", 'say "so"', "<&>", "it's", "two words", "F160W"], dtype=object)
    values = {}
    for column in columns:
        if column.dtype == "str":
            values[column.name] = rng.choice(texts, n)
        elif column.dtype[0] == "i":
            limits = np.iinfo(column.dtype)
            values[column.name] = rng.integers(limits.min + 1, limits.max, n, dtype=column.dtype)
        else:
            signed = np.iinfo(f"i{column.dtype[1]}")
            bits = rng.integers(signed.min, signed.max, n, dtype=signed.dtype)
            numbers = bits.view(column.dtype)
            values[column.name] = np.where(np.isfinite(numbers), numbers, np.nan)
    return values


def table_of(columns, n=40, name="SOURCES"):
    return ExportTable(name, tuple(columns), made_up(columns, n), ORIGIN)


def read_back(content, kind):
    """Read with what an astronomer would use."""
    name = {"ecsv": "ascii.ecsv"}.get(kind, kind)
    return Table.read(io.BytesIO(content), format=name)


def plain(column, dtype):
    """Give an array as numpy has it, NaN for what is missing."""
    if np.any(getattr(column, "mask", False)):
        column = column.filled("" if dtype == "str" else np.nan)
    values = np.asarray(column)
    if values.dtype.kind == "S":
        values = np.char.decode(values)
    return values.astype(object) if dtype == "str" else values


@pytest.mark.parametrize("kind", [kind for kind in TABLES if kind != "csv"])
@pytest.mark.parametrize("columns", [COLUMNS, IMAGE_COLUMNS])
def test_numbers_and_texts_come_back_exactly(kind, columns):
    table = table_of(columns)
    back = read_back(to_bytes(table, kind), kind)
    assert back.colnames == [column.name for column in columns]
    for column in columns:
        found = plain(back[column.name], column.dtype)
        np.testing.assert_array_equal(found, table.values[column.name], err_msg=column.name)
        if column.dtype != "str":
            assert found.dtype.newbyteorder("=") == np.dtype(column.dtype)


@pytest.mark.parametrize("columns", [COLUMNS, IMAGE_COLUMNS])
def test_numbers_and_texts_come_back_from_csv(columns):
    table = table_of(columns)
    content = to_bytes(table, "csv")
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    frame = pd.read_csv(io.BytesIO(content))
    for column in columns:
        expected = table.values[column.name]
        found = [row[column.name] for row in rows]
        if column.dtype == "str":
            assert found == expected.tolist()
            continue
        if column.dtype[0] == "f":
            np.testing.assert_allclose(frame[column.name], expected, rtol=1e-6)
            found = [text or "nan" for text in found]
        np.testing.assert_array_equal(np.array(found).astype(column.dtype), expected)
    # A number without a value is an empty cell, for readers that know no NaN.
    assert "nan" not in content.decode().lower()


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("columns", [COLUMNS, IMAGE_COLUMNS])
def test_a_table_without_rows_has_its_columns(kind, columns):
    table = table_of(columns, n=0)
    content = to_bytes(table, kind)
    if kind == "csv":
        assert content.decode() == ",".join(column.name for column in columns) + "\n"
        return
    back = read_back(content, kind)
    assert len(back) == 0
    for column in columns:
        if column.dtype != "str":
            assert back[column.name].dtype.newbyteorder("=") == np.dtype(column.dtype)
        assert u.Unit(back[column.name].unit or "") == u.Unit(column.unit)


@pytest.mark.parametrize("kind", [kind for kind in TABLES if kind != "csv"])
@pytest.mark.parametrize("columns", [COLUMNS, IMAGE_COLUMNS])
def test_units_go_with_the_columns(kind, columns):
    back = read_back(to_bytes(table_of(columns), kind), kind)
    for column in columns:
        assert u.Unit(back[column.name].unit or "") == u.Unit(column.unit)


def test_descriptions_and_ucds_go_with_the_columns():
    table = table_of(COLUMNS)
    fields = votable.parse_single_table(io.BytesIO(to_bytes(table, "votable"))).fields
    ecsv = read_back(to_bytes(table, "ecsv"), "ecsv")
    arrow = pq.read_schema(io.BytesIO(to_bytes(table, "parquet")))
    header = fits.getheader(io.BytesIO(to_bytes(table, "fits")), "SOURCES")
    for i, column in enumerate(COLUMNS):
        assert (fields[i].name, fields[i].ucd) == (column.name, column.ucd)
        assert fields[i].description == column.description
        assert ecsv[column.name].description == column.description
        assert ecsv[column.name].meta["ucd"] == column.ucd
        assert header[f"TUCD{i + 1}"] == column.ucd
        assert header[f"TCOMM{i + 1}"] == column.description
        known = arrow.field(column.name).metadata
        assert known[b"ucd"].decode() == column.ucd
        assert known[b"description"].decode() == column.description
    assert header.get("TSEX6") == "XWIN_IMAGE"


@pytest.mark.parametrize("columns", [COLUMNS, IMAGE_COLUMNS])
def test_the_votable_is_valid(columns, tmp_path):
    path = tmp_path / "a.vot"
    path.write_bytes(to_bytes(table_of(columns), "votable"))
    report = io.StringIO()
    assert votable.validate(path, output=report), report.getvalue()


def test_files_say_where_they_come_from():
    table = table_of(COLUMNS[:3])
    document = votable.parse(io.BytesIO(to_bytes(table, "votable")))
    infos = {info.name: info.value for info in document.resources[0].infos}
    header = fits.getheader(io.BytesIO(to_bytes(table, "fits")))
    meta = read_back(to_bytes(table, "ecsv"), "ecsv").meta
    for name, value in ORIGIN.items():
        assert infos[name] == meta[name] == header[name] == value
    assert document.get_first_table().name == "SOURCES"


NUMBERS = [column for column in COLUMNS if column.dtype == "f4"][:1]
TEXTS = [column for column in COLUMNS if column.name in ("rootname", "number")][::-1]
#: What XML, and one line, can hold.
PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=20)


@settings(max_examples=50)
@given(arrays(np.float32, st.integers(0, 5), elements=st.floats(width=32)))
@pytest.mark.parametrize("kind", ["votable", "ecsv", "fits", "parquet"])
def test_any_number_comes_back(kind, numbers):
    table = ExportTable("T", tuple(NUMBERS), {NUMBERS[0].name: numbers})
    back = read_back(to_bytes(table, kind), kind)
    np.testing.assert_array_equal(plain(back[NUMBERS[0].name], "f4"), numbers)


@settings(max_examples=50)
@given(st.lists(PRINTABLE, max_size=4))
@pytest.mark.parametrize("kind", ["votable", "ecsv", "fits", "parquet"])
def test_any_text_comes_back(kind, texts):
    values = {
        "number": np.arange(len(texts), dtype="i4"), "rootname": np.array(texts, dtype=object)
    }  # fmt: skip
    back = read_back(to_bytes(ExportTable("T", tuple(TEXTS), values), kind), kind)
    if kind == "fits":  # has the letters of ASCII only
        texts = [text.encode("ascii", "backslashreplace").decode() for text in texts]
    assert plain(back["rootname"], "str").tolist() == texts


@settings(max_examples=60)
@given(st.lists(st.text(st.characters(exclude_characters="\r"), max_size=20), max_size=4))
def test_a_votable_can_be_read_whatever_a_damaged_file_said(texts):
    values = {
        "number": np.arange(len(texts), dtype="i4"), "rootname": np.array(texts, dtype=object)
    }  # fmt: skip
    content = to_bytes(ExportTable("T", tuple(TEXTS), values), "votable")
    found = plain(read_back(content, "votable")["rootname"], "str").tolist()
    for text, back in zip(texts, found, strict=True):
        # XML 1.0, 2.2: what it can hold comes back; the rest is there to be seen.
        held = [c for c in text if c in "\t\n" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd"
                or c >= "\U00010000"]  # fmt: skip
        if len(held) == len(text):
            assert back.strip() == text.strip()
        else:
            assert "\\" in back
            assert all(c in back for c in held if not c.isspace())


# ---- Which format, which columns


@pytest.mark.parametrize(
    ("file", "given_format", "expected"),
    [
        ("a.vot", None, "votable"),
        ("s3://bucket/a.XML", None, "votable"),
        ("a.b.ecsv", None, "ecsv"),
        ("a.csv", None, "csv"),
        ("a.csv", "fits", "fits"),
        ("a.fits", None, "fits"),
        ("a.parquet", None, "parquet"),
        ("a.reg", None, "reg"),
        ("noending", "reg", "reg"),
        ("-", "csv", "csv"),
    ],
)
def test_the_ending_says_the_format(file, given_format, expected):
    assert choose_format(file, given_format) == expected


@pytest.mark.parametrize(
    ("file", "given_format", "said"),
    [
        ("a.txt", None, r"a\.txt does not say its format: .*\.vot, \.xml, \.ecsv"),
        ("csv", None, "csv does not say its format"),
        ("-", None, "give --format votable, ecsv, csv, reg"),
        ("-", "fits", "fits is no text"),
        ("-", "parquet", "parquet is no text"),
    ],
)
def test_a_file_of_no_format_is_refused(file, given_format, said):
    with pytest.raises(UsageError, match=said):
        choose_format(file, given_format)


def test_columns_are_chosen_in_the_order_of_their_names():
    assert choose_columns(COLUMNS, None) == SOURCE_COLUMNS
    chosen = choose_columns(COLUMNS, "dec, ra,X_IMAGE,_healpix_29")
    assert [column.name for column in chosen] == ["dec", "ra", "x_barycentre", "_healpix_29"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("ra,flux_auot", "no column 'flux_auot'; there is flux_auto, "),
        ("RA,DEC", "no column 'RA'; there is ra"),
        ("ra,,dec", "no column ''"),
        ("x,ra,XWIN_IMAGE", "'x' twice"),
    ],
)
def test_columns_that_cannot_be_had_are_refused(names, said):
    with pytest.raises(UsageError, match=said):
        choose_columns(COLUMNS, names)


# ---- SExtractor's names


def test_names_become_sextractors():
    table = table_of(COLUMNS)
    renamed = as_sextractor(table, 2.5)
    for before, after in zip(table.columns, renamed.columns, strict=True):
        assert after.name == (before.sextractor or before.name)
        assert (after.ucd, after.unit, after.dtype) == (before.ucd, before.unit, before.dtype)
        assert renamed.values[after.name].dtype == table.values[before.name].dtype
    for kind in TABLES:
        assert b"X_IMAGE" in to_bytes(renamed, kind)


def test_pixels_are_counted_from_one():
    values = made_up(SOURCE_COLUMNS, 5)
    values |= {name: np.array([0, 1, 2, 500, 1013], "i2") for name in ("x_min", "y_max")}
    renamed = as_sextractor(ExportTable("SOURCES", SOURCE_COLUMNS, values), 2.5)
    moved = {
        column.sextractor or column.name
        for column in SOURCE_COLUMNS
        if column.dtype != "str"
        and not np.array_equal(
            renamed.values[column.sextractor or column.name], values[column.name], equal_nan=True
        )
    }
    pixels = {
        "X_IMAGE", "Y_IMAGE", "XWIN_IMAGE", "YWIN_IMAGE",
        "XMIN_IMAGE", "XMAX_IMAGE", "YMIN_IMAGE", "YMAX_IMAGE",
    }  # fmt: skip
    assert moved == pixels | {"KRON_RADIUS", "FLAGS"}
    np.testing.assert_array_equal(renamed.values["X_IMAGE"], values["x_barycentre"] + 1)
    assert renamed.values["XMIN_IMAGE"].tolist() == [1, 2, 3, 501, 1014]
    for column in renamed.columns:
        if column.name in pixels:
            assert "first pixel is 1" in column.description


def test_the_kron_radius_is_that_of_the_aperture():
    values = made_up(SOURCE_COLUMNS, 3) | {"kron_radius": np.array([0, 1.5, 4], "f4")}
    renamed = as_sextractor(ExportTable("SOURCES", SOURCE_COLUMNS, values), 2.0)
    assert renamed.values["KRON_RADIUS"].tolist() == [0, 3, 8]


def test_flags_are_sextractors():
    assert set(SEXTRACTOR_FLAGS) == set(FLAGS)
    ours = np.array([0, 1, 2, 512, 32 | 1, sum(FLAGS)], "i2")
    values = made_up(SOURCE_COLUMNS, len(ours)) | {"flags": ours}
    renamed = as_sextractor(ExportTable("SOURCES", SOURCE_COLUMNS, values), 2.5)
    assert renamed.values["FLAGS"].tolist() == [0, 2, 8, 4, 3, 1 | 2 | 4 | 8 | 16 | 64]
    # A usual cut, FLAGS < 4, lets what is blended or has a bad pixel through, and nothing else.
    clean = {bit for bit, theirs in SEXTRACTOR_FLAGS.items() if theirs < 4}
    assert {re.split(r"[: ]", FLAGS[bit])[0] for bit in clean} == {"blended", "singular", "the"}
    assert clean == {1, 8, 32}


def test_every_text_format_is_one():
    for kind in TEXT_FORMATS:
        if kind != "reg":
            to_bytes(table_of(COLUMNS), kind).decode()
