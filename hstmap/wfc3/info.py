"""What a FITS file holds, HDU by HDU, from its headers alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, BinaryIO, Final

from hstmap.errors import BrokenImageError
from hstmap.wfc3.hdus import FitsFile, Hdu

__all__ = ["FIRST_NBYTES", "INFO_COLUMNS", "error_row", "hdu_rows"]

FIRST_NBYTES: Final = 128 * 1024
"""What to fetch of a file at first: the two long headers of an FLT, PRIMARY and SCI."""

INFO_COLUMNS: Final[dict[str, str]] = {
    "file": "str",
    "hdu": "i4",
    "name": "str",
    "version": "i4",
    "type": "str",
    "n_cards": "i4",
    "dimensions": "str",
    "format": "str",
    "header_start": "i8",
    "data_start": "i8",
    "data_nbytes": "i8",
    "error": "str",
}
"""Columns and their types; ``hdu`` is -1 in the one row of a file that cannot be read at all.

``name`` to ``format`` are what `astropy.io.fits.info` prints. ``header_start``, ``data_start``
and ``data_nbytes`` (with the padding to whole blocks) are offsets and a length in bytes.
"""

_MAX_HDUS: Final = 10_000
_PIXEL_TYPES: Final = {
    8: "uint8",
    16: "int16",
    32: "int32",
    64: "int64",
    -32: "float32",
    -64: "float64",
}

_ASTROPY_NAMES = {
    "primary": "PrimaryHDU",
    "groups": "GroupsHDU",
    "image": "ImageHDU",
    "bintable": "BinTableHDU",
    "a3dtable": "BinTableHDU",
    "table": "TableHDU",
}


def hdu_rows(file: BinaryIO, name: str, keywords: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return one row for each HDU of a FITS file; no array is read.

    Parameters
    ----------
    file : BinaryIO
        Seekable, plain or gzipped.
    name : str
        What the rows call the file.
    keywords : sequence of str
        Header keywords whose values are wanted; None where an HDU has not got one.

    Returns
    -------
    list of dict
        `INFO_COLUMNS`, and ``keywords``: a list of values, as long as what was asked for. What is
        wrong with a file is told in the ``error`` of the last row.
    """
    with warnings.catch_warnings():
        # What astropy warns of here is told in the column `error`.
        warnings.simplefilter("ignore")
        return _rows(file, name, keywords)


def _rows(file: BinaryIO, name: str, keywords: Sequence[str]) -> list[dict[str, Any]]:
    try:
        fits_file = FitsFile(file, whole_headers=True)
    except BrokenImageError as error:
        return [error_row(name, str(error), len(keywords))]
    rows: list[dict[str, Any]] = []
    for index in range(_MAX_HDUS):
        try:
            hdu = fits_file.hdu(index)
            if hdu is None:
                break
            rows.append(_row(name, index, hdu, keywords))
            fits_file.check_length(hdu)
        except BrokenImageError as error:
            rows[-1]["error"] = str(error)
            break
    return rows


def error_row(name: str, message: str, n_keywords: int) -> dict[str, Any]:
    """Return the row of a file of which nothing can be read."""
    empty: dict[str, Any] = {
        column: "" if kind == "str" else -1 for column, kind in INFO_COLUMNS.items()
    }
    return empty | {"file": name, "error": message, "keywords": [None] * n_keywords}


def _row(name: str, index: int, hdu: Hdu, keywords: Sequence[str]) -> dict[str, Any]:
    header = hdu.header
    return {
        "file": name,
        "hdu": index,
        "name": hdu.name,
        "version": int(header.get("EXTVER", 1)),
        "type": _astropy_name(hdu.kind),
        "n_cards": len(header),
        "dimensions": _dimensions(header),
        "format": _format(header),
        "header_start": hdu.start,
        "data_start": hdu.data_start,
        "data_nbytes": hdu.data_nbytes + -hdu.data_nbytes % 2880,
        "error": "",
        "keywords": [_value(header, keyword) for keyword in keywords],
    }


def _astropy_name(kind: str) -> str:
    """Name a kind of HDU as astropy's ``info()`` does."""
    return _ASTROPY_NAMES.get(kind, "NonstandardExtHDU")


def _is_table(header: Any) -> bool:
    return str(header.get("XTENSION", "")).strip() in ("BINTABLE", "TABLE", "A3DTABLE")


def _dimensions(header: Any) -> str:
    if _is_table(header):
        return f"{header['NAXIS2']}R x {header['TFIELDS']}C"
    sides = [str(header[f"NAXIS{axis}"]) for axis in range(1, header["NAXIS"] + 1)]
    return f"({', '.join(sides)})" if len(sides) != 1 else f"({sides[0]},)"


def _format(header: Any) -> str:
    if _is_table(header):
        forms = [str(header.get(f"TFORM{n}", "")) for n in range(1, header["TFIELDS"] + 1)]
        return f"[{', '.join(forms)}]"
    return _PIXEL_TYPES.get(header["BITPIX"], str(header["BITPIX"])) if header["NAXIS"] else ""


def _value(header: Any, keyword: str) -> str | int | float | bool | None:
    try:
        value = header[keyword]
    except KeyError:
        return None
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    # Cards that take several lines, such as HISTORY, and complex numbers.
    return str(value)
