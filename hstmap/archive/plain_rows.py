"""Columns of Python's own values as a manifest's rows, without pyarrow.

Whoever maps a folder has lists of texts and sizes that are as a manifest has them already. To
import pyarrow for them is half of the memory of such a client.
What needs to be converted is pyarrow's to convert.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from hstmap.archive.manifest_rows import KEY_COLUMNS, MANIFEST_COLUMNS, TYPES, ordered

if TYPE_CHECKING:
    from arro3.core import Table

__all__ = ["plain_rows"]

#: Of a text column altogether: the offsets of Arrow's have 31 bits.
_MOST_TEXT_NBYTES: Final = 2**31 - 1
_LIMIT_INT64: Final = 2**63


def plain_rows(columns: Mapping[str, Sequence[object] | Any]) -> Table | None:
    """Make the rows of a manifest of lists that need no conversion.

    Parameters
    ----------
    columns : mapping of str to sequence
        Of one length.

    Returns
    -------
    arro3.core.Table or None
        In canonical form, as `~hstmap.archive.manifest_rows.canonical_table` has it. None if a
        column is no list or tuple, if its values are not all of its own type or None, or if they
        cannot stay as they are.
    """
    made: dict[str, tuple[str, list[Any]]] = {}
    for name in ordered(columns):
        values = columns[name]
        column = _plain(name, values) if isinstance(values, list | tuple) else None
        if column is None:
            return None
        made[name] = column
    from arro3.core import Array, DataType, Table

    types = {
        "string": DataType.string(),
        "double": DataType.float64(),
        "int64": DataType.int64(),
        "bool": DataType.bool(),
    }
    return Table.from_pydict({name: Array(of, types[kind]) for name, (kind, of) in made.items()})


def _plain(name: str, values: Sequence[Any]) -> tuple[str, list[Any]] | None:
    """Return a column's type and its canonical values; None if pyarrow had better."""
    found = set(map(type, values)) - {type(None)}
    kinds = {TYPES.get(kind, "") for kind in found}
    kind = MANIFEST_COLUMNS[name][0] if name in MANIFEST_COLUMNS else next(iter(kinds), "string")
    if kinds - {kind} or not kind:
        return None
    if kind == "string":
        texts = ["" if value is None else value for value in values]
        return (kind, texts) if _stay(name, texts) else None
    if kind == "double":
        return kind, [None if value is None or math.isnan(value) else value for value in values]
    if kind == "int64" and any(
        value is not None and not -_LIMIT_INT64 <= value < _LIMIT_INT64 for value in values
    ):
        return None
    return kind, list(values)


def _stay(name: str, texts: Sequence[str]) -> bool:
    """Tell whether texts can be stored, and have no spaces around them that are to go."""
    if name not in KEY_COLUMNS and any(text != text.strip() for text in texts):
        return False
    try:
        return len("".join(texts).encode()) <= _MOST_TEXT_NBYTES
    except UnicodeEncodeError:
        return False
