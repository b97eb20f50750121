"""What fails around a stage ends it: calls are ended, the error is told, the engine goes on."""

from __future__ import annotations

import errno
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hstmap.bag import ledger as ledger_module
from hstmap.bag.engine import EngineOptions, InProcessEngine, Stage, Task, TransportEngine
from hstmap.bag.events import AttemptEnded, Event, StageEnded, StageStarted
from hstmap.bag.ledger import Ledger, read_attempts, read_ledger
from hstmap.errors import EngineError, StorageError
from hstmap.storage import open_store

OPTIONS = EngineOptions(retries=1, stragglers=None)
STAGE = Stage("test", str, [Task(key, key) for key in "abcdef"])


@pytest.fixture
def transport(stage_run: Callable[..., Any]) -> Any:
    """A transport whose calls take a second each and end well, two at a time."""
    made, _ = stage_run({})
    made.requests = None
    return made


class Failing:
    """Fails at its n-th call, and works before and after that."""

    def __init__(self, real: Callable[..., Any], at: int, error: Exception) -> None:
        self.real, self.at, self.error = real, at, error
        self.n_calls = 0

    def __call__(self, *arguments: Any) -> Any:
        self.n_calls += 1
        if self.n_calls == self.at:
            raise self.error
        return self.real(*arguments)


@pytest.mark.parametrize("method", ["begin", "submit", "poll"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_transport_that_fails_ends_the_stage_and_no_other(
    transport: Any, method: str, at: int
) -> None:
    at = 1 if method == "begin" else at
    error = EngineError("the backend refuses")
    failing = Failing(getattr(transport, method), at, error)
    setattr(transport, method, failing)
    events: list[Event] = []
    engine = TransportEngine(transport, OPTIONS, [events.append])
    attempts = []
    with pytest.raises(EngineError, match="the backend refuses") as raised:
        attempts += engine.run(STAGE)
    assert raised.value is error
    assert failing.n_calls == at
    assert transport.running == {}  # whatever was under way was ended
    last = events[-1]
    assert isinstance(last, StageEnded)
    assert not last.complete
    n_ended = sum(isinstance(event, AttemptEnded) for event in events)
    assert last.n_ok + last.n_failed == n_ended < len(STAGE.tasks)
    # The engine is none the worse for it.
    transport.news.clear()
    assert len(list(engine.run(STAGE))) == len(STAGE.tasks)
    engine.close()
    assert transport.closed


class Observer:
    """Sees events, and refuses one."""

    def __init__(self, refused: int) -> None:
        self.refused = refused
        self.n_seen = 0

    def __call__(self, event: Event) -> None:
        self.n_seen += 1
        if self.n_seen == self.refused:
            raise StorageError("ledger/1", "no space left on device")


@given(refused=st.integers(1, 40))
def test_an_observer_that_fails_at_any_event_ends_the_stage(
    stage_run: Callable[..., Any], refused: int
) -> None:
    transport, _ = stage_run({})
    observer = Observer(refused)
    engine = TransportEngine(transport, OPTIONS, [observer])
    n_events = 3 * len(STAGE.tasks) + 2  # three an attempt, and two of the stage
    if refused > n_events:
        assert len({attempt.value for attempt in engine.run(STAGE)}) == len(STAGE.tasks)
    else:
        with pytest.raises(StorageError, match="no space left"):
            list(engine.run(STAGE))
    assert transport.running == {}
    transport.news.clear()
    observer.refused = -1
    assert {attempt.task_key for attempt in engine.run(STAGE)} == set("abcdef")


def test_observers_hear_in_their_order_and_before_the_caller(transport: Any) -> None:
    heard: list[tuple[str, type[Event]]] = []
    observers = [
        lambda event: heard.append(("first", type(event))),
        lambda event: heard.append(("second", type(event))),
    ]
    for attempt in TransportEngine(transport, OPTIONS, observers).run(STAGE):
        assert ("second", AttemptEnded) in heard
        assert attempt.final
    assert [name for name, _ in heard] == ["first", "second"] * (len(heard) // 2)
    assert heard[0][1] is StageStarted
    assert heard[-1][1] is StageEnded


def test_the_callers_own_error_ends_the_calls(transport: Any) -> None:
    events: list[Event] = []
    engine = TransportEngine(transport, OPTIONS, [events.append])

    def consume() -> None:
        attempts: Iterator[Any] = engine.run(STAGE)
        for _ in attempts:
            raise KeyError("of the caller")

    with pytest.raises(KeyError, match="of the caller"):
        consume()
    assert transport.running == {}
    assert isinstance(events[-1], StageEnded)
    assert not events[-1].complete


# -- ledgers that cannot be written ----------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_disk_that_is_full_from_the_beginning_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(_store: Any, _key: str) -> IO[bytes]:
        return Path("/dev/full").open("ab", buffering=0)

    monkeypatch.setattr(ledger_module, "open_append", opened)
    with pytest.raises(StorageError, match=f"cannot be written: {os.strerror(errno.ENOSPC)}"):
        Ledger(open_store(str(tmp_path)))


class FillingDisk:
    """A file on a disk that has room for so many lines."""

    def __init__(self, file: IO[bytes], room: int) -> None:
        self.file, self.room = file, room

    def write(self, line: bytes) -> int:
        self.room -= 1
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(line)

    def close(self) -> None:
        self.file.close()


@settings(max_examples=20)
@given(room=st.integers(1, 30))
def test_a_disk_that_fills_up_ends_the_stage_and_what_was_written_can_be_read(
    tmp_path_factory: pytest.TempPathFactory, room: int
) -> None:
    store = open_store(str(tmp_path_factory.mktemp("disk")))
    real = ledger_module.open_append
    n_lines = 1 + 2 + 3 * len(STAGE.tasks)
    finished = []

    def opened(store: Any, key: str) -> Any:
        file = real(store, key)
        assert file is not None
        return FillingDisk(file, room)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_module, "open_append", opened)
        told: Any = nullcontext()
        if room < n_lines:
            told = pytest.raises(StorageError, match=os.strerror(errno.ENOSPC))
        with told, Ledger(store) as ledger, InProcessEngine(observers=[ledger]) as engine:
            finished += engine.run(STAGE)
    assert room < n_lines or len(finished) == len(STAGE.tasks)
    entries = list(read_ledger(store))
    assert len(entries) == min(room, n_lines)
    assert len(list(read_attempts(store))) == sum(e["event"] == "attempt_ended" for e in entries)


def test_a_store_that_takes_no_segment_keeps_its_lines_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = open_store(f"memory://{uuid.uuid4()}")
    ledger = Ledger(store, segment_s=1e9)
    ledger.note("one", {"n": 1})
    failing = Failing(store.put, 1, StorageError("ledger/1", "slow down"))
    monkeypatch.setattr(store, "put", failing)
    with pytest.raises(StorageError, match="slow down"):
        ledger.close()
    ledger.note("two", {"n": 2})
    ledger.close()
    assert [entry["event"] for entry in read_ledger(store)] == ["ledger_opened", "one", "two"]
    assert len(list(store.list("ledger/"))) == 1


@pytest.mark.parametrize("facts", [{"n": float("nan")}, {"n": float("inf")}, {"n": {1, 2}}])
def test_what_json_cannot_write_is_refused_and_leaves_no_half_line(
    tmp_path: Path, facts: dict[str, Any]
) -> None:
    store = open_store(str(tmp_path))
    with Ledger(store) as ledger:
        with pytest.raises((ValueError, TypeError), match="JSON"):
            ledger.note("odd", facts)
        ledger.note("even", {"n": 2})
    assert [entry["event"] for entry in read_ledger(store)] == ["ledger_opened", "even"]
