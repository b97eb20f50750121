"""A budget on Lambda: what AWS would charge for all of it stays below, and the run goes on."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hstmap.account.budget import Account
from hstmap.account.charges import CallTerms, CallWork
from hstmap.account.costs import LambdaShape
from hstmap.aws.bill import price
from hstmap.aws.local import Fault
from hstmap.aws.price_table import load_prices
from hstmap.aws.usage import LOG_NBYTES_A_CALL, Call, Usage
from hstmap.bag.engine import EngineOptions, Stage, Task, make_engine
from hstmap.bag.events import AttemptEnded, Event
from hstmap.storage import open_store
from support.archive import small_flt

N_IMAGES = 16
PRICES = load_prices()
#: Of a call with one image, that is ended after 6 s.
TERMS = CallTerms.of(
    LambdaShape(1769, "x86_64"), PRICES, CallWork(1, 2, attempt_s=6, function_s=60, looks_s=0.1)
)


@pytest.fixture
def source(deployment: Any) -> str:
    """Small frames in the deployment's bucket."""
    url = f"s3://{deployment.settings.bucket}/frames-{uuid.uuid4().hex}"
    store = open_store(url)
    for number in range(N_IMAGES):
        store.put(f"isim{number:02d}a1q_flt.fits", small_flt(1 + number % 2))
    return url


class Spent:
    """What AWS charges for what was done since some moment."""

    def __init__(self, aws: Any) -> None:
        self._aws = aws
        self._n_runs, self._n_requests = len(aws.invocation_log), len(aws.s3_log)

    def usd(self) -> float:
        self._aws.wait_until_idle()
        reports = [record.report for record in self._aws.invocation_log[self._n_runs :]]
        requests = self._aws.s3_log[self._n_requests :]
        kinds = Counter(item.kind for item in requests if item.status < 500)
        usage = Usage(
            calls=tuple(Call.from_report(report) for report in reports),
            n_get=kinds["get"] + kinds["head"],
            n_put=kinds["put"],
            n_list=kinds["list"],
            log_nbytes=LOG_NBYTES_A_CALL * len(reports),
        )
        # The milliseconds are those that the reports say.
        billed_ms = sum(report.billed_duration_ms for report in reports)
        bill = price(usage, PRICES, "x86_64")
        assert bill.billed_ms == billed_ms
        return bill.list_usd


def hstmap(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hstmap", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


def test_what_is_billed_stays_below_the_budget_and_the_run_goes_on(
    deployment: Any, source: str, tmp_path: Path
) -> None:
    bucket, config = deployment.settings.bucket, str(deployment.write_config(tmp_path))
    out, whole = (f"s3://{bucket}/{name}-{uuid.uuid4().hex}" for name in ("out", "whole"))
    common = ["--config", config, "--batch-size", "1", "--timeout", "6"]
    deployment.aws.wait_until_idle()
    deployment.aws.faults.add(Fault("duplicate", function="hstmap", n_times=1))
    spent = Spent(deployment.aws)
    # Two calls at a time, and fewer as it goes on; it would take far more to do them all.
    looks_usd = TERMS.client_usd(TERMS.most_s + 90, 2)
    budget_usd = 2.1 * TERMS.most_usd + looks_usd + TERMS.reduce_usd(N_IMAGES, 1e6)
    words = ["map", source, "--out", out, *common, "--budget", f"{budget_usd:.6f}"]
    stopped = hstmap(*words)
    assert stopped.returncode == 1, stopped.stdout + stopped.stderr
    billed_usd = spent.usd()
    assert 0 < billed_usd < budget_usd
    (n_left,) = re.findall(rf"left      (\d+) of {N_IMAGES} images", stopped.stderr)
    store = open_store(out)
    assert len(list(store.list("parts/"))) == N_IMAGES - int(n_left) > 0
    assert not store.exists("sources.parquet")
    # What it says to have spent is no less than what it has, and not above its budget.
    (said,) = re.findall(r"\$([\d.]+) of \$[\d.]+ is spent at most; with one", stopped.stderr)
    assert billed_usd <= float(said) + 1e-6
    assert "simulated" not in stopped.stderr

    # What it names is a guess of what the rest takes, and this machine is not always as fast.
    n_done = N_IMAGES - int(n_left)
    for _ in range(4):
        going_on = shlex.split(stopped.stderr.splitlines()[-1])[3:]
        stopped = hstmap(*going_on)
        assert f"({n_done} of {N_IMAGES} are done)" in stopped.stdout
        assert spent.usd() < float(going_on[-1])
        n_done = len(list(store.list("parts/")))
        if stopped.returncode == 0:
            break
    assert n_done == N_IMAGES, stopped.stdout + stopped.stderr
    assert hstmap("map", source, "--out", whole, *common).returncode == 0
    assert store.get("sources.parquet") == open_store(whole).get("sources.parquet")


# -- each attempt ----------------------------------------------------------------------------------


def behave(how: str) -> str:
    if how == "hang":
        time.sleep(3600)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        os._exit(3)
    if how == "raise":
        raise ValueError(how)
    time.sleep(0.3)
    return how


def test_attempts_are_charged_no_less_than_they_are_billed(deployment: Any) -> None:
    # In seconds, without requests.
    terms = CallTerms(1.0, 0.0, 0.0, 0.0, 0.0, limit_s=8.0, n_get=0, n_put=0, looks_s=0.1)
    account = Account(terms)
    n_before = len(deployment.runs())
    options = EngineOptions(
        lithops_config=deployment.lithops_config, timeout_s=2.0, retries=0, stragglers=None
    )
    ways = ["hang", "kill", "exit", "raise", *["work"] * 4]
    seen: list[AttemptEnded] = []

    def watch(event: Event) -> None:
        if isinstance(event, AttemptEnded):
            seen.append(event)

    with make_engine("lithops", options, [watch], account) as engine:
        tasks = [Task(f"{n} {how}", how) for n, how in enumerate(ways)]
        list(engine.run(Stage("ways", behave, tasks)))
    deployment.aws.wait_until_idle()
    reports = {run.report.request_id: run.report for run in deployment.runs()[n_before:]}
    assert len(seen) == len(reports) == len(ways)
    charged, billed = 0.0, 0.0
    for event in seen:
        attempt = event.attempt
        billed_s = reports[attempt.request_id].billed_duration_ms / 1000
        charged_s = terms.charge_usd(attempt, attempt.submitted_s, event.time_s)
        assert charged_s <= terms.most_s + 1, attempt
        if attempt.status == "ok":
            assert charged_s < billed_s + 1.5
            charged, billed = charged + charged_s, billed + billed_s
    # One write may be slow on a machine that is busy; what is charged for it is the same for all.
    assert billed <= charged
    assert sum(report.billed_duration_ms for report in reports.values()) / 1000 < account.spent_usd
    # The worker ends what hangs, within the time that is reckoned with.
    longest_ms = max(report.duration_ms for report in reports.values())
    assert 2000 <= longest_ms <= 8000
