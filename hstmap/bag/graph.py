"""What a Bag is made of: immutable nodes, each an operation on the partitions of its parents.

Nothing here runs anything. `hstmap.bag.plan` decides which nodes share a task, and
`hstmap.bag.program` carries them out in the worker.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hstmap.bag.failures import Place
from hstmap.bag.values import Value

__all__ = ["Link", "Need", "Node", "Operation", "Source", "topological"]


class Need(NamedTuple):
    """One partition that an operation needs.

    Parameters
    ----------
    parent : int
        Which of the node's parents.
    partition : int
        Which of that parent's partitions.
    piece : int, optional
        Which piece of it, for a parent that scatters; None: all of it.
    """

    parent: int
    partition: int
    piece: int | None = None


class Link(enum.Enum):
    """How the partitions of a node hang on those of one parent."""

    ALIGNED = "partition i needs partition i"
    ONE_TO_ONE = "each partition needs at most one, and no two the same"
    WIDE = "anything else: the parent has to be complete first"


class Operation:
    """How one partition of a node comes from the partitions of its parents.

    Subclasses are frozen dataclasses that travel to the workers; nodes never do.

    Attributes
    ----------
    scatters : bool
        Whether `evaluate` gives pieces that are asked for one by one, instead of a partition.
    n_pieces : int
        How many pieces that is.
    keeps_failures : bool
        Whether failed items pass through, so that a lost task may become one. Operations without
        this refuse failed items.
    restricts : bool
        Whether complete results do not need all partitions of the parents.
    starts_task : bool
        Whether it must not share a task with its parents, so that it sees what became of theirs.
    """

    scatters: bool = False
    n_pieces: int = 1
    keeps_failures: bool = True
    restricts: bool = False
    starts_task: bool = False

    def needs(self, index: int, /) -> Sequence[Need]:
        """Return what partition `index` needs."""
        raise NotImplementedError

    def link(self, _parent: int, /) -> Link:
        """Return how this hangs on the parent of that number."""
        return Link.WIDE

    def evaluate(self, values: Iterator[Any], place: Place, /) -> Any:
        """Make one partition.

        Parameters
        ----------
        values : iterator
            What was needed, in the order of `needs`, each fetched when it is asked for.
        place : Place
            Which partition this is, and whether exceptions of the user's functions become
            `~hstmap.bag.failures.Failure` items.

        Returns
        -------
        object
            An iterable, as lazy as it can be; for a scalar node the scalar; for an operation that
            scatters, an iterable of pieces.
        """
        raise NotImplementedError


class Source(Operation):
    """An operation without parents whose partitions the client already has."""

    def partition(self, index: int) -> Value:
        """Return one partition, in the form in which it goes to a worker."""
        raise NotImplementedError

    def partition_nbytes(self) -> int | None:
        """Estimate what the client sends of a partition, bytes; None if that is not known."""
        raise NotImplementedError

    def needs(self, _index: int, /) -> Sequence[Need]:
        """Return nothing."""
        return ()


@dataclass(frozen=True, eq=False)
class Node:
    """A step of a collection.

    Parameters
    ----------
    label : str
        Name for people, such as ``"map-increment"``.
    operation : Operation
    parents : tuple of Node
    n_partitions : int
    scalar : bool
        Whether its one partition is a value, not an iterable of items.
    """

    label: str
    operation: Operation
    parents: tuple[Node, ...]
    n_partitions: int
    scalar: bool = False

    def link(self, parent: int) -> Link:
        """Return how this hangs on the parent of that number."""
        above = self.parents[parent]
        if above.operation.scatters or self.operation.starts_task:
            return Link.WIDE
        if self.n_partitions == 1 and above.n_partitions == 1:
            return Link.ALIGNED
        return self.operation.link(parent)


def topological(targets: Sequence[Node]) -> list[Node]:
    """Return the nodes that the targets need, and these, parents before children."""
    order: list[Node] = []
    seen: set[Node] = set()
    # A chain of ten thousand steps must not meet Python's recursion limit.
    stack: list[tuple[Node, bool]] = [(target, False) for target in reversed(targets)]
    while stack:
        node, parents_done = stack.pop()
        if parents_done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((parent, False) for parent in reversed(node.parents))
    return order
