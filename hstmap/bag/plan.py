"""Plans: what will run, frozen before anything is spent."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import BuiltinFunctionType, FunctionType
from typing import Any, TypeAlias

from hstmap.bag.graph import Link, Node, Source, topological
from hstmap.bag.program import Program, Step

__all__ = ["Fused", "Plan", "PlannedStage", "Pricing", "make_plan"]

MOST_FUSED_STEPS = 64
"""Iterators of fused steps call each other, within Python's limit of nested calls (1,000)."""


@dataclass(frozen=True)
class Fused:
    """Steps that share a task for each partition.

    Parameters
    ----------
    name : str
        The steps' labels.
    program : Program
    inputs : tuple of Node
        What the program's inputs are.
    root : Node
        The step whose partitions are the results.
    partitions : sequence of int
        Those that are needed: a task each.
    """

    name: str
    program: Program
    inputs: tuple[Node, ...]
    root: Node
    partitions: Sequence[int]

    @property
    def n_tasks(self) -> int:
        """Number of tasks."""
        return len(self.partitions)


@dataclass(frozen=True)
class PlannedStage:
    """Tasks that do not wait for each other.

    Parameters
    ----------
    level : int
        Its place in the order of the stages, from 0.
    parts : tuple of Fused
    """

    level: int
    parts: tuple[Fused, ...]

    @functools.cached_property
    def nbytes_in(self) -> int | None:
        """Bytes that the client sends to its tasks from the sources of the bags.

        An estimate from the first partition of each; None if that cannot be pickled.
        """
        return _source_nbytes(self.parts)

    @property
    def name(self) -> str:
        """Name for people."""
        return " | ".join(part.name for part in self.parts)

    @property
    def n_tasks(self) -> int:
        """Number of tasks."""
        return sum(part.n_tasks for part in self.parts)


@dataclass(frozen=True)
class Plan:
    """Everything that a computation will run.

    Parameters
    ----------
    stages : tuple of PlannedStage
        In their order; each needs the ones before it to be complete.
    targets : tuple of Node
        Whose partitions are the results.
    price : object, optional
        What the `Pricing` said of this plan; None if there was none.
    """

    stages: tuple[PlannedStage, ...]
    targets: tuple[Node, ...]
    price: Any = field(default=None)

    @property
    def n_tasks(self) -> int:
        """Number of tasks in all stages."""
        return sum(stage.n_tasks for stage in self.stages)

    def __repr__(self) -> str:
        from hstmap.bag.render import count

        lines = [f"Plan: {count(self.n_tasks, 'task')} in {count(len(self.stages), 'stage')}"]
        lines += [
            f"  {number:>5}  {tasks:>10}  {nbytes:>10}  {name}"
            for number, tasks, nbytes, name in (_HEADINGS, *self._rows())
        ]
        if self.price is not None:
            lines.append(f"  price: {self.price}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self._rows()
        )
        head = "".join(f"<th>{heading}</th>" for heading in _HEADINGS)
        price = "" if self.price is None else f"<p>price: {html.escape(str(self.price))}</p>"
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{price}"

    def _rows(self) -> list[tuple[str, str, str, str]]:
        from hstmap.bag.render import human_nbytes

        return [
            (str(stage.level), f"{part.n_tasks:,}", human_nbytes(stage.nbytes_in), part.name)
            for stage in self.stages
            for part in stage.parts
        ]


LONGEST_COMPARED = 100
"""Longer tuples (the other side of a join, say) are compared by identity."""

_HEADINGS = ("stage", "tasks", "bytes in", "steps of a task")

Pricing: TypeAlias = Callable[[Plan], Any]
"""Says what a plan will cost; what it returns is shown with `str`."""


def make_plan(targets: Sequence[Node], pricing: Pricing | None = None) -> Plan:
    """Decide what runs to compute nodes.

    Parameters
    ----------
    targets : sequence of Node
    pricing : callable, optional

    Returns
    -------
    Plan
        Its targets are in the order given; equal steps are one, even if they were built twice.
    """
    same = _merge_equal(topological(targets))
    merged = [same[target] for target in targets]
    fusions = _fuse(merged)
    demanded = _demand(fusions, merged)
    levels = _levels(fusions)
    stages = []
    for level in sorted(set(levels.values())):
        parts = tuple(
            _with_partitions(fusions[root], demanded[root])
            for root in fusions
            if levels[root] == level
        )
        stages.append(PlannedStage(level, parts))
    plan = Plan(tuple(stages), tuple(merged))
    return plan if pricing is None else Plan(plan.stages, plan.targets, pricing(plan))


# -- Equal steps ---------------------------------------------------------------------------------


def _merge_equal(order: Sequence[Node]) -> dict[Node, Node]:
    """Map each node to the first one that does the same to the same parents."""
    same: dict[Node, Node] = {}
    known: dict[Any, Node] = {}
    for node in order:
        parents = tuple(same[parent] for parent in node.parents)
        is_source = isinstance(node.operation, Source)
        key = (
            id(node.operation) if is_source else _identity(node.operation),
            tuple(map(id, parents)),
            node.n_partitions,
            node.scalar,
        )
        if key not in known:
            is_new = any(old is not new for old, new in zip(node.parents, parents, strict=True))
            known[key] = (
                Node(node.label, node.operation, parents, node.n_partitions, node.scalar)
                if is_new
                else node
            )
        same[node] = known[key]
    return same


_PLAIN = (
    int,
    float,
    complex,
    str,
    bytes,
    bool,
    type(None),
    type,
    FunctionType,
    BuiltinFunctionType,
)


def _identity(thing: Any) -> Any:
    """Return something hashable that is equal only for what does the same.

    Equality alone will not do: 1, 1.0 and True are equal, and an object's own ``__eq__`` may say
    anything. What is not plain counts as itself only.
    """
    if type(thing) in _PLAIN:
        # 0.0 == -0.0, and nan is not even equal to itself.
        return type(thing), repr(thing) if isinstance(thing, float | complex) else thing
    if type(thing) is tuple and len(thing) <= LONGEST_COMPARED:
        return tuple, tuple(map(_identity, thing))
    if type(thing) is functools.partial:
        keywords = tuple(sorted(thing.keywords.items()))
        return functools.partial, _identity((thing.func, thing.args, keywords))
    if type(thing).__module__.startswith("hstmap.bag.") and hasattr(thing, "__dataclass_fields__"):
        values = tuple(_identity(getattr(thing, name)) for name in thing.__dataclass_fields__)
        return type(thing), values
    return id, id(thing)


# -- Fusion --------------------------------------------------------------------------------------


def _fuse(targets: Sequence[Node]) -> dict[Node, Fused]:
    """Group the nodes so that each group is one task for each partition of its root.

    A node joins the group of its only consumer if no partition would be made twice. One with
    several consumers joins if these are in one group and all of them, up to the root, use the
    same partition of it.

    Returns
    -------
    dict of Node to Fused
        By root, consumers before what they consume; their partitions are not known yet.
    """
    order = topological(targets)
    consumers: dict[Node, list[tuple[Node, int]]] = {node: [] for node in order}
    for node in order:
        for number, parent in enumerate(node.parents):
            consumers[parent].append((node, number))
    root_of: dict[Node, Node] = {}
    in_step: dict[Node, bool] = {}  # whether partition i serves partition i of the root only
    members: dict[Node, list[Node]] = {}
    for node in reversed(order):
        if isinstance(node.operation, Source):
            continue
        edges = consumers[node]
        links = [consumer.link(number) for consumer, number in edges]
        roots = {root_of[consumer] for consumer, _ in edges}
        root, in_step[node] = node, True
        if node not in targets and len(roots) == 1:
            (candidate,) = roots
            aligned = all(link is Link.ALIGNED for link in links)
            steps_along = all(in_step[consumer] for consumer, _ in edges)
            fits = (aligned and steps_along) or (len(edges) == 1 and links[0] is not Link.WIDE)
            if fits and len(members[candidate]) < MOST_FUSED_STEPS:
                root, in_step[node] = candidate, aligned and steps_along
        root_of[node] = root
        members.setdefault(root, []).append(node)
    return {root: _fused(root, nodes[::-1], consumers) for root, nodes in members.items()}


def _fused(
    root: Node, nodes: Sequence[Node], consumers: dict[Node, list[tuple[Node, int]]]
) -> Fused:
    """Return the group as a program; `nodes` has parents before children and the root last."""
    where = {node: number for number, node in enumerate(nodes)}
    inputs: dict[Node, int] = {}
    steps = []
    for node in nodes:
        parents = tuple(
            where[parent] if parent in where else ~inputs.setdefault(parent, len(inputs))
            for parent in node.parents
        )
        is_shared = node is not root and len(consumers[node]) > 1
        steps.append(Step(node.label, node.operation, parents, is_shared))
    sources = [node.label for node in inputs if isinstance(node.operation, Source)]
    name = " → ".join([*dict.fromkeys(sources), *(step.label for step in steps)])
    return Fused(name, Program(tuple(steps)), tuple(inputs), root, ())


# -- What is needed, and when --------------------------------------------------------------------


def _demand(fusions: dict[Node, Fused], targets: Sequence[Node]) -> dict[Node, Sequence[int]]:
    """Return which partitions of each root are needed: of the targets all of them."""
    needed: dict[Node, set[int]] = {root: set() for root in fusions}
    complete = set(targets)
    for root, fused in fusions.items():  # consumers come before what they consume
        operations = [step.operation for step in fused.program.steps]
        if root in complete:
            needed[root] = set(range(root.n_partitions))
            if not any(operation.restricts for operation in operations):
                complete.update(fused.inputs)
                continue
        for partition in needed[root]:
            for key in fused.program.input_keys(partition):
                node = fused.inputs[key.number]
                if node in needed:
                    needed[node].add(key.partition)
    return {root: sorted(partitions) for root, partitions in needed.items()}


def _levels(fusions: dict[Node, Fused]) -> dict[Node, int]:
    levels: dict[Node, int] = {}
    for root, fused in reversed(fusions.items()):  # what is consumed comes before its consumers
        below = [levels[node] for node in fused.inputs if node in fusions]
        levels[root] = 1 + max(below, default=-1)
    return levels


def _with_partitions(fused: Fused, partitions: Sequence[int]) -> Fused:
    return Fused(fused.name, fused.program, fused.inputs, fused.root, partitions)


def _source_nbytes(parts: Sequence[Fused]) -> int | None:
    total = 0
    for part in parts:
        for node in part.inputs:
            if isinstance(node.operation, Source):
                nbytes = node.operation.partition_nbytes()
                if nbytes is None:
                    return None
                total += nbytes * (part.n_tasks if node.n_partitions > 1 else 1)
    return total
