"""What the ledger keeps, when it is written, and what survives a client that is killed."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.bag.engine import Attempt, EngineOptions, InProcessEngine, RemoteError, Stage, Task
from hstmap.bag.events import AttemptEnded, AttemptStarted, StageStarted
from hstmap.bag.ledger import LEDGER_PREFIX, Ledger, read_attempts, read_ledger
from hstmap.bag.task import WorkerInfo
from hstmap.errors import StorageError
from hstmap.storage import Store, open_store
from hstmap.storage_counts import CallRequests, RequestCounts


@pytest.fixture(params=["local", "remote"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store(str(tmp_path) if request.param == "local" else f"memory://{uuid.uuid4()}")


def halve(number: int) -> float:
    if number == 2:
        raise ValueError("two is \u2018not\u2019\nto be halved")
    if number == 3:
        raise ConnectionError("three")
    return number / 2


STAGE = Stage("halving", halve, [Task(f"n{number}", number) for number in range(4)])


def run_with(ledger: Ledger, stage: Stage = STAGE) -> list[Attempt]:
    with InProcessEngine(EngineOptions(retries=1), [ledger]) as engine:
        return list(engine.run(stage))


def without_what_only_memory_holds(attempt: Attempt) -> dict[str, Any]:
    return {name: value for name, value in vars(attempt).items() if name not in ("value", "error")}


def test_attempts_come_back_as_they_were(store: Store) -> None:
    with Ledger(store) as ledger:
        attempts = run_with(ledger)
    read = list(read_attempts(store))
    assert len(read) == 5  # n3 twice
    assert [*map(without_what_only_memory_holds, read)] == [
        *map(without_what_only_memory_holds, attempts)
    ]
    assert [attempt.error for attempt in read] == [attempt.error for attempt in attempts]
    assert {attempt.value for attempt in read} == {None}


def test_what_the_backend_calls_an_attempt_is_kept(store: Store) -> None:
    attempt = Attempt(
        "stage", "task", 1, "lost", False,
        request_id="r-1", call_name="e-j/0", handler_s=2.5, init_s=0.5,
    )  # fmt: skip
    with Ledger(store) as ledger:
        ledger(AttemptStarted("stage", "task", 1, None, 1e9, "r-1", "e-j/0"))
        ledger(AttemptEnded(attempt, 1e9))
    assert list(read_attempts(store)) == [attempt]
    started = next(e for e in read_ledger(store) if e["event"] == "attempt_started")
    assert (started["request_id"], started["call_name"]) == ("r-1", "e-j/0")


def test_what_is_to_be_known_of_a_time_is_kept(store: Store) -> None:
    for about in ({"function": "f"}, None):
        with Ledger(store, about=about):
            pass
    opened = [entry for entry in read_ledger(store) if entry["event"] == "ledger_opened"]
    assert sorted(entry["about"].get("function", "") for entry in opened) == ["", "f"]


def test_a_ledger_without_names_of_calls_can_be_read(store: Store) -> None:
    with Ledger(store) as ledger:
        run_with(ledger)
    for key in [info.key for info in store.list(LEDGER_PREFIX)]:
        lines = [json.loads(line) for line in store.get(key).splitlines()]
        for line in lines:
            line.pop("request_id", None), line.pop("call_name", None)
        store.put(key, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    assert {attempt.request_id for attempt in read_attempts(store)} == {""}


def test_the_story_is_told_in_order(store: Store) -> None:
    with Ledger(store) as ledger:
        run_with(ledger)
    entries = list(read_ledger(store))
    names = [entry["event"] for entry in entries]
    assert names[:2] == ["ledger_opened", "stage_started"]
    assert names[-1] == "stage_ended"
    assert entries[-1]["n_ok"] == 2
    assert entries[-1]["n_failed"] == 2
    for entry in entries:
        if entry["event"] == "attempt_ended":
            mine = [e["event"] for e in entries if e.get("task_key") == entry["task_key"]]
            assert mine[:3] == ["attempt_submitted", "attempt_started", "attempt_ended"]
    reasons = [e["reason"] for e in entries if e["event"] == "attempt_submitted"]
    assert sorted(reasons) == ["first"] * 4 + ["retry"]
    assert [entry["time_s"] for entry in entries] == sorted(entry["time_s"] for entry in entries)


def test_a_run_that_goes_on_adds_to_its_history(store: Store) -> None:
    for _ in range(2):
        with Ledger(store) as ledger:
            run_with(ledger)
    assert [e["event"] for e in read_ledger(store)].count("ledger_opened") == 2
    assert len(list(read_attempts(store))) == 10


def test_what_is_kept_of_values_is_the_caller_s_choice(store: Store) -> None:
    with Ledger(store, detail=lambda attempt: {"half": attempt.value}) as ledger:
        run_with(ledger)
    kept = {attempt.task_key: attempt.value for attempt in read_attempts(store)}
    assert kept == {"n0": {"half": 0.0}, "n1": {"half": 0.5}, "n2": None, "n3": None}


def test_no_ledger_is_an_empty_one(store: Store) -> None:
    assert list(read_ledger(store)) == []


def test_a_local_ledger_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    with Ledger(store) as ledger, InProcessEngine(observers=[ledger]) as engine:
        n_read = [len(list(read_attempts(store))) for _ in engine.run(STAGE)]
    assert n_read[:3] == [1, 2, 3]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def ended(number: int) -> AttemptEnded:
    return AttemptEnded(Attempt("stage", f"task {number}", 1, "ok", True), 1e9 + number)


def test_a_remote_ledger_is_put_every_few_seconds() -> None:
    store, clock = open_store(f"memory://{uuid.uuid4()}"), Clock()
    ledger = Ledger(store, segment_s=10, clock=clock)
    for number in range(25):
        clock.now += 1
        ledger(ended(number))
    assert store.counts.n_put == 2
    assert len(list(read_attempts(store))) == 20
    ledger.close()
    ledger.close()
    assert store.counts.n_put == 3
    assert [a.task_key for a in read_attempts(store)] == [f"task {n}" for n in range(25)]


def test_the_first_name_of_a_call_is_put_at_once() -> None:
    store = open_store(f"memory://{uuid.uuid4()}")
    ledger = Ledger(store, segment_s=1e9)
    ledger(AttemptStarted("stage", "a", 1, None, 1e9))
    assert list(read_ledger(store)) == []
    for number in range(3):
        ledger(AttemptStarted("stage", "a", 2, None, 1e9, "r", f"e-j/{number}"))
    assert [entry.get("call_name") for entry in read_ledger(store)] == [None, "", "e-j/0"]
    assert store.counts.n_put == 1


def test_a_remote_ledger_keeps_no_more_than_a_thousand_lines_back() -> None:
    store = open_store(f"memory://{uuid.uuid4()}")
    ledger = Ledger(store, segment_s=1e9)
    for number in range(1500):
        ledger(ended(number))
    assert len(list(read_ledger(store))) == 1000


def local_file(folder: Path) -> Path:
    (file,) = (folder / LEDGER_PREFIX).rglob("*.jsonl")
    return file


@pytest.mark.parametrize("n_torn", [1, 2, 40])
def test_a_torn_last_line_is_passed_over(tmp_path: Path, n_torn: int) -> None:
    store = open_store(str(tmp_path))
    with Ledger(store) as ledger:
        run_with(ledger)
    whole = list(read_ledger(store))
    file = local_file(tmp_path)
    file.write_bytes(file.read_bytes()[:-n_torn])
    assert list(read_ledger(store)) == whole[:-1]


def test_damage_elsewhere_is_told(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    with Ledger(store) as ledger:
        run_with(ledger)
    file = local_file(tmp_path)
    lines = file.read_bytes().split(b"\n")
    lines[3] = lines[3][:10]
    file.write_bytes(b"\n".join(lines))
    with pytest.raises(StorageError, match=r"line 4 of the ledger is damaged .* delete this file"):
        list(read_ledger(store))


def test_workers_and_errors_are_kept_whole(store: Store) -> None:
    worker = WorkerInfo("lambda", 7, cold=True)
    error = RemoteError("WorkerLost", "gone", "a traceback\n", True)
    attempt = Attempt(
        "map", "a/b", 2, "lost", False, error=error, worker=worker, submitted_s=1.5, nbytes_in=9
    )
    with Ledger(store) as ledger:
        ledger(StageStarted("map", 1, 1.0))
        ledger(AttemptStarted("map", "a/b", 2, None, 1.6))
        ledger(AttemptEnded(attempt, 2.0))
    assert list(read_attempts(store)) == [attempt]
    entries = list(read_ledger(store))
    assert entries[2]["worker"] is None
    assert "exception" not in entries[3]["error"]


KILLED = """
import os, signal, sys
from hstmap.bag.engine import InProcessEngine, Stage, Task
from hstmap.bag.ledger import Ledger
from hstmap.storage import open_store

def die_at_three(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)

ledger = Ledger(open_store(sys.argv[1]))
stage = Stage("doomed", die_at_three, [Task(str(n), n) for n in range(10)])
list(InProcessEngine(observers=[ledger]).run(stage))
"""


def test_a_killed_client_leaves_a_complete_ledger(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    store = open_store(str(tmp_path))
    assert [attempt.task_key for attempt in read_attempts(store)] == ["0", "1", "2"]
    last = list(read_ledger(store))[-1]
    assert (last["event"], last["task_key"]) == ("attempt_submitted", "3")


def test_lines_are_plain_json(tmp_path: Path) -> None:
    with Ledger(open_store(str(tmp_path))) as ledger:
        run_with(ledger)
    for line in local_file(tmp_path).read_text().splitlines():
        assert json.loads(line)["event"]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match="cannot be written"):
        Ledger(open_store(str(tmp_path)))


# -- damage ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str, bytes]:
    """A ledger's store, the key of its file, and what that has."""
    store = open_store(str(tmp_path_factory.mktemp("written")))
    with Ledger(store) as ledger:
        run_with(ledger)
    (info,) = store.list(LEDGER_PREFIX)
    return store, info.key, store.get(info.key)


def left_of(content: bytes, store: Store, key: str) -> list[dict[str, Any]]:
    store.put(key, content)
    return list(read_ledger(store))


@given(st.data())
def test_wherever_it_is_cut_off_its_whole_lines_are_read(
    written: tuple[Store, str, bytes], data: st.DataObject
) -> None:
    store, key, content = written
    n_kept = data.draw(st.integers(0, len(content)), "bytes kept")
    # A disk that lost its power leaves what it had not written yet as zeros.
    torn = content[:n_kept] + b"\0" * data.draw(st.integers(0, 600), "zeros")
    whole = [json.loads(line) for line in content[:n_kept].split(b"\n")[:-1]]
    assert left_of(torn, store, key) == whole


@given(st.data())
def test_a_line_that_is_no_json_is_told_by_its_number_and_file(
    written: tuple[Store, str, bytes], data: st.DataObject
) -> None:
    store, key, content = written
    lines = content.split(b"\n")
    number = data.draw(st.integers(0, len(lines) - 2), "line")
    damage = data.draw(st.sampled_from([b"", b"\0", b"\xff\xfe", b"{", b"{]", b'{"event":"']))
    lines[number] = damage + lines[number][: data.draw(st.integers(0, 20))] * bool(damage)
    with pytest.raises(StorageError, match=f"line {number + 1} of the ledger is damaged") as raised:
        left_of(b"\n".join(lines), store, key)
    assert raised.value.key == key


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
ATTEMPTS = st.builds(
    Attempt,
    stage=TEXT,
    task_key=TEXT,
    number=st.integers(1, 9),
    status=st.sampled_from(["ok", "error", "lost", "timeout", "unpicklable", "cancelled"]),
    final=st.booleans(),
    error=st.none() | st.builds(RemoteError, TEXT, TEXT, TEXT, st.booleans()),
    worker=st.none() | st.builds(WorkerInfo, TEXT, st.integers(0, 2**31), st.booleans()),
    submitted_s=st.floats(0, 1e10),
    started_s=st.none() | st.floats(0, 1e10),
    ended_s=st.floats(0, 1e10),
    peak_memory_nbytes=st.none() | st.integers(0, 2**40),
    nbytes_in=st.integers(0, 2**40),
    request_id=TEXT,
    call_name=TEXT,
    handler_s=st.none() | st.floats(0, 1e4),
    init_s=st.none() | st.floats(0, 1e4),
    requests=st.none()
    | st.builds(
        CallRequests,
        work=st.builds(RequestCounts, n_get=st.integers(0, 99), nbytes_read=st.integers(0, 2**40)),
        engine=st.builds(RequestCounts, n_put=st.integers(0, 99)),
    ),
)


@given(st.lists(ATTEMPTS, max_size=4))
def test_any_attempt_comes_back_as_it_was(attempts: list[Attempt]) -> None:
    store = open_store(f"memory://{uuid.uuid4()}")
    with Ledger(store) as ledger:
        for attempt in attempts:
            ledger(AttemptEnded(attempt, 1e9))
    assert list(read_attempts(store)) == attempts
