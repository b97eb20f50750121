"""Runs Dask graphs on hstmap's engines: a user's bags and delayed functions, on Lambda.

Needs the extra ``hstmap[dask]``::

    import dask
    import hstmap.dask

    with hstmap.use_engine("lithops"):
        dask.compute(x, scheduler=hstmap.dask.get)

or ``dask.config.set(scheduler=hstmap.dask.get)`` for all of a program. Linear chains of the graph
are fused, and what is left runs level by level, each level one stage of the engine: no task waits
for another at Lambda's price. Results travel as those of `hstmap.Bag` do.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dask._task_spec import (
    Alias,
    DataNode,
    DependenciesMapping,
    GraphNode,
    convert_legacy_graph,
    cull,
    fuse_linear_task_spec,
)
from dask.core import flatten
from dask.local import nested_get
from dask.utils import key_split

from hstmap.bag.engine import Engine, Stage, Task
from hstmap.bag.execute import attempts_of
from hstmap.bag.failures import Place, raise_original
from hstmap.bag.session import ComputeOptions, Session, open_session
from hstmap.bag.values import Direct, FetchAhead, Spill, Value, fetch_all

__all__ = ["get"]

_LONGEST_STAGE_NAME = 60


def get(
    dsk: Any,
    keys: Any,
    *,
    engine: Engine | str | None = None,
    **_others: Any,
) -> Any:
    """Compute keys of a Dask graph: a Dask scheduler.

    Parameters
    ----------
    dsk : mapping, or what has ``__dask_graph__``
        The graph.
    keys : hashable or list
        What is wanted of it; lists may be nested.
    engine : Engine or {"inprocess", "lithops"}, optional
        As for `hstmap.Bag.compute`. By default the engine of the `hstmap.use_engine` around it,
        else ``"inprocess"``.
    **_others
        What `dask.compute` hands to any scheduler; not used.

    Returns
    -------
    object
        The value of the key; for a list a tuple of them.

    Raises
    ------
    TaskError
        If a task fails for good; it is also of the class of the function's own exception.
    """
    wanted = set(flatten([keys]))
    graph = dsk if isinstance(dsk, Mapping) else dsk.__dask_graph__()
    fused = fuse_linear_task_spec(cull(convert_legacy_graph(graph), wanted), wanted)
    with open_session(ComputeOptions(engine)) as session:
        spill = session.new_spill()
        try:
            values = _run(fused, wanted, session, spill)
            order = list(wanted)
            loaded = fetch_all((values[key] for key in order), spill.options)
            results = dict(zip(order, loaded, strict=True))
        finally:
            spill.remove()
    return nested_get(keys, results)


def _run(
    graph: Mapping[Hashable, GraphNode], wanted: set[Hashable], session: Session, spill: Spill
) -> dict[Hashable, Value]:
    """Run the levels of a graph; return the values of the wanted keys, at least."""
    dependencies = {key: set(needed) for key, needed in DependenciesMapping(graph).items()}
    levels = _levels(dependencies)
    last_use = {
        key: number
        for number, level in enumerate(levels)
        for user in level
        for key in dependencies[user]
    }
    values: dict[Hashable, Value] = {}
    for number, level in enumerate(levels):
        tasks: list[Task] = []
        for key in level:
            node = graph[key]
            if isinstance(node, DataNode):
                values[key] = Direct(node.value)
            elif isinstance(node, Alias):
                values[key] = values[node.target]
            else:
                needed = {name: values[name] for name in dependencies[key]}
                tasks.append(Task(f"{number}.{len(tasks)} {key!r}", _TaskInput(node, needed)))
        if tasks:
            values |= _run_level(tasks, f"{number}: {_name(level)}", session, spill)
        for key in [key for key in values if last_use.get(key, number) <= number]:
            if key not in wanted:
                del values[key]
    return values


def _run_level(
    tasks: Sequence[Task], name: str, session: Session, spill: Spill
) -> dict[Hashable, Value]:
    keys = {task.key: task.payload.node.key for task in tasks}
    values: dict[Hashable, Value] = {}
    with attempts_of(session.engine, Stage(name, _GraphTask(spill), tasks)) as attempts:
        for attempt in attempts:
            if attempt.final:
                raise_original(attempt)
                values[keys[attempt.task_key]] = attempt.value
    return values


@dataclass(frozen=True)
class _TaskInput:
    node: GraphNode
    values: dict[Hashable, Value]


@dataclass(frozen=True)
class _GraphTask:
    """Runs one node of a graph, in the worker."""

    spill: Spill

    def __call__(self, task: _TaskInput) -> Value:
        with FetchAhead(task.values, self.spill.options) as fetched:
            needed = {key: fetched[key] for key in task.values}
        place = Place(str(task.node.key), 0)
        (value,) = self.spill.pack((task.node(needed),), 1, place)
        return value


def _levels(dependencies: Mapping[Hashable, set[Hashable]]) -> list[list[Hashable]]:
    """Return the keys in levels, each of which needs those before it only."""
    dependents: dict[Hashable, list[Hashable]] = {key: [] for key in dependencies}
    n_missing = {}
    for key, needed in dependencies.items():
        n_missing[key] = len(needed)
        for each in needed:
            dependents[each].append(key)
    levels: list[list[Hashable]] = []
    level = [key for key, n in n_missing.items() if n == 0]
    while level:
        levels.append(level)
        following = []
        for key in level:
            for dependent in dependents[key]:
                n_missing[dependent] -= 1
                if n_missing[dependent] == 0:
                    following.append(dependent)
        level = following
    return levels


def _name(keys: Iterable[Hashable]) -> str:
    """Return a name for a level: what its tasks do."""
    names = " | ".join(dict.fromkeys(key_split(key) for key in keys))
    if len(names) <= _LONGEST_STAGE_NAME:
        return names
    return f"{names[: _LONGEST_STAGE_NAME - 3]}..."
