"""How calls travel: the small protocol between the scheduler and what runs calls somewhere.

A transport makes single attempts and reports what became of them. It knows nothing of retries,
time-outs, stragglers or ledgers, so that these are the same for every engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from hstmap.bag.task import RemoteError, Stage, Status, WorkerInfo
from hstmap.storage_counts import CallRequests, RequestCounts

__all__ = [
    "Call",
    "CallEnded",
    "CallNames",
    "CallStarted",
    "EngineRequests",
    "Report",
    "Transport",
]


@dataclass(frozen=True)
class Call:
    """One attempt to be made.

    Parameters
    ----------
    call_id : int
        Never used twice by an engine.
    payload : object
        Argument for the function of the stage that was begun last.
    timeout_s : float, optional
        After which a worker that can is to end it by itself, s.
    """

    call_id: int
    payload: Any
    timeout_s: float | None = None


@dataclass(frozen=True)
class CallNames:
    """What the backend calls a call; the fields are those of `~hstmap.bag.task.Attempt`."""

    request_id: str = ""
    call_name: str = ""


@dataclass(frozen=True)
class CallStarted:
    """A worker took a call up; ``time_s`` is Unix time, s.

    The worker is None where it only tells who it is when the call ends.
    """

    call_id: int
    worker: WorkerInfo | None
    time_s: float
    names: CallNames = CallNames()


@dataclass(frozen=True)
class CallEnded:
    """A call ended, or was found to be lost.

    The fields are those of `~hstmap.bag.task.Attempt`.
    """

    call_id: int
    status: Status
    value: Any = None
    error: RemoteError | None = None
    worker: WorkerInfo | None = None
    started_s: float | None = None
    ended_s: float = 0.0
    peak_memory_nbytes: int | None = None
    nbytes_in: int = 0
    nbytes_out: int = 0
    names: CallNames = CallNames()
    handler_s: float | None = None
    init_s: float | None = None
    requests: CallRequests | None = None


@dataclass(frozen=True)
class EngineRequests:
    """Requests that an engine made beside those of its attempts.

    Attributes
    ----------
    client : RequestCounts, optional
        By this process: sending calls, looking for answers, reading and removing them. None if the
        backend's storage is not one whose requests can be counted.
    strays : CallRequests
        By invocations whose answers came too late, or beside another of the same call.
    silent : tuple of str
        Names of invocations that began and left no word until the engine was closed: what they
        asked of stores nobody knows, but for the one write that said that they began.
    late_url : str
        What the objects begin with in which invocations tell that come later still; empty if
        nobody would find them.
    """

    client: RequestCounts | None = field(default_factory=RequestCounts)
    strays: CallRequests = field(default_factory=CallRequests)
    silent: tuple[str, ...] = ()
    late_url: str = ""


Report: TypeAlias = CallStarted | CallEnded


class Transport(Protocol):
    """Something that makes calls."""

    @property
    def n_free(self) -> int:
        """Number of calls that would be taken up at once."""

    @property
    def requests(self) -> EngineRequests | None:
        """Requests beside those of attempts, complete once closed; None where there are none."""

    def begin(self, stage: Stage) -> None:
        """Prepare for the calls of a stage; its function is that of all calls that follow.

        Raises
        ------
        EngineError
            If the function cannot travel, or the workers cannot be started.
        """

    def submit(self, calls: Sequence[Call]) -> None:
        """Send calls off, at most `n_free` of them; never waits for them."""

    def poll(self, timeout_s: float | None) -> Sequence[Report]:
        """Wait for news.

        Parameters
        ----------
        timeout_s : float, optional
            Longest wait, s. None: until there is news.

        Returns
        -------
        sequence of Report
            All that is known by now; may be empty, after the time-out or when `n_free` has grown.
        """

    def names(self, call_id: int) -> CallNames:
        """Say what the backend calls a call under way, as far as that is known by now."""

    def kill(self, call_ids: Iterable[int]) -> None:
        """End calls as far as the transport can; nothing is reported about them any more."""

    def close(self) -> None:
        """End all calls and workers and remove what was left lying about. May be repeated."""
