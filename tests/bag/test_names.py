"""Names of steps: what people read, and what tells two steps apart in every process."""

from __future__ import annotations

import functools
import operator
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hstmap
from hstmap.bag.names import function_name


class Doubler:
    def __call__(self, number: int) -> int:
        return 2 * number

    def method(self, number: int) -> int:
        return number


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (len, "len"),
        (str.upper, "upper"),
        (lambda x: x, "lambda"),
        (functools.partial(operator.add, 1), "add"),
        (functools.partial(functools.partial(lambda x, y: x, 1), 2), "lambda"),
        (Doubler(), "Doubler"),
        (Doubler, "Doubler"),
        (Doubler().method, "method"),
        (operator.itemgetter(1), "itemgetter"),
        (operator.methodcaller("upper"), "upper"),
        (operator.methodcaller("split", "_"), "split"),
        (operator.methodcaller("split", sep="_"), "split"),
        (operator.methodcaller("split", "_", maxsplit=1), "split"),
        (None, "None"),
    ],
)
def test_whatever_can_be_called_has_a_name_for_people(function: Any, name: str) -> None:
    assert function_name(function) == name
    assert hstmap.range(3, npartitions=1).map(function or abs).name.startswith("map-")


@given(st.text("abc_", min_size=1, max_size=200))
def test_no_name_is_long(name: str) -> None:
    def function() -> None:
        """Nothing."""

    function.__name__ = name
    assert function_name(function) == name[:50]
    assert function_name(operator.methodcaller(name)) == name[:50]


NAMES = """
import functools, operator, hstmap
bag = hstmap.from_sequence(["b", "a"], npartitions=2)
for one in (
    bag, bag.map(str.upper), bag.filter({"a", "b", "c"}.__contains__), bag.str.split(sep="_"),
    bag.map(functools.partial(operator.add, "x")), bag.frequencies(), bag.groupby(len),
    bag.join({"a": 1, "b": 2}, str), bag.pluck(frozenset(["x", "y", "z"]), None),
    hstmap.range(10**9, npartitions=4).sum(), bag.random_sample(0.5, 7),
):
    print(one.name)
"""


def test_a_step_has_the_same_name_in_every_process() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-c", NAMES],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1
    names = told.pop().splitlines()
    assert len(names) == len(set(names)) == 11


CONSTANTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.text("ab", max_size=2)
    | st.binary(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=4,
)


@given(CONSTANTS, CONSTANTS)
def test_steps_have_one_name_if_and_only_if_they_were_given_the_same(one: Any, other: Any) -> None:
    bag = hstmap.range(4, npartitions=2)

    def name(constant: Any) -> str:
        return bag.map(max, default=constant).name

    # 1, True and 1.0 are equal, and results of them need not be.
    is_same = repr(one) == repr(other)
    assert (name(one) == name(other)) == is_same


@given(st.lists(st.integers(0, 5), max_size=6), st.integers(1, 4))
def test_the_way_of_partitioning_is_part_of_the_name(items: list[int], n: int) -> None:
    one, other = (hstmap.from_sequence(items, npartitions=count) for count in (n, n + 1))
    assert (one.name == other.name) == (one.npartitions == other.npartitions)
    assert hstmap.from_sequence(tuple(items), npartitions=n).npartitions == one.npartitions
