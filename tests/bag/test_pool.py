"""What a pool of this machine's workers says of their ends, over an executor that is scripted."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from hstmap.bag import pool as pool_module
from hstmap.bag.pool import LocalPool, last_words, n_cpus
from hstmap.bag.worker import serve


class HandlerError(Exception):
    """What the process that watches over a Lithops call raises."""


def status_of(error: BaseException, kind: str = "__end__") -> dict[str, Any]:
    """The status of a call that ended so, as Lithops keeps it: pickled, then written as text."""
    return {"type": kind, "exc_info": str(pickle.dumps((type(error), error, None)))}


class Runner:
    """The process that starts workers."""

    def __init__(self) -> None:
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode


class Executor:
    """As much of Lithops' executor as a pool uses."""

    def __init__(self) -> None:
        self.runner = Runner()
        self.statuses: list[Any] = []
        self.asked: list[tuple[str, str, str]] = []
        self.calls: list[Any] = []
        self.n_cleared = 0
        self.internal_storage = SimpleNamespace(get_call_status=self._status)
        self.compute_handler = SimpleNamespace(env=SimpleNamespace(jobs={}), clear=self._clear)

    def map(self, function: Callable[..., Any], calls: list[Any], **_: Any) -> list[Any]:
        assert function is serve
        self.calls = calls
        self.compute_handler.env.jobs[f"job {len(self.compute_handler.env.jobs)}"] = self.runner
        return [
            SimpleNamespace(executor_id="e", job_id="j", call_id=f"{index:05d}")
            for index in range(len(calls))
        ]

    def _status(self, *call: str) -> Any:
        self.asked.append(call)
        said = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if isinstance(said, Exception):
            raise said
        return said

    def _clear(self) -> None:
        self.n_cleared += 1

    def _clean_at_exit(self) -> None:
        """Nothing to clean."""


@pytest.fixture
def executor() -> Executor:
    return Executor()


@pytest.fixture
def pool(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalPool]:
    monkeypatch.setattr(pool_module, "_LAST_WORDS_WAIT_S", 0.05)
    made = LocalPool(lambda _: executor, lambda: "the end of its log", n_workers=3)
    yield made
    made.close()


def started(pool: LocalPool) -> LocalPool:
    pool.start()
    assert pool._starting is not None
    pool._starting.join(30)
    return pool


def test_there_are_calls_for_workers_and_for_those_that_follow_them(
    pool: LocalPool, executor: Executor
) -> None:
    started(pool)
    assert len(executor.calls) > 100 * pool.n_workers
    assert {address for address, _ in executor.calls} == {str(pool.address)}
    assert [index for _, index in executor.calls] == list(range(len(executor.calls)))


@pytest.mark.parametrize(
    ("statuses", "told"),
    [
        ([status_of(HandlerError("HANDLER", "out of memory"))], "out of memory"),
        # It is written a moment after the worker's end, and read half written before.
        ([None, ValueError("half"), status_of(HandlerError("HANDLER", "killed"))], "killed"),
        ([status_of(HandlerError("HANDLER", "x"), "__init__"),
          status_of(HandlerError("HANDLER", "y"))], "y"),
        # The function's own exception says nothing of the process.
        ([status_of(ValueError("of the function"))], None),
        ([{"type": "__end__"}], None),
        ([None], None),
        ([OSError("no such file")], None),
    ],
)  # fmt: skip
def test_last_words_are_waited_for_a_little_while(
    pool: LocalPool, executor: Executor, statuses: list[Any], told: str | None
) -> None:
    executor.statuses = statuses
    assert started(pool).why_lost(7) == told
    assert set(executor.asked) == {("e", "j", "00007")}


def test_of_calls_that_there_are_not_nothing_is_known(pool: LocalPool, executor: Executor) -> None:
    assert pool.why_lost(0) is None  # not even started
    assert started(pool).why_lost(10**6) is None
    assert executor.asked == []


@pytest.mark.parametrize(
    "error", [HandlerError("HANDLER"), HandlerError("OTHER", "x"), HandlerError("HANDLER", 1, 2)]
)
def test_words_of_another_form_are_not_the_handlers(error: Exception) -> None:
    assert last_words(status_of(error)) is None


def test_the_handlers_words_come_with_their_kind() -> None:
    assert last_words(status_of(HandlerError("HANDLER", 137))) == ("HandlerError", "137")
    assert last_words(status_of(MemoryError("HANDLER", "x"))) == ("MemoryError", "x")


def test_it_has_failed_when_its_runner_has_ended(pool: LocalPool, executor: Executor) -> None:
    assert pool.failure() is None
    started(pool)
    assert pool.failure() is None
    executor.runner.returncode = -9
    assert pool.failure() == "Lithops' runner ended with exit status -9. the end of its log"


def test_a_new_start_is_given_its_time(executor: Executor) -> None:
    may_go_on = threading.Event()

    def make(_: int) -> Executor:
        assert may_go_on.wait(30)
        return executor

    pool = LocalPool(make, str, 1)
    try:
        pool.start()
        executor.runner.returncode = 1
        assert pool.failure() is None
        may_go_on.set()
        assert pool._starting is not None
        pool._starting.join(30)
        assert pool.failure() is not None
        # Started again, the runner of before does not count against it.
        executor.runner = Runner()
        started(pool)
        assert pool.failure() is None
    finally:
        may_go_on.set()
        pool.close()


def test_why_it_cannot_start_is_told_by_its_kind() -> None:
    def make(_: int) -> Any:
        raise OSError("no space left")

    pool = LocalPool(make, str, 1)
    started(pool)
    assert pool.failure() == "OSError: no space left"
    pool.close()
    pool.close()


def test_pools_have_addresses_of_their_own() -> None:
    with ThreadPoolExecutor(8) as threads:
        pools = list(threads.map(lambda _: LocalPool(lambda _: None, str, 1), range(50)))
    assert len({pool.address for pool in pools}) == 50
    assert len({pool.address.parent for pool in pools}) == 1


def test_a_fork_leaves_the_workers_of_its_parent_alone(
    pool: LocalPool, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(pool)
    pool.address.touch()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)  # as a fork of the client has another
        pool.close()
    assert executor.n_cleared == 0
    assert pool.address.exists()
    pool.close()
    assert executor.n_cleared == 1
    assert not pool.address.exists()


def test_the_cpus_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= n_cpus() <= (os.cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 5, 7})
        assert n_cpus() == 3
        monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert n_cpus() == 1
