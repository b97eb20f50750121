"""A bag as a pandas DataFrame, made where it is used: workers need no pandas."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

from hstmap.bag.collection import Collection
from hstmap.bag.failures import Place, refuse_failures
from hstmap.bag.graph import Node

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LazyFrame"]


class LazyFrame(Collection):
    """A DataFrame that is not computed yet; made by `hstmap.Bag.to_dataframe`.

    Parameters
    ----------
    node : Node
        The bag.
    meta : object
    columns : sequence of str, optional
    """

    def __init__(self, node: Node, meta: Any = None, columns: Sequence[str] | None = None) -> None:
        super().__init__(node)
        self._meta = meta
        self._columns = columns

    @property
    def _args(self) -> tuple[Any, ...]:
        return self._node, self._meta, self._columns

    def _with_node(self, node: Node) -> Self:
        return type(self)(node, self._meta, self._columns)

    def _finish(self, parts: Iterable[Any]) -> pd.DataFrame:
        import pandas as pd

        items = itertools.chain.from_iterable(parts)
        place = Place("to_dataframe", 0)
        rows = list(refuse_failures(items, place))
        if self._meta is None:
            return pd.DataFrame(rows, columns=None if self._columns is None else [*self._columns])
        types = _types(self._meta)
        if not rows:
            return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()})
        return pd.DataFrame(rows, columns=[*types]).astype(types)


def _types(meta: Any) -> dict[Any, Any]:
    """Return the names and types of columns."""
    if hasattr(meta, "dtypes"):
        return dict(meta.dtypes)
    return dict(meta)
