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
from typing import Any, Final

import pyarrow as pa

from hstmap.wfc3.schema import Column

__all__ = ["ARROW_TYPES", "arrow_schema", "described_table"]

ARROW_TYPES: Final = {
    "f4": pa.float32(), "f8": pa.float64(), "i2": pa.int16(), "i4": pa.int32(),
    "i8": pa.int64(), "str": pa.string(),
}  # fmt: skip
_VOTABLE: Final = "http://www.ivoa.net/xml/VOTable/v1.3"


def arrow_schema(columns: Iterable[Column], text_lengths: Mapping[str, int]) -> pa.Schema:
    """Make the Arrow schema of a table, with units and descriptions for every reader.

    Parameters
    ----------
    columns : iterable of Column
    text_lengths : mapping of str to int
        Longest text of each column of texts: astropy's tables need to know.

    Returns
    -------
    pyarrow.Schema
    """
    columns = tuple(columns)
    fields = [
        pa.field(column.name, ARROW_TYPES[column.dtype], metadata=_given(column))
        for column in columns
    ]
    metadata = (
        _astropy_metadata(columns, text_lengths)
        | _votable_metadata(columns, text_lengths)
        | _pandas_metadata(columns)
    )
    return pa.schema(fields, metadata=metadata)


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


def _astropy_metadata(
    columns: Sequence[Column], text_lengths: Mapping[str, int]
) -> dict[bytes, bytes]:
    """Describe columns as astropy's own Parquet writer does."""
    from astropy.table.meta import get_yaml_from_table

    lines = get_yaml_from_table(described_table(columns))
    lengths = {f"table::len::{name}": str(max(n, 1)) for name, n in text_lengths.items()}
    return {
        b"table_meta_yaml": "\n".join(lines).encode(),
        **{name.encode(): length.encode() for name, length in lengths.items()},
    }


def _votable_metadata(
    columns: Sequence[Column], text_lengths: Mapping[str, int]
) -> dict[bytes, bytes]:
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
        b"IVOA.VOTable-Parquet.version": b"1.0",
        b"IVOA.VOTable-Parquet.content": ET.tostring(root, encoding="utf-8", xml_declaration=True),
    }


def _pandas_metadata(columns: Sequence[Column]) -> dict[bytes, bytes]:
    """Give pandas what it keeps with a frame: ``frame.attrs["units"]``, and so on."""
    attributes = {
        "units": {column.name: column.unit for column in columns if column.unit},
        "descriptions": {column.name: column.description for column in columns},
    }
    return {b"PANDAS_ATTRS": json.dumps(attributes).encode()}
