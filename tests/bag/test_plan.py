"""Plans: what shares a task, how many tasks there are, and what people see of it."""

from __future__ import annotations

import dataclasses
import operator
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hstmap
from hstmap.bag.plan import MOST_FUSED_STEPS, Plan
from hstmap.bag.render import human_nbytes
from hstmap.errors import UsageError


def shape(bag: Any) -> list[list[tuple[str, int]]]:
    """Return, stage by stage, the steps and the number of tasks of each group."""
    return [[(part.name, part.n_tasks) for part in stage.parts] for stage in bag.plan().stages]


def test_elementwise_steps_are_one_task_a_partition() -> None:
    bag = hstmap.range(10, npartitions=5).map(abs).filter(None).flatten().pluck(0)
    assert shape(bag) == [[("range-10 → map-abs → filter-None → flatten → pluck", 5)]]


def test_a_reduction_is_a_tree_whose_first_level_is_in_the_tasks_of_the_bag() -> None:
    bag = hstmap.range(100, npartitions=20).map(abs).sum(split_every=4)
    assert shape(bag) == [
        [("range-100 → map-abs → sum-part", 20)],
        [("sum-aggregate", 5)],
        [("sum-aggregate", 2)],
        [("sum-aggregate", 1)],
    ]


@given(npartitions=st.integers(1, 300), split_every=st.sampled_from([None, False, 2, 3, 8, 50]))
def test_trees_have_the_levels_that_their_width_makes(npartitions: int, split_every: Any) -> None:
    """Each level is as many tasks as groups of the level below; dask's trees have the same."""
    width = {None: 8, False: max(2, npartitions)}.get(split_every, split_every)
    expected, n_parts = [npartitions], npartitions
    while n_parts > 1:
        n_parts = -(-n_parts // width)
        expected.append(n_parts)
    plan = hstmap.range(npartitions, npartitions).sum(split_every=split_every).plan()
    assert [stage.n_tasks for stage in plan.stages] == expected
    assert plan.n_tasks == sum(expected)


def test_one_partition_needs_one_task_for_a_whole_reduction() -> None:
    assert shape(hstmap.range(5, npartitions=1).map(abs).std()) == [
        [("range-5 → map-abs → var-part → var-aggregate → apply-Variance → apply-sqrt", 1)]
    ]


def test_bags_side_by_side_share_a_task() -> None:
    bag = hstmap.range(6, npartitions=3)
    halves = hstmap.zip(bag.map(abs), bag.map(operator.neg)).starmap(operator.add)
    assert shape(halves) == [[("range-6 → map-abs → map-neg → zip → starmap-add", 3)]]


def test_what_two_steps_of_a_task_use_is_in_that_task() -> None:
    base = hstmap.range(6, npartitions=3).map(abs)
    assert shape(base.map(operator.add, base.map(operator.neg))) == [
        [("range-6 → map-abs → map-neg → map-add", 3)]
    ]


def test_what_two_stages_use_is_a_stage_of_its_own() -> None:
    base = hstmap.range(6, npartitions=3).map(abs)
    assert shape(base.map(operator.sub, base.max())) == [
        [("range-6 → map-abs", 3)],
        [("max-part", 3)],
        [("max-aggregate", 1)],
        [("map-sub", 3)],
    ]


def test_a_source_is_sliced_for_every_task_that_reads_it() -> None:
    """It is not worth a stage: the client has it anyway."""
    base = hstmap.range(6, npartitions=3)
    assert shape(base.map(operator.sub, base.max())) == [
        [("range-6 → max-part", 3)],
        [("max-aggregate", 1)],
        [("range-6 → map-sub", 3)],
    ]


def test_bags_one_after_another_are_made_in_the_tasks_of_their_readers() -> None:
    first = hstmap.range(4, npartitions=2).map(abs)
    second = hstmap.range(3, npartitions=3).map(operator.neg)
    assert shape(hstmap.concat([first, second]).filter(None)) == [
        [("range-4 → range-3 → map-abs → map-neg → concat → filter-None", 5)]
    ]


def test_a_bag_that_is_concatenated_with_itself_is_made_once() -> None:
    base = hstmap.range(4, npartitions=2).map(abs)
    assert shape(hstmap.concat([base, base])) == [[("range-4 → map-abs", 2)], [("concat", 4)]]


def test_stages_hold_everything_that_is_ready() -> None:
    bag = hstmap.range(6, npartitions=3)
    plan = hstmap.concat([bag.map(abs).distinct(), bag.map(operator.neg).frequencies()]).plan()
    assert [len(stage.parts) for stage in plan.stages] == [2, 1]
    assert [stage.n_tasks for stage in plan.stages] == [6, 2]


def test_take_plans_the_partitions_that_it_looks_into() -> None:
    head = hstmap.range(100, npartitions=50).map(abs).take(5, npartitions=3, compute=False)
    assert shape(head) == [[("range-100 → map-abs → take-part", 3)], [("take", 1)]]


def test_a_wide_group_by_is_made_in_rounds_of_bounded_width() -> None:
    bag = hstmap.range(1000, npartitions=100).groupby(abs, max_branch=10)
    stages = bag.plan().stages
    assert [stage.n_tasks for stage in stages] == [100, 100, 100]
    for stage in stages[1:]:
        (part,) = stage.parts
        assert max(len(part.program.input_keys(index)) for index in part.partitions) == 10


def test_failures_are_told_apart_in_a_stage_of_its_own() -> None:
    """A task that was lost must have become a failed item before they are dropped."""
    bag = hstmap.range(4, npartitions=2).map(abs).drop_failures().map(abs)
    assert shape(bag) == [[("range-4 → map-abs", 2)], [("drop-failures → map-abs", 2)]]


def test_chains_of_any_length_can_be_computed() -> None:
    bag = hstmap.range(4, npartitions=2)
    for _ in range(500):
        bag = bag.map(operator.add, 1)
    assert bag.compute() == [500, 501, 502, 503]
    longest = max(len(part.program.steps) for stage in bag.plan().stages for part in stage.parts)
    assert longest == MOST_FUSED_STEPS


def test_a_plan_is_frozen() -> None:
    plan = hstmap.range(4, npartitions=2).sum().plan()
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.stages = ()  # type: ignore[misc]


def test_a_plan_can_be_read() -> None:
    plan = hstmap.from_sequence([b"x" * 500] * 10, partition_size=1).map(len).sum().plan()
    assert repr(plan).splitlines() == [
        "Plan: 13 tasks in 3 stages",
        "  stage       tasks    bytes in  steps of a task",
        f"      0          10  {human_nbytes(plan.stages[0].nbytes_in):>10}"
        "  from_sequence → map-len → sum-part",
        "      1           2         0 B  sum-aggregate",
        "      2           1         0 B  sum-aggregate",
    ]
    # The items are most of what is sent.
    assert 5_000 < (plan.stages[0].nbytes_in or 0) < 8_000
    page = plan._repr_html_()
    assert page.count("<tr>") == 4
    assert "<td>from_sequence → map-len → sum-part</td>" in page


def test_kept_results_have_the_size_that_travels(tmp_path: Path) -> None:
    bag = hstmap.from_sequence([b"x" * 500] * 10, partition_size=1).map(bytes)
    with hstmap.use_engine("inprocess", spill_url=str(tmp_path)):
        small = bag.persist()
    with hstmap.use_engine("inprocess", spill_url=str(tmp_path), inline_nbytes=10):
        large = bag.persist()
    assert 5_000 < (small.map(len).plan().stages[0].nbytes_in or 0) < 8_000
    assert large.map(len).plan().stages[0].nbytes_in == 0  # the workers fetch it themselves
    assert bag.persist().map(len).plan().stages[0].nbytes_in is None


def test_what_cannot_be_pickled_has_no_size() -> None:
    bag = hstmap.from_sequence([iter(()), iter(()), lambda: None], npartitions=1).map(type)
    assert bag.plan().stages[0].nbytes_in is None
    assert "         -  from_sequence" in repr(bag.plan())


def test_labels_of_users_cannot_break_the_page() -> None:
    def evil(x: int) -> int:
        return x

    evil.__name__ = "<b>evil</b>"
    assert "<b>" not in hstmap.range(2, npartitions=1).map(evil).plan()._repr_html_()
    assert "<b>" not in hstmap.range(2, npartitions=1).map(evil)._repr_html_()


def test_a_price_is_asked_of_whoever_knows_it() -> None:
    asked: list[Plan] = []

    def pricing(plan: Plan) -> str:
        asked.append(plan)
        return f"{plan.n_tasks} invocations"

    bag = hstmap.range(4, npartitions=2).sum()
    assert bag.plan().price is None
    plan = bag.plan(pricing=pricing)
    assert plan.price == "3 invocations"
    assert asked[0].stages == plan.stages
    assert repr(plan).endswith("\n  price: 3 invocations")
    assert "<p>price: 3 invocations</p>" in plan._repr_html_()


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_600, "1 MB"),
     (1_234_567, "1.23 MB"), (5 * 10**9, "5 GB")],
)  # fmt: skip
def test_bytes_are_three_digits_and_a_unit(nbytes: int | None, text: str) -> None:
    assert human_nbytes(nbytes) == text


# -- drawings --------------------------------------------------------------------------------------


def some_bag() -> Any:
    bag = hstmap.range(6, npartitions=3)
    return bag.map(operator.sub, bag.max())


def test_a_drawing_is_text() -> None:
    assert str(some_bag().visualize()).splitlines() == [
        "stage 0: 3 tasks",
        "  [0.0] range-6 → max-part x 3",
        "stage 1: 1 task",
        "  [1.1] max-aggregate x 1  (reads 0.0)",
        "stage 2: 3 tasks",
        "  [2.2] range-6 → map-sub x 3  (reads 1.1)",
    ]
    assert str(hstmap.range(6, npartitions=3).visualize()) == "nothing to run: range-6"


def test_a_drawing_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    drawing = some_bag().visualize(str(tmp_path / "plan.txt"))
    assert (tmp_path / "plan.txt").read_text() == f"{drawing.text}\n"
    some_bag().visualize(str(tmp_path / "plan.dot"))
    dot = (tmp_path / "plan.dot").read_text()
    assert dot.startswith("digraph plan {")
    assert '"1.1" -> "2.2";' in dot
    assert '"0.0-source-0" [label="range-6\\n3 partitions", style=dashed];' in dot
    with pytest.raises(UsageError, match=r"'\.png'; give \.svg"):
        some_bag().visualize(str(tmp_path / "plan.png"))


def test_without_graphviz_an_svg_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="apt install graphviz"):
        some_bag().visualize(str(tmp_path / "plan.svg"))
    bundle = some_bag().visualize()._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}


def test_with_graphviz_a_drawing_is_an_svg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("graphviz", reason="the graphviz package is not installed")
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\necho '<svg>'; cat | head -1; echo '</svg>'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    drawing = some_bag().visualize(str(tmp_path / "plan.svg"))
    assert (tmp_path / "plan.svg").read_text().split() == [
        "<svg>",
        "digraph",
        "plan",
        "{",
        "</svg>",
    ]
    assert drawing._repr_mimebundle_()["image/svg+xml"].startswith("<svg>")
