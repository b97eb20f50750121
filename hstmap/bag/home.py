"""A folder of this process's own for what only matters while it lives."""

from __future__ import annotations

import atexit
import fcntl
import functools
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from hstmap.errors import EngineError

__all__ = [
    "LOCK_NAME",
    "connect_to",
    "home_folder",
    "listen_at",
    "remove_if_abandoned",
    "settle_within",
]

LOCK_NAME = "client.lock"
_LONGEST_SOCKET_PATH = 100
_MAKING = threading.Lock()  # functools.cache calls twice if two threads are the first to ask


class _Home:
    parent: ClassVar[Path | None] = None

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hstmap-", dir=self.parent)).resolve()
        # A POSIX lock ends with the process, whatever ends that, so a worker that finds this one
        # free knows that the folder is nobody's. Nothing closes it before.
        lock = os.open(self.folder / LOCK_NAME, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.lockf(lock, fcntl.LOCK_EX)
        self._pid = os.getpid()
        atexit.register(self._remove)

    def _remove(self) -> None:
        if os.getpid() == self._pid:  # not in a fork of the process
            shutil.rmtree(self.folder, ignore_errors=True)


@functools.cache
def _home() -> _Home:
    return _Home()


def home_folder() -> Path:
    """Return a folder that only this user can read; it is removed when this process ends.

    Returns
    -------
    Path
        The same one each time.
    """
    with _MAKING:
        return _home().folder


def settle_within(parent: Path) -> None:
    """Have this process's folder made inside another one, and so removed with it.

    Parameters
    ----------
    parent : Path
        The home of the client, for a worker: it is killed in the end, and cannot clean up itself.
    """
    _Home.parent = parent


def listen_at(address: Path) -> socket.socket:
    """Make a Unix socket for workers to connect to.

    Parameters
    ----------
    address : Path
        Where, in `home_folder`.

    Returns
    -------
    socket

    Raises
    ------
    EngineError
        If the path is too long and the system knows no way around that.
    """
    listener = socket.socket(socket.AF_UNIX)
    try:
        with _short_path(address) as path:
            listener.bind(path)
    except OSError as error:
        raise EngineError(
            f"no socket can be made at {address}: {error}; set TMPDIR to a short path that can be "
            "written to"
        ) from error
    listener.listen(socket.SOMAXCONN)
    return listener


def connect_to(address: Path) -> socket.socket:
    """Connect to the socket that `listen_at` made.

    Raises
    ------
    OSError
        If nobody listens there.
    """
    client = socket.socket(socket.AF_UNIX)
    try:
        with _short_path(address) as path:
            client.connect(path)
    except OSError:
        client.close()
        raise
    return client


@contextmanager
def _short_path(address: Path) -> Iterator[str]:
    """Give a path that fits into a socket's address: 104 bytes on macOS, 108 on Linux."""
    if len(os.fsencode(address)) <= _LONGEST_SOCKET_PATH or not Path("/proc/self/fd").exists():
        yield str(address)
        return
    folder = os.open(address.parent, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{folder}/{address.name}"
    finally:
        os.close(folder)


def remove_if_abandoned(folder: Path) -> None:
    """Remove another process's folder, if that process was killed before it could.

    Parameters
    ----------
    folder : Path
        What `home_folder` returned there.
    """
    try:
        with (folder / LOCK_NAME).open("r+b") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return  # its process lives and has more to do; or the folder is gone already
