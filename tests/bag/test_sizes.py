"""Sizes in memory, as people write them, and cut into runs; judged by dask."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.bag.render import count, human_nbytes
from hstmap.bag.sizes import memory_nbytes, parse_nbytes, runs_of_nbytes
from hstmap.errors import UsageError

UNITS = [
    "",
    "B",
    "k",
    "kB",
    "KB",
    "M",
    "MB",
    "mb",
    "GB",
    "TB",
    "KiB",
    "kib",
    "MiB",
    "GiB",
    "TiB",
    "PB",
    "PiB",
]


@given(
    number=st.integers(1, 10**6) | st.floats(1, 1e6).map(lambda size: round(size, 3)),
    unit=st.sampled_from(UNITS),
    space=st.sampled_from(["", " ", "  "]),
)
def test_sizes_are_those_that_dask_reads(number: float, unit: str, space: str) -> None:
    judge = pytest.importorskip("dask.utils", reason="dask is not installed")
    text = f"{number}{space}{unit}"
    expected = judge.parse_bytes(f"{number}{unit}")
    # dask multiplies as floats, too; but rounds nowhere else.
    assert parse_nbytes(text) == parse_nbytes(f" {text} ") == expected


@given(st.integers(1, 2**53))
def test_plain_numbers_are_bytes(nbytes: int) -> None:
    assert parse_nbytes(nbytes) == parse_nbytes(str(nbytes)) == parse_nbytes(f"{nbytes}B") == nbytes


@pytest.mark.parametrize(
    "text", ["", "MB", "5XB", "5 M B", "1e", "--5", "1e400", "five", "5MB/s", "5iB", "nan", "inf"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"{text!r} is no size; give bytes, or text")):
        parse_nbytes(text)


@pytest.mark.parametrize("text", [0, -1, "0", "-5MB", "0.4", "0.0001kB"])
def test_less_than_a_byte_is_refused(text: Any) -> None:
    with pytest.raises(UsageError, match=r"give 1 or more"):
        parse_nbytes(text)


# -- and written -----------------------------------------------------------------------------------


@given(st.integers(0, 999 * 10**15))
def test_what_is_written_is_read_as_nearly_the_same(nbytes: int) -> None:
    text = human_nbytes(nbytes)
    digits = re.fullmatch(r"(\d+(?:\.\d+)?) (?:B|[kMGTP]B)", text)
    assert digits is not None, text
    assert len(digits[1].replace(".", "").lstrip("0")) <= 3
    if nbytes >= 1:
        assert parse_nbytes(text) == pytest.approx(nbytes, rel=0.005 + 1e-12)


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_more_is_never_written_as_less(one: int, other: int) -> None:
    def size(nbytes: int) -> float:
        text = human_nbytes(nbytes)
        return float(text.split()[0]) * 1000 ** ["B", "kB", "MB", "GB", "TB", "PB"].index(
            text.split()[1]
        )

    small, large = sorted((one, other))
    assert size(small) <= size(large)


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(999, "999 B"), (1000, "1 kB"), (999_499, "999 kB"), (999_500, "1 MB")],
)
def test_units_change_where_three_digits_end(nbytes: int, text: str) -> None:
    assert human_nbytes(nbytes) == text


@given(st.integers(0, 10**9))
def test_nouns_follow_their_numbers(number: int) -> None:
    text = count(number, "task")
    assert text.endswith(" task") == (number == 1)
    assert int(text.split()[0].replace(",", "")) == number


# -- in memory -------------------------------------------------------------------------------------

FLAT = st.lists(st.text(max_size=10) | st.floats() | st.integers(), max_size=10)


@given(FLAT, st.sampled_from([list, tuple, set, frozenset]))
def test_short_containers_are_measured_as_dask_measures_them(items: list[Any], kind: Any) -> None:
    judge = pytest.importorskip("dask.sizeof", reason="dask is not installed")
    thing = kind(items)
    assert memory_nbytes(thing) == judge.sizeof(thing)


@given(st.dictionaries(st.text("ab", max_size=3), st.binary(max_size=100), max_size=9))
def test_dicts_are_measured_as_dask_measures_them(thing: dict[str, bytes]) -> None:
    judge = pytest.importorskip("dask.sizeof", reason="dask is not installed")
    # dask adds what two lists of its keys and values take.
    lists = 2 * judge.sizeof([]) + 16 * len(thing)
    assert abs(memory_nbytes(thing) - judge.sizeof(thing)) <= lists + 64


@given(st.integers(1, 3000), st.integers(0, 2000))
def test_ten_items_stand_for_all_if_they_are_alike(n_items: int, length: int) -> None:
    items = [b"x" * length] * n_items
    exact = memory_nbytes([]) + n_items * (8 + memory_nbytes(b"x" * length))
    assert memory_nbytes(items) == pytest.approx(exact, abs=64)


def test_the_samples_are_spread() -> None:
    # All that is large lies in the second half: the first items do not tell.
    items = [b""] * 500 + [b"x" * 10_000] * 500
    assert memory_nbytes(items) == pytest.approx(500 * 10_000, rel=0.25)


def test_arrays_say_their_size_and_iterators_are_gone_through() -> None:
    array = np.zeros((100, 1000))
    assert 800_000 <= memory_nbytes(array) <= 801_000
    assert memory_nbytes(array[::2]) >= 400_000  # a view keeps its data alive
    assert memory_nbytes([array, array]) >= 1_600_000
    assert memory_nbytes(iter([array])) >= 800_000
    assert memory_nbytes([]) > 0

    class Odd:
        nbytes = "many"

    assert memory_nbytes(Odd()) > 0


# -- runs ------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 20)), st.integers(1, 40))
def test_runs_are_the_longest_that_stay_within_the_size(sizes: list[int], largest: int) -> None:
    lengths = runs_of_nbytes(sizes, largest)
    assert sum(lengths) == len(sizes)
    ends = list(itertools.accumulate(lengths))
    for length, end in zip(lengths, ends, strict=True):
        run = sizes[end - length : end]
        assert length == 1 or sum(run) <= largest
        if end < len(sizes):
            assert sum(run) + sizes[end] > largest
