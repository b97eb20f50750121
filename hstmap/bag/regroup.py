"""Operations that change which partition an item is in, and those that need an order."""

from __future__ import annotations

import bisect
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hstmap.bag.failures import Place, refuse_failures
from hstmap.bag.graph import Link, Need, Node, Operation
from hstmap.bag.operations import Aligned
from hstmap.bag.reductions import NO_DEFAULT

__all__ = ["accumulate", "concatenate", "merge", "product", "split", "take"]


@dataclass(frozen=True)
class _Concatenate(Operation):
    """The partitions of all parents, one after another."""

    ends: tuple[int, ...]  # of each parent, the number of the partition after its last

    def needs(self, index: int, /) -> Sequence[Need]:
        parent = bisect.bisect_right(self.ends, index)
        start = self.ends[parent - 1] if parent else 0
        return (Need(parent, index - start),)

    def link(self, _parent: int, /) -> Link:
        return Link.ONE_TO_ONE

    def evaluate(self, values: Iterator[Any], _place: Place, /) -> Any:
        return next(values)


def concatenate(bags: Sequence[Node]) -> Node:
    """Return the node of the partitions of all bags."""
    ends = tuple(itertools.accumulate(bag.n_partitions for bag in bags))
    return Node("concat", _Concatenate(ends), tuple(bags), ends[-1])


@dataclass(frozen=True)
class _Merge(Operation):
    """Each partition is the items of consecutive partitions of the parent."""

    boundaries: tuple[int, ...]

    def needs(self, index: int, /) -> Sequence[Need]:
        return [Need(0, part) for part in range(self.boundaries[index], self.boundaries[index + 1])]

    def evaluate(self, values: Iterator[Any], _place: Place, /) -> Any:
        return itertools.chain.from_iterable(values)


def merge(bag: Node, boundaries: Sequence[int]) -> Node:
    """Return a bag of fewer partitions: those between two boundaries become one."""
    return Node("repartition", _Merge(tuple(boundaries)), (bag,), len(boundaries) - 1)


@dataclass(frozen=True)
class _CutUp(Aligned):
    """Cuts each partition into pieces of nearly the same length."""

    scatters = True

    n_pieces_of: tuple[int, ...] = ()

    @property
    def n_pieces(self) -> int:  # type: ignore[override]
        """The most pieces that a partition is cut into."""
        return max(self.n_pieces_of)

    def evaluate(self, values: Iterator[Any], place: Place, /) -> Any:
        items = next(values)
        if not isinstance(items, list | tuple):
            items = list(items)
        n_pieces = self.n_pieces_of[place.partition]
        length = len(items) / n_pieces
        cuts = [int(length * piece) for piece in range(n_pieces)] + [len(items)]
        return [items[start:end] for start, end in itertools.pairwise(cuts)]


@dataclass(frozen=True)
class _TakePiece(Operation):
    """Partition i is one piece of one partition of the parent."""

    ends: tuple[int, ...]  # of each partition of the parent, the number after its last piece

    def needs(self, index: int, /) -> Sequence[Need]:
        partition = bisect.bisect_right(self.ends, index)
        start = self.ends[partition - 1] if partition else 0
        return (Need(0, partition, index - start),)

    def evaluate(self, values: Iterator[Any], _place: Place, /) -> Any:
        return next(values)


def split(bag: Node, n_pieces_of: Sequence[int]) -> Node:
    """Return a bag of more partitions: each is cut into its number of pieces."""
    if all(n_pieces == 1 for n_pieces in n_pieces_of):
        return bag
    cut_up = Node("split", _CutUp(n_pieces_of=tuple(n_pieces_of)), (bag,), bag.n_partitions)
    ends = tuple(itertools.accumulate(n_pieces_of))
    return Node("repartition", _TakePiece(ends), (cut_up,), ends[-1])


@dataclass(frozen=True)
class _Product(Operation):
    """Pairs of the items of two partitions; as many partitions as pairs of them."""

    keeps_failures = False

    n_right: int

    def needs(self, index: int, /) -> Sequence[Need]:
        left, right = divmod(index, self.n_right)
        return Need(0, left), Need(1, right)

    def evaluate(self, values: Iterator[Any], place: Place, /) -> Any:
        left, right = (refuse_failures(value, place) for value in values)
        return itertools.product(left, right)


def product(left: Node, right: Node) -> Node:
    """Return the bag of all pairs."""
    n_partitions = left.n_partitions * right.n_partitions
    return Node("product", _Product(right.n_partitions), (left, right), n_partitions)


@dataclass(frozen=True)
class _Accumulate(Operation):
    """All partitions one after another, in one task: each needs the total of those before it."""

    keeps_failures = False
    scatters = True

    binop: Callable[[Any, Any], Any]
    initial: Any
    n_pieces: int

    def needs(self, _index: int, /) -> Sequence[Need]:
        return [Need(0, partition) for partition in range(self.n_pieces)]

    def evaluate(self, values: Iterator[Any], place: Place, /) -> Any:
        total = self.initial
        for partition, part in enumerate(values):
            items = iter(refuse_failures(part, place._replace(partition=partition)))
            piece: list[Any] = []
            if partition == 0 and total is not NO_DEFAULT:
                piece.append(total)
            for item in items:
                total = item if total is NO_DEFAULT else self.binop(total, item)
                piece.append(total)
            yield piece


def accumulate(bag: Node, label: str, binop: Callable[[Any, Any], Any], initial: Any) -> Node:
    """Return the bag of the totals up to each item."""
    n_partitions = bag.n_partitions
    totals = Node(label, _Accumulate(binop, initial, n_partitions), (bag,), 1)
    pieces = tuple(range(1, n_partitions + 1))
    return Node(label, _PieceOfOne(pieces), (totals,), n_partitions)


@dataclass(frozen=True)
class _PieceOfOne(_TakePiece):
    """Partition i is piece i of the parent's only partition."""

    def needs(self, index: int, /) -> Sequence[Need]:
        return (Need(0, 0, index),)


@dataclass(frozen=True)
class _Head(Aligned):
    """The first items of each partition, of the first partitions only."""

    restricts = True

    n_items: int = 0

    def evaluate(self, values: Iterator[Any], _place: Place, /) -> Any:
        return itertools.islice(next(values), self.n_items)


@dataclass(frozen=True)
class _TakeFirst(Operation):
    """The first items of a few partitions, as one list."""

    n_items: int
    n_parts: int

    def needs(self, _index: int, /) -> Sequence[Need]:
        return [Need(0, part) for part in range(self.n_parts)]

    def evaluate(self, values: Iterator[Any], _place: Place, /) -> Any:
        return list(itertools.islice(itertools.chain.from_iterable(values), self.n_items))


def take(bag: Node, n_items: int, n_partitions: int) -> Node:
    """Return the bag of the first items of the first partitions, in one partition."""
    heads = Node("take-part", _Head(n_items=n_items), (bag,), n_partitions)
    return Node("take", _TakeFirst(n_items, n_partitions), (heads,), 1)


def warn_of_few(items: Iterable[Any], n_items: int) -> list[Any]:
    """Return the items as a list, with a warning if there are less than asked for."""
    found = list(items)
    if len(found) < n_items:
        warnings.warn(
            f"Insufficient elements for `take`. {n_items} elements requested, only {len(found)} "
            "elements available. Try passing larger `npartitions` to `take`.",
            stacklevel=3,
        )
    return found
