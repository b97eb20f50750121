"""Whole runs on Lambda while each thing goes wrong that can: rows accounted for, counts exact.

In the short form each kind of fault happens in one run, at the first, a middle and the last call.
``HSTMAP_LONG_TESTS=1`` gives each of these points, and every call, a run of its own. Faults at
random, 200 seeds and more, are ``python -m benchmarks faults``.
"""

from __future__ import annotations

import os
import re

import pytest
import yaml

from benchmarks.faults import (
    FUNCTION,
    N_IMAGES,
    FaultBench,
    FaultyRun,
    draw_faults,
    report_lines,
    run_line,
)
from hstmap.aws.local import FAULT_KINDS, Fault
from hstmap.bag.ledger import read_attempts
from hstmap.cli import main
from hstmap.commands import call_limits, engines
from hstmap.storage import open_store
from hstmap.wfc3.simulate import make_sample

IS_LONG = bool(os.environ.get("HSTMAP_LONG_TESTS"))
#: What only the start of an environment can meet; three start in a run that begins cold.
AT_STARTS = ("kill-before-init", "slow-start")
#: What ends a call that perhaps has said that it begins.
DIES_MIDWAY = ("kill-midway", "kill-call")
#: What costs an attempt: no answer comes.
LOSES_THE_CALL = ("drop", "kill-before-init", *DIES_MIDWAY)
FIRST, MIDDLE, LAST, EVERY = "first", "middle", "last", "every"


def run_with(bench: FaultBench, kind: str, skips: list[int], n_times: int = 1) -> FaultyRun:
    """Do all images with a fault at each of some occasions, and nothing left to chance."""
    faults = [
        # Each waits for the occasions that those before it left.
        Fault(kind, function=FUNCTION, n_skip=skip - n, n_times=n_times, delay_s=delay_of(kind))
        for n, skip in enumerate(skips)
    ]
    if kind in AT_STARTS:
        bench.end_environments()
    return bench.run(
        faults,
        # A worker that dies as soon as it has its event may have said that it begins, or not.
        start_timeout_s=5.0 if kind in LOSES_THE_CALL else 60.0,
        timeout_s=6.0 if kind in DIES_MIDWAY else 60.0,
        stragglers=None,
    )


def delay_of(kind: str) -> float:
    return 1.0 if kind == "slow-start" else 0.0


def points_of(kind: str) -> dict[str, tuple[list[int], int]]:
    """Occasions to let pass before a fault, and how often it happens then, by point."""
    if kind in AT_STARTS:
        return {FIRST: ([0], 1), MIDDLE: ([1], 1), EVERY: ([0], 2)}
    last = N_IMAGES - 1
    return {
        FIRST: ([0], 1), MIDDLE: ([N_IMAGES // 2], 1), LAST: ([last], 1), EVERY: ([0], N_IMAGES),
    }  # fmt: skip


CASES = [
    pytest.param(kind, skips, n_times, id=f"{kind}-{point}")
    for kind in FAULT_KINDS
    for point, (skips, n_times) in points_of(kind).items()
]
TOGETHER = [
    pytest.param(kind, sorted({points_of(kind)[p][0][0] for p in points_of(kind)}), 1, id=kind)
    for kind in FAULT_KINDS
]


@pytest.mark.parametrize(("kind", "skips", "n_times"), CASES if IS_LONG else TOGETHER)
def test_a_fault_changes_nothing_and_costs_what_it_must(bench, kind, skips, n_times):
    run = run_with(bench, kind, skips, n_times)
    n_faults = len(skips) * n_times
    assert run.fired == {kind: n_faults}
    assert run.outcomes == {"ok": N_IMAGES}
    assert run.digest == bench.expected
    n_lost = n_faults if kind in LOSES_THE_CALL else 0
    assert run.n_attempts == N_IMAGES + n_lost
    n_more = {"drop": 0, "duplicate": n_faults}.get(kind, n_lost)
    assert run.n_invocations == N_IMAGES + n_more


@pytest.mark.parametrize("kind", ["throttle", "drop", "kill-midway", "kill-before-init"])
def test_what_goes_wrong_for_ever_ends_with_every_row_failed(bench, kind):
    if kind == "kill-before-init":
        bench.end_environments()
    run = bench.run(
        [Fault(kind, function=FUNCTION, n_times=None)],
        retries=0, start_timeout_s=3.0, timeout_s=4.0, stragglers=None,
    )  # fmt: skip
    assert run.outcomes == {"failed": N_IMAGES}  # accounted for, none of them missing
    assert run.n_attempts == N_IMAGES
    assert run.fired.keys() == {kind}
    if kind != "throttle":  # which is tried again within an attempt
        assert run.fired[kind] == N_IMAGES
    assert run.n_invocations == (0 if kind in ("throttle", "drop") else N_IMAGES)


def test_what_a_run_has_given_up_is_not_sent_in_the_next(bench):
    """Throttled calls wait in Lithops' queues, and would come when there is room again."""
    bench.run(
        [Fault("throttle", function=FUNCTION, n_times=None)],
        retries=0, start_timeout_s=1.0, timeout_s=5.0, stragglers=None,
    )  # fmt: skip
    run = bench.run((), start_timeout_s=60.0, timeout_s=60.0, stragglers=None)
    assert (run.n_attempts, run.n_invocations) == (N_IMAGES, N_IMAGES)
    assert run.digest == bench.expected


@pytest.mark.parametrize("seed", [1, 110])
def test_faults_at_random_change_nothing(bench, seed):
    faults, is_cold = draw_faults(seed)
    bench.aws.faults.reseed(seed)
    if is_cold:
        bench.end_environments()
    run = bench.run(faults)
    assert run.outcomes == {"ok": N_IMAGES}
    assert run.digest == bench.expected


def test_a_run_that_nobody_gave_a_time_limit_misses_its_dead_workers_soon(
    deployment, tmp_path, monkeypatch, capsys
):
    """All three workers die in the middle of their first call, and say nothing."""
    monkeypatch.setattr(call_limits, "_LEAST_ATTEMPT_S", 2.0)  # else it is 20 s,
    monkeypatch.setattr(call_limits, "_PATIENCE", 1.0)  # or five times what is expected
    usual = engines.engine_options
    monkeypatch.setattr(
        engines, "engine_options",
        lambda *given, **more: usual(*given, **more, start_timeout_s=5.0, stragglers=None),
    )  # fmt: skip
    config = tmp_path / "aws.yaml"
    config.write_text(yaml.safe_dump(deployment.lithops_config))
    bucket = deployment.settings.bucket
    images = open_store(f"s3://{bucket}/limits/images")
    (frame,) = make_sample(1)
    for number in range(36):
        images.put(f"isim{number:02d}a1q_flt.fits", frame.content)
    deployment.aws.faults.add(Fault("kill-midway", function=FUNCTION, n_times=3, delay_s=0.5))
    out = f"s3://{bucket}/limits/out"
    words = ["--batch-size", "12", "--config", str(config)]
    assert main(["map", images.url, "--out", out, *words]) == 0
    (limit_s,) = re.findall(
        r"limit     a first attempt is ended after (\d+) s, .* the last after 60 s",
        capsys.readouterr().out,
    )
    attempts = list(read_attempts(open_store(out)))
    failed = [attempt for attempt in attempts if attempt.status != "ok"]
    # One that died before it could say that it began is missed by that; a slow machine needs more.
    assert {attempt.status for attempt in failed} <= {"timeout", "lost"}
    first = [attempt for attempt in failed if (attempt.number, attempt.status) == (1, "timeout")]
    assert first
    for attempt in first:
        assert attempt.error.message == f"it ran longer than its limit of {limit_s} s and was ended"
    assert [attempt.status for attempt in attempts if attempt.final] == ["ok"] * 3


# -- the benchmark's own words ---------------------------------------------------------------------


def test_a_seed_draws_the_same_again_and_another_draws_others():
    assert draw_faults(7) == draw_faults(7)
    drawn = [draw_faults(seed) for seed in range(60)]
    kinds = {fault.kind for faults, _ in drawn for fault in faults}
    assert kinds == set(FAULT_KINDS)
    assert {cold for _, cold in drawn} == {True, False}
    assert all(3 <= len(faults) <= 8 for faults, _ in drawn)
    assert all(fault.function == FUNCTION for faults, _ in drawn for fault in faults)


def test_the_report_adds_up():
    runs = {
        3: FaultyRun(2.0, {"drop": 2}, 8, 6, {"ok": 6}, "a"),
        4: FaultyRun(9.0, {"drop": 1, "throttle": 4}, 7, 6, {"ok": 6}, "b"),
    }
    assert run_line(3, runs[3], is_right=True).endswith("8 attempts same summary; drop 2")
    assert "ANOTHER SUMMARY" in run_line(4, runs[4], is_right=False)
    lines = report_lines(runs, [4])
    assert "2 runs of 6 images, 1 with another summary" in lines[1]
    assert "9.0 s the longest" in lines[1]
    assert lines[2].startswith("15 attempts, 7 faults")
    assert [line.split() for line in lines[3:]] == [["drop", "3"], ["throttle", "4"]]
