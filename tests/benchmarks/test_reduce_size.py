"""The reduce over many parts: order, memory, encodings; and the benchmark that measures it."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import reduce as benchmark
from benchmarks.reduce import Size, judge, write_run
from hstmap import merge
from hstmap.archive.manifest import Manifest
from hstmap.run_record import MANIFEST_KEY
from hstmap.summary import reduce_run
from hstmap.wfc3.schema import SOURCE_COLUMNS, source_columns_of_image

SIZE = Size(n_parts=40, images_a_part=3, sources_an_image=4)


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """Give a run of more parts than the reduce keeps in memory."""
    out = tmp_path_factory.mktemp("reduce") / "out"
    write_run(SIZE, out)
    return out


def test_the_reduce_is_judged_value_by_value(mapped):
    reduce_run(str(mapped))
    judge(mapped, SIZE)
    with pytest.raises(RuntimeError, match=r"480 rows of 960 sources"):
        judge(mapped, Size(40, 3, 8))
    table = pq.read_table(mapped / "sources.parquet")
    i = table.column_names.index("flux_auto")
    values = table["flux_auto"].to_numpy().copy()
    values[100] += 1
    wrong = table.set_column(i, table.schema.field(i), pa.array(values))
    pq.write_table(wrong, mapped / "sources.parquet")
    with pytest.raises(RuntimeError, match=r"000008\.parquet and the summary differ"):
        judge(mapped, SIZE)


def test_several_files_are_judged_as_one(mapped):
    assert reduce_run(str(mapped), rows_a_file=70).n_files == 7
    judge(mapped, SIZE)
    path = mapped / "sources" / "000003.parquet"
    table = pq.read_table(path)
    i = table.column_names.index("dq")
    wrong = table.set_column(i, table.schema.field(i), pa.array(table["dq"].to_numpy() + 1))
    pq.write_table(wrong, path)
    with pytest.raises(RuntimeError, match="and the summary differ"):
        judge(mapped, SIZE)
    reduce_run(str(mapped))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_manifest_in_any_order_gives_its_own_order(mapped, seed):
    """Parts are wanted again long after they were put away."""
    manifest = Manifest.read(f"{mapped}/{MANIFEST_KEY}")
    rows = manifest.table.to_pylist()
    random.Random(seed).shuffle(rows)
    Manifest.from_rows(rows).write(f"{mapped}/{MANIFEST_KEY}")
    try:
        result = reduce_run(str(mapped))
    finally:
        manifest.write(f"{mapped}/{MANIFEST_KEY}")
    assert result.n_sources == SIZE.n_sources
    sources = pq.read_table(mapped / "sources.parquet")
    expected = [row["rootname"] for row in rows for _ in range(SIZE.sources_an_image)]
    assert sources["rootname"].to_pylist() == expected
    assert sources["number"].to_pylist() == [1, 2, 3, 4] * SIZE.n_images
    of_parts = pa.concat_tables(pq.read_table(path) for path in sorted(mapped.glob("parts/*")))
    keys = [("rootname", "ascending"), ("number", "ascending")]
    names = [column.name for column in SOURCE_COLUMNS]
    merged = sources.select(names).cast(of_parts.schema).sort_by(keys)
    assert merged.equals(of_parts.select(names).sort_by(keys))


def test_only_so_many_parts_are_held(mapped, monkeypatch):
    held = []
    real = merge._Parts.begin

    def begin(self, part):
        real(self, part)
        held.append(len(self._tables))

    monkeypatch.setattr(merge._Parts, "begin", begin)
    reduce_run(str(mapped))
    assert max(held) <= merge._N_AHEAD + 1 < SIZE.n_parts


def test_measured_values_are_kept_without_a_dictionary(mapped):
    reduce_run(str(mapped))
    repeated = {column.name for column in source_columns_of_image()}
    assert {"rootname", "filter"} <= repeated
    for path in (mapped / "sources.parquet", next(mapped.glob("parts/*"))):
        group = pq.read_metadata(path).row_group(0)
        for i in range(group.num_columns):
            column = group.column(i)
            has_dictionary = any("DICTIONARY" in name for name in column.encodings)
            assert has_dictionary == (column.path_in_schema in repeated), column.path_in_schema


def test_the_benchmark_prints_what_a_reduce_takes(capsys):
    parser = benchmark.argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    benchmark.add_arguments(parser)
    figures = benchmark.run(parser.parse_args(["--short"]))
    shown = capsys.readouterr().out
    assert shown.count("MB at most") == len(figures["runs"]) == 3
    assert "an image" in shown
    for row in figures["runs"]:
        assert row["reduce_s"] > 0
        assert row["cpu_s"] > 0
        assert row["peak_mb"] > 50
        assert row["n_sources"] % row["n_images"] == 0


def test_the_time_of_images_and_sources_is_told_apart():
    sizes = [(100, 1000), (400, 400), (400, 4000)]
    rows = [{"n_images": n, "n_sources": k, "cpu_s": 0.5 + 0.001 * n + 2e-6 * k} for n, k in sizes]
    assert benchmark._fit(rows) == pytest.approx((0.5, 0.001, 2e-6))
    assert str(Size(4, 10, 20)) == "4 parts of 10 images x 20 sources"
    assert np.prod([4, 10, 20]) == Size(4, 10, 20).n_sources
