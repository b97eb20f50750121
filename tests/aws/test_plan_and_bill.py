"""What was planned of a run on the loopback AWS is what its REPORT lines bill, line by line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hstmap.aws.bill import LINES
from hstmap.run_record import read_plans
from hstmap.storage import Store, open_store
from support.archive import small_flt

IS_LONG = bool(os.environ.get("HSTMAP_LONG_TESTS"))
N_FRAMES = 400 if IS_LONG else 40
BATCH_SIZE = 4
N_PILOT = 60 if IS_LONG else 16
N_CONTENTS = 8
#: One at a time in the long form: more of them share two cores with the servers, and the pilot is
#: not as long as the rest.
N_WORKERS = 1 if IS_LONG else 3
#: What is off by chance: Lambda may start an environment more than there are calls at a time; the
#: client lists as long as it waits. Of a short run also durations, where the machine is busy with
#: other things: it was 1 % when little else ran.
TOLERANCE = dict.fromkeys(LINES, 0.1) | (
    {"init": 0.4, "s3_list": 0.25, "storage_month": 0.15}
    if IS_LONG
    else {"compute": 0.4, "init": 0.5, "s3_list": 0.6}
)


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


def usd_by_line(store: Store, column: str) -> dict[str, float]:
    """Read a column of a run's saved bill."""
    bill = json.loads(store.get("bill.json"))["bills"][column]
    return {line["name"]: line["list_usd"] for line in bill["lines"]}


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
    planned, billed = usd_by_line(store, "planned"), usd_by_line(store, "report")
    assert {name for name, usd in planned.items() if usd} == {
        name for name, usd in billed.items() if usd
    }
    errors = {name: planned[name] / usd - 1 for name, usd in billed.items() if usd}
    assert errors["requests"] == 0
    beyond = {name: error for name, error in errors.items() if abs(error) > TOLERANCE[name]}
    assert beyond == {}
    total = sum(planned.values()) / sum(billed.values()) - 1
    assert abs(total) < TOLERANCE["s3_list"]


def test_the_next_run_can_be_planned_by_an_earlier_one(
    deployment: Any, frames: str, tmp_path: Path
) -> None:
    first, second = (f"s3://{deployment.settings.bucket}/planned-{name}" for name in "ab")
    config = str(deployment.write_config(tmp_path))
    options = ["--config", config, "--batch-size", "2", "--catalogs", "none", "--no-reduce"]
    hstmap("map", frames, "-o", first, "--limit", "6", *options)
    warm = f"{first}-warm"
    hstmap("map", frames, "-o", warm, "--limit", "6", "--profile", first, *options)
    hstmap("bill", first)
    hstmap("bill", warm)
    # Of the environments that the first run began with, those that it used are taken as warm.
    planned = [usd_by_line(open_store(run), "planned").get("init", 0) for run in (first, warm)]
    assert planned[1] < planned[0]
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
