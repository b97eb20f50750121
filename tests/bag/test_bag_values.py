"""How results travel: inline when they are small, else through a store that is left empty."""

from __future__ import annotations

import gc
import operator
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hstmap
from hstmap.bag import values as values_module
from hstmap.bag.engine import Engine, EngineOptions, InProcessEngine, make_engine
from hstmap.bag.failures import Place
from hstmap.bag.values import Direct, FetchAhead, Packed, Spill, Stored, fetch_all, load
from hstmap.errors import ForbiddenObjectError, MissingObjectError
from hstmap.storage import Store, open_store

HERE = Place("step", 0)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


# -- values ----------------------------------------------------------------------------------------


def test_without_a_store_results_stay_objects() -> None:
    thing = object()
    (value,) = Spill().pack([thing], 1, HERE)
    assert value == Direct(thing)
    assert load(value) is thing


def test_results_of_other_processes_are_pickled_once() -> None:
    """What only passes the client is not unpickled there."""
    (value,) = Spill(is_pickled=True).pack([[1, 2]], 1, HERE)
    assert isinstance(value, Packed)
    assert load(value) == [1, 2]


def test_small_results_come_back_inline_and_large_ones_through_the_store(store: Path) -> None:
    spill = Spill(str(store), inline_nbytes=1000)
    small, large = spill.pack([b"x" * 100, b"y" * 1000], 2, HERE)
    assert isinstance(small, Packed)
    assert isinstance(large, Stored)
    assert len(files(store)) == 1
    assert list(fetch_all([small, large, small])) == [b"x" * 100, b"y" * 1000, b"x" * 100]


def test_the_pieces_of_a_task_are_one_object(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spill = Spill(str(store), inline_nbytes=0)
    pieces = [list(range(n)) for n in range(20)]
    values = spill.pack(pieces, len(pieces), HERE)
    assert len(files(store)) == 1
    assert list(fetch_all(values)) == pieces
    monkeypatch.setattr(values_module, "BLOCK_NBYTES", 100)
    values = spill.pack(iter(pieces), len(pieces), HERE)
    assert 3 <= len({value.key for value in values if isinstance(value, Stored)}) <= 12
    assert list(fetch_all(values)) == pieces


def test_a_second_attempt_does_not_write_over_the_first(store: Path) -> None:
    """A twin of a task that is not deterministic has its pieces elsewhere in its object."""
    spill = Spill(str(store), inline_nbytes=0)
    (first,) = spill.pack([[1, 2, 3]], 1, HERE)
    (second,) = spill.pack([["another"]], 1, HERE)
    assert load(first) == [1, 2, 3]
    assert load(second) == ["another"]


def test_removing_leaves_what_others_stored(store: Path) -> None:
    mine, theirs = Spill(str(store / "mine"), inline_nbytes=0), Spill(str(store / "theirs"))
    (gone,) = mine.pack([1], 1, HERE)
    (kept,) = Spill(theirs.url, inline_nbytes=0).pack([2], 1, HERE)
    mine.remove()
    mine.remove()
    assert load(kept) == 2
    with pytest.raises(MissingObjectError):
        load(gone)


@given(data=st.data(), n_values=st.integers(0, 30))
def test_values_are_fetched_ahead_in_any_order(
    data: st.DataObject, n_values: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = str(tmp_path_factory.getbasetemp() / "ahead")
    sizes = data.draw(st.lists(st.integers(0, 40), min_size=n_values, max_size=n_values))
    spill = Spill(store, inline_nbytes=20)
    values = {
        number: spill.pack([[number] * size], 1, HERE)[0] for number, size in enumerate(sizes)
    }
    order = data.draw(st.permutations(range(n_values)))
    with FetchAhead(values) as fetched:
        for number in order:
            assert fetched[number] == [number] * sizes[number]
        for number in order[:3]:
            assert fetched[number] == [number] * sizes[number]


def test_what_cannot_be_removed_is_a_warning(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Store, key: str) -> None:
        raise ForbiddenObjectError(key, "deleting is not allowed")

    monkeypatch.setattr(Store, "delete", refuse)
    bag = hstmap.range(4, npartitions=2).map(abs)
    stored = hstmap.use_engine(InProcessEngine(), spill_url=str(store), inline_nbytes=0)
    with stored, pytest.warns(UserWarning, match="could not be removed.*not allowed"):
        assert bag.compute() == [0, 1, 2, 3]


def test_no_folder_is_left_either(store: Path) -> None:
    with hstmap.use_engine(InProcessEngine(), spill_url=str(store), inline_nbytes=0):
        hstmap.range(4, npartitions=2).groupby(abs).compute()
    assert list(store.iterdir()) == []


# -- computations ----------------------------------------------------------------------------------


def everything(bag: hstmap.Bag) -> list[Any]:
    """Return results of steps that store in every way there is."""
    doubled = bag.map(operator.mul, 2)
    results: list[Any] = list(
        hstmap.compute(
            doubled.map(operator.sub, doubled.max()),
            doubled.repartition(5).accumulate(operator.add),
            doubled.repartition(2),
            doubled.product(bag).count(),
            hstmap.zip(doubled, bag).foldby(0, lambda total, pair: total + pair[1], 0, max, 0),
            doubled.topk(3),
        )
    )
    groups = doubled.groupby(lambda x: x % 7, max_branch=2).compute()
    return [*results, sorted(groups), list(doubled), doubled.std().compute()]


@pytest.mark.parametrize("inline_nbytes", [0, 100, 10**6])
def test_the_way_of_results_does_not_change_them(store: Path, inline_nbytes: int) -> None:
    bag = hstmap.from_sequence(range(40), npartitions=7)
    expected = everything(bag)
    with hstmap.use_engine(InProcessEngine(), spill_url=str(store), inline_nbytes=inline_nbytes):
        assert everything(bag) == expected
    assert files(store) == []


def test_a_computation_that_fails_leaves_nothing_behind(store: Path) -> None:
    bag = hstmap.range(8, npartitions=4).groupby(abs)
    with hstmap.use_engine(InProcessEngine(), spill_url=str(store), inline_nbytes=0):
        with pytest.raises(ZeroDivisionError):
            bag.map(lambda _: 1 // 0).compute()
        assert files(store) == []
        for _ in bag:
            assert files(store)
            break
        gc.collect()
        assert files(store) == []


def test_what_is_kept_in_a_store_goes_with_its_last_user(store: Path) -> None:
    with hstmap.use_engine(InProcessEngine(), spill_url=str(store), inline_nbytes=0):
        kept = hstmap.range(6, npartitions=3).map(abs).persist()
        total = kept.map(operator.neg).sum()
    assert files(store)
    del kept
    gc.collect()
    assert total.compute() == -15
    del total
    gc.collect()
    assert files(store) == []


def test_persisting_what_fails_leaves_nothing_behind(store: Path) -> None:
    broken = hstmap.range(6, npartitions=3).map(lambda x: x // (x - 5))
    with pytest.raises(ZeroDivisionError):
        broken.persist(spill_url=str(store))
    assert files(store) == []


def test_grouping_through_a_store_makes_a_bounded_number_of_requests(store: Path) -> None:
    """100 partitions in rounds of 10: each task writes one object and reads ten ranges."""
    seen: list[tuple[int, int]] = []

    class Watching(InProcessEngine):
        def run(self, stage: Any) -> Any:
            for task in stage.tasks:
                stored = [v for v in task.payload.values.values() if isinstance(v, Stored)]
                seen.append((len(stored), len({value.key for value in stored})))
            yield from super().run(stage)
            seen.append((-1, len(files(store))))

    bag = hstmap.range(10_000, npartitions=100).groupby(lambda x: x % 1000, max_branch=10)
    with hstmap.use_engine(Watching(), spill_url=str(store), inline_nbytes=0):
        assert len(bag.compute()) == 1000
    assert max(n_values for n_values, _ in seen) == 10
    assert [n_files for mark, n_files in seen if mark == -1] == [100, 200, 300]


@pytest.fixture(scope="module")
def processes() -> Iterator[Engine]:
    with make_engine("lithops", EngineOptions(n_workers=2, stragglers=None)) as engine:
        yield engine


def test_invocations_give_the_same_results(store: Path) -> None:
    """As on a serverless backend: nothing is left of one attempt when the next one starts."""
    options = EngineOptions(n_workers=2, stragglers=None, mode="events")
    bag = hstmap.range(12, npartitions=2).groupby(lambda x: x % 5).map(sorted_group)
    with hstmap.use_engine("lithops", options, spill_url=str(store), inline_nbytes=0):
        assert sorted(bag.compute()) == [(key, [*range(key, 12, 5)]) for key in range(5)]
    assert files(store) == []


def sorted_group(group: tuple[int, list[int]]) -> tuple[int, list[int]]:
    return group[0], sorted(group[1])


@pytest.mark.parametrize("is_stored", [False, True])
def test_processes_give_the_same_results(processes: Engine, store: Path, is_stored: bool) -> None:
    bag = hstmap.from_sequence(range(40), npartitions=7)
    expected = everything(bag)
    url = str(store) if is_stored else None
    with hstmap.use_engine(processes, spill_url=url, inline_nbytes=0):
        assert everything(bag) == expected
    assert not is_stored or files(store) == []


def test_results_go_through_s3_as_through_a_folder(s3_bucket: str) -> None:
    bag = hstmap.from_sequence(range(20), npartitions=4)
    expected = everything(bag)
    # Workers that start now have the environment in which S3 is reached.
    with make_engine("lithops", EngineOptions(n_workers=2, stragglers=None)) as engine:
        for each in (InProcessEngine(), engine):
            with hstmap.use_engine(each, spill_url=f"{s3_bucket}/tmp", inline_nbytes=0):
                assert everything(bag) == expected
    assert list(open_store(s3_bucket).list()) == []
