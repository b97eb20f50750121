"""A transport whose calls follow a script and whose time passes by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from hstmap.bag.engine import Attempt, EngineOptions, RemoteError, Stage, Task, WorkerInfo
from hstmap.bag.events import Event
from hstmap.bag.scheduler import StageRun
from hstmap.bag.task import Status
from hstmap.bag.transport import Call, CallEnded, CallNames, CallStarted, Report

FOREVER = float("inf")


@dataclass(frozen=True)
class Act:
    """What one attempt does: it takes so long, then ends so."""

    duration_s: float = 1.0
    status: Status = "ok"
    retryable: bool = True


@dataclass
class FakeTransport:
    """Makes calls without anything behind them.

    The payload of a task is its key. ``script`` gives the acts of its attempts; the last one is
    repeated for further attempts.
    """

    script: Mapping[str, Sequence[Act]]
    n_slots: int = 2
    now: float = 1000.0
    sent: list[str] = field(default_factory=list)
    killed: list[int] = field(default_factory=list)
    running: dict[int, tuple[float, Act, str]] = field(default_factory=dict)
    news: list[Report] = field(default_factory=list)
    closed: bool = False

    def clock(self) -> float:
        return self.now

    @property
    def n_free(self) -> int:
        return self.n_slots - len(self.running)

    def begin(self, stage: Stage) -> None:
        assert not self.running

    def submit(self, calls: Sequence[Call]) -> None:
        assert len(calls) <= self.n_free
        for call in calls:
            key = str(call.payload)
            acts = self.script.get(key, [Act()])
            act = acts[min(self.sent.count(key), len(acts) - 1)]
            self.sent.append(key)
            self.running[call.call_id] = (self.now + act.duration_s, act, key)
            worker, names = WorkerInfo("host", 1, False), self.names(call.call_id)
            self.news.append(CallStarted(call.call_id, worker, self.now, names))

    def poll(self, timeout_s: float | None) -> Sequence[Report]:
        if self.news:
            told, self.news = self.news, []
            return told
        deadline = FOREVER if timeout_s is None else self.now + timeout_s
        first = min((end for end, _, _ in self.running.values()), default=FOREVER)
        assert min(first, deadline) < FOREVER, "this would wait for ever"
        self.now = max(self.now, min(first, deadline))
        reports: list[Report] = []
        for call_id, (end, act, key) in tuple(self.running.items()):
            if end <= self.now:
                del self.running[call_id]
                reports.append(self._ended(call_id, end, act, key))
        return reports

    def _ended(self, call_id: int, end: float, act: Act, key: str) -> CallEnded:
        error = None if act.status == "ok" else RemoteError("Act", key, retryable=act.retryable)
        value = f"value of {key}" if act.status == "ok" else None
        return CallEnded(
            call_id,
            act.status,
            value=value,
            error=error,
            started_s=end - act.duration_s,
            ended_s=end,
            names=CallNames(f"request {call_id}", f"call {call_id}"),
        )

    def names(self, call_id: int) -> CallNames:
        assert call_id in self.running, "asked too late"
        return CallNames(f"request {call_id}", f"call {call_id}")

    def kill(self, call_ids: Iterable[int]) -> None:
        for call_id in call_ids:
            self.killed.append(call_id)
            self.running.pop(call_id, None)

    def close(self) -> None:
        self.closed = True


@dataclass
class Played:
    """What came of a script."""

    transport: FakeTransport
    attempts: list[Attempt]
    events: list[Event]

    def of(self, key: str) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.task_key == key]

    def statuses(self, key: str) -> list[Status]:
        return [attempt.status for attempt in self.of(key)]


@pytest.fixture(scope="session")
def play() -> Callable[..., Played]:
    """Run tasks after a script; keys without acts take 1 s and end well."""

    def run(
        script: Mapping[str, Sequence[Act]],
        options: EngineOptions | None = None,
        n_slots: int = 2,
    ) -> Played:
        transport = FakeTransport(script, n_slots)
        events: list[Event] = []
        stage = Stage("play", str, [Task(key, key) for key in script])
        stage_run = StageRun(
            stage, transport, options or EngineOptions(), [events.append], clock=transport.clock
        )
        return Played(transport, list(stage_run.attempts()), events)

    return run


@pytest.fixture(scope="session")
def act() -> type[Act]:
    """Make one act of a script."""
    return Act


@pytest.fixture(scope="session")
def stage_run() -> Callable[..., tuple[FakeTransport, Iterator[Attempt]]]:
    """Begin a script without running it to its end."""

    def begin(
        script: Mapping[str, Sequence[Act]], options: EngineOptions | None = None
    ) -> tuple[FakeTransport, Iterator[Attempt]]:
        transport = FakeTransport(script)
        stage = Stage("play", str, [Task(key, key) for key in script])
        run = StageRun(stage, transport, options or EngineOptions(), clock=transport.clock)
        return transport, run.attempts()

    return begin
