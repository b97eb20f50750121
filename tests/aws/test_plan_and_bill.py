"""What was planned of a run on the loopback AWS is what its bill counts.

Lines that hang on time are held in money by ``python -m benchmarks plan_and_bill``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hstmap.aws.usage import Usage
from hstmap.run_record import read_plans
from hstmap.storage import Store, open_store
from support.archive import small_flt

N_FRAMES = 40
BATCH_SIZE = 4
N_PILOT = 16
N_CONTENTS = 8
N_WORKERS = 3


def hstmap(*words: str) -> str:
    """Run a command as a user does, led to the loopback AWS by the environment."""
    command = [sys.executable, "-m", "hstmap", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def frames(deployment: Any) -> str:
    """Small frames in the deployment's bucket."""
    store = open_store(f"s3://{deployment.settings.bucket}/planned-frames")
    for number in range(N_FRAMES):
        content = small_flt(number % N_CONTENTS + 1)
        store.put(f"ipln{number:04d}q_flt.fits", content)
    return store.url


def used(store: Store, column: str) -> Usage:
    """Read a column of a run's saved bill."""
    return Usage.from_dict(json.loads(store.get("bill.json"))["usages"][column])


def check_counts(store: Store) -> None:
    """Hold what was planned against what was billed, where time does not matter."""
    planned, billed = used(store, "planned"), used(store, "report")
    assert planned.n_calls == billed.n_calls
    # An environment more than there are calls at a time gets the function once more.
    n_started = len([call for call in billed.calls if call.init_ms])
    assert 0 <= billed.n_get - planned.n_get <= n_started
    # The ledger goes out each ten seconds, however long it takes.
    assert abs(billed.n_put - planned.n_put) <= 3
    assert planned.log_nbytes == pytest.approx(billed.log_nbytes, rel=0.1)
    assert planned.stored_nbytes == pytest.approx(billed.stored_nbytes, rel=0.1)


def test_a_plan_made_from_a_pilot_is_what_is_billed(
    deployment: Any, frames: str, tmp_path: Path
) -> None:
    out = f"s3://{deployment.settings.bucket}/planned"
    config = str(deployment.write_config(tmp_path))
    # Another memory than before: all environments are new.
    options = ["--memory", "1700", "--batch-size", str(BATCH_SIZE), "--catalogs", "batch"]
    options += ["--workers", str(N_WORKERS)]
    shown = hstmap(
        "map", frames, "-o", out, "--config", config, *options, "--pilot", str(N_PILOT)
    )  # fmt: skip
    assert f"from {N_PILOT} images of this run; measured on Lambda, x86_64, 1,700 MB" in shown
    hstmap("bill", out)
    store = open_store(out)
    pilot, rest = read_plans(store)
    assert pilot["n_todo"] + rest["n_todo"] == N_FRAMES
    assert rest["profile"]["origin"].startswith(f"pilot: from {N_PILOT} images of this run")
    # The pilot's environments were new; those of the rest are the same ones.
    assert sum(call["n"] for call in rest["pilot_usage"]["calls"] if call["init_ms"]) == N_WORKERS
    assert not any(call["init_ms"] for call in rest["usage"]["calls"])
    check_counts(store)


def test_the_next_run_can_be_planned_by_an_earlier_one(
    deployment: Any, frames: str, tmp_path: Path
) -> None:
    first, second = (f"s3://{deployment.settings.bucket}/planned-{name}" for name in "ab")
    config = str(deployment.write_config(tmp_path))
    options = ["--config", config, "--batch-size", "2", "--catalogs", "none"]
    hstmap("map", frames, "-o", first, "--limit", "6", *options)
    warm = f"{first}-warm"
    hstmap("map", frames, "-o", warm, "--limit", "6", "--profile", first, *options)
    hstmap("bill", first)
    hstmap("bill", warm)
    # Of the environments that the first run began with, those that it used are taken as warm.
    planned = [used(open_store(run), "planned") for run in (first, warm)]
    n_starts = [sum(call.n for call in usage.calls if call.init_ms) for usage in planned]
    assert n_starts[1] < n_starts[0]
    # Reading the first run is among what the second one asks for, and was known before its plan.
    check_counts(open_store(warm))
    assert planned[1].n_get > planned[0].n_get
    shown = hstmap(
        "map", frames, "-o", second, "--limit", "8", "--profile", first, "--config", config,
        "--catalogs", "none", "--memory", "auto", "--batch", "auto", "--no-reduce",
    )  # fmt: skip
    assert "choice    the cheapest of " in shown
    (plan,) = read_plans(open_store(second))
    assert plan["profile"]["origin"].startswith("earlier run: 6 images that the run at ")
    chosen = plan["choice"]["chosen"]
    assert plan["largest_batch"] == min(8, chosen["batch_size"])
    # The function was given the memory that was chosen.
    assert {run.report.memory_size_mb for run in deployment.runs()[-plan["n_batches"] :]} == {
        chosen["memory_mb"]
    }
