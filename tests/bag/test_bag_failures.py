"""Failures as data: which item, which exception, and that the others survive."""

from __future__ import annotations

import operator
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hstmap
from hstmap.bag.engine import (
    Attempt,
    Engine,
    EngineOptions,
    InProcessEngine,
    RemoteError,
    Stage,
    make_engine,
)
from hstmap.bag.failures import raise_original
from hstmap.errors import TaskError


def refuse_multiples_of_seven(number: int) -> int:
    if number % 7 == 0:
        raise ValueError(f"{number} is a multiple of 7")
    return number


def collect(bag: Any) -> Any:
    return bag.compute(on_error="collect")


def is_failure(item: Any) -> bool:
    return isinstance(item, hstmap.Failure)


# -- raising ---------------------------------------------------------------------------------------


def test_an_exception_keeps_its_kind_and_says_where_it_was() -> None:
    bag = hstmap.from_sequence(range(1, 10), npartitions=3).map(refuse_multiples_of_seven)
    with pytest.raises(ValueError, match="7 is a multiple of 7") as caught:
        bag.compute()
    error = caught.value
    assert isinstance(error, TaskError)
    assert isinstance(error.attempt, Attempt)
    assert error.attempt.number == 1  # a ValueError is not tried again
    assert type(error.__cause__) is ValueError
    assert error.__cause__.__notes__ == ["map-refuse_multiples_of_seven, partition 2, item 0: 7"]
    assert "in refuse_multiples_of_seven" in str(error)


def test_the_first_failure_ends_the_computation() -> None:
    calls: list[int] = []
    bag = hstmap.range(10, npartitions=10).map(calls.append).map(lambda _: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        bag.compute()
    assert calls == [0]


class NeedsTwoError(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(first, second)


@pytest.mark.parametrize(
    "original",
    [ValueError("no"), KeyError("k"), OSError(2, "gone"), NeedsTwoError("a", "b"),
     UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), TaskError("inner", None)],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_any_exception_can_be_raised_again(original: Exception) -> None:
    error = RemoteError(type(original).__name__, str(original), exception=original)
    attempt = Attempt("stage", "task", 1, "error", final=True, error=error)
    with pytest.raises(TaskError) as caught:
        raise_original(attempt)
    assert caught.value.attempt is attempt
    assert caught.value.__cause__ is original
    travelled = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(travelled, TaskError)
    assert str(travelled) == str(caught.value)
    if not isinstance(original, UnicodeDecodeError | TaskError):
        assert isinstance(caught.value, type(original))
        assert isinstance(travelled, type(original))


def test_an_attempt_without_an_exception_is_a_task_error() -> None:
    error = RemoteError("WorkerLost", "signal 9")
    attempt = Attempt("stage", "task", 3, "lost", final=True, error=error)
    with pytest.raises(TaskError, match=r"attempt 3 \(lost\): WorkerLost: signal 9"):
        raise_original(attempt)
    raise_original(Attempt("stage", "task", 1, "ok", final=True))


# -- collecting ------------------------------------------------------------------------------------


@given(numbers=st.lists(st.integers(0, 100)), npartitions=st.integers(1, 5))
def test_every_item_is_a_result_or_a_failure_in_its_place(
    numbers: list[int], npartitions: int
) -> None:
    bag = hstmap.from_sequence(numbers, npartitions=npartitions)
    results = collect(bag.map(refuse_multiples_of_seven))
    assert len(results) == len(numbers)
    for number, result in zip(numbers, results, strict=True):
        if number % 7:
            assert result == number
        else:
            assert (result.item, result.type_name) == (repr(number), "ValueError")


def test_a_failure_says_which_item_which_exception_and_which_traceback() -> None:
    bag = hstmap.from_sequence(range(1, 10), npartitions=3).filter(lambda x: x != 8)
    (failure,) = filter(is_failure, collect(bag.map(refuse_multiples_of_seven)))
    assert failure == hstmap.Failure(
        step="map-refuse_multiples_of_seven",
        partition=2,
        index=0,
        item="7",
        type_name="ValueError",
        message="7 is a multiple of 7",
        traceback_text=failure.traceback_text,
    )
    assert "in refuse_multiples_of_seven" in failure.traceback_text
    assert str(failure) == (
        "map-refuse_multiples_of_seven, partition 2, item 0 (7): ValueError: 7 is a multiple of 7"
    )
    assert pickle.loads(pickle.dumps(failure)) == failure


def test_a_long_item_is_cut_off_and_one_that_cannot_be_shown_is_named() -> None:
    class Secret:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    bag = hstmap.from_sequence(["x" * 1000, Secret()]).map(int)
    long, secret = collect(bag)
    assert len(long.item) == 200
    assert long.item.endswith("...")
    assert "Secret object at" in secret.item


ITEMWISE: dict[str, Callable[[hstmap.Bag], hstmap.Bag]] = {
    "map": lambda bag: bag.map(str),
    "map with another": lambda bag: bag.map(lambda x, y: str(x), bag),
    "filter": lambda bag: bag.filter(lambda x: x >= 0).map(str),
    "remove": lambda bag: bag.remove(lambda x: x < 0).map(str),
    "flatten": lambda bag: bag.map(lambda x: [str(x)]).flatten(),
    "pluck": lambda bag: bag.map(lambda x: {"x": str(x)}).pluck("x"),
    "zip": lambda bag: hstmap.zip(bag, bag).starmap(lambda x, _: str(x)),
    "random sample": lambda bag: bag.random_sample(1.0).map(str),
    "join": lambda bag: bag.join([0, 1, 2], lambda x: 0 if x in (0, 1, 2) else 1).map(
        lambda pair: str(pair[1])
    ),
    "repartition": lambda bag: bag.repartition(1).repartition(4).map(str),
    "concat": lambda bag: hstmap.concat([bag, bag]).take(6, 3, compute=False).map(str),
}


@pytest.mark.parametrize("name", ITEMWISE)
def test_failures_pass_through_steps_that_work_item_by_item(name: str) -> None:
    bag = hstmap.range(6, npartitions=3).map(lambda x: 1 // 0 if x == 3 else x)
    results = collect(ITEMWISE[name](bag))
    (failure,) = filter(is_failure, results)
    assert (failure.step, failure.item) == ("map-lambda", "3")
    survivors = [result for result in results if not is_failure(result)]
    if name == "join":
        assert {"0", "1", "2"} <= set(survivors)
    else:
        assert survivors == ["0", "1", "2", "4", "5"]
        assert results.index(failure) == 3


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("filter", lambda bag: bag.filter(refuse_multiples_of_seven)),
        ("starmap", lambda bag: bag.map(lambda x: (x,)).starmap(refuse_multiples_of_seven)),
        ("flatten", lambda bag: bag.map(lambda x: [x] if x != 7 else 7).flatten()),
        ("pluck", lambda bag: bag.map(lambda x: [x] if x != 7 else []).pluck(0)),
        ("join", lambda bag: bag.join([1], lambda x: refuse_multiples_of_seven(x) > 0).pluck(1)),
    ],
)
def test_any_step_that_works_item_by_item_can_fail_for_one(name: str, broken: Any) -> None:
    results = collect(broken(hstmap.from_sequence(range(5, 10), npartitions=2)))
    assert [result for result in results if not is_failure(result)] == [5, 6, 8, 9]
    assert sum(map(is_failure, results)) == 1, name


def test_functions_of_partitions_get_what_survived() -> None:
    bag = hstmap.from_sequence(range(6, 10), npartitions=2).map(refuse_multiples_of_seven)
    results = collect(bag.map_partitions(lambda part: [sum(part)]))
    assert results[::2] == [6, 17]
    assert results[1].item == "7"
    lazily = collect(bag.map_partitions(lambda part: (x + 1 for x in part)))
    assert [item for item in lazily if not is_failure(item)] == [7, 9, 10]
    assert is_failure(lazily[1])


def test_a_function_of_partitions_that_fails_is_one_failure() -> None:
    bag = hstmap.from_sequence(range(6), npartitions=3)

    def fail(part: list[int]) -> list[int]:
        return [x // (x - 2) for x in part]

    def fail_late(part: list[int]) -> Iterator[int]:
        for x in part:
            yield x // (x - 3)

    results = collect(bag.map_partitions(fail))
    assert [result for result in results if not is_failure(result)] == [0, -1, 2, 1]
    assert (results[2].partition, results[2].index, results[2].item) == (1, None, "")
    assert "partition 1, all of it: ZeroDivisionError" in str(results[2])
    late = collect(bag.map_partitions(fail_late))
    assert [result for result in late if not is_failure(result)] == [0, -1, -2, 4, 2]


REDUCTIONS: dict[str, Callable[[hstmap.Bag], Any]] = {
    "sum": lambda bag: bag.sum(),
    "count": lambda bag: bag.count(),
    "fold": lambda bag: bag.fold(operator.add),
    "foldby": lambda bag: bag.foldby(abs, operator.add),
    "groupby": lambda bag: bag.groupby(abs),
    "distinct": lambda bag: bag.distinct(),
    "topk": lambda bag: bag.topk(2),
    "accumulate": lambda bag: bag.accumulate(operator.add),
    "product": lambda bag: bag.product(bag),
    "to_dataframe": lambda bag: bag.to_dataframe(),
}


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("is_list", [False, True], ids=["lazy", "list"])
def test_what_needs_every_item_refuses_failures(name: str, is_list: bool) -> None:
    bag = hstmap.from_sequence(range(5, 10), npartitions=2).map(refuse_multiples_of_seven)
    if is_list:
        bag = bag.persist(on_error="collect")
    with pytest.raises(TaskError, match=r"item .* \(7\): ValueError.*drop_failures\(\)"):
        collect(REDUCTIONS[name](bag))
    collect(REDUCTIONS[name](bag.drop_failures()))


def test_the_other_side_of_a_join_must_be_whole() -> None:
    bag = hstmap.range(4, npartitions=2)
    other = hstmap.from_sequence(range(5, 9), npartitions=1).map(refuse_multiples_of_seven)
    (first, second) = collect(bag.join(other, abs))
    assert first.type_name == second.type_name == "hstmap.errors.TaskError"
    assert "drop_failures()" in first.message
    joined = collect(bag.map(lambda x: x + 5).join(other.drop_failures(), abs))
    assert joined == [(5, 5), (6, 6), (8, 8)]


def test_a_join_whose_other_side_fails_is_one_failure_a_partition() -> None:
    bag = hstmap.range(4, npartitions=2)
    results = collect(bag.join([1, 0], abs, lambda x: 1 // x))
    assert [(failure.partition, failure.index) for failure in results] == [(0, None), (1, None)]


def test_kept_failures_are_held_back_from_functions_of_partitions() -> None:
    bag = hstmap.range(8, npartitions=2).map(refuse_multiples_of_seven)
    kept = bag.persist(on_error="collect")
    results = kept.map_partitions(sum_of_list).compute()
    assert [item for item in results if not is_failure(item)] == [6, 15]
    assert sum(map(is_failure, results)) == 2


def sum_of_list(part: list[int]) -> list[int]:
    return [sum(part)]


def test_failures_can_be_counted_and_dropped() -> None:
    bag = hstmap.range(50, npartitions=7).map(refuse_multiples_of_seven)
    assert collect(bag.failures().count()) == 8
    by_kind = collect(bag.failures().pluck("type_name").frequencies())
    assert by_kind == [("ValueError", 8)]
    assert collect(bag.failures().to_dataframe())["item"].tolist() == [
        str(x) for x in range(0, 50, 7)
    ]
    assert collect(bag.drop_failures().count()) == 42
    assert collect(bag.drop_failures()) == [x for x in range(50) if x % 7]


def test_kept_failures_stay_failures_when_others_are_raised() -> None:
    kept = hstmap.range(8, npartitions=2).map(refuse_multiples_of_seven).persist(on_error="collect")
    assert [item for item in kept.map(str) if not is_failure(item)] == list("123456")
    assert kept.drop_failures().sum().compute() == 21


def test_use_engine_sets_what_becomes_of_failures() -> None:
    bag = hstmap.range(8, npartitions=2).map(refuse_multiples_of_seven)
    with hstmap.use_engine("inprocess", on_error="collect"):
        assert sum(map(is_failure, bag)) == 2
        assert sum(map(is_failure, bag.compute())) == 2
        with pytest.raises(ValueError, match="multiple of 7"):
            bag.compute(on_error="raise")
    with hstmap.use_engine("inprocess", EngineOptions(on_error="collect")):
        assert sum(map(is_failure, bag)) == 2


def test_an_item_is_tried_again_after_what_another_call_can_mend() -> None:
    calls: list[int] = []

    def flaky(x: int) -> int:
        calls.append(x)
        if x == 1 and calls.count(1) < 3:
            raise ConnectionError("reset")
        if x == 2:
            raise FileNotFoundError("gone for good")
        return x

    bag = hstmap.range(4, npartitions=1).map(flaky)
    results = bag.compute(on_error="collect", retries=2)
    assert calls == [0, 1, 1, 1, 2, 3]
    assert results[:2] == [0, 1]
    assert results[2].type_name == "FileNotFoundError"
    calls.clear()
    results = bag.compute(on_error="collect", retries=1)
    assert calls == [0, 1, 1, 2, 3]
    assert results[1].type_name == "ConnectionError"


def test_a_partition_is_tried_again_by_the_engine() -> None:
    calls: list[int] = []

    def flaky(part: list[int]) -> list[int]:
        calls.append(part[0])
        if part[0] == 2 and calls.count(2) < 3:
            raise ConnectionError("reset")
        return part

    bag = hstmap.from_sequence(range(4), npartitions=2).map_partitions(flaky)
    assert bag.compute(on_error="collect", retries=2) == [0, 1, 2, 3]
    assert sorted(calls) == [0, 2, 2, 2]
    calls.clear()
    *survivors, failure = bag.compute(on_error="collect", retries=1)
    assert survivors == [0, 1]
    assert (failure.partition, failure.index, failure.type_name) == (1, None, "ConnectionError")


def test_what_cannot_be_pickled_fails_alone(tmp_path: Path) -> None:
    bag = hstmap.from_sequence(range(4), npartitions=2)
    stuck = bag.map(lambda x: (y for y in [x]) if x == 1 else x)
    with hstmap.use_engine(InProcessEngine(), spill_url=str(tmp_path)):
        first, failure, *others = collect(stuck)
        assert [first, *others] == [0, 2, 3]
        assert (failure.index, failure.type_name) == (1, "TypeError")
        with pytest.raises(TypeError, match="because of its item 1, of type generator"):
            stuck.compute()


# -- workers that die ------------------------------------------------------------------------------


class Counted:
    """An engine whose attempts are kept."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.attempts: list[Attempt] = []

    @property
    def options(self) -> EngineOptions:
        return self._engine.options

    def run(self, stage: Stage) -> Iterator[Attempt]:
        for attempt in self._engine.run(stage):
            self.attempts.append(attempt)
            yield attempt

    def close(self) -> None:
        self._engine.close()

    def statuses(self, partition: int) -> list[str]:
        return [
            attempt.status
            for attempt in self.attempts
            if attempt.task_key.startswith("0.") and attempt.task_key.endswith(f"[{partition}]")
        ]


@pytest.fixture(scope="module")
def processes() -> Iterator[Engine]:
    options = EngineOptions(n_workers=2, retries=1, timeout_s=1.5, stragglers=None)
    with make_engine("lithops", options) as engine:
        yield engine


FAULTS: dict[str, tuple[Callable[[], Any], list[str], str]] = {
    "exit": (lambda: os._exit(3), ["lost", "lost"], "WorkerLost"),
    "signal": (lambda: os.kill(os.getpid(), signal.SIGKILL), ["lost", "lost"], "WorkerLost"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_worker_that_dies_takes_its_partition_and_no_other(processes: Engine, fault: str) -> None:
    break_down, statuses, type_name = FAULTS[fault]

    def work(x: int) -> int:
        if x == 2:
            break_down()
        return x

    engine = Counted(processes)
    bag = hstmap.range(6, npartitions=3).map(work)
    with hstmap.use_engine(engine, on_error="collect"):
        *survivors, failure = sorted(bag.compute(), key=is_failure)
        assert survivors == [0, 1, 4, 5]
        assert (failure.partition, failure.index, failure.type_name) == (1, None, type_name)
        assert engine.statuses(1) == statuses
        assert engine.statuses(0) == engine.statuses(2) == ["ok"]
        assert bag.drop_failures().count().compute() == 4
        with pytest.raises(TaskError, match=type_name):
            bag.count().compute()
    with hstmap.use_engine(engine), pytest.raises(TaskError, match=type_name):
        bag.compute()


def test_an_exit_of_the_function_is_the_items_own_failure(processes: Engine) -> None:
    def leave(x: int) -> int:
        if x == 2:
            raise SystemExit(4)
        return x

    with hstmap.use_engine(processes, on_error="collect"):
        results = hstmap.range(6, npartitions=3).map(leave).compute()
    assert [x for x in results if not is_failure(x)] == [0, 1, 3, 4, 5]
    assert (results[2].index, results[2].type_name) == (0, "SystemExit")


def test_a_function_that_hangs_takes_its_partition_and_no_other(processes: Engine) -> None:
    def hang(x: int) -> int:
        if x == 2:
            time.sleep(3600)
        return x

    engine = Counted(processes)
    with hstmap.use_engine(engine, on_error="collect"):
        results = hstmap.range(6, npartitions=3).map(hang).compute()
    assert [x for x in results if not is_failure(x)] == [0, 1, 4, 5]
    assert [x.type_name for x in results if is_failure(x)] == ["TimedOut"]
    assert engine.statuses(1) == ["timeout", "timeout"]
