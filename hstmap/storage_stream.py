"""Large objects on their way to a file, chunk by chunk: no copy of the whole is held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import obstore

from hstmap.storage import ObjectInfo, RequestCounts
from hstmap.storage_errors import EmptyRangeError

if TYPE_CHECKING:
    from obstore import GetOptions

    from hstmap.storage import Store

__all__ = ["Stream", "open_stream"]

CHUNK_NBYTES = 1024 * 1024
"""Small enough to stay in a processor's cache between the network and the disk."""


@dataclass(frozen=True)
class Stream:
    """A range of an object that is on its way.

    Parameters
    ----------
    info : ObjectInfo
        The facts of the whole object.
    chunks : iterator of memoryview
        The range's bytes, in order; raises StorageError where the connection fails for good.
    """

    info: ObjectInfo
    chunks: Iterator[memoryview]


def open_stream(store: Store, key: str, start: int, end: int, etag: str | None = None) -> Stream:
    """Ask for the bytes of [start, end), and hand them over as they come.

    Parameters
    ----------
    store : Store
        Where the object is. Its counts grow as if `Store.get_range` had been called.
    key : str
        The object.
    start, end : int
        Which bytes; fewer come where the object ends.
    etag : str, optional
        The version that must still be there.

    Raises
    ------
    ObjectChangedError
        If it is another version now.
    StorageError
        As every method of a store.
    """
    # A part of the store that has a module of its own for its length.
    options: GetOptions = {"range": (start, max(start + 1, end))}
    if etag is not None:
        options["if_match"] = etag if etag[:2] == "W/" else f'"{etag}"'
    try:
        with store._request(key, RequestCounts(n_get=1)):
            result = obstore.get(store._backend, store._path(key), options=options)
            chunks = result.stream(min_chunk_size=CHUNK_NBYTES)
    except EmptyRangeError:
        info = store.head(key)
        if info.nbytes:
            raise
        # No range lies within an empty object.
        return Stream(info, iter(()))

    def counted() -> Iterator[memoryview]:
        while True:
            with store._request(key, RequestCounts()):
                chunk = next(chunks, None)
            if chunk is None:
                return
            view = memoryview(chunk)
            store._count(RequestCounts(nbytes_read=len(view)))
            yield view

    return Stream(store._info(result.meta), counted())
