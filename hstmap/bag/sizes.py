"""Sizes in memory: of partitions, and of what people write for them."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from hstmap.errors import UsageError

__all__ = ["memory_nbytes", "parse_nbytes", "runs_of_nbytes"]

_N_SAMPLES = 10
_UNITS = {
    "": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15,
    "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40, "pi": 2**50,
}  # fmt: skip


def memory_nbytes(thing: Any) -> int:
    """Estimate the memory that an object takes, bytes.

    Parameters
    ----------
    thing : object
        Of a container, ten items spread over it stand for all; arrays and tables say theirs.

    Returns
    -------
    int
    """
    if isinstance(thing, Iterator):
        thing = list(thing)
    own = sys.getsizeof(thing)
    if isinstance(thing, list | tuple | set | frozenset):
        return own + _items_nbytes(thing)
    if isinstance(thing, dict):
        return own + _items_nbytes(thing.keys()) + _items_nbytes(thing.values())
    nbytes = getattr(thing, "nbytes", None)
    return max(own, nbytes) if isinstance(nbytes, int) else own


def _items_nbytes(items: Any) -> int:
    step = max(1, len(items) // _N_SAMPLES)
    samples = [memory_nbytes(item) for item in itertools.islice(items, 0, None, step)]
    return sum(samples) * len(items) // len(samples) if samples else 0


def parse_nbytes(text: int | str) -> int:
    """Return a number of bytes.

    Parameters
    ----------
    text : int or str
        A number, or one with a unit: ``"5MB"``, ``"1.5 GiB"``, ``"800 k"``.

    Raises
    ------
    UsageError
        If it is none, or less than 1.

    Examples
    --------
    >>> parse_nbytes("5MB"), parse_nbytes("1KiB"), parse_nbytes(7)
    (5000000, 1024, 7)
    """
    match = re.fullmatch(r"\s*([0-9.eE+-]+)\s*([kmgtp]?i?)b?\s*", str(text), re.IGNORECASE)
    try:
        if match is None:
            raise ValueError(text)
        nbytes = int(float(match[1]) * _UNITS[match[2].lower()])
    except (ValueError, KeyError, OverflowError):
        raise UsageError(f"{text!r} is no size; give bytes, or text such as '5MB'") from None
    if nbytes < 1:
        raise UsageError(f"{text!r} is {nbytes} bytes; give 1 or more")
    return nbytes


def runs_of_nbytes(sizes: Sequence[float], largest_nbytes: int) -> list[int]:
    """Return the lengths of the longest runs of sizes that stay within a size.

    Examples
    --------
    >>> runs_of_nbytes([1, 1, 2, 3], 3)
    [2, 1, 1]
    """
    lengths: list[int] = []
    total = 0.0
    for size in sizes:
        if not lengths or total + size > largest_nbytes:
            lengths.append(0)
            total = 0.0
        lengths[-1] += 1
        total += size
    return lengths
