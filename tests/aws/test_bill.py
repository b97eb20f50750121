"""A bill is arithmetic: known runs cost what they cost, and the sums have laws."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.aws.bill import LINES, price, reconcile
from hstmap.aws.price_table import load_prices
from hstmap.aws.reports import Report, billed_ms, parse_report
from hstmap.aws.usage import Call, Usage, n_event_requests
from hstmap.errors import UsageError

NOW = load_prices()
THEN = load_prices("us-east-1-2018")
# The line that the function of 2018 left in its log.
LINE_OF_2018 = (
    "REPORT RequestId: 9c1d0a4e-0000-11e8-8d3b-0b1f1a0d8a3e\tDuration: 1060.45 ms\t"
    "Billed Duration: 1100 ms\tMemory Size: 1024 MB\tMax Memory Used: 164 MB\t\n"
)
N_ARCHIVE = 122_078


def run_of_2018(n_images, **requests):
    return Usage(calls=(Call.from_report(parse_report(LINE_OF_2018), n=n_images),), **requests)


@pytest.mark.parametrize(("n_images", "digits", "usd"), [(100, 7, 0.0018337), (N_ARCHIVE, 2, 2.24)])
def test_the_figures_of_2018_come_from_its_report_line(n_images, digits, usd):
    bill = price(run_of_2018(n_images), THEN, "x86_64")
    assert round(bill.line("compute").list_usd, digits) == usd
    assert bill.line("init").list_usd == 0


def test_the_same_run_at_todays_prices_line_by_line():
    """One GET and one PUT an image; logs of 650 bytes a call; catalogues of 50 KB for a month."""
    usage = run_of_2018(
        N_ARCHIVE,
        n_get=N_ARCHIVE,
        n_put=N_ARCHIVE,
        log_nbytes=650 * N_ARCHIVE,
        stored_nbytes=50_000 * N_ARCHIVE,
    )
    bill = price(usage, NOW, "x86_64")
    lines = {line.name: round(line.list_usd, 2) for line in bill.lines}
    assert lines == {
        "compute": 2.16,
        "init": 0.0,
        "requests": 0.02,
        "s3_get": 0.05,
        "s3_put": 0.61,
        "s3_list": 0.0,
        "logs": 0.04,
        "storage_month": 0.14,
        "egress_regions": 0.0,
        "egress_internet": 0.0,
    }
    assert round(bill.list_usd, 2) == 3.02
    assert round(price(usage, NOW, "arm64").line("compute").list_usd, 2) == 1.73
    # 129,525 GB-s, 122,078 requests and 0.08 GB are below what is free in a month.
    assert round(bill.net_usd, 2) == 0.80


def test_the_start_of_a_thousand_environments_is_billed_today_only():
    cold = Usage(calls=(Call(1000.0, 1024, init_ms=3000.0, n=1000),))
    assert round(price(cold, NOW, "x86_64").line("init").list_usd, 2) == 0.05
    assert price(cold, THEN, "x86_64").line("init").list_usd == 0


def test_init_and_compute_make_up_the_billed_duration():
    call = Call(1060.45, 1024, init_ms=512.10)
    bill = price(Usage(calls=(call,)), NOW, "x86_64")
    assert bill.billed_ms == 1573
    assert bill.line("compute").quantity == 1.061
    assert bill.line("compute").quantity + bill.line("init").quantity == pytest.approx(1.573)


@pytest.mark.parametrize(
    ("kilobytes", "n"), [(0, 1), (256, 1), (256.001, 2), (320, 2), (321, 3), (1024, 13)]
)
def test_large_events_count_as_several_requests(kilobytes, n):
    assert n_event_requests(round(kilobytes * 1024)) == n
    calls = (Call(1.0, 128, n_requests=n, n=1000),)
    assert price(Usage(calls=calls), NOW, "arm64").line("requests").quantity == 1000 * n


hundredths = st.integers(1, 90_000_000).map(lambda n: n / 100)
calls = st.builds(
    Call,
    duration_ms=hundredths,
    memory_mb=st.integers(128, 10_240),
    init_ms=st.just(0.0) | hundredths,
    purpose=st.sampled_from(["work", "retry", "twin", "waste"]),
    n=st.integers(1, 1000),
)
counts = st.integers(0, 10**9)
usages = st.builds(
    Usage,
    calls=st.lists(calls, max_size=8).map(tuple),
    **{f.name: counts for f in dataclasses.fields(Usage) if f.name != "calls"},
)
tables = st.sampled_from([NOW, THEN])


@given(one=usages, other=usages, prices=tables)
def test_list_prices_add_up(one, other, prices):
    both = price(one + other, prices, "x86_64")
    apart = [price(usage, prices, "x86_64") for usage in (one, other)]
    for name in LINES:
        assert both.line(name).list_usd == pytest.approx(sum(b.line(name).list_usd for b in apart))
    assert both.billed_ms == sum(b.billed_ms for b in apart)


@given(usage=usages, prices=tables)
def test_what_calls_were_for_makes_up_compute_and_init(usage, prices):
    bill = price(usage, prices, "x86_64")
    lambda_usd = bill.line("compute").list_usd + bill.line("init").list_usd
    assert sum(bill.compute_usd.values()) == pytest.approx(lambda_usd)


@given(usage=usages, prices=tables)
def test_the_free_tier_only_takes_off(usage, prices):
    bill = price(usage, prices, "x86_64")
    assert [line.name for line in bill.lines] == list(LINES)
    for line in bill.lines:
        assert 0 <= line.net_usd <= line.list_usd
    used = bill.line("compute").quantity + bill.line("init").quantity
    paid = max(0.0, used - prices.lambda_free_gb_s) * prices.lambda_gb_s_usd["x86_64"]
    net = bill.line("compute").net_usd + bill.line("init").net_usd
    assert net == pytest.approx(paid, abs=1e-9)


@given(usage=usages)
def test_a_bill_can_be_made_again_from_what_was_kept(usage):
    assert Usage.from_dict(json.loads(json.dumps(usage.as_dict()))) == usage


@given(duration_ms=hundredths, init_ms=hundredths)
def test_prices_round_as_report_lines_do(duration_ms, init_ms):
    assert NOW.billed_ms(duration_ms, init_ms) == billed_ms(duration_ms, init_ms)


@given(durations=st.lists(hundredths, min_size=1, max_size=20))
def test_the_bill_is_the_sum_of_the_report_lines_to_the_millisecond(durations):
    reports = [Report(str(i), d, billed_ms(d, None), 1769, 99) for i, d in enumerate(durations)]
    parsed = [parse_report(report.as_text()) for report in reports]
    usage = Usage(calls=tuple(Call.from_report(report) for report in parsed))
    result = reconcile({"report": usage}, NOW, "arm64")
    assert result.report.billed_ms == sum(report.billed_duration_ms for report in reports)
    assert result.unexplained_ms == 0


def test_what_report_lines_and_workers_disagree_on_is_said():
    worker = Usage(calls=(Call(900.0, 1024), Call(900.0, 1024)), n_put=3)
    report = Usage(calls=(Call(1000.0, 1024, reported_ms=1005),), n_put=4)
    result = reconcile({"worker": worker, "report": report}, NOW, "x86_64")
    assert result.planned is None
    assert result.unexplained_ms == 5
    assert result.remainder_usd("s3_put") == pytest.approx(NOW.s3_put_usd)
    assert result.remainder_usd("compute") == pytest.approx(-0.8 * NOW.lambda_gb_s_usd["x86_64"])
    assert reconcile({"report": report}, NOW, "x86_64").remainder_usd("compute") is None


def test_what_cannot_be_priced_is_refused():
    with pytest.raises(UsageError, match="no arm64: give --architecture x86_64"):
        price(Usage(), THEN, "arm64")
    with pytest.raises(UsageError, match="no record"):
        Usage.from_dict({"n_get": 3})
    with pytest.raises(UsageError, match="no record"):
        Usage.from_dict({"calls": [{"length": 3}]})
