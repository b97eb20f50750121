"""The manifest's file formats: Parquet, CSV and ECSV, told apart by the name's ending.

Parquet is the form that hstmap writes by itself. The others are for people: a CSV needs no more
than a header line with ``rootname`` and ``key``. What stands beside the rows (store, query,
content hash) is Parquet's key-value metadata, ECSV's ``meta``, and in CSV a first line that
begins with ``#`` (``pandas.read_csv(..., comment="#")``).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from hstmap.archive.manifest_rows import MANIFEST_COLUMNS
from hstmap.errors import StorageError, UsageError
from hstmap.storage import open_store, split_url

if TYPE_CHECKING:
    import pyarrow as pa
    from arro3.core import Table

    from hstmap.archive.manifest import Manifest
    from hstmap.storage import StorageOptions

__all__ = ["MANIFEST_SUFFIXES", "read_table", "write_table"]

MANIFEST_SUFFIXES: Final = (".parquet", ".csv", ".ecsv")

_METADATA_KEY: Final = "hstmap_manifest"
_NULLS: Final = ["", "nan", "NaN", "null", "NULL", "None", "--"]


def read_table(url: str, options: StorageOptions | None) -> tuple[pa.Table, dict[str, Any]]:
    """Read rows and what stands beside them; their meaning is not checked here.

    Raises
    ------
    UsageError
        If there is no such file, or it cannot be decoded.
    """
    suffix = _suffix(url)
    root, key = split_url(url)
    try:
        data = open_store(root, options).get(key)
    except StorageError as error:
        raise UsageError(f"cannot read the manifest {error}") from error
    if not data:
        raise UsageError(f"the manifest {url} is empty: a header line and rows were expected")
    reader = {".parquet": _from_parquet, ".csv": _from_csv, ".ecsv": _from_ecsv}[suffix]
    return reader(url, data)


def write_table(manifest: Manifest, url: str, options: StorageOptions | None) -> None:
    """Write a manifest's rows and what stands beside them.

    Raises
    ------
    UsageError
        If the name's ending is none of `MANIFEST_SUFFIXES`.
    """
    suffix = _suffix(url)
    if suffix == ".parquet":
        content = _to_parquet(manifest.rows, manifest.metadata)
    else:
        writer = {".csv": _to_csv, ".ecsv": _to_ecsv}[suffix]
        content = writer(manifest.table, manifest.metadata)
    root, key = split_url(url)
    open_store(root, options).put(key, content)


def _suffix(url: str) -> str:
    for suffix in MANIFEST_SUFFIXES:
        if url.lower().endswith(suffix):
            return suffix
    raise UsageError(f"{url} is no name for a manifest: end it with {', '.join(MANIFEST_SUFFIXES)}")


def _unreadable(url: str, kind: str, error: Exception) -> UsageError:
    said = str(error).strip().splitlines()
    return UsageError(f"the manifest {url} is not readable as {kind}: {said[0] if said else error}")


def _from_parquet(url: str, data: bytes) -> tuple[pa.Table, dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # `read_table` would import pandas, by way of data sets of many files.
        table = pq.ParquetFile(pa.BufferReader(data)).read()
        stored = (table.schema.metadata or {}).get(_METADATA_KEY.encode(), b"{}")
        return table.replace_schema_metadata(None), dict(json.loads(stored))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(url, "Parquet", error) from error


def _to_parquet(rows: Table, metadata: Mapping[str, Any]) -> bytes:
    from arro3.core import Schema
    from arro3.io import write_parquet

    units = {name: unit for name, (_, unit) in MANIFEST_COLUMNS.items() if unit}
    fields = [rows.schema.field(i) for i in range(rows.num_columns)]
    stored = {_METADATA_KEY: json.dumps(dict(metadata))}
    schema = Schema(
        [
            field.with_metadata({"unit": units[field.name]}) if field.name in units else field
            for field in fields
        ],
        # In the schema too, as pyarrow has it there: else `pyarrow.parquet.read_table` drops it.
        metadata=stored,
    )
    buffer = io.BytesIO()
    write_parquet(
        rows.with_schema(schema),
        buffer,
        compression="zstd(1)",
        key_value_metadata=stored,
    )
    return buffer.getvalue()


def _from_csv(url: str, data: bytes) -> tuple[pa.Table, dict[str, Any]]:
    import pyarrow as pa
    from pyarrow import csv

    metadata: dict[str, Any] = {}
    n_skipped = 0
    for line in data.removeprefix(b"\xef\xbb\xbf").splitlines()[:_MAX_COMMENT_LINES]:
        if not line.startswith(b"#"):
            break
        n_skipped += 1
        words = line.lstrip(b"# ")
        if words.startswith(_METADATA_KEY.encode()):
            try:
                metadata = dict(json.loads(words.partition(b" ")[2]))
            except ValueError as error:
                raise _unreadable(url, "CSV (its first line)", error) from error
    types = {name: kind for name, (kind, _) in MANIFEST_COLUMNS.items()}
    types |= metadata.pop("types", {})
    try:
        table = csv.read_csv(
            pa.BufferReader(data),
            # One block per thread cannot tell the row that an error is in.
            read_options=csv.ReadOptions(skip_rows=n_skipped, use_threads=False),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types={name: pa.type_for_alias(kind) for name, kind in types.items()},
                null_values=_NULLS,
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowException, ValueError) as error:
        raise _unreadable(url, "CSV", error) from error
    return table, metadata


_MAX_COMMENT_LINES: Final = 100


def _to_csv(table: pa.Table, metadata: Mapping[str, Any]) -> bytes:
    import pyarrow as pa
    from pyarrow import csv

    # Text alone does not tell 1 from 1.0, nor a name of digits from a number.
    types = {f.name: str(f.type) for f in table.schema if f.name not in MANIFEST_COLUMNS}
    head = json.dumps({**metadata, "types": types})
    sink = pa.BufferOutputStream()
    sink.write(f"# {_METADATA_KEY} {head}\n".encode())
    csv.write_csv(table, sink)
    return bytes(sink.getvalue().to_pybytes())


def _from_ecsv(url: str, data: bytes) -> tuple[pa.Table, dict[str, Any]]:
    import pyarrow as pa
    from astropy.table import Table

    try:
        table = Table.read(io.BytesIO(data), format="ascii.ecsv")
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise _unreadable(url, "ECSV", error) from error
    columns = {}
    for name in table.colnames:
        column = table[name]
        try:
            columns[name] = pa.array(column.tolist(), from_pandas=True)
        except (pa.ArrowException, TypeError) as error:
            raise _unreadable(url, f"a manifest (its column {name})", error) from error
    return pa.table(columns), dict(table.meta.get(_METADATA_KEY, {}))


def _to_ecsv(table: pa.Table, metadata: Mapping[str, Any]) -> bytes:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    from astropy.table import MaskedColumn, Table

    written = Table(meta={_METADATA_KEY: dict(metadata)})
    for name in table.column_names:
        column = table[name]
        unit = MANIFEST_COLUMNS.get(name, ("", ""))[1] or None
        if pa.types.is_string(column.type):
            values = column.to_pylist()
            spaced = next((text for text in values if text != text.strip()), None)
            if spaced is not None:
                raise UsageError(
                    f"ECSV loses the spaces around {name} {spaced!r}: write Parquet or CSV"
                )
            written[name] = np.array(values, dtype=str)
            continue
        unknown = pc.is_null(column).to_numpy()
        filled = pc.fill_null(column, pa.scalar(0).cast(column.type)).to_numpy()
        written[name] = MaskedColumn(filled, mask=unknown, unit=unit)
    text = io.StringIO()
    written.write(text, format="ascii.ecsv")
    return text.getvalue().encode()
