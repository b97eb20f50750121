"""Processes found by a mark in their environment, so that none is ever left behind.

Whatever is started carries the variable `MARK`, and its descendants inherit it: children that
left their process group or session are found all the same.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "MARK",
    "is_alive",
    "kill_marked",
    "marked_processes",
    "own_identity",
    "peak_nbytes",
    "resident_nbytes",
    "signal_marked",
    "youngest_process",
]

MARK = "HSTMAP_LOCAL_AWS"
_PATIENCE_S = 10.0


def marked_processes(mark: str) -> list[int]:
    """Return the ids of the processes whose mark starts so.

    Parameters
    ----------
    mark : str
        The value of the variable, or how it begins.

    Returns
    -------
    list of int
        Living processes; zombies have no environment any more.
    """
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        try:
            environment = Path(entry.path, "environ").read_bytes()
        except OSError:
            continue  # gone, or another user's
        if environment.startswith(wanted) or b"\0" + wanted in environment:
            found.append(int(entry.name))
    return found


def signal_marked(mark: str, number: signal.Signals, spared: int | None = None) -> int:
    """Send a signal to every marked process but one, and return how many there were."""
    found = [pid for pid in marked_processes(mark) if pid not in (os.getpid(), spared)]
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return len(found)


def kill_marked(mark: str, spared: int | None = None) -> bool:
    """Kill every marked process but one, and those that they start meanwhile.

    Parameters
    ----------
    mark : str
        As for `marked_processes`.
    spared : int, optional
        The id of the process to spare.

    Returns
    -------
    bool
        Whether there were any.

    Raises
    ------
    TimeoutError
        Where some are still there after ten seconds.
    """
    give_up = time.monotonic() + _PATIENCE_S
    any_killed = False
    while signal_marked(mark, signal.SIGKILL, spared):
        any_killed = True
        if time.monotonic() > give_up:
            raise TimeoutError(f"processes {marked_processes(mark)} cannot be killed")
        time.sleep(0.002)
    return any_killed


def youngest_process(pids: Iterable[int]) -> int | None:
    """Return the process that was started last, None where all are gone.

    Parameters
    ----------
    pids : iterable of int
        Of two of one hundredth of a second the one with the larger id counts as the younger.
    """
    started = [(ticks, pid) for pid in pids if (ticks := _start_ticks(pid)) is not None]
    return max(started)[1] if started else None


def resident_nbytes(pid: int) -> int:
    """Return the anonymous memory of a process, in bytes; 0 where it is gone."""
    return _memory_nbytes(pid).get("RssAnon", 0)


def peak_nbytes(pid: int) -> int:
    """Return the most anonymous memory that a process ever had, in bytes; 0 where it is gone."""
    memory = _memory_nbytes(pid)
    # The kernel keeps the peak of all resident memory; that of files hardly changes.
    files = memory.get("RssFile", 0) + memory.get("RssShmem", 0)
    return max(0, memory.get("VmHWM", 0) - files)


def own_identity() -> str:
    """Return what tells this process from all others of this machine, dead or alive."""
    return f"{os.getpid()}-{_start_ticks(os.getpid())}"


def is_alive(identity: str) -> bool:
    """Whether the process of an identity lives."""
    pid, _, ticks = identity.partition("-")
    return pid.isdecimal() and str(_start_ticks(int(pid))) == ticks


def _start_ticks(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The 22nd field; the second one is a name in brackets, which may hold anything.
    return int(stat.rpartition(")")[2].split()[19])


def _memory_nbytes(pid: int) -> dict[str, int]:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    fields = (line.split() for line in status.splitlines() if line.endswith(" kB"))
    return {name.rstrip(":"): int(kilobytes) * 1024 for name, kilobytes, _ in fields}
