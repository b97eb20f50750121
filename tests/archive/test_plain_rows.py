"""Rows of Python's own values are what pyarrow makes of them, and pyarrow stays where it is."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.archive.manifest import Manifest
from hstmap.archive.manifest_rows import MANIFEST_COLUMNS, canonical_table, ordered, values_of
from hstmap.archive.plain_rows import plain_rows

VALUES = {
    "string": st.text(st.characters(exclude_categories=["Cs"])),
    "double": st.floats(),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "bool": st.booleans(),
}
NAMES = {kind: name for name, (kind, _) in reversed(MANIFEST_COLUMNS.items())}


def columns_of(values: list[Any], name: str) -> dict[str, list[Any]]:
    n = len(values)
    keys = [f"k{i}" for i in range(n)]
    return {name: values, "key": keys, "rootname": [f"r{i}" for i in range(n)]}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("known", [True, False], ids=["known", "its own"])
@given(data=st.data())
def test_rows_are_what_pyarrow_makes(kind: str, known: bool, data: st.DataObject) -> None:
    values = data.draw(st.lists(VALUES[kind] | st.none(), min_size=1, max_size=20))
    name = NAMES.get(kind, "mine") if known else "mine"
    if name in ("rootname", "key"):
        name = "target"
    columns = columns_of(values, name)
    rows = plain_rows(columns)
    expected = canonical_table(pa.table(columns))
    if rows is None:  # which it may be where spaces are to go, and nowhere else
        assert kind == "string"
        assert any(value != value.strip() for value in values if value is not None)
        return
    assert rows.column_names == expected.column_names
    assert pa.table(rows).schema == expected.schema
    assert repr(values_of(rows, name)) == repr(expected[name].to_pylist())


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("target", ["M 31 ", "M 33"]),
        ("target", ["M 31", 7]),
        ("ra", [1, 2.0]),
        ("ra", ["1.5", "2"]),
        ("nbytes", [2**63, 1]),
        ("nbytes", [True, 1]),
        ("nbytes", [1.0, 2.0]),
        ("target", ["\ud800", "b"]),
        ("mine", [1, 2.5]),
        ("mine", [b"a", b"b"]),
        ("mine", [["a"], None]),
        ("mine", np.array([1.0, 2.0])),
        ("mine", pa.array(["a", "b"])),
        ("mine", (value for value in "ab")),
    ],
)
def test_what_is_to_be_converted_is_pyarrows(name: str, values: Any) -> None:
    assert plain_rows({"rootname": ["a", "b"], "key": ["x", "y"], name: values}) is None


def test_spaces_are_a_keys_own() -> None:
    rows = plain_rows({"rootname": ["a"], "key": [" x "], "companion_key": ["y "]})
    assert rows is not None
    assert values_of(rows, "key") == [" x "]
    assert values_of(rows, "companion_key") == ["y "]


def test_columns_with_a_meaning_come_first() -> None:
    assert ordered(["mine", "key", "yours", "rootname"]) == ["rootname", "key", "mine", "yours"]


ROWS = [
    {
        "rootname": f"i{n}", "key": f"i{n}_flt.fits", "target": "" if n else "NGC 1", "dec": -0.0,
        "ra": math.nan if n == 2 else 0.5 * n, "nbytes": None if n == 1 else 100 + n,
        "bright": n > 1, "word": "hôtel",
    }
    for n in range(4)
]  # fmt: skip


@pytest.mark.parametrize("made_by", ["rows", "pyarrow", "numpy"])
def test_the_hash_does_not_depend_on_who_makes_the_rows(made_by: str) -> None:
    columns: dict[str, Any] = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    if made_by == "pyarrow":
        columns = {name: pa.array(values) for name, values in columns.items()}
    if made_by == "numpy":
        columns["ra"] = np.array(columns["ra"])
    manifest = Manifest.from_columns(columns)
    # What the first release wrote of these rows.
    assert manifest.content_hash == GOLDEN_HASH


GOLDEN_HASH = "41a9ccad35692cf256be0d52aa68cf0b378cabe9306af612aaf93f07d1447cc4"


def test_a_table_for_pyarrow_is_there_when_it_is_asked_for(tmp_path: Path) -> None:
    manifest = Manifest.from_rows(ROWS)
    table = manifest.table
    assert isinstance(table, pa.Table)
    assert table is manifest.table
    assert table["nbytes"].to_pylist() == manifest.values("nbytes") == [100, None, 102, 103]
    assert Manifest.from_table(table).content_hash == manifest.content_hash
    with pytest.raises(KeyError, match="colour"):
        manifest.values("colour")


def test_the_file_has_units_and_what_pyarrow_reads(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    manifest = Manifest.from_rows(ROWS, query="all of them")
    manifest.write(f"{tmp_path}/m.parquet")
    table = pq.read_table(tmp_path / "m.parquet")
    assert table.schema.field("ra").metadata == {b"unit": b"deg"}
    assert table.schema.field("target").metadata is None
    assert json.loads(table.schema.metadata[b"hstmap_manifest"])["query"] == "all of them"
    assert table.to_pylist() == manifest.table.to_pylist()


# -- what it is for --------------------------------------------------------------------------------

CLIENT = """
import json, sys
from hstmap.archive.manifest import Manifest
from hstmap.archive.sources import resolve_sources
from hstmap.batch import RunParameters
from hstmap.run_record import begin_run
from hstmap.pipeline import RunOptions, plan_run
from hstmap.storage import open_store
folder = sys.argv[1]
manifest = resolve_sources([folder]).head(2)
parameters = RunParameters()
plan = plan_run(manifest, f"{folder}/out", parameters, RunOptions())
assert plan.n_todo == 2 and plan.nbytes == 8
begin_run(open_store(plan.out), parameters, "image", manifest, plan.as_dict())
heavy = {"pyarrow", "numpy", "pandas", "astropy", "sep", "boto3"}
print(json.dumps(sorted(heavy & set(sys.modules))))
"""


def test_a_map_of_a_folder_begins_without_pyarrow(tmp_path: Path) -> None:
    for n in range(3):
        (tmp_path / f"i00{n}00aaq_flt.fits").write_bytes(b"none")
    answer = subprocess.run(
        [sys.executable, "-c", CLIENT, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert json.loads(answer.stdout) == []
    assert len(Manifest.read(f"{tmp_path}/out/manifest.parquet")) == 2


COMMAND = """
import sys
from hstmap.cli import main
assert main(["map", sys.argv[1], "-o", sys.argv[1] + "/out", "--dry-run", "--quiet"]) == 0
print({"pyarrow", "pandas", "astropy", "sep", "boto3"} & set(sys.modules))
"""


def test_the_command_plans_a_folder_without_pyarrow(tmp_path: Path) -> None:
    (tmp_path / "i00000aaq_flt.fits").write_bytes(b"none")
    answer = subprocess.run(
        [sys.executable, "-c", COMMAND, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert answer.stdout.splitlines()[-1] == "set()"


RUN = """
import sys
from hstmap.archive.sources import resolve_sources
from hstmap.bag.engine import EngineOptions, make_engine
from hstmap.batch import RunParameters
from hstmap.pipeline import BATCH_MODULES, RunOptions, plan_run, run_map
folder, options = sys.argv[1], RunOptions()
manifest = resolve_sources([folder])
plan = plan_run(manifest, f"{folder}/out", RunParameters(), options)
with make_engine("lithops", EngineOptions(n_workers=1, preload=BATCH_MODULES)) as engine:
    print(run_map(plan, manifest, engine, options).outcomes)
print({"pyarrow", "numpy", "pandas", "astropy", "sep", "boto3", "tqdm"} & set(sys.modules))
"""


def test_a_client_needs_no_pyarrow_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "i00000aaq_flt.fits").write_bytes(b"none")
    answer = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert answer.stdout.splitlines() == ["{'failed': 1}", "set()"]
