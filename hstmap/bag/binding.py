"""Sorts the arguments of ``map`` and ``map_partitions`` into parents and constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hstmap.bag.arguments import Arguments, Slot
from hstmap.bag.collection import Collection
from hstmap.bag.graph import Node
from hstmap.bag.item import Item, item_of_delayed
from hstmap.errors import UsageError

__all__ = ["Bound", "bind"]


class Bound(NamedTuple):
    """Arguments of a function, told apart.

    Parameters
    ----------
    arguments : Arguments
        With slots where bags and items were.
    parents : tuple of Node
    scalars : tuple of bool
        Of each parent, whether it is an item.
    bags : tuple of Collection
        The bags among the arguments.
    """

    arguments: Arguments
    parents: tuple[Node, ...]
    scalars: tuple[bool, ...]
    bags: tuple[Collection, ...]

    @property
    def kind(self) -> type[Collection]:
        """The class of the bags, or what is common to their classes if they differ."""
        kinds = {type(bag) for bag in self.bags}
        if len(kinds) == 1:
            return kinds.pop()
        from hstmap.bag.bag import Bag

        return Bag

    @property
    def n_partitions(self) -> int:
        """Number of partitions of each of the bags."""
        return self.bags[0].npartitions


def bind(function: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Bound:
    """Tell bags, items and constants among arguments apart.

    Parameters
    ----------
    function : str
        What is called, for messages.
    args : sequence
    kwargs : mapping

    Raises
    ------
    UsageError
        If there is no bag among them, or bags differ in their number of partitions.
    """
    parents: list[Node] = []
    scalars: list[bool] = []
    bags: list[Collection] = []

    def slot(argument: Any) -> Any:
        if hasattr(type(argument), "__dask_graph__"):
            argument = item_of_delayed(argument)
        if not isinstance(argument, Collection):
            return argument
        is_scalar = isinstance(argument, Item)
        if not is_scalar:
            bags.append(argument)
        parents.append(argument._node)
        scalars.append(is_scalar)
        return Slot(len(parents) - 1, is_scalar)

    arguments = Arguments(
        tuple(slot(argument) for argument in args),
        tuple((name, slot(argument)) for name, argument in kwargs.items()),
    )
    if not bags:
        raise UsageError(f"{function} was given no Bag; at least one argument must be a Bag")
    counts = {bag.npartitions for bag in bags}
    if len(counts) > 1:
        raise UsageError(
            f"{function} was given bags of {', '.join(map(str, sorted(counts)))} partitions; "
            "bags that are used together must have the same number of partitions"
        )
    return Bound(arguments, tuple(parents), tuple(scalars), tuple(bags))
