"""The bill of runs on Lambda: to the millisecond what their REPORT lines say, whatever happened."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hstmap.aws.local import Fault
from hstmap.aws.price_table import load_prices
from hstmap.cli import main
from hstmap.costs import bill_from_record
from hstmap.report_rows import calls_of_rows, read_rows
from hstmap.storage import open_store
from support.archive import small_flt

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
def billed(deployment: Any, source: str, tmp_path: Path, capsys: Any) -> Any:
    """Maps the frames on Lambda, a call each, and bills that."""

    def run(*words: str, wait_s: float = 20.0, out: str = "", status: int = 0) -> Billed:
        deployment.aws.wait_until_idle()
        n_before = len(deployment.runs())
        out = out or f"s3://{deployment.settings.bucket}/billed-{uuid.uuid4().hex}"
        config = str(deployment.write_config(tmp_path))
        options = ["--batch-size", "1", "--no-catalogs", "--no-reduce", "--quiet"]
        assert main(["map", source, "--out", out, "--config", config, *options, *words]) == status
        capsys.readouterr()
        assert main(["bill", out, "--wait", str(wait_s)]) == 0
        return Billed(deployment, out, n_before, capsys.readouterr().out)

    return run


def test_the_bill_is_what_the_report_lines_say(billed, deployment):
    run = billed()
    run.check()
    assert len(run.rows) == N_IMAGES
    assert {row.purpose for row in run.rows} == {"work"}
    assert {row.attempt for row in run.rows} == {1}
    assert len({row.task_key for row in run.rows}) == N_IMAGES
    assert {row.architecture for row in run.rows} == {deployment.settings.architecture}
    assert run.record["missing"] == {}
    assert run.record["shape"]["memory_mb"] == deployment.settings.memory_mb
