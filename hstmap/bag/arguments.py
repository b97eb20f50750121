"""Arguments of the functions of a step: parents, constants, and what picks from items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Arguments", "Pick", "Slot", "Spread", "bag_argument", "getter"]


@dataclass(frozen=True)
class Slot:
    """Stands for a parent among the arguments of a function.

    Parameters
    ----------
    parent : int
        Which of the node's parents.
    scalar : bool
        Whether that parent is one value for all partitions.
    """

    parent: int
    scalar: bool


@dataclass(frozen=True)
class Arguments:
    """Arguments of a function, with slots where partitions and scalars go.

    Parameters
    ----------
    positional : tuple
    keywords : tuple of (str, object)
    """

    positional: tuple[Any, ...]
    keywords: tuple[tuple[str, Any], ...] = ()

    def is_one_slot(self) -> bool:
        """Return whether all there is is the item of a single bag."""
        return (
            len(self.positional) == 1
            and not self.keywords
            and isinstance(self.positional[0], Slot)
            and not self.positional[0].scalar
        )

    def fill(self, values: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments, with the values of the parents in their slots."""
        positional = [_filled(argument, values) for argument in self.positional]
        return positional, {name: _filled(value, values) for name, value in self.keywords}


def _filled(argument: Any, values: Sequence[Any]) -> Any:
    return values[argument.parent] if isinstance(argument, Slot) else argument


def bag_argument() -> Arguments:
    """Return the arguments of a function of the bag alone."""
    return Arguments((Slot(0, scalar=False),))


@dataclass(frozen=True)
class Spread:
    """Calls a function with the items of a tuple as its arguments: what ``starmap`` maps."""

    function: Callable[..., Any]

    def __call__(self, item: Iterable[Any], **keywords: Any) -> Any:
        """Call the function."""
        return self.function(*item, **keywords)


def getter(key: Any) -> Callable[[Any], Any]:
    """Return a function that picks an element, or a tuple of them for a list of keys.

    A callable comes back as it is.
    """
    return key if callable(key) else Pick(key)


@dataclass(frozen=True)
class Pick:
    """Picks an element of each item, or the elements of a list of keys as a tuple.

    Parameters
    ----------
    key : object
    default : tuple
        Empty, or one value that stands for an element that is not there.
    """

    key: Any
    default: tuple[Any, ...] = ()

    def __call__(self, item: Any) -> Any:
        """Return the element, or the tuple of elements."""
        if isinstance(self.key, list):
            return tuple(self._pick(item, key) for key in self.key)
        return self._pick(item, self.key)

    def _pick(self, item: Any, key: Any) -> Any:
        if not self.default:
            return item[key]
        try:
            return item[key]
        except LookupError:
            return self.default[0]
