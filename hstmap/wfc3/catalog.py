"""Catalogues as bytes: a FITS binary table for one image, a Parquet part for one batch.

Both are made by workers, so that neither pandas nor pyarrow is imported here. astropy formats
the header of a table once; what differs from image to image is the number of rows and the
primary header, which keeps the writing of a catalogue at a few milliseconds.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from astropy.io import fits
from astropy.units import Unit

from hstmap.wfc3.measure import Sources, empty_sources
from hstmap.wfc3.schema import SOURCE_COLUMNS, catalog_columns

__all__ = ["IMAGES_KEY", "concatenate", "fits_catalog", "parquet_part"]

#: Key in a part's metadata that holds the rows of its images, as JSON.
IMAGES_KEY: Final = "hstmap.images"

_BLOCK: Final = 2880
_CARD: Final = 80
_FITS_FORMATS: Final = {"f4": "E", "f8": "D", "i2": "I", "i4": "J", "i8": "K"}


@lru_cache(maxsize=1)
def _table_header() -> tuple[bytes, int, np.dtype[Any]]:
    """Format the header of a catalogue's table, once.

    Returns
    -------
    header : bytes
        Of a table without rows, padded to whole blocks.
    position : int
        Where in it the card NAXIS2 starts.
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
        name="SOURCES",
    )
    for i, column in enumerate(columns, start=1):
        table.header[f"TUCD{i}"] = column.ucd
        table.header[f"TCOMM{i}"] = column.description
        if column.sextractor:
            table.header[f"TSEX{i}"] = (column.sextractor, "SExtractor's name of it")
    header = table.header.tostring().encode("ascii")
    return header, header.index(b"NAXIS2  ="), dtype


def _fits_unit(unit: str) -> str | None:
    """Spell an astropy unit as the FITS standard does."""
    return Unit(unit).to_string("fits") or None


def _padded(content: bytes) -> bytes:
    """Fill up to whole FITS blocks with zeros."""
    return content + b"\0" * (-len(content) % _BLOCK)


def fits_catalog(
    sources: Sources, cards: Iterable[tuple[str, str | int | float | bool, str]]
) -> bytes:
    """Make the catalogue of one image: a FITS file with one binary table, ``SOURCES``.

    Parameters
    ----------
    sources : dict of str to numpy.ndarray
        Columns of `~hstmap.wfc3.schema.SOURCE_COLUMNS`, shape (n,). Those that have one value an
        image belong into the header and are left out of the table.
    cards : iterable of (str, value, str)
        Keyword, value and comment of what the primary header says of the image.

    Returns
    -------
    bytes
        The file.
    """
    template, position, dtype = _table_header()
    rows = np.empty(len(sources["number"]), dtype=dtype)
    for name in dtype.names or ():
        rows[name] = sources[name]
    naxis2 = f"NAXIS2  = {len(rows):>20} / number of table rows".ljust(_CARD).encode("ascii")
    header = template[:position] + naxis2 + template[position + _CARD :]
    primary = fits.Header(
        [
            ("SIMPLE", True, "conforms to FITS standard"),
            ("BITPIX", 8),
            ("NAXIS", 0),
            ("EXTEND", True),
            *cards,
        ]
    )
    first: bytes = primary.tostring().encode("ascii")
    return first + header + _padded(rows.tobytes())


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
        compression="zstd(3)",
        created_by="hstmap",
        key_value_metadata={IMAGES_KEY: json.dumps(list(images), separators=(",", ":"))},
        skip_arrow_metadata=True,
    )
    return buffer.getvalue()
