"""Retries, time-outs and the bookkeeping of attempts, over a transport that follows a script."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hstmap.bag.engine import EngineOptions, Stage, Task, WorkerInfo
from hstmap.bag.events import (
    AttemptEnded,
    AttemptStarted,
    AttemptSubmitted,
    StageEnded,
    StageStarted,
)
from hstmap.bag.policy import StragglerPolicy
from hstmap.bag.scheduler import StageRun
from hstmap.bag.transport import CallEnded, CallStarted
from hstmap.errors import UsageError

OPTIONS = EngineOptions(retries=2, stragglers=None)


def test_a_stage_without_tasks_begins_and_ends(play: Callable[..., Any]) -> None:
    played = play({}, OPTIONS)
    assert played.attempts == []
    assert [type(event) for event in played.events] == [StageStarted, StageEnded]


def test_values_reach_the_caller(play: Callable[..., Any], act: Any) -> None:
    played = play({"a": [act(3)], "b": [act(1)], "c": [act(1)]}, OPTIONS)
    assert [attempt.task_key for attempt in played.attempts] == ["b", "c", "a"]
    assert {attempt.value for attempt in played.attempts} == {
        "value of a",
        "value of b",
        "value of c",
    }
    assert all(attempt.final and attempt.number == 1 for attempt in played.attempts)


@pytest.mark.parametrize("status", ["lost", "timeout", "error"])
def test_what_another_attempt_can_mend_is_tried_again(
    play: Callable[..., Any], act: Any, status: str
) -> None:
    played = play({"a": [act(1, status), act(1, status), act(1)], "b": [act(1)]}, OPTIONS)
    assert played.statuses("a") == [status, status, "ok"]
    assert [attempt.final for attempt in played.of("a")] == [False, False, True]
    assert [attempt.number for attempt in played.of("a")] == [1, 2, 3]


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_retries_come_to_an_end(play: Callable[..., Any], act: Any, retries: int) -> None:
    played = play({"a": [act(1, "lost")]}, EngineOptions(retries=retries, stragglers=None))
    assert played.statuses("a") == ["lost"] * (retries + 1)
    assert [attempt.final for attempt in played.of("a")] == [False] * retries + [True]


@pytest.mark.parametrize("status", ["error", "unpicklable"])
def test_what_no_attempt_can_mend_is_not_tried_again(
    play: Callable[..., Any], act: Any, status: str
) -> None:
    played = play({"a": [act(1, status, retryable=False)], "b": [act(1)]}, OPTIONS)
    assert played.statuses("a") == [status]
    assert played.of("a")[0].final


def test_errors_are_given_time_and_lost_workers_none(play: Callable[..., Any], act: Any) -> None:
    played = play({"error": [act(1, "error"), act(1, "error"), act(1)]}, OPTIONS)
    first, second, third = [attempt.started_s for attempt in played.of("error")]
    assert second - first == pytest.approx(1.1)
    assert third - second == pytest.approx(1.2)
    played = play({"lost": [act(1, "lost"), act(1)]}, OPTIONS)
    first, second = [attempt.started_s for attempt in played.of("lost")]
    assert second - first == pytest.approx(1.0)


def test_other_tasks_go_on_while_one_waits_for_its_retry(
    play: Callable[..., Any], act: Any
) -> None:
    script = {"error": [act(0.01, "error"), act(0.01)]}
    script |= {f"task {i}": [act(0.01)] for i in range(50)}
    played = play(script, OPTIONS, n_slots=1)
    assert played.attempts[-1].task_key != "error"  # its 0.1 s are over before 50 others are
    assert sum(attempt.final for attempt in played.attempts) == 51


def test_a_hanging_attempt_is_ended_at_its_time_out(play: Callable[..., Any], act: Any) -> None:
    options = EngineOptions(retries=1, timeout_s=5, stragglers=None)
    played = play({"hang": [act(1e9), act(1e9)], "a": [act(4)], "b": [act(4)]}, options)
    assert played.statuses("hang") == ["timeout", "timeout"]
    assert played.statuses("a") == played.statuses("b") == ["ok"]
    assert played.transport.now == pytest.approx(1010)
    assert len(played.transport.killed) == 2
    assert "longer than its limit of 5 s" in played.of("hang")[0].error.message
    assert len({attempt.request_id for attempt in played.attempts} - {""}) == 4


def test_a_time_out_counts_from_the_start_of_the_attempt(
    play: Callable[..., Any], act: Any
) -> None:
    options = EngineOptions(retries=0, timeout_s=5, stragglers=None)
    played = play({f"task {i}": [act(4)] for i in range(6)}, options, n_slots=1)
    assert {attempt.status for attempt in played.attempts} == {"ok"}


def test_a_first_attempt_that_hangs_is_soon_ended(play: Callable[..., Any], act: Any) -> None:
    options = EngineOptions(timeout_s=600, first_timeout_s=5, stragglers=None)
    played = play({"dead": [act(1e9), act(1)], "a": [act(4)]}, options)
    assert played.statuses("dead") == ["timeout", "ok"]
    assert "limit of 5 s" in played.of("dead")[0].error.message
    assert played.transport.now == pytest.approx(1006)


def test_what_is_merely_slow_gets_its_time(play: Callable[..., Any], act: Any) -> None:
    options = EngineOptions(retries=2, timeout_s=600, first_timeout_s=5, stragglers=None)
    played = play({"slow": [act(500)], "slower": [act(15)], "hang": [act(1e9)]}, options, n_slots=3)
    assert played.statuses("slow") == ["timeout", "timeout", "ok"]
    assert played.statuses("slower") == ["timeout", "ok"]
    assert played.statuses("hang") == ["timeout"] * 3
    told = [attempt.error.message for attempt in played.of("hang")]
    for limit_s, message in zip((5, 20, 600), told, strict=True):
        assert f"limit of {limit_s} s" in message


@settings(max_examples=60, deadline=None)
@given(
    durations=st.lists(st.floats(0.1, 59.9), min_size=1, max_size=12),
    n_slots=st.integers(1, 4),
    options=st.builds(
        EngineOptions,
        timeout_s=st.just(60.0),
        first_timeout_s=st.floats(0.1, 100),
        retries=st.integers(0, 3),
        stragglers=st.sampled_from([None, StragglerPolicy(min_elapsed_s=0.5, slowdown=1.0)]),
    ),
)
def test_no_first_limit_makes_a_task_fail_that_is_within_the_whole(
    play: Callable[..., Any],
    act: Any,
    durations: list[float],
    n_slots: int,
    options: EngineOptions,
) -> None:
    script = {f"task {i}": [act(duration_s)] for i, duration_s in enumerate(durations)}
    played = play(script, options, n_slots)
    ended = [attempt.status for attempt in played.attempts if attempt.final]
    assert ended == ["ok"] * len(script)
    assert {attempt.status for attempt in played.attempts} <= {"ok", "timeout", "cancelled"}


def test_abandoning_a_stage_ends_its_calls(stage_run: Callable[..., Any], act: Any) -> None:
    transport, attempts = stage_run({"a": [act(1)], "b": [act(100)], "c": [act(1)], "d": [act(1)]})
    assert next(attempts).task_key == "a"
    attempts.close()
    assert transport.running == {}
    assert transport.sent == ["a", "b", "c"]


def test_events_tell_the_whole_story_in_order(play: Callable[..., Any], act: Any) -> None:
    played = play({"a": [act(1, "lost"), act(1)]}, OPTIONS)
    kinds = [type(event) for event in played.events]
    assert kinds == [
        StageStarted,
        *[AttemptSubmitted, AttemptStarted, AttemptEnded] * 2,
        StageEnded,
    ]
    submitted = [event for event in played.events if isinstance(event, AttemptSubmitted)]
    assert [(event.number, event.reason) for event in submitted] == [(1, "first"), (2, "retry")]
    ended = [event.attempt for event in played.events if isinstance(event, AttemptEnded)]
    assert ended == played.attempts
    last = played.events[-1]
    assert (last.n_tasks, last.n_ok, last.n_failed, last.complete) == (1, 1, 0, True)


def test_a_stage_that_nobody_looks_at_is_not_begun(stage_run: Callable[..., Any], act: Any) -> None:
    transport, attempts = stage_run({"a": [act(1)], "b": [act(1)]})
    attempts.close()
    assert transport.sent == []


def test_two_tasks_with_one_key_are_refused() -> None:
    stage = Stage("twice", str, [Task("same", 1), Task("same", 2)])
    with pytest.raises(UsageError, match="two tasks with the key 'same'"):
        StageRun(stage, transport=None, options=OPTIONS)  # type: ignore[arg-type]


ACTS = st.tuples(
    st.floats(0.01, 3.0),
    st.sampled_from(["ok", "error", "lost", "timeout", "unpicklable"]),
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(
    scripts=st.lists(st.lists(ACTS, min_size=1, max_size=4), max_size=12),
    retries=st.integers(0, 3),
    n_slots=st.integers(1, 5),
)
def test_attempts_are_those_that_the_policy_says(
    play: Callable[..., Any],
    act: Any,
    scripts: list[list[tuple[float, str, bool]]],
    retries: int,
    n_slots: int,
) -> None:
    script = {f"task {i}": [act(*one) for one in acts] for i, acts in enumerate(scripts)}
    options = EngineOptions(retries=retries, stragglers=None)
    played = play(script, options, n_slots)
    for key, acts in script.items():
        expected = []
        for number in range(retries + 1):
            one = acts[min(number, len(acts) - 1)]
            expected.append(one.status)
            if one.status == "ok" or not one.retryable:
                break
        assert played.statuses(key) == expected
        assert [attempt.final for attempt in played.of(key)] == [False] * (len(expected) - 1) + [
            True
        ]
    counts = Counter(attempt.status == "ok" for attempt in played.attempts if attempt.final)
    last = played.events[-1]
    assert (last.n_ok, last.n_failed) == (counts[True], counts[False])


def test_a_report_of_a_call_that_was_ended_is_nobodys(
    stage_run: Callable[..., Any], act: Any
) -> None:
    options = EngineOptions(retries=0, timeout_s=5, stragglers=None)
    transport, attempts = stage_run({"hang": [act(1e9)], "a": [act(1)]}, options)
    assert next(attempts).task_key == "a"
    (call_id,) = transport.running
    assert next(attempts).status == "timeout"
    # It was under way when the call was ended; nothing waits for it any more.
    late = [
        CallStarted(call_id, WorkerInfo("host", 1, False), 0.0),
        CallEnded(call_id, "ok", value="too late"),
    ]
    transport.news += late
    assert list(attempts) == []


def test_late_reports_do_not_disturb_others(stage_run: Callable[..., Any], act: Any) -> None:
    options = EngineOptions(retries=1, timeout_s=5, stragglers=None)
    transport, attempts = stage_run({"hang": [act(1e9), act(2)]}, options)
    real = transport.kill

    def kill_too_late(call_ids: Any) -> None:
        ids = tuple(call_ids)
        real(ids)
        transport.news += [CallEnded(call_id, "ok", value="too late") for call_id in ids]

    transport.kill = kill_too_late
    assert [(attempt.status, attempt.value) for attempt in attempts] == [
        ("timeout", None),
        ("ok", "value of hang"),
    ]


def test_the_end_knows_better_than_the_start(stage_run: Callable[..., Any], act: Any) -> None:
    transport, attempts = stage_run({"a": [act(3)], "b": [act(4)]})
    real = transport.poll
    told = WorkerInfo("told at the end", 7, True)

    def poll(timeout_s: float | None) -> Any:
        return [
            dataclasses.replace(report, worker=told, started_s=1001.5)
            if isinstance(report, CallEnded) and report.call_id == 0
            else dataclasses.replace(report, started_s=None)
            if isinstance(report, CallEnded)
            else report
            for report in real(timeout_s)
        ]

    transport.poll = poll
    first, second = attempts
    assert (first.worker, first.started_s) == (told, 1001.5)
    # Of the other the end says neither; so it is as the start had it.
    assert second.worker == WorkerInfo("host", 1, False)
    assert second.started_s == 1000.0


@settings(max_examples=50, deadline=None)
@given(
    durations=st.lists(st.floats(0.1, 60), min_size=1, max_size=25),
    n_slots=st.integers(1, 6),
    max_fraction=st.floats(0, 0.5),
    slowdown=st.floats(1.0, 4.0),
)
def test_twins_cost_no_more_than_was_planned_and_no_time(
    play: Callable[..., Any],
    act: Any,
    durations: list[float],
    n_slots: int,
    max_fraction: float,
    slowdown: float,
) -> None:
    policy = StragglerPolicy(slowdown=slowdown, max_fraction=max_fraction, min_elapsed_s=1.0)
    # A twin is as fast as anything can be.
    script = {f"task {i}": [act(s), act(0.1)] for i, s in enumerate(durations)}
    with_twins = play(script, EngineOptions(retries=0, stragglers=policy), n_slots)
    without = play(script, EngineOptions(retries=0, stragglers=None), n_slots)
    n_twins = len(with_twins.transport.sent) - len(durations)
    assert 0 <= n_twins <= policy.max_twins(len(durations))
    assert with_twins.transport.now <= without.transport.now + 1e-9
    finals = [attempt for attempt in with_twins.attempts if attempt.final]
    assert sorted(attempt.task_key for attempt in finals) == sorted(script)
    assert {attempt.status for attempt in finals} == {"ok"}
    # One attempt of each pair is cancelled, and is told of, too.
    assert len(with_twins.attempts) == len(durations) + n_twins
    assert with_twins.transport.running == {}
