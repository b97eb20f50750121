"""What a task does: steps that were fused, carried out for one partition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from hstmap.bag.failures import Collecting, Place
from hstmap.bag.graph import Need, Operation
from hstmap.bag.values import FetchAhead, Spill, Value

__all__ = ["InputKey", "Program", "StageFunction", "Step", "TaskInput", "reify"]


class InputKey(NamedTuple):
    """A partition, or a piece of one, that comes from outside the task.

    Parameters
    ----------
    number : int
        Which of the program's inputs.
    partition : int
    piece : int, optional
    """

    number: int
    partition: int
    piece: int | None


@dataclass(frozen=True)
class Step:
    """An operation of a program.

    Parameters
    ----------
    label : str
    operation : Operation
    parents : tuple of int
        Where each parent is: the step of that number, or ``~number`` for an input.
    is_shared : bool
        Whether several steps use it: it is then carried out once and its items are held.
    """

    label: str
    operation: Operation
    parents: tuple[int, ...]
    is_shared: bool


@dataclass(frozen=True)
class Program:
    """Steps that one task carries out for one partition of the last of them.

    Parameters
    ----------
    steps : tuple of Step
        Parents before children.
    """

    steps: tuple[Step, ...]

    @property
    def last(self) -> Step:
        """The step whose partitions are the results."""
        return self.steps[-1]

    def input_keys(self, partition: int) -> list[InputKey]:
        """Return what a partition of the last step needs from outside, in the order of use."""
        found: dict[InputKey, None] = {}
        visited: set[tuple[int, int]] = set()
        stack: list[tuple[int, Need]] = [(len(self.steps) - 1, Need(0, partition))]
        while stack:
            where, need = stack.pop()
            if where < 0:
                found[InputKey(~where, need.partition, need.piece)] = None
            elif (where, need.partition) not in visited:
                visited.add((where, need.partition))
                step = self.steps[where]
                needs = step.operation.needs(need.partition)
                stack.extend((step.parents[below.parent], below) for below in reversed(needs))
        return list(found)

    def evaluate(self, partition: int, inputs: _Inputs, collecting: Collecting | None) -> Any:
        """Carry the steps out for one partition of the last.

        Parameters
        ----------
        partition : int
        inputs : mapping of InputKey to object
        collecting : Collecting, optional
            Whether and when exceptions of the user's functions become failed items.

        Returns
        -------
        object
            What the last operation gives, with nothing lazy left in it unless it scatters.
        """
        return _Evaluation(self, inputs, collecting).result(partition)


class _Evaluation:
    """One run of a program."""

    def __init__(self, program: Program, inputs: _Inputs, collecting: Collecting | None) -> None:
        self._program = program
        self._inputs = inputs
        self._collecting = collecting
        self._shared: dict[tuple[int, int], Any] = {}

    def result(self, partition: int) -> Any:
        made = self._make(len(self._program.steps) - 1, partition)
        return made if self._program.last.operation.scatters else reify(made)

    def _make(self, number: int, partition: int) -> Any:
        if (number, partition) in self._shared:
            return self._shared[number, partition]
        step = self._program.steps[number]
        values = self._values(step, partition)
        place = Place(step.label, partition, self._collecting)
        made = step.operation.evaluate(values, place)
        if step.is_shared:
            made = self._shared[number, partition] = reify(made)
        return made

    def _values(self, step: Step, partition: int) -> Iterator[Any]:
        for need in step.operation.needs(partition):
            where = step.parents[need.parent]
            if where >= 0:
                yield self._make(where, need.partition)
            else:
                yield self._inputs[InputKey(~where, need.partition, need.piece)]


def reify(part: Any) -> Any:
    """Return a partition with nothing lazy in it: iterators, and iterators in them, as lists."""
    if isinstance(part, Iterator):
        part = list(part)
    if isinstance(part, list) and part and isinstance(part[0], Iterator):
        part = [list(item) if isinstance(item, Iterator) else item for item in part]
    return part


@dataclass(frozen=True)
class TaskInput:
    """The payload of a task.

    Parameters
    ----------
    program : int
        Which of the stage's programs.
    partition : int
    values : dict of InputKey to Value
        What this task alone needs; see `StageFunction` for the rest.
    """

    program: int
    partition: int
    values: dict[InputKey, Value]


@dataclass(frozen=True)
class StageFunction:
    """The function of a stage.

    Parameters
    ----------
    programs : tuple of Program
    shared : tuple of dict
        For each program, the values that all its tasks need: scalars and small collections.
    collecting : Collecting, optional
        Whether and when exceptions of the user's functions become failed items.
    spill : Spill
        Where results go.
    """

    programs: tuple[Program, ...]
    shared: tuple[dict[InputKey, Value], ...]
    collecting: Collecting | None
    spill: Spill

    def __call__(self, task: TaskInput) -> list[Value]:
        """Carry out a task.

        Parameters
        ----------
        task : TaskInput

        Returns
        -------
        list of Value
            The partition, or the pieces of one that is scattered.
        """
        program = self.programs[task.program]
        operation = program.last.operation
        place = Place(program.last.label, task.partition, self.collecting)
        values = {**self.shared[task.program], **task.values}
        with FetchAhead(values, self.spill.options) as fetched:
            made = program.evaluate(task.partition, fetched, self.collecting)
            pieces = made if operation.scatters else (made,)
            return self.spill.pack(pieces, operation.n_pieces, place)


_Inputs: TypeAlias = Mapping[InputKey, Any] | FetchAhead
