"""The FITS catalogue of one image, read by a single ranged request wherever it is."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from hstmap.errors import UsageError
from hstmap.report.selection import images
from hstmap.storage import StorageOptions, open_store
from hstmap.wfc3.catalog import TABLE_NAME, fits_primary

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["read_catalog"]

_COLUMNS: Final = ("catalog", "catalog_hdu", "catalog_start", "catalog_nbytes", "outcome")
#: Cards of a header that say how the file is made, not what is in it.
_STRUCTURE: Final = frozenset({"SIMPLE", "BITPIX", "NAXIS", "EXTEND"})


def read_catalog(out: str, rootname: str, options: StorageOptions | None = None) -> QTable:
    """Read the catalogue of an image, from a file of its own or out of its batch's.

    Parameters
    ----------
    out : str
        Folder or ``s3://bucket/prefix`` of a run that is reduced.
    rootname : str
        Of the image.
    options : StorageOptions, optional
        How to reach the run.

    Returns
    -------
    astropy.table.QTable
        Columns of `~hstmap.wfc3.schema.catalog_columns` with their units; `meta` has the cards
        that say what the image is.

    Raises
    ------
    UsageError
        If the run has no summary, no such image, or no catalogue of it.
    """
    from astropy.io import fits
    from astropy.table import QTable

    store = open_store(out, options)
    row = {name: values[0] for name, values in images(store, _COLUMNS, [rootname]).items()}
    if not row["catalog"]:
        raise UsageError(
            f"{rootname} is {row['outcome']} and has no FITS catalogue at {store.url}; "
            f"`hstmap export {store.url} --image {rootname}` writes its sources, if it has any"
        )
    start, stop = int(row["catalog_start"]), int(row["catalog_start"] + row["catalog_nbytes"])
    if row["catalog_hdu"] == TABLE_NAME:  # of its own file, whose first header has the cards
        content = store.get_range(row["catalog"], 0, stop)
    else:
        content = fits_primary() + store.get_range(row["catalog"], start, stop)
    with fits.open(io.BytesIO(content)) as hdus:
        table = QTable.read(hdus[1])
        cards = {name: value for name, value in hdus[0].header.items() if name not in _STRUCTURE}
    table.meta = cards | dict(table.meta)
    return table
