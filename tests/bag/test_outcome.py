"""The boundary of a worker: whatever a function does, something comes of it that can be told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hstmap
from hstmap.bag.engine import EngineOptions, InProcessEngine, Stage, Task
from hstmap.bag.outcome import attempt_call, judged, peak_memory_nbytes, reset_peak_memory
from hstmap.bag.policy import TRANSIENT_ERRORS
from hstmap.bag.wire import Packer, Program, perform
from hstmap.errors import EngineError, TaskError


class WordlessError(ValueError):
    """An exception that cannot be made text, as one that holds an object whose repr fails."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class NumberedError(ValueError):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]  # noqa: PLE0307 - that is what is wrong with it


class OwnKindError(BaseException):
    """What is no Exception: libraries that control flow by exceptions have such."""


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def function(*_: Any) -> NoReturn:
        raise error

    return function


@given(st.none() | st.integers() | st.lists(st.text()))
def test_what_is_returned_is_the_outcome(value: Any) -> None:
    outcome = attempt_call(lambda given: given, value)
    assert (outcome.status, outcome.error) == ("ok", None)
    assert outcome.value is value


@pytest.mark.parametrize(
    ("error", "type_name", "message"),
    [
        (ValueError("two words"), "ValueError", "two words"),
        (KeyError("key"), "KeyError", "'key'"),
        (ValueError(), "ValueError", ""),
        (EngineError("gone"), "hstmap.errors.EngineError", "gone"),
        (StopIteration(3), "StopIteration", "3"),
        (ValueError("a\nb \ud800"), "ValueError", "a\nb \ud800"),
        (asyncio.CancelledError("late"), "asyncio.exceptions.CancelledError", "late"),
        (GeneratorExit(), "GeneratorExit", ""),
        (RecursionError("deep"), "RecursionError", "deep"),
        (ExceptionGroup("two", [ValueError(1), KeyError(2)]), "ExceptionGroup",
         "two (2 sub-exceptions)"),
    ],
)  # fmt: skip
def test_whatever_is_raised_is_described(
    error: BaseException, type_name: str, message: str
) -> None:
    outcome = attempt_call(raising(error))
    assert outcome.status == "error"
    assert outcome.error is not None
    assert (outcome.error.type_name, outcome.error.message) == (type_name, message)
    assert outcome.error.exception is error
    assert not outcome.error.retryable
    # The traceback begins with the function's own frame: the boundary's are nobody's business.
    assert "in attempt_call" not in outcome.error.traceback_text
    assert "in function" in outcome.error.traceback_text


@pytest.mark.parametrize("error", [WordlessError(), NumberedError()])
def test_an_exception_without_words_is_one_all_the_same(error: Exception) -> None:
    outcome = attempt_call(raising(error))
    assert outcome.error is not None
    assert outcome.error.type_name.endswith(type(error).__qualname__)
    assert "str() failed" in outcome.error.message
    assert "in function" in outcome.error.traceback_text


def test_causes_are_part_of_the_story() -> None:
    def function() -> None:
        try:
            raise KeyError("first")
        except KeyError as first:
            raise ValueError("second") from first

    error = attempt_call(function).error
    assert error is not None
    assert error.traceback_text.index("KeyError") < error.traceback_text.index("direct cause")
    assert error.traceback_text.rstrip().endswith("ValueError: second")


@pytest.mark.parametrize(("code", "told"), [(None, ""), (0, "0"), (3, "3"), ("bye", "'bye'")])
def test_leaving_the_process_is_a_loss_that_may_pass(code: Any, told: str) -> None:
    outcome = attempt_call(raising(SystemExit(code)))
    assert outcome.status == "lost"
    assert outcome.error is not None
    assert outcome.error.message == f"the function left by sys.exit({told})"
    assert outcome.error.retryable


def test_ctrl_c_is_the_users_and_no_outcome() -> None:
    with pytest.raises(KeyboardInterrupt):
        attempt_call(raising(KeyboardInterrupt()))


@pytest.mark.parametrize(
    ("error", "retry_on", "verdict"),
    [
        (ConnectionError(), TRANSIENT_ERRORS, True),
        (ValueError(), TRANSIENT_ERRORS, False),
        (ValueError(), (ValueError,), True),
        (OwnKindError(), TRANSIENT_ERRORS, False),
        (OwnKindError(), (OwnKindError,), True),
    ],
)
def test_who_asks_decides_what_is_tried_again(
    error: BaseException, retry_on: tuple[type[BaseException], ...], verdict: bool
) -> None:
    outcome = judged(attempt_call(raising(error)), retry_on)
    assert outcome.error is not None
    assert outcome.error.retryable is verdict


def test_what_ended_well_or_by_leaving_is_not_judged_anew() -> None:
    for function in (lambda: 1, raising(SystemExit())):
        outcome = attempt_call(function)
        assert judged(outcome, ()) is outcome


# -- through the wire, the engine and the bag ------------------------------------------------------

ODD = [WordlessError(), NumberedError(), OwnKindError("odd"), asyncio.CancelledError("late")]


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
def test_a_worker_outlives_any_exception(error: BaseException) -> None:
    packer = Packer(shared_path=True)
    stage = Stage("test", raising(error), [])
    program = Program(packer.pack_program(stage, TRANSIENT_ERRORS))
    payload = packer.pack_payload(1)
    assert isinstance(payload, bytes)
    reply = perform(program, payload)
    assert reply.status == "error"
    assert reply.error is not None
    assert reply.error.type_name.endswith(type(error).__qualname__)
    assert reply.pid == os.getpid()


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
def test_it_ends_its_task_and_no_other(error: BaseException) -> None:
    def function(number: int) -> int:
        if number == 1:
            raise error
        return number

    tasks = [Task(str(number), number) for number in range(3)]
    with InProcessEngine(EngineOptions(retries=0)) as engine:
        attempts = list(engine.run(Stage("test", function, tasks)))
    assert [attempt.status for attempt in attempts] == ["ok", "error", "ok"]


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
def test_of_a_bag_it_is_one_item(error: BaseException) -> None:
    def function(number: int) -> int:
        if number == 1:
            raise error
        return number

    bag = hstmap.range(3, npartitions=1).map(function)
    zero, failure, two = bag.compute(on_error="collect")
    assert (zero, two) == (0, 2)
    assert isinstance(failure, hstmap.Failure)
    assert failure.type_name.endswith(type(error).__qualname__)
    assert failure.index == 1
    with pytest.raises(TaskError) as raised:
        bag.compute()
    assert isinstance(raised.value, type(error))


# -- memory ----------------------------------------------------------------------------------------


def test_the_peak_of_memory_is_that_since_it_was_reset() -> None:
    before = peak_memory_nbytes()
    assert before > 1 << 20
    block = bytearray(64 << 20)
    block[::4096] = b"x" * len(block[::4096])  # touched, so that it is really there
    peak = peak_memory_nbytes()
    assert peak >= before
    assert peak >= 64 << 20
    del block
    reset_peak_memory()
    assert peak_memory_nbytes() <= peak
