"""DataFrames of bags are those that pandas makes of the items, with the types of dask's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hstmap

pd = pytest.importorskip("pandas", reason="pandas is not installed")

ROWS = st.lists(
    st.fixed_dictionaries(
        {"filter": st.sampled_from(["F160W", "F125W"]), "n": st.integers(0, 9)},
        optional={"depth": st.none() | st.floats(20, 30)},
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=25)
@given(ROWS, st.integers(1, 5))
def test_records_are_rows_whatever_they_lack(rows: list[dict[str, Any]], n: int) -> None:
    frame = hstmap.from_sequence(rows, npartitions=n).to_dataframe().compute()
    pd.testing.assert_frame_equal(frame, pd.DataFrame(rows))


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1)), min_size=1), st.integers(1, 5))
def test_types_that_were_promised_are_kept(rows: list[tuple[int, float]], n: int) -> None:
    bag = hstmap.from_sequence(rows, npartitions=n)
    types = {"n": "int16", "x": "float32"}
    expected = pd.DataFrame(rows, columns=["n", "x"]).astype(types)
    for meta in (types, list(types.items()), expected.head(0), expected.iloc[:1]):
        pd.testing.assert_frame_equal(bag.to_dataframe(meta=meta).compute(), expected)
        nothing = bag.remove(lambda _: True).to_dataframe(meta=meta).compute()
        assert (len(nothing), nothing.dtypes.to_dict()) == (0, expected.dtypes.to_dict())


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1)), min_size=1), st.integers(1, 3))
def test_it_is_dasks(rows: list[tuple[int, float]], n: int) -> None:
    judge = pytest.importorskip("dask.bag", reason="dask is not installed")
    pytest.importorskip("dask.dataframe", reason="dask.dataframe cannot be used here")
    meta = {"n": "int32", "x": "float64"}
    theirs = judge.from_sequence(rows, npartitions=n).to_dataframe(meta=meta)
    ours = hstmap.from_sequence(rows, npartitions=n).to_dataframe(meta=meta).compute()
    # The index of each of dask's partitions begins at 0 again.
    expected = theirs.compute(scheduler="sync").reset_index(drop=True)
    pd.testing.assert_frame_equal(ours, expected)


def test_columns_are_names_of_what_has_none() -> None:
    bag = hstmap.from_sequence([(1, "a"), (2, "b")], npartitions=2)
    frame = bag.to_dataframe(columns=("n", "name")).compute()
    assert frame.to_dict("list") == {"n": [1, 2], "name": ["a", "b"]}
    scalars = hstmap.range(3, npartitions=2).to_dataframe(columns=["n"]).compute()
    assert scalars["n"].tolist() == [0, 1, 2]
    assert list(hstmap.from_sequence([]).to_dataframe(columns=["n"]).compute().columns) == ["n"]


def test_what_does_not_fit_the_promise_is_an_error() -> None:
    bag = hstmap.from_sequence([("one", 1)])
    with pytest.raises(ValueError, match="one"):
        bag.to_dataframe(meta={"n": "int16", "x": "int16"}).compute()


def test_failures_make_no_rows() -> None:
    bag = hstmap.range(4, npartitions=2).map(lambda n: {"x": 1 // n})
    with pytest.raises(Exception, match="drop_failures"):
        bag.to_dataframe().compute(on_error="collect")
    frame = bag.drop_failures().to_dataframe().compute(on_error="collect")
    assert frame["x"].tolist() == [1, 0, 0]
