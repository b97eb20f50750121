"""The methods of a Bag that give a bag: item by item, partition by partition, regrouped."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, Self

from hstmap.bag.arguments import Pick, Spread, bag_argument
from hstmap.bag.binding import bind
from hstmap.bag.collection import Collection
from hstmap.bag.graph import Node
from hstmap.bag.names import function_name
from hstmap.bag.operations import (
    Aligned,
    FilterItems,
    FlattenItems,
    MapItems,
    MapPartitions,
    RandomSample,
    SplitFailures,
)
from hstmap.bag.reductions import NO_DEFAULT
from hstmap.errors import UsageError

if TYPE_CHECKING:
    from hstmap.bag.strings import StringMethods

__all__ = ["Transforms"]


class Transforms(Collection):
    """Base of `hstmap.Bag`: what makes a bag of a bag. Nothing is run by any of it."""

    def _derive(self, label: str, operation: Aligned) -> Self:
        """Return the bag of an operation on this one alone."""
        return type(self)(Node(label, operation, (self._node,), self.npartitions))

    def map(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Self:
        """Apply a function to each item.

        Parameters
        ----------
        func : callable
        *args, **kwargs : Bag, Item or object
            Further arguments, *after* the item. Of bags, the items at the same place; of items,
            the value; anything else as it is, for every call.

        Returns
        -------
        Bag

        Raises
        ------
        UsageError
            If bags differ in their number of partitions. If they differ in the length of a
            partition, computing raises ValueError.

        Notes
        -----
        Differs from `dask.bag`: a StopIteration of the function is an error; there it silently
        ends the partition.

        Examples
        --------
        >>> import hstmap
        >>> bag = hstmap.from_sequence([1, 2, 3, 4, 5], npartitions=2)
        >>> bag.map(lambda x: x + 1).compute()
        [2, 3, 4, 5, 6]
        >>> bag.map(lambda x, largest: x / largest, bag.max()).compute()
        [0.2, 0.4, 0.6, 0.8, 1.0]
        """
        mapped: Self = map_bags(func, self, *args, **kwargs)
        return mapped

    def starmap(self, func: Callable[..., Any], **kwargs: Any) -> Self:
        """Apply a function to each item, a tuple of its arguments.

        Parameters
        ----------
        func : callable
        **kwargs : Item or object
            Further arguments, for every call.

        Returns
        -------
        Bag

        Examples
        --------
        >>> import hstmap
        >>> hstmap.from_sequence([(1, 2), (3, 4)]).starmap(lambda x, y: x * y).compute()
        [2, 12]
        """
        bound = bind("starmap", (self,), kwargs)
        mapped = MapItems(bound.scalars, Spread(func), bound.arguments)
        label = f"starmap-{function_name(func)}"
        return type(self)(Node(label, mapped, bound.parents, self.npartitions))

    def filter(self, predicate: Callable[[Any], Any] | None) -> Self:
        """Keep the items for which a function is true.

        Parameters
        ----------
        predicate : callable or None
            None: keep the items that are true.

        Returns
        -------
        Bag
        """
        return self._derive(
            f"filter-{function_name(predicate)}", FilterItems(predicate=predicate, keep=True)
        )

    def remove(self, predicate: Callable[[Any], Any] | None) -> Self:
        """Drop the items for which a function is true.

        Parameters
        ----------
        predicate : callable or None
            None: drop the items that are true.

        Returns
        -------
        Bag
        """
        return self._derive(
            f"remove-{function_name(predicate)}", FilterItems(predicate=predicate, keep=False)
        )

    def failures(self) -> Self:
        """Return what failed in the steps before this one, as plain records.

        Returns
        -------
        Bag
            Dicts with the fields of `hstmap.Failure`, to be counted or made into a table. There
            are some only if it is computed with ``on_error="collect"``.

        Notes
        -----
        `dask.bag` has nothing like it.

        Examples
        --------
        >>> import hstmap
        >>> bag = hstmap.range(8, npartitions=2).map(lambda x: 1 // (x % 4))
        >>> failed = bag.failures().pluck("type_name").frequencies()
        >>> failed.compute(on_error="collect")
        [('ZeroDivisionError', 2)]
        """
        return self._derive("failures", SplitFailures(wanted=True))

    def drop_failures(self) -> Self:
        """Drop the `hstmap.Failure` items, so that the others can be reduced.

        Returns
        -------
        Bag

        Notes
        -----
        `dask.bag` has nothing like it.
        """
        return self._derive("drop-failures", SplitFailures(wanted=False))

    def pluck(self, key: Any, default: Any = NO_DEFAULT) -> Self:
        """Take an element of each item.

        Parameters
        ----------
        key : object
            Key or index; a list of them gives a tuple of elements.
        default : object, optional
            What stands for an element that is not there.

        Returns
        -------
        Bag

        Examples
        --------
        >>> import hstmap
        >>> hstmap.from_sequence([{"a": 1, "b": 2}, {"a": 3, "b": 4}]).pluck("a").compute()
        [1, 3]
        """
        pick = Pick(key) if default is NO_DEFAULT else Pick(key, (default,))
        return self._derive("pluck", MapItems((False,), pick, bag_argument()))

    def unzip(self, n: int) -> tuple[Self, ...]:
        """Return the bags of the first, second, ... elements of tuples.

        Parameters
        ----------
        n : int
            How many bags.

        Returns
        -------
        tuple of Bag
        """
        return tuple(self.pluck(index) for index in range(n))

    def flatten(self) -> Self:
        """Return the bag of the items of the items.

        Returns
        -------
        Bag

        Examples
        --------
        >>> import hstmap
        >>> hstmap.from_sequence([[1], [2, 3]]).flatten().compute()
        [1, 2, 3]
        """
        return self._derive("flatten", FlattenItems())

    def map_partitions(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Self:
        """Apply a function to each partition.

        Parameters
        ----------
        func : callable
            Takes an iterable of items and returns one.
        *args, **kwargs : Bag, Item or object
            Further arguments, *after* the partition: of bags, the partition of the same number.

        Returns
        -------
        Bag

        Raises
        ------
        UsageError
            If bags differ in their number of partitions.

        Notes
        -----
        Items that failed before are held back from the function and follow what it returns.
        Differs from `dask.bag`: there is no ``token`` keyword.

        Examples
        --------
        >>> import hstmap
        >>> hstmap.range(5, npartitions=2).map_partitions(lambda items: [sum(items)]).compute()
        [1, 9]
        """
        mapped: Self = map_bag_partitions(func, self, *args, **kwargs)
        return mapped

    def random_sample(self, prob: float, random_state: int | Random | None = None) -> Self:
        """Keep each item with a probability.

        Parameters
        ----------
        prob : float
            From 0 to 1.
        random_state : int or random.Random, optional
            The same seed keeps the same items, the same as `dask.bag`.

        Returns
        -------
        Bag
            Computed again, it has the same items.

        Raises
        ------
        UsageError
            If prob is not a probability.
        """
        if not 0 <= prob <= 1:
            raise UsageError(f"prob is {prob}; give a number from 0 to 1")
        generator = random_state if isinstance(random_state, Random) else Random(random_state)
        seed = generator.randint(0, 1 << 32)
        return self._derive("random-sample", RandomSample(probability=prob, seed=seed))

    @property
    def str(self) -> StringMethods[Self]:
        """The methods of strings, applied to each item, and ``match(pattern)``.

        Examples
        --------
        >>> import hstmap
        >>> hstmap.from_sequence(["Alice Smith", "Bob Jones"]).str.lower().compute()
        ['alice smith', 'bob jones']
        """
        from hstmap.bag.strings import StringMethods

        return StringMethods(self)


def map_bags(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Apply a function to the items of one or more bags.

    Parameters
    ----------
    func : callable
    *args, **kwargs : Bag, Item or object
        At least one bag; see `Bag.map`.

    Returns
    -------
    Bag

    Raises
    ------
    UsageError
        If there is no bag among the arguments, or bags differ in their number of partitions.
    """
    bound = bind("map", args, kwargs)
    operation = MapItems(bound.scalars, func, bound.arguments)
    node = Node(f"map-{function_name(func)}", operation, bound.parents, bound.n_partitions)
    return bound.kind(node)


def map_bag_partitions(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Apply a function to the partitions of one or more bags.

    Parameters
    ----------
    func : callable
    *args, **kwargs : Bag, Item or object
        At least one bag; see `Bag.map_partitions`.

    Returns
    -------
    Bag

    Raises
    ------
    UsageError
        If there is no bag among the arguments, or bags differ in their number of partitions.
    """
    bound = bind("map_partitions", args, kwargs)
    operation = MapPartitions(bound.scalars, func, bound.arguments)
    label = f"map_partitions-{function_name(func)}"
    return bound.kind(Node(label, operation, bound.parents, bound.n_partitions))
