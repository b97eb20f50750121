"""Reductions: a step for each partition, then a tree of levels, each of them a map."""

from __future__ import annotations

import copy
import enum
import functools
import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from hstmap.bag.failures import Place, refuse_failures
from hstmap.bag.graph import Need, Node, Operation
from hstmap.bag.operations import Aligned
from hstmap.errors import UsageError

__all__ = [
    "NO_DEFAULT",
    "AggregateParts",
    "NoDefault",
    "ReducePartition",
    "tree",
]

DEFAULT_SPLIT_EVERY = 8
"""Partitions that one task of a level puts together, as in `dask.bag`."""


class NoDefault(enum.Enum):
    """The type of a parameter that was not given, where None could be meant."""

    NO_DEFAULT = "no default"


NO_DEFAULT: Literal[NoDefault.NO_DEFAULT] = NoDefault.NO_DEFAULT


class _NoResult(enum.Enum):
    """What an empty partition contributes. Members of an enumeration pickle as themselves."""

    NO_RESULT = "nothing"


def is_empty(part: Any) -> bool:
    """Return whether a partition, of whatever type, holds nothing; False if it cannot tell."""
    try:
        return len(part) == 0
    except TypeError:
        pass
    # Sparse matrices have no length.
    return getattr(part, "nnz", None) == 0 or 0 in getattr(part, "shape", ())


def _apply_unless_empty(function: Callable[[Any], Any], part: Any, is_last: bool) -> Any:
    if isinstance(part, Iterator):
        first = next(part, _NoResult.NO_RESULT)
        if first is not _NoResult.NO_RESULT:
            return function(itertools.chain((first,), part))
        return function(iter(())) if is_last else _NoResult.NO_RESULT
    if not is_last and is_empty(part):
        return _NoResult.NO_RESULT
    return function(part)


@dataclass(frozen=True)
class ReducePartition(Aligned):
    """Reduces each partition to one value; an empty one is left out unless it is the only one."""

    keeps_failures = False

    function: Callable[[Any], Any] = list
    is_last: bool = False

    def evaluate(self, values: Iterator[Any], place: Place, /) -> Any:
        """See `Operation.evaluate`."""
        part = refuse_failures(next(values), place)
        return _apply_unless_empty(self.function, part, self.is_last)


@dataclass(frozen=True)
class AggregateParts(Operation):
    """One level of a tree: puts `width` values of the level below together."""

    keeps_failures = False

    function: Callable[[Any], Any]
    width: int
    n_parts: int
    is_last: bool

    def needs(self, index: int, /) -> Sequence[Need]:
        """See `Operation.needs`."""
        start = index * self.width
        return [Need(0, part) for part in range(start, min(start + self.width, self.n_parts))]

    def evaluate(self, values: Iterator[Any], _place: Place, /) -> Any:
        """See `Operation.evaluate`."""
        parts = (value for value in values if value is not _NoResult.NO_RESULT)
        return _apply_unless_empty(self.function, parts, self.is_last)


SplitEvery: TypeAlias = int | Literal[False] | None


class Reduction(NamedTuple):
    """The two functions of a reduction, and their names.

    Parameters
    ----------
    per_partition : callable
        Makes one value of the items of a partition.
    aggregate : callable
        Makes one value of an iterable of such values.
    part_label, aggregate_label : str
    """

    per_partition: Callable[[Any], Any]
    aggregate: Callable[[Any], Any]
    part_label: str
    aggregate_label: str


def tree(node: Node, reduction: Reduction, split_every: SplitEvery, *, scalar: bool) -> Node:
    """Return the last node of a reduction of a bag.

    Parameters
    ----------
    node : Node
        The bag.
    reduction : Reduction
    split_every : int, optional
        Values that are put together by one task: the width of the tree. None: 8. False: all.
    scalar : bool
        Whether the result is a scalar.

    Raises
    ------
    UsageError
        If split_every is less than 2.
    """
    width = _width(split_every, node.n_partitions)
    parts = Node(
        reduction.part_label,
        ReducePartition(function=reduction.per_partition, is_last=node.n_partitions == 1),
        (node,),
        node.n_partitions,
        scalar=True,
    )
    while True:
        n_parts = parts.n_partitions
        is_last = n_parts <= width
        parts = Node(
            reduction.aggregate_label,
            AggregateParts(reduction.aggregate, width, n_parts, is_last),
            (parts,),
            -(-n_parts // width),
            scalar=scalar or not is_last,
        )
        if is_last:
            return parts


def _width(split_every: SplitEvery, n_partitions: int) -> int:
    if split_every is None:
        return DEFAULT_SPLIT_EVERY
    if split_every is False:
        return max(2, n_partitions)
    if split_every < 2:
        raise UsageError(
            f"split_every is {split_every}; give 2 or more (values that one task puts together), "
            "or False for all at once"
        )
    return split_every


# -- The functions of the named reductions. They travel by reference: hstmap is on the worker. -----


@dataclass(frozen=True)
class FoldItems:
    """Folds items with a function of two, starting anew with each partition."""

    binop: Callable[[Any, Any], Any]
    initial: Any = NO_DEFAULT

    def __call__(self, items: Iterable[Any]) -> Any:
        if self.initial is NO_DEFAULT:
            return functools.reduce(self.binop, items)
        # A binop that changes its first argument must not change the next partition's start.
        return functools.reduce(self.binop, items, copy.deepcopy(self.initial))


@dataclass(frozen=True)
class FoldTotals:
    """Folds the totals of partitions; of no partition that had items it is the initial total."""

    combine: Callable[[Any, Any], Any]
    initial: Any = NO_DEFAULT

    def __call__(self, totals: Iterable[Any]) -> Any:
        known = iter(totals)
        first = next(known, self.initial)
        if first is NO_DEFAULT:
            raise TypeError("fold of an empty bag with no initial value")
        return functools.reduce(self.combine, known, first)


def count_items(items: Iterable[Any]) -> int:
    """Count the items."""
    if isinstance(items, Sized):
        return len(items)
    return sum(1 for _ in items)


def sum_and_count(items: Iterable[Any]) -> tuple[Any, int]:
    """Return the sum of the items, as float at least, and their number."""
    total: Any = 0.0
    n_items = 0
    for item in items:
        total += item
        n_items += 1
    return total, n_items


def add_sums(parts: Iterable[tuple[Any, int]]) -> tuple[Any, int]:
    """Add sums and numbers up."""
    total: Any = 0.0
    n_items = 0
    for part_total, n_part in parts:
        total += part_total
        n_items += n_part
    return total, n_items


def mean_of_sum(total_and_count: tuple[Any, int]) -> Any:
    """Return the mean from a sum and a number."""
    total, n_items = total_and_count
    return total / n_items


class Moments(NamedTuple):
    """Number of items, their mean and the sum of their squared deviations from it."""

    n_items: int
    mean: float
    squares: float


def moments(items: Iterable[Any]) -> Moments:
    """Return the moments of items, by two passes."""
    values = list(items)
    if not values:
        return Moments(0, 0.0, 0.0)
    mean = float(sum(values)) / len(values)
    return Moments(len(values), mean, float(sum((value - mean) ** 2 for value in values)))


def add_moments(parts: Iterable[Moments]) -> Moments:
    """Combine moments: Chan, Golub & LeVeque 1983, The American Statistician 37, 242."""
    known = [part for part in parts if part.n_items]
    n_items = sum(part.n_items for part in known)
    if not n_items:
        return Moments(0, 0.0, 0.0)
    mean = sum(part.n_items * part.mean for part in known) / n_items
    squares = sum(part.squares + part.n_items * (part.mean - mean) ** 2 for part in known)
    return Moments(n_items, mean, squares)


@dataclass(frozen=True)
class Variance:
    """The variance from moments."""

    ddof: int

    def __call__(self, total: Moments) -> float:
        return total.squares / (total.n_items - self.ddof)


def frequencies(items: Iterable[Any]) -> dict[Any, int]:
    """Count how often each item occurs, in the order of first occurrence."""
    counts: dict[Any, int] = {}
    for item in items:
        counts[item] = counts.get(item, 0) + 1
    return counts


def merge_frequencies(parts: Iterable[Mapping[Any, int]]) -> dict[Any, int]:
    """Add counts up."""
    merged: dict[Any, int] = {}
    for part in parts:
        for item, n_occurrences in part.items():
            merged[item] = merged.get(item, 0) + n_occurrences
    return merged


def dict_items(mapping: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    """Return the items of a mapping as a list."""
    return list(mapping.items())


def sorted_by_count(pairs: Iterable[tuple[Any, int]]) -> list[tuple[Any, int]]:
    """Sort pairs by their second element, the largest first; equals keep their order."""
    return sorted(pairs, key=lambda pair: pair[1], reverse=True)


@dataclass(frozen=True)
class Largest:
    """The k largest items by a key, the largest first; of equals, the first ones."""

    k: int
    key: Callable[[Any], Any] | None = None

    def __call__(self, items: Iterable[Any]) -> list[Any]:
        return heapq.nlargest(self.k, items, key=self.key)


@dataclass(frozen=True)
class Distinct:
    """The first item for each value of a key."""

    key: Callable[[Any], Any] | None = None

    def __call__(self, items: Iterable[Any]) -> list[Any]:
        first: dict[Any, Any] = {}
        for item in items:
            first.setdefault(item if self.key is None else self.key(item), item)
        return list(first.values())


@dataclass(frozen=True)
class Again:
    """Does with the items of all parts what was done with those of each."""

    function: Callable[[Iterable[Any]], Any]

    def __call__(self, parts: Iterable[Iterable[Any]]) -> Any:
        return self.function(itertools.chain.from_iterable(parts))


@dataclass(frozen=True)
class FoldByKey:
    """Folds the items of each key."""

    key: Callable[[Any], Any]
    binop: Callable[[Any, Any], Any]
    initial: Any = NO_DEFAULT

    def __call__(self, items: Iterable[Any]) -> dict[Any, Any]:
        folded: dict[Any, Any] = {}
        for item in items:
            key = self.key(item)
            if key in folded:
                folded[key] = self.binop(folded[key], item)
            elif self.initial is NO_DEFAULT:
                folded[key] = item
            else:
                folded[key] = self.binop(_fresh(self.initial), item)
        return folded


@dataclass(frozen=True)
class CombineByKey:
    """Combines what partitions folded for each key."""

    combine: Callable[[Any, Any], Any]
    initial: Any = NO_DEFAULT

    def __call__(self, parts: Iterable[Mapping[Any, Any]]) -> dict[Any, Any]:
        combined: dict[Any, Any] = {}
        for part in parts:
            for key, total in part.items():
                if key in combined:
                    combined[key] = self.combine(combined[key], total)
                elif self.initial is NO_DEFAULT:
                    combined[key] = total
                else:
                    combined[key] = self.combine(_fresh(self.initial), total)
        return combined


def _fresh(initial: Any) -> Any:
    return initial() if callable(initial) else copy.deepcopy(initial)
