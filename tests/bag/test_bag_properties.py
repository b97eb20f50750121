"""Laws of the Bag: every method is plain Python and dask.bag, however the items are partitioned."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import hstmap
from hstmap.bag.engine import InProcessEngine

db = pytest.importorskip("dask.bag", reason="dask is not installed")

integers = st.integers(-1000, 1000)
partitions = st.lists(st.lists(integers, max_size=8), min_size=1, max_size=9)
split_everys = st.sampled_from([None, False, 2, 3, 5])


def ours(parts: list[list[Any]]) -> hstmap.Bag:
    """A bag with these partitions; any of them may be empty."""
    return hstmap.from_sequence(parts, partition_size=1).flatten()


def dasks(parts: list[list[Any]]) -> Any:
    return db.from_sequence(parts, partition_size=1).flatten()


def flat(parts: list[list[Any]]) -> list[Any]:
    return list(itertools.chain.from_iterable(parts))


def lengths(bag: Any) -> Any:
    """Return the bag of the lengths of the partitions."""
    return bag.map_partitions(lambda part: [len(list(part))])


def is_even(number: int) -> bool:
    return number % 2 == 0


def last_digit(number: int) -> int:
    return abs(number) % 10


def neighbours(number: int) -> list[int]:
    return [number - 1, number, number + 1][: abs(number) % 4]


class Law(NamedTuple):
    """A method of a bag, and the plain Python that it is."""

    method: Callable[[Any], Any]
    plain: Callable[[list[int]], Any]


ITEMWISE = {
    "map": Law(lambda b: b.map(operator.neg), lambda xs: [-x for x in xs]),
    "map with a constant": Law(lambda b: b.map(operator.add, 5), lambda xs: [x + 5 for x in xs]),
    "map with another bag": Law(
        lambda b: b.map(operator.sub, b.map(abs)), lambda xs: [x - abs(x) for x in xs]
    ),
    "map with an item": Law(
        lambda b: b.map(operator.mul, b.count()), lambda xs: [x * len(xs) for x in xs]
    ),
    "filter": Law(lambda b: b.filter(is_even), lambda xs: list(filter(is_even, xs))),
    "filter by truth": Law(lambda b: b.filter(None), lambda xs: list(filter(None, xs))),
    "remove": Law(lambda b: b.remove(is_even), lambda xs: [x for x in xs if x % 2]),
    "flatten": Law(
        lambda b: b.map(neighbours).flatten(), lambda xs: flat([neighbours(x) for x in xs])
    ),
    "starmap": Law(
        lambda b: b.map(lambda x: (x, 2)).starmap(operator.mul), lambda xs: [2 * x for x in xs]
    ),
    "pluck": Law(lambda b: b.map(lambda x: {"x": x}).pluck("x"), list),
    "pluck several": Law(
        lambda b: b.map(lambda x: (x, -x, 0)).pluck([1, 0]), lambda xs: [(-x, x) for x in xs]
    ),
    "pluck with a default": Law(
        lambda b: b.map(neighbours).pluck(2, None),
        lambda xs: [(neighbours(x) + [None] * 3)[2] for x in xs],
    ),
    "unzip": Law(lambda b: b.map(lambda x: (x, -x)).unzip(2)[1], lambda xs: [-x for x in xs]),
    "map_partitions": Law(
        lambda b: b.map_partitions(list).map_partitions(lambda part: [2 * x for x in part]),
        lambda xs: [2 * x for x in xs],
    ),
    "join": Law(
        lambda b: b.join([3, 7, 13], last_digit),
        lambda xs: [(other, x) for x in xs for other in (3, 7, 13) if other % 10 == last_digit(x)],
    ),
    "accumulate from an initial value": Law(
        lambda b: b.accumulate(operator.add, 100),
        lambda xs: list(itertools.accumulate(xs, initial=100)),
    ),
}


@pytest.mark.parametrize("name", ITEMWISE)
@given(parts=partitions)
@settings(max_examples=25)
def test_itemwise_methods_are_plain_python_and_dask(name: str, parts: list[list[int]]) -> None:
    # dask cannot accumulate a bag that begins with an empty partition.
    assume(name != "accumulate from an initial value" or parts[0])
    law = ITEMWISE[name]
    result = law.method(ours(parts)).compute()
    assert result == law.plain(flat(parts))
    assert result == law.method(dasks(parts)).compute(scheduler="sync")


REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum": lambda b, split: b.sum(split_every=split),
    "count": lambda b, split: b.count(split_every=split),
    "any": lambda b, split: b.map(is_even).any(split_every=split),
    "all": lambda b, split: b.map(is_even).all(split_every=split),
    "min": lambda b, split: b.min(split_every=split),
    "max": lambda b, split: b.max(split_every=split),
    "fold": lambda b, split: b.fold(operator.add, split_every=split),
    "reduction": lambda b, split: b.reduction(sorted, merge_sorted, split_every=split),
    "topk": lambda b, split: b.topk(3, split_every=split),
    "topk by key": lambda b, split: b.topk(3, key=last_digit, split_every=split),
    "frequencies": lambda b, split: b.map(last_digit).frequencies(split_every=split),
    "sorted frequencies": lambda b, split: b.map(last_digit).frequencies(split, sort=True),
    "foldby": lambda b, split: b.foldby(last_digit, operator.add, split_every=split),
    "foldby from 0": lambda b, split: b.foldby(
        last_digit, operator.add, 0, operator.add, 0, split_every=split
    ),
    "foldby counting": lambda b, split: b.foldby(
        last_digit, count_up, 0, operator.add, split_every=split
    ),
}

PLAIN_REDUCTIONS: dict[str, Callable[[list[int]], Any]] = {
    "sum": sum,
    "count": len,
    "any": lambda xs: any(map(is_even, xs)),
    "all": lambda xs: all(map(is_even, xs)),
    "min": min,
    "max": max,
    "fold": sum,
    "reduction": sorted,
    "topk": lambda xs: sorted(xs, reverse=True)[:3],
    "topk by key": lambda xs: sorted(xs, key=last_digit, reverse=True)[:3],
    "frequencies": lambda xs: list(Counter(map(last_digit, xs)).items()),
    "sorted frequencies": lambda xs: Counter(map(last_digit, xs)).most_common(),
    "foldby": lambda xs: list(totals(xs).items()),
    "foldby from 0": lambda xs: list(totals(xs).items()),
    "foldby counting": lambda xs: list(Counter(map(last_digit, xs)).items()),
}


def merge_sorted(lists: Any) -> list[int]:
    return sorted(itertools.chain.from_iterable(lists))


def count_up(total: int, _item: int) -> int:
    return total + 1


def totals(numbers: list[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for number in numbers:
        found[last_digit(number)] = found.get(last_digit(number), 0) + number
    return found


@pytest.mark.parametrize("name", REDUCTIONS)
@given(parts=partitions, split_every=split_everys)
@settings(max_examples=25)
def test_reductions_are_plain_python_and_dask(
    name: str, parts: list[list[int]], split_every: Any
) -> None:
    items = flat(parts)
    assume(items)
    result = REDUCTIONS[name](ours(parts), split_every).compute()
    assert result == PLAIN_REDUCTIONS[name](items)
    assert result == REDUCTIONS[name](dasks(parts), split_every).compute(scheduler="sync")


@given(parts=partitions, split_every=split_everys)
def test_a_fold_is_independent_of_partitioning_for_associative_operations(
    parts: list[list[int]], split_every: Any
) -> None:
    """Joining texts is associative and not commutative: an order that is not kept shows."""
    texts = ours(parts).map(str)
    joined = texts.fold(operator.add, initial="", split_every=split_every)
    assert joined.compute() == "".join(map(str, flat(parts)))


@given(parts=partitions)
def test_statistics_are_those_of_the_items(parts: list[list[int]]) -> None:
    items = flat(parts)
    assume(len(items) > 1)
    mean = sum(items) / len(items)
    variance = sum((x - mean) ** 2 for x in items) / len(items)
    bag = ours(parts)
    assert bag.mean().compute() == pytest.approx(mean, rel=1e-12, abs=1e-9)
    assert bag.var().compute() == pytest.approx(variance, rel=1e-12, abs=1e-9)
    assert bag.std().compute() == pytest.approx(math.sqrt(variance), rel=1e-12, abs=1e-9)
    sample = bag.var(ddof=1).compute()
    assert sample == pytest.approx(variance * len(items) / (len(items) - 1), rel=1e-12, abs=1e-9)
    assert dasks(parts).mean().compute(scheduler="sync") == pytest.approx(mean, abs=1e-9)


def test_the_variance_keeps_its_digits_far_from_zero() -> None:
    """Modified Julian dates a second apart: the mean is 4e9 times the scatter."""
    dates = [58849.0 + second / 86400 for second in range(100)]
    scatter = math.sqrt((100**2 - 1) / 12) / 86400  # of 100 equidistant values
    assert hstmap.from_sequence(dates, npartitions=7).std().compute() == pytest.approx(
        scatter, rel=1e-5
    )


@given(parts=partitions)
def test_distinct_keeps_the_first_of_each(parts: list[list[int]]) -> None:
    items = flat(parts)
    assert ours(parts).distinct().compute() == list(dict.fromkeys(items))
    first: dict[int, int] = {}
    for item in items:
        first.setdefault(last_digit(item), item)
    by_digit = ours(parts).distinct(key=last_digit).compute()
    assert by_digit == list(first.values())
    assert by_digit == dasks(parts).distinct(key=last_digit).compute(scheduler="sync")


@given(
    parts=partitions,
    npartitions=st.none() | st.integers(1, 12),
    max_branch=st.none() | st.integers(2, 5),
)
def test_groupby_brings_each_key_together_in_order(
    parts: list[list[int]], npartitions: int | None, max_branch: int | None
) -> None:
    groups: dict[int, list[int]] = {}
    for item in flat(parts):
        groups.setdefault(last_digit(item), []).append(item)
    grouped = ours(parts).groupby(last_digit, npartitions=npartitions, max_branch=max_branch)
    result = grouped.compute()
    assert dict(result) == groups
    assert len(result) == len(groups)
    assert grouped.npartitions == (npartitions or len(parts))
    theirs = dasks(parts).groupby(last_digit, shuffle="tasks")
    assert dict(theirs.compute(scheduler="sync")) == groups


@given(parts=partitions, npartitions=st.integers(1, 15))
def test_repartition_keeps_the_items_and_their_order(
    parts: list[list[int]], npartitions: int
) -> None:
    changed = ours(parts).repartition(npartitions)
    assert changed.npartitions == npartitions
    assert changed.compute() == flat(parts)
    theirs = dasks(parts).repartition(npartitions)
    assert lengths(changed).compute() == lengths(theirs).compute(scheduler="sync")


@given(left=partitions, right=partitions)
def test_product_and_concat(left: list[list[int]], right: list[list[int]]) -> None:
    product = ours(left).product(ours(right))
    assert product.npartitions == len(left) * len(right)
    assert Counter(product) == Counter(itertools.product(flat(left), flat(right)))
    if left != right:  # dask multiplies one iterator by itself, which is empty
        assert product.compute() == dasks(left).product(dasks(right)).compute(scheduler="sync")
    both = hstmap.concat([ours(left), ours(right)])
    assert both.compute() == flat(left) + flat(right)


@given(parts=partitions)
def test_zip_pairs_what_is_at_the_same_place(parts: list[list[int]]) -> None:
    bag = ours(parts)
    pairs = hstmap.zip(bag, bag.map(str), bag.map(operator.neg)).compute()
    assert pairs == [(x, str(x), -x) for x in flat(parts)]


@given(parts=partitions, binop=st.sampled_from([operator.add, operator.sub, max]))
def test_accumulate_goes_on_from_partition_to_partition(
    parts: list[list[int]], binop: Callable[[int, int], int]
) -> None:
    assert ours(parts).accumulate(binop).compute() == list(itertools.accumulate(flat(parts), binop))


@given(
    n_items=st.integers(0, 300),
    npartitions=st.integers(1, 9),
    prob=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_random_sample_keeps_the_items_that_dask_keeps(
    n_items: int, npartitions: int, prob: float, seed: int
) -> None:
    mine = hstmap.from_sequence(range(n_items), npartitions=npartitions).random_sample(prob, seed)
    theirs = db.from_sequence(range(n_items), npartitions=npartitions).random_sample(prob, seed)
    assert mine.compute() == theirs.compute(scheduler="sync")


@given(n_items=st.integers(0, 1000), sizes=st.data())
def test_from_sequence_partitions_as_dask_does(n_items: int, sizes: st.DataObject) -> None:
    size = sizes.draw(st.none() | st.integers(1, 50))
    number = sizes.draw(st.none() | st.integers(1, 120)) if n_items else None
    assume(n_items > 0 or number is None)
    mine = hstmap.from_sequence(range(n_items), size, number)
    theirs = db.from_sequence(range(n_items), size, number)
    assert lengths(mine).compute() == lengths(theirs).compute(scheduler="sync")
    assert mine.compute() == list(range(n_items))


@given(n=st.integers(1, 200), npartitions=st.integers(1, 30))
def test_range_partitions_as_dask_does(n: int, npartitions: int) -> None:
    assume(npartitions <= n)
    mine, theirs = hstmap.range(n, npartitions), db.range(n, npartitions)
    assert lengths(mine).compute() == lengths(theirs).compute(scheduler="sync")
    assert mine.compute() == list(range(n))


# -- any program of steps --------------------------------------------------------------------------

Both = tuple[hstmap.Bag, list[int]]

STEPS: dict[str, Callable[[Both], Both]] = {
    "map": lambda both: (both[0].map(double), [double(x) for x in both[1]]),
    "filter": lambda both: (both[0].filter(is_even), [x for x in both[1] if is_even(x)]),
    "flatten": lambda both: (
        both[0].map(neighbours).flatten(),
        flat([neighbours(x) for x in both[1]]),
    ),
    "less the largest": lambda both: (
        both[0].map(operator.sub, both[0].count()),
        [x - len(both[1]) for x in both[1]],
    ),
    "with itself": lambda both: (
        both[0].map(operator.add, both[0].map(double)),
        [x + double(x) for x in both[1]],
    ),
    "zip and unzip": lambda both: (
        hstmap.zip(both[0].map(double), both[0]).starmap(operator.sub),
        [double(x) - x for x in both[1]],
    ),
    "twice": lambda both: (hstmap.concat([both[0], both[0]]), both[1] * 2),
    "concat with its map": lambda both: (
        hstmap.concat([both[0].map(double), both[0].filter(is_even)]),
        [double(x) for x in both[1]] + [x for x in both[1] if is_even(x)],
    ),
    "three partitions": lambda both: (both[0].repartition(3), both[1]),
    "accumulate": lambda both: (
        both[0].accumulate(wrapped_sum),
        list(itertools.accumulate(both[1], wrapped_sum)),
    ),
    "distinct": lambda both: (both[0].distinct(), list(dict.fromkeys(both[1]))),
    "frequencies": lambda both: (
        both[0].frequencies().starmap(operator.add),
        [x + n for x, n in Counter(both[1]).items()],
    ),
    "persist": lambda both: (both[0].persist(), both[1]),
    "head": lambda both: (both[0].take(5, npartitions=-1, compute=False), both[1][:5]),
}


def double(number: int) -> int:
    return (2 * number) % 1009


def wrapped_sum(total: int, number: int) -> int:
    return (total + number) % 1009


@given(
    parts=st.lists(st.lists(integers, max_size=4), min_size=1, max_size=4),
    steps=st.lists(st.sampled_from(sorted(STEPS)), max_size=5),
    stored=st.booleans(),
)
@settings(max_examples=200)
def test_any_program_is_what_plain_python_makes_of_it(
    parts: list[list[int]], steps: list[str], stored: bool, tmp_path_factory: Any
) -> None:
    """Fusion, sharing, order of stages and storage change nothing, whatever the graph."""
    spill = str(tmp_path_factory.getbasetemp() / "spill") if stored else None
    with hstmap.use_engine(InProcessEngine(), spill_url=spill, inline_nbytes=0):
        both: Both = (ours(parts), flat(parts))
        for step in steps:
            both = STEPS[step](both)
            if len(both[1]) > 500:
                break
        bag, expected = both
        assert bag.compute() == expected
        assert list(bag) == expected
        total, largest = hstmap.compute(bag.sum(), bag.map(abs).fold(max, initial=0))
    assert total == sum(expected)
    assert largest == functools.reduce(max, map(abs, expected), 0)
