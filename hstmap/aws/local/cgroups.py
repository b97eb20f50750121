"""Memory and CPU shares by control groups, versions 1 and 2.

Every execution environment has groups of its own. Version 1 groups lie below the group that
this process is in. Version 2 forbids controllers below a group that holds processes, so those
groups lie below the nearest ancestor that hands its memory and CPU controllers down.

https://docs.kernel.org/admin-guide/cgroup-v1/ and https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from hstmap.aws.local.processes import own_identity

__all__ = ["GROUP_PREFIX", "CgroupV1", "CgroupV2", "Cgroups", "find_cgroups"]

GROUP_PREFIX = "hstmap-"
# Short enough that a small share is many slices, long enough for the kernel's 1 ms minimum.
_PERIOD_US = 20_000
_PATIENCE_S = 10.0


class Cgroup:
    """The control groups of one execution environment.

    Parameters
    ----------
    folders : dict of str to Path
        The group's folder by controller; all the same one in version 2.
    """

    version: ClassVar[int]

    def __init__(self, folders: dict[str, Path]) -> None:
        self._folders = folders
        try:
            for folder in set(folders.values()):
                folder.mkdir(exist_ok=True)
        except OSError:
            self.remove()  # one controller may allow what another one does not
            raise

    @property
    def join_files(self) -> list[Path]:
        """The files into which a process writes 0 to join."""
        return [folder / "cgroup.procs" for folder in sorted(set(self._folders.values()))]

    def set_memory(self, nbytes: int) -> None:
        """Limit the memory; past it the kernel kills."""
        raise NotImplementedError

    def set_cpu(self, share: float | None) -> None:
        """Limit the CPU to this many vCPUs, or not at all."""
        raise NotImplementedError

    def set_frozen(self, frozen: bool) -> None:
        """Stop all processes, or let them go on."""
        raise NotImplementedError

    def anonymous_nbytes(self) -> int:
        """Return the anonymous memory that is in use now, in bytes."""
        raise NotImplementedError

    def n_memory_kills(self) -> int:
        """Return how many processes the kernel killed for their memory."""
        raise NotImplementedError

    def kill(self, spared: int | None = None) -> bool:
        """Kill all processes but one, and those that they start meanwhile.

        Parameters
        ----------
        spared : int, optional
            The id of the process to spare.

        Returns
        -------
        bool
            Whether there were others.
        """
        with contextlib.suppress(FileNotFoundError):
            self.set_frozen(False)
        give_up = time.monotonic() + _PATIENCE_S
        any_killed = False
        while pids := self.pids() - {spared}:
            any_killed = True
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > give_up:
                raise TimeoutError(f"processes {pids} cannot be killed")
            time.sleep(0.002)
        return any_killed

    def remove(self) -> None:
        """Remove the groups, which must be empty."""
        for folder in set(self._folders.values()):
            _remove(folder)

    def pids(self) -> set[int]:
        """Return the ids of the processes in the groups."""
        # In version 1 a process joins one group after the other.
        pids: set[int] = set()
        for path in self.join_files:
            with contextlib.suppress(FileNotFoundError):
                pids.update(int(pid) for pid in path.read_text().split())
        return pids

    def _read(self, controller: str, name: str) -> str:
        return (self._folders[controller] / name).read_text()

    def _write(self, controller: str, name: str, value: object) -> None:
        (self._folders[controller] / name).write_text(str(value))

    def _counter(self, controller: str, name: str, key: str) -> int:
        for line in self._read(controller, name).splitlines():
            words = line.split()
            if words[0] == key:
                return int(words[1])
        return 0


class CgroupV1(Cgroup):
    """Groups of version 1: one folder a controller."""

    version = 1
    CONTROLLERS = ("cpu", "freezer", "memory")

    def set_memory(self, nbytes: int) -> None:
        """Limit the memory; past it the kernel kills."""
        self._write("memory", "memory.limit_in_bytes", nbytes)
        # Lambda has no swap. The file is there only where the kernel accounts swap.
        if (self._folders["memory"] / "memory.memsw.limit_in_bytes").exists():
            self._write("memory", "memory.memsw.limit_in_bytes", nbytes)

    def set_cpu(self, share: float | None) -> None:
        """Limit the CPU to this many vCPUs, or not at all."""
        self._write("cpu", "cpu.cfs_quota_us", -1)
        if share is not None:
            self._write("cpu", "cpu.cfs_period_us", _PERIOD_US)
            self._write("cpu", "cpu.cfs_quota_us", max(1000, round(share * _PERIOD_US)))

    def set_frozen(self, frozen: bool) -> None:
        """Stop all processes, or let them go on."""
        self._write("freezer", "freezer.state", "FROZEN" if frozen else "THAWED")

    def anonymous_nbytes(self) -> int:
        """Return the anonymous memory that is in use now, in bytes."""
        return self._counter("memory", "memory.stat", "total_rss")

    def n_memory_kills(self) -> int:
        """Return how many processes the kernel killed for their memory."""
        return self._counter("memory", "memory.oom_control", "oom_kill")


class CgroupV2(Cgroup):
    """A group of version 2."""

    version = 2
    CONTROLLERS = ("cpu", "memory")

    def set_memory(self, nbytes: int) -> None:
        """Limit the memory; past it the kernel kills."""
        self._write("memory", "memory.max", nbytes)
        # Lambda has no swap. The file is there only where the kernel accounts swap.
        if (self._folders["memory"] / "memory.swap.max").exists():
            self._write("memory", "memory.swap.max", 0)

    def set_cpu(self, share: float | None) -> None:
        """Limit the CPU to this many vCPUs, or not at all."""
        quota = "max" if share is None else max(1000, round(share * _PERIOD_US))
        self._write("cpu", "cpu.max", f"{quota} {_PERIOD_US}")

    def set_frozen(self, frozen: bool) -> None:
        """Stop all processes, or let them go on."""
        self._write("memory", "cgroup.freeze", int(frozen))

    def anonymous_nbytes(self) -> int:
        """Return the anonymous memory that is in use now, in bytes."""
        return self._counter("memory", "memory.stat", "anon")

    def n_memory_kills(self) -> int:
        """Return how many processes the kernel killed for their memory."""
        return self._counter("memory", "memory.events", "oom_kill")


class Cgroups:
    """Where this process may make control groups.

    Parameters
    ----------
    kind : type
        `CgroupV1` or `CgroupV2`.
    parents : dict of str to Path
        The folder by controller under which groups are made.
    """

    def __init__(self, kind: type[CgroupV1 | CgroupV2], parents: dict[str, Path]) -> None:
        self._kind = kind
        self._parents = parents

    @property
    def version(self) -> int:
        """The version of the control groups."""
        return self._kind.version

    def make(self, name: str) -> Cgroup:
        """Make the groups of one environment."""
        folders = {
            controller: parent / f"{GROUP_PREFIX}{name}"
            for controller, parent in self._parents.items()
        }
        return self._kind(folders)

    def try_out(self) -> None:
        """Make a group, limit it and remove it again.

        Raises
        ------
        OSError
            Where one of that is not allowed.
        """
        group = self.make(f"probe-{own_identity()}-{secrets.token_hex(4)}")
        try:
            group.set_memory(64 << 20)
            group.set_cpu(0.5)
            group.anonymous_nbytes()
        finally:
            group.remove()

    def names(self) -> set[str]:
        """Return the names of the groups that there are, by whomever they were made."""
        return {
            folder.name.removeprefix(GROUP_PREFIX)
            for parent in self._parents.values()
            for folder in parent.glob(f"{GROUP_PREFIX}*")
        }

    def remove_groups(self, names: Iterable[str]) -> None:
        """Kill what is left in groups, and remove them."""
        for name in names:
            group = self.make(name)
            group.kill()
            group.remove()


def find_cgroups(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> Cgroups:
    """Find out which control groups this process may make.

    Parameters
    ----------
    root : Path
        Where the control groups are mounted.
    own : Path
        The file that says in which groups this process is.

    Returns
    -------
    Cgroups
        Tried out: memory and CPU can be limited.

    Raises
    ------
    OSError
        With the reason why there are none.
    """
    memberships = _memberships(own)
    if (root / "cgroup.controllers").exists():
        found = Cgroups(CgroupV2, _parents_v2(root, memberships.get("", "/")))
    else:
        found = Cgroups(CgroupV1, _parents_v1(root, memberships))
    found.try_out()
    return found


def _memberships(own: Path) -> dict[str, str]:
    memberships = {}
    for line in own.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            memberships[controller] = path
    return memberships


def _parents_v1(root: Path, memberships: dict[str, str]) -> dict[str, Path]:
    parents = {}
    for controller in CgroupV1.CONTROLLERS:
        mount = root / controller
        if controller not in memberships or not mount.is_dir():
            raise FileNotFoundError(f"there is no control group controller {controller}")
        inside = mount / memberships[controller].lstrip("/")
        # Within a container the path is often the host's, of which only the end is mounted.
        parents[controller] = inside if inside.is_dir() else mount
    return parents


def _parents_v2(root: Path, own: str) -> dict[str, Path]:
    inside = root / own.lstrip("/")
    for folder in [inside, *inside.parents]:
        if not folder.is_relative_to(root):
            break
        control = folder / "cgroup.subtree_control"
        if control.exists() and set(CgroupV2.CONTROLLERS) <= set(control.read_text().split()):
            return dict.fromkeys(CgroupV2.CONTROLLERS, folder)
    raise PermissionError(
        f"no group above {own} hands its memory and cpu controllers down: run as root, or "
        "under 'systemd-run --user --scope'"
    )


def _remove(folder: Path) -> None:
    give_up = time.monotonic() + _PATIENCE_S
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            # The kernel lets a killed process go a moment after it is gone from the list.
            if time.monotonic() > give_up:
                raise
            time.sleep(0.005)
        else:
            return
