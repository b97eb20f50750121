"""Gates: what is sent through them, and how a stage ends when nothing more is let through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hstmap.bag.engine import EngineOptions, InProcessEngine, Stage, Task, make_engine
from hstmap.bag.events import AttemptEnded, AttemptSubmitted, Event, StageEnded
from hstmap.bag.policy import StragglerPolicy
from hstmap.bag.scheduler import StageRun

TWINS = StragglerPolicy(done_fraction=0.5, min_elapsed_s=1.0, slowdown=2.0, max_fraction=0.5)


@dataclass
class Coins:
    """Lets through what its coins pay for: one a call, of which an end may bring back some."""

    n_coins: int
    back: Callable[[AttemptEnded], int] = lambda _event: 0
    n_in_flight: int = 0
    n_most: int = 0
    answers: list[tuple[bool, int]] = field(default_factory=list)
    seen: list[Event] = field(default_factory=list)

    def may_send(self) -> bool:
        self.answers.append((self.n_coins > 0, self.n_in_flight))
        return self.n_coins > 0

    def note(self, event: Event) -> None:
        self.seen.append(event)
        if isinstance(event, AttemptSubmitted):
            assert self.answers[-1][0], "a call was sent that was not let through"
            self.n_coins -= 1
            assert self.n_coins >= 0, "two calls were sent for one answer"
            self.n_in_flight += 1
            self.n_most = max(self.n_most, self.n_in_flight)
        if isinstance(event, AttemptEnded):
            self.n_in_flight -= 1
            self.n_coins += self.back(event)


def through(
    gate: Coins,
    fake_transport: Callable[..., Any],
    script: dict[str, Any],
    options: EngineOptions,
    n_slots: int = 3,
) -> tuple[Any, list[Any], list[Event]]:
    transport = fake_transport(script, n_slots)
    events: list[Event] = []
    stage = Stage("gated", str, [Task(key, key) for key in script])
    run = StageRun(stage, transport, options, [events.append], clock=transport.clock)
    return transport, list(run.attempts(gate)), events


@pytest.fixture(scope="session")
def fake_transport(stage_run: Callable[..., Any]) -> Callable[..., Any]:
    """Makes transports that follow a script."""
    return type(stage_run({})[0])


def test_a_gate_that_refuses_ends_the_stage_early(fake_transport: Any, act: Any) -> None:
    script = {f"task {i}": [act(1)] for i in range(10)}
    gate = Coins(4)
    transport, attempts, events = through(gate, fake_transport, script, EngineOptions())
    assert [attempt.task_key for attempt in attempts] == [f"task {i}" for i in range(4)]
    assert all(attempt.final and attempt.status == "ok" for attempt in attempts)
    assert transport.sent == [f"task {i}" for i in range(4)]
    last = events[-1]
    assert isinstance(last, StageEnded)
    assert (last.n_ok, last.n_failed, last.n_tasks, last.complete) == (4, 0, 10, False)


def test_a_gate_that_lets_nothing_through_sends_nothing(fake_transport: Any, act: Any) -> None:
    transport, attempts, events = through(
        Coins(0), fake_transport, {"a": [act(1)]}, EngineOptions()
    )
    assert (attempts, transport.sent) == ([], [])
    assert not events[-1].complete


def test_a_gate_is_asked_again_when_a_call_has_ended(fake_transport: Any, act: Any) -> None:
    script = {f"task {i}": [act(1 + i)] for i in range(9)}
    gate = Coins(2, back=lambda _event: 1)
    _, attempts, events = through(gate, fake_transport, script, EngineOptions(), 5)
    assert len(attempts) == 9
    assert events[-1].complete
    assert gate.n_most == 2  # though there are five places
    refusals = [n_in_flight for granted, n_in_flight in gate.answers if not granted]
    assert refusals
    assert all(refusals)  # never while nothing was under way


def test_a_retry_that_is_not_let_through_leaves_its_task_open(
    fake_transport: Any, act: Any
) -> None:
    script = {"a": [act(1, "error"), act(1)], "b": [act(3)]}
    _, attempts, events = through(Coins(2), fake_transport, script, EngineOptions(stragglers=None))
    assert [(attempt.task_key, attempt.final) for attempt in attempts] == [
        ("a", False), ("b", True),
    ]  # fmt: skip
    assert (events[-1].n_ok, events[-1].n_failed, events[-1].complete) == (1, 0, False)


def test_a_twin_that_is_not_let_through_is_done_without(fake_transport: Any, act: Any) -> None:
    script = {"slow": [act(50), act(1)]} | {f"task {i}": [act(1)] for i in range(9)}
    options = EngineOptions(stragglers=TWINS)
    transport, attempts, events = through(Coins(10), fake_transport, script, options)
    assert events[-1].complete
    assert len(attempts) == 10
    assert transport.now == pytest.approx(1050)
    # With a coin more there is one.
    transport, attempts, _ = through(Coins(11), fake_transport, script, options)
    assert Counter(attempt.status for attempt in attempts) == {"ok": 10, "cancelled": 1}
    assert transport.now < 1010


def test_a_hanging_call_is_ended_while_the_gate_refuses(fake_transport: Any, act: Any) -> None:
    script = {"hang": [act(1e9)], "b": [act(1)]}
    options = EngineOptions(timeout_s=5, retries=0)
    transport, attempts, events = through(Coins(1), fake_transport, script, options)
    assert [attempt.status for attempt in attempts] == ["timeout"]
    assert transport.now == pytest.approx(1005)
    assert (events[-1].n_failed, events[-1].complete) == (1, False)


def test_a_gate_sees_what_the_observers_see_and_before_them(fake_transport: Any, act: Any) -> None:
    gate = Coins(5)
    transport = fake_transport({"a": [act(1)]}, 1)
    seen: list[tuple[Event, int]] = []
    stage = Stage("gated", str, [Task("a", "a")])
    observers = [lambda event: seen.append((event, len(gate.seen)))]
    run = StageRun(stage, transport, EngineOptions(), observers, clock=transport.clock)
    list(run.attempts(gate))
    assert [event for event, _ in seen] == gate.seen
    assert [n for _, n in seen] == list(range(1, len(seen) + 1))


@pytest.mark.parametrize("make", [
    lambda gate: InProcessEngine(None, (), gate),
    lambda gate: make_engine("inprocess", EngineOptions(), (), gate),
    lambda gate: make_engine("lithops", EngineOptions(n_workers=1), gate=gate),
])  # fmt: skip
def test_engines_take_a_gate_that_holds_for_all_their_stages(
    make: Callable[[Coins], Any],
) -> None:
    gate = Coins(3)
    with make(gate) as engine:
        first = list(engine.run(Stage("first", abs, [Task("a", -1), Task("b", -2)])))
        second = list(engine.run(Stage("second", abs, [Task("c", -3), Task("d", -4)])))
    assert sorted(attempt.value for attempt in first) == [1, 2]
    assert [attempt.value for attempt in second] == [3]
    ends = [event for event in gate.seen if isinstance(event, StageEnded)]
    assert [event.complete for event in ends] == [True, False]


ACTS = st.tuples(
    st.floats(0.01, 30.0),
    st.sampled_from(["ok", "ok", "error", "lost", "timeout", "unpicklable"]),
    st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(
    scripts=st.lists(st.lists(ACTS, min_size=1, max_size=4), max_size=12),
    n_coins=st.integers(0, 20),
    n_back=st.integers(0, 1),
    retries=st.integers(0, 2),
    n_slots=st.integers(1, 5),
    stragglers=st.sampled_from([None, TWINS]),
    timeout_s=st.sampled_from([None, 5.0]),
)
def test_whatever_the_gate_says_each_task_is_ended_or_open_and_nothing_hangs(
    fake_transport: Any,
    act: Any,
    *,
    scripts: list[list[tuple[float, str, bool]]],
    n_coins: int,
    n_back: int,
    retries: int,
    n_slots: int,
    stragglers: StragglerPolicy | None,
    timeout_s: float | None,
) -> None:
    script = {f"task {i}": [act(*one) for one in acts] for i, acts in enumerate(scripts)}
    options = EngineOptions(retries=retries, stragglers=stragglers, timeout_s=timeout_s)
    gate = Coins(n_coins, back=lambda _event: n_back)
    # The transport asserts that nobody waits for ever, the gate that it is asked for each call.
    transport, attempts, events = through(gate, fake_transport, script, options, n_slots)
    assert transport.running == {}
    assert gate.n_most <= min(n_coins, n_slots)
    final = Counter(attempt.task_key for attempt in attempts if attempt.final)
    assert set(final.values()) <= {1}
    last = events[-1]
    assert last.n_ok + last.n_failed == len(final)
    assert last.complete == (len(final) == len(script))
    for key in script.keys() - final.keys():
        assert gate.n_coins == 0
        own = [attempt for attempt in attempts if attempt.task_key == key]
        assert all(attempt.status != "ok" for attempt in own)
        assert len(own) == transport.sent.count(key) <= retries + 1
    if gate.n_coins:
        assert last.complete
    if n_coins >= len(script) * (retries + 2):
        assert last.complete
