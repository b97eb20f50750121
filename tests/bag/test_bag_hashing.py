"""The hash of keys: equal keys meet, in every process, whatever PYTHONHASHSEED is."""

from __future__ import annotations

import dataclasses
import enum
import functools
import logging
import operator
import os
import subprocess
import sys
from collections import Counter, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hstmap
from hstmap.bag.hashing import exact_digest, stable_hash

Point = namedtuple("Point", "x y")


class Camera(enum.Enum):
    WFC3 = 1
    ACS = 2


class Number(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass(frozen=True)
class Visit:
    program: int
    name: str | None = None
    note: str = dataclasses.field(default="", compare=False)


class Plain:
    def __init__(self, x: Any) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and self.x == other.x

    def __hash__(self) -> int:
        return hash(self.x)


EAST = timezone(timedelta(hours=2))

EQUAL = {
    "one": [1, 1.0, True, 1 + 0j, Decimal(1), Fraction(1), Number.ONE, np.int64(1), np.uint8(1),
            np.float32(1), np.float64(1), np.bool_(True), np.complex128(1)],
    "a half": [0.5, Decimal("0.5"), Fraction(1, 2), np.float16(0.5), 0.5 + 0j],
    "zero": [0, 0.0, -0.0, False, np.int8(0), np.float64(-0.0)],
    "far": [2**61, float(2**61), np.float64(2**61), Fraction(2**61)],
    "huge": [10**500, Decimal("1e500"), Fraction(10**500)],
    "tiny": [Fraction(1, 10**500), Decimal("1e-500")],
    "negative": [-1, -1.0, np.int16(-1)],
    "text": ["F160W", np.str_("F160W")],
    "bytes": [b"F160W", np.bytes_(b"F160W")],
    "tuple": [(1, "a"), (1.0, "a"), Point(True, "a"), Point(np.int32(1), np.str_("a"))],
    "set": [frozenset("abc"), frozenset("cab")],
    "instant": [datetime(2020, 1, 1, 12, tzinfo=UTC), datetime(2020, 1, 1, 14, tzinfo=EAST)],
    "fold": [datetime(2020, 1, 1, 12), datetime(2020, 1, 1, 12, fold=1)],
    "clock": [time(12, tzinfo=UTC), time(14, tzinfo=EAST)],
    "duration": [timedelta(days=1), timedelta(hours=24)],
    "dataclass": [Visit(1, "a"), Visit(1, "a", note="other"), Visit(True, "a")],
    "object": [Plain((1, "a")), Plain((1.0, "a"))],
}  # fmt: skip

OTHERS = [None, ..., "", b"", (), frozenset(), "1", b"1", "F125W", (1,), ((1,),), (1, 2), (2, 1),
          2, 1.5, -2, -1.5, 10**30, 1e300, -(10**500), 2**61 + 2,
          Camera.WFC3, Camera.ACS, Visit, Plain, len, "F160W ",
          date(2020, 1, 1), datetime(2020, 1, 1), datetime(2020, 1, 1, tzinfo=UTC),
          time(1), Visit(1), Visit(2, "a"), Plain(1), Plain(2), float("nan"),
          float("inf"), float("-inf"), operator.itemgetter(1), operator.itemgetter(2),
          functools.partial(max, 1), functools.partial(max, 2), complex(1, 2), range(3), hash,
          logging.getLogger("x"), "\ud800",
          ]  # fmt: skip


@pytest.mark.parametrize("name", EQUAL)
def test_equal_keys_have_one_hash(name: str) -> None:
    keys = EQUAL[name]
    assert len(set(keys)) == 1, "they are no equal keys to Python either"
    assert len({stable_hash(key) for key in keys}) == 1


def test_other_keys_have_other_hashes() -> None:
    keys = [*(equal[0] for equal in EQUAL.values()), *OTHERS]
    hashes = Counter(map(stable_hash, keys))
    assert hashes.most_common(1)[0][1] == 1


atoms = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary() | st.fractions() | st.decimals(allow_nan=False) | st.dates() | st.timedeltas()
)  # fmt: skip
keys = st.recursive(
    atoms,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=8,
)


@given(first=keys, second=keys)
def test_keys_that_python_calls_equal_have_one_hash(first: Any, second: Any) -> None:
    assert (first == second) == (stable_hash(first) == stable_hash(second))


@given(number=st.integers(-(2**62), 2**62))
def test_numpys_numbers_hash_as_pythons(number: int) -> None:
    assert stable_hash(np.int64(number)) == stable_hash(number)
    assert stable_hash(np.float64(number)) == stable_hash(float(number))


def test_names_tell_types_apart() -> None:
    same_number = [1, 1.0, True, np.int64(1), Fraction(1)]
    assert len({exact_digest(number) for number in same_number}) == len(same_number)
    assert exact_digest((1, "a", [2.5])) == exact_digest((1, "a", [2.5]))


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_the_hash_is_the_same_in_every_process(seed: str) -> None:
    code = (
        "from datetime import date\n"
        "from hstmap.bag.hashing import exact_digest, stable_hash\n"
        "print(stable_hash(('F160W', b'x', None, date(2020, 1, 1), frozenset('abcdef'),"
        " {'a': 1, 'b': 2}, len, 1.5)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(result.stdout) == 20169650597081653006133728779585569897


def test_pandas_times_hash_as_those_they_are_equal_to() -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    stamp = pd.Timestamp("2020-01-01 12:00", tz="UTC")
    assert stable_hash(stamp) == stable_hash(datetime(2020, 1, 1, 12, tzinfo=UTC))
    assert stable_hash(pd.NaT) == stable_hash(pd.NaT)
    assert stable_hash(pd.Timedelta("1 day")) == stable_hash(timedelta(days=1))


def test_what_cannot_be_a_key_says_so() -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        stable_hash(iter(x for x in ()))


@given(numbers=st.lists(st.integers(0, 3)), npartitions=st.integers(1, 6))
def test_one_and_one_point_zero_and_true_are_one_group(
    numbers: list[int], npartitions: int
) -> None:
    kinds = [int, float, np.int64, np.float32, np.uint8]
    mixed: list[Any] = [kinds[i % len(kinds)](number) for i, number in enumerate(numbers)]
    mixed += [number == 1 for number in numbers if number in (0, 1)]
    bag = hstmap.from_sequence(mixed, npartitions=npartitions)
    expected: dict[Any, list[Any]] = {}
    for item in mixed:
        expected.setdefault(item, []).append(item)
    result = bag.groupby(lambda x: x).compute()
    assert len(result) == len(expected)
    assert dict(result) == expected
    counted = dict(bag.frequencies())
    assert counted == {key: len(items) for key, items in expected.items()}
