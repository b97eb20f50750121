"""What every engine does alike: in this process, on workers that stay, by invocations."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hstmap.bag.engine import (
    Attempt,
    Engine,
    EngineOptions,
    InProcessEngine,
    Stage,
    Task,
    make_engine,
    raise_for,
)
from hstmap.bag.events import AttemptEnded, AttemptStarted, Event, StageEnded, StageStarted
from hstmap.errors import EngineError, TaskError, UsageError

KINDS = ("inprocess", "pilot", "events")
PROCESSES = ("pilot", "events")
RETRIES = 1


class TwoArgumentsError(Exception):
    """An exception that pickle makes, and cannot make again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class PlainError(Exception):
    """An exception of a module that workers may not have."""


def new_engine(kind: str, observers: Any = (), **settings: Any) -> Engine:
    options = {"n_workers": 2, "retries": RETRIES, "stragglers": None} | settings
    if kind == "inprocess":
        return make_engine("inprocess", EngineOptions(**options), observers)
    return make_engine("lithops", EngineOptions(mode=kind, **options), observers)


@pytest.fixture(scope="module")
def engines() -> Iterator[Callable[[str], Engine]]:
    """Engines that tests share, made when they are first asked for."""
    made: dict[str, Engine] = {}

    def engine(kind: str) -> Engine:
        if kind not in made:
            made[kind] = new_engine(kind)
        return made[kind]

    yield engine
    for engine_made in made.values():
        engine_made.close()


def run(
    engine: Engine, function: Callable[[Any], Any], payloads: dict[str, Any]
) -> dict[str, list[Attempt]]:
    """Run a stage; check what is true of every one, and sort its attempts by task."""
    stage = Stage("test", function, [Task(key, payload) for key, payload in payloads.items()])
    by_task: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in engine.run(stage):
        by_task[attempt.task_key].append(attempt)
    assert set(by_task) == set(payloads)
    for attempts in by_task.values():
        assert [attempt.final for attempt in attempts] == [False] * (len(attempts) - 1) + [True]
        assert [attempt.number for attempt in attempts] == list(range(1, len(attempts) + 1))
        for attempt in attempts:
            assert (attempt.error is None) == (attempt.status == "ok")
            assert attempt.submitted_s <= attempt.ended_s
    return by_task


def square(number: int) -> int:
    return number * number


@pytest.mark.parametrize("kind", KINDS)
def test_each_task_gets_its_own_value(engines: Callable[[str], Engine], kind: str) -> None:
    done = run(engines(kind), square, {f"n{n}": n for n in range(4)})
    assert {key: [a.value for a in attempts] for key, attempts in done.items()} == {
        "n0": [0],
        "n1": [1],
        "n2": [4],
        "n3": [9],
    }


@pytest.mark.parametrize("kind", ["inprocess", "pilot"])
def test_many_small_tasks(engines: Callable[[str], Engine], kind: str) -> None:
    done = run(engines(kind), square, {str(n): n for n in range(500)})
    assert sum(attempts[0].value for attempts in done.values()) == sum(n * n for n in range(500))


def misbehave(order: tuple[str, str]) -> Any:
    """Do one of the things that user code does."""
    what, marker = order
    return FAULTS[what](Path(marker))


def raiser(make: Callable[..., BaseException], *arguments: Any) -> Callable[[Path], Any]:
    def fault(_: Path) -> None:
        raise make(*arguments)

    return fault


def fail_once(tried: Path) -> str:
    if tried.exists():
        return "fine"
    tried.touch()
    raise ConnectionResetError("come again")


def hog_memory(_: Path) -> None:
    """Ask for more memory than there is to be had."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2_000_000_000, before[1]))
    try:
        bytearray(4_000_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


FAULTS: dict[str, Callable[[Path], Any]] = {
    "good": lambda _: "fine",
    "value error": raiser(ValueError, "no attempt can mend this"),
    "once": fail_once,
    "always": raiser(ConnectionResetError, "never again"),
    "missing file": raiser(FileNotFoundError, 2, "there is none"),
    "exit": lambda _: sys.exit(3),
    "odd error": raiser(TwoArgumentsError, "one", "two"),
    "plain error": raiser(PlainError, "known to the client only"),
    "hog": hog_memory,
    "hard exit": lambda _: os._exit(4),
    "kill": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "lock": lambda _: threading.Lock(),
    "also good": lambda _: "fine",
}
EXPECTED = {
    "good": ["ok"],
    "value error": ["error"],
    "once": ["error", "ok"],
    "always": ["error"] * (RETRIES + 1),
    "missing file": ["error"],
    "exit": ["lost"] * (RETRIES + 1),
    "odd error": ["error"],
    "plain error": ["error"],
    "hog": ["error"],
    "also good": ["ok"],
}
EXPECTED_OF_PROCESSES = EXPECTED | {
    "hard exit": ["lost"] * (RETRIES + 1),
    "kill": ["lost"] * (RETRIES + 1),
    "lock": ["unpicklable"],
}


@pytest.fixture(scope="module")
def faults(
    engines: Callable[[str], Engine], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, list[Attempt]]]:
    """The attempts of one stage with every fault in it, for an engine."""
    done: dict[str, dict[str, list[Attempt]]] = {}

    def of(kind: str) -> dict[str, list[Attempt]]:
        if kind not in done:
            folder = tmp_path_factory.mktemp(kind)
            whats = EXPECTED if kind == "inprocess" else EXPECTED_OF_PROCESSES
            orders = {what: (what, str(folder / what)) for what in whats}
            done[kind] = run(engines(kind), misbehave, orders)
        return done[kind]

    return of


@pytest.mark.parametrize("kind", KINDS)
def test_each_fault_costs_its_attempts_and_no_others(faults: Any, kind: str) -> None:
    found = {what: [a.status for a in attempts] for what, attempts in faults(kind).items()}
    assert found == (EXPECTED if kind == "inprocess" else EXPECTED_OF_PROCESSES)


@pytest.mark.parametrize("kind", KINDS)
def test_failures_say_what_happened(faults: Any, kind: str) -> None:
    of = {what: attempts[-1].error for what, attempts in faults(kind).items()}
    assert of["value error"].type_name == "ValueError"
    assert of["value error"].message == "no attempt can mend this"
    assert "in misbehave" in of["value error"].traceback_text
    assert of["value error"].traceback_text.count("File ") == 2  # none of the engine's own frames
    assert of["hog"].type_name == "MemoryError"
    assert "sys.exit(3)" in of["exit"].message
    assert of["odd error"].type_name.endswith("TwoArgumentsError")
    assert of["odd error"].message == "one and two"
    if kind != "inprocess":
        assert "code 4" in of["hard exit"].message
        assert "SIGKILL" in of["kill"].message
        assert "lock" in of["lock"].message


@pytest.mark.parametrize("kind", KINDS)
def test_exceptions_come_back_where_they_can(faults: Any, kind: str) -> None:
    of = {what: attempts[-1].error for what, attempts in faults(kind).items()}
    assert isinstance(of["value error"].exception, ValueError)
    assert isinstance(of["plain error"].exception, PlainError)
    if kind == "inprocess":
        assert of["value error"].exception.__traceback__ is not None
        assert isinstance(of["odd error"].exception, TwoArgumentsError)
    else:
        assert of["odd error"].exception is None


@pytest.mark.parametrize("kind", KINDS)
def test_raising_for_a_failure_gives_its_cause_and_traceback(faults: Any, kind: str) -> None:
    attempt = faults(kind)["value error"][-1]
    with pytest.raises(TaskError, match=r"'value error' .* ValueError: no attempt") as caught:
        raise_for(attempt)
    assert "in misbehave" in str(caught.value)
    assert caught.value.attempt is attempt
    assert isinstance(caught.value.__cause__, ValueError)
    raise_for(faults(kind)["good"][-1])


@pytest.mark.parametrize("kind", KINDS)
def test_an_attempt_says_who_made_it_and_when(faults: Any, kind: str) -> None:
    attempt = faults(kind)["good"][-1]
    assert attempt.submitted_s <= attempt.started_s <= attempt.ended_s <= time.time()
    assert attempt.peak_memory_nbytes > 1_000_000
    assert attempt.worker.host
    assert (attempt.worker.pid == os.getpid()) == (kind == "inprocess")
    assert (attempt.nbytes_in > 0) == (attempt.nbytes_out > 0) == (kind != "inprocess")


def hang(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@pytest.mark.parametrize("kind", PROCESSES)
def test_a_hanging_task_ends_at_its_time_out(kind: str) -> None:
    with new_engine(kind, timeout_s=1.5) as engine:
        started = time.monotonic()
        done = run(engine, hang, {"hang": 3600.0, "a": 0.0, "b": 0.01})
    assert [attempt.status for attempt in done["hang"]] == ["timeout"] * (RETRIES + 1)
    assert [attempt.status for attempt in done["a"] + done["b"]] == ["ok", "ok"]
    assert time.monotonic() - started < 60  # an hour if it had been waited for


@pytest.mark.parametrize("kind", PROCESSES)
def test_a_caller_who_takes_time_does_not_make_attempts_overdue(kind: str) -> None:
    with new_engine(kind, timeout_s=1.5) as engine:
        tasks = [Task(str(n), 0.2 * n) for n in range(4)]
        statuses = []
        for attempt in engine.run(Stage("test", hang, tasks)):
            if not statuses:
                time.sleep(2.0)
            statuses.append(attempt.status)
    assert statuses == ["ok"] * 4


def many_bytes(nbytes: int) -> bytes:
    return b"\x55" * nbytes


@pytest.mark.parametrize("kind", PROCESSES)
def test_large_values_and_payloads_travel(engines: Callable[[str], Engine], kind: str) -> None:
    done = run(engines(kind), many_bytes, {"large": 50_000_000})
    assert done["large"][0].value == many_bytes(50_000_000)
    assert done["large"][0].nbytes_out > 50_000_000
    done = run(engines(kind), len, {"large": many_bytes(50_000_000)})
    assert done["large"][0].value == 50_000_000
    assert done["large"][0].nbytes_in > 50_000_000


@pytest.mark.parametrize("kind", PROCESSES)
def test_a_payload_that_cannot_travel_fails_alone(
    engines: Callable[[str], Engine], kind: str
) -> None:
    done = run(engines(kind), bool, {"good": 1, "bad": threading.Lock()})
    assert [attempt.status for attempt in done["good"]] == ["ok"]
    assert [attempt.status for attempt in done["bad"]] == ["unpicklable"]
    assert "lock" in done["bad"][0].error.message
    assert done["bad"][0].started_s is None


@pytest.mark.parametrize("kind", PROCESSES)
def test_a_function_that_cannot_travel_is_refused(
    engines: Callable[[str], Engine], kind: str
) -> None:
    lock = threading.Lock()
    stage = Stage("test", lambda _: lock.locked(), [Task("a", 1)])
    with pytest.raises(EngineError, match=r"function of stage 'test' cannot be sent"):
        list(engines(kind).run(stage))


@pytest.mark.parametrize("kind", KINDS)
def test_closures_and_lambdas_travel(engines: Callable[[str], Engine], kind: str) -> None:
    offset = 40
    done = run(engines(kind), lambda number: lambda: number + offset, {"a": 2})
    assert done["a"][0].value() == 42


@pytest.mark.parametrize("kind", KINDS)
def test_retries_can_be_asked_for_by_class(kind: str, tmp_path: Path) -> None:
    with new_engine(kind, retry_on=(ValueError,)) as engine:
        done = run(engine, misbehave, {"value error": ("value error", str(tmp_path))})
    assert [attempt.status for attempt in done["value error"]] == ["error"] * (RETRIES + 1)


def report_and_wait(order: tuple[str, float]) -> int:
    folder, seconds = order
    Path(folder, str(os.getpid())).touch()
    time.sleep(seconds)
    return os.getpid()


@pytest.mark.parametrize("kind", PROCESSES)
def test_an_abandoned_stage_leaves_nothing_running(
    engines: Callable[[str], Engine], kind: str, tmp_path: Path
) -> None:
    engine = engines(kind)
    orders = {"quick": (str(tmp_path), 0.0)} | {
        f"slow {i}": (str(tmp_path), 3600.0) for i in range(3)
    }
    attempts = engine.run(
        Stage("test", report_and_wait, [Task(key, order) for key, order in orders.items()])
    )
    assert next(attempts).task_key == "quick"
    attempts.close()
    busy = {int(path.name) for path in tmp_path.iterdir()}
    done = run(engine, report_and_wait, {"next": (str(tmp_path), 0.0)})
    assert done["next"][0].status == "ok"
    assert_ended(busy - {done["next"][0].value}, at_most=1)


def assert_ended(pids: set[int], at_most: int = 0) -> None:
    """Wait for processes to end; so many may stay (idle workers do)."""
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    if at_most:
        deadline = time.monotonic() + 20
        while sum(map(is_running, processes)) > at_most and time.monotonic() < deadline:
            psutil.wait_procs(processes, timeout=0.05)
        assert sum(map(is_running, processes)) <= at_most
    else:
        _, alive = psutil.wait_procs(processes, timeout=20)
        assert not [process for process in alive if is_running(process)]


def is_running(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_runs_one_stage_at_a_time(engines: Callable[[str], Engine], kind: str) -> None:
    tasks = [Task(str(n), n) for n in range(2)]
    first = engines(kind).run(Stage("first", square, tasks))
    next(first)
    with pytest.raises(EngineError, match="'second' cannot start: stage 'first' is under way"):
        next(engines(kind).run(Stage("second", square, tasks)))
    assert len(list(first)) == 1
    assert len(list(engines(kind).run(Stage("second", square, tasks)))) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_engine_says_so(kind: str) -> None:
    engine = new_engine(kind)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run(Stage("late", square, [Task("a", 1)]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_stage_of_nothing_starts_no_worker(kind: str) -> None:
    with new_engine(kind) as engine:
        assert list(engine.run(Stage("nothing", square, []))) == []


@pytest.mark.parametrize("kind", KINDS)
def test_observers_see_each_attempt_start_and_end(kind: str) -> None:
    events: list[Event] = []
    with new_engine(kind, [events.append]) as engine:
        done = run(engine, square, {"a": 1, "b": 2})
    assert isinstance(events[0], StageStarted)
    assert isinstance(events[-1], StageEnded)
    assert events[-1].n_ok == 2
    for key in ("a", "b"):
        mine = [type(e) for e in events if isinstance(e, AttemptStarted) and e.task_key == key]
        assert mine == [AttemptStarted]
    ended = [event.attempt for event in events if isinstance(event, AttemptEnded)]
    assert sorted(a.task_key for a in ended) == ["a", "b"]
    assert all(attempt in done[attempt.task_key] for attempt in ended)


def test_keyboard_interrupt_stops_an_in_process_stage() -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with InProcessEngine() as engine, pytest.raises(KeyboardInterrupt):
        list(engine.run(Stage("interrupted", interrupt, [Task("a", 1)])))


def test_in_process_values_are_the_objects_themselves() -> None:
    thing = object()
    with InProcessEngine() as engine:
        (attempt,) = engine.run(Stage("same", lambda given: given, [Task("a", thing)]))
    assert attempt.value is thing


def test_in_process_values_come_as_they_are_made() -> None:
    made: list[int] = []
    with InProcessEngine() as engine:
        attempts = engine.run(Stage("lazy", made.append, [Task(str(n), n) for n in range(3)]))
        next(attempts)
        assert made == [0]
        attempts.close()


def test_unknown_engines_are_refused() -> None:
    with pytest.raises(UsageError, match="'dask' is not known"):
        make_engine("dask")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("n_workers", 0),
        ("retries", -1),
        ("timeout_s", 0.0),
        ("first_timeout_s", 0.0),
        ("on_error", "ignore"),
        ("mode", "cluster"),
        ("start_timeout_s", 0.0),
    ],
)
def test_senseless_options_are_refused(setting: str, value: Any) -> None:
    with pytest.raises(UsageError, match=setting):
        EngineOptions(**{setting: value})


def test_workers_that_stay_are_for_this_machine_only() -> None:
    config = {"lithops": {"backend": "aws_lambda"}}
    with pytest.raises(UsageError, match="'aws_lambda'"):
        make_engine("lithops", EngineOptions(mode="pilot", lithops_config=config))


def test_a_configuration_without_a_backend_is_refused_unless_it_is_local() -> None:
    with pytest.raises(UsageError, match="names no backend"):
        make_engine("lithops", EngineOptions(lithops_config={"lithops": {"mode": "serverless"}}))
