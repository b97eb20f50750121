"""Engines: tasks in, attempts out as they end.

An engine is a transport (how single calls travel, `hstmap.bag.transport`) under a scheduler
(retries, time-outs, stragglers, events, `hstmap.bag.scheduler`). The one here runs calls in this
process; `hstmap.bag.lithops` runs them wherever Lithops can.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Generator, Iterable, Sequence
from typing import Protocol, Self

from hstmap.bag.events import Observer
from hstmap.bag.gate import Gate
from hstmap.bag.outcome import attempt_call, judged, peak_memory_nbytes, reset_peak_memory
from hstmap.bag.scheduler import StageRun
from hstmap.bag.task import (
    Attempt,
    EngineOptions,
    RemoteError,
    Stage,
    Status,
    Task,
    WorkerInfo,
    raise_for,
)
from hstmap.bag.transport import (
    Call,
    CallEnded,
    CallNames,
    CallStarted,
    EngineRequests,
    Report,
    Transport,
)
from hstmap.errors import EngineError, UsageError
from hstmap.storage_counts import CallRequests, RequestCounts, heard_by

__all__ = [
    "Attempt",
    "Engine",
    "EngineOptions",
    "InProcessEngine",
    "RemoteError",
    "Stage",
    "Status",
    "Task",
    "TransportEngine",
    "WorkerInfo",
    "make_engine",
    "raise_for",
]


class Engine(Protocol):
    """What runs the tasks of a stage. Use it as a context manager, or close it."""

    @property
    def options(self) -> EngineOptions:
        """How this engine runs tasks."""

    @property
    def requests(self) -> EngineRequests | None:
        """Requests to stores beside those of attempts, complete once the engine is closed.

        None for an engine that makes none.
        """

    def run(self, stage: Stage) -> Generator[Attempt, None, None]:
        """Run a stage.

        Parameters
        ----------
        stage : Stage

        Yields
        ------
        Attempt
            Every attempt as it ends, in any order. Each task has exactly one with ``final`` set,
            and it is the last of its task. Failures are data: nothing is raised for them.
            Closing the iterator early ends the attempts that are under way. Where a gate forbids
            further calls, tasks remain that have none: then the stage is not complete.

        Raises
        ------
        EngineError
            If the stage cannot be run at all.
        UsageError
            If two tasks have the same key.
        """

    def close(self) -> None:
        """End the workers. May be repeated; the engine is of no use afterwards."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_error: object) -> None: ...


class TransportEngine:
    """A scheduler on a transport.

    Parameters
    ----------
    transport : Transport
        Closed with the engine.
    options : EngineOptions
    observers : sequence of Observer
        Called with each event, in the thread that consumes `run`.
    gate : Gate, optional
        What each call must be let through by.
    """

    def __init__(
        self,
        transport: Transport,
        options: EngineOptions,
        observers: Sequence[Observer] = (),
        gate: Gate | None = None,
    ) -> None:
        self._transport = transport
        self._options = options
        self._observers = tuple(observers)
        self._gate = gate
        self._call_ids = itertools.count()
        self._running: str | None = None
        self._closed = False

    @property
    def options(self) -> EngineOptions:
        """How this engine runs tasks."""
        return self._options

    @property
    def requests(self) -> EngineRequests | None:
        """Requests beside those of attempts; see `Engine.requests`."""
        return self._transport.requests

    def run(self, stage: Stage) -> Generator[Attempt, None, None]:
        """Run a stage; see `Engine.run`."""
        if self._closed:
            raise EngineError(f"stage {stage.name!r}: this engine is closed; make another one")
        stage_run = StageRun(stage, self._transport, self._options, self._observers, self._call_ids)
        return self._exclusively(stage.name, stage_run)

    def _exclusively(self, name: str, stage_run: StageRun) -> Generator[Attempt, None, None]:
        if self._running is not None:
            raise EngineError(
                f"stage {name!r} cannot start: stage {self._running!r} is under way on this "
                "engine; use up or close its iterator first, or make a second engine"
            )
        self._running = name
        try:
            yield from stage_run.attempts(self._gate)
        finally:
            self._running = None

    def close(self) -> None:
        """End the workers; see `Engine.close`."""
        self._closed = True
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class _InProcessTransport:
    """Makes a call when it is polled for, in the thread that polls."""

    def __init__(self, options: EngineOptions) -> None:
        self.requests: EngineRequests | None = None
        self._retry_on = options.retry_on
        self._stage: Stage | None = None
        self._call: Call | None = None
        self._cold = True

    @property
    def n_free(self) -> int:
        return 0 if self._call else 1

    def begin(self, stage: Stage) -> None:
        self._stage = stage

    def submit(self, calls: Sequence[Call]) -> None:
        (self._call,) = calls

    def poll(self, timeout_s: float | None) -> Sequence[Report]:
        if self._call is None or self._stage is None:
            time.sleep(timeout_s or 0.0)  # only a delayed retry is waited for
            return ()
        call, self._call = self._call, None
        worker = WorkerInfo(socket.gethostname(), os.getpid(), self._cold)
        self._cold = False
        reset_peak_memory()
        started_s = time.time()
        requests = RequestCounts()
        with heard_by(requests.__iadd__):
            outcome = judged(attempt_call(self._stage.function, call.payload), self._retry_on)
        return (
            CallStarted(call.call_id, worker, started_s),
            CallEnded(
                call.call_id,
                outcome.status,
                value=outcome.value,
                error=outcome.error,
                worker=worker,
                started_s=started_s,
                ended_s=time.time(),
                peak_memory_nbytes=peak_memory_nbytes(),
                requests=CallRequests(work=requests),
            ),
        )

    def names(self, call_id: int) -> CallNames:  # noqa: ARG002 - of none of them
        """Say that there is no backend that has names for calls."""
        return CallNames()

    def kill(self, call_ids: Iterable[int]) -> None:
        if self._call is not None and self._call.call_id in tuple(call_ids):
            self._call = None

    def close(self) -> None:
        self._call = None


class InProcessEngine(TransportEngine):
    """Runs one task after another, here: for debugging, tests, and tasks that cannot travel.

    A debugger works in the function, and an attempt's ``error.exception`` is the exception that
    was raised, with its traceback. Nothing is pickled. Retries are as everywhere. There are no
    time-outs and no twins: nobody could end a function of this process; and what ends the process
    (a signal, `os._exit`) ends it.

    Parameters
    ----------
    options : EngineOptions, optional
    observers : sequence of Observer
    gate : Gate, optional
    """

    def __init__(
        self,
        options: EngineOptions | None = None,
        observers: Sequence[Observer] = (),
        gate: Gate | None = None,
    ) -> None:
        options = EngineOptions() if options is None else options
        super().__init__(_InProcessTransport(options), options, observers, gate)


def make_engine(
    name: str,
    options: EngineOptions | None = None,
    observers: Sequence[Observer] = (),
    gate: Gate | None = None,
) -> Engine:
    """Make an engine by its name.

    Parameters
    ----------
    name : {"lithops", "inprocess"}
    options : EngineOptions, optional
    observers : sequence of Observer
        Progress bars, ledgers and the like: called with each event.
    gate : Gate, optional
        What each call must be let through by, such as a budget.

    Returns
    -------
    Engine
        To be closed; workers are started by the first stage only.

    Raises
    ------
    UsageError
        If there is no engine of that name.
    """
    if name == "inprocess":
        return InProcessEngine(options, observers, gate)
    if name == "lithops":
        from hstmap.bag.lithops import LithopsEngine

        return LithopsEngine(options, observers, gate)
    raise UsageError(f"engine {name!r} is not known; give 'lithops' or 'inprocess'")
