"""The Bag: a lazy, immutable, partitioned collection, in the manner of `dask.bag`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

from hstmap.bag import regroup
from hstmap.bag.aggregations import Aggregations
from hstmap.bag.collection import stream
from hstmap.bag.combinations import Combinations
from hstmap.bag.frame import LazyFrame
from hstmap.bag.graph import Node
from hstmap.bag.operations import ZipItems
from hstmap.bag.sizes import memory_nbytes, parse_nbytes, runs_of_nbytes
from hstmap.bag.sources import range_node, sequence_node
from hstmap.bag.transforms import Transforms
from hstmap.errors import UsageError

__all__ = ["Bag", "bag_range", "bag_zip", "concat", "from_sequence"]


class Bag(Transforms, Combinations, Aggregations):
    """Items in partitions, and what is to be done with them.

    Made by `hstmap.from_sequence`, `hstmap.range`, `hstmap.from_manifest` and by the methods of
    other bags. Nothing is run before `compute`, `persist` or iteration. Names, arguments and
    results are those of `dask.bag`, except where a method says otherwise.

    Steps that work partition by partition share a task, one for each partition.
    """

    def __iter__(self) -> Iterator[Any]:
        """Yield the items, computed partition by partition, in growing windows.

        Differs from `dask.bag`, where everything is computed before the first item comes.
        """
        return itertools.chain.from_iterable(map(_items, stream(self)))

    def _finish(self, parts: Iterable[Any]) -> list[Any]:
        return list(itertools.chain.from_iterable(map(_items, parts)))

    def take(
        self, k: int, npartitions: int = 1, compute: bool = True, warn: bool = True
    ) -> tuple[Any, ...] | Self:
        """Return the first items. Only what they need is run.

        Parameters
        ----------
        k : int
            How many.
        npartitions : int
            How many partitions to look into, from the first; -1: all.
        compute : bool
            Whether to compute them now.
        warn : bool
            Whether to warn if there are fewer.

        Returns
        -------
        tuple or Bag
            The items, or without ``compute`` the bag of them.

        Raises
        ------
        UsageError
            If there are not so many partitions, or ``k`` is no number of items.
        """
        if not hasattr(k, "__index__") or k < 0:
            raise UsageError(f"take was asked for {k!r} items; give a whole number, 0 or more")
        if npartitions <= -1:
            npartitions = self.npartitions
        if not 1 <= npartitions <= self.npartitions:
            raise UsageError(
                f"take was asked to look into {npartitions} partitions, and there are "
                f"{self.npartitions}; give 1 to {self.npartitions}, or -1 for all"
            )
        first = type(self)(regroup.take(self._node, k, npartitions))
        if not compute:
            return first
        found = first.compute()
        return tuple(regroup.warn_of_few(found, k) if warn else found)

    def repartition(
        self, npartitions: int | None = None, partition_size: int | str | None = None
    ) -> Self:
        """Change the number of partitions, with the items in their order.

        Parameters
        ----------
        npartitions : int, optional
            How many there are to be: consecutive partitions are put together, or each is cut up.
        partition_size : int or str, optional
            Largest size of a partition in memory, bytes, or as text such as ``"5MB"``. This
            computes the bag to measure it.

        Returns
        -------
        Bag

        Raises
        ------
        UsageError
            Unless exactly one of them is given.
        """
        if (npartitions is None) == (partition_size is None):
            raise UsageError(
                f"npartitions is {npartitions} and partition_size is {partition_size}; give "
                "exactly one of them"
            )
        if partition_size is not None:
            return self._repartition_by_size(parse_nbytes(partition_size))
        if npartitions == self.npartitions:
            return self
        if npartitions is None or npartitions < 1:
            raise UsageError(f"npartitions is {npartitions}; give 1 or more")
        if npartitions < self.npartitions:
            ratio = self.npartitions / npartitions
            boundaries = [int(index * ratio) for index in range(npartitions)] + [self.npartitions]
            return type(self)(regroup.merge(self._node, boundaries))
        each, rest = divmod(npartitions, self.npartitions)
        n_pieces_of = [each] * self.npartitions
        n_pieces_of[-1] += rest
        return type(self)(regroup.split(self._node, n_pieces_of))

    def _repartition_by_size(self, largest_nbytes: int) -> Self:
        sizes: list[int] = self.map_partitions(memory_nbytes).compute()
        n_pieces_of = [1 + size // largest_nbytes for size in sizes]
        node = regroup.split(self._node, n_pieces_of)
        pieces = [
            size / n_pieces
            for size, n_pieces in zip(sizes, n_pieces_of, strict=True)
            for _ in range(n_pieces)
        ]
        lengths = runs_of_nbytes(pieces, largest_nbytes)
        boundaries = [0, *itertools.accumulate(lengths)]
        return type(self)(regroup.merge(node, boundaries))

    def to_dataframe(
        self,
        meta: Any = None,
        columns: Sequence[str] | None = None,
    ) -> LazyFrame:
        """Return a pandas DataFrame of the items, when it is computed.

        Parameters
        ----------
        meta : pandas.DataFrame, mapping or sequence of (str, dtype), optional
            Names and types of the columns.
        columns : sequence of str, optional
            Names of the columns of tuples and scalars, or the order of those of dicts.

        Returns
        -------
        LazyFrame
            Its ``compute`` gives the DataFrame, with one index from 0.

        Raises
        ------
        UsageError
            If both are given.

        Notes
        -----
        Differs from `dask.bag`: the frame is pandas' own; without ``meta`` the types are those of
        all items, not of the first, and nothing is computed to find them.
        """
        if meta is not None and columns is not None:
            raise UsageError("meta names the columns, too: give either meta or columns")
        return LazyFrame(self._node, meta, columns)


def _items(part: Any) -> Iterable[Any]:
    """Return the items of a partition; what cannot be iterated, and text, is an item itself."""
    if isinstance(part, Iterable) and not isinstance(part, str):
        return part
    return (part,)


def from_sequence(
    seq: Iterable[Any], partition_size: int | None = None, npartitions: int | None = None
) -> Bag:
    """Make a bag of a sequence.

    Parameters
    ----------
    seq : iterable
        Its items are held by the bag and sliced when tasks are sent.
    partition_size : int, optional
        Items of a partition; goes before ``npartitions``.
    npartitions : int, optional
        About how many partitions there will be: no fewer, for more than 100 items. By default up
        to 100 items have a partition each, and more have about ten times the root of their number.

    Returns
    -------
    Bag

    Raises
    ------
    UsageError
        If a number is less than 1.

    Examples
    --------
    >>> import hstmap
    >>> hstmap.from_sequence(["a", "b", "c"], partition_size=2)
    hstmap.Bag<from_sequence, npartitions=2>
    """
    return Bag(sequence_node(seq, partition_size, npartitions))


def bag_range(n: int, npartitions: int) -> Bag:
    """Make a bag of the numbers from 0 to n - 1.

    Parameters
    ----------
    n : int
    npartitions : int

    Returns
    -------
    Bag

    Raises
    ------
    UsageError
        If n is negative or npartitions less than 1.

    Notes
    -----
    Differs from `dask.bag`: there may be more partitions than numbers; the last ones are empty.
    """
    return Bag(range_node(n, npartitions))


def bag_zip(*bags: Bag) -> Bag:
    """Return the bag of tuples of the items of several bags, partition by partition.

    Parameters
    ----------
    *bags : Bag
        With the same number of partitions. Where partitions differ in length, the longer ones are
        cut.

    Returns
    -------
    Bag

    Raises
    ------
    UsageError
        If there is no bag, or they differ in their number of partitions.
    """
    counts = {bag.npartitions for bag in bags}
    if len(counts) != 1:
        raise UsageError(
            f"zip was given {len(bags)} bags of {sorted(counts)} partitions; give one or more "
            "bags with the same number of partitions"
        )
    nodes = tuple(bag._node for bag in bags)
    return Bag(Node("zip", ZipItems((False,) * len(nodes)), nodes, counts.pop()))


def concat(bags: Iterable[Bag]) -> Bag:
    """Return the bag of the partitions of several bags, one after another.

    Parameters
    ----------
    bags : iterable of Bag

    Returns
    -------
    Bag

    Raises
    ------
    UsageError
        If there is none.
    """
    nodes = [bag._node for bag in bags]
    if not nodes:
        raise UsageError("concat was given no bags; give at least one")
    return Bag(regroup.concatenate(nodes))
