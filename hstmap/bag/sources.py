"""Where bags begin: sequences that the client has, and results that were kept."""

from __future__ import annotations

import math
import pickle
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hstmap.bag.graph import Node, Source
from hstmap.bag.values import Direct, Packed, Spill, Stored, Value
from hstmap.errors import UsageError

__all__ = ["KeptPartitions", "SequenceSlices", "kept_node", "range_node", "sequence_node"]

FEW_ITEMS = 100
"""Up to so many items get a partition each by default, as in `dask.bag`."""


@dataclass(frozen=True)
class SequenceSlices(Source):
    """Partitions that are slices of a sequence.

    Parameters
    ----------
    sequence : sequence
        Kept, not copied; sliced only when a task is sent off.
    size : int
        Items of a partition.
    n_partitions : int
        The last one has what is left.
    as_lists : bool
        Whether partitions are lists, or slices of the sequence's own type.
    """

    sequence: Sequence[Any]
    size: int
    n_partitions: int
    as_lists: bool = True

    def partition(self, index: int) -> Value:
        """See `Source.partition`."""
        start = index * self.size
        is_last = index == self.n_partitions - 1
        part = self.sequence[start:] if is_last else self.sequence[start : start + self.size]
        return Direct(list(part) if self.as_lists else part)

    def partition_nbytes(self) -> int | None:
        """See `Source.partition_nbytes`."""
        value = self.partition(0)
        try:
            return len(pickle.dumps(value))
        except (pickle.PicklingError, TypeError, AttributeError):
            return None


@dataclass(frozen=True)
class KeptPartitions(Source):
    """Partitions that were computed before.

    Parameters
    ----------
    values : tuple of Value
    lease : object
        Removes what is stored when it is not needed any more.
    """

    values: tuple[Value, ...]
    lease: Any = field(default=None, repr=False)

    def partition(self, index: int) -> Value:
        """See `Source.partition`."""
        return self.values[index]

    def partition_nbytes(self) -> int | None:
        """See `Source.partition_nbytes`."""
        sizes = [_value_nbytes(value) for value in self.values]
        known = [size for size in sizes if size is not None]
        return sum(known) // len(known) if len(known) == len(sizes) else None


def _value_nbytes(value: Value) -> int | None:
    if isinstance(value, Packed):
        return len(value.data)
    if isinstance(value, Stored):
        return 0  # the worker fetches it
    return None


class Lease:
    """Holds what a computation stored, for as long as something refers to it.

    Parameters
    ----------
    spill : Spill
    """

    def __init__(self, spill: Spill) -> None:
        self._finalizer = weakref.finalize(self, spill.remove)

    def end(self) -> None:
        """Remove what was stored, now. May be repeated."""
        self._finalizer()


def sequence_node(
    sequence: Iterable[Any], partition_size: int | None, npartitions: int | None
) -> Node:
    """Return the node of a sequence that is cut into partitions; see `hstmap.from_sequence`."""
    items: Sequence[Any] = _frozen(sequence)
    n_items = len(items)
    if npartitions is not None and npartitions < 1:
        raise UsageError(f"npartitions is {npartitions}; give 1 or more")
    if partition_size is None:
        partition_size = _default_size(n_items, npartitions)
    if partition_size < 1:
        raise UsageError(f"partition_size is {partition_size}; give 1 or more")
    n_partitions = max(1, -(-n_items // partition_size))
    return Node(
        "from_sequence", SequenceSlices(items, partition_size, n_partitions), (), n_partitions
    )


def _default_size(n_items: int, npartitions: int | None) -> int:
    if npartitions is None:
        return 1 if n_items <= FEW_ITEMS else max(1, math.ceil(math.sqrt(n_items) / 10))
    if n_items <= FEW_ITEMS:
        return max(1, math.ceil(n_items / npartitions))
    return max(1, n_items // npartitions)


def _frozen(sequence: Iterable[Any]) -> Sequence[Any]:
    """Return a sequence that nobody else will change; only what cannot change is not copied."""
    if isinstance(sequence, range | tuple | str | bytes):
        return sequence
    if getattr(sequence, "is_frozen_rows", False):
        return sequence  # type: ignore[return-value]
    return list(sequence)


def range_node(n: int, npartitions: int) -> Node:
    """Return the node of the numbers below `n`; see `hstmap.range`."""
    if npartitions < 1 or n < 0:
        raise UsageError(f"n is {n} and npartitions is {npartitions}; give 0 and 1, or more")
    size = max(1, n // npartitions)
    slices = SequenceSlices(range(n), size, npartitions, as_lists=False)
    return Node(f"range-{n}", slices, (), npartitions)


def kept_node(label: str, values: Sequence[Value], lease: Lease | None, *, scalar: bool) -> Node:
    """Return the node of partitions that were computed."""
    return Node(label, KeptPartitions(tuple(values), lease), (), len(values), scalar=scalar)
