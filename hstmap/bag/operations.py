"""Operations that work item by item, or on one partition at a time: they fuse into one task."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hstmap.bag.arguments import Arguments
from hstmap.bag.failures import Failure, Place, hold_back_failures, refuse_failures
from hstmap.bag.graph import Link, Need, Operation

__all__ = [
    "Aligned",
    "CallWithValues",
    "FilterItems",
    "FlattenItems",
    "JoinItems",
    "MapItems",
    "MapPartitions",
    "RandomSample",
    "SplitFailures",
    "ZipItems",
]

_END = object()
_NO_ARGUMENTS = Arguments(())


@dataclass(frozen=True)
class Aligned(Operation):
    """Partition i comes from partition i of each parent, and from scalars.

    Parameters
    ----------
    scalars : tuple of bool
        Of each parent, whether it is a scalar.
    """

    scalars: tuple[bool, ...] = (False,)

    def needs(self, index: int, /) -> Sequence[Need]:
        """See `Operation.needs`."""
        return [Need(parent, 0 if scalar else index) for parent, scalar in enumerate(self.scalars)]

    def link(self, parent: int, /) -> Link:
        """See `Operation.link`."""
        return Link.WIDE if self.scalars[parent] else Link.ALIGNED


@dataclass(frozen=True)
class MapItems(Aligned):
    """``map``: a function of an item, of items of several bags, of scalars and of constants."""

    function: Callable[..., Any] = bool
    arguments: Arguments = _NO_ARGUMENTS

    def evaluate(self, values: Iterator[Any], place: Place, /) -> Any:
        """See `Operation.evaluate`."""
        filled = list(values)
        bags = [
            iter(value) for value, scalar in zip(filled, self.scalars, strict=True) if not scalar
        ]
        return _MappedItems(self, bags, filled, place)


class _MappedItems(Iterator[Any]):
    """Not a generator: one of these would hold an item until the next one is asked for."""

    def __init__(
        self, operation: MapItems, bags: list[Iterator[Any]], filled: list[Any], place: Place
    ) -> None:
        self._function = operation.function
        self._arguments = operation.arguments
        self._scalars = operation.scalars
        self._bags = bags
        self._filled = filled
        self._place = place
        self._index = -1
        self._is_plain = operation.arguments.is_one_slot()

    def __next__(self) -> Any:
        if self._is_plain:
            item = next(self._bags[0])
            self._index += 1
            if type(item) is Failure:
                return item
            return self._place.call(self._index, item, self._function, item)
        items = self._next_items()
        self._index += 1
        for item in items:
            if type(item) is Failure:
                return item
        given = iter(items)
        values = [
            value if scalar else next(given)
            for value, scalar in zip(self._filled, self._scalars, strict=True)
        ]
        shown = items[0] if len(items) == 1 else tuple(items)
        return self._place.call(self._index, shown, self._call, values)

    def _call(self, values: list[Any]) -> Any:
        positional, keywords = self._arguments.fill(values)
        return self._function(*positional, **keywords)

    def _next_items(self) -> list[Any]:
        items = [next(bag, _END) for bag in self._bags]
        n_ended = sum(item is _END for item in items)
        if n_ended == len(items):
            raise StopIteration
        if n_ended:
            raise ValueError(
                f"{self._place.step}: partition {self._place.partition} of one bag has "
                f"{self._index + 1} items and that of another has more; bags that are mapped "
                "together must be partitioned alike"
            )
        return items


@dataclass(frozen=True)
class CallWithValues(Aligned):
    """A function of scalars and constants, such as an `Item.apply`."""

    keeps_failures = False

    function: Callable[..., Any] = bool
    arguments: Arguments = _NO_ARGUMENTS

    def evaluate(self, values: Iterator[Any], _place: Place, /) -> Any:
        """See `Operation.evaluate`."""
        positional, keywords = self.arguments.fill(list(values))
        return self.function(*positional, **keywords)


@dataclass(frozen=True)
class FilterItems(Aligned):
    """``filter`` (``keep`` is True) and ``remove``."""

    predicate: Callable[[Any], Any] | None = None
    keep: bool = True

    def evaluate(self, values: Iterator[Any], place: Place, /) -> Any:
        """See `Operation.evaluate`."""
        return _FilteredItems(self, iter(next(values)), place)

    def verdict(self, item: Any) -> bool:
        """Return what the predicate says of an item."""
        return bool(item if self.predicate is None else self.predicate(item))


class _FilteredItems(Iterator[Any]):
    """Like `_MappedItems`, this does not hold the item that it gave."""

    def __init__(self, operation: FilterItems, items: Iterator[Any], place: Place) -> None:
        self._operation = operation
        self._items = items
        self._place = place
        self._index = -1

    def __next__(self) -> Any:
        for item in self._items:
            self._index += 1
            if type(item) is Failure:
                return item
            verdict = self._place.call(self._index, item, self._operation.verdict, item)
            if type(verdict) is Failure:
                return verdict
            if verdict is self._operation.keep:
                return item
        raise StopIteration


@dataclass(frozen=True)
class SplitFailures(Aligned):
    """``failures`` (as dicts) and ``drop_failures``.

    It starts a task, so that a partition whose task was lost has become a failed item before.
    """

    starts_task = True

    wanted: bool = False

    def evaluate(self, values: Iterator[Any], _place: Place, /) -> Any:
        """See `Operation.evaluate`."""
        items = next(values)
        if self.wanted:
            return (dataclasses.asdict(item) for item in items if type(item) is Failure)
        return (item for item in items if type(item) is not Failure)


@dataclass(frozen=True)
class FlattenItems(Aligned):
    """``flatten``: the items of the items."""

    def evaluate(self, values: Iterator[Any], place: Place, /) -> Any:
        """See `Operation.evaluate`."""
        return self._flattened(next(values), place)

    def _flattened(self, items: Iterable[Any], place: Place) -> Iterator[Any]:
        for index, item in enumerate(items):
            if type(item) is Failure:
                yield item
                continue
            if place.collecting is None:
                yield from item
            else:
                inner = place.call(index, item, list, item)
                yield from (inner,) if type(inner) is Failure else inner


def _consume(items: Iterator[Any], place: Place) -> Iterator[Any]:
    """Yield items; if taking one raises and failures are collected, end with the failure."""
    if place.collecting is None:
        yield from items
        return
    while True:
        taken = place.call_once(_take_one, items)
        if type(taken) is Failure:
            yield taken
            return
        if not taken:
            return
        yield from taken


def _take_one(items: Iterator[Any]) -> tuple[Any, ...]:
    """Return the next item in a tuple, which is empty at the end: any item may come along."""
    taken = next(items, _END)
    return () if taken is _END else (taken,)


@dataclass(frozen=True)
class MapPartitions(Aligned):
    """``map_partitions``: a function of whole partitions."""

    function: Callable[..., Any] = list
    arguments: Arguments = _NO_ARGUMENTS

    def evaluate(self, values: Iterator[Any], place: Place, /) -> Any:
        """See `Operation.evaluate`."""
        held: list[Failure] = []
        filled = [
            value if scalar else hold_back_failures(value, held)
            for value, scalar in zip(values, self.scalars, strict=True)
        ]
        made = place.call_once(self._call, filled)
        if type(made) is Failure:
            return [made, *held]
        if isinstance(made, Iterator):
            return itertools.chain(_consume(made, place), _late(held))
        return [*made, *held] if held else made

    def _call(self, filled: list[Any]) -> Any:
        positional, keywords = self.arguments.fill(filled)
        return self.function(*positional, **keywords)


def _late(held: list[Failure]) -> Iterator[Failure]:
    """Yield what is in the list when the items before it have been consumed."""
    yield from held


@dataclass(frozen=True)
class RandomSample(Aligned):
    """``random_sample``: keeps items with a probability, the same ones each time.

    The states of the generators are those of `dask.bag`: 624 words each from one PCG64 stream, so
    that the same seed keeps the same items.
    """

    probability: float = 1.0
    seed: int = 0

    def evaluate(self, values: Iterator[Any], place: Place, /) -> Any:
        """See `Operation.evaluate`."""
        generator = random.Random()
        generator.setstate((3, (*_mersenne_words(self.seed, place.partition), 624), None))
        return self._sampled(next(values), generator)

    def _sampled(self, items: Iterable[Any], generator: random.Random) -> Iterator[Any]:
        for item in items:
            kept = generator.random() < self.probability
            if kept or type(item) is Failure:
                yield item


def _mersenne_words(seed: int, index: int) -> list[int]:
    """Return the 624 words of a Mersenne Twister's state for a partition."""
    import numpy as np

    stream = np.random.PCG64(seed)
    stream.advance(index * 312)  # each step gives 64 bits: two words
    words = np.random.Generator(stream).bytes(624 * 4)
    return [int(word) for word in np.frombuffer(words, dtype=np.uint32)]


@dataclass(frozen=True)
class ZipItems(Aligned):
    """``zip``: tuples of the items of several bags; the longer partitions are cut."""

    def evaluate(self, values: Iterator[Any], _place: Place, /) -> Any:
        """See `Operation.evaluate`."""
        return map(_pair, zip(*values, strict=False))


def _pair(items: tuple[Any, ...]) -> Any:
    return next((item for item in items if type(item) is Failure), items)


@dataclass(frozen=True)
class JoinItems(Aligned):
    """``join``: pairs of an item of a small other collection and an item of the bag.

    The parents are the bag and, unless ``other`` holds it, the other collection.
    """

    on_self: Callable[[Any], Any] = bool
    on_other: Callable[[Any], Any] = bool
    other: Any = None

    def evaluate(self, values: Iterator[Any], place: Place, /) -> Any:
        """See `Operation.evaluate`."""
        items = next(values)
        other = refuse_failures(next(values, self.other), place)
        by_key = place.call_once(self._by_key, other)
        if type(by_key) is Failure:
            return [by_key]
        return self._joined(items, by_key, place)

    def _by_key(self, other: Iterable[Any]) -> dict[Any, list[Any]]:
        by_key: dict[Any, list[Any]] = {}
        for item in other:
            by_key.setdefault(self.on_other(item), []).append(item)
        return by_key

    def _joined(
        self, items: Iterable[Any], by_key: dict[Any, list[Any]], place: Place
    ) -> Iterator[Any]:
        for index, item in enumerate(items):
            if type(item) is Failure:
                yield item
                continue
            matches = place.call(index, item, self._matches, item, by_key)
            if type(matches) is Failure:
                yield matches
            else:
                yield from ((match, item) for match in matches)

    def _matches(self, item: Any, by_key: dict[Any, list[Any]]) -> list[Any]:
        return by_key.get(self.on_self(item), [])
