"""The engine on a backend elsewhere: Lithops' serverless path, over a backend that misbehaves."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from hstmap.bag.engine import Attempt, EngineOptions, Stage, Task, make_engine
from hstmap.bag.lithops import import_lithops
from hstmap.errors import EngineError

START_TIMEOUT_S = 4.0


@pytest.fixture(scope="module")
def faas() -> ModuleType:
    import_lithops()
    spec = importlib.util.spec_from_file_location(
        "fake_faas", Path(__file__).parent / "fake_faas.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fake_faas"] = module
    spec.loader.exec_module(module)
    module.register()
    return module


@pytest.fixture
def run(faas: ModuleType) -> Iterator[Callable[..., dict[str, list[Attempt]]]]:
    """Run tasks while the first invocations meet their fates, in order."""
    backend = faas.ServerlessBackend
    backend.fates.clear()
    backend.log.clear()

    def run_stage(
        function: Callable[[Any], Any], payloads: list[Any], *fates: str, **settings: Any
    ) -> dict[str, list[Attempt]]:
        backend.fates.extend(fates)
        options = {
            "lithops_config": faas.CONFIG,
            "retries": 2,
            "stragglers": None,
            "start_timeout_s": START_TIMEOUT_S,
        } | settings
        tasks = [Task(str(n), payload) for n, payload in enumerate(payloads)]
        by_task: dict[str, list[Attempt]] = defaultdict(list)
        with make_engine("lithops", EngineOptions(**options)) as engine:
            for attempt in engine.run(Stage("test", function, tasks)):
                by_task[attempt.task_key].append(attempt)
        return by_task

    yield run_stage
    for process in backend.processes:
        process.kill()
        process.wait()


def statuses(done: dict[str, list[Attempt]]) -> list[list[str]]:
    return sorted([attempt.status for attempt in attempts] for attempts in done.values())


def double(number: int) -> tuple[int, int]:
    return 2 * number, os.getpid()


def test_invocations_bring_their_values(run: Callable[..., Any], faas: ModuleType) -> None:
    done = run(double, [1, 2, 3])
    assert [done[str(n)][0].value[0] for n in range(3)] == [2, 4, 6]
    pids = {done[str(n)][0].value[1] for n in range(3)}
    assert len(pids) == 3
    assert not pids & {os.getpid()}
    for attempts in done.values():
        (attempt,) = attempts
        assert attempt.worker is not None
        assert attempt.worker.cold
        assert attempt.submitted_s <= attempt.started_s <= attempt.ended_s


def test_what_is_large_goes_through_storage(run: Callable[..., Any]) -> None:
    done = run(lambda data: data[::-1], [b"ab" * 500_000])
    assert done["0"][0].value == b"ba" * 500_000
    assert done["0"][0].nbytes_in > 1_000_000


def test_an_event_that_never_starts_is_sent_again(run: Callable[..., Any]) -> None:
    done = run(double, [1, 2, 3], "drop")
    assert statuses(done) == [["lost", "ok"], ["ok"], ["ok"]]
    (lost,) = [a for attempts in done.values() for a in attempts if a.status == "lost"]
    assert f"did not start within {START_TIMEOUT_S:g} s" in lost.error.message
    assert lost.started_s is None


def test_a_backend_that_fails_to_invoke_is_asked_again(run: Callable[..., Any]) -> None:
    assert statuses(run(double, [1], "fail")) == [["lost", "ok"]]


def test_a_refused_event_is_queued_by_lithops(
    run: Callable[..., Any], faas: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lithops.invokers

    monkeypatch.setattr(lithops.invokers.random, "randint", lambda *_: 0)  # its pause, s
    done = run(double, [1, 2], "refuse", "refuse", "refuse", start_timeout_s=60.0)
    assert statuses(done) == [["ok"], ["ok"]]
    assert faas.ServerlessBackend.log.count("refuse") == 3


def test_an_event_that_is_delivered_twice_counts_once(run: Callable[..., Any]) -> None:
    assert statuses(run(double, [1, 2], "twice", "twice")) == [["ok"], ["ok"]]


def test_a_backend_that_loses_everything_comes_to_an_end(run: Callable[..., Any]) -> None:
    done = run(double, [1], *["drop"] * 9, retries=1, start_timeout_s=0.5)
    assert statuses(done) == [["lost", "lost"]]


def misbehave(what: str) -> str:
    if what == "raise":
        raise ValueError("remote")
    if what == "hang":
        time.sleep(3600)
    if what == "exit":
        os._exit(5)
    return what


def test_faults_of_the_function_are_told_from_those_of_the_backend(
    run: Callable[..., Any],
) -> None:
    done = run(misbehave, ["raise", "hang", "exit", "fine"], retries=0, timeout_s=3.0)
    assert [done[str(n)][0].status for n in range(4)] == ["error", "timeout", "lost", "ok"]
    assert isinstance(done["0"][0].error.exception, ValueError)
    assert "code 5" in done["2"][0].error.message


def test_functions_of_this_module_need_not_be_installed_there(run: Callable[..., Any]) -> None:
    # The worker is a bare interpreter, started elsewhere: this module travelled by value.
    assert statuses(run(misbehave, ["fine"])) == [["ok"]]


def test_nothing_is_left_in_the_storage(run: Callable[..., Any], faas: ModuleType) -> None:
    from lithops.constants import LITHOPS_TEMP_DIR

    jobs = Path(LITHOPS_TEMP_DIR, "storage", "lithops.jobs")
    before = set(jobs.iterdir()) if jobs.exists() else set()
    assert statuses(run(double, [1, 2])) == [["ok"], ["ok"]]
    after = set(jobs.iterdir()) if jobs.exists() else set()
    new = [path for folder in after - before for path in folder.rglob("*")]
    # The worker's own notes are no objects: they only lie there because worker and store share a
    # folder here.
    notes = {"execution.log", "job_stats.txt"}
    assert [path for path in new if path.is_file() and path.name not in notes] == []


def test_a_backend_that_is_not_there_is_told() -> None:
    config = {"lithops": {"backend": "no_such_backend"}}
    engine = make_engine("lithops", EngineOptions(lithops_config=config))
    with engine, pytest.raises(EngineError, match="no_such_backend"):
        list(engine.run(Stage("test", double, [Task("a", 1)])))


def test_no_invocation_outlives_its_time(run: Callable[..., Any], faas: ModuleType) -> None:
    run(misbehave, ["hang"], retries=0, timeout_s=1.0)
    (process,) = faas.ServerlessBackend.processes[-1:]
    assert process.wait(30) == 0
    assert not psutil.pid_exists(process.pid) or process.returncode == 0
