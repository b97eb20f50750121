"""What travels by value and what by name, and what comes back."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hstmap.bag.engine import RemoteError, Stage
from hstmap.bag.policy import TRANSIENT_ERRORS
from hstmap.bag.transport import Call, CallEnded, CallNames
from hstmap.bag.wire import Packer, Program, call_ended, call_lost, perform
from hstmap.errors import EngineError, UsageError


def travel(function: Callable[[Any], Any], payload: Any) -> CallEnded:
    """Make an attempt here, through everything that it would pass on its way."""
    packer = Packer(shared_path=True)
    program = packer.pack_program(Stage("test", function, []), TRANSIENT_ERRORS)
    packed = packer.pack_payload(payload)
    assert isinstance(packed, bytes)
    reply = pickle.loads(pickle.dumps(perform(Program(program), packed)))
    return call_ended(7, reply, cold=False, nbytes_in=len(packed))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=50, deadline=None)
@given(JSON)
def test_values_come_back_equal(value: Any) -> None:
    assert travel(lambda given: given, value).value == value


def test_arrays_come_back_equal() -> None:
    array = np.arange(12, dtype=">f4").reshape(3, 4)
    found = travel(lambda given: given, array)
    np.testing.assert_array_equal(found.value, array)
    assert found.value.dtype == array.dtype
    assert found.nbytes_out > array.nbytes


def test_calls_that_cannot_travel_have_ended_and_the_others_keep_their_order() -> None:
    calls = [Call(1, "one"), Call(2, threading.Lock()), Call(3, "three", 5.0)]
    packed, refused = Packer(shared_path=True).pack_calls(calls)
    assert [(call, pickle.loads(payload)) for call, payload in packed] == [
        (calls[0], "one"), (calls[2], "three")
    ]  # fmt: skip
    (end,) = refused
    assert (end.call_id, end.status) == (2, "unpicklable")
    assert end.error is not None
    assert "the payload cannot be pickled" in end.error.message
    assert not end.error.retryable


@pytest.mark.parametrize("names", [None, CallNames("request", "call")])
def test_a_call_that_is_lost_may_be_made_again(names: CallNames | None) -> None:
    end = call_lost(7, "it is gone", 123, names)
    assert (end.call_id, end.status, end.nbytes_in) == (7, "lost", 123)
    assert end.error is not None
    assert (end.error.type_name, end.error.message) == ("WorkerLost", "it is gone")
    assert end.error.retryable
    assert end.names == (names or CallNames())


class ComesApart:
    """Can be pickled, and not be made again."""

    def __reduce__(self) -> Any:
        return int, ("not a number",)


def test_a_value_that_cannot_be_made_again_is_told() -> None:
    report = travel(lambda _: ComesApart(), None)
    assert report.status == "unpicklable"
    assert report.error is not None
    assert "cannot be unpickled by the client" in report.error.message
    assert not report.error.retryable


def test_the_type_that_cannot_be_pickled_is_named() -> None:
    report = travel(lambda _: (number for number in range(3)), None)
    assert report.status == "unpicklable"
    assert report.error is not None
    assert "generator" in report.error.message


def test_a_payload_that_cannot_be_made_again_is_the_worker_s_error() -> None:
    report = travel(len, ComesApart())
    assert report.status == "error"
    assert report.error is not None
    assert report.error.type_name == "ValueError"


def test_errors_say_whether_another_attempt_can_help() -> None:
    def fail(error: type[Exception]) -> None:
        raise error("away")

    flaky, stuck = travel(fail, ConnectionError), travel(fail, UsageError)
    assert flaky.error is not None
    assert stuck.error is not None
    assert (flaky.error.retryable, stuck.error.retryable) == (True, False)
    assert stuck.error.type_name == "hstmap.errors.UsageError"
    assert isinstance(stuck.error.exception, UsageError)


def test_causes_are_told_in_the_traceback() -> None:
    def fail(_: object) -> None:
        try:
            raise KeyError("deep")
        except KeyError as error:
            raise RuntimeError("shallow") from error

    report = travel(fail, None)
    assert report.error is not None
    assert "KeyError: 'deep'" in report.error.traceback_text
    assert "direct cause" in report.error.traceback_text


def test_a_program_that_cannot_be_loaded_is_an_error_of_its_attempts() -> None:
    program = cloudpickle.dumps((ComesApart(), TRANSIENT_ERRORS))
    reply = perform(Program(program), pickle.dumps(1))
    assert reply.status == "error"
    assert reply.error is not None
    assert not reply.error.retryable


def test_a_function_that_cannot_be_pickled_is_refused() -> None:
    generator = (number for number in range(3))
    with pytest.raises(EngineError, match=r"stage 'test' .* or use the engine 'inprocess'"):
        Packer(shared_path=True).pack_program(Stage("test", lambda _: next(generator), []), ())


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of a user, imported from beside a script."""
    (tmp_path / "user_module.py").write_text(
        "def helper(x):\n    return x + 1\n\ndef f(x):\n    return helper(x) * 2\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "user_module", raising=False)
    import user_module  # type: ignore[import-not-found]

    return user_module


def program_of(function: Callable[[Any], Any], *, shared_path: bool) -> bytes:
    return Packer(shared_path=shared_path).pack_program(Stage("test", function, []), ())


def load_elsewhere(program: bytes) -> str:
    """Call a program with 20 in an interpreter that has only what is installed."""
    script = textwrap.dedent("""
        import sys
        from hstmap.bag.wire import Program
        import pickle
        print(Program(sys.stdin.buffer.read()).run(pickle.dumps(20)))
    """)
    told = subprocess.run(
        [sys.executable, "-c", script], input=program, capture_output=True, check=False
    )
    return (told.stdout or told.stderr).decode().strip().splitlines()[-1]


def test_a_module_of_the_user_travels_to_where_it_is_not(user_module: Any) -> None:
    assert load_elsewhere(program_of(user_module.f, shared_path=False)) == "42"


def test_a_module_of_the_user_goes_by_name_to_where_it_is(user_module: Any) -> None:
    assert "No module named" in load_elsewhere(program_of(user_module.f, shared_path=True))


def test_what_is_installed_goes_by_name(user_module: Any) -> None:
    program = program_of(np.linalg.norm, shared_path=False)
    assert len(program) < 1000
    assert load_elsewhere(program) == "20.0"


def test_modules_that_the_user_registered_stay_registered(user_module: Any) -> None:
    cloudpickle.register_pickle_by_value(user_module)
    try:
        program_of(user_module.f, shared_path=False)
        assert "user_module" in cloudpickle.list_registry_pickle_by_value()
    finally:
        cloudpickle.unregister_pickle_by_value(user_module)
    program_of(user_module.f, shared_path=False)
    assert "user_module" not in cloudpickle.list_registry_pickle_by_value()


def test_classes_that_travelled_are_ours_when_they_come_back() -> None:
    class LocalError(Exception):
        pass

    def fail(_: object) -> None:
        raise LocalError("here")

    report = travel(fail, None)
    assert report.error is not None
    assert isinstance(report.error.exception, LocalError)
    assert isinstance(report.error, RemoteError)
