"""The methods of a Bag that bring items together: with another collection, or with a total."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Self

from hstmap.bag import regroup
from hstmap.bag.arguments import getter
from hstmap.bag.collection import Collection
from hstmap.bag.graph import Node
from hstmap.bag.item import item_of_delayed
from hstmap.bag.names import function_name
from hstmap.bag.operations import JoinItems
from hstmap.bag.reductions import NO_DEFAULT
from hstmap.errors import UsageError

__all__ = ["Combinations"]


class Combinations(Collection):
    """Base of `hstmap.Bag`: what pairs items, or adds them up. Nothing is run by any of it."""

    def join(
        self,
        other: Iterable[Any],
        on_self: Callable[[Any], Any],
        on_other: Callable[[Any], Any] | None = None,
    ) -> Self:
        """Pair each item with those of a small collection that have the same key.

        Parameters
        ----------
        other : iterable or Bag
            Goes to every task: an iterable that fits into memory, or a bag of one partition.
        on_self : callable
            Gives the key of an item of this bag.
        on_other : callable, optional
            Gives the key of an item of the other; by default ``on_self``.

        Returns
        -------
        Bag
            Pairs (item of the other, item of this bag).

        Raises
        ------
        UsageError
            If the other is a bag of several partitions.
        TypeError
            If it is not iterable.

        Examples
        --------
        >>> import hstmap
        >>> people = hstmap.from_sequence(["Alice", "Bob", "Charlie"])
        >>> fruit = ["Apple", "Apricot", "Banana"]
        >>> people.join(fruit, lambda name: name[0]).compute()
        [('Apple', 'Alice'), ('Apricot', 'Alice'), ('Banana', 'Bob')]
        """
        keys = (getter(on_self), getter(on_self if on_other is None else on_other))
        if hasattr(type(other), "__dask_graph__"):
            other = item_of_delayed(other)  # type: ignore[assignment]
        if isinstance(other, Collection):
            if other.npartitions > 1:
                raise UsageError(
                    f"the other bag has {other.npartitions} partitions, and it goes to every task "
                    "as a whole; give other.repartition(1)"
                )
            parents: tuple[Node, ...] = (self._node, other._node)
            joined = JoinItems((False, True), *keys)
        else:
            parents = (self._node,)
            joined = JoinItems((False,), *keys, other=tuple(other))
        return type(self)(Node("join", joined, parents, self.npartitions))

    def product(self, other: Collection) -> Self:
        """Return the bag of all pairs of an item of this bag and one of another.

        Parameters
        ----------
        other : Bag

        Returns
        -------
        Bag
            With a partition for each pair of partitions.

        Raises
        ------
        UsageError
            If the other is no bag.
        """
        if not isinstance(other, Combinations):
            raise UsageError(f"the product is that of two bags, and {type(other).__name__} is none")
        return type(self)(regroup.product(self._node, other._node))

    def accumulate(self, binop: Callable[[Any, Any], Any], initial: Any = NO_DEFAULT) -> Self:
        """Return the totals up to each item.

        Parameters
        ----------
        binop : callable
            Takes the total so far and an item.
        initial : object, optional
            The total before the first item; it is then the first item of the result.

        Returns
        -------
        Bag

        Notes
        -----
        Each total needs the one before it, so one task goes through all partitions, one at a
        time. Differs from `dask.bag`, where there is a task for each partition and they wait for
        each other; and where an empty first partition is an error.

        Examples
        --------
        >>> import hstmap, operator
        >>> hstmap.from_sequence([1, 2, 3, 4], npartitions=2).accumulate(operator.add).compute()
        [1, 3, 6, 10]
        """
        label = f"accumulate-{function_name(binop)}"
        return type(self)(regroup.accumulate(self._node, label, binop, initial))
