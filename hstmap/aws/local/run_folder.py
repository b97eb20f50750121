"""The folder of one loopback AWS, and the removal of what killed ones left behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import IO

from hstmap.aws.local.cgroups import Cgroups
from hstmap.aws.local.processes import is_alive, kill_marked, own_identity

__all__ = ["RunFolder"]

_LOCK = "owner.lock"


class RunFolder:
    """A folder whose owner holds a lock on it for as long as it lives.

    Parameters
    ----------
    parent : Path, optional
        Where it is made, by default a folder of the user's in the temporary one.
    cgroups : Cgroups, optional
        Where control groups of runs are.
    """

    def __init__(self, parent: Path | None, cgroups: Cgroups | None) -> None:
        self._cgroups = cgroups
        self._parent = parent or Path(tempfile.gettempdir()) / f"hstmap-local-aws-{os.getuid()}"
        self._parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweep()
        name = f"{own_identity()}-{secrets.token_hex(3)}"
        unnamed = self._parent / f"new-{name}"
        while not unnamed.exists():
            self._parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The last of other runs may remove the parent between the two.
            with contextlib.suppress(FileNotFoundError):
                unnamed.mkdir()
        lock = _try_lock(unnamed)
        if lock is None:
            raise FileExistsError(f"{unnamed} belongs to another process")
        self._lock: IO[bytes] = lock
        # It gets the name that others sweep only when it is locked.
        self.path = unnamed.rename(self._parent / f"run-{name}")

    def remove(self) -> None:
        """Remove the folder, and whatever still runs in its name; do it once or more."""
        if self.path.exists():
            self._clean(self.path)
        self._lock.close()
        with contextlib.suppress(OSError):
            self._parent.rmdir()  # only the last of several runs can

    def _sweep(self) -> None:
        """Remove the runs whose owner was killed."""
        for path in self._parent.glob("run-*"):
            lock = _try_lock(path)
            if lock is not None:
                self._clean(path)
                lock.close()
        if self._cgroups is not None:
            # Those of runs whose folders were elsewhere, or are gone.
            names = {name for name in self._cgroups.names() if not is_alive(_owner(name))}
            self._cgroups.remove_groups(names)

    def _clean(self, path: Path) -> None:
        # Control groups first: what is frozen in them cannot be killed.
        if self._cgroups is not None:
            names = {n for n in self._cgroups.names() if n.startswith(f"{path.name}-")}
            self._cgroups.remove_groups(names)
        kill_marked(f"{path}/")
        shutil.rmtree(path, ignore_errors=True)


def _owner(group: str) -> str:
    """Return the identity in the name of a control group, ``run-<identity>-...``."""
    return "-".join(group.split("-")[1:3])


def _try_lock(path: Path) -> IO[bytes] | None:
    """Return the locked file of a run, None where its owner lives."""
    try:
        lock = (path / _LOCK).open("ab")
    except FileNotFoundError:
        return None  # another process removes it at this moment
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return None
    return lock
