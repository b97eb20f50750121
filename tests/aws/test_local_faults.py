"""The fault script: what happens, how often, to whom, and the same again for the same seed."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.aws.local.faults import FAULT_KINDS, Fault, FaultScript
from hstmap.errors import UsageError


def occasions(script: FaultScript, kind: str, n_occasions: int, function: str = "f") -> list[bool]:
    return [script.fire(kind, function, str(i)) is not None for i in range(n_occasions)]


@given(n_skip=st.integers(0, 5), n_times=st.integers(0, 5), n_occasions=st.integers(0, 15))
def test_a_fault_skips_then_happens_then_is_over(n_skip, n_times, n_occasions):
    script = FaultScript((Fault("drop", n_skip=n_skip, n_times=n_times),))
    expected = [n_skip <= i < n_skip + n_times for i in range(n_occasions)]
    assert occasions(script, "drop", n_occasions) == expected
    assert [fired.request_id for fired in script.fired] == [
        str(i) for i, happened in enumerate(expected) if happened
    ]


def test_a_fault_without_a_count_happens_for_ever():
    assert all(occasions(FaultScript((Fault("throttle", n_times=None),)), "throttle", 50))


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_a_fault_of_one_kind_does_not_happen_on_occasions_of_another(kind):
    script = FaultScript((Fault(kind),))
    others = [other for other in FAULT_KINDS if other != kind]
    assert not any(script.fire(other, "f", "1") for other in others)
    assert script.fire(kind, "f", "1") == Fault(kind)


def test_a_fault_is_for_the_functions_that_its_pattern_names():
    script = FaultScript((Fault("drop", function="worker-*"),))
    assert script.fire("drop", "builder", "1") is None
    assert script.fire("drop", "worker-7", "2") is not None
    assert [(fired.function, fired.request_id) for fired in script.fired] == [("worker-7", "2")]


def test_the_first_fault_that_matches_is_the_one_that_happens():
    script = FaultScript((Fault("slow-start", delay_s=1), Fault("slow-start", delay_s=2)))
    delays = [script.fire("slow-start", "f", str(i)) for i in range(3)]
    assert [fault and fault.delay_s for fault in delays] == [1, 2, None]


@given(seed=st.integers(0, 2**32), probability=st.floats(0.05, 0.95))
def test_the_same_seed_draws_the_same_faults(seed, probability):
    fault = Fault("drop", n_times=None, probability=probability)
    first = occasions(FaultScript((fault,), seed), "drop", 60)
    script = FaultScript((fault,))
    script.reseed(seed)
    assert occasions(script, "drop", 60) == first


def test_a_probability_is_how_often_it_happens():
    fault = Fault("drop", n_times=None, probability=0.3)
    n_happened = sum(occasions(FaultScript((fault,), seed=1), "drop", 10_000))
    # Five standard deviations of a binomial distribution.
    assert abs(n_happened - 3000) < 5 * (10_000 * 0.3 * 0.7) ** 0.5


def test_cleared_faults_do_not_happen_and_past_ones_are_remembered():
    script = FaultScript((Fault("drop", n_times=None),))
    script.fire("drop", "f", "1")
    script.clear()
    assert script.fire("drop", "f", "2") is None
    assert len(script.fired) == 1


def test_a_count_holds_when_many_threads_ask():
    script = FaultScript()
    script.add(Fault("throttle", n_times=100))
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda: results.extend(occasions(script, "throttle", 50)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(results) == 100


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"kind": "explode"}, "explode"),
        ({"kind": "drop", "probability": 1.5}, "probability"),
        ({"kind": "drop", "at_log": "x"}, "at_log"),
    ],
)
def test_a_fault_that_cannot_be_meant_is_refused(settings, word):
    with pytest.raises(UsageError, match=word):
        Fault(**settings)
