"""When a slow task gets a second attempt, and what becomes of the two."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.bag.engine import EngineOptions
from hstmap.bag.events import AttemptStarted, AttemptSubmitted
from hstmap.bag.policy import RunningQuantile, StragglerPolicy

POLICY = StragglerPolicy(
    done_fraction=0.75, quantile=0.75, slowdown=3.0, min_elapsed_s=2.0, max_fraction=0.1
)
OPTIONS = EngineOptions(retries=1, stragglers=POLICY)


@given(
    values=st.lists(st.floats(0, 1e6), min_size=1, max_size=200),
    q=st.floats(0.01, 0.99),
)
def test_running_quantile_is_the_quantile_so_far(values: list[float], q: float) -> None:
    quantile = RunningQuantile(q)
    for n, value in enumerate(values, start=1):
        quantile.add(value)
        assert quantile.value == sorted(values[:n])[max(1, math.ceil(q * n)) - 1]
    assert len(quantile) == len(values)


def test_running_median_agrees_with_the_standard_library() -> None:
    values = [5.0, 3.0, 8.0, 1.0, 9.0, 2.0, 7.0]
    quantile = RunningQuantile(0.5)
    for value in values:
        quantile.add(value)
    assert quantile.value == statistics.median_low(values)


@pytest.mark.parametrize("q", [0.0, 1.0, -1.0, 2.0])
def test_a_quantile_lies_between_0_and_1(q: float) -> None:
    with pytest.raises(ValueError, match="above 0 and below 1"):
        RunningQuantile(q)


def test_no_values_have_no_quantile() -> None:
    with pytest.raises(ValueError, match="no values yet"):
        _ = RunningQuantile(0.5).value


@given(
    n_tasks=st.integers(1, 10_000),
    n_done=st.integers(0, 10_000),
    typical_s=st.floats(0, 1e5),
)
def test_patience_is_infinite_until_most_are_done(
    n_tasks: int, n_done: int, typical_s: float
) -> None:
    patience_s = POLICY.patience_s(n_tasks, n_done, typical_s)
    if n_done and n_done >= 0.75 * n_tasks:
        assert patience_s == max(2.0, 3.0 * typical_s)
    else:
        assert patience_s == math.inf


@pytest.mark.parametrize(("n_tasks", "n_twins"), [(0, 0), (1, 1), (10, 1), (11, 2), (2441, 245)])
def test_a_stage_costs_so_many_twins_at_most(n_tasks: int, n_twins: int) -> None:
    assert POLICY.max_twins(n_tasks) == n_twins


def script_with(act: Any, first: Any, then: Any, n_others: int = 9) -> dict[str, list[Any]]:
    return {"slow": [first, then]} | {f"task {i}": [act(1)] for i in range(n_others)}


def test_the_twin_of_a_straggler_wins(play: Callable[..., Any], act: Any) -> None:
    played = play(script_with(act, act(1000), act(1)), OPTIONS)
    # 9 tasks of 1 s on the other worker; the twin starts then and takes 1 s.
    assert played.transport.now == pytest.approx(1000 + 9 + 1)
    assert played.statuses("slow") == ["cancelled", "ok"]
    assert [attempt.final for attempt in played.of("slow")] == [False, True]
    assert [attempt.number for attempt in played.of("slow")] == [1, 2]
    assert len(played.transport.killed) == 1


def test_the_first_attempt_may_still_win(play: Callable[..., Any], act: Any) -> None:
    played = play(script_with(act, act(11), act(1000)), OPTIONS)
    assert played.statuses("slow") == ["cancelled", "ok"]
    assert [attempt.number for attempt in played.of("slow")] == [2, 1]
    assert played.transport.now == pytest.approx(1011)


def test_twins_are_told_apart_from_retries(play: Callable[..., Any], act: Any) -> None:
    played = play(script_with(act, act(1000), act(1)), OPTIONS)
    reasons = [
        event.reason
        for event in played.events
        if isinstance(event, AttemptSubmitted) and event.task_key == "slow"
    ]
    assert reasons == ["first", "twin"]


def test_a_lost_attempt_leaves_the_task_to_its_twin(play: Callable[..., Any], act: Any) -> None:
    played = play(script_with(act, act(12, "lost"), act(5)), OPTIONS)
    assert played.statuses("slow") == ["lost", "ok"]
    assert played.of("slow")[1].final
    assert played.transport.sent.count("slow") == 2


def test_both_lost_count_as_two_failures(play: Callable[..., Any], act: Any) -> None:
    played = play(script_with(act, act(12, "lost"), act(5, "lost")), OPTIONS)
    assert played.statuses("slow") == ["lost", "lost"]  # retries=1: two failures are the end
    assert [attempt.final for attempt in played.of("slow")] == [False, True]


def test_an_error_that_nothing_mends_ends_both(play: Callable[..., Any], act: Any) -> None:
    first = act(1000)
    twin = act(1, "error", retryable=False)
    played = play(script_with(act, first, twin), OPTIONS)
    assert played.statuses("slow") == ["cancelled", "error"]
    assert played.of("slow")[1].final


def test_of_two_attempts_each_has_its_own_names(play: Callable[..., Any], act: Any) -> None:
    played = play(script_with(act, act(1000), act(1)), OPTIONS)
    by_number = {attempt.number: attempt.request_id for attempt in played.of("slow")}
    started = [event for event in played.events if isinstance(event, AttemptStarted)]
    assert by_number == {e.number: e.request_id for e in started if e.task_key == "slow"}
    assert by_number[1] != by_number[2]
    named = {(attempt.request_id, attempt.call_name) for attempt in played.attempts}
    assert named == {(f"request {n}", f"call {n}") for n in range(11)}


def test_a_task_gets_one_twin_only(play: Callable[..., Any], act: Any) -> None:
    played = play(script_with(act, act(60), act(100)), OPTIONS, n_slots=4)
    assert played.transport.sent.count("slow") == 2


def test_twins_wait_until_nothing_else_does(play: Callable[..., Any], act: Any) -> None:
    script = script_with(act, act(1000), act(1), n_others=40)
    played = play(script, EngineOptions(retries=0, stragglers=POLICY))
    assert played.transport.sent[-1] == "slow"
    assert len(played.transport.sent) == 42


def test_no_more_twins_than_the_policy_allows(play: Callable[..., Any], act: Any) -> None:
    script = {f"slow {i}": [act(100), act(1)] for i in range(4)}
    script |= {f"task {i}": [act(1)] for i in range(16)}
    played = play(script, OPTIONS, n_slots=8)
    assert len(played.transport.sent) == 20 + POLICY.max_twins(20)


def test_even_durations_get_no_twins(play: Callable[..., Any], act: Any) -> None:
    played = play({f"task {i}": [act(30)] for i in range(40)}, OPTIONS, n_slots=7)
    assert len(played.transport.sent) == 40


def test_without_a_policy_there_are_no_twins(play: Callable[..., Any], act: Any) -> None:
    played = play(script_with(act, act(1000), act(1)), EngineOptions(stragglers=None))
    assert played.statuses("slow") == ["ok"]
    assert played.transport.now == pytest.approx(2000)


def test_a_twin_that_hangs_is_timed_out_too(play: Callable[..., Any], act: Any) -> None:
    options = EngineOptions(retries=1, timeout_s=20, stragglers=POLICY)
    played = play(script_with(act, act(1e9), act(1e9)), options)
    assert played.statuses("slow") == ["timeout", "timeout"]
    assert played.of("slow")[-1].final
