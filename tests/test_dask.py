"""Dask graphs on hstmap's engines."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hstmap
from hstmap.bag.engine import Attempt, Engine, EngineOptions, InProcessEngine, Stage, make_engine
from hstmap.errors import TaskError

dask = pytest.importorskip("dask", reason="dask is not installed")

import dask.bag as db  # noqa: E402
from dask import delayed  # noqa: E402

import hstmap.dask  # noqa: E402


class CountingEngine(InProcessEngine):
    def __init__(self) -> None:
        super().__init__()
        self.stages: list[Stage] = []

    def run(self, stage: Stage) -> Iterator[Attempt]:
        self.stages.append(stage)
        return super().run(stage)


@pytest.fixture
def engine() -> Iterator[CountingEngine]:
    with CountingEngine() as counting, hstmap.use_engine(counting):
        yield counting


@pytest.fixture(scope="module")
def processes() -> Iterator[Engine]:
    with make_engine("lithops", EngineOptions(n_workers=2, stragglers=None)) as engine:
        yield engine


def compute(collection: Any) -> Any:
    return collection.compute(scheduler=hstmap.dask.get)


def increment(x: int) -> int:
    return x + 1


def test_a_graph_of_tuples_is_computed() -> None:
    graph = {
        "x": 1,
        "y": (increment, "x"),
        "z": (operator.add, "y", 10),
        "all": (sum, ["x", "y", "z"]),
        "same": "z",
    }
    assert hstmap.dask.get(graph, "all") == 15
    assert hstmap.dask.get(graph, ["x", ["y", "z"], "same"]) == (1, (2, 12), 12)
    assert hstmap.dask.get(graph, []) == ()
    assert hstmap.dask.get(graph, [["x"], []]) == ((1,), ())
    assert hstmap.dask.get(graph, ["all", "all"]) == (15, 15)


def test_only_what_is_wanted_runs(engine: CountingEngine) -> None:
    graph = {"x": 1, "y": (increment, "x"), "broken": (operator.truediv, "x", 0)}
    assert hstmap.dask.get(graph, "y") == 2


def test_linear_chains_are_one_task(engine: CountingEngine) -> None:
    value = delayed(1)
    for _ in range(10):
        value = delayed(increment)(value)
    assert compute(value) == 11
    assert [len(stage.tasks) for stage in engine.stages] == [1]


def test_a_graph_runs_level_by_level(engine: CountingEngine) -> None:
    leaves = [delayed(increment)(delayed(increment)(n)) for n in range(4)]
    pairs = [delayed(operator.add)(*leaves[:2]), delayed(operator.mul)(*leaves[2:])]
    assert compute(delayed(operator.sub)(*pairs)) == (2 + 3) - (4 * 5)
    assert [len(stage.tasks) for stage in engine.stages] == [4, 2, 1]
    assert engine.stages[0].name == "0: increment"


def test_bags_of_dask_are_computed(engine: CountingEngine) -> None:
    bag = db.from_sequence(range(20), npartitions=4).map(increment).filter(lambda x: x % 2)
    assert compute(bag) == [x for x in range(1, 21) if x % 2]
    assert dask.compute(bag.sum(), bag.count(), scheduler=hstmap.dask.get) == (100, 10)
    with dask.config.set(scheduler=hstmap.dask.get):
        assert dict(bag.frequencies()) == {x: 1 for x in range(1, 21) if x % 2}
        assert bag.persist().max().compute() == 19
    assert engine.stages


def test_a_shared_value_is_computed_once() -> None:
    calls: list[int] = []

    def note(x: int) -> int:
        calls.append(x)
        return x

    shared = delayed(note)(3)
    assert compute(delayed(operator.add)(delayed(increment)(shared), shared)) == 7
    assert calls == [3]


def test_an_exception_keeps_its_kind(engine: CountingEngine) -> None:
    broken = delayed(operator.truediv)(1, delayed(increment)(-1))
    with pytest.raises(ZeroDivisionError) as caught:
        compute(broken)
    assert isinstance(caught.value, TaskError)


def test_an_engine_can_be_given_to_the_scheduler() -> None:
    with CountingEngine() as mine:
        assert dask.compute(delayed(increment)(1), scheduler=hstmap.dask.get, engine=mine) == (2,)
        assert len(mine.stages) == 1


def test_large_values_go_through_the_store(tmp_path: Path) -> None:
    bag = db.from_sequence(range(30), npartitions=3).map(lambda x: [x] * 100)
    with hstmap.use_engine(InProcessEngine(), spill_url=str(tmp_path), inline_nbytes=0):
        assert compute(bag.flatten().sum()) == sum(range(30)) * 100
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_processes_run_dask_graphs(processes: Engine, tmp_path: Path) -> None:
    with hstmap.use_engine(processes, spill_url=str(tmp_path), inline_nbytes=1000):
        bag = db.from_sequence(range(1000), npartitions=10)
        assert compute(bag.map(lambda x: x * x).sum()) == sum(x * x for x in range(1000))
        grouped = compute(bag.groupby(lambda x: x % 7, shuffle="tasks"))
        assert {key: len(items) for key, items in grouped} == {
            key: len(range(key, 1000, 7)) for key in range(7)
        }
        text = compute(bag.map(str).fold(operator.add, initial=""))
        assert text == "".join(map(str, range(1000)))
        assert compute(delayed(sum)([delayed(increment)(n) for n in range(5)])) == 15
        with pytest.raises(KeyError):
            compute(bag.map({}.__getitem__))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
