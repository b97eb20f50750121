"""The rows of a manifest: their columns, one canonical form, their checks and their hash."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from hstmap.archive.arrow_values import array_of, null_of, scalar_of
from hstmap.errors import UsageError
from hstmap.storage import join_url

if TYPE_CHECKING:
    import pyarrow as pa
    from arro3.core import Table

__all__ = [
    "KEY_COLUMNS",
    "MANIFEST_COLUMNS",
    "SCHEMA_VERSION",
    "TYPES",
    "as_array",
    "canonical_table",
    "check_columns",
    "check_rows",
    "hash_rows",
    "ordered",
    "values_of",
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

TYPES: Final[Mapping[type, str]] = {str: "string", float: "double", int: "int64", bool: "bool"}
"""What canonical values of Python's are called in Arrow."""

_REQUIRED: Final = ("rootname", "key")
KEY_COLUMNS: Final = ("key", "companion_key")
"""Spaces around these texts are their own."""

# It becomes part of a file's name in the output.
_NO_FILE_NAME: Final = re.compile(r"^[.]|[/\\\x00-\x1f]|^.{129}")
#: Of numbers: the least and the most that they can be.
_LIMITS: Final[Mapping[str, tuple[float, float]]] = {
    "ra": (0.0, 360.0),
    "dec": (-90.0, 90.0),
    "nbytes": (0, float("inf")),
}


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

    return pa.table(
        {name: _canonical_column(name, table[name]) for name in ordered(table.column_names)}
    )


def ordered(names: Iterable[str]) -> list[str]:
    """Bring names of columns into the order of a manifest: those with a meaning come first."""
    given = list(names)
    known = [name for name in MANIFEST_COLUMNS if name in given]
    return known + [name for name in given if name not in MANIFEST_COLUMNS]


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
    return column if name in KEY_COLUMNS else pc.utf8_trim_whitespace(column)


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


def values_of(rows: Table, name: str) -> list[Any]:
    """Return a column's values as Python's, None for what is unknown."""
    return cast("list[Any]", rows[name].to_pylist())


def check_columns(names: Sequence[str]) -> None:
    """Refuse a table that lacks a column that is needed, or has one twice."""
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        raise UsageError(
            f"the manifest has no column {' and no column '.join(missing)}: it has "
            f"{', '.join(names) or 'none'}. A manifest needs rootname and key"
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UsageError(f"the manifest has the column {repeated[0]} twice: leave one")


def check_rows(rows: Table, store: str | None) -> None:
    """Refuse what no run could account for; rows are counted from 1."""
    if not rows.num_rows:
        raise UsageError("the manifest has no rows: there is nothing to do")
    for name in _REQUIRED:
        _refuse(values_of(rows, name), lambda text: not text, f"has no {name}: every row needs one")
    names = values_of(rows, "rootname")
    _refuse(
        names,
        lambda text: _NO_FILE_NAME.search(text) is not None,
        "cannot name a file: leave out '/', '\\', control characters and a leading '.', and keep "
        "to 128 characters",
        show="rootname {value!r}",
    )
    for name, (low, high) in _LIMITS.items():
        if name in rows.column_names:
            _refuse(
                values_of(rows, name),
                partial(_is_outside, low, high),
                "is out of range",
                show=name + " {value}",
            )
    if len(set(names)) < len(names):
        _refuse_twice(names, values_of(rows, "key"), store)


def _is_outside(low: float, high: float, value: float | None) -> bool:
    return value is not None and not low <= value <= high


def _refuse(
    values: Sequence[Any], is_wrong: Callable[[Any], bool], why: str, show: str = ""
) -> None:
    """Raise for the first row of which something is wrong."""
    for number, value in enumerate(values, 1):
        if is_wrong(value):
            shown = f": {show.format(value=value)}" if show else ""
            raise UsageError(f"row {number} of the manifest{shown} {why}")


def _refuse_twice(names: Sequence[str], keys: Sequence[str], store: str | None) -> None:
    """Raise for the first name that several rows have."""
    places: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        places.setdefault(name, []).append(row)
    twice, (first, second) = next((n, rows[:2]) for n, rows in places.items() if len(rows) > 1)
    urls = [join_url(store, keys[row]) if store else keys[row] for row in (first, second)]
    raise UsageError(
        f"two rows with rootname {twice}: rows {first + 1} and {second + 1} "
        f"({urls[0]} and {urls[1]}). Leave one, or rename one"
    )


def hash_rows(rows: Table, store: str | None) -> str:
    """Return the SHA-256 of the store and of canonical rows in their order, in hex."""
    digest = hashlib.sha256(json.dumps([SCHEMA_VERSION, store, rows.num_rows]).encode())
    for name in sorted(rows.column_names):
        _hash_column(digest, name, values_of(rows, name))
    return digest.hexdigest()


def _hash_column(digest: hashlib._Hash, name: str, values: Sequence[Any]) -> None:
    """Add a column's values to the digest, in bytes that do not depend on how Arrow holds them."""
    n = len(values)
    kind = next((TYPES[type(value)] for value in values if value is not None), None)
    if kind is None:
        return
    if kind == "string":
        encoded = [text.encode() for text in values]
        if not any(encoded):
            return
        known = struct.pack(f"<{n}i", *map(len, encoded))
        data = b"".join(encoded)
    else:
        known = bytes(value is not None for value in values)
        # Adding 0 makes a negative zero a zero, which a text file does not tell apart either.
        filled = [0 if value is None else value + 0 for value in values]
        data = struct.pack(f"<{n}{_CODES[kind]}", *filled)
    digest.update(json.dumps([name, kind]).encode())
    digest.update(known)
    digest.update(data)


_CODES: Final = {"double": "d", "int64": "q", "bool": "?"}
