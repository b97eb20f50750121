"""A hash that is the same in every process: equal keys meet in one partition.

Python's own differs between processes for strings (PYTHONHASHSEED) and for what is made of them.
It is kept where it is stable by definition: numbers that are equal have the same hash, whatever
their types (`Python reference, "Hashing of numeric types"
<https://docs.python.org/3/library/stdtypes.html#hashing-of-numeric-types>`__), numpy's included.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import math
import numbers
import pickle
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import cloudpickle

__all__ = ["digest", "stable_hash"]

_DIGEST_NBYTES = 16


def stable_hash(key: Any) -> int:
    """Hash a key.

    Parameters
    ----------
    key : object
        Numbers, strings, bytes, None, dates and times, enumerations, dataclasses, and tuples and
        frozensets of them; anything else by its pickled state. What is equal as a key of a `dict`
        gives the same hash; only for a class whose ``__eq__`` is wider than the equality of its
        state that is not so, and such keys should be turned into plain values.

    Returns
    -------
    int
        128 bits, the same in every process.

    Raises
    ------
    TypeError
        If it cannot be pickled.
    """
    return int.from_bytes(digest(key), "big")


def digest(thing: Any) -> bytes:
    """Return 16 bytes that stand for a value; see `stable_hash`."""
    kind, parts = _description(thing)
    hasher = hashlib.blake2b(kind.encode(), digest_size=_DIGEST_NBYTES)
    for part in parts:
        hasher.update(len(part).to_bytes(8, "big"))
        hasher.update(part)
    return hasher.digest()


def _description(thing: Any) -> tuple[str, list[bytes]]:
    """Return what kind of value it is, and bytes that are equal if and only if values are."""
    for describe in (_describe_scalar, _describe_container, _describe_named, _describe_time):
        described = describe(thing)
        if described is not None:
            return described
    return _describe_state(thing)


def _describe_scalar(thing: Any) -> tuple[str, list[bytes]] | None:
    if thing is None or thing is Ellipsis or thing is NotImplemented:
        return "constant", [repr(thing).encode()]
    if isinstance(thing, str):
        return "str", [str.encode(thing, "utf-8", "surrogatepass")]
    if isinstance(thing, bytes | bytearray | memoryview):
        return "bytes", [bytes(thing)]  # bytearrays are equal to bytes
    if isinstance(thing, numbers.Number):
        return "number", [_number_hash(thing).to_bytes(9, "big", signed=True)]
    return _describe_numpy_scalar(thing)


def _describe_numpy_scalar(thing: Any) -> tuple[str, list[bytes]] | None:
    """Describe bool_, datetime64 and timedelta64; the other scalars are Numbers."""
    if type(thing).__module__ != "numpy" or getattr(thing, "ndim", None) != 0:
        return None
    plain = thing.item()
    return None if type(plain).__module__ == "numpy" else _description(plain)


def _number_hash(number: Any) -> int:
    if isinstance(number, int):
        return int.__hash__(number)
    if number != number:  # noqa: PLR0124 - not a number, of whatever type
        # Python 3.10 and later hash these by identity.
        return hash(math.inf) + 1
    return hash(number)


def _describe_container(thing: Any) -> tuple[str, list[bytes]] | None:
    if isinstance(thing, tuple):
        return "tuple", [digest(part) for part in thing]
    if isinstance(thing, list):
        return "list", [digest(part) for part in thing]
    if isinstance(thing, frozenset | set):
        return "set", sorted(digest(part) for part in thing)
    if isinstance(thing, Mapping):
        return "mapping", sorted(digest(key) + digest(value) for key, value in thing.items())
    return None


def _describe_named(thing: Any) -> tuple[str, list[bytes]] | None:
    if isinstance(thing, enum.Enum):
        return "enum", [_qualified_name(type(thing)), thing.name.encode()]
    if isinstance(thing, type | ModuleType | BuiltinFunctionType):
        return "name", [_qualified_name(thing)]
    if isinstance(thing, FunctionType):
        name = _qualified_name(thing)
        if b"<" in name:  # a lambda or a closure: its name says little
            return "function", [name, cloudpickle.dumps(thing)]
        return "name", [name]
    if isinstance(thing, functools.partial):
        return "partial", [digest(part) for part in (thing.func, thing.args, thing.keywords)]
    return None


def _describe_time(thing: Any) -> tuple[str, list[bytes]] | None:
    if isinstance(thing, datetime):
        return "datetime", _describe_datetime(thing)
    if isinstance(thing, date):
        return "date", [thing.isoformat().encode()]
    if isinstance(thing, timedelta):
        return "timedelta", [repr((thing.days, thing.seconds, thing.microseconds)).encode()]
    if isinstance(thing, time):
        return "time", _describe_datetime(datetime.combine(date(2000, 1, 2), thing))
    return None


def _describe_datetime(moment: datetime) -> list[bytes]:
    if moment != moment:  # noqa: PLR0124 - pandas.NaT
        return []
    is_aware = moment.utcoffset() is not None
    if is_aware:  # equal instants are equal in any time zone
        moment = moment.astimezone(UTC)
    return [repr((is_aware, *moment.timetuple()[:6], moment.microsecond)).encode()]


def _describe_state(thing: Any) -> tuple[str, list[bytes]]:
    if dataclasses.is_dataclass(thing):
        compared = [field.name for field in dataclasses.fields(thing) if field.compare]
        parts = [digest(getattr(thing, name)) for name in compared]
        return "dataclass", [_qualified_name(type(thing)), *parts]
    reduced = thing.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    if isinstance(reduced, str):
        return "global", [_qualified_name(type(thing)), reduced.encode()]
    function, arguments, *state = reduced
    plain_state = state[0] if state else None
    items = [list(part) for part in state[1:3] if part is not None]
    return "state", [digest(part) for part in (function, arguments, plain_state, items)]


def _qualified_name(thing: Any) -> bytes:
    module = getattr(thing, "__module__", "")
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", "")
    return f"{module}.{name}".encode()
