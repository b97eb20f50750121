"""Drawings of plans: every stage, task and arrow is in the text and in the picture."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hstmap
from hstmap.bag.engine import InProcessEngine
from hstmap.bag.events import Event, StageStarted
from hstmap.bag.render import draw

QUOTED = r'"((?:[^"\\]|\\.)*)"'
STEPS: dict[str, Callable[[Any], Any]] = {
    "map": lambda bag: bag.map(abs),
    "filter": lambda bag: bag.filter(None),
    "group": lambda bag: bag.groupby(lambda number: number, npartitions=3).pluck(0),
    "repartition": lambda bag: bag.repartition(npartitions=bag.npartitions + 2),
    "merge": lambda bag: bag.repartition(npartitions=1),
    "accumulate": lambda bag: bag.accumulate(operator.add),
    "distinct": lambda bag: bag.distinct(),
    "with itself": lambda bag: hstmap.concat([bag, bag]),
    "with its sum": lambda bag: bag.map(operator.sub, bag.sum()),
}


def bag_of(steps: list[str], n_partitions: int) -> hstmap.Bag:
    bag = hstmap.from_sequence(range(6), npartitions=n_partitions)
    for step in steps:
        bag = STEPS[step](bag)
    return bag


programs = st.lists(st.sampled_from(sorted(STEPS)), max_size=5)


@settings(max_examples=40)
@given(programs, st.integers(1, 4))
def test_text_and_picture_tell_the_same(steps: list[str], n_partitions: int) -> None:
    plan = bag_of(steps, n_partitions).plan()
    drawing = draw(plan)
    level = -1
    n_tasks, reads = {}, set()
    for line in drawing.text.splitlines():
        if (stage := re.fullmatch(r"stage (\d+): ([\d,]+) tasks?", line)) is not None:
            level = int(stage[1])
            n_tasks[level] = int(stage[2].replace(",", ""))
        elif (part := re.match(r"  \[(\d+)\.(\d+)\] .* x ([\d,]+)", line)) is not None:
            assert int(part[1]) == level
            n_tasks[level] -= int(part[3].replace(",", ""))
            found = re.search(r"\(reads ([\d., ]+)\)$", line)
            for read in found[1].split(", ") if found else []:
                reads.add((read, f"{part[1]}.{part[2]}"))
                assert int(read.partition(".")[0]) < level  # what is read was made before
        else:
            assert line.startswith("nothing to run: ")
    assert set(n_tasks.values()) <= {0}  # those of a stage are those of its parts
    arrows = set(re.findall(rf"^  {QUOTED} -> {QUOTED};$", drawing.dot, re.M))
    assert {arrow for arrow in arrows if "source" not in arrow[0]} == reads
    boxes = set(re.findall(rf"^  {QUOTED} \[label=", drawing.dot, re.M))
    assert {end for arrow in arrows for end in arrow} <= boxes
    # What the client gives is drawn, too, once for each task that reads it.
    given_boxes = set(re.findall(rf"^  {QUOTED} \[label=.*style=dashed\];$", drawing.dot, re.M))
    assert {arrow[0] for arrow in arrows if "source" in arrow[0]} == given_boxes
    assert drawing.dot.startswith("digraph plan {")
    assert drawing.dot.endswith("}")


@settings(max_examples=30)
@given(programs, st.integers(1, 4))
def test_what_runs_is_what_was_drawn(steps: list[str], n_partitions: int) -> None:
    bag = bag_of(steps, n_partitions)
    plan = bag.plan()
    begun: list[int] = []

    def note(event: Event) -> None:
        if isinstance(event, StageStarted):
            begun.append(event.n_tasks)

    with InProcessEngine(observers=[note]) as engine:
        bag.compute(engine=engine)
    assert begun == [stage.n_tasks for stage in plan.stages if stage.n_tasks]
    assert sum(begun) == plan.n_tasks


AWKWARD = ['say "so"', "back\\slash", "end\\", "a\nb", "<b>&amp;", "}", "é", '\\"', "[x] -> y;"]


@pytest.mark.parametrize("name", AWKWARD)
def test_names_of_users_cannot_break_the_picture(name: str) -> None:
    def function(number: int) -> int:
        return number

    function.__name__ = name
    drawing = hstmap.range(4, npartitions=2).map(function).visualize()
    # Every line is whole: what is quoted ends where it began.
    for line in drawing.dot.splitlines()[3:-1]:
        assert re.fullmatch(
            rf"  (?:{QUOTED} \[label={QUOTED}(?:, style=dashed)?\]|{QUOTED} -> {QUOTED});", line
        ), line
    shown = drawing._repr_mimebundle_()
    if "text/html" in shown:
        assert "<b>" not in shown["text/html"]
    assert shown["text/plain"] == drawing.text == repr(drawing)


@pytest.mark.parametrize("name", AWKWARD)
def test_graphviz_reads_the_names_as_they_were(name: str) -> None:
    graphviz = pytest.importorskip("graphviz", reason="the package graphviz is not installed")

    def function(number: int) -> int:
        return number

    function.__name__ = name
    drawing = hstmap.range(4, npartitions=2).map(function).visualize()
    try:
        text = graphviz.Source(drawing.dot).pipe(format="json0", encoding="utf-8")
    except graphviz.ExecutableNotFound:
        pytest.skip("the program dot is not installed")
    labels = [node["label"] for node in json.loads(text)["objects"]]
    (label,) = (label for label in labels if "map-" in label)
    # Graphviz' labels keep their escapes: a backslash is two there, a new line is one and an n.
    shown = f"map-{name}".replace("\\", "\\\\").replace("\n", "\\n")
    assert shown in label
    assert label.endswith("2 tasks")
