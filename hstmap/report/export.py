"""Tables as files of the formats that astronomers read, with units, UCDs and descriptions."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final
from xml.sax.saxutils import escape

import numpy as np

from hstmap.errors import UsageError
from hstmap.parquet_metadata import arrow_schema, described_table
from hstmap.report.names import named_near
from hstmap.wfc3.schema import Column

__all__ = ["FORMATS", "TEXT_FORMATS", "ExportTable", "choose_columns", "choose_format", "to_bytes"]

#: Formats, and how the names of their files end.
FORMATS: Final = MappingProxyType(
    {
        "votable": (".vot", ".xml"),
        "ecsv": (".ecsv",),
        "csv": (".csv",),
        "fits": (".fits",),
        "parquet": (".parquet",),
        "reg": (".reg",),
    }
)
#: Those that can be written to a terminal.
TEXT_FORMATS: Final = ("votable", "ecsv", "csv", "reg")

#: Characters that XML 1.0 (section 2.2) cannot hold, escaped or not; headers of damaged files can.
_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DESCRIPTION: Final = re.compile(rb"<DESCRIPTION>\s*(.*?)\s*</DESCRIPTION>", re.S)


@dataclass(frozen=True, eq=False)
class ExportTable:
    """A table with what is known of its columns.

    Attributes
    ----------
    name : str
        What its rows are.
    columns : tuple of Column
    values : mapping of str to ndarray, shape (n,)
        By the columns' names, with their types; texts are objects.
    origin : mapping of str to str
        Where it comes from: names of FITS keywords, and what they say.
    """

    name: str
    columns: tuple[Column, ...]
    values: Mapping[str, np.ndarray]
    origin: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values[self.columns[0].name])


def choose_format(file: str, given: str | None = None) -> str:
    """Say in which format a file is to be.

    Parameters
    ----------
    file : str
        Its name; ``-`` is standard output.
    given : str, optional
        Of `FORMATS`; by default what the name ends with.

    Returns
    -------
    str
        Of `FORMATS`.

    Raises
    ------
    UsageError
        If the name says nothing, or the format cannot go to standard output.
    """
    if file == "-":
        if given is None:
            raise UsageError(
                "standard output has no ending to tell the format by: give --format "
                f"{', '.join(TEXT_FORMATS)}"
            )
        if given not in TEXT_FORMATS:
            raise UsageError(
                f"{given} is no text: name a file with -o, or give --format "
                f"{', '.join(TEXT_FORMATS)} to write to standard output"
            )
    if given is not None:
        return given
    for name, suffixes in FORMATS.items():
        if file.lower().endswith(suffixes):
            return name
    endings = ", ".join(suffix for suffixes in FORMATS.values() for suffix in suffixes)
    raise UsageError(
        f"{file} does not say its format: end its name with {endings}, or give --format"
    )


def choose_columns(known: Sequence[Column], names: str | None) -> tuple[Column, ...]:
    """Choose columns by their names, hstmap's or SExtractor's.

    Parameters
    ----------
    known : sequence of Column
        All that there are.
    names : str or None
        Separated by commas; by default all but those whose names begin with an underscore.

    Returns
    -------
    tuple of Column
        In the order of the names.

    Raises
    ------
    UsageError
        If there is no such column, or one is named twice.
    """
    if names is None:
        return tuple(column for column in known if not column.name.startswith("_"))
    by_name = {column.sextractor: column for column in known if column.sextractor}
    by_name |= {column.name: column for column in known}
    chosen: dict[str, Column] = {}
    for name in (text.strip() for text in names.split(",")):
        if name not in by_name:
            near = named_near(name, [column.name for column in known])
            raise UsageError(f"there is no column {name!r}; there is {near}")
        column = by_name[name]
        if column.name in chosen:
            raise UsageError(f"--columns has {column.name!r} twice; name it once")
        chosen[column.name] = column
    return tuple(chosen.values())


def to_bytes(table: ExportTable, kind: str) -> bytes:
    """Write a table in a format.

    Parameters
    ----------
    table : ExportTable
    kind : str
        Of `FORMATS`, but ``reg``.

    Returns
    -------
    bytes
        The file.
    """
    writers = {
        "votable": _votable,
        "ecsv": _ecsv,
        "csv": _csv,
        "fits": _fits,
        "parquet": _parquet,
    }
    return writers[kind](table)


def _votable(table: ExportTable) -> bytes:
    """Write a VOTable 1.4 whose cells are text, so that any reader can read it.

    The rows are put into what astropy writes of a table without rows: of a hundred thousand rows
    that takes 6 s, where it takes 35 s itself.
    """
    from astropy.io.votable.tree import Info, VOTableFile

    table = replace(table, values={name: _xml_texts(v) for name, v in table.values.items()})
    document = VOTableFile.from_table(described_table(table.columns))
    described = document.get_first_table()
    described.name = table.name
    for name, nbytes in _text_lengths(table).items():
        described.get_field_by_id_or_name(name).arraysize = str(max(nbytes, 1))
    for name, value in table.origin.items():
        document.resources[0].infos.append(Info(name=name, value=value))
    text = io.BytesIO()
    document.to_xml(text)
    before, end, after = text.getvalue().partition(b"</TABLE>")
    # astropy folds descriptions, and its reader gives the folds back.
    before = _DESCRIPTION.sub(_on_one_line, before)
    rows = (b"<DATA><TABLEDATA>\n", *_votable_rows(table), b"</TABLEDATA></DATA>\n")
    return b"".join([before, *rows, end, after])


def _xml_texts(values: np.ndarray) -> np.ndarray:
    """Write characters that XML cannot hold as Python does: those that it can stay."""
    if values.dtype != object:
        return values
    texts = [_NOT_IN_XML.sub(_spelled, text) for text in values]
    return np.array(texts, dtype=object)


def _spelled(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def _on_one_line(found: re.Match[bytes]) -> bytes:
    return b"<DESCRIPTION>" + b" ".join(found[1].split()) + b"</DESCRIPTION>"


def _votable_rows(table: ExportTable) -> Iterator[bytes]:
    """Spell rows as VOTable 1.4, section 6, has them."""
    cells = [_votable_cells(table.values[column.name]) for column in table.columns]
    for row in zip(*cells, strict=True):
        yield f"<TR><TD>{'</TD><TD>'.join(row)}</TD></TR>\n".encode()


def _votable_cells(values: np.ndarray) -> list[str]:
    """Spell a column: with as many digits as tell each number from its neighbours."""
    if values.dtype == object:
        return [escape(text) for text in values]
    texts: list[str] = values.astype(str).tolist()
    unlike = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}
    return [unlike.get(text, text) for text in texts]


def _text_lengths(table: ExportTable) -> dict[str, int]:
    """Find the longest text of each column of texts, in bytes."""
    return {
        column.name: max((len(text.encode()) for text in table.values[column.name]), default=0)
        for column in table.columns
        if column.dtype == "str"
    }


def _ecsv(table: ExportTable) -> bytes:
    described = described_table(table.columns, dict(table.values))
    described.meta |= table.origin
    text = io.StringIO()
    described.write(text, format="ascii.ecsv")
    return text.getvalue().encode()


def _csv(table: ExportTable) -> bytes:
    """Write names and values only; a number without a value is an empty cell."""
    import pandas as pd

    frame = pd.DataFrame({column.name: table.values[column.name] for column in table.columns})
    return str(frame.to_csv(index=False, lineterminator="\n")).encode()


def _fits(table: ExportTable) -> bytes:
    """Write a binary table, with the cards that the catalogues of single images have."""
    from astropy.io import fits

    values = {
        column.name: _ascii(table.values[column.name])
        if column.dtype == "str"
        else table.values[column.name]
        for column in table.columns
    }
    hdu = fits.table_to_hdu(described_table(table.columns, values))
    hdu.name = table.name
    for i, column in enumerate(table.columns, start=1):
        hdu.header[f"TUCD{i}"] = column.ucd
        hdu.header[f"TCOMM{i}"] = column.description
        if column.sextractor:
            hdu.header[f"TSEX{i}"] = (column.sextractor, "SExtractor's name of it")
    primary = fits.PrimaryHDU()
    for name, value in table.origin.items():
        primary.header[name] = str(_ascii([value])[0])
    file = io.BytesIO()
    fits.HDUList([primary, hdu]).writeto(file)
    return file.getvalue()


def _ascii(texts: Any) -> list[str]:
    """Spell texts in the letters that FITS has."""
    return [str(text).encode("ascii", "backslashreplace").decode() for text in texts]


def _parquet(table: ExportTable) -> bytes:
    """Write the table as the summary is, for the same readers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = arrow_schema(table.columns, _text_lengths(table))
    columns = [pa.array(table.values[column.name], type=kind) for column, kind in zip(
        table.columns, schema.types, strict=True
    )]  # fmt: skip
    file = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), file, compression="zstd")
    return file.getvalue()
