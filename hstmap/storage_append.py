"""Objects that grow line by line: what stores have no request for."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from hstmap.errors import StorageError

if TYPE_CHECKING:
    from hstmap.storage import Store

__all__ = ["open_append"]


def open_append(store: Store, key: str) -> IO[bytes] | None:
    """Open a local object for writing at its end.

    Parameters
    ----------
    store : Store
    key : str
        The object; folders on the way are made.

    Returns
    -------
    binary file or None
        Unbuffered, so that what is written survives the process. To be closed by the caller. None
        if the store is not local: what is there already cannot be added to, only replaced.

    Raises
    ------
    StorageError
        If it cannot be opened.
    """
    path = store.local_path(key)
    if path is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab", buffering=0)
    except OSError as error:
        raise StorageError(str(path), f"cannot be written: {error.strerror}") from error
