"""Summaries of several files: the same rows as in one, whole or refused, whatever happens."""

from __future__ import annotations

import dataclasses
import itertools
import json
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hstmap import summary as summary_module
from hstmap.bag.engine import Attempt, EngineOptions, InProcessEngine, RemoteError, make_engine
from hstmap.errors import (
    ConservationError,
    EngineError,
    StoppedError,
    StorageError,
    UsageError,
)
from hstmap.merge import Slice, merge, staged_key
from hstmap.parts import PlacedImage
from hstmap.reduce_plan import plan_reduce, slices_of_files
from hstmap.report.selection import sources_of_summary
from hstmap.storage import open_store
from hstmap.summary import reduce_run, run_reduce
from hstmap.summary_files import (
    INCOMPLETE_FILE,
    MOST_ROWS_OF_ONE_FILE,
    ROWS_A_FILE,
    files_of_sources,
    n_files_of,
    open_images,
)
from support.parts import part_of, sources_of, write_mapped
from support.turnstile import Turnstile

COUNTS = {"a": 3, "b": 0, "c": 5, "d": 4, "e": 1, "f": 6, "g": 2}
N_SOURCES = sum(COUNTS.values())
PARTS = [{name: COUNTS[name] for name in names} for names in ("ab", "cde", "fg")]


@pytest.fixture
def out(tmp_path):
    """A run of three parts, not reduced."""
    write_mapped(tmp_path / "out", PARTS, list(COUNTS))
    return tmp_path / "out"


def names_in(out, folder="sources") -> list[str]:
    return sorted(path.name for path in (out / folder).glob("*"))


def assert_whole(out, n_files):
    """All rows are there in the order of the images, and nothing else is."""
    assert not (out / "reduce").exists()
    assert (out / "sources.parquet").exists() == (n_files == 1)
    assert (out / "sources").exists() == (n_files > 1)
    assert len(names_in(out)) == (n_files if n_files > 1 else 0)
    frame = pd.read_parquet(out / ("sources" if n_files > 1 else "sources.parquet"))
    assert list(frame["rootname"]) == [name for name, n in COUNTS.items() for _ in range(n)]
    assert pd.read_parquet(out / "images.parquet")["n_sources"].sum() == len(frame)
    values = sources_of_summary(open_store(str(out)), ["rootname", "number", "snr"])
    for name in values:
        np.testing.assert_array_equal(values[name], frame[name].to_numpy())


# -- the plan --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_sources", "rows_a_file", "n_files"),
    [
        (0, None, 1), (MOST_ROWS_OF_ONE_FILE, None, 1),
        (MOST_ROWS_OF_ONE_FILE + 1, None, MOST_ROWS_OF_ONE_FILE // ROWS_A_FILE + 1),
        (128_000_000, None, 128), (0, 5, 1), (5, 5, 1), (6, 5, 2), (10, 5, 2), (11, 5, 3),
        (128_000_000, 1_000_000_000, 1),
    ],
)  # fmt: skip
def test_so_many_files_are_filled(n_sources, rows_a_file, n_files):
    assert n_files_of(n_sources, rows_a_file) == n_files


images = st.lists(
    st.tuples(st.sampled_from("pqr"), st.integers(0, 9), st.integers(0, 6)), max_size=30
).map(lambda items: [PlacedImage({}, part, at, at + n) for part, at, n in items])


@given(images=images, n_files=st.integers(1, 12))
def test_files_have_all_rows_once_in_order_and_no_more_than_their_share(images, n_files):
    files = slices_of_files(images, n_files)
    rows = [(x.part, row) for file in files for x in file for row in range(x.start, x.stop)]
    assert rows == [(x.part, row) for x in images for row in range(x.start, x.stop)]
    assert 1 <= len(files) <= n_files
    assert all(files) or files == [()]
    largest = max((x.stop - x.start for x in images), default=0)
    for file in files:
        assert sum(x.n_sources for x in file) < len(rows) / n_files + max(largest, 1)
        assert all((one.part, one.stop) != (two.part, two.start) for one, two in pairwise(file))


def test_images_that_lie_together_are_one_slice():
    rows = [("p", 0, 2), ("p", 2, 5), ("q", 0, 1), ("p", 5, 6), ("p", 8, 9)]
    images = [PlacedImage({}, *each) for each in rows]
    assert slices_of_files(images, 1) == [
        (Slice("p", 0, 5), Slice("q", 0, 1), Slice("p", 5, 6), Slice("p", 8, 9))
    ]


def test_a_file_is_named_by_what_goes_into_it():
    one, two = (Slice("p", 0, 5), Slice("q", 0, 1)), (Slice("p", 0, 5), Slice("q", 0, 2))
    inputs = [(one, {"a": "1"}), (two, {"a": "1"}), (one, {"a": "2"}), (one[::-1], {"a": "1"})]
    names = {staged_key(*each) for each in inputs}
    assert len(names) == 4
    assert staged_key(one, {"a": "1"}) in names


def test_the_plan_says_what_is_left_to_do_and_writes_nothing(out):
    before = sorted(out.rglob("*"))
    plan = plan_reduce(str(out), rows_a_file=6)
    assert sorted(out.rglob("*")) == before
    assert plan.is_folder
    assert plan.n_sources == N_SOURCES
    assert plan.todo == plan.files
    merge(plan.files[1])  # as if a reduce had been stopped
    again = plan_reduce(str(out), rows_a_file=6)
    assert again.files == plan.files
    assert again.todo == (plan.files[0], *plan.files[2:])
    assert not plan_reduce(str(out)).is_folder


# -- rows ------------------------------------------------------------------------------------------

runs = st.lists(st.integers(0, 5), min_size=1, max_size=9).flatmap(
    lambda counts: st.tuples(
        st.just({f"i{number}": n for number, n in enumerate(counts)}),
        st.lists(st.integers(0, 3), min_size=len(counts), max_size=len(counts)),
        st.permutations([f"i{number}" for number in range(len(counts))]),
        st.integers(1, 12),
        st.lists(st.integers(0, len(counts) - 1), max_size=2),
    )
)


@settings(max_examples=25, deadline=None)
@given(run=runs)
def test_several_files_have_the_rows_of_one_whatever_the_parts(run):
    """Images of any numbers of sources, dealt out to parts at random, some to two; any order."""
    counts, places, manifest, rows_a_file, doubled = run
    parts = [
        {name: n for (name, n), at in zip(counts.items(), places, strict=True) if at == number}
        for number in range(4)
    ]
    parts.append({f"i{number}": counts[f"i{number}"] for number in sorted(set(doubled))})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        write_mapped(out, [part for part in parts if part], manifest)
        one = reduce_run(str(out))
        single = pq.read_table(out / "sources.parquet")
        expected = [(name, k) for name in manifest for k in range(1, counts[name] + 1)]
        rows = zip(single["rootname"].to_pylist(), single["number"].to_pylist(), strict=True)
        assert list(rows) == expected
        several = reduce_run(str(out), rows_a_file=rows_a_file)
        assert several.n_sources == one.n_sources == len(expected)
        if several.n_files == 1:
            assert (out / "sources.parquet").exists()
            return
        table = ds.dataset(out / "sources").to_table()
        assert table.schema.equals(single.schema, check_metadata=True)
        assert pd.DataFrame(table.to_pandas()).equals(single.to_pandas())
        index = json.loads(pq.read_metadata(out / "images.parquet").metadata[b"hstmap.sources"])
        footers = [pq.read_metadata(out / file["key"]).num_rows for file in index]
        assert [file["n_sources"] for file in index] == footers
        assert [Path(file["key"]).name for file in index] == names_in(out)


def test_values_are_those_of_the_parts(out):
    reduce_run(str(out), rows_a_file=4)
    frame = pd.read_parquet(out / "sources").set_index("rootname")
    for name, n in COUNTS.items():
        expected = sources_of(name, n)
        if n:
            np.testing.assert_array_equal(frame.loc[[name], "flux_auto"], expected["flux_auto"])
            np.testing.assert_array_equal(frame.loc[[name], "ra"], expected["ra"])
    assert (frame["_healpix_29"] == -1).sum() == sum(n > 1 for n in COUNTS.values())


def test_every_file_says_what_its_columns_are(out):
    reduce_run(str(out), rows_a_file=6)
    attributes = pd.read_parquet(out / "sources").attrs
    assert attributes["units"]["flux_auto"] == "1 / s"
    for name in names_in(out):
        metadata = pq.read_metadata(out / "sources" / name).metadata
        assert {b"IVOA.VOTable-Parquet.content", b"table_meta_yaml"} <= metadata.keys()
        assert pd.read_parquet(out / "sources" / name).attrs == attributes


def test_a_run_without_sources_has_one_file_without_rows(tmp_path):
    write_mapped(tmp_path / "out", [{"a": 0, "b": 0}], ["b", "a"])
    result = reduce_run(str(tmp_path / "out"), rows_a_file=1)
    assert (result.n_sources, result.n_files, result.outcomes) == (0, 1, {"empty": 2})
    assert pq.read_table(tmp_path / "out" / "sources.parquet").num_rows == 0


def test_engines_write_the_same_bytes(out):
    plan = plan_reduce(str(out), rows_a_file=5)
    with InProcessEngine() as engine:
        run_reduce(plan, engine)
    here = {name: (out / "sources" / name).read_bytes() for name in names_in(out)}
    (out / "images.parquet").unlink()  # so that nothing is known to be there
    with make_engine("lithops", EngineOptions(n_workers=2)) as engine:
        result = run_reduce(plan_reduce(str(out), rows_a_file=5), engine)
    assert result.n_files == len(here) > 2
    assert {name: (out / "sources" / name).read_bytes() for name in names_in(out)} == here
    assert_whole(out, len(here))


# -- again -----------------------------------------------------------------------------------------


def test_a_second_reduce_leaves_nothing_of_the_first(out):
    for rows_a_file in (4, 9, None, 6, 2, 1000):
        result = reduce_run(str(out), rows_a_file=rows_a_file)
        assert_whole(out, result.n_files)
        assert result.sources_url == f"{out}/sources{'' if result.n_files > 1 else '.parquet'}"


def test_files_that_are_there_are_not_written_again(out):
    reduce_run(str(out), rows_a_file=6)
    before = {path: path.stat().st_mtime_ns for path in (out / "sources").iterdir()}
    plan = plan_reduce(str(out), rows_a_file=6)
    assert plan.todo == ()
    assert len(plan.kept) == len(before)
    path = out / "sources" / "000002.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    assert [file.key for file in plan_reduce(str(out), rows_a_file=6).todo] == [plan.files[1].key]
    reduce_run(str(out), rows_a_file=6)
    after = {path: path.stat().st_mtime_ns for path in (out / "sources").iterdir()}
    assert [name.name for name in before if before[name] != after[name]] == ["000002.parquet"]
    assert_whole(out, len(before))


def test_an_image_that_was_bettered_is_taken_from_its_new_part(out):
    (out / "parts" / "0001.parquet").write_bytes(part_of({"c": 0, "d": 0, "e": 0}, "failed"))
    assert reduce_run(str(out), rows_a_file=6).outcomes == {"ok": 3, "empty": 1, "failed": 3}
    (out / "parts" / "0009.parquet").write_bytes(part_of({n: COUNTS[n] for n in "dec"}))
    result = reduce_run(str(out), rows_a_file=6)
    assert result.outcomes == {"ok": 6, "empty": 1}
    assert_whole(out, result.n_files)


def test_a_twin_that_comes_late_changes_nothing_that_is_read(out):
    plan = plan_reduce(str(out), rows_a_file=4)
    reduce_run(str(out), rows_a_file=4)
    reduce_run(str(out), rows_a_file=9)
    merge(plan.files[-1])  # of the first reduce
    frame = pd.read_parquet(out / "sources")
    assert list(frame["rootname"]) == [name for name, n in COUNTS.items() for _ in range(n)]
    assert_whole_after_next = reduce_run(str(out), rows_a_file=9)
    assert_whole(out, assert_whole_after_next.n_files)


# -- what may happen -------------------------------------------------------------------------------


class FaultyEngine(InProcessEngine):
    """Loses the workers of some tasks, again and again or only at first."""

    def __init__(self, doomed, *, for_good, error=None):
        super().__init__()
        self.doomed, self.for_good = doomed, for_good
        self.error = error or RemoteError("WorkerLost", "killed by SIGKILL")

    def run(self, stage):
        for number, task in enumerate(stage.tasks):
            if number in self.doomed:
                for attempt in (1, 2):
                    final = self.for_good and attempt == 2
                    yield Attempt(stage.name, task.key, attempt, "lost", final, error=self.error)
        alive = [
            task
            for number, task in enumerate(stage.tasks)
            if not (self.for_good and number in self.doomed)
        ]
        yield from super().run(dataclasses.replace(stage, tasks=alive))


def test_a_task_that_fails_twice_is_done_at_last(out):
    plan = plan_reduce(str(out), rows_a_file=6)
    with FaultyEngine({0, 2}, for_good=False) as engine:
        run_reduce(plan, engine)
    assert_whole(out, len(plan.files))


@pytest.mark.parametrize("before", [None, 9])
def test_a_task_that_fails_for_good_leaves_the_old_summary_and_what_is_written(out, before):
    reduce_run(str(out), rows_a_file=before)
    old = {path: path.read_bytes() for path in out.glob("[is]*/*.parquet")}
    plan = plan_reduce(str(out), rows_a_file=5)
    with (
        FaultyEngine({1}, for_good=True) as engine,
        pytest.raises(EngineError, match=r"1 of \d files.*2 attempts: WorkerLost.*reduce.*again"),
    ):
        run_reduce(plan, engine)
    assert {path: path.read_bytes() for path in out.glob("[is]*/*.parquet")} == old
    assert len(sources_of_summary(open_store(str(out)), ["ra"])["ra"]) == N_SOURCES
    again = plan_reduce(str(out), rows_a_file=5)
    assert again.todo == (plan.todo[1],)
    reduce_run(str(out), rows_a_file=5)
    assert_whole(out, len(plan.files))


def test_a_part_that_lacks_rows_is_named_by_the_client_though_a_task_saw_it(out):
    rows = part_of({"c": 5, "d": 4, "e": 1})
    table = pq.read_table(out / "parts" / "0001.parquet")
    images = pq.read_metadata(out / "parts" / "0001.parquet").metadata[b"hstmap.images"]
    short = table.slice(0, 9).replace_schema_metadata({b"hstmap.images": images})
    pq.write_table(short, out / "parts" / "0001.parquet")
    with pytest.raises(ConservationError, match=r"0001\.parquet says that it holds 10 .* holds 9"):
        reduce_run(str(out), rows_a_file=6)
    assert not (out / "images.parquet").exists()
    (out / "parts" / "0001.parquet").write_bytes(rows)
    assert_whole(out, reduce_run(str(out), rows_a_file=6).n_files)


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda content, other: content[:-30], StorageError),
        (lambda content, other: other, ConservationError),
    ],
)
def test_a_waiting_file_that_is_not_whole_is_found_before_it_is_moved(out, damage, error):
    plan = plan_reduce(str(out), rows_a_file=5)
    for file in plan.files:
        merge(file)
    path = out / plan.files[1].key
    path.write_bytes(damage(path.read_bytes(), (out / plan.files[0].key).read_bytes()))
    with pytest.raises(error, match="reduce/"):
        reduce_run(str(out), rows_a_file=5)
    assert not (out / "sources").exists()


@pytest.mark.parametrize("n_moved", [0, 1, 2])
@pytest.mark.parametrize("before", [None, 9])
def test_a_client_that_is_killed_on_the_way_leaves_no_summary_that_seems_whole(
    out, before, n_moved, monkeypatch
):
    reduce_run(str(out), rows_a_file=before)
    allowed = itertools.count()  # files move in threads: each takes its number before it moves

    def move(store, key, new_key):
        if next(allowed) >= n_moved:
            raise KeyboardInterrupt
        with pytest.raises((OSError, ValueError), match="000000_incomplete_reduce_again"):
            pd.read_parquet(out / "sources")
        real(store, key, new_key)

    real = summary_module.move
    with monkeypatch.context() as patch:
        patch.setattr(summary_module, "move", move)
        with pytest.raises(KeyboardInterrupt):
            reduce_run(str(out), rows_a_file=5)
    store = open_store(str(out))
    with pytest.raises(UsageError, match="no summary yet: run `hstmap reduce"):
        sources_of_summary(store, ["ra"])
    # Nor one that programs take for whole that know nothing of the table of images.
    with pytest.raises((OSError, ValueError), match="000000_incomplete_reduce_again"):
        pd.read_parquet(out / "sources")
    assert_whole(out, reduce_run(str(out), rows_a_file=5).n_files)


def test_a_single_file_leaves_nothing_of_a_folder_that_was_not_complete(out, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(summary_module, "move", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            reduce_run(str(out), rows_a_file=5)
    assert [path.name for path in (out / "sources").iterdir()] == [Path(INCOMPLETE_FILE).name]
    assert reduce_run(str(out)).n_files == 1
    assert not (out / "sources").exists()
    assert len(pd.read_parquet(out / "sources.parquet")) == N_SOURCES


@pytest.mark.parametrize("n_calls", [0, 1, 2])
def test_a_gate_that_closes_leaves_files_for_the_next_reduce(out, n_calls):
    plan = plan_reduce(str(out), rows_a_file=5)
    n_files = len(plan.files)
    left = rf"{n_files - n_calls} of {n_files} files.*no more calls"
    with (
        InProcessEngine(gate=Turnstile(n_calls)) as engine,
        pytest.raises(StoppedError, match=left),
    ):
        run_reduce(plan, engine)
    assert not (out / "images.parquet").exists()
    again = plan_reduce(str(out), rows_a_file=5)
    assert len(again.todo) == n_files - n_calls
    with InProcessEngine(gate=Turnstile(n_files - n_calls)) as engine:
        run_reduce(again, engine)
    assert_whole(out, n_files)


# -- readers ---------------------------------------------------------------------------------------


def test_readers_refuse_files_that_are_not_of_the_same_reduce(out):
    reduce_run(str(out), rows_a_file=6)
    store, path = open_store(str(out)), out / "sources" / "000002.parquet"
    content = path.read_bytes()
    path.write_bytes((out / "sources" / "000001.parquet").read_bytes())
    with pytest.raises(UsageError, match=r"000002\.parquet has .*two runs of `hstmap reduce`"):
        sources_of_summary(store, ["ra"])
    path.unlink()
    with pytest.raises(UsageError, match=r"000002\.parquet, of which .* is not there"):
        sources_of_summary(store, ["ra"])
    path.write_bytes(content)
    assert len(sources_of_summary(store, ["ra"])["ra"]) == N_SOURCES
    table = pq.read_table(out / "images.parquet").replace_schema_metadata({})
    pq.write_table(table, out / "images.parquet")
    with open_images(store) as images, pytest.raises(UsageError, match="does not say which files"):
        files_of_sources(store, images)
