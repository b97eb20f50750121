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
from typing import Any, TypeAlias

import cloudpickle

__all__ = ["exact_digest", "stable_hash"]

_DIGEST_NBYTES = 16

_Described: TypeAlias = tuple[str, list[bytes]]


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
    return int.from_bytes(_Digester(is_exact=False).digest(key), "big")


def exact_digest(thing: Any) -> bytes:
    """Return 16 bytes that stand for a value and its type: 1 and 1.0 are two.

    Raises
    ------
    TypeError
        If it cannot be pickled.
    """
    return _Digester(is_exact=True).digest(thing)


class _Digester:
    """Describes values by bytes that are equal if, and nearly only if, the values are.

    Parameters
    ----------
    is_exact : bool
        Whether numbers of different types are different.
    """

    def __init__(self, *, is_exact: bool) -> None:
        self._is_exact = is_exact

    def digest(self, thing: Any) -> bytes:
        kind, parts = self._description(thing)
        hasher = hashlib.blake2b(kind.encode(), digest_size=_DIGEST_NBYTES)
        for part in parts:
            hasher.update(len(part).to_bytes(8, "big"))
            hasher.update(part)
        return hasher.digest()

    def _description(self, thing: Any) -> _Described:
        """Return what kind of value it is, and the bytes that make it what it is."""
        return (
            self._scalar(thing)
            or self._container(thing)
            or self._named(thing)
            or self._time(thing)
            or self._state(thing)
        )

    def _scalar(self, thing: Any) -> _Described | None:
        if thing is None or thing is Ellipsis or thing is NotImplemented:
            return "constant", [repr(thing).encode()]
        if isinstance(thing, str):
            return "str", [str.encode(thing, "utf-8", "surrogatepass")]
        if isinstance(thing, bytes | bytearray | memoryview):
            return "bytes", [bytes(thing)]  # bytearrays are equal to bytes
        if isinstance(thing, numbers.Number):
            kind = _qualified_name(type(thing)) if self._is_exact else b""
            return "number", [kind, repr(_number(thing)).encode()]
        return self._numpy_scalar(thing)

    def _numpy_scalar(self, thing: Any) -> _Described | None:
        """Describe bool_, datetime64 and timedelta64; the other scalars are Numbers."""
        if type(thing).__module__ != "numpy" or getattr(thing, "ndim", None) != 0:
            return None
        plain = thing.item()
        return None if type(plain).__module__ == "numpy" else self._description(plain)

    def _container(self, thing: Any) -> _Described | None:
        if isinstance(thing, tuple):
            return "tuple", [self.digest(part) for part in thing]
        if isinstance(thing, list):
            return "list", [self.digest(part) for part in thing]
        if isinstance(thing, frozenset | set):
            return "set", sorted(self.digest(part) for part in thing)
        if isinstance(thing, Mapping):
            pairs = ((self.digest(key), self.digest(value)) for key, value in thing.items())
            return "mapping", sorted(key + value for key, value in pairs)
        return None

    def _named(self, thing: Any) -> _Described | None:
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
            made_of = (thing.func, thing.args, thing.keywords)
            return "partial", [self.digest(part) for part in made_of]
        return None

    def _time(self, thing: Any) -> _Described | None:
        if isinstance(thing, datetime):
            return "datetime", _datetime(thing)
        if isinstance(thing, date):
            return "date", [thing.isoformat().encode()]
        if isinstance(thing, timedelta):
            return "timedelta", [repr((thing.days, thing.seconds, thing.microseconds)).encode()]
        if isinstance(thing, time):
            return "time", _datetime(datetime.combine(date(2000, 1, 2), thing))
        return None

    def _state(self, thing: Any) -> _Described:
        if dataclasses.is_dataclass(thing):
            compared = [field.name for field in dataclasses.fields(thing) if field.compare]
            parts = [self.digest(getattr(thing, name)) for name in compared]
            return "dataclass", [_qualified_name(type(thing)), *parts]
        reduced = thing.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        if isinstance(reduced, str):
            return "global", [_qualified_name(type(thing)), reduced.encode()]
        function, arguments, *state = reduced
        plain_state = state[0] if state else None
        items = [list(part) for part in state[1:3] if part is not None]
        parts = [self.digest(part) for part in (function, arguments, plain_state, items)]
        return "state", parts


def _number(number: Any) -> tuple[Any, ...]:
    """Return what is equal for equal numbers of any type.

    The hash alone will not do for names: those of 1 and 2**61 are one, as are those of -1 and -2.
    """
    if number != number:  # noqa: PLR0124 - not a number; Python 3.10 and later hash it by identity
        return ("nan",)
    value = int.__hash__(number) if isinstance(number, int) else hash(number)
    if isinstance(number, numbers.Complex) and not isinstance(number, numbers.Real):
        if number.imag:
            return value, float(number.real), float(number.imag)
        number = number.real
    try:
        as_float = float(number)
    except OverflowError:
        return (value,)  # of an int or a Fraction; a Decimal becomes infinite
    return (value,) if math.isinf(as_float) else (value, as_float or 0.0)  # not -0.0


def _datetime(moment: datetime) -> list[bytes]:
    if moment != moment:  # noqa: PLR0124 - pandas.NaT
        return []
    is_aware = moment.utcoffset() is not None
    if is_aware:  # equal instants are equal in any time zone
        moment = moment.astimezone(UTC)
    return [repr((is_aware, *moment.timetuple()[:6], moment.microsecond)).encode()]


def _qualified_name(thing: Any) -> bytes:
    module = getattr(thing, "__module__", "")
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", "")
    return f"{module}.{name}".encode()
