"""The methods of a Bag that need all items: reductions, as trees of maps, and groups."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, Self

from hstmap.bag import reductions
from hstmap.bag.arguments import Spread, bag_argument, getter
from hstmap.bag.collection import Collection
from hstmap.bag.graph import Node
from hstmap.bag.item import Item
from hstmap.bag.names import function_name
from hstmap.bag.operations import MapPartitions
from hstmap.bag.reductions import NO_DEFAULT, Reduction, SplitEvery, tree
from hstmap.bag.shuffle import DEFAULT_MAX_BRANCH, group_by
from hstmap.errors import UsageError

__all__ = ["Aggregations"]


class Aggregations(Collection):
    """Base of `hstmap.Bag`: what needs all items. Nothing is run by any of it.

    A reduction makes one value of each partition, in the task that makes the partition, and then
    puts ``split_every`` values together in each task of a level, level by level, until one is
    left. Each level is a map of its own: no task waits for another. An item that failed before is
    refused with a `~hstmap.errors.TaskError`; see `Bag.drop_failures`.
    """

    def reduction(
        self,
        perpartition: Callable[[Any], Any],
        aggregate: Callable[[Any], Any],
        split_every: SplitEvery = None,
        out_type: type[Collection] = Item,
        name: str | None = None,
    ) -> Any:
        """Reduce the bag with a function of partitions and one of their results.

        Parameters
        ----------
        perpartition : callable
            Takes an iterable of items. Not called for an empty partition, unless it is the only
            one.
        aggregate : callable
            Takes an iterable of results, of ``perpartition`` and of itself.
        split_every : int, optional
            How many results one task puts together (default 8). False: all.
        out_type : {Item, Bag}
            Whether the result is a value or the items of a bag of one partition.
        name : str, optional
            Name for people.

        Returns
        -------
        Item or Bag

        Raises
        ------
        UsageError
            If split_every is less than 2.

        Examples
        --------
        >>> import hstmap
        >>> hstmap.range(10, npartitions=3).reduction(sum, sum).compute()
        45
        """
        reduction = Reduction(
            perpartition,
            aggregate,
            f"{name or function_name(perpartition)}-part",
            f"{name or function_name(aggregate)}-aggregate",
        )
        scalar = issubclass(out_type, Item)
        return out_type(tree(self._node, reduction, split_every, scalar=scalar))

    def fold(
        self,
        binop: Callable[[Any, Any], Any],
        combine: Callable[[Any, Any], Any] | None = None,
        initial: Any = NO_DEFAULT,
        split_every: SplitEvery = None,
        out_type: type[Collection] = Item,
    ) -> Any:
        """Fold the items of each partition, and then the results, with functions of two.

        Parameters
        ----------
        binop : callable
            Takes the total so far and an item.
        combine : callable, optional
            Takes two totals; by default ``binop``.
        initial : object, optional
            The total that each partition starts from; by default its first item.
        split_every : int, optional
            As for `reduction`.
        out_type : {Item, Bag}
            As for `reduction`.

        Returns
        -------
        Item or Bag

        Notes
        -----
        Differs from `dask.bag`: each partition starts from a copy of ``initial``, and that is
        also the result for an empty bag, into however many partitions it is cut.

        Examples
        --------
        >>> import hstmap
        >>> bag = hstmap.from_sequence([1, 2, 3, 2], npartitions=2)
        >>> bag.fold(lambda found, item: found | {item}, set.union, initial=set()).compute()
        {1, 2, 3}
        """
        return self.reduction(
            reductions.FoldItems(binop, initial),
            reductions.FoldTotals(combine or binop, initial),
            split_every=split_every,
            out_type=out_type,
            name=f"fold-{function_name(binop)}",
        )

    def foldby(
        self,
        key: Any,
        binop: Callable[[Any, Any], Any],
        initial: Any = NO_DEFAULT,
        combine: Callable[[Any, Any], Any] | None = None,
        combine_initial: Any = NO_DEFAULT,
        split_every: SplitEvery = None,
    ) -> Self:
        """Fold the items of each key: a `groupby` and a `fold` without moving the items.

        Parameters
        ----------
        key : callable or object
            Gives the key of an item; what is not callable is an element of it.
        binop : callable
            Takes the total so far and an item.
        initial : object, optional
            The total that each key starts from in each partition; by default the first item. A
            callable is called for it.
        combine : callable, optional
            Takes two totals; by default ``binop``.
        combine_initial : object, optional
            The total that each key starts from when totals are combined, at each level.
        split_every : int, optional
            As for `reduction`.

        Returns
        -------
        Bag
            Pairs (key, total), in one partition.

        Examples
        --------
        >>> import hstmap
        >>> bag = hstmap.range(10, npartitions=3)
        >>> bag.foldby(lambda n: n % 2 == 0, lambda total, n: total + n, 0).compute()
        [(True, 20), (False, 25)]
        """
        folded = self.reduction(
            reductions.FoldByKey(getter(key), binop, initial),
            reductions.CombineByKey(combine or binop, combine_initial),
            split_every=split_every,
            out_type=type(self),
            name=f"foldby-{function_name(binop)}",
        )
        return folded._then(reductions.dict_items)  # type: ignore[no-any-return]

    def groupby(
        self,
        grouper: Any,
        method: None = None,
        npartitions: int | None = None,
        blocksize: int | None = None,
        max_branch: int | None = None,
        shuffle: str | None = None,
    ) -> Self:
        """Bring the items of each key together, through storage: every item travels.

        Prefer `foldby` where a total will do.

        Parameters
        ----------
        grouper : callable or object
            Gives the key of an item; what is not callable is an element of it. Keys are hashed as
            `hstmap.bag.hashing.stable_hash` says: 1, 1.0 and True are one key, as in a `dict`.
        method : None
            There for the order of the arguments of `dask.bag` only.
        npartitions : int, optional
            Partitions of the result; by default as many as this bag has.
        blocksize : int, optional
            Not used; there for the order of the arguments of `dask.bag` only.
        max_branch : int, optional
            Tasks that one task reads from (default 32): more partitions take more rounds.
        shuffle : {"disk", "tasks"}, optional
            Both are the one shuffle there is.

        Returns
        -------
        Bag
            Pairs (key, list of items); the items in their order.

        Raises
        ------
        UsageError
            If an argument is not one of these.

        Notes
        -----
        Differs from `dask.bag`: the order of the keys, which is that of another hash.

        Examples
        --------
        >>> import hstmap
        >>> dict(hstmap.range(6, npartitions=2).groupby(lambda n: n % 2))
        {0: [0, 2, 4], 1: [1, 3, 5]}
        """
        if method is not None or shuffle not in (None, "disk", "tasks") or blocksize == 0:
            raise UsageError(
                f"method is {method!r} and shuffle is {shuffle!r}; leave both out: there is one "
                "shuffle, through storage ('disk' and 'tasks' are taken for it)"
            )
        node = group_by(
            self._node,
            getter(grouper),
            self.npartitions if npartitions is None else npartitions,
            DEFAULT_MAX_BRANCH if max_branch is None else max_branch,
        )
        return type(self)(node)

    def frequencies(self, split_every: SplitEvery = None, sort: bool = False) -> Self:
        """Count how often each item occurs.

        Parameters
        ----------
        split_every : int, optional
            As for `reduction`.
        sort : bool
            Whether the most frequent come first.

        Returns
        -------
        Bag
            Pairs (item, number), in one partition.
        """
        counted = self.reduction(
            reductions.frequencies,
            reductions.merge_frequencies,
            split_every=split_every,
            out_type=type(self),
            name="frequencies",
        )._then(reductions.dict_items)
        return counted._then(reductions.sorted_by_count) if sort else counted  # type: ignore[no-any-return]

    def topk(self, k: int, key: Any = None, split_every: SplitEvery = None) -> Self:
        """Return the largest items, the largest first.

        Parameters
        ----------
        k : int
            How many.
        key : callable or object, optional
            Gives what is compared; what is not callable is an element of the item. A function of
            several arguments gets the elements of the item.
        split_every : int, optional
            As for `reduction`.

        Returns
        -------
        Bag
            Of one partition.

        Notes
        -----
        Differs from `dask.bag`, which takes ``key=0`` for no key.
        """
        if key is not None:
            key = Spread(key) if _takes_several(key) else getter(key)
        largest = reductions.Largest(k, key)
        return self.reduction(  # type: ignore[no-any-return]
            largest,
            reductions.Again(largest),
            split_every=split_every,
            out_type=type(self),
            name="topk",
        )

    def distinct(self, key: Any = None) -> Self:
        """Return the items without repeats: the first of each.

        Parameters
        ----------
        key : callable or object, optional
            Gives what must differ; what is not callable is an element of the item.

        Returns
        -------
        Bag
            Of one partition.
        """
        first = reductions.Distinct(None if key is None else getter(key))
        return self.reduction(  # type: ignore[no-any-return]
            first, reductions.Again(first), out_type=type(self), name="distinct"
        )

    def sum(self, split_every: SplitEvery = None) -> Item:
        """Add all items up; ``split_every`` as for `reduction`."""
        return self.reduction(sum, sum, split_every=split_every)  # type: ignore[no-any-return]

    def max(self, split_every: SplitEvery = None) -> Item:
        """Return the largest item; ``split_every`` as for `reduction`."""
        return self.reduction(max, max, split_every=split_every)  # type: ignore[no-any-return]

    def min(self, split_every: SplitEvery = None) -> Item:
        """Return the smallest item; ``split_every`` as for `reduction`."""
        return self.reduction(min, min, split_every=split_every)  # type: ignore[no-any-return]

    def any(self, split_every: SplitEvery = None) -> Item:
        """Tell whether any item is true; ``split_every`` as for `reduction`."""
        return self.reduction(any, any, split_every=split_every)  # type: ignore[no-any-return]

    def all(self, split_every: SplitEvery = None) -> Item:
        """Tell whether all items are true; ``split_every`` as for `reduction`."""
        return self.reduction(all, all, split_every=split_every)  # type: ignore[no-any-return]

    def count(self, split_every: SplitEvery = None) -> Item:
        """Count the items; ``split_every`` as for `reduction`."""
        return self.reduction(  # type: ignore[no-any-return]
            reductions.count_items, sum, split_every=split_every, name="count"
        )

    def mean(self) -> Item:
        """Return the arithmetic mean; of no items, computing it raises ZeroDivisionError."""
        total: Item = self.reduction(reductions.sum_and_count, reductions.add_sums, name="mean")
        return total.apply(reductions.mean_of_sum)

    def var(self, ddof: int = 0) -> Item:
        """Return the variance.

        Parameters
        ----------
        ddof : int
            What is taken from the number of items in the divisor.

        Returns
        -------
        Item
            Computing it raises ZeroDivisionError for ``ddof`` items.

        Notes
        -----
        Differs from `dask.bag` in the last digits, and in all of them where the mean is large
        beside the scatter: there it is the mean of squares less the square of the mean; here
        moments about the mean are combined (Chan, Golub & LeVeque 1983, The American Statistician
        37, 242).
        """
        total: Item = self.reduction(reductions.moments, reductions.add_moments, name="var")
        return total.apply(reductions.Variance(ddof))

    def std(self, ddof: int = 0) -> Item:
        """Return the standard deviation, the root of `var`."""
        return self.var(ddof=ddof).apply(math.sqrt)

    def _then(self, function: Callable[[Any], Any]) -> Self:
        operation = MapPartitions((False,), function, bag_argument())
        label = function_name(function)
        return type(self)(Node(label, operation, (self._node,), self.npartitions))


def _takes_several(function: Any) -> bool:
    """Return whether a function needs several arguments, as lambdas of pairs do."""
    if not callable(function):
        return False
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False  # built-in functions may not say
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return not isinstance(function, type)
    needed = [
        parameter
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter.default is parameter.empty
    ]
    return len(needed) > 1
