"""The simulation of runs held against runs on the loopback AWS: predicted, measured, and the error.

From runs of one size, made into a profile as `hstmap plan --profile` does it, the model predicts
runs of other numbers of images and other batch sizes, cold and warm. As a machine is seldom as fast
at one time as at another, such a run is made before each of the others and after the last, and a
prediction is from the two around it; how far these are apart is printed, too.

The loopback AWS holds each worker to the CPU share of its memory and bills as Lambda does; its
network is this machine's, so what is assumed of Lambda's links, ramp and stragglers is not tried.
"""

from __future__ import annotations

import argparse
import math
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.loopback import (
    POLL_S,
    Loopback,
    LoopbackRun,
    deployed_loopback,
    loopback_images,
)
from hstmap.account.requests_made import requests_of_run
from hstmap.account.run_assumptions import EXPECTED, RunShape
from hstmap.account.run_measured import profile_of_run
from hstmap.account.run_model import simulate_run
from hstmap.account.run_profile import Profile
from hstmap.bag.ledger import read_attempts
from hstmap.batch import CATALOGS

N_WORKERS = 2
N_SEEDS = 9
#: What the loopback AWS is like: nothing comes late, and waits are part of the profile.
LOOPBACK = replace(
    EXPECTED,
    calls_a_second=1e9, get_rate=1e9, put_rate=1e9, init_ratio=1.0, poll_s=POLL_S,
    straggler_share=0.0, failure_share=0.0, twin_fraction=0.0,
)  # fmt: skip
LINES = {"map_s": "s", "gb_s": "GB-s", "init_s": "s", "n_calls": "", "n_cold": "", "n_get": "",
         "n_put": "", "n_list": ""}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A run to be predicted and made."""

    n_images: int
    batch_size: int
    is_cold: bool
    catalogs: str

    def __str__(self) -> str:
        start = "cold" if self.is_cold else "warm"
        return f"{self.n_images} images, {self.batch_size} a call, {start}, {self.catalogs}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("frames", nargs="*", type=Path, help="FLT files (default: simulated)")
    parser.add_argument("--images", type=int, default=100, help="images of the largest run")
    parser.add_argument("--memory", type=int, default=1769, metavar="MB")
    parser.add_argument("--catalogs", choices=CATALOGS, default="batch")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make the runs, print and return predictions, measurements and errors."""
    n = 8 if arguments.short else arguments.images
    kind = arguments.catalogs
    learnt = Case(n // 2, max(1, n // 10), True, kind)
    cases = [Case(n, max(1, n // 20), False, kind)]
    if not arguments.short:
        cases += [Case(n, n // 5, True, kind), Case(n, n // 10, False, "image")]
    with deployed_loopback(N_WORKERS) as loopback:
        source = loopback.put_images(loopback_images(arguments.frames, n))

        def learn() -> tuple[Profile, dict[str, float]]:
            made = _make(loopback, source, learnt, arguments.memory)
            return profile_of_run(loopback.store(made)), measure(loopback, made)

        learnt_from, rows = [learn()], []
        for case in cases:  # what a warm one finds warm is what the learning run left
            took = measure(loopback, _make(loopback, source, case, arguments.memory))
            learnt_from.append(learn())
            profile = _merged(learnt_from[-2][0], learnt_from[-1][0])
            rows.append(_print(case, predict(case, profile, arguments.memory), took))
    apart = [took["gb_s"] for _, took in learnt_from]
    worst = {line: max(abs(row["errors"].get(line, 0.0)) for row in rows) for line in LINES}
    print(f"\nlearnt    from {learnt}: {', '.join(f'{value:.1f}' for value in apart)} GB-s")
    print("worst     " + ", ".join(f"{line} {error:.0%}" for line, error in worst.items()))
    return {"learnt": str(learnt), "learnt_gb_s": apart, "runs": rows, "worst": worst}


def _merged(one: Profile, other: Profile) -> Profile:
    """Put two profiles of the same images together."""
    series = ("images", "overhead_s", "init_s", "wait_s")
    return replace(one, **{name: getattr(one, name) + getattr(other, name) for name in series})


def _make(loopback: Loopback, source: str, case: Case, memory_mb: int) -> LoopbackRun:
    """Make a run; the environments of the one before are kept if it is to be warm."""
    if case.is_cold:
        loopback.end_environments()
    words = ("--limit", case.n_images, "--batch-size", case.batch_size, "--catalogs", case.catalogs)
    return loopback.map(source, memory_mb, *map(str, words))


def predict(case: Case, profile: Profile, memory_mb: int) -> dict[str, float]:
    """Simulate a run under what the loopback AWS is like; medians over seeds."""
    shape = RunShape(
        case.n_images, N_WORKERS, case.batch_size, memory_mb, case.catalogs,
        n_warm=0 if case.is_cold else N_WORKERS,
    )  # fmt: skip
    results = [simulate_run(shape, profile, LOOPBACK, seed) for seed in range(N_SEEDS)]
    rows = []
    for result in results:
        usage = result.usage
        billed_ms = sum(math.ceil(call.duration_ms + call.init_ms) * call.n for call in usage.calls)
        rows.append(
            {
                "map_s": result.map_s,
                "gb_s": billed_ms / 1000 * memory_mb / 1024,
                "init_s": sum(call.init_ms * call.n for call in usage.calls) / 1000,
                "n_calls": usage.n_calls,
                "n_cold": result.n_cold,
                "n_get": usage.n_get,
                "n_put": usage.n_put,
                "n_list": usage.n_list,
            }
        )
    return {line: statistics.median(row[line] for row in rows) for line in LINES}


def measure(loopback: Loopback, made: LoopbackRun) -> dict[str, float]:
    """Read what a run took: its time from the ledger, its bill from the loopback AWS."""
    store = loopback.store(made)
    attempts = list(read_attempts(store))
    reports = [call.report for call in made.calls]
    asked = requests_of_run(store).by_origin
    engine = asked["workers"] + asked["workers_engine"] + asked["client_engine"]
    return {
        "map_s": max(item.ended_s for item in attempts) - min(
            item.submitted_s for item in attempts),
        "gb_s": made.gb_s,
        "init_s": sum(report.init_duration_ms or 0.0 for report in reports) / 1000,
        "n_calls": len(reports),
        "n_cold": made.n_cold,
        "n_get": engine.n_get + engine.n_head,
        "n_put": engine.n_put,
        "n_list": engine.n_list,
    }  # fmt: skip


def _print(case: Case, told: dict[str, float], took: dict[str, float]) -> dict[str, Any]:
    """Print a case by line."""
    errors = {line: told[line] / took[line] - 1 for line in LINES if took[line]}
    print(f"\n{case}\n{'':10s}{'predicted':>12s}{'measured':>12s}{'error':>8s}")
    for line, unit in LINES.items():
        digits = 1 if unit else 0
        error = f"{errors[line]:+8.0%}" if line in errors else ""
        print(f"  {line:8s}{told[line]:12,.{digits}f}{took[line]:12,.{digits}f}{error} {unit}")
    return {"case": str(case), "predicted": told, "measured": took, "errors": errors}
