"""Failures as data: an item that failed is a value, and the others of its partition survive."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from hstmap.bag.outcome import attempt_call, judged
from hstmap.bag.policy import retry_delay_s
from hstmap.bag.task import Attempt, RemoteError, raise_for
from hstmap.errors import TaskError

__all__ = [
    "Collecting",
    "Failure",
    "Place",
    "hold_back_failures",
    "lost_partition",
    "raise_original",
    "refuse_failures",
]

LONGEST_REPR = 200


@dataclass(frozen=True)
class Failure:
    """An item, or a whole partition, that failed with ``on_error="collect"``.

    It takes the place of the item: steps that work item by item hand it on untouched, and steps
    that need all items (`fold`, `groupby`, ...) refuse it with a
    `~hstmap.errors.TaskError`. `~hstmap.Bag.failures` and `~hstmap.Bag.drop_failures` tell the
    two kinds apart.

    Parameters
    ----------
    step : str
        The step that failed, such as ``"map-increment"``.
    partition : int
        Its partition.
    index : int or None
        Which item of the partition, as they reached that step, counted from 0. None: the whole
        partition failed (its worker was lost, say, or a function of partitions raised).
    item : str
        The item's repr, cut off at 200 characters; empty for a whole partition.
    type_name : str
        Qualified name of the exception.
    message : str
    traceback_text : str
        As Python prints it.
    """

    step: str
    partition: int
    index: int | None
    item: str
    type_name: str
    message: str
    traceback_text: str

    def __str__(self) -> str:
        what = "all of it" if self.index is None else f"item {self.index} ({self.item})"
        return f"{self.step}, partition {self.partition}, {what}: {self.type_name}: {self.message}"


@dataclass(frozen=True)
class Collecting:
    """That failures become data, and what is tried before.

    Parameters
    ----------
    retries : int
        Further calls for an item after exceptions that another call may mend.
    retry_on : tuple of exception classes
        Exceptions that another call may mend.
    """

    retries: int
    retry_on: tuple[type[BaseException], ...]


class Place(NamedTuple):
    """Where an operation is carried out.

    Parameters
    ----------
    step : str
        The step's label.
    partition : int
    collecting : Collecting, optional
        None: exceptions are raised.
    """

    step: str
    partition: int
    collecting: Collecting | None = None

    def call(self, index: int, item: Any, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function for an item.

        Parameters
        ----------
        index : int
            The item's position.
        item : object
            The item, for the repr.
        function : callable
        *args
            Its arguments.

        Returns
        -------
        object
            What it returned, or a `Failure` if it raised and failures are collected.

        Raises
        ------
        RuntimeError
            If it raised StopIteration, which would silently end the partition.
        Exception
            What it raised, with a note that says which item it was, unless failures are collected.
        """
        if self.collecting is None:
            try:
                return function(*args)
            except StopIteration as stop:
                raise RuntimeError(
                    f"{self.step}: the function raised StopIteration for item {index} of partition "
                    f"{self.partition}; this would have dropped the rest of the partition"
                ) from stop
            except BaseException as raised:
                shown = _short_repr(item)
                raised.add_note(f"{self.step}, partition {self.partition}, item {index}: {shown}")
                raise
        n_failures = 0
        while True:
            outcome = judged(attempt_call(function, *args), self.collecting.retry_on)
            if outcome.error is None:
                return outcome.value
            n_failures += 1
            if n_failures > self.collecting.retries or not outcome.error.retryable:
                return _failure(self, index, _short_repr(item), outcome.error)
            time.sleep(retry_delay_s(n_failures))

    def call_once(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function for the whole partition, which it may use up.

        Returns
        -------
        object
            What it returned, or a `Failure` if it raised what another attempt cannot mend and
            failures are collected.

        Raises
        ------
        Exception
            What it raised, else: the engine then tries the task again.
        """
        if self.collecting is None:
            return function(*args)
        outcome = judged(attempt_call(function, *args), self.collecting.retry_on)
        if outcome.error is None:
            return outcome.value
        if outcome.error.retryable and outcome.error.exception is not None:
            raise outcome.error.exception
        return _failure(self, None, "", outcome.error)

    def unpicklable(self, index: int, item: Any, error: RemoteError) -> Failure:
        """Return the failure that stands for an item that cannot leave the worker."""
        return _failure(self, index, _short_repr(item), error)


def lost_partition(place: Place, error: RemoteError) -> Failure:
    """Return the failure that stands for a partition whose task failed as a whole."""
    return _failure(place, None, "", error)


def _failure(place: Place, index: int | None, item: str, error: RemoteError) -> Failure:
    return Failure(
        step=place.step,
        partition=place.partition,
        index=index,
        item=item,
        type_name=error.type_name,
        message=error.message,
        traceback_text=error.traceback_text,
    )


def _short_repr(item: Any) -> str:
    try:
        text = repr(item)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        text = object.__repr__(item)
    return text if len(text) <= LONGEST_REPR else f"{text[: LONGEST_REPR - 3]}..."


def refuse_failures(part: Any, place: Place) -> Any:
    """Return a partition that holds no failed item, as lazily as it came.

    Parameters
    ----------
    part : object
        An iterator is checked as it is consumed, a list or tuple at once; anything else is not
        made of items and comes back as it is.
    place : Place

    Raises
    ------
    TaskError
        At the first failed item.
    """
    if isinstance(part, Iterator):
        return _refusing(part, place)
    if isinstance(part, list | tuple):
        for item in part:
            if type(item) is Failure:
                raise _refusal(item, place)
    return part


def _refusing(items: Iterator[Any], place: Place) -> Iterator[Any]:
    for item in items:
        if type(item) is Failure:
            raise _refusal(item, place)
        yield item


def _refusal(failure: Failure, place: Place) -> TaskError:
    return TaskError(
        f"{place.step} needs every item, and one of partition {place.partition} failed before: "
        f"{failure}. Put .drop_failures() before {place.step} to go on without the failed items, "
        "or look at them with .failures()",
        failure,
    )


def hold_back_failures(part: Any, held: list[Failure]) -> Any:
    """Return a partition without its failed items, which are put into `held` as they are met."""
    if isinstance(part, Iterator):
        return _holding_back(part, held)
    if isinstance(part, list | tuple) and any(type(item) is Failure for item in part):
        held.extend(item for item in part if type(item) is Failure)
        return [item for item in part if type(item) is not Failure]
    return part


def _holding_back(items: Iterable[Any], held: list[Failure]) -> Iterator[Any]:
    for item in items:
        if type(item) is Failure:
            held.append(item)
        else:
            yield item


def raise_original(attempt: Attempt) -> None:
    """Raise a failed attempt as an exception that is of the kind that its function raised, too.

    ``except ValueError`` then works as it does without an engine, and so does
    ``except TaskError``.

    Parameters
    ----------
    attempt : Attempt
        A final one.

    Raises
    ------
    TaskError
        Unless the attempt's status is ``ok``. Its class is also a subclass of the class of the
        function's exception, where that exception came back.
    """
    try:
        raise_for(attempt)
    except TaskError as error:
        original = attempt.error.exception if attempt.error else None
        if original is None or isinstance(original, TaskError):
            raise
        raise _in_kind(error, type(original)) from original


def _in_kind(error: TaskError, kind: type[BaseException]) -> TaskError:
    """Return the error as an instance of `kind` too, if Python can make such a class."""
    try:
        both = type(f"TaskError[{kind.__qualname__}]", (_KindOfTaskError, kind), {"kind": kind})
        made = both(error.message, error.attempt)
    except TypeError:
        return error  # the two cannot be one object: other slots, or other arguments
    return made if isinstance(made, TaskError) else error


class _KindOfTaskError(TaskError):
    kind: type[BaseException]

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_in_kind, (self.kind, self.message, self.attempt)


def _make_in_kind(kind: type[BaseException], message: str, attempt: Attempt) -> TaskError:
    return _in_kind(TaskError(message, attempt), kind)
