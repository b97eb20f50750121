"""Every method that strings have, on every item: judged by strings and by dask."""

from __future__ import annotations

import copy
import fnmatch
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hstmap

#: Arguments for the methods that need some; what is not named here needs none.
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "center": (12, "*"), "count": ("a",), "encode": ("utf-16", "surrogatepass"),
    "endswith": (("a", "_flt.fits"),), "find": ("b",), "join": (["x", "y"],), "ljust": (9,),
    "partition": ("a",), "removeprefix": ("a",), "removesuffix": ("b",), "replace": ("a", "bb", 1),
    "rfind": ("a",), "rjust": (9, "."), "rpartition": ("_",), "split": ("a", 1),
    "rsplit": ("a", 1), "startswith": ("a",), "translate": ({ord("a"): "z"},), "zfill": (7,),
    "format_map": ({},), "strip": ("ab",), "expandtabs": (3,), "splitlines": (True,),
}  # fmt: skip
#: These may raise for a text; and this one makes no text of one.
NOT_FOR_ANY_TEXT = {"index", "rindex", "format", "format_map", "maketrans"}
METHODS = sorted(
    name for name in dir(str) if not name.startswith("_") and name not in NOT_FOR_ANY_TEXT
)
TEXTS = st.lists(st.text("abAB1 _.\té", max_size=6), max_size=8)


@settings(max_examples=15)
@given(TEXTS)
@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_the_one_of_each_string(name: str, texts: list[str]) -> None:
    arguments = ARGUMENTS.get(name, ())
    bag = hstmap.from_sequence(texts, npartitions=3)
    found = getattr(bag.str, name)(*arguments).compute()
    assert found == [getattr(text, name)(*arguments) for text in texts]


def test_keywords_are_arguments_too() -> None:
    bag = hstmap.from_sequence(["a b c"])
    assert bag.str.split(sep=" ", maxsplit=1).compute() == [["a", "b c"]]


@given(
    texts=st.lists(st.text("ab_.*?[]", max_size=5), max_size=8),
    pattern=st.text("ab_.*?[]!", max_size=5),
)
def test_patterns_are_those_of_the_shell(texts: list[str], pattern: str) -> None:
    judge = pytest.importorskip("dask.bag", reason="dask is not installed")
    found = hstmap.from_sequence(texts, npartitions=2).str.match(pattern).compute()
    assert found == [text for text in texts if fnmatch.fnmatch(text, pattern)]
    if texts:
        expected = judge.from_sequence(texts, npartitions=2).str.match(pattern)
        assert found == expected.compute(scheduler="sync")


def test_it_is_known_by_its_methods_and_has_no_others() -> None:
    strings = hstmap.from_sequence(["a"]).str
    assert {"upper", "match", "removesuffix"} <= set(dir(strings))
    for name in ("no_such", "__array_interface__", "_repr_html_"):
        with pytest.raises(AttributeError, match=name):
            getattr(strings, name)


def test_it_can_be_copied_and_pickled() -> None:
    strings = hstmap.from_sequence(["a", "b"]).str
    for copied in (copy.copy(strings), copy.deepcopy(strings), pickle.loads(pickle.dumps(strings))):
        assert copied.upper().compute() == ["A", "B"]


def test_an_item_that_is_no_string_says_which_method_it_lacks() -> None:
    with pytest.raises(AttributeError, match="upper"):
        hstmap.from_sequence(["a", 1]).str.upper().compute()
