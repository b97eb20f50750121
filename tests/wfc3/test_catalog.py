from __future__ import annotations

import io
import json
import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from hstmap.wfc3 import catalog
from hstmap.wfc3.catalog import (
    concatenate,
    fits_catalog,
    fits_primary,
    parquet_part,
)
from hstmap.wfc3.measure import empty_sources
from hstmap.wfc3.schema import IMAGES_KEY, SOURCE_COLUMNS, catalog_columns


def random_sources(n, seed=0, rootname="itest01aq"):
    rng = np.random.default_rng(seed)
    sources = {}
    for column in SOURCE_COLUMNS:
        if column.dtype == "str":
            sources[column.name] = np.full(n, rootname)
        elif column.dtype.startswith("i"):
            sources[column.name] = rng.integers(-100, 32_000, n).astype(column.dtype)
        else:
            sources[column.name] = rng.normal(0, 1e3, n).astype(column.dtype)
            sources[column.name][: n // 4] = np.nan
    return sources


@settings(max_examples=25, deadline=None)
@given(n=st.integers(0, 200), seed=st.integers(0, 1000))
def test_what_is_written_is_read_back(n, seed):
    sources = random_sources(n, seed)
    content = fits_catalog(sources, [("ROOTNAME", "itest01aq", "rootname")])
    with fits.open(io.BytesIO(content), checksum=True) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SOURCES"]
        table = Table.read(hdus["SOURCES"])
    part = pq.read_table(io.BytesIO(parquet_part(sources, [])))
    assert len(content) % 2880 == 0
    for column in catalog_columns():
        np.testing.assert_array_equal(table[column.name], sources[column.name])
        assert table[column.name].dtype.newbyteorder("=") == column.dtype
    for column in SOURCE_COLUMNS:
        np.testing.assert_array_equal(part[column.name].to_numpy(), sources[column.name])


@pytest.mark.parametrize(
    "value", ["s3://" + "long/" * 60 + "é".encode("ascii", "replace").decode(), "it's", "a&b", ""]
)
def test_awkward_texts_survive_in_the_header(value):
    content = fits_catalog(empty_sources(), [("INPUT", value, "")])
    assert fits.getheader(io.BytesIO(content))["INPUT"] == value


PRIMARY_CARDS = [
    ("SIMPLE", True, "conforms to FITS standard"),
    ("BITPIX", 8),
    ("NAXIS", 0),
    ("EXTEND", True),
]
KEYWORDS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", min_size=1, max_size=8)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(10**19), 10**19),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-100, 100).map(lambda value: round(value, 4)),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=90),
)


@settings(deadline=None)
@given(KEYWORDS, VALUES, st.text("a long comment's / [unit]", max_size=40))
def test_cards_are_astropys_to_the_byte(keyword, value, comment):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = fits.Header([*PRIMARY_CARDS, (keyword, value, comment)])
        assert fits_primary([(keyword, value, comment)]) == header.tostring().encode("ascii")


@pytest.mark.parametrize("values", [(0.0, -0.0), (True, 1, 1.0), ("1", 1), (1e20, 10**20)])
def test_values_that_are_equal_are_not_the_same_card(values):
    """What is formatted once must not be taken for another value that compares equal."""
    read = [
        fits.Header.fromstring(fits_primary([("VALUE", value, "")]))["VALUE"] for value in values
    ]
    assert [repr(value) for value in read] == [repr(value) for value in values]


def test_cards_of_a_catalogue_need_no_astropy(monkeypatch):
    """What differs from image to image is formatted without it, which takes ten times as long."""
    monkeypatch.setattr(catalog, "_astropy_card", None)
    header = fits.Header.fromstring(
        fits_primary(
            [("ETAG", '"5d1-2f"', "the store's tag"), ("ERRSCALE", 1.01, "image's errors")]
        )
    )
    assert header["ETAG"] == '"5d1-2f"'
    assert (header["ERRSCALE"], header.comments["ERRSCALE"]) == (1.01, "image's errors")


def test_a_part_holds_its_images_too():
    rows = [{"rootname": "é", "n_sources": 3, "ra": None}, {"rootname": "b", "ra": 1.5}]
    part = parquet_part(random_sources(3), rows)
    metadata = pq.read_metadata(io.BytesIO(part)).metadata
    assert json.loads(metadata[IMAGES_KEY.encode()]) == rows


def test_a_part_is_read_as_it_was_written():
    sources = random_sources(400)
    part = parquet_part(sources, [])
    read = pq.read_table(io.BytesIO(part)).to_pydict()
    assert list(read) == [column.name for column in SOURCE_COLUMNS]
    for name, values in sources.items():
        np.testing.assert_array_equal(np.array(read[name], dtype=values.dtype), values)


def test_whole_numbers_of_a_part_take_little_room():
    n = 2000
    sources = random_sources(n)
    sources["flags"] = np.zeros(n, dtype=np.int16)
    row_group = pq.read_metadata(io.BytesIO(parquet_part(sources, []))).row_group(0)
    columns = {row_group.column(i).path_in_schema: row_group.column(i) for i in range(len(sources))}
    assert columns["flags"].total_compressed_size < 100
    assert columns["rootname"].total_compressed_size < 100


def test_the_same_sources_give_the_same_bytes():
    assert parquet_part(random_sources(50), []) == parquet_part(random_sources(50), [])
    assert fits_catalog(random_sources(50), []) == fits_catalog(random_sources(50), [])


@given(counts=st.lists(st.integers(0, 5), max_size=4))
def test_tables_are_put_one_after_another(counts):
    tables = [random_sources(n, i, f"i{i}") for i, n in enumerate(counts)]
    together = concatenate(tables)
    assert list(together["rootname"]) == [f"i{i}" for i, n in enumerate(counts) for _ in range(n)]
    assert {name: values.dtype.kind for name, values in together.items()} == {
        column.name: "U" if column.dtype == "str" else column.dtype[0] for column in SOURCE_COLUMNS
    }
