"""Items: single lazy values, such as the sum of a bag."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from hstmap.bag.arguments import Arguments, Slot
from hstmap.bag.collection import Collection
from hstmap.bag.graph import Node
from hstmap.bag.names import function_name
from hstmap.bag.operations import CallWithValues

__all__ = ["Item", "item_of_delayed"]


class Item(Collection):
    """One value that is not computed yet.

    Made by the reductions of a `Bag`; may be an argument of `Bag.map` and
    `Bag.map_partitions`, where it is computed first. `int`, `float`, `complex` and `bool`
    compute it.
    """

    @property
    def key(self) -> str:
        """The same as `name`."""
        return self.name

    def apply(self, func: Callable[[Any], Any]) -> Item:
        """Return the item that is a function of this one.

        Parameters
        ----------
        func : callable

        Returns
        -------
        Item

        Examples
        --------
        >>> import hstmap
        >>> hstmap.range(5, npartitions=2).sum().apply(str).compute()
        '10'
        """
        operation = CallWithValues(
            scalars=(True,), function=func, arguments=Arguments((Slot(0, scalar=True),))
        )
        label = f"apply-{function_name(func)}"
        return Item(Node(label, operation, (self._node,), 1, scalar=True))

    def _finish(self, parts: Iterable[Any]) -> Any:
        (value,) = parts
        return value

    def __int__(self) -> int:
        return int(self.compute())

    def __float__(self) -> float:
        return float(self.compute())

    def __complex__(self) -> complex:
        return complex(self.compute())

    def __bool__(self) -> bool:
        return bool(self.compute())


def item_of_delayed(delayed: Any) -> Item:
    """Return the item that is a value of dask's, computed by one task."""
    operation = CallWithValues(scalars=(), function=functools.partial(_compute_delayed, delayed))
    return Item(Node("delayed", operation, (), 1, scalar=True))


def _compute_delayed(delayed: Any) -> Any:
    return delayed.compute(scheduler="sync")
