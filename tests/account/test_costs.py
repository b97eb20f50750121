"""What a run's ledger, plan and place become: a bill, and a profile."""

from __future__ import annotations

import json
import re
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.account.costs import (
    BILL_KEY,
    LambdaShape,
    bill_from_record,
    bill_run,
)
from hstmap.account.ledger_reports import LedgerReports
from hstmap.account.requests_made import RequestLog
from hstmap.account.run_calls import purposes, read_calls
from hstmap.account.run_measured import profile_of_run
from hstmap.account.run_profile import ImageSample, Profile, load_profile
from hstmap.aws.bill import LINES, price
from hstmap.aws.price_table import load_prices
from hstmap.aws.usage import LOG_NBYTES_A_CALL, Call, Usage
from hstmap.bag.events import AttemptEnded
from hstmap.bag.ledger import Ledger, read_attempts
from hstmap.bag.task import Attempt, RemoteError, WorkerInfo
from hstmap.cli import main
from hstmap.errors import UsageError
from hstmap.storage import RequestCounts, open_store
from hstmap.storage_counts import CallRequests
from support.archive import write_archive

NOW = load_prices()
PROFILE = Profile(
    name="made up",
    origin="a test",
    machine="",
    date="",
    images=(ImageSample(0.5, 0.1, 1000), ImageSample(0.3, 0.1, 3000)),
    n_get_image=1.5,
    overhead_s=(0.2,),
    init_s=(1.0, 2.0, 9.0),
    part_nbytes_image=100,
    catalog_nbytes_image=50,
    reduce_s_image=0.01,
)


def attempt(key, number, status, seconds=1.0, *, final=True, cold=False, value=None):
    error = None if status == "ok" else RemoteError("Error", "why")
    requests = None
    if value is not None:
        requests = CallRequests(RequestCounts(**value["requests"]), RequestCounts(n_put=2, n_get=1))
    return Attempt(
        stage="map", task_key=key, number=number, status=status, final=final, value=value,
        error=error, worker=WorkerInfo("here", 1, cold),
        submitted_s=100.0, started_s=101.0, ended_s=101.0 + seconds, requests=requests,
    )  # fmt: skip


def batch_report(n_images, elapsed_s, part="parts/a.parquet", **requests):
    counts = dict.fromkeys(("n_get", "n_put", "n_list", "n_head", "n_delete"), 0) | requests
    return {
        "part": part, "outcomes": {"ok": n_images}, "n_sources": 5, "elapsed_s": elapsed_s,
        "requests": counts | {"nbytes_read": 9, "nbytes_written": 9},
    }  # fmt: skip


ATTEMPTS = [
    attempt("a", 1, "lost", 4.0, final=False, cold=True),
    attempt("a", 2, "ok", 2.0, value=batch_report(3, 1.75, n_get=6, n_head=1, n_put=4)),
    attempt("b", 1, "cancelled", 8.0, final=False),
    attempt("b", 2, "ok", 3.0, cold=True, value=batch_report(3, 2.5, n_get=5, n_put=1)),
    attempt("c", 1, "error", 1.0, final=False),
    attempt("c", 2, "timeout", 16.0),
]


def write_ledger(store, attempts):
    """A client's ledger, who has made 3 writes, 2 listings, 5 HEADs and a removal of its own."""
    own = RequestLog("map")
    own._hear(RequestCounts(n_put=3, n_list=2, n_head=5, n_delete=1))
    with Ledger(store, detail=lambda item: item.value) as ledger, own.written_to(ledger):
        for item in attempts:
            ledger(AttemptEnded(item, item.ended_s))


@pytest.fixture
def store(tmp_path):
    store = open_store(str(tmp_path / "out"))
    write_ledger(store, ATTEMPTS)
    store.put("parts/a.parquet", bytes(1000))
    store.put("sample/x_flt.fits", bytes(7000))
    return store


def test_attempts_are_told_apart_by_what_came_of_their_task():
    expected = ["retry", "work", "twin", "work", "waste", "waste"]
    assert purposes(ATTEMPTS) == expected
    assert [call.purpose for call in LedgerReports(ATTEMPTS, 1024, 0.0).calls()] == expected


def test_an_attempt_that_never_started_costs_nothing():
    never = Attempt("map", "d", 1, "lost", True, error=RemoteError("Lost", "no start"))
    assert len(LedgerReports([*ATTEMPTS, never], 1024, 0.0).calls()) == len(ATTEMPTS)


def test_a_run_on_this_machine_is_billed_as_if_it_had_been_on_lambda(store):
    bill = bill_run(store, read_calls(store), LambdaShape(2048, "x86_64"), PROFILE)
    assert bill.simulated
    result = bill.under(NOW)
    gb_s_usd = NOW.lambda_gb_s_usd["x86_64"]
    # 33.5 s in all, on 2 GB; two cold starts of the median of 2 s. Of the one that ended well
    # counts what its worker said.
    assert result.report.line("compute").quantity == pytest.approx(67)
    assert result.report.line("init").quantity == pytest.approx(8)
    apart = {name: usd / gb_s_usd for name, usd in result.report.compute_usd.items()}
    assert apart == pytest.approx(
        {"work": (2 + 4.5) * 2, "retry": (4 + 2) * 2, "twin": 8 * 2, "waste": 17 * 2}
    )
    # Workers tell of the two batches that they finished.
    assert result.worker.line("compute").quantity == pytest.approx(4.25 * 2)
    assert bill.missing == {}
    # Their batches asked for these, and what brought the calls for a GET and two PUTs each; the
    # rest is the client's. A HEAD is charged as a GET, and removing is free.
    for name, n_workers, n_client in (("get", 12 + 2, 5), ("put", 5 + 4, 3), ("list", 0, 2)):
        assert result.worker.line(f"s3_{name}").quantity == n_workers
        assert result.report.line(f"s3_{name}").quantity == n_workers + n_client
    assert {name: n for name, n in bill.requests.items() if n} == {
        "workers": 17, "workers_engine": 6, "map": 11,
    }  # fmt: skip
    assert any("4 invocations left no word" in note for note in bill.notes)
    assert result.report.line("requests").quantity == 6
    usage = bill.usages["report"]
    assert usage.log_nbytes == 6 * LOG_NBYTES_A_CALL
    ledger = sum(info.nbytes for info in store.list("ledger/"))
    assert usage.stored_nbytes == 1000 + ledger


def test_the_plan_has_a_column_where_there_is_one(store):
    assert "planned" not in bill_run(store, read_calls(store), LambdaShape(), PROFILE).usages
    usage = Usage(calls=(Call(3000, 1769, 2000, n=2),), n_get=15, n_put=12, stored_nbytes=1500)
    plan = {"n_todo": 10, "n_done": 0, "usage": usage.as_dict()}
    store.put("plan.json", json.dumps({"plans": [plan]}).encode())
    bill = bill_run(store, read_calls(store), LambdaShape(), PROFILE)
    assert bill.usages["planned"] == usage


statuses = st.sampled_from(["error", "lost", "timeout", "cancelled"])


@given(
    histories=st.lists(
        st.tuples(st.lists(statuses, max_size=3), st.booleans()), min_size=1, max_size=6
    )
)
def test_whatever_happened_each_attempt_is_billed_once(histories):
    attempts = []
    for i, (failures, succeeds) in enumerate(histories):
        ends = [*failures, "ok"] if succeeds else [*failures, "error"]
        attempts += [
            attempt(f"t{i}", number, status, float(number), final=number == len(ends))
            for number, status in enumerate(ends, start=1)
        ]
    bill = price(Usage(calls=tuple(LedgerReports(attempts, 1024, 0.0).calls())), NOW, "arm64")
    gb_s = {name: usd / NOW.lambda_gb_s_usd["arm64"] for name, usd in bill.compute_usd.items()}
    assert sum(gb_s.values()) == pytest.approx(sum(a.ended_s - a.started_s for a in attempts))
    assert purposes(attempts).count("work") == sum(succeeds for _, succeeds in histories)
    assert (gb_s["waste"] > 0) == (not all(succeeds for _, succeeds in histories))


class TwoCalls:
    """What CloudWatch would give."""

    simulated = False
    notes = ("nothing",)
    log_nbytes = 1234
    missing = MappingProxyType({"lost": 1})

    def calls(self):
        return [Call(10.0, 128, reported_ms=10), Call(20.0, 128, reported_ms=20)]


def test_other_reports_take_the_place_of_the_ledgers(store):
    bill = bill_run(store, read_calls(store), LambdaShape(), PROFILE, TwoCalls())
    result = bill.under(NOW)
    assert not bill.simulated
    assert result.report.billed_ms == 30
    assert result.unexplained_ms == 0
    assert bill.usages["worker"].n_calls == 2
    assert bill.usages["report"].log_nbytes == 1234
    assert bill.missing == {"lost": 1}


def test_a_saved_bill_gives_the_same_figures_under_any_prices(store):
    bill = bill_run(store, read_calls(store), LambdaShape(1024, "x86_64"), PROFILE)
    again = bill_from_record(bill.as_json(NOW))
    assert again == bill
    for prices in (NOW, load_prices("us-east-1-2018")):
        assert again.under(prices) == bill.under(prices)
    saved = json.loads(bill.as_json(NOW))
    assert saved["simulated"] is True
    assert saved["bills"]["report"]["list_usd"] == bill.under(NOW).report.list_usd


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"format": 99}'])
def test_what_is_no_bill_is_refused(content):
    with pytest.raises(UsageError, match="bill"):
        bill_from_record(content)


def test_a_place_without_a_ledger_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no ledger"):
        read_calls(open_store(str(tmp_path)))


# -- profiles ------------------------------------------------------------------------------------


def test_the_profile_that_comes_along_was_measured():
    profile = load_profile()
    assert len(profile.images) >= 19
    assert profile.machine
    assert profile.date.startswith("20")
    assert all(image.compute_s > 0 for image in profile.images)
    assert 5e6 < profile.mean_nbytes_read < 20e6


def test_a_profile_reads_back_as_it_was(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(PROFILE.as_json())
    assert load_profile(str(path)) == PROFILE


def test_what_is_no_profile_is_refused(tmp_path):
    (tmp_path / "bad.json").write_text('{"name": 3}')
    with pytest.raises(UsageError, match="not a profile"):
        load_profile(str(tmp_path / "bad.json"))
    with pytest.raises(UsageError, match="no profile"):
        load_profile("nothing-of-that-name")
    with pytest.raises(UsageError, match="0 images"):
        Profile(**{**vars(PROFILE), "images": ()})


# -- the command ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("costs")
    write_archive(folder / "images", 3)
    out = folder / "out"
    command = ["map", str(folder / "images"), "-o", str(out), "--engine", "inprocess", "--quiet"]
    assert main([*command, "--batch-size", "2"]) == 0
    return out


def test_bill_prints_and_saves_what_a_run_would_have_cost(finished, capsys):
    assert main(["bill", str(finished), "--memory", "1024"]) == 0
    shown = capsys.readouterr().out
    assert "simulated" in shown.splitlines()[0]
    # Three images: a read each, a catalogue each, and two parts.
    record = json.loads((finished / BILL_KEY).read_text())
    worker, report = (record["usages"][name] for name in ("worker", "report"))
    assert (worker["n_get"], worker["n_put"], worker["n_list"]) == (3, 5, 0)
    assert report["n_put"] > worker["n_put"]  # the record, the manifest, the summary
    assert re.search(rf"^s3_put +{report['n_put']} requests", shown, re.M)
    assert re.search(r"^requests +2 requests", shown, re.M)
    assert "egress" not in shown  # what is nothing in all columns is left out
    assert re.search(r"^s3 +requests by who made them: workers 8, .*map \d+", shown, re.M)
    assert record["simulated"] is True
    assert record["shape"] == {"memory_mb": 1024, "architecture": "arm64"}
    attempts = read_attempts(open_store(str(finished)))
    seconds = [
        item.value["elapsed_s"] if item.worker.cold else item.ended_s - item.started_s
        for item in attempts
    ]
    billed_ms = record["bills"]["report"]["billed_ms"]
    init_ms = sum(call["init_ms"] for call in record["usages"]["report"]["calls"])
    assert billed_ms == pytest.approx(sum(seconds) * 1000 + init_ms, abs=4)


def test_a_saved_bill_is_priced_again(finished, capsys):
    assert main(["bill", str(finished), "--architecture", "x86_64", "--quiet"]) == 0
    capsys.readouterr()
    saved = str(finished / BILL_KEY)
    assert main(["bill", saved, "--prices", "us-east-1-2018"]) == 0
    assert "us-east-1-2018" in capsys.readouterr().out
    assert main(["bill", saved, "--memory", "512"]) == 2
    assert main(["bill", saved, "--architecture", "arm64", "--prices", "us-east-1-2018"]) == 2
    assert "no arm64" in capsys.readouterr().err


def test_a_run_makes_a_profile(finished):
    profile = profile_of_run(open_store(str(finished)))
    assert len(profile.images) == 3
    assert len(profile.overhead_s) == 2
    assert profile.n_get_image == 1
    assert profile.init_s == load_profile().init_s
    sizes = sum(path.stat().st_size for path in (finished / "catalogs").iterdir())
    assert profile.catalog_nbytes_image == pytest.approx(sizes / 3)
    with pytest.raises(UsageError, match="0 images in parts"):
        profile_of_run(open_store(str(finished / "nowhere")))


def test_plan_says_what_a_source_would_take(finished, tmp_path, capsys):
    images = str(finished.parent / "images")
    kept = tmp_path / "plan.json"
    assert main(["plan", images, "--profile", str(finished), "--json", str(kept)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("images    3,")
    assert "simulated" in shown
    assert "images that the run at" in shown
    for name in LINES:
        low, expected, high = map(float, re.search(rf"^{name}, USD(.*)$", shown, re.M)[1].split())
        assert 0 <= low <= expected <= high
    record = json.loads(kept.read_text())
    assert record["simulated"] is True
    assert record["shape"]["n_images"] == 3
    assert record["lines"]["compute"]["expected"] > 0


def test_plan_takes_a_number_of_images_and_options_show(capsys):
    def cost(*options):
        assert main(["plan", "--images", "500", *options]) == 0
        shown = capsys.readouterr().out
        return [float(word) for word in re.search(r"^list price, USD(.*)$", shown, re.M)[1].split()]

    usual = cost()[1]
    assert cost("--no-catalogs")[1] < usual
    assert cost("--architecture", "x86_64")[1] > usual


@pytest.mark.parametrize(
    "arguments",
    [[], ["folder", "--images", "3"], ["--images", "3", "--limit", "2"]],
)
def test_plan_refuses_what_is_not_one_source(arguments, capsys):
    assert main(["plan", *arguments]) == 2
    assert "give" in capsys.readouterr().err


def test_plan_refuses_a_profile_that_is_none(tmp_path, capsys):
    assert main(["plan", "--images", "3", "--profile", str(tmp_path)]) == 2
    assert "profile" in capsys.readouterr().err


def test_a_dry_run_says_what_it_would_cost_on_lambda(finished, tmp_path, capsys):
    images = str(finished.parent / "images")
    assert main(["map", images, "-o", str(tmp_path / "new"), "--dry-run"]) == 0
    assert re.search(r"^estimate +simulated, on Lambda: \$0\.0\d+ ", capsys.readouterr().out, re.M)
    # Of a run that is done nothing is left to be paid for.
    assert main(["map", images, "-o", str(finished), "--dry-run"]) == 0
    assert "estimate" not in capsys.readouterr().out
