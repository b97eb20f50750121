"""What readers of Parquet look for in its metadata, beside the columns themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hstmap.wfc3.schema import Column

__all__ = ["astropy_metadata"]

_ASTROPY_KEY: Final = b"table_meta_yaml"


def astropy_metadata(columns: Iterable[Column]) -> dict[bytes, bytes]:
    """Describe columns as astropy's own Parquet writer does, so that its reader finds units.

    Parameters
    ----------
    columns : iterable of Column

    Returns
    -------
    dict of bytes to bytes
        For the metadata of an Arrow schema.
    """
    from astropy.table import Column as TableColumn
    from astropy.table import Table
    from astropy.table.meta import get_yaml_from_table

    table = Table(
        [
            TableColumn(
                name=column.name,
                dtype=column.dtype,
                unit=column.unit or None,
                description=column.description,
                meta={
                    name: value
                    for name, value in (("ucd", column.ucd), ("sextractor", column.sextractor))
                    if value
                },
                length=0,
            )
            for column in columns
        ]
    )
    return {_ASTROPY_KEY: "\n".join(get_yaml_from_table(table)).encode()}
