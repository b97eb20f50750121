"""Which failures are tried again, and after how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.bag.policy import TRANSIENT_ERRORS, grown_limit_s, is_retryable, retry_delay_s
from hstmap.bag.task import EngineOptions
from hstmap.errors import (
    ForbiddenObjectError,
    MissingObjectError,
    RejectedImageError,
    StorageError,
    UsageError,
)


class TransientOfUserError(ConnectionError):
    """A user's own kind of a transient error."""


class PermanentOfUserError(FileNotFoundError):
    """A user's own kind of a permanent one."""


@pytest.mark.parametrize(
    "error_type",
    [
        OSError,
        ConnectionResetError,
        TimeoutError,
        BrokenPipeError,
        StorageError,
        TransientOfUserError,
    ],
)
def test_what_may_pass_away_is_tried_again(error_type: type[BaseException]) -> None:
    assert is_retryable(error_type)


@pytest.mark.parametrize(
    "error_type",
    [
        ValueError,
        TypeError,
        ZeroDivisionError,
        MemoryError,
        KeyError,
        ImportError,
        RecursionError,
        FileNotFoundError,
        PermissionError,
        IsADirectoryError,
        MissingObjectError,
        ForbiddenObjectError,
        RejectedImageError,
        UsageError,
        PermanentOfUserError,
    ],
)
def test_what_stays_is_not(error_type: type[BaseException]) -> None:
    assert not is_retryable(error_type)


def test_callers_may_widen_and_narrow_it() -> None:
    assert is_retryable(ValueError, (ValueError,))
    assert is_retryable(UnicodeDecodeError, (ValueError,))
    assert not is_retryable(ConnectionError, (ValueError,))
    assert not is_retryable(ConnectionError, ())
    assert is_retryable(FileNotFoundError, (*TRANSIENT_ERRORS, FileNotFoundError))
    assert is_retryable(PermanentOfUserError, (PermanentOfUserError,))


def test_the_nearest_class_decides() -> None:
    # A FileNotFoundError is an OSError, and that is asked for; but the nearer class is permanent.
    assert not is_retryable(FileNotFoundError, (OSError,))
    assert is_retryable(TransientOfUserError, (Exception,))


def test_delays_double_up_to_a_limit() -> None:
    assert [retry_delay_s(n) for n in range(1, 5)] == [0.1, 0.2, 0.4, 0.8]
    assert retry_delay_s(50) == 10.0


@given(st.integers(1, 1000))
def test_delays_never_shrink(n_failures: int) -> None:
    assert retry_delay_s(n_failures) <= retry_delay_s(n_failures + 1) <= 10.0


# -- time limits -----------------------------------------------------------------------------------


def test_a_short_limit_grows_until_the_last_attempt_has_the_whole() -> None:
    options = EngineOptions(retries=3, first_timeout_s=5, timeout_s=60)
    assert [options.limit_s(number) for number in range(1, 6)] == [5, 20, 60, 60, 60]
    no_end = EngineOptions(retries=2, first_timeout_s=5)
    assert [no_end.limit_s(number) for number in range(1, 5)] == [5, 20, None, None]


@pytest.mark.parametrize("limit_s", [None, 7.0])
def test_without_a_short_limit_all_attempts_have_the_same(limit_s: float | None) -> None:
    options = EngineOptions(timeout_s=limit_s)
    assert {options.limit_s(number) for number in range(1, 9)} == {limit_s}


@given(
    first_s=st.floats(0.1, 900),
    longest_s=st.none() | st.floats(0.1, 900),
    number=st.integers(1, 10_000),
)
def test_a_limit_never_shrinks_and_never_passes_the_longest(
    first_s: float, longest_s: float | None, number: int
) -> None:
    limits = [grown_limit_s(first_s, n, longest_s) for n in (number, number + 1)]
    assert 0 < limits[0] <= limits[1]
    if longest_s is not None:
        assert limits[1] <= longest_s
