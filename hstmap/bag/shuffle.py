"""``groupby``: equal keys meet in one partition, through storage, in rounds of bounded width.

With every partition reading from every other, 1,000 partitions would cost a million requests.
As `dask.bag` does, the way is made in rounds: in each, items are told apart by one more digit of
the number of the partition where they are bound, and no task reads from more than `max_branch`
others: 64,000 requests in two rounds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hstmap.bag.failures import Place, refuse_failures
from hstmap.bag.graph import Need, Node, Operation
from hstmap.bag.hashing import stable_hash
from hstmap.bag.operations import Aligned
from hstmap.errors import UsageError

__all__ = ["DEFAULT_MAX_BRANCH", "group_by"]

DEFAULT_MAX_BRANCH = 32
"""Tasks that one task reads from in a round, as in `dask.bag`."""


@dataclass(frozen=True)
class _Scatter(Aligned):
    """Sorts (bucket, key, item) into pieces, by one digit of the bucket."""

    keeps_failures = False
    scatters = True

    n_pieces: int = 1
    divisor: int = 1

    def evaluate(self, values: Iterator[Any], place: Place, /) -> Any:
        pieces: list[list[tuple[int, Any, Any]]] = [[] for _ in range(self.n_pieces)]
        for entry in self.entries(next(values), place):
            pieces[entry[0] // self.divisor % self.n_pieces].append(entry)
        return pieces

    def entries(self, part: Any, place: Place) -> Iterable[tuple[int, Any, Any]]:  # noqa: ARG002
        """Return what is sorted."""
        entries: Iterable[tuple[int, Any, Any]] = part
        return entries


@dataclass(frozen=True)
class _ScatterItems(_Scatter):
    """The first round: finds each item's key, and from it the partition where it is bound."""

    grouper: Callable[[Any], Any] = bool
    n_buckets: int = 1

    def entries(self, part: Any, place: Place) -> Iterable[tuple[int, Any, Any]]:
        for item in refuse_failures(iter(part), place):
            key = self.grouper(item)
            yield stable_hash(key) % self.n_buckets, key, item


@dataclass(frozen=True)
class _Round:
    """Where things are in a round: `n_slots` tasks share the items of each prefix of digits.

    Task number ``prefix * n_slots + slot`` of a round gathers piece ``prefix % width`` of tasks of
    the round before; the last round has one slot.
    """

    width: int
    n_prefixes: int
    n_slots: int
    n_slots_before: int

    def needs(self, index: int, /) -> Sequence[Need]:
        prefix, slot = divmod(index, self.n_slots)
        before, digit = divmod(prefix, self.width)
        start = slot * self.width
        end = min(start + self.width, self.n_slots_before)
        return [
            Need(0, before * self.n_slots_before + slot_before, digit)
            for slot_before in range(start, end)
        ]


@dataclass(frozen=True)
class _Gather(Operation):
    """Puts the pieces of a round together again."""

    keeps_failures = False

    round: _Round

    def needs(self, index: int, /) -> Sequence[Need]:
        return self.round.needs(index)

    def evaluate(self, values: Iterator[Any], _place: Place, /) -> Any:
        return (entry for piece in values for entry in piece)


@dataclass(frozen=True)
class _GatherGroups(_Gather):
    """The last round: one list of items for each key."""

    def evaluate(self, values: Iterator[Any], place: Place, /) -> Any:
        groups: dict[Any, list[Any]] = {}
        for _, key, item in super().evaluate(values, place):
            groups.setdefault(key, []).append(item)
        return list(groups.items())


def group_by(bag: Node, grouper: Callable[[Any], Any], n_partitions: int, max_branch: int) -> Node:
    """Return the bag of (key, list of items).

    Parameters
    ----------
    bag : Node
    grouper : callable
        Gives the key of an item.
    n_partitions : int
        Partitions of the result.
    max_branch : int
        Tasks that one task reads from, and pieces that it writes.

    Raises
    ------
    UsageError
        If a number is too small.
    """
    if n_partitions < 1 or max_branch < 2:
        raise UsageError(
            f"npartitions is {n_partitions} and max_branch is {max_branch}; give 1 or more and 2 "
            "or more"
        )
    width, n_rounds = _shape(max(n_partitions, bag.n_partitions), max_branch)
    node = bag
    n_prefixes, n_slots = 1, bag.n_partitions
    scatter: _Scatter = _ScatterItems(grouper=grouper, n_buckets=n_partitions)
    for number in range(1, n_rounds + 1):
        divisor = width ** (n_rounds - number)
        scatter = dataclasses.replace(scatter, n_pieces=width, divisor=divisor)
        scattered = Node("groupby-scatter", scatter, (node,), n_prefixes * n_slots)
        n_slots_before, n_slots = n_slots, -(-n_slots // width)
        # Prefixes that no bucket begins with need no task.
        n_prefixes = -(-n_partitions // divisor)
        this_round = _Round(width, n_prefixes, n_slots, n_slots_before)
        is_last = number == n_rounds
        gather = _GatherGroups(this_round) if is_last else _Gather(this_round)
        label = "groupby" if is_last else "groupby-gather"
        node = Node(label, gather, (scattered,), n_prefixes * n_slots)
        scatter = _Scatter()
    return node


def _shape(n_largest: int, max_branch: int) -> tuple[int, int]:
    """Return the width of the rounds and their number: ``width ** n_rounds >= n_largest``."""
    n_rounds = 1
    while max_branch**n_rounds < n_largest:
        n_rounds += 1
    width = max(2, round(n_largest ** (1 / n_rounds)))
    while width**n_rounds < n_largest:
        width += 1
    return width, n_rounds
