"""What holds an execution environment in: a sandbox, a memory limit, a CPU share.

Each is taken where the machine allows it, and what it does not allow is said.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hstmap.aws.local.cgroups import Cgroup, Cgroups, find_cgroups
from hstmap.aws.local.options import LocalAwsOptions
from hstmap.aws.local.processes import (
    kill_marked,
    marked_processes,
    peak_nbytes,
    resident_nbytes,
    signal_marked,
)
from hstmap.errors import UsageError

__all__ = ["FileSystem", "Isolation", "Limits", "find_isolation"]

# The user of Lambda's environments, as programs in them see it.
UID, GID, HOME = "993", "990", "/home/sbx_user1051"
# Reading every process's environment is dear beside reading the memory of known ones.
_SCAN_EVERY_S = 0.1
_SYSTEM_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_SYSTEM_FILES = (
    "alternatives",
    "ca-certificates",
    "group",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "nsswitch.conf",
    "pki",
    "resolv.conf",
    "ssl",
)
_NAMESPACES = (
    "--die-with-parent",
    "--new-session",
    "--unshare-user",
    "--uid",
    UID,
    "--gid",
    GID,
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--hostname",
    "169.254.0.1",
)
# The shell joins the groups before it becomes the environment, so that not one byte of the
# environment's memory is counted elsewhere.
_JOIN = 'while [ "$1" != -- ]; do echo 0 > "$1" || exit 126; shift; done; shift; exec "$@"'
_ULIMIT = 'ulimit -d "$1" || exit 126; shift; exec "$@"'


class Limits(Protocol):
    """What holds the memory and the CPU of one environment."""

    def wrap(self, command: Sequence[str]) -> list[str]:
        """Return the command that runs another one within the limits."""

    def set_cpu(self, share: float | None) -> None:
        """Limit the CPU to this many vCPUs, or not at all."""

    def set_frozen(self, frozen: bool) -> None:
        """Stop all processes, or let them go on."""

    def sample_nbytes(self) -> int:
        """Return the memory in use now, in bytes."""

    def peak_nbytes(self) -> int:
        """Return the most memory that any one of the processes ever had, in bytes."""

    def killed_for_memory(self) -> bool:
        """Whether a process was killed because of its memory since this was last asked."""

    def kill(self, spared: int | None = None) -> bool:
        """Kill every process but one; return whether there were others."""

    def remove(self) -> None:
        """Leave nothing behind."""


class CgroupLimits:
    """Limits that the kernel enforces."""

    def __init__(self, group: Cgroup, memory_nbytes: int) -> None:
        self._group = group
        self._n_kills_seen = 0
        group.set_memory(memory_nbytes)

    def wrap(self, command: Sequence[str]) -> list[str]:
        """Return the command that runs another one within the limits."""
        files = [str(path) for path in self._group.join_files]
        return ["/bin/sh", "-c", _JOIN, "join", *files, "--", *command]

    def set_cpu(self, share: float | None) -> None:
        """Limit the CPU to this many vCPUs, or not at all."""
        self._group.set_cpu(share)

    def set_frozen(self, frozen: bool) -> None:
        """Stop all processes, or let them go on."""
        self._group.set_frozen(frozen)

    def sample_nbytes(self) -> int:
        """Return the memory in use now, in bytes."""
        return self._group.anonymous_nbytes()

    def peak_nbytes(self) -> int:
        """Return the most memory that any one of the processes ever had, in bytes."""
        return max(map(peak_nbytes, self._group.pids()), default=0)

    def killed_for_memory(self) -> bool:
        """Whether a process was killed because of its memory since this was last asked."""
        n_kills = self._group.n_memory_kills()
        seen, self._n_kills_seen = self._n_kills_seen, n_kills
        return n_kills > seen

    def kill(self, spared: int | None = None) -> bool:
        """Kill every process but one; return whether there were others."""
        return self._group.kill(spared)

    def remove(self) -> None:
        """Leave nothing behind."""
        self._group.remove()


class ProcessLimits:
    """Limits where there are no control groups: memory is watched, the CPU share is not held.

    The environment is killed when a sample of its memory is over the limit. A process that
    grows faster than it is sampled meets its resource limit at twice that: a MemoryError.
    """

    def __init__(self, mark: str, memory_nbytes: int) -> None:
        self._mark = mark
        self._memory_nbytes = memory_nbytes
        self._killed_for_memory = False
        self._pids: list[int] = []
        self._scanned_at = 0.0

    def wrap(self, command: Sequence[str]) -> list[str]:
        """Return the command that runs another one within the limits."""
        kilobytes = str(2 * self._memory_nbytes // 1024)
        die_with_parent = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        return ["/bin/sh", "-c", _ULIMIT, "limit", kilobytes, *die_with_parent, *command]

    def set_cpu(self, share: float | None) -> None:
        """Do nothing: there is no CPU share without control groups."""

    def set_frozen(self, frozen: bool) -> None:
        """Stop all processes, or let them go on."""
        signal_marked(self._mark, signal.SIGSTOP if frozen else signal.SIGCONT)

    def sample_nbytes(self) -> int:
        """Return the memory in use now, in bytes; kill where it is too much."""
        now = time.monotonic()
        if now - self._scanned_at > _SCAN_EVERY_S:
            self._pids, self._scanned_at = marked_processes(self._mark), now
        nbytes = sum(resident_nbytes(pid) for pid in self._pids)
        if nbytes > self._memory_nbytes:
            self._killed_for_memory = True
            self.kill()
        return nbytes

    def peak_nbytes(self) -> int:
        """Return the most memory that any one of the processes ever had, in bytes."""
        return max(map(peak_nbytes, marked_processes(self._mark)), default=0)

    def killed_for_memory(self) -> bool:
        """Whether a process was killed because of its memory since this was last asked."""
        killed, self._killed_for_memory = self._killed_for_memory, False
        return killed

    def kill(self, spared: int | None = None) -> bool:
        """Kill every process but one; return whether there were others."""
        # The spared one must be able to take note of the others' end.
        self.set_frozen(False)
        return kill_marked(self._mark, spared)

    def remove(self) -> None:
        """Do nothing: there is nothing besides the processes."""


@dataclass(frozen=True)
class FileSystem:
    """What an environment sees: read-only, except for the temporary folder.

    Parameters
    ----------
    task, opt, lang : Path
        What is at ``/var/task``, ``/opt`` and ``/var/lang``.
    tmp, passwd : Path
        What is at ``/tmp`` and ``/etc/passwd``.
    lent : tuple of Path
        Folders of the host that are seen at their own place.
    root : Path, optional
        The root of a whole image, which is then all that is seen.
    working_folder : str
        Where the command starts, by its path in the sandbox.
    """

    task: Path
    opt: Path
    lang: Path
    tmp: Path
    passwd: Path
    lent: tuple[Path, ...] = ()
    root: Path | None = None
    working_folder: str = "/var/task"


@dataclass(frozen=True)
class Isolation:
    """What this machine allows.

    Parameters
    ----------
    bubblewrap : str, optional
        The program, where sandboxes work.
    cgroups : Cgroups, optional
        Where control groups work.
    remarks : tuple of str
        What is not held here, and why.
    """

    bubblewrap: str | None
    cgroups: Cgroups | None
    remarks: tuple[str, ...]

    @property
    def description(self) -> str:
        """What holds the environments in, in one line."""
        sandbox = "bubblewrap" if self.bubblewrap else "no sandbox"
        if self.cgroups is None:
            return f"{sandbox}, rlimits: memory is watched, the CPU share is not enforced"
        return f"{sandbox}, control groups v{self.cgroups.version}: memory and CPU share enforced"

    def make_limits(self, name: str, mark: str, memory_mb: int) -> Limits:
        """Make the limits of one environment.

        Parameters
        ----------
        name : str
            A name that no other environment on this machine has.
        mark : str
            The mark that its processes carry.
        memory_mb : int
            The configured memory.

        Returns
        -------
        Limits
            Still without a limit of the CPU.
        """
        nbytes = memory_mb << 20
        if self.cgroups is None:
            return ProcessLimits(mark, nbytes)
        return CgroupLimits(self.cgroups.make(name), nbytes)

    def sandboxed(
        self, files: FileSystem, environment: Mapping[str, str], command: Sequence[str]
    ) -> list[str]:
        """Return the command that runs another one in a sandbox.

        Parameters
        ----------
        files : FileSystem
            What is seen in it.
        environment : mapping of str to str
            All of its environment variables.
        command : sequence of str
            What runs in it, by the paths in it.

        Returns
        -------
        list of str
            A command line of bubblewrap.
        """
        if self.bubblewrap is None:
            raise UsageError("there is no sandbox on this machine: install bubblewrap")
        line = [self.bubblewrap, *_NAMESPACES, *_system_binds(files.root)]
        line += ["--proc", "/proc", "--dev", "/dev", "--bind", str(files.tmp), "/tmp"]
        if files.root is None:
            for source, target in (
                (files.lang, "/var/lang"),
                (files.task, "/var/task"),
                (files.opt, "/opt"),
                (files.passwd, "/etc/passwd"),
                *((path, str(path)) for path in files.lent),
            ):
                line += ["--ro-bind", str(source), target]
            line += ["--dir", HOME, "--remount-ro", "/"]
        line += ["--chdir", files.working_folder, "--clearenv"]
        for name, value in environment.items():
            line += ["--setenv", name, value]
        return [*line, "--", *command]


def find_isolation(options: LocalAwsOptions) -> Isolation:
    """Find out what this machine allows, by trying it.

    Parameters
    ----------
    options : LocalAwsOptions
        What is wanted.

    Returns
    -------
    Isolation
        The best of what is wanted.

    Raises
    ------
    UsageError
        Where something is demanded that does not work here.
    """
    remarks = []
    bubblewrap = None
    if options.sandbox != "none":
        bubblewrap = shutil.which("bwrap")
        problem = _sandbox_problem(bubblewrap)
        if problem is not None:
            bubblewrap = None
            remarks.append(f"no sandbox: {problem}")
    groups = None
    if options.limits != "rlimits":
        try:
            groups = find_cgroups()
        except OSError as error:
            remarks.append(f"CPU share not enforced, memory only watched: {error}")
    if options.sandbox == "bubblewrap" and bubblewrap is None:
        raise UsageError(f"bubblewrap was demanded, but there is {remarks[0]}")
    if options.limits == "cgroups" and groups is None:
        raise UsageError(f"control groups were demanded, but {remarks[-1]}")
    return Isolation(bubblewrap, groups, tuple(remarks))


def _sandbox_problem(bubblewrap: str | None) -> str | None:
    if bubblewrap is None:
        return "bubblewrap (bwrap) is not installed"
    line = [bubblewrap, *_NAMESPACES, *_system_binds(None), "--proc", "/proc", "--dev", "/dev"]
    trial = subprocess.run([*line, "--", "/bin/true"], capture_output=True, text=True, check=False)
    if trial.returncode == 0:
        return None
    return trial.stderr.strip() or f"bubblewrap ended with status {trial.returncode}"


def _system_binds(root: Path | None) -> list[str]:
    if root is not None:
        return ["--ro-bind", str(root), "/"]
    line = ["--ro-bind", "/usr", "/usr"]
    for name in _SYSTEM_FOLDERS:
        folder = Path("/", name)
        if folder.is_symlink():
            line += ["--symlink", str(folder.readlink()), f"/{name}"]
        elif folder.is_dir():
            line += ["--ro-bind", f"/{name}", f"/{name}"]
    for name in _SYSTEM_FILES:
        line += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    return line
