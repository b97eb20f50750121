"""Brings every task of a stage to its final attempt, over any transport."""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from hstmap.bag.events import (
    AttemptEnded,
    AttemptStarted,
    AttemptSubmitted,
    Event,
    Observer,
    StageEnded,
    StageStarted,
)
from hstmap.bag.gate import Gate
from hstmap.bag.policy import RunningQuantile, retry_delay_s
from hstmap.bag.task import Attempt, EngineOptions, RemoteError, Stage, Task, WorkerInfo
from hstmap.bag.transport import Call, CallEnded, CallStarted, Transport
from hstmap.errors import UsageError

__all__ = ["StageRun"]

_Reason = Literal["first", "retry", "twin"]


@dataclass
class _TaskState:
    """A task on its way: how often it was tried, and which of its calls are under way."""

    task: Task
    n_attempts: int = 0
    n_failures: int = 0
    live: list[int] = field(default_factory=list)


@dataclass
class _LiveCall:
    """A call that was sent and has not ended."""

    state: _TaskState
    number: int
    submitted_s: float
    limit_s: float | None = None
    started_s: float | None = None
    started_clock: float = math.nan
    worker: WorkerInfo | None = None


class StageRun:
    """One pass of a stage through a transport.

    Parameters
    ----------
    stage : Stage
    transport : Transport
    options : EngineOptions
    observers : sequence of Observer
        Called with each event, in the thread of the caller.
    call_ids : iterator of int
        Gives numbers that the transport has not seen.
    clock : callable
        Monotonic time, s.

    Raises
    ------
    UsageError
        If two tasks have the same key.
    """

    def __init__(
        self,
        stage: Stage,
        transport: Transport,
        options: EngineOptions,
        observers: Sequence[Observer] = (),
        call_ids: Iterator[int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _refuse_repeated_keys(stage)
        self._stage = stage
        self._transport = transport
        self._options = options
        self._observers = observers
        self._call_ids = itertools.count() if call_ids is None else call_ids
        self._clock = clock
        self._waiting: Iterator[Task] = iter(stage.tasks)
        self._n_waiting = len(stage.tasks)
        # (when it may start, order of arrival, task): a heap
        self._delayed: list[tuple[float, int, _TaskState]] = []
        self._delay_order = itertools.count()
        self._live: dict[int, _LiveCall] = {}
        self._by_limit: list[tuple[float, int]] = []  # (when its time is over, call): a heap
        self._twin_candidates: deque[int] = deque()
        self._n_twins = 0
        self._n_ok = 0
        self._n_failed = 0
        self._gate: Gate | None = None
        self._is_refused = False  # by the gate, when it was asked last
        policy = options.stragglers
        self._durations = RunningQuantile(policy.quantile) if policy else None

    def attempts(self, gate: Gate | None = None) -> Generator[Attempt, None, None]:
        """Yield every attempt as it ends; calls still under way are ended when this is closed.

        Parameters
        ----------
        gate : Gate, optional
            What each call must be let through by.

        Yields
        ------
        Attempt
        """
        self._gate = gate
        n_tasks = len(self._stage.tasks)
        self._emit(StageStarted(self._stage.name, n_tasks, time.time()))
        try:
            if n_tasks:
                self._transport.begin(self._stage)
            while self._n_ok + self._n_failed < n_tasks:
                self._submit_due()
                if self._is_refused and not self._live:
                    break  # nothing is left that could change the gate's mind
                ended = self._take_reports(self._wait_s())
                ended += self._end_overdue()
                # The workers go on while the caller looks at these attempts.
                self._submit_due()
                yield from ended
        finally:
            self._transport.kill(tuple(self._live))
            self._live.clear()
            n_done = self._n_ok + self._n_failed
            self._emit(
                StageEnded(
                    self._stage.name,
                    n_tasks,
                    self._n_ok,
                    self._n_failed,
                    n_done == n_tasks,
                    time.time(),
                )
            )

    # -- sending ---------------------------------------------------------------------------------

    def _submit_due(self) -> None:
        calls: list[Call] = []
        n_free = self._transport.n_free
        now = self._clock()
        self._is_refused = False

        def may_send() -> bool:
            if len(calls) < n_free and self._gate is not None and not self._is_refused:
                self._is_refused = not self._gate.may_send()
            return len(calls) < n_free and not self._is_refused

        while self._delayed and self._delayed[0][0] <= now and may_send():
            calls.append(self._new_call(heapq.heappop(self._delayed)[2], "retry"))
        while self._n_waiting and may_send():
            self._n_waiting -= 1
            calls.append(self._new_call(_TaskState(next(self._waiting)), "first"))
        while self._twin_due_in_s() <= 0 and may_send():
            straggler = self._live[self._twin_candidates.popleft()]
            self._n_twins += 1
            calls.append(self._new_call(straggler.state, "twin"))
        if calls:
            self._transport.submit(calls)

    def _new_call(self, state: _TaskState, reason: _Reason) -> Call:
        call_id = next(self._call_ids)
        state.n_attempts += 1
        state.live.append(call_id)
        now_s = time.time()
        limit_s = self._options.limit_s(state.n_attempts)
        self._live[call_id] = _LiveCall(state, state.n_attempts, now_s, limit_s)
        self._emit(
            AttemptSubmitted(self._stage.name, state.task.key, state.n_attempts, reason, now_s)
        )
        return Call(call_id, state.task.payload, limit_s)

    # -- waiting ---------------------------------------------------------------------------------

    def _wait_s(self) -> float | None:
        """Return the time until something must be done without news; None if never."""
        now = self._clock()
        wait_s = min(self._overdue_in_s(), self._twin_due_in_s())
        if self._delayed:
            wait_s = min(wait_s, self._delayed[0][0] - now)
        if wait_s <= 0 and (self._transport.n_free == 0 or self._is_refused):
            # What is due waits for a worker, or for the gate. A worker that comes free is news,
            # and so is the end of a call; only a time-out brings that about by force.
            wait_s = self._overdue_in_s()
        return None if math.isinf(wait_s) else max(0.0, wait_s)

    def _overdue_in_s(self) -> float:
        while self._by_limit and self._by_limit[0][1] not in self._live:
            heapq.heappop(self._by_limit)
        return self._by_limit[0][0] - self._clock() if self._by_limit else math.inf

    def _twin_due_in_s(self) -> float:
        policy = self._options.stragglers
        if policy is None or self._durations is None or not len(self._durations):
            return math.inf
        n_tasks = len(self._stage.tasks)
        if self._n_waiting or self._n_twins >= policy.max_twins(n_tasks):
            return math.inf
        while self._twin_candidates and not self._may_get_twin(self._twin_candidates[0]):
            self._twin_candidates.popleft()
        if not self._twin_candidates:
            return math.inf
        n_done = self._n_ok + self._n_failed
        patience_s = policy.patience_s(n_tasks, n_done, self._durations.value)
        return self._live[self._twin_candidates[0]].started_clock + patience_s - self._clock()

    def _may_get_twin(self, call_id: int) -> bool:
        call = self._live.get(call_id)
        return call is not None and len(call.state.live) == 1

    # -- receiving -------------------------------------------------------------------------------

    def _take_reports(self, timeout_s: float | None) -> list[Attempt]:
        ended: list[Attempt] = []
        for report in self._transport.poll(timeout_s):
            call = self._live.get(report.call_id)
            if call is None:
                continue  # it was cancelled, or timed out, while its report was under way
            if isinstance(report, CallStarted):
                self._note_start(report, call)
            else:
                ended += self._close_call(report, call)
        return ended

    def _note_start(self, report: CallStarted, call: _LiveCall) -> None:
        call.started_s = report.time_s
        call.started_clock = self._clock()
        call.worker = report.worker
        if call.limit_s is not None:
            over = call.started_clock + call.limit_s
            heapq.heappush(self._by_limit, (over, report.call_id))
        self._twin_candidates.append(report.call_id)
        task_key, names = call.state.task.key, vars(report.names)
        self._emit(
            AttemptStarted(
                self._stage.name, task_key, call.number, report.worker, report.time_s, **names
            )
        )

    def _end_overdue(self) -> list[Attempt]:
        ended: list[Attempt] = []
        while self._overdue_in_s() <= 0:
            _, call_id = heapq.heappop(self._by_limit)
            call = self._live[call_id]
            names = self._transport.names(call_id)
            self._transport.kill((call_id,))
            error = RemoteError(
                "TimedOut",
                f"it ran longer than its limit of {call.limit_s:g} s and was ended",
                retryable=True,
            )
            now_s = time.time()
            report = CallEnded(call_id, "timeout", error=error, ended_s=now_s, names=names)
            ended += self._close_call(report, call)
        return ended

    def _close_call(self, report: CallEnded, call: _LiveCall) -> list[Attempt]:
        """Account for a call that ended; return the attempts that ended with it."""
        state = call.state
        del self._live[report.call_id]
        state.live.remove(report.call_id)
        if report.status == "ok":
            final = True
            self._n_ok += 1
            self._note_duration(report, call)
        else:
            state.n_failures += 1
            final = self._is_hopeless(report, state)
            self._n_failed += final
        attempts = self._cancel_rest(state) if final else []
        attempts.append(self._attempt(report, call, final=final))
        if not final and not state.live:
            self._retry_later(report, state)
        return attempts

    def _is_hopeless(self, report: CallEnded, state: _TaskState) -> bool:
        if report.error is not None and not report.error.retryable:
            return True
        return not state.live and state.n_failures > self._options.retries

    def _retry_later(self, report: CallEnded, state: _TaskState) -> None:
        # An error needs time to pass away; a lost worker's task can start on another one at once.
        delay_s = retry_delay_s(state.n_failures) if report.status == "error" else 0.0
        due = self._clock() + delay_s
        heapq.heappush(self._delayed, (due, next(self._delay_order), state))

    def _note_duration(self, report: CallEnded, call: _LiveCall) -> None:
        started_s = call.started_s if report.started_s is None else report.started_s
        if self._durations is not None and started_s is not None:
            self._durations.add(max(0.0, report.ended_s - started_s))

    def _cancel_rest(self, state: _TaskState) -> list[Attempt]:
        doomed = {call_id: self._transport.names(call_id) for call_id in state.live}
        self._transport.kill(tuple(doomed))
        state.live.clear()
        error = RemoteError("Cancelled", "another attempt of the task ended first")
        return [
            self._attempt(
                CallEnded(call_id, "cancelled", error=error, ended_s=time.time(), names=names),
                self._live.pop(call_id),
                final=False,
            )
            for call_id, names in doomed.items()
        ]

    def _attempt(self, report: CallEnded, call: _LiveCall, *, final: bool) -> Attempt:
        attempt = Attempt(
            stage=self._stage.name,
            task_key=call.state.task.key,
            number=call.number,
            status=report.status,
            final=final,
            value=report.value,
            error=report.error,
            worker=report.worker or call.worker,
            submitted_s=call.submitted_s,
            started_s=call.started_s if report.started_s is None else report.started_s,
            ended_s=report.ended_s,
            peak_memory_nbytes=report.peak_memory_nbytes,
            nbytes_in=report.nbytes_in,
            nbytes_out=report.nbytes_out,
            handler_s=report.handler_s,
            init_s=report.init_s,
            **vars(report.names),
            requests=report.requests,
        )
        self._emit(AttemptEnded(attempt, time.time()))
        return attempt

    def _emit(self, event: Event) -> None:
        if self._gate is not None:
            self._gate.note(event)
        for observer in self._observers:
            observer(event)


def _refuse_repeated_keys(stage: Stage) -> None:
    seen: set[str] = set()
    for task in stage.tasks:
        if task.key in seen:
            raise UsageError(
                f"stage {stage.name!r} has two tasks with the key {task.key!r}; keys tell results "
                "apart, so give each task its own"
            )
        seen.add(task.key)
