"""The rows of a manifest: their columns, one canonical form, their checks and their hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from hstmap.archive.arrow_values import array_of, null_of, numbers_of, scalar_of
from hstmap.errors import UsageError
from hstmap.storage import join_url

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "MANIFEST_COLUMNS",
    "SCHEMA_VERSION",
    "as_array",
    "canonical_table",
    "check_columns",
    "check_rows",
    "hash_rows",
]

SCHEMA_VERSION: Final = 1
"""Goes up when a column that was there before means something else."""

MANIFEST_COLUMNS: Final[Mapping[str, tuple[str, str]]] = {
    "rootname": ("string", ""),
    "key": ("string", ""),
    "product": ("string", ""),
    "filter": ("string", ""),
    "target": ("string", ""),
    "ra": ("double", "deg"),
    "dec": ("double", "deg"),
    "exposure_s": ("double", "s"),
    "start_mjd": ("double", "d"),
    "program_id": ("int64", ""),
    "aperture": ("string", ""),
    "nbytes": ("int64", "byte"),
    "etag": ("string", ""),
    "use": ("string", ""),
    "release_date": ("string", ""),
    "companion_key": ("string", ""),
}
"""Type and unit of the columns that have a meaning here; others are kept as they are.

``rootname`` and ``key`` must be there. ``use`` is empty where the image is for use, else it says
why it is not. ``companion_key`` is the weight or error image that belongs to a bare science image.
"""

_REQUIRED: Final = ("rootname", "key")
_KEYS: Final = ("key", "companion_key")


def as_array(name: str, values: Sequence[object] | pa.Array | pa.ChunkedArray) -> Any:
    """Return one column as Arrow's, or say which row does not go with the others."""
    import pyarrow as pa

    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    try:
        return array_of(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        kinds: dict[str, int] = {}
        for number, value in enumerate(values, 1):
            if value is not None:
                kinds.setdefault(type(value).__name__, number)
        seen = ", ".join(f"{kind} in row {number}" for kind, number in kinds.items())
        raise UsageError(
            f"column {name} of the manifest holds values of several kinds ({seen}): one is needed"
        ) from error


def canonical_table(table: pa.Table) -> pa.Table:
    """Bring columns to their types and order; text that is unknown becomes empty."""
    import pyarrow as pa

    names = [name for name in MANIFEST_COLUMNS if name in table.column_names]
    names += [name for name in table.column_names if name not in MANIFEST_COLUMNS]
    return pa.table({name: _canonical_column(name, table[name]) for name in names})


def _canonical_column(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    wanted = _canonical_type(name, column.type)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), null_of(column.type), column)
    was_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if was_text and not pa.types.is_string(wanted):
        column = pc.if_else(pc.equal(column, scalar_of("")), null_of(column.type), column)
    try:
        column = column.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UsageError(
            f"column {name} of the manifest must hold {_WORDS[str(wanted)]}: "
            f"{_first_misfit(column, wanted) or error}"
        ) from error
    if not pa.types.is_string(wanted):
        return column
    column = pc.fill_null(column, scalar_of(""))
    # Spaces around a text mean nothing, and text formats lose them; in a key they are its own.
    return column if name in _KEYS else pc.utf8_trim_whitespace(column)


_WORDS: Final = {
    "string": "text",
    "double": "numbers",
    "int64": "whole numbers",
    "bool": "booleans",
}


def _canonical_type(name: str, found: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if name in MANIFEST_COLUMNS:
        return pa.type_for_alias(MANIFEST_COLUMNS[name][0])
    if pa.types.is_boolean(found):
        return pa.bool_()
    if pa.types.is_integer(found):
        return pa.int64()
    if pa.types.is_floating(found) or pa.types.is_decimal(found):
        return pa.float64()
    # Text, dates and columns without a value; lists and records do not cast and are refused.
    return pa.string()


def _first_misfit(column: pa.ChunkedArray, wanted: pa.DataType) -> str:
    """Say which row holds the first value that is not of the type."""
    import pyarrow as pa

    for number, value in enumerate(column, 1):
        try:
            value.cast(wanted)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return f"row {number} holds {value.as_py()!r}"
    return ""


def check_columns(table: pa.Table) -> None:
    """Refuse a table that lacks a column that is needed, or has one twice."""
    missing = [name for name in _REQUIRED if name not in table.column_names]
    if missing:
        raise UsageError(
            f"the manifest has no column {' and no column '.join(missing)}: it has "
            f"{', '.join(table.column_names) or 'none'}. A manifest needs rootname and key"
        )
    repeated = sorted({n for n in table.column_names if table.column_names.count(n) > 1})
    if repeated:
        raise UsageError(f"the manifest has the column {repeated[0]} twice: leave one")


def check_rows(table: pa.Table, store: str | None) -> None:
    """Refuse what no run could account for; rows are counted from 1."""
    import pyarrow.compute as pc

    if not table.num_rows:
        raise UsageError("the manifest has no rows: there is nothing to do")
    for name in _REQUIRED:
        _refuse(
            table[name], pc.equal(table[name], scalar_of("")), f"has no {name}: every row needs one"
        )
    _refuse(
        table["rootname"],
        # It becomes part of a file's name in the output.
        pc.match_substring_regex(table["rootname"], r"^[.]|[/\\\x00-\x1f]|^.{129}"),
        "cannot name a file: leave out '/', '\\', control characters and a leading '.', and keep "
        "to 128 characters",
        show="rootname {value!r}",
    )
    limits = {"ra": (0.0, 360.0), "dec": (-90.0, 90.0), "nbytes": (0, None)}
    for name, (low, high) in limits.items():
        if name in table.column_names:
            outside = pc.less(table[name], scalar_of(low))
            if high is not None:
                outside = pc.or_(outside, pc.greater(table[name], scalar_of(high)))
            _refuse(table[name], outside, "is out of range", show=name + " {value}")
    names = table["rootname"]
    if pc.count_distinct(names).as_py() < len(names):
        counts = pc.value_counts(names.combine_chunks())
        twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py()
        rows = pc.indices_nonzero(pc.equal(names, scalar_of(twice))).to_pylist()
        keys = table["key"].take(array_of(rows[:2])).to_pylist()
        keys = [join_url(store, key) for key in keys] if store else keys
        raise UsageError(
            f"two rows with rootname {twice}: rows {rows[0] + 1} and {rows[1] + 1} "
            f"({keys[0]} and {keys[1]}). Leave one, or rename one"
        )


def _refuse(column: pa.ChunkedArray, is_wrong: pa.ChunkedArray, why: str, show: str = "") -> None:
    """Raise for the first row of which something is wrong."""
    import pyarrow.compute as pc

    row = pc.index(is_wrong, scalar_of(True)).as_py()
    if row >= 0:
        shown = f": {show.format(value=column[row].as_py())}" if show else ""
        raise UsageError(f"row {row + 1} of the manifest{shown} {why}")


def hash_rows(table: pa.Table, store: str | None) -> str:
    """Return the SHA-256 of the store and of canonical rows in their order, in hex."""
    digest = hashlib.sha256(json.dumps([SCHEMA_VERSION, store, table.num_rows]).encode())
    for name in sorted(table.column_names):
        _hash_column(digest, name, table[name])
    return digest.hexdigest()


def _hash_column(digest: hashlib._Hash, name: str, column: pa.ChunkedArray) -> None:
    """Add a column's values to the digest, in bytes that do not depend on how Arrow holds them."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type)
    if pa.types.is_string(array.type):
        lengths = numbers_of(pc.binary_length(array)).astype("<i4")
        if not lengths.any():
            return
        data = "".join(array.to_pylist()).encode()
    else:
        known = numbers_of(pc.is_valid(array))
        if not known.any():
            return
        kind = {"double": "<f8", "int64": "<i8", "bool": "|b1"}[str(array.type)]
        filled = pc.fill_null(array, scalar_of(0).cast(array.type))
        # Adding 0 makes a negative zero a zero, which a text file does not tell apart either.
        numbers = numbers_of(filled).astype(kind)
        data = (numbers + np.zeros(1, kind) if kind == "<f8" else numbers).tobytes()
        lengths = known
    digest.update(json.dumps([name, str(array.type)]).encode())
    digest.update(lengths.tobytes())
    digest.update(data)
