"""The Bag as its users meet it: lazy, immutable, computed once, cheap to build and to show."""

from __future__ import annotations

import doctest
import importlib
import operator
import pickle
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

import hstmap
from hstmap.bag.engine import Attempt, InProcessEngine, Stage
from hstmap.bag.events import AttemptEnded, Event
from hstmap.bag.session import ComputeOptions, open_session
from hstmap.errors import UsageError
from hstmap.storage import StorageOptions


class CountingEngine(InProcessEngine):
    """Runs tasks here, and keeps the stages that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.stages: list[Stage] = []

    @property
    def n_tasks(self) -> list[int]:
        return [len(stage.tasks) for stage in self.stages]

    def run(self, stage: Stage) -> Iterator[Attempt]:
        self.stages.append(stage)
        return super().run(stage)


@pytest.fixture
def engine() -> Iterator[CountingEngine]:
    with CountingEngine() as counting, hstmap.use_engine(counting):
        yield counting


def in_new_process(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


@pytest.mark.parametrize(
    "module",
    ["aggregations", "bag", "combinations", "item", "names", "render", "session", "sizes",
     "transforms"],
)  # fmt: skip
def test_the_examples_of_the_documentation_are_true(module: str) -> None:
    results = doctest.testmod(importlib.import_module(f"hstmap.bag.{module}"))
    assert results.attempted > 0
    assert results.failed == 0


# -- lazy ------------------------------------------------------------------------------------------


def test_importing_the_package_imports_nothing_else() -> None:
    loaded = in_new_process(
        "import sys, hstmap; print([name for name in sys.modules if name.startswith('hstmap')])"
    )
    assert loaded == "['hstmap']"


def test_building_and_showing_a_bag_of_a_million_starts_nothing_heavy() -> None:
    heavy = [
        "numpy",
        "pandas",
        "pyarrow",
        "lithops",
        "boto3",
        "astropy",
        "sep",
        "dask",
        "matplotlib",
    ]
    loaded = in_new_process(
        "import sys, hstmap\n"
        "bag = hstmap.range(1_000_000, npartitions=50_000).map(abs).filter(None)\n"
        "total = bag.map(lambda x: x, bag.max()).groupby(lambda x: x % 7).count()\n"
        "repr(total), total.plan().n_tasks\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert loaded == "[]"


def test_a_sequence_that_cannot_change_is_held_not_copied() -> None:
    class Watched(tuple):
        slices: list[slice] = []  # noqa: RUF012

        def __getitem__(self, where: Any) -> Any:
            Watched.slices.append(where)
            return super().__getitem__(where)

    bag = hstmap.from_sequence(Watched(range(1_000_000)), partition_size=1000)
    assert bag.map(abs).filter(None).sum().npartitions == 1
    assert not Watched.slices
    assert bag.take(2) == (0, 1)
    assert Watched.slices == [slice(0, 1000, None)]


def test_a_list_that_is_changed_later_does_not_change_the_bag() -> None:
    items = [1, 2, 3]
    bag = hstmap.from_sequence(items)
    items.append(4)
    assert bag.compute() == [1, 2, 3]


def test_nothing_runs_before_it_is_asked_for(engine: CountingEngine) -> None:
    calls: list[int] = []
    bag = hstmap.range(4, npartitions=2).map(calls.append)
    bag.filter(None).groupby(abs).to_dataframe()
    bag.accumulate(operator.add).take(1, compute=False)
    str(bag), bag.name, bag.plan(), bag.visualize()
    assert calls == []
    assert engine.stages == []
    bag.compute()
    assert calls == [0, 1, 2, 3]


def test_a_generator_is_a_sequence_too() -> None:
    assert hstmap.from_sequence(x * x for x in range(4)).compute() == [0, 1, 4, 9]


# -- computed once, and only what is needed --------------------------------------------------------


def test_elementwise_steps_share_a_task(engine: CountingEngine) -> None:
    bag = hstmap.range(10, npartitions=5)
    steps = bag.map(abs).filter(None).map(lambda x: [x, x]).flatten().map_partitions(list)
    assert steps.compute() == [x for x in range(1, 10) for _ in range(2)]
    assert engine.n_tasks == [5]


def test_reductions_are_trees_of_maps(engine: CountingEngine) -> None:
    assert hstmap.range(100, npartitions=20).sum(split_every=3).compute() == 4950
    assert engine.n_tasks == [20, 7, 3, 1]


def test_a_shared_step_runs_once_in_one_computation() -> None:
    calls: list[int] = []

    def square(x: int) -> int:
        calls.append(x)
        return x * x

    squares = hstmap.range(6, npartitions=3).map(square)
    shifted = squares.map(operator.sub, squares.max())
    assert hstmap.compute(squares.sum(), squares.count(), shifted) == (
        55,
        6,
        [-25, -24, -21, -16, -9, 0],
    )
    assert sorted(calls) == [0, 1, 2, 3, 4, 5]


def test_a_step_that_was_built_twice_runs_once(engine: CountingEngine) -> None:
    bag = hstmap.range(6, npartitions=3)
    first, second = hstmap.compute(bag.map(abs).max(), bag.map(abs).max())
    assert first == second == 5
    assert engine.n_tasks == [3, 1]


def test_equal_constants_of_other_types_are_other_steps() -> None:
    bag = hstmap.from_sequence([0], npartitions=1)
    results = hstmap.compute(*(bag.map(lambda _, given: given, given) for given in (1, 1.0, True)))
    assert [type(result[0]) for result in results] == [int, float, bool]


def test_take_runs_only_the_partitions_that_it_looks_into(engine: CountingEngine) -> None:
    seen: list[int] = []
    bag = hstmap.range(100, npartitions=10).map(lambda x: seen.append(x) or x)
    assert bag.take(3) == (0, 1, 2)
    assert engine.n_tasks == [1]
    assert seen == [0, 1, 2]
    assert bag.take(12, npartitions=2) == tuple(range(12))
    assert engine.n_tasks == [1, 2, 1]


def test_take_takes_any_whole_number() -> None:
    bag = hstmap.range(3, npartitions=1)
    assert bag.take(0) == ()
    assert bag.take(np.int64(2)) == (0, 1)


def test_take_warns_of_too_few_items() -> None:
    bag = hstmap.range(10, npartitions=5)
    with pytest.warns(UserWarning, match="3 elements requested, only 2"):
        assert bag.take(3) == (0, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bag.take(3, warn=False) == (0, 1)
        assert bag.take(3, npartitions=2) == (0, 1, 2)


def test_iteration_computes_windows_of_partitions(engine: CountingEngine) -> None:
    seen: list[int] = []
    items = iter(hstmap.range(30, npartitions=10).map(lambda x: seen.append(x) or x))
    assert seen == []
    assert next(items) == 0
    assert seen == [0, 1, 2]  # the first partition, and no other
    assert list(items) == list(range(1, 30))
    assert engine.n_tasks == [1, 2, 4, 3]


def test_iteration_computes_what_lies_below_the_last_steps_once(engine: CountingEngine) -> None:
    bag = hstmap.range(6, npartitions=3)
    assert list(bag.map(operator.sub, bag.max())) == [-5, -4, -3, -2, -1, 0]
    assert engine.n_tasks == [3, 1, 1, 2]


def test_an_abandoned_iteration_leaves_the_engine_free(engine: CountingEngine) -> None:
    for item in hstmap.range(6, npartitions=3).map(abs):
        assert item == 0
        break
    assert hstmap.range(3, npartitions=1).sum().compute() == 3


def test_persist_keeps_the_results(engine: CountingEngine) -> None:
    calls: list[int] = []
    kept = hstmap.range(4, npartitions=2).map(lambda x: calls.append(x) or x).persist()
    assert kept.compute() == [0, 1, 2, 3]
    assert kept.sum().compute() == 6
    assert list(kept) == [0, 1, 2, 3]
    assert calls == [0, 1, 2, 3]
    assert kept.npartitions == 2
    assert kept.persist() is kept
    total = kept.sum().persist()
    engine.stages.clear()
    assert total.compute() == 6
    assert engine.stages == []


def test_compute_finds_collections_in_containers() -> None:
    bag = hstmap.range(4, npartitions=2)
    assert hstmap.compute([bag.sum(), (bag.max(), "text")], {"count": bag.count()}, 7) == (
        [6, (3, "text")],
        {"count": 4},
        7,
    )
    assert hstmap.compute() == ()
    assert hstmap.compute(1, 2) == (1, 2)


# -- arguments and results -------------------------------------------------------------------------


def test_an_item_is_computed_before_it_is_an_argument() -> None:
    bag = hstmap.from_sequence([1, 2, 4], npartitions=2)
    assert bag.map(operator.truediv, bag.max()).compute() == [0.25, 0.5, 1.0]
    assert bag.map_partitions(lambda part, top: [top] * len(part), top=bag.max()).compute() == [
        4,
        4,
        4,
    ]
    pairs = hstmap.zip(bag, bag)
    assert pairs.starmap(pow, mod=bag.max()).compute() == [1, 0, 0]


def test_items_are_numbers_when_they_are_used_as_such() -> None:
    bag = hstmap.range(4, npartitions=2)
    assert int(bag.sum()) == 6
    assert float(bag.mean()) == 1.5
    assert complex(bag.sum()) == 6
    assert not bool(bag.min())
    assert bag.sum().apply(str).apply(len).compute() == 1


def test_bags_that_do_not_fit_together_are_refused() -> None:
    three, two = hstmap.range(6, npartitions=3), hstmap.range(6, npartitions=2)
    with pytest.raises(UsageError, match="2, 3 partitions"):
        three.map(operator.add, two)
    with pytest.raises(UsageError, match="at least one argument must be a Bag"):
        hstmap.map(abs, 3)
    with pytest.raises(UsageError, match="same number of partitions"):
        hstmap.zip(three, two)
    with pytest.raises(UsageError, match="2 partitions"):
        three.join(two, abs)
    uneven = hstmap.from_sequence(range(5), partition_size=2)
    with pytest.raises(ValueError, match="partitioned alike"):
        three.map(operator.add, uneven).compute()


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (lambda b: b.sum(split_every=1), "split_every is 1"),
        (lambda b: b.take(1, npartitions=4), "4 partitions, and there are 3"),
        (lambda b: b.take(-1), "asked for -1 items; give a whole number, 0 or more"),
        (lambda b: b.take(1.5, compute=False), r"asked for 1\.5 items"),
        (lambda b: b.random_sample(1.5), "prob is 1.5"),
        (lambda b: b.repartition(), "exactly one"),
        (lambda b: b.repartition(2, "1MB"), "exactly one"),
        (lambda b: b.repartition(0), "npartitions is 0"),
        (lambda b: b.repartition(partition_size="much"), "'much' is no size"),
        (lambda b: b.product([1, 2]), "list is none"),
        (lambda b: b.groupby(abs, method="disk"), "one shuffle"),
        (lambda b: b.groupby(abs, max_branch=1), "max_branch is 1"),
        (lambda b: b.to_dataframe(meta={"a": int}, columns=["a"]), "either meta or columns"),
        (lambda b: b.compute(scheduler="processes"), "engine='lithops'"),
        (lambda b: b.compute("spark"), "engine 'spark' is not known"),
        (lambda b: b.compute(on_error="ignore"), "'raise' or 'collect'"),
        (lambda _: hstmap.from_sequence([1], npartitions=0), "npartitions is 0"),
        (lambda _: hstmap.from_sequence([1], partition_size=0), "partition_size is 0"),
        (lambda _: hstmap.range(-1, npartitions=1), "n is -1"),
        (lambda _: hstmap.concat([]), "no bags"),
        (lambda _: hstmap.zip(), "0 bags"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(ask: Any, answer: str) -> None:
    with pytest.raises(UsageError, match=answer):
        ask(hstmap.range(6, npartitions=3))


def test_unknown_keywords_of_compute_are_refused() -> None:
    with pytest.raises(TypeError, match="retrys"):
        hstmap.range(3, npartitions=1).compute(retrys=3)


def test_more_partitions_than_numbers_leave_some_empty() -> None:
    bag = hstmap.range(2, npartitions=4)
    assert bag.npartitions == 4
    assert bag.compute() == [0, 1]
    assert bag.max().compute() == 1
    assert hstmap.range(0, npartitions=2).compute() == []


def test_reductions_of_nothing_say_so_or_have_a_neutral_value() -> None:
    nothing = hstmap.range(6, npartitions=3).filter(lambda _: False)
    assert nothing.sum().compute() == 0
    assert nothing.count().compute() == 0
    assert nothing.frequencies().compute() == []
    assert nothing.fold(operator.add, initial=7).compute() == 7
    for empty in (nothing.max(), nothing.fold(operator.add), nothing.mean(), nothing.var()):
        with pytest.raises((ValueError, TypeError, ZeroDivisionError)):
            empty.compute()


def test_topk_compares_what_its_key_says() -> None:
    pairs = [(1, 10), (2, 9), (3, 8)]
    bag = hstmap.from_sequence(pairs, npartitions=2)
    assert bag.topk(2).compute() == [(3, 8), (2, 9)]
    assert bag.topk(2, key=1).compute() == [(1, 10), (2, 9)]
    assert bag.topk(2, key=0).compute() == [(3, 8), (2, 9)]
    assert bag.topk(2, key=lambda _, second: second).compute() == [(1, 10), (2, 9)]
    assert bag.topk(2, key=lambda *both: -both[0]).compute() == [(1, 10), (2, 9)]
    assert bag.topk(2, key=lambda pair, sign=-1: sign * pair[0]).compute() == [(1, 10), (2, 9)]
    assert bag.topk(1, key=sum).compute() == [(1, 10)]
    assert bag.topk(1, key=operator.itemgetter(1)).compute() == [(1, 10)]
    assert bag.topk(1, key=str).compute() == [(3, 8)]
    assert bag.topk(9).compute() == sorted(pairs, reverse=True)


def test_partitions_may_be_anything() -> None:
    """As in dask: what cannot be iterated, and text, is an item; arrays and frames stay whole."""
    bag = hstmap.range(6, npartitions=3)
    assert bag.map_partitions(len).compute() == [2, 2, 2]
    assert list(bag.map_partitions(lambda part: f"{list(part)}")) == ["[0, 1]", "[2, 3]", "[4, 5]"]
    arrays = bag.map_partitions(lambda part: np.array(part) * 2)
    assert arrays.compute() == [0, 2, 4, 6, 8, 10]
    assert arrays.reduction(np.max, max).compute() == 10
    assert arrays.count().compute() == 6
    nothing = bag.map_partitions(lambda part: np.array(part)[:0])
    assert nothing.count().compute() == 0
    with pytest.raises(ValueError, match="empty"):
        nothing.max().compute()


class Sparse:
    """A partition without a length, as sparse matrices are."""

    def __init__(self, nnz: int) -> None:
        self.nnz = nnz
        self.shape = (3, 3)


def test_empty_partitions_without_a_length_are_left_out() -> None:
    bag = hstmap.from_sequence([0, 4, 0, 5], npartitions=4)
    sparse = bag.map_partitions(lambda part: Sparse(part[0]))
    assert sparse.reduction(lambda part: part.nnz, list).compute() == [4, 5]


def test_items_that_are_iterators_become_lists() -> None:
    bag = hstmap.from_sequence([[1, 2], [3, 4]], npartitions=2)
    assert bag.map(reversed).compute() == [[2, 1], [4, 3]]
    assert bag.map(reversed).map(list).compute() == [[2, 1], [4, 3]]
    assert bag.map(lambda items: (x for x in items)).persist().flatten().compute() == [1, 2, 3, 4]


def test_fold_starts_each_partition_from_its_own_copy() -> None:
    start: list[int] = []

    def gather(total: list[int], item: int) -> list[int]:
        total.append(item)
        return total

    bag = hstmap.range(6, npartitions=3)
    assert bag.fold(gather, operator.add, initial=start).compute() == [0, 1, 2, 3, 4, 5]
    assert start == []
    by_parity = bag.foldby(lambda x: x % 2, gather, start, operator.add)
    assert dict(by_parity) == {0: [0, 2, 4], 1: [1, 3, 5]}
    assert start == []


def test_a_function_that_ends_iteration_does_not_drop_items() -> None:
    def stop(x: int) -> int:
        if x == 1:
            raise StopIteration
        return x

    with pytest.raises(RuntimeError, match="StopIteration for item 1 of partition 0"):
        hstmap.range(4, npartitions=2).map(stop).compute()


def test_string_methods_work_on_each_item() -> None:
    names = hstmap.from_sequence(["ib1f23abq_flt.fits", "ib1f23abq_drz.fits"])
    assert names.str.upper().compute() == ["IB1F23ABQ_FLT.FITS", "IB1F23ABQ_DRZ.FITS"]
    assert names.str.split("_").compute()[0] == ["ib1f23abq", "flt.fits"]
    assert names.str.match("*_flt.fits").compute() == ["ib1f23abq_flt.fits"]
    assert {"split", "match"} <= set(dir(names.str))
    with pytest.raises(AttributeError, match="no_such_method"):
        names.str.no_such_method()


def test_partition_size_bounds_the_memory_of_partitions() -> None:
    bag = hstmap.from_sequence([b"x" * 1000] * 40, npartitions=2)
    smaller = bag.repartition(partition_size="6kB")
    assert smaller.npartitions >= 7
    assert smaller.compute() == [b"x" * 1000] * 40
    assert bag.repartition(partition_size="1GB").npartitions == 1


def test_delayed_values_of_dask_are_arguments() -> None:
    dask = pytest.importorskip("dask", reason="dask is not installed")
    ten = dask.delayed(operator.mul)(2, 5)
    bag = hstmap.range(3, npartitions=2)
    assert bag.map(operator.add, ten).compute() == [10, 11, 12]
    assert bag.join(dask.delayed([0, 2]), abs).compute() == [(0, 0), (2, 2)]


# -- names, copies and subclasses ------------------------------------------------------------------


def test_the_name_is_that_of_what_was_built() -> None:
    bag = hstmap.range(4, npartitions=2)
    assert bag.map(abs).name == hstmap.range(4, npartitions=2).map(abs).name
    assert bag.map(abs).name.startswith("map-abs-")
    others = [
        bag,
        bag.map(abs),
        bag.map(operator.neg),
        bag.map(operator.add, 1),
        bag.map(operator.add, 1.5),
        bag.filter(abs),
        bag.remove(abs),
        bag.map(lambda x: x + 1),
        bag.map(lambda x: x + 2),
        bag.sum(),
        bag.sum(split_every=2).apply(abs),
        hstmap.range(4, npartitions=4),
        hstmap.from_sequence([0, 1, 2, 3], npartitions=2),
        hstmap.from_sequence([0, 1, 2, 4], npartitions=2),
    ]
    assert len({other.name for other in others}) == len(others)
    assert bag.sum().key == bag.sum().name


def test_data_of_any_kind_have_a_name() -> None:
    arrays = hstmap.from_sequence([np.arange(3), np.arange(4)], npartitions=1)
    assert arrays.name == hstmap.from_sequence([np.arange(3), np.arange(4)], npartitions=1).name
    locked = hstmap.from_sequence([threading.Lock()], npartitions=1)
    assert locked.name == locked.name
    assert locked.name != hstmap.from_sequence([threading.Lock()], npartitions=1).name
    kept = arrays.map(len).persist()
    assert kept.name != arrays.name
    joined = arrays.join(other=[1, 2, 3], on_self=len)
    assert joined.name == arrays.join(other=[1, 2, 3], on_self=len).name
    assert joined.name != arrays.join(other=[1, 2, 4], on_self=len).name
    assert (
        hstmap.range(2, 1)
        .map(operator.methodcaller("bit_length"))
        .name.startswith("map-bit_length-")
    )


def test_what_cannot_be_pickled_has_a_name_all_the_same() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    stuck = numbers()
    bag = hstmap.range(2, npartitions=1).map(lambda _: next(stuck))
    assert bag.name == bag.name
    assert bag.name.startswith("map-lambda-")


def test_showing_a_bag_is_cheap() -> None:
    class Unshowable:
        def __repr__(self) -> str:
            raise AssertionError("a repr must not look at the items")

    bag = hstmap.from_sequence([Unshowable()] * 3).map(abs)
    assert repr(bag) == "hstmap.Bag<map-abs, npartitions=3>"
    assert str(bag.sum()) == "hstmap.Item<sum-aggregate, npartitions=1>"
    assert "<td>map-abs</td>" in bag._repr_html_()
    assert "from_sequence → map-abs" in bag._repr_html_()


def test_bags_and_items_can_be_pickled() -> None:
    bag = hstmap.range(4, npartitions=2).map(abs)
    assert pickle.loads(pickle.dumps(bag)).compute() == [0, 1, 2, 3]
    assert pickle.loads(pickle.dumps(bag.sum())).compute() == 6
    squares = bag.map(lambda x: x * x)
    assert cloudpickle.loads(cloudpickle.dumps(squares)).compute() == [0, 1, 4, 9]


class Words(hstmap.Bag):
    """A bag of words."""

    def longer_than(self, n: int) -> Words:
        return self.filter(lambda word: len(word) > n)


def test_methods_of_a_subclass_give_the_subclass() -> None:
    words = Words(*hstmap.from_sequence(["a", "bcd", "ef"])._args)
    assert isinstance(words.longer_than(1), Words)
    assert isinstance(words.distinct(), Words)
    assert isinstance(words.persist(), Words)
    assert words.longer_than(1).map(str.upper).longer_than(2).compute() == ["BCD"]
    mixed = hstmap.map(operator.add, words, hstmap.from_sequence(["a", "bcd", "ef"]))
    assert type(mixed) is hstmap.Bag


# -- tables ----------------------------------------------------------------------------------------


def test_a_bag_becomes_a_pandas_dataframe() -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    rows = [{"filter": "F160W", "n": 3}, {"filter": "F125W", "n": 5}, {"filter": "F105W", "n": 8}]
    frame = hstmap.from_sequence(rows, npartitions=2).to_dataframe()
    pd.testing.assert_frame_equal(frame.compute(), pd.DataFrame(rows))
    assert list(frame.compute().index) == [0, 1, 2]
    assert frame.persist().compute().equals(frame.compute())
    pairs = hstmap.from_sequence([(1, 2.5), (3, 4.5)])
    named = pairs.to_dataframe(columns=["a", "b"]).compute()
    assert list(named.columns) == ["a", "b"]
    typed = pairs.to_dataframe(meta=[("a", "i2"), ("b", "f4")]).compute()
    assert [str(kind) for kind in typed.dtypes] == ["int16", "float32"]
    empty = hstmap.from_sequence([]).to_dataframe(meta={"a": "int16"}).compute()
    assert (len(empty), str(empty["a"].dtype)) == (0, "int16")
    assert repr(frame) == "hstmap.LazyFrame<from_sequence, npartitions=2>"
    mapped = pairs.map(tuple).to_dataframe(columns=["a", "b"])
    assert mapped.persist().compute().equals(named)
    assert pickle.loads(pickle.dumps(mapped)).compute().equals(named)
    with_frame = pairs.to_dataframe(meta=pd.DataFrame({"a": [0.5], "b": [0.5]})).compute()
    assert [str(kind) for kind in with_frame.dtypes] == ["float64", "float64"]


# -- engines ---------------------------------------------------------------------------------------


def test_an_engine_is_chosen_for_a_block_or_a_computation() -> None:
    bag = hstmap.range(4, npartitions=2)
    with CountingEngine() as outer, CountingEngine() as inner:
        with hstmap.use_engine(outer):
            bag.compute()
            with hstmap.use_engine(inner) as used:
                assert used is inner
                bag.map(abs).compute()
            bag.map(abs).compute()
        bag.map(abs).compute()
        bag.map(abs).compute(inner)
    assert (len(outer.stages), len(inner.stages)) == (1, 2)


def test_an_engine_that_is_there_keeps_its_options() -> None:
    bag = hstmap.range(4, npartitions=2).map(abs)
    with CountingEngine() as engine:
        with pytest.raises(UsageError, match="belong to the engine"):
            bag.compute(engine, retries=3)
        with hstmap.use_engine(engine), pytest.raises(UsageError, match="belong to the engine"):
            bag.compute(timeout_s=3)
        with (
            pytest.raises(UsageError, match="exists already"),
            hstmap.use_engine(engine, hstmap.EngineOptions(retries=1)),
        ):
            pass
    assert bag.compute("inprocess", retries=0) == [0, 1, 2, 3]


def test_lithops_is_used_as_its_configuration_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lithops_config.yaml").write_text(
        "hstmap: {retries: 7, n_workers: 1, timeout_s: 90}\n"
        "lithops: {backend: localhost, storage: localhost}\n"
    )
    monkeypatch.chdir(tmp_path)
    with hstmap.use_engine("lithops") as engine:  # no worker starts before the first stage
        assert (engine.options.retries, engine.options.n_workers) == (7, 1)
        assert engine.options.timeout_s == 90
    with hstmap.use_engine("lithops", hstmap.EngineOptions(retries=1)) as engine:
        assert engine.options.retries == 1
    with hstmap.use_engine("inprocess") as engine:
        assert engine.options == hstmap.EngineOptions()


def test_large_results_go_into_the_bucket_that_lithops_uses() -> None:
    config = {
        "lithops": {"backend": "aws_lambda", "storage": "aws_s3"},
        "aws": {"region": "us-east-1"},
        "aws_s3": {"storage_bucket": "our-bucket"},
    }
    with InProcessEngine(hstmap.EngineOptions(lithops_config=config)) as engine:
        with open_session(ComputeOptions(engine)) as session:
            spill = session.new_spill()
            assert str(spill.url).startswith("s3://our-bucket/hstmap-spill/bag-")
            assert spill.options == StorageOptions(region="us-east-1")
            assert session.new_spill().url != spill.url
        with open_session(ComputeOptions(engine, spill_url="/data")) as session:
            assert str(session.new_spill().url).startswith("/data/bag-")
    with InProcessEngine() as engine, open_session(ComputeOptions(engine)) as session:
        assert session.new_spill().url is None


def test_observers_see_the_tasks() -> None:
    seen: list[Event] = []
    with hstmap.use_engine("inprocess", observers=[seen.append]):
        hstmap.range(4, npartitions=2).sum().compute()
    ended = [event.attempt for event in seen if isinstance(event, AttemptEnded)]
    assert [attempt.task_key for attempt in ended] == [
        "0.0 sum-part[0]",
        "0.0 sum-part[1]",
        "1.0 sum-aggregate[0]",
    ]
    assert ended[0].stage == "0: range-4 → sum-part"


def test_names_of_stages_are_short_however_many_steps_there_are(engine: CountingEngine) -> None:
    bag = hstmap.range(4, npartitions=2)
    for _ in range(30):
        bag = bag.map(abs)
    bag.compute()
    (stage,) = engine.stages
    assert len(stage.name) <= 80
    assert stage.name.startswith("0: range-4 → map-abs")


def test_retries_are_those_that_were_asked_for() -> None:
    attempts: list[int] = []

    def fail(x: int) -> int:
        attempts.append(x)
        raise OSError("the network is down")

    bag = hstmap.range(1, npartitions=1).map(fail)
    with pytest.raises(OSError, match="network is down"):
        bag.compute(retries=1)
    assert attempts == [0, 0]
