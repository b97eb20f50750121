from __future__ import annotations

import pytest
from astropy.io.votable.ucd import parse_ucd
from astropy.units import Unit
from astropy.units.format import FITS, VOUnit

from hstmap.wfc3.schema import (
    FLAGS,
    IMAGE_COLUMNS,
    OUTCOMES,
    SOURCE_COLUMNS,
    SUMMARY_COLUMNS,
    catalog_columns,
    source_columns_of_image,
)

EVERY_COLUMN = [
    pytest.param(column, id=f"{table}.{column.name}")
    for table, columns in (
        ("sources", (*SOURCE_COLUMNS, *SUMMARY_COLUMNS)),
        ("images", IMAGE_COLUMNS),
    )
    for column in columns
]


@pytest.mark.parametrize("column", EVERY_COLUMN)
def test_column_is_described_in_words_that_others_know(column):
    assert parse_ucd(column.ucd, check_controlled_vocabulary=True, has_colon=False)
    assert column.description[0].isupper() or column.description.split()[0].startswith("flux_")
    assert not column.description.endswith(".")
    unit = Unit(column.unit)
    # What FITS and VOTable cannot spell, their readers would lose.
    assert Unit(unit.to_string("fits"), format=FITS, parse_strict="raise") == unit
    assert Unit(unit.to_string("vounit"), format=VOUnit, parse_strict="raise") == unit


@pytest.mark.parametrize("columns", [SOURCE_COLUMNS, IMAGE_COLUMNS])
def test_names_are_unique_and_snake_case(columns):
    names = [column.name for column in columns]
    assert len(set(names)) == len(names)
    assert all(name == name.lower() and name.isidentifier() for name in names)


def test_sextractor_aliases_are_unique():
    aliases = [column.sextractor for column in SOURCE_COLUMNS if column.sextractor]
    assert len(set(aliases)) == len(aliases)
    assert {"X_IMAGE", "ALPHA_J2000", "MAG_AUTO", "FLUXERR_AUTO", "FLAGS"} <= set(aliases)


def test_every_flux_has_its_error():
    names = {column.name for column in SOURCE_COLUMNS}
    measured = {n for n in names if n.startswith(("flux_", "mag_")) and not n.endswith("_err")}
    assert measured
    assert {f"{name}_err" for name in measured} <= names


def test_an_images_catalog_leaves_out_what_its_header_says():
    of_image, in_catalog = set(source_columns_of_image()), set(catalog_columns())
    assert of_image | in_catalog == set(SOURCE_COLUMNS)
    assert not of_image & in_catalog
    assert all(column.dtype != "str" for column in in_catalog)


def test_flags_are_single_bits_and_outcomes_distinct():
    assert all(bit & (bit - 1) == 0 for bit in FLAGS)
    assert len(set(OUTCOMES)) == len(OUTCOMES)
