"""Carries plans out on an engine."""

from __future__ import annotations

import contextlib
import dataclasses
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hstmap.bag.engine import Attempt, Engine, RemoteError, Stage, Task
from hstmap.bag.failures import Collecting, Place, lost_partition, raise_original
from hstmap.bag.graph import Node, Source
from hstmap.bag.plan import Fused, Plan, PlannedStage
from hstmap.bag.program import InputKey, StageFunction, TaskInput
from hstmap.bag.values import Direct, Spill, Value, fetch_all

__all__ = ["Execution", "OnError", "attempts_of"]

OnError = Literal["raise", "collect"]

LONGEST_NAME = 80
"""Stages are named in every attempt, and so in every line of the ledger."""

_Results = dict[tuple[Node, int], list[Value]]


@contextlib.contextmanager
def attempts_of(engine: Engine, stage: Stage) -> Iterator[Iterator[Attempt]]:
    """Run a stage for a ``with`` block; calls that are under way at its end are ended."""
    attempts = engine.run(stage)
    try:
        yield attempts
    finally:
        close = getattr(attempts, "close", None)
        if close is not None:
            close()


@dataclass(frozen=True)
class _Submitted:
    """What a task was made of."""

    fused: Fused
    partition: int


class Execution:
    """One plan on its way.

    Parameters
    ----------
    plan : Plan
    engine : Engine
    on_error : {"raise", "collect"}
    spill : Spill
    """

    def __init__(self, plan: Plan, engine: Engine, on_error: OnError, spill: Spill) -> None:
        self._plan = plan
        self._engine = engine
        options = engine.options
        self._collecting = (
            Collecting(options.retries, options.retry_on) if on_error == "collect" else None
        )
        self._spill = spill
        self._results: _Results = {}
        self._last_use = _last_use(plan)

    def run(self) -> None:
        """Run all stages.

        Raises
        ------
        TaskError
            If a task failed for good, unless failures are collected and it can become one.
        EngineError
            If the engine cannot run.
        """
        for stage in self._plan.stages:
            self.run_stage(stage)

    def run_stage(self, stage: PlannedStage) -> None:
        """Run one stage; those before it must have been run."""
        self._run_tasks(stage)
        self._forget(stage.level)

    def run_window(self, partitions: Sequence[int]) -> None:
        """Run some of the tasks of the last stage; those before it must have been run."""
        last = self._plan.stages[-1]
        (fused,) = last.parts
        window = dataclasses.replace(fused, partitions=partitions)
        self._run_tasks(dataclasses.replace(last, parts=(window,)))

    def _run_tasks(self, stage: PlannedStage) -> None:
        tasks: list[Task] = []
        submitted: dict[str, _Submitted] = {}
        shared: list[dict[InputKey, Value]] = []
        for number, fused in enumerate(stage.parts):
            common = dict(self._common_inputs(fused))
            shared.append(common)
            label = fused.program.last.label
            for partition in fused.partitions:
                key = f"{stage.level}.{number} {label}[{partition}]"
                keys = fused.program.input_keys(partition)
                values = {
                    each: self._value(fused.inputs[each.number], each)
                    for each in keys
                    if each not in common
                }
                tasks.append(Task(key, TaskInput(number, partition, values)))
                submitted[key] = _Submitted(fused, partition)
        programs = tuple(fused.program for fused in stage.parts)
        function = StageFunction(programs, tuple(shared), self._collecting, self._spill)
        name = textwrap.shorten(f"{stage.level}: {stage.name}", LONGEST_NAME, placeholder=" ...")
        with attempts_of(self._engine, Stage(name, function, tasks)) as attempts:
            for attempt in attempts:
                if attempt.final:
                    self._take(attempt, submitted[attempt.task_key])

    def values(self, target: Node) -> list[Value]:
        """Return the results of a target, one value for each partition."""
        wanted = range(target.n_partitions)
        if isinstance(target.operation, Source):
            return [target.operation.partition(partition) for partition in wanted]
        return [self._results[target, partition][0] for partition in wanted]

    def fetch(self, target: Node) -> Iterator[Any]:
        """Yield the results of a target, partition by partition."""
        yield from fetch_all(self.values(target), self._spill.options)

    def take(self, partitions: Sequence[int]) -> Iterator[Any]:
        """Yield results of the only target, and let go of them."""
        (target,) = self._plan.targets
        values = [self._results.pop((target, partition))[0] for partition in partitions]
        yield from fetch_all(values, self._spill.options)

    def _common_inputs(self, fused: Fused) -> Iterator[tuple[InputKey, Value]]:
        """Yield the inputs that all tasks need: these travel with the function."""
        for number, node in enumerate(fused.inputs):
            if node.n_partitions == 1 and fused.n_tasks > 1 and not node.operation.scatters:
                key = InputKey(number, 0, None)
                yield key, self._value(node, key)

    def _value(self, node: Node, key: InputKey) -> Value:
        if isinstance(node.operation, Source):
            return node.operation.partition(key.partition)
        return self._results[node, key.partition][key.piece or 0]

    def _take(self, attempt: Attempt, submitted: _Submitted) -> None:
        where = (submitted.fused.root, submitted.partition)
        if attempt.status == "ok":
            self._results[where] = attempt.value
            return
        steps = submitted.fused.program.steps
        if self._collecting is None or not all(step.operation.keeps_failures for step in steps):
            raise_original(attempt)
        place = Place(submitted.fused.name, submitted.partition, self._collecting)
        error = attempt.error or RemoteError(attempt.status, "no reason is known")
        lost = [lost_partition(place, error)]
        n_pieces = steps[-1].operation.n_pieces
        self._results[where] = [Direct(lost), *(Direct([]) for _ in range(n_pieces - 1))]

    def _forget(self, level: int) -> None:
        """Let go of results that no later stage needs."""
        done = [where for where in self._results if self._last_use[where[0]] <= level]
        for where in done:
            del self._results[where]


def _last_use(plan: Plan) -> dict[Node, float]:
    """Return the last stage that needs each node's results; infinity for targets."""
    last_use: dict[Node, float] = {}
    for stage in plan.stages:
        for fused in stage.parts:
            last_use[fused.root] = stage.level
            for node in fused.inputs:
                last_use[node] = stage.level
    for target in plan.targets:
        last_use[target] = float("inf")
    return last_use
