"""Counts that outlive the process that made them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict

import pytest

from hstmap.aws.calls import run_in_fork
from hstmap.aws.shared_counts import SharedCounts
from hstmap.storage_counts import CallRequests, RequestCounts, heard_by, tell

ONE = RequestCounts(n_get=1, nbytes_read=2**40)


@pytest.fixture
def shared() -> Iterator[SharedCounts]:
    counts = SharedCounts()
    yield counts
    counts.close()


def in_fork(function: Callable[[], object]) -> int | None:
    return run_in_fork(lambda: function() and None, (), 20.0)


def test_nothing_was_asked_for_at_first(shared):
    assert shared.read() == CallRequests()


def test_work_is_told_from_what_is_around_it(shared):
    shared.add(ONE)
    with shared.of_work():
        shared.add(ONE)
        shared.add(ONE)
    shared.add(RequestCounts(n_put=1))
    assert shared.read() == CallRequests(ONE + ONE, ONE + RequestCounts(n_put=1))


def test_each_kind_has_its_place(shared):
    each = RequestCounts(*range(1, len(asdict(ONE)) + 1))
    shared.add(each)
    with shared.of_work():
        shared.add(each + each)
    assert shared.read() == CallRequests(each + each, each)


def test_the_work_is_over_when_it_raises(shared):
    with pytest.raises(KeyError), shared.of_work():
        raise KeyError
    shared.add(ONE)
    assert shared.read().engine == ONE


@pytest.mark.parametrize(
    "end",
    [
        lambda: None,
        lambda: os._exit(5),
        lambda: os.kill(os.getpid(), signal.SIGKILL),
        lambda: 1 / 0,
    ],
    ids=["returns", "exits", "killed", "raises"],
)
def test_the_parent_reads_what_a_fork_counted_however_that_ended(shared, end):
    def ask_and_end() -> None:
        shared.add(RequestCounts(n_put=1))
        with shared.of_work():
            shared.add(ONE)
            end()

    in_fork(ask_and_end)
    assert shared.read() == CallRequests(ONE, RequestCounts(n_put=1))


def test_forks_one_after_another_go_on_counting(shared):
    for _ in range(3):
        assert in_fork(lambda: shared.add(ONE)) == 0
    assert shared.read().engine == ONE + ONE + ONE


def test_what_a_fork_hears_of_many_threads_is_complete(shared):
    n_threads, n_times = 6, 500

    def ask() -> None:
        for _ in range(n_times):
            tell(ONE)

    def ask_in_threads() -> None:
        with heard_by(shared.add), shared.of_work():
            threads = [threading.Thread(target=ask) for _ in range(n_threads)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    assert in_fork(ask_in_threads) == 0
    assert shared.read().work.n_get == n_threads * n_times
    assert shared.read().work.nbytes_read == n_threads * n_times * 2**40


def test_memory_of_calls_that_are_over_is_given_back():
    """An environment makes thousands of calls."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_make_many) < 5 * 1024 * 1024


def _make_many() -> int:
    def mapped_nbytes() -> int:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            return int(file.read().split()[0]) * 4096

    before = mapped_nbytes()
    for _ in range(5000):
        counts = SharedCounts()
        counts.add(ONE)
        counts.close()
    return mapped_nbytes() - before
