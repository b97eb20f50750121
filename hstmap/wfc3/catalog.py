"""Catalogues as bytes: a FITS binary table for one image, a Parquet part for one batch.

Both are made by workers, so that neither pandas nor pyarrow is imported here. astropy formats
the header of a table once; what differs from image to image is the number of rows and the
cards that say what the image is, which keeps the writing of a catalogue at a few milliseconds.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from astropy.io import fits
from astropy.units import Unit

from hstmap.wfc3.measure import Sources, empty_sources
from hstmap.wfc3.schema import (
    IMAGES_KEY,
    SOURCE_COLUMNS,
    catalog_columns,
    source_columns_of_image,
)

__all__ = [
    "TABLE_NAME",
    "Card",
    "concatenate",
    "fits_catalog",
    "fits_extension",
    "fits_primary",
    "parquet_part",
]

#: Keyword, value and comment of a card of a FITS header.
Card = tuple[str, str | int | float | bool, str]

#: EXTNAME of the table in the file of one image.
TABLE_NAME: Final = "SOURCES"

_BLOCK: Final = 2880
_CARD: Final = 80
#: Texts, comments and numbers that astropy writes as they are.
_PLAIN_TEXT: Final = re.compile(r"[ -%(-~]*")
_PLAIN_COMMENT: Final = re.compile(r"[ -%'-~]*")
_PLAIN_NUMBER: Final = re.compile(r"-?\d{1,17}(\.\d{1,17})?")
#: Parts are read once, and the summary is compressed as a whole: whole numbers shrink to a third,
#: measured ones by a tenth, which takes longer than all else of a part.
_COMPRESSED: Final[dict[str | Sequence[str], str]] = {
    column.name: "zstd(1)" for column in SOURCE_COLUMNS if column.dtype in ("i2", "i4", "i8")
}
_FITS_FORMATS: Final = {"f4": "E", "f8": "D", "i2": "I", "i4": "J", "i8": "K"}


@lru_cache(maxsize=1)
def _table_header() -> tuple[bytes, np.dtype[Any]]:
    """Format the header of a catalogue's table, once.

    Returns
    -------
    header : bytes
        The cards of a table without rows, END not among them.
    dtype : numpy.dtype
        Of one row, big-endian as FITS wants it.
    """
    columns = catalog_columns()
    dtype = np.dtype([(column.name, f">{column.dtype}") for column in columns])
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column(column.name, _FITS_FORMATS[column.dtype], unit=_fits_unit(column.unit))
            for column in columns
        ],
        name=TABLE_NAME,
    )
    for i, column in enumerate(columns, start=1):
        table.header[f"TUCD{i}"] = column.ucd
        table.header[f"TCOMM{i}"] = column.description
        if column.sextractor:
            table.header[f"TSEX{i}"] = (column.sextractor, "SExtractor's name of it")
    return table.header.tostring(endcard=False, padding=False).encode("ascii"), dtype


def _fits_unit(unit: str) -> str | None:
    """Spell an astropy unit as the FITS standard does."""
    return Unit(unit).to_string("fits") or None


def _padded(content: bytes, fill: bytes) -> bytes:
    """Fill up to whole FITS blocks."""
    return content + fill * (-len(content) % _BLOCK)


def _with_end(cards: bytes) -> bytes:
    """End a header."""
    return _padded(cards + b"END".ljust(_CARD), b" ")


def _formatted(cards: Iterable[Card]) -> bytes:
    """Format cards, long texts over several of them."""
    return b"".join(_plain_card(*card) or _astropy_card(*card) for card in cards)


def _plain_card(keyword: str, value: str | int | float | bool, comment: str) -> bytes:
    """Format a card as astropy does, in a tenth of its 20 microseconds; empty if it may not be so.

    FITS standard 4.0, section 4.2: texts are quoted and take 8 characters or more, numbers end in
    column 30.
    """
    if isinstance(value, str):
        text = f"'{value:8}'".ljust(20) if value.strip() and _PLAIN_TEXT.fullmatch(value) else ""
    elif isinstance(value, bool):
        text = f"{'T' if value else 'F':>20}"
    else:
        text = f"{value:>20}" if _PLAIN_NUMBER.fullmatch(str(value)) else ""
    card = f"{keyword:8}= {text}" + (f" / {comment}" if comment else "")
    is_plain = text and comment == comment.strip() and _PLAIN_COMMENT.fullmatch(comment)
    return card.ljust(_CARD).encode("ascii") if is_plain and len(card) <= _CARD else b""


@lru_cache(maxsize=64, typed=True)
def _astropy_card(keyword: str, value: str | int | float | bool, comment: str) -> bytes:
    """Let astropy format a card; long texts are the same for all images of a batch, mostly."""
    header = fits.Header([(keyword, value, comment)])
    content: bytes = header.tostring(endcard=False, padding=False).encode("ascii")
    return content


def fits_primary(cards: Iterable[Card] = ()) -> bytes:
    """Make what a FITS file of tables begins with: a header without data.

    Parameters
    ----------
    cards : iterable of (str, value, str)
        Keyword, value and comment of what it says besides.

    Returns
    -------
    bytes
        Whole blocks.
    """
    head = (
        ("SIMPLE", True, "conforms to FITS standard"),
        ("BITPIX", 8, ""),
        ("NAXIS", 0, ""),
        ("EXTEND", True, ""),
    )
    return _with_end(_formatted([*head, *cards]))


def fits_extension(sources: Sources, cards: Iterable[Card] = (), name: str = TABLE_NAME) -> bytes:
    """Make one binary table, to follow a primary header or another extension.

    Parameters
    ----------
    sources : dict of str to numpy.ndarray
        Columns of `~hstmap.wfc3.schema.SOURCE_COLUMNS`, shape (n,). Those that have one value an
        image belong into the header and are left out of the table.
    cards : iterable of (str, value, str)
        Keyword, value and comment of what its header says of the image.
    name : str
        Its EXTNAME.

    Returns
    -------
    bytes
        Whole blocks.
    """
    template, dtype = _table_header()
    rows = np.empty(len(sources["number"]), dtype=dtype)
    for column in dtype.names or ():
        rows[column] = sources[column]
    header = template
    for card in (
        ("NAXIS2", len(rows), "number of table rows"),
        ("EXTNAME", name, "extension name"),
    ):
        start = header.index(card[0].ljust(8).encode("ascii") + b"=")
        header = header[:start] + _formatted([card]) + header[start + _CARD :]
    return _with_end(header + _formatted(cards)) + _padded(rows.tobytes(), b"\0")


def fits_catalog(sources: Sources, cards: Iterable[Card]) -> bytes:
    """Make the catalogue of one image: a FITS file with one binary table, ``SOURCES``.

    Parameters
    ----------
    sources : dict of str to numpy.ndarray
        As for `fits_extension`.
    cards : iterable of (str, value, str)
        Keyword, value and comment of what the primary header says of the image.

    Returns
    -------
    bytes
        The file.
    """
    return fits_primary(cards) + fits_extension(sources)


def concatenate(tables: Sequence[Sources]) -> Sources:
    """Put tables of sources one after another.

    Parameters
    ----------
    tables : sequence of dict of str to numpy.ndarray
        Each with every column of `~hstmap.wfc3.schema.SOURCE_COLUMNS`.

    Returns
    -------
    dict of str to numpy.ndarray
        With every column, without rows if there are no tables.
    """
    if not tables:
        return empty_sources()
    return {
        column.name: np.concatenate([table[column.name] for table in tables])
        for column in SOURCE_COLUMNS
    }


def parquet_part(sources: Sources, images: Sequence[Mapping[str, Any]]) -> bytes:
    """Make the part of a batch: the sources as Parquet rows, the images in its metadata.

    One object holds both, so that a part is there altogether or not at all and costs one request.

    Parameters
    ----------
    sources : dict of str to numpy.ndarray
        Columns of `~hstmap.wfc3.schema.SOURCE_COLUMNS`.
    images : sequence of mapping
        One row an image: names and values of `~hstmap.wfc3.schema.IMAGE_COLUMNS`.

    Returns
    -------
    bytes
        The file.
    """
    from arro3.core import Array, DataType, Table
    from arro3.io import write_parquet

    table = Table.from_pydict(
        {
            column.name: Array(sources[column.name].tolist(), type=DataType.string())
            if column.dtype == "str"
            else Array.from_numpy(np.ascontiguousarray(sources[column.name]))
            for column in SOURCE_COLUMNS
        }
    )
    buffer = io.BytesIO()
    write_parquet(
        table,
        buffer,
        compression="uncompressed",
        column_compression=_COMPRESSED,
        # Of measured values nearly all differ: looking for equal ones takes more time than all
        # else here, and room.
        dictionary_enabled=False,
        column_dictionary_enabled={column.name: True for column in source_columns_of_image()},
        created_by="hstmap",
        key_value_metadata={IMAGES_KEY: json.dumps(list(images), separators=(",", ":"))},
        skip_arrow_metadata=True,
    )
    return buffer.getvalue()
