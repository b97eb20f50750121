"""What bags and items have in common: they are computed, planned, kept and shown."""

from __future__ import annotations

import functools
import html
from collections.abc import Iterable, Iterator
from typing import Any, Self

from hstmap.bag.engine import Engine
from hstmap.bag.execute import Execution, OnError
from hstmap.bag.graph import Node, Source, topological
from hstmap.bag.names import unique_name
from hstmap.bag.plan import Plan, Pricing, make_plan
from hstmap.bag.render import Drawing, count, draw
from hstmap.bag.session import ComputeOptions, engine_of_scheduler, open_session
from hstmap.bag.sources import Lease, kept_node
from hstmap.bag.values import load

__all__ = ["Collection", "compute", "stream"]

LARGEST_WINDOW = 256
"""Partitions that iteration computes at a time, at most."""


class Collection:
    """Something lazy: a node of a graph, and what can be done with one.

    Parameters
    ----------
    node : Node
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    @property
    def _args(self) -> tuple[Node]:
        """What `type(self)` makes an equal collection of."""
        return (self._node,)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._args

    @property
    def npartitions(self) -> int:
        """Number of partitions."""
        return self._node.n_partitions

    @functools.cached_property
    def name(self) -> str:
        """What this does and a token: the same for what was built in the same way."""
        return unique_name(self._node)

    def __repr__(self) -> str:
        kind = f"hstmap.{type(self).__name__}"
        return f"{kind}<{self._node.label}, npartitions={self.npartitions}>"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        steps = [node.label for node in topological([self._node])]
        return (
            f"<table><tr><th>{html.escape(type(self).__name__)}</th>"
            f"<td>{html.escape(self._node.label)}</td></tr>"
            f"<tr><th>partitions</th><td>{self.npartitions:,}</td></tr>"
            f"<tr><th>{count(len(steps), 'step')}</th>"
            f"<td>{html.escape(' → '.join(steps[-8:]))}</td></tr></table>"
        )

    def compute(
        self,
        engine: Engine | str | None = None,
        *,
        on_error: OnError | None = None,
        retries: int | None = None,
        timeout_s: float | None = None,
        spill_url: str | None = None,
        scheduler: str | None = None,
    ) -> Any:
        """Run everything that this needs and return the result.

        Parameters
        ----------
        engine : Engine or {"inprocess", "lithops"}, optional
            Where the tasks run. By default on the engine of the `hstmap.use_engine` around it,
            else one after another in this process. An engine given by its name is closed at the
            end; `hstmap.use_engine` keeps its workers for the next computation.
        on_error : {"raise", "collect"}, optional
            ``raise`` (default): the first task that fails for good ends the computation.
            ``collect``: an item whose function raises becomes a `hstmap.Failure`, as does a
            partition whose task fails for good, and the others survive.
        retries : int, optional
            Further attempts for failures that another attempt can mend (default 2).
        timeout_s : float, optional
            Longest time of one attempt of one task, s.
        spill_url : str, optional
            Folder or ``s3://`` prefix for results that are too large to come back inline; what is
            stored there is removed at the end.
        scheduler : str, optional
            For code that was written for dask: ``"sync"`` means ``engine="inprocess"``.

        Returns
        -------
        object
            Of a bag a list of its items, of an item its value.

        Raises
        ------
        TaskError
            If a task fails for good. It is also of the class of the function's own exception, so
            that ``except ValueError`` works as without an engine.
        EngineError
            If the engine cannot run.
        UsageError
            If options are not known, or not the engine's to change.

        Notes
        -----
        Differs from `dask.bag`: an engine takes the place of a scheduler, and keywords that are
        not known are refused.
        """
        if scheduler is not None:
            engine = engine_of_scheduler(scheduler)
        options = ComputeOptions(engine, on_error, retries, timeout_s, spill_url)
        return _compute_all([self], options)[0]

    def persist(
        self,
        engine: Engine | str | None = None,
        *,
        on_error: OnError | None = None,
        retries: int | None = None,
        timeout_s: float | None = None,
        spill_url: str | None = None,
    ) -> Self:
        """Run everything that this needs and return it with its results kept.

        Small results are kept in this process, and large ones in storage if there is a spill URL:
        these are removed when nothing refers to them any more, at the end of the process at the
        latest.

        Parameters
        ----------
        engine, on_error, retries, timeout_s, spill_url
            As for `compute`.

        Returns
        -------
        Bag or Item
            The same, with nothing left to run.

        Raises
        ------
        TaskError, EngineError, UsageError
            As `compute`.
        """
        if isinstance(self._node.operation, Source):
            return self  # it has nothing left to run already
        options = ComputeOptions(engine, on_error, retries, timeout_s, spill_url)
        with open_session(options) as session:
            spill = session.new_spill()
            lease = Lease(spill)
            plan = make_plan([self._node])
            execution = Execution(plan, session.engine, session.on_error, spill)
            try:
                execution.run()
            except BaseException:
                lease.end()
                raise
            (target,) = plan.targets
            values = execution.values(target)
        return self._with_node(kept_node(self._node.label, values, lease, scalar=self._node.scalar))

    def plan(self, *, pricing: Pricing | None = None) -> Plan:
        """Return what `compute` will run, frozen: stages, tasks, fused steps, bytes.

        Parameters
        ----------
        pricing : callable, optional
            Takes the plan; what it returns becomes the plan's ``price``.

        Returns
        -------
        Plan
            Readable in a terminal and in a notebook.

        Notes
        -----
        `dask.bag` has nothing like it.
        """
        return make_plan([self._node], pricing=pricing)

    def visualize(self, filename: str | None = None) -> Drawing:
        """Draw what `compute` will run.

        Parameters
        ----------
        filename : str, optional
            Where to write it: ``.svg`` (needs Graphviz), ``.txt`` or ``.dot``.

        Returns
        -------
        Drawing
            Prints as text; notebooks show it as SVG if Graphviz is installed.

        Raises
        ------
        UsageError
            If the name ends otherwise, or for ``.svg`` without Graphviz.

        Notes
        -----
        Differs from `dask.bag`: shows stages and what shares a task, not every single task; no
        file is written unless one is named.
        """
        drawing = draw(self.plan())
        if filename is not None:
            drawing.save(filename)
        return drawing

    def _with_node(self, node: Node) -> Self:
        """Return the same for another node."""
        return type(self)(node)

    def _finish(self, parts: Iterable[Any]) -> Any:
        """Return the result from the values of the partitions."""
        raise NotImplementedError


def compute(
    *collections: Any,
    engine: Engine | str | None = None,
    on_error: OnError | None = None,
    retries: int | None = None,
    timeout_s: float | None = None,
    spill_url: str | None = None,
    scheduler: str | None = None,
) -> tuple[Any, ...]:
    """Compute several collections together: what they share is computed once.

    Parameters
    ----------
    *collections : Bag, Item or object
        Also in lists, tuples and dicts; anything else comes back as it is.
    engine, on_error, retries, timeout_s, spill_url, scheduler
        As for `Bag.compute`.

    Returns
    -------
    tuple
        A result for each argument.

    Raises
    ------
    TaskError, EngineError, UsageError
        As `Bag.compute`.
    """
    if scheduler is not None:
        engine = engine_of_scheduler(scheduler)
    options = ComputeOptions(engine, on_error, retries, timeout_s, spill_url)
    found = list(_collections_in(collections))
    results = iter(_compute_all(found, options)) if found else iter(())
    computed: tuple[Any, ...] = _replaced(collections, results)
    return computed


def _collections_in(thing: Any) -> Iterator[Collection]:
    if isinstance(thing, Collection):
        yield thing
    elif type(thing) in (list, tuple):
        for part in thing:
            yield from _collections_in(part)
    elif type(thing) is dict:
        for part in thing.values():
            yield from _collections_in(part)


def _replaced(thing: Any, results: Iterator[Any]) -> Any:
    """Return the thing with each collection's result in its place."""
    if isinstance(thing, Collection):
        return next(results)
    if type(thing) in (list, tuple):
        return type(thing)(_replaced(part, results) for part in thing)
    if type(thing) is dict:
        return {key: _replaced(part, results) for key, part in thing.items()}
    return thing


def _compute_all(collections: list[Collection], options: ComputeOptions) -> list[Any]:
    with open_session(options) as session:
        spill = session.new_spill()
        plan = make_plan([collection._node for collection in collections])
        execution = Execution(plan, session.engine, session.on_error, spill)
        try:
            execution.run()
            return [
                collection._finish(execution.fetch(target))
                for collection, target in zip(collections, plan.targets, strict=True)
            ]
        finally:
            spill.remove()


def stream(collection: Collection) -> Iterator[Any]:
    """Yield the partitions of a collection, which are computed a few at a time.

    Windows begin with one partition and double, so that the first items come soon and workers
    are busy later.
    """
    node = collection._node
    if isinstance(node.operation, Source):
        for partition in range(node.n_partitions):
            yield load(node.operation.partition(partition))
        return
    with open_session(ComputeOptions()) as session:
        spill = session.new_spill()
        plan = make_plan([node])
        execution = Execution(plan, session.engine, session.on_error, spill)
        try:
            for stage in plan.stages[:-1]:
                execution.run_stage(stage)
            start, size = 0, 1
            while start < node.n_partitions:
                window = range(start, min(start + size, node.n_partitions))
                execution.run_window(window)
                yield from execution.take(window)
                start, size = window.stop, min(2 * size, LARGEST_WINDOW)
        finally:
            spill.remove()
