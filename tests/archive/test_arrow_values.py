"""Arrow's arrays of Python's values are pyarrow's own, and pandas stays where it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.archive.arrow_values import array_of, null_of, scalar_of

INT64 = st.integers(-(2**63), 2**63 - 1)
KINDS = {
    "texts": st.text(),
    "integers": INT64,
    "floats": st.floats(allow_nan=False),
    "booleans": st.booleans(),
    "integers and floats": INT64.filter(lambda n: abs(n) < 2**53) | st.floats(allow_nan=False),
    "nothing": st.none(),
}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_an_array_is_what_pyarrow_makes(kind: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(KINDS[kind] | st.none(), max_size=40))
    made, expected = array_of(values), pa.array(values)
    assert made.type == expected.type
    assert made.equals(expected)
    assert made.null_count == expected.null_count
    made.validate(full=True)


def test_what_is_not_a_number_stays_so() -> None:
    made = array_of([1.5, float("nan"), None])
    assert made.null_count == 1
    assert str(made.to_pylist()) == "[1.5, nan, None]"


@pytest.mark.parametrize(
    "values",
    [
        np.array([1, 2], dtype=np.int16),
        ("a", None, "b"),
        [np.str_("a"), "b"],
        [[1, 2], None],
        [b"a", b"bc"],
    ],
    ids=["numpy", "tuple", "numpy's text", "lists", "bytes"],
)
def test_what_is_not_plain_is_pyarrows_own_to_make(values: object) -> None:
    made, expected = array_of(values), pa.array(values)  # type: ignore[arg-type]
    assert made.type == expected.type
    assert made.equals(expected)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (["a", 1], pa.ArrowException),
        ([1, "a"], pa.ArrowException),
        ([True, 1], pa.ArrowException),
        ([2**63], OverflowError),
        (["\ud800"], UnicodeEncodeError),
    ],
)
def test_what_pyarrow_refuses_is_refused_as_there(values: list[object], error: type) -> None:
    with pytest.raises(error) as theirs:
        pa.array(values)
    with pytest.raises(error) as ours:
        array_of(values)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("value", ["", "hôtel", 0, -3, 2.5, True, False])
def test_a_scalar_is_what_pyarrow_makes(value: str | float | bool) -> None:
    assert scalar_of(value).equals(pa.scalar(value))


@pytest.mark.parametrize("kind", [pa.string(), pa.int64(), pa.float32(), pa.bool_()])
def test_the_unknown_value_of_a_type_has_that_type(kind: pa.DataType) -> None:
    unknown = null_of(kind)
    assert unknown.type == kind
    assert not unknown.is_valid


# -- pandas ----------------------------------------------------------------------------------------

CLIENT = """
import json, sys
from hstmap.archive.manifest import Manifest
from hstmap.batch import RunParameters
from hstmap.pipeline import RunOptions, plan_run
folder, here = sys.argv[1], {}
def look(step):
    here[step] = "pandas" in sys.modules
rows = [
    {"rootname": f"i{n}", "key": f"{folder}/i{n}_flt.fits", "filter": "F140W", "ra": 0.5 * n,
     "nbytes": 100 + n, "bright": n > 2}
    for n in range(6)
]
manifest = Manifest.from_rows(rows)
look("rows")
manifest.write(f"{folder}/m.parquet")
manifest.write(f"{folder}/m.csv")
look("write")
again = Manifest.read(f"{folder}/m.parquet")
assert Manifest.read(f"{folder}/m.csv").content_hash == again.content_hash == manifest.content_hash
look("read")
chosen = again.filter(filter="f140w", nbytes=103).head(1)
look("filter")
plan = plan_run(again, f"{folder}/out", RunParameters(), RunOptions())
assert plan.n_todo == 6
look("plan")
print(json.dumps(here))
"""


def test_a_client_plans_without_pandas(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", CLIENT, str(tmp_path)], capture_output=True, text=True, check=True
    )
    steps = json.loads(answer.stdout)
    assert len(steps) == 5
    assert not any(steps.values()), steps
