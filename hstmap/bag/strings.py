"""The methods of strings, for each item of a bag."""

from __future__ import annotations

import fnmatch
import functools
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from hstmap.bag.transforms import Transforms

__all__ = ["StringMethods"]

BagT = TypeVar("BagT", bound="Transforms")


class StringMethods(Generic[BagT]):
    """What `Bag.str` gives: ``bag.str.upper()`` is ``bag.map(str.upper)``.

    Parameters
    ----------
    bag : Bag
        Of strings.
    """

    def __init__(self, bag: BagT) -> None:
        self._bag = bag

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(str)})

    def __getattr__(self, name: str) -> Callable[..., BagT]:
        if not hasattr(str, name):
            raise AttributeError(f"strings have no method {name!r}")
        return functools.partial(self._map, name)

    def _map(self, name: str, *args: Any, **kwargs: Any) -> BagT:
        return self._bag.map(operator.methodcaller(name, *args, **kwargs))

    def match(self, pattern: str) -> BagT:
        """Keep the strings that fit a shell pattern, such as ``"*_flt.fits"``.

        Parameters
        ----------
        pattern : str
            As `fnmatch.fnmatch` takes it.

        Returns
        -------
        Bag
        """
        return self._bag.filter(functools.partial(fnmatch.fnmatch, pat=pattern))
