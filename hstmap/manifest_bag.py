"""Bags of the images of a manifest: here the archive meets the map-reduce."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

from hstmap.bag.bag import Bag, from_sequence

if TYPE_CHECKING:
    from hstmap.archive.manifest import Manifest

__all__ = ["from_manifest"]


def from_manifest(
    manifest: Manifest | str,
    partition_size: int | None = None,
    npartitions: int | None = None,
) -> Bag:
    """Make a bag of the images of a manifest.

    Parameters
    ----------
    manifest : Manifest or str
        Or the path or URL of one.
    partition_size, npartitions : int, optional
        As for `hstmap.from_sequence`.

    Returns
    -------
    Bag
        Of dicts: the columns of the manifest, and ``url``, where the image lies. Rows are made
        into dicts when tasks are sent.

    Raises
    ------
    UsageError
        If it is no manifest.

    Examples
    --------
    >>> import hstmap
    >>> images = hstmap.from_manifest("f160w.parquet", partition_size=50)  # doctest: +SKIP
    >>> images.pluck("filter").frequencies().compute()  # doctest: +SKIP
    [('F160W', 41873)]
    """
    if isinstance(manifest, str):
        from hstmap.archive.manifest import Manifest

        manifest = Manifest.read(manifest)
    return from_sequence(_Rows(manifest), partition_size, npartitions)


class _Rows(Sequence[dict[str, Any]]):
    """The rows of a manifest, as dicts when they are asked for."""

    is_frozen_rows = True

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    @functools.cached_property
    def _urls(self) -> list[str]:
        return self._manifest.urls

    def __len__(self) -> int:
        return len(self._manifest)

    @overload
    def __getitem__(self, where: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, where: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, where: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(where, int):
            if not -len(self) <= where < len(self):
                raise IndexError(where)
            return self[where % len(self) : where % len(self) + 1][0]
        start, stop, _ = where.indices(len(self))
        table = self._manifest.table.slice(start, max(0, stop - start))
        urls = self._urls[start:stop]
        return [{**row, "url": url} for row, url in zip(table.to_pylist(), urls, strict=True)]
