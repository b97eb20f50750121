"""The bill of runs on Lambda: to the millisecond what their REPORT lines say, whatever happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hstmap.account.costs import bill_from_record
from hstmap.account.report_rows import calls_of_rows, read_rows
from hstmap.account.requests_made import requests_of_run
from hstmap.aws import function
from hstmap.aws.bill import price
from hstmap.aws.cloudwatch import FunctionLog
from hstmap.aws.local import Fault
from hstmap.aws.price_table import load_prices
from hstmap.aws.usage import Usage
from hstmap.bag.engine import EngineOptions, Stage, Task, make_engine
from hstmap.bag.ledger import Ledger, read_attempts
from hstmap.bag.policy import StragglerPolicy
from hstmap.cli import main
from hstmap.commands import engines
from hstmap.config import Settings
from hstmap.storage import open_store
from support.archive import small_flt
from support.gate import LOSE, Gate

N_IMAGES = 6


@pytest.fixture
def source(deployment: Any) -> str:
    """Small frames in the deployment's bucket."""
    url = f"s3://{deployment.settings.bucket}/small"
    store = open_store(url)
    for number in range(1, N_IMAGES + 1):
        store.put(f"isim{number:02d}a1q_flt.fits", small_flt(number))
    return url


class Billed:
    """A run on Lambda that was billed, and what really happened."""

    def __init__(self, deployment: Any, out: str, n_before: int, shown: str) -> None:
        deployment.aws.wait_until_idle()
        self.reports = [run.report for run in deployment.runs()[n_before:]]
        self.store = open_store(out)
        self.record = json.loads(self.store.get("bill.json"))
        self.rows = read_rows(self.store)
        self.shown = shown

    @property
    def billed_ms(self) -> int:
        return int(self.record["bills"]["report"]["billed_ms"])

    def check(self) -> None:
        """Hold the bill against what Lambda itself has noted."""
        assert self.billed_ms == sum(report.billed_duration_ms for report in self.reports)
        assert sum(row.billed_duration_ms for row in self.rows) == self.billed_ms
        assert sorted(row.request_id for row in self.rows) == sorted(
            report.request_id for report in self.reports
        )
        assert self.record["unexplained_ms"] == 0
        assert self.record["simulated"] is False
        assert "of the REPORT lines" in self.shown


@pytest.fixture
def billed(
    deployment: Any,
    source: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """Maps the frames on Lambda, a call each, and bills that."""
    usual = engines.engine_options

    def run(
        *words: str,
        wait_s: float = 20.0,
        out: str = "",
        n_before: int | None = None,
        at_once: bool = False,
        start_timeout_s: float = 30.0,
    ) -> Billed:
        # Whether a call takes so long that it gets a twin is for the machine to say.
        changes = {"start_timeout_s": start_timeout_s, "stragglers": None}
        monkeypatch.setattr(
            engines, "engine_options", lambda *given, **more: usual(*given, **more, **changes)
        )
        deployment.aws.wait_until_idle()
        n_before = len(deployment.runs()) if n_before is None else n_before
        out = out or f"s3://{deployment.settings.bucket}/billed-{uuid.uuid4().hex}"
        config = str(deployment.write_config(tmp_path))
        options = ["--batch-size", "1", "--no-catalogs", "--no-reduce", "--quiet"]
        assert main(["map", source, "--out", out, "--config", config, *options, *words]) == 0
        capsys.readouterr()
        if not at_once:  # an event may still be delivered a second time, and nobody can know
            deployment.aws.wait_until_idle()
        assert main(["bill", out, "--wait", str(wait_s)]) == 0
        return Billed(deployment, out, n_before, capsys.readouterr().out)

    return run


def test_the_bill_is_what_the_report_lines_say(billed, deployment):
    run = billed(at_once=True)
    run.check()
    assert len(run.rows) == N_IMAGES
    assert {row.purpose for row in run.rows} == {"work"}
    assert {row.attempt for row in run.rows} == {1}
    assert len({row.task_key for row in run.rows}) == N_IMAGES
    assert {row.architecture for row in run.rows} == {deployment.settings.architecture}
    assert run.record["missing"] == {}
    assert run.record["shape"]["memory_mb"] == deployment.settings.memory_mb
    assert "0 ms are unexplained" in run.shown
    assert "make the bill again" in run.shown
    made = requests_of_run(run.store)
    usages = run.record["usages"]
    of_workers = made.by_origin["workers"] + made.by_origin["workers_engine"]
    assert usages["worker"]["n_put"] == of_workers.n_put >= 3 * N_IMAGES  # a part, and two answers
    assert usages["report"]["n_put"] == (made.total - made.by_origin["bill"]).n_put
    # What workers say by their own clocks is less than what is billed, and not by much.
    told, billed_ms = run.record["bills"]["worker"]["billed_ms"], run.billed_ms
    assert 0.5 * billed_ms < told <= billed_ms
    assert main(["bill", run.store.url, "--memory", "512"]) == 2  # the lines know better


#: Of each kind, what it leaves among the purposes of the lines beside the six that did the work.
FAULTS = {
    "duplicate": (Fault("duplicate", n_times=2), {"twin"}),
    "kill-before-init": (Fault("kill-before-init", n_times=1), {"retry"}),
    "kill-midway": (Fault("kill-midway", n_times=1, at_log="lithops.jobs"), {"retry"}),
    "kill-at-response": (Fault("kill-at-response", n_times=1), set()),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_every_fault_is_in_the_bill_to_the_millisecond(billed, deployment, kind):
    fault, others = FAULTS[kind]
    if kind == "kill-before-init":  # which takes a start
        client = deployment.session.client("lambda")
        client.update_function_configuration(FunctionName="hstmap", Description=uuid.uuid4().hex)
    deployment.aws.faults.add(replace(fault, function="hstmap"))
    run = billed("--timeout", "8")
    assert any(item.fault.kind == kind for item in deployment.aws.faults.fired)
    run.check()
    purposes = Counter(row.purpose for row in run.rows)
    assert purposes["work"] == N_IMAGES
    assert set(purposes) == {"work"} | others
    assert run.record["missing"] == {}
    spent = run.record["bills"]["report"]["compute_usd"]
    assert {name for name, usd in spent.items() if usd} == set(purposes)


#: Each takes some seconds: HSTMAP_LONG_TESTS=1 pytest -k at_random
N_SEEDS = 50 if os.environ.get("HSTMAP_LONG_TESTS") else 1


@pytest.mark.parametrize("seed", range(N_SEEDS))
def test_faults_at_random_are_in_the_bill_to_the_millisecond(billed, deployment, seed):
    deployment.aws.faults.reseed(seed)
    for kind in ("throttle", "duplicate", "kill-before-init", "kill-midway", "kill-at-response"):
        delay_s = 0.05 if kind == "kill-midway" else 0.0
        deployment.aws.faults.add(
            Fault(kind, function="hstmap", n_times=3, probability=0.3, delay_s=delay_s)
        )
    run = billed("--retries", "12", "--timeout", "6")
    run.check()
    assert run.record["missing"] == {}
    assert Counter(row.purpose for row in run.rows)["work"] == N_IMAGES


def test_dropped_events_are_named_and_throttled_ones_cost_nothing(billed, deployment):
    deployment.aws.faults.add(
        Fault("drop", function="hstmap", n_times=2), Fault("throttle", function="hstmap", n_times=3)
    )
    run = billed("--timeout", "8", wait_s=1.5, start_timeout_s=5.0)
    run.check()
    assert Counter(row.purpose for row in run.rows)["work"] == N_IMAGES
    assert run.record["missing"] == {"lost": 2}
    assert "2 calls have no REPORT line (2 lost)" in run.shown


def test_a_call_that_was_sent_twice_for_a_lost_answer_is_billed_twice(
    billed, deployment, monkeypatch
):
    variable = "AWS_ENDPOINT_URL_LAMBDA"
    endpoint = deployment.aws.environment[variable]
    with Gate(endpoint, [LOSE, LOSE], lambda path, _: path.endswith("/invocations")) as gate:
        monkeypatch.setenv(variable, gate.url)
        run = billed("--timeout", "30")
        assert gate.fates == []
    run.check()
    # A run that is over before the client's pause is, sends nothing again; a slow one has twins.
    n_sent = len(run.reports)
    purposes = Counter(row.purpose for row in run.rows)
    assert purposes == Counter(work=N_IMAGES, twin=n_sent - N_IMAGES)
    assert len({row.task_key for row in run.rows}) == N_IMAGES
    # What nobody knows of is, task by task, what was sent beyond its attempts.
    attempts = list(read_attempts(run.store))
    known = {attempt.request_id for attempt in attempts}
    assert known <= {row.request_id for row in run.rows}
    sent, tried = (Counter(item.task_key for item in items) for items in (run.rows, attempts))
    unknown = Counter(row.task_key for row in run.rows if row.request_id not in known)
    assert sent - tried == unknown


def sleep_once(payload: tuple[str, bool]) -> str:
    """Take long, if that is asked for, unless another attempt does already."""
    url, slow = payload
    if slow and open_store(url).put("began", b"", if_absent=True):
        time.sleep(3.0)
    return url


def test_twins_are_waited_for_and_paid_apart(deployment, capsys):
    """An attempt that its twin has overtaken runs on, while the client has gone ahead."""
    deployment.aws.wait_until_idle()
    n_before = len(deployment.runs())
    out = f"s3://{deployment.settings.bucket}/twins-{uuid.uuid4().hex}"
    settings = Settings(lithops=deployment.lithops_config)
    options = EngineOptions(
        lithops_config=settings.lithops_config(),
        stragglers=StragglerPolicy(0.5, slowdown=1.0, min_elapsed_s=0.5, max_fraction=1.0),
    )
    tasks = [Task(f"task {n}", (f"{out}-began", n == 0)) for n in range(4)]
    with (
        Ledger(open_store(out), about=engines.where_it_runs(settings)) as ledger,
        make_engine("lithops", options, [ledger]) as engine,
    ):
        statuses = Counter(a.status for a in engine.run(Stage("map", sleep_once, tasks)))
    assert statuses["ok"] == 4
    assert statuses["cancelled"] >= 1
    assert main(["bill", out, "--wait", "20"]) == 0
    run = Billed(deployment, out, n_before, capsys.readouterr().out)
    run.check()
    assert "waiting   for the REPORT lines" in run.shown
    assert Counter(row.purpose for row in run.rows) == {"work": 4, "twin": statuses["cancelled"]}
    slow = max(run.rows, key=lambda row: row.duration_ms)
    assert (slow.purpose, slow.task_key) == ("twin", "task 0")
    spent = run.record["bills"]["report"]["compute_usd"]
    assert spent["twin"] > spent["work"] > 0


def test_text_logs_are_read_page_by_page_through_throttling(billed, deployment, monkeypatch):
    as_json = function._configuration
    text = {"LogFormat": "Text", "LogGroup": deployment.settings.log_group}
    monkeypatch.setattr(
        function, "_configuration", lambda settings: as_json(settings) | {"LoggingConfig": text}
    )
    monkeypatch.setattr(FunctionLog.__init__, "__defaults__", (7,))
    variable = "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS"
    fates = ["pass", *[(400, "ThrottlingException")] * 2, "pass", (503, "ServiceUnavailable")]
    with Gate(deployment.aws.environment[variable], fates) as gate:
        monkeypatch.setenv(variable, gate.url)
        deployment.aws.faults.add(Fault("duplicate", function="hstmap"))
        run = billed()
        assert gate.fates == []
        assert gate.n_requests > 8
    run.check()
    assert Counter(row.purpose for row in run.rows) == {"work": N_IMAGES, "twin": 1}
    client, group = deployment.aws.client("logs"), deployment.settings.log_group
    streams = {row.log_stream for row in run.rows}
    events = [
        event
        for page in client.get_paginator("filter_log_events").paginate(logGroupName=group)
        for event in page["events"]
        if event["logStreamName"] in streams
    ]
    assert any(event["message"].startswith("REPORT RequestId") for event in events)
    assert run.record["usages"]["report"]["log_nbytes"] == sum(
        len(event["message"].encode()) + 26 for event in events
    )


def test_what_was_saved_makes_the_bill_again_without_the_log(billed, deployment, capsys):
    deployment.aws.faults.add(Fault("kill-midway", function="hstmap", at_log="lithops.jobs"))
    run = billed("--timeout", "8")
    record = run.record
    # From reports.parquet: each line of the bill that is Lambda's, at any prices.
    usage = Usage(calls=tuple(calls_of_rows(run.rows)))
    for prices in (load_prices(), load_prices("us-east-1-2018")):
        bill = bill_from_record(run.store.get("bill.json")).under(prices).report
        again = price(usage, prices, record["shape"]["architecture"])
        for name in ("compute", "init", "requests"):
            assert again.line(name) == bill.line(name)
        assert again.compute_usd == bill.compute_usd
    # From the run, when Lambda's log was removed with the function.
    client, group = deployment.aws.client("logs"), deployment.settings.log_group
    client.delete_log_group(logGroupName=group)
    try:
        assert main(["bill", run.store.url]) == 0
        assert "is not there any more" in capsys.readouterr().out
        later = json.loads(run.store.get("bill.json"))
        assert later["bills"]["report"]["billed_ms"] == run.billed_ms
        run.store.delete("reports.parquet")
        assert main(["bill", run.store.url]) == 0
        shown = capsys.readouterr()
        assert "simulated from the ledger" in shown.out
        assert "cannot be read" in shown.err
    finally:
        client.create_log_group(logGroupName=group)
        client.put_retention_policy(logGroupName=group, retentionInDays=30)
    # The log is there again, and empty.
    assert main(["bill", run.store.url, "--wait", "0", "--memory", "512"]) == 0
    shown = capsys.readouterr()
    assert "none of 7 calls has a REPORT line" in shown.err
    assert "simulated from the ledger: no REPORT lines were read; 512 MB" in shown.out


def test_a_client_that_was_killed_is_billed_when_its_run_has_gone_on(
    billed, deployment, source, tmp_path
):
    deployment.aws.wait_until_idle()
    n_before = len(deployment.runs())
    out = f"s3://{deployment.settings.bucket}/killed-{uuid.uuid4().hex}"
    config = str(deployment.write_config(tmp_path))
    words = ["map", source, "--out", out, "--config", config, "--batch-size", "1"]
    words += ["--no-catalogs", "--no-reduce", "--quiet", "--workers", "2"]
    client = subprocess.Popen([sys.executable, "-m", "hstmap", *words])
    deadline = time.monotonic() + 60
    while not list(open_store(out).list("ledger/")) and time.monotonic() < deadline:
        time.sleep(0.05)
    client.kill()
    client.wait()
    deployment.aws.wait_until_idle()
    n_of_the_killed = len(deployment.runs()) - n_before
    assert 0 < n_of_the_killed < N_IMAGES
    run = billed(out=out, n_before=n_before)
    run.check()
    assert len(run.rows) > n_of_the_killed
    unknown = [row for row in run.rows if not row.task_key or row.purpose == "waste"]
    assert len(unknown) <= n_of_the_killed
