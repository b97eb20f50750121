"""A folder of this process's own for what only matters while it lives."""

from __future__ import annotations

import atexit
import fcntl
import functools
import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["LOCK_NAME", "home_folder", "remove_if_abandoned"]

LOCK_NAME = "client.lock"


class _Home:
    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hstmap-")).resolve()
        # A POSIX lock ends with the process, whatever ends that, so a worker that finds this one
        # free knows that the folder is nobody's.
        self._lock = (self.folder / LOCK_NAME).open("wb")
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
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
    return _home().folder


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
