"""What readers of Parquet look for in its metadata, beside the columns themselves.

One file speaks to all of them: astropy's own Parquet reader (``table_meta_yaml``), readers of
VOParquet (IVOA Note "Parquet in the VO" 1.0: ``IVOA.VOTable-Parquet.*``), pandas
(``DataFrame.attrs``), and whoever reads the metadata of Arrow's fields.
"""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from arro3.core import DataType, Field, Schema

from hstmap.wfc3.schema import Column

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["arrow_schema", "column_schema", "described_table", "table_metadata"]

_ARROW_TYPES: Final = {
    "f4": DataType.float32(), "f8": DataType.float64(), "i2": DataType.int16(),
    "i4": DataType.int32(), "i8": DataType.int64(), "str": DataType.string(),
}  # fmt: skip
_VOTABLE: Final = "http://www.ivoa.net/xml/VOTable/v1.3"


def arrow_schema(columns: Iterable[Column], text_lengths: Mapping[str, int]) -> pa.Schema:
    """Make the schema of a table that pyarrow writes, with units and descriptions for all readers.

    Parameters
    ----------
    columns : iterable of Column
    text_lengths : mapping of str to int
        As for `table_metadata`.

    Returns
    -------
    pyarrow.Schema
    """
    import pyarrow as pa

    columns = tuple(columns)
    return pa.schema(column_schema(columns), metadata=table_metadata(columns, text_lengths))


def column_schema(columns: Iterable[Column]) -> Schema:
    """Make the Arrow schema of a table, with what is known of each column in its field.

    Parameters
    ----------
    columns : iterable of Column

    Returns
    -------
    arro3.core.Schema
    """
    return Schema(
        [
            Field(column.name, _ARROW_TYPES[column.dtype], metadata=_given(column))
            for column in columns
        ]
    )


def table_metadata(columns: Iterable[Column], text_lengths: Mapping[str, int]) -> dict[str, str]:
    """Say of a table as a whole what its readers look for.

    Parameters
    ----------
    columns : iterable of Column
    text_lengths : mapping of str to int
        Longest text of each column of texts, bytes: astropy's tables need to know.

    Returns
    -------
    dict of str to str
        Metadata of the Parquet file.
    """
    columns = tuple(columns)
    return (
        _astropy_metadata(columns, text_lengths)
        | _votable_metadata(columns, text_lengths)
        | _pandas_metadata(columns)
    )


def _given(column: Column) -> dict[str, str]:
    """Collect what is known of a column."""
    known = {
        "unit": column.unit,
        "ucd": column.ucd,
        "description": column.description,
        "sextractor": column.sextractor,
    }
    return {name: value for name, value in known.items() if value}


def described_table(columns: Iterable[Column], values: dict[str, Any] | None = None) -> Any:
    """Make an astropy table whose columns have their units and descriptions.

    Parameters
    ----------
    columns : iterable of Column
    values : dict of str to array_like, optional
        By name; by default the table has no rows.

    Returns
    -------
    astropy.table.Table
    """
    from astropy.table import Column as TableColumn
    from astropy.table import Table

    return Table(
        [
            TableColumn(
                [] if values is None else values[column.name],
                name=column.name,
                dtype=column.dtype,
                unit=column.unit or None,
                description=column.description,
                meta={
                    name: value for name, value in _given(column).items()
                    if name in ("ucd", "sextractor")
                },
            )
            for column in columns
        ]
    )  # fmt: skip


def _astropy_metadata(columns: Sequence[Column], text_lengths: Mapping[str, int]) -> dict[str, str]:
    """Describe columns as astropy's own Parquet writer does."""
    from astropy.table.meta import get_yaml_from_table

    lines = get_yaml_from_table(described_table(columns))
    lengths = {f"table::len::{name}": str(max(n, 1)) for name, n in text_lengths.items()}
    return {
        "table_meta_yaml": "\n".join(lines),
        **lengths,
    }


def _votable_metadata(columns: Sequence[Column], text_lengths: Mapping[str, int]) -> dict[str, str]:
    """Describe columns in a VOTable without data, as VOParquet wants it."""
    from astropy.io.votable.tree import VOTableFile

    document = VOTableFile.from_table(described_table(columns))
    for field, column in zip(document.get_first_table().fields, columns, strict=True):
        field.ucd = column.ucd
        if column.dtype == "str":
            # With a bound: astropy's reader cannot join texts of no length to those of the file.
            field.arraysize = f"{max(text_lengths[column.name], 1)}*"
    text = io.BytesIO()
    document.to_xml(text)
    ET.register_namespace("", _VOTABLE)
    root = ET.fromstring(text.getvalue())
    for description in root.iter(f"{{{_VOTABLE}}}DESCRIPTION"):
        description.text = " ".join((description.text or "").split())  # astropy has folded it
    for table in root.iter(f"{{{_VOTABLE}}}TABLE"):
        for data in table.findall(f"{{{_VOTABLE}}}DATA"):
            table.remove(data)
        ET.SubElement(table, f"{{{_VOTABLE}}}PARQUET", type="Parquet-local-XML")
    return {
        "IVOA.VOTable-Parquet.version": "1.0",
        "IVOA.VOTable-Parquet.content": ET.tostring(
            root, encoding="utf-8", xml_declaration=True
        ).decode(),
    }


def _pandas_metadata(columns: Sequence[Column]) -> dict[str, str]:
    """Give pandas what it keeps with a frame: ``frame.attrs["units"]``, and so on."""
    attributes = {
        "units": {column.name: column.unit for column in columns if column.unit},
        "descriptions": {column.name: column.description for column in columns},
    }
    return {"PANDAS_ATTRS": json.dumps(attributes)}
