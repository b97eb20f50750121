"""Arrow's arrays and scalars of Python's values, without pandas.

`pyarrow.array` and `pyarrow.scalar` import pandas, where it is installed, to see whether what they
are given is pandas': 33 MB and 0.3 s of a client that has only lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

__all__ = ["array_of", "null_of", "scalar_of"]

_LARGEST_INT32: Final = 2**31 - 1


def array_of(values: Sequence[object]) -> Any:
    """Make what `pyarrow.array` makes, without pandas where the values are plain.

    Parameters
    ----------
    values : sequence
        Plain are lists and tuples of texts, of integers, of floats or of booleans, with None for
        what is unknown.

    Returns
    -------
    pyarrow.Array

    Raises
    ------
    pyarrow.ArrowException, OverflowError, UnicodeEncodeError
        As `pyarrow.array` does.
    """
    import pyarrow as pa

    if isinstance(values, list | tuple):
        kinds = set(map(type, values)) - {type(None)}
        if not kinds:
            return pa.nulls(len(values))
        made = _texts(values) if kinds == {str} else _numbers(values, kinds)
        if made is not None:
            return made
    return pa.array(values)


def scalar_of(value: str | float | bool) -> Any:
    """Make what `pyarrow.scalar` makes of a text, a number or a boolean.

    Parameters
    ----------
    value : str, int, float or bool

    Returns
    -------
    pyarrow.Scalar
    """
    return array_of([value])[0]


def null_of(kind: pa.DataType) -> Any:
    """Make the unknown value of a type.

    Parameters
    ----------
    kind : pyarrow.DataType

    Returns
    -------
    pyarrow.Scalar
    """
    import pyarrow as pa

    return pa.nulls(1, kind)[0]


def _texts(values: Sequence[Any]) -> Any:
    """Make an array of texts; None where pyarrow itself had better."""
    import numpy as np
    import pyarrow as pa

    try:
        encoded = [b"" if value is None else value.encode() for value in values]
    except UnicodeEncodeError:
        return None
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    if offsets[-1] > _LARGEST_INT32:
        return None
    buffers = [pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), [_validity(values), *buffers])


def _numbers(values: Sequence[Any], kinds: set[type]) -> Any:
    """Make an array of numbers or booleans of one kind; None where pyarrow itself had better."""
    import numpy as np
    import pyarrow as pa

    known = [0 if value is None else value for value in values]
    try:
        if kinds == {bool}:
            kind, data = pa.bool_(), _bits(np.array(known, dtype=np.bool_))
        elif kinds == {int}:
            kind, data = pa.int64(), pa.py_buffer(np.array(known, dtype=np.int64))
        elif kinds == {float}:
            kind, data = pa.float64(), pa.py_buffer(np.array(known, dtype=np.float64))
        else:
            return None
    except OverflowError:
        return None
    return pa.Array.from_buffers(kind, len(known), [_validity(values), data])


def _validity(values: Sequence[object]) -> Any:
    """Make the bitmap of what is known; None if all is."""
    import numpy as np

    if None not in values:
        return None
    return _bits(np.array([value is not None for value in values]))


def _bits(flags: np.ndarray[Any, np.dtype[np.bool_]]) -> Any:
    """Pack booleans as Arrow has them, the first one in the lowest bit."""
    import numpy as np
    import pyarrow as pa

    return pa.py_buffer(np.packbits(flags, bitorder="little"))
