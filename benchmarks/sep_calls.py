"""The calls of SEP that a measurement makes, recorded once and made again without anything else.

That is the bound: nothing that measures the same can be faster than those calls on arrays that are
in memory already.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sep

#: Arrays of fewer bytes are kept without looking whether there is a copy of them.
_SMALL_NBYTES = 65_536


@dataclass(frozen=True)
class _Call:
    """A call of a function of SEP, or of a method of the last background."""

    name: str
    args: tuple[Any, ...]
    options: dict[str, Any]
    of_background: bool = False


@dataclass
class SepCalls:
    """Calls in their order, with the arrays as they were.

    Attributes
    ----------
    calls : list
    objects : numpy.ndarray or None
        What the last extraction gave.
    """

    calls: list[_Call] = field(default_factory=list)
    objects: Any = None
    _arrays: list[np.ndarray] = field(default_factory=list)

    def add(self, name: str, args: Any, options: Any, of_background: bool = False) -> None:
        """Keep a call, with copies of what it is given."""
        kept = tuple(self._kept(value) for value in args)
        named = {key: self._kept(value) for key, value in options.items()}
        self.calls.append(_Call(name, kept, named, of_background))

    def _kept(self, value: Any) -> Any:
        """Copy an array, unless an equal one is kept already."""
        if not isinstance(value, np.ndarray):
            return value
        if value.nbytes > _SMALL_NBYTES:
            for array in self._arrays:
                if array.dtype == value.dtype and np.array_equal(array, value, equal_nan=True):
                    return array
            self._arrays.append(value.copy())
            return self._arrays[-1]
        return value.copy()

    def names(self) -> list[str]:
        """Name the calls."""
        return [call.name for call in self.calls]

    def replay(self) -> Any:
        """Make them all again.

        Returns
        -------
        numpy.ndarray
            What the extraction gave.
        """
        model, objects = None, None
        for call in self.calls:
            function = getattr(model if call.of_background else sep, call.name)
            answer = function(*call.args, **call.options)
            if call.name == "Background":
                model = answer
            elif call.name == "extract":
                objects = answer
        return objects


class _Background:
    """`sep.Background` that tells which of its methods are called."""

    def __init__(self, record: SepCalls, make: Callable[..., Any], args: Any, options: Any) -> None:
        record.add("Background", args, options)
        self._record, self._model = record, make(*args, **options)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._model, name)
        if not callable(value):
            return value

        def call(*args: Any, **options: Any) -> Any:
            self._record.add(name, args, options, of_background=True)
            return value(*args, **options)

        return call


@contextmanager
def recorded() -> Iterator[SepCalls]:
    """Record the calls that are made inside.

    Yields
    ------
    SepCalls

    Raises
    ------
    RuntimeError
        If there was no background or no extraction: then SEP was reached in another way, and a
        bound made of this would be none.
    """
    record = SepCalls()
    originals = {
        name: value
        for name, value in vars(sep).items()
        if not name.startswith("_") and _is_function(value)
    }

    def telling(name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            record.add(name, args, options)
            answer = originals[name](*args, **options)
            if name == "extract":
                record.objects = answer
            return answer

        return call

    background = sep.Background
    sep.Background = lambda *args, **options: _Background(record, background, args, options)
    for name in originals:
        setattr(sep, name, telling(name))
    try:
        yield record
    finally:
        sep.Background = background
        for name, function in originals.items():
            setattr(sep, name, function)
    if missing := {"Background", "extract"} - set(record.names()):
        raise RuntimeError(f"SEP was not called through its module: no {', '.join(missing)}")


def _is_function(value: Any) -> bool:
    return isinstance(value, types.FunctionType | types.BuiltinFunctionType) or (
        type(value).__name__ == "cython_function_or_method"
    )
