"""Objects that get another name, without a byte of them coming here; and folders left empty."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import obstore

from hstmap.storage import RequestCounts

if TYPE_CHECKING:
    from hstmap.storage import Store

__all__ = ["move", "remove_empty_folder"]


def move(store: Store, key: str, new_key: str) -> None:
    """Give an object another key, in the place of what has it.

    Parameters
    ----------
    store : Store
    key, new_key : str
        At any time a reader of either finds a whole object or none. Locally this is a rename; S3
        copies the object, up to 5 GB, and deletes it.

    Raises
    ------
    MissingObjectError, ForbiddenObjectError, StorageError
        As every method of a store that takes a key.
    """
    # A part of the store that has a module of its own for its length.
    path, new_path = store._path(key), store._path(new_key)
    with store._request(key, RequestCounts(n_put=1, n_delete=1)):
        obstore.rename(store._backend, path, new_path)


def remove_empty_folder(store: Store, prefix: str) -> None:
    """Remove the folder of keys that are all gone, where keys lie in folders.

    Parameters
    ----------
    store : Store
    prefix : str
        Beginning of those keys. If there are others, the folder stays.
    """
    path = store.local_path(prefix)
    if path is not None:
        with suppress(OSError):
            path.rmdir()
