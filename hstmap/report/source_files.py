"""Reading lists of sources, whoever made them: what a file is shows in its first bytes."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hstmap.errors import StorageError, UsageError
from hstmap.storage import StorageOptions, open_store, split_url

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LIST_SUFFIXES", "read_source_file"]

LIST_SUFFIXES: Final = (
    ".parquet", ".fits", ".fits.gz", ".fit", ".ecsv", ".csv", ".cat", ".ldac", ".txt", ".dat",
    ".vot", ".xml",
)  # fmt: skip
"""Endings of the names of files that can be read; their content decides how."""

_SEXTRACTOR_HEAD: Final = re.compile(rb"\A#\s*1\s+[A-Za-z]\w+")
#: What the readers of astropy and pyarrow raise for a file that is not what it seems.
_UNREADABLE: Final = (
    ValueError, KeyError, IndexError, TypeError, OSError, EOFError, NotImplementedError, zlib.error
)  # fmt: skip
_ASCII: Final = 1000  # Bytes that are looked at to tell text from something else.


def read_source_file(url: str, options: StorageOptions | None = None) -> dict[str, Any]:
    """Read the columns of a list of sources.

    Parameters
    ----------
    url : str
        Path or s3:// URL of a Parquet, FITS (SExtractor's LDAC too), ECSV, CSV or VOTable file, or
        of a list by SExtractor (ASCII_HEAD); compressed by gzip or not.
    options : StorageOptions, optional
        How to reach it.

    Returns
    -------
    dict of str to numpy.ndarray
        By column; numbers that are missing are NaN.

    Raises
    ------
    UsageError
        If there is no such file, or it is none of these.
    """
    root, key = split_url(url)
    try:
        data = open_store(root, options).get(key)
    except StorageError as error:
        raise UsageError(f"cannot read the list of sources {error}") from error
    try:
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        columns = _reader(data)(data)
    except _UNREADABLE as error:
        said = str(error).strip().splitlines()
        raise UsageError(
            f"{url} is no list of sources that can be read ({said[0] if said else error}); "
            "expected Parquet, FITS, ECSV, CSV, VOTable or SExtractor's ASCII_HEAD"
        ) from error
    return columns


def _reader(data: bytes) -> Callable[[bytes], dict[str, Any]]:
    """Choose how to read a file."""
    head = data[:_ASCII].lstrip()
    if head.startswith(b"PAR1"):
        return _from_parquet
    if head.startswith(b"SIMPLE  ="):
        return _from_fits
    if head.startswith(b"# %ECSV"):
        return lambda content: _from_text(content, "ascii.ecsv")
    if head.startswith(b"<?xml") or b"<VOTABLE" in head:
        return _from_votable
    if _SEXTRACTOR_HEAD.match(head):
        return lambda content: _from_text(content, "ascii.sextractor")
    if not head or b"\0" in head:
        raise ValueError("it is empty" if not head else "it begins like none")
    return lambda content: _from_text(content, "ascii.csv", comment=r"\s*#")


def _from_parquet(data: bytes) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(data))
        return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    except pa.ArrowException as error:
        raise ValueError(f"its Parquet is damaged: {error}") from error


def _from_fits(data: bytes) -> dict[str, Any]:
    from astropy.io import fits
    from astropy.table import Table

    try:
        with fits.open(io.BytesIO(data)) as hdus:
            tables = [
                hdu for hdu in hdus
                # SExtractor's LDAC keeps the image's header in a table of its own.
                if isinstance(hdu, fits.BinTableHDU | fits.TableHDU) and hdu.name != "LDAC_IMHEAD"
            ]  # fmt: skip
            if not tables:
                raise ValueError("it has no table")
            return _of_table(Table.read(tables[0]))
    except fits.VerifyError as error:
        raise ValueError(f"its header is damaged: {error}") from error


def _from_votable(data: bytes) -> dict[str, Any]:
    from astropy.table import Table

    return _of_table(Table.read(io.BytesIO(data), format="votable"))


def _from_text(data: bytes, kind: str, **options: Any) -> dict[str, Any]:
    from astropy.table import Table

    return _of_table(Table.read(data.decode(), format=kind, **options))


def _of_table(table: Any) -> dict[str, Any]:
    """Take the columns out of an astropy table, with NaN for numbers that are missing."""
    columns = {}
    for name in table.colnames:
        values = table[name]
        if getattr(values, "mask", None) is not None and np.any(values.mask):
            as_float = np.issubdtype(values.dtype, np.number)
            values = values.astype(np.float64).filled(np.nan) if as_float else values.filled("")
        columns[name] = np.asarray(values)
    return columns
