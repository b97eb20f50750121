"""The rounds of a ``groupby``: every piece is read once, and no task reads from too many."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hstmap
from hstmap.bag.graph import Node
from hstmap.bag.hashing import stable_hash
from hstmap.bag.shuffle import group_by
from hstmap.errors import UsageError


def nodes_above(node: Node) -> Iterator[Node]:
    while node.parents:
        yield node
        (node,) = node.parents


def source(n_partitions: int) -> Node:
    return hstmap.from_sequence(range(n_partitions), npartitions=n_partitions)._node


@given(
    n_in=st.integers(1, 300),
    n_out=st.integers(1, 300),
    max_branch=st.integers(2, 40),
)
def test_no_task_reads_from_more_than_it_may_and_all_is_read_once(
    n_in: int, n_out: int, max_branch: int
) -> None:
    node = group_by(source(n_in), abs, n_out, max_branch)
    assert node.n_partitions == n_out
    n_rounds = 0
    for each in nodes_above(node):
        needs = [each.operation.needs(index) for index in range(each.n_partitions)]
        assert max(map(len, needs)) <= max_branch
        read = Counter(need for one in needs for need in one)
        assert set(read.values()) <= {1}
        (parent,) = each.parents
        assert {need.partition for need in read} == set(range(parent.n_partitions))
        n_rounds += parent.operation.scatters
        if parent.operation.scatters:
            assert parent.operation.n_pieces <= max_branch
            # Pieces that nobody reads must be those where no bucket lies.
            assert len(read) <= parent.n_partitions * parent.operation.n_pieces
    # As few rounds as that takes.
    fewest = next(n for n in itertools.count(1) if max_branch**n >= max(n_in, n_out))
    assert n_rounds == fewest


@settings(max_examples=40)
@given(
    items=st.lists(st.integers(-50, 50), max_size=60),
    n_in=st.integers(1, 12),
    n_out=st.integers(1, 12),
    max_branch=st.integers(2, 5),
)
def test_equal_keys_meet_in_the_partition_of_their_hash(
    items: list[int], n_in: int, n_out: int, max_branch: int
) -> None:
    bag = hstmap.from_sequence(items, npartitions=n_in)
    grouped = bag.groupby(abs, npartitions=n_out, max_branch=max_branch)
    parts = grouped.map_partitions(lambda part: [list(part)]).compute()
    assert len(parts) == n_out
    for number, part in enumerate(parts):
        for key, members in part:
            assert stable_hash(key) % n_out == number
            assert members == [item for item in items if abs(item) == key]
    assert sorted(key for part in parts for key, _ in part) == sorted({abs(i) for i in items})


def test_a_thousand_partitions_take_two_rounds_and_not_a_million_requests() -> None:
    node = group_by(source(1000), abs, 1000, 32)
    gathers = [each for each in nodes_above(node) if not each.operation.scatters]
    assert len(gathers) == 2
    n_reads = sum(
        len(each.operation.needs(index)) for each in gathers for index in range(each.n_partitions)
    )
    assert n_reads <= 2 * 1024 * 32


@pytest.mark.parametrize(("n_partitions", "max_branch"), [(0, 32), (-1, 2), (1, 1), (4, 0)])
def test_senseless_numbers_are_refused(n_partitions: int, max_branch: int) -> None:
    with pytest.raises(UsageError, match=f"{n_partitions} and max_branch is {max_branch}; give"):
        group_by(source(2), abs, n_partitions, max_branch)
