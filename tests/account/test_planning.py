"""Maps on Lambda, foreseen and prepared without sending anything: settings, choices, money."""

from __future__ import annotations

import argparse
import dataclasses
import time

import pytest

from hstmap.account.choose import Goal
from hstmap.account.estimate import estimate_run
from hstmap.account.run_assumptions import EXPECTED, HIGH, LOW, RunShape, assumption_sets
from hstmap.account.run_calls import PLACE_FACT, LambdaPlace
from hstmap.account.run_model import simulate_run
from hstmap.account.run_profile import load_profile
from hstmap.account.run_usage import (
    before_usage,
    client_usage,
    count_looks,
    count_usage,
    with_asked,
)
from hstmap.archive.manifest import Manifest
from hstmap.aws.bill import LINES, price
from hstmap.aws.price_table import load_prices
from hstmap.aws.usage import LOG_NBYTES_A_CALL, Call
from hstmap.bag.events import AttemptEnded, AttemptSubmitted
from hstmap.bag.ledger import Ledger
from hstmap.bag.task import Attempt, WorkerInfo
from hstmap.batch import RunParameters
from hstmap.commands.choice_options import check_choice, without_choice
from hstmap.commands.engines import where_it_runs
from hstmap.commands.money import choice_lines
from hstmap.commands.planning import Intent, Wish, foresee_map, pilot_of, prepare
from hstmap.config import Settings
from hstmap.errors import UsageError
from hstmap.pipeline import RunOptions, plan_run
from hstmap.storage import RequestCounts, open_store

MEASURED = load_profile()
NOW = load_prices()
N_IMAGES = 600
ON_LAMBDA = {
    "lithops": {"backend": "aws_lambda", "storage": "aws_s3", "monitoring_interval": 0.25},
    "aws": {"region": "us-east-1"},
    "aws_lambda": {"runtime_memory": 2048, "architecture": "arm64", "max_workers": 40},
}
NOTHING = Wish(None, None, Goal())


def words(**given):
    """Arguments as the parser makes them."""
    names = ("memory", "batch_size", "deadline", "profile", "pilot")
    return argparse.Namespace(**dict.fromkeys(names) | given)


@pytest.fixture
def intent(tmp_path):
    """A map on Lambda of which nothing is done."""
    rows = [
        {"rootname": f"i{number:08d}", "key": f"i{number:08d}_flt.fits"}
        for number in range(N_IMAGES)
    ]
    manifest = Manifest.from_rows(rows, store="s3://bucket/images")
    options = RunOptions(batch_size=20)
    plan = plan_run(manifest, str(tmp_path / "out"), RunParameters(), options)
    return Intent(plan, manifest, Settings(lithops=ON_LAMBDA), options)


# -- what is foreseen ----------------------------------------------------------------------------


def test_a_map_is_foreseen_as_it_is_configured(intent):
    shape = foresee_map(intent, MEASURED, NOTHING).estimate.shape
    assert (shape.n_images, shape.n_workers, shape.memory_mb) == (N_IMAGES, 40, 2048)
    assert (shape.batch_size, shape.poll_s, shape.n_warm) == (20, 0.25, 0)
    fewer = dataclasses.replace(intent, settings=intent.settings.with_options(n_workers=7))
    assert foresee_map(fewer, MEASURED, NOTHING).estimate.shape.n_workers == 7
    here = dataclasses.replace(intent, settings=Settings(n_workers=3))
    shape = foresee_map(here, MEASURED, NOTHING).estimate.shape
    assert (shape.n_workers, shape.memory_mb, shape.poll_s) == (3, 1769, None)


def test_nothing_is_chosen_where_nothing_was_asked(intent):
    prepared, foreseen = prepare(intent, MEASURED, words())
    assert foreseen.choice is None
    assert prepared.plan == intent.plan
    assert prepared.settings.memory_mb is None
    assert prepared.spending.account.budget_usd is None
    assert set(prepared.expected) == {"usage", "estimate", "choice", "profile"}
    assert prepared.expected["profile"]["machine"] == MEASURED.machine


def test_the_function_gets_the_memory_that_was_chosen(intent):
    prepared, foreseen = prepare(intent, MEASURED, words(memory="auto", batch_size="auto"))
    chosen = foreseen.choice.chosen
    assert prepared.settings.memory_mb == chosen.memory_mb
    config = prepared.settings.lithops_config()
    assert config["aws_lambda"]["runtime_memory"] == chosen.memory_mb
    assert where_it_runs(prepared.settings)[PLACE_FACT]["memory_mb"] == chosen.memory_mb
    assert len(prepared.plan.batches[0].images) == chosen.batch_size
    assert prepared.plan.n_todo == N_IMAGES
    assert prepared.spending.estimate == foreseen.estimate
    assert prepared.expected["choice"]["chosen"]["memory_mb"] == chosen.memory_mb


def test_what_was_given_stays(intent):
    prepared, foreseen = prepare(intent, MEASURED, words(memory="auto"))
    assert {point.batch_size for point in foreseen.choice.points} == {20}
    assert len(prepared.plan.batches[0].images) == 20
    prepared, foreseen = prepare(intent, MEASURED, words(batch_size="auto"))
    assert {point.memory_mb for point in foreseen.choice.points} == {2048}
    assert prepared.settings.memory_mb is None


def test_batches_fit_the_time_limit(intent):
    limited = dataclasses.replace(intent, settings=intent.settings.with_options(timeout_s=10))
    _, foreseen = prepare(limited, MEASURED, words(batch_size="auto"))
    _, free = prepare(intent, MEASURED, words(batch_size="auto"))
    largest = [max(p.batch_size for p in item.choice.points) for item in (foreseen, free)]
    assert largest[0] < largest[1]


# -- limits --------------------------------------------------------------------------------------


def auto(**given):
    return words(memory="auto", batch_size="auto", **given)


def test_a_deadline_that_nothing_meets_stops_a_map(intent):
    with pytest.raises(UsageError, match="within 1 s: the fastest"):
        prepare(intent, MEASURED, auto(deadline=1.0))


def left_of(foreseen):
    assert foreseen.choice.goal.startswith("the fastest within $")
    return float(foreseen.choice.goal.rpartition("$")[2])


def test_what_is_spent_is_not_there_to_choose_by(intent):
    budget = intent.settings.with_options(budget_usd=0.2)
    _, fresh = prepare(dataclasses.replace(intent, settings=budget), MEASURED, auto())
    # Looking for what is done costs a few requests.
    assert left_of(fresh) == pytest.approx(0.2, abs=0.001)
    store = open_store(intent.plan.out)
    with Ledger(store) as ledger:  # calls of which nothing was heard are charged in full
        for number in range(20):
            ledger(AttemptSubmitted("map", f"t{number}", 1, "first", 100.0))
    _, later = prepare(dataclasses.replace(intent, settings=budget), MEASURED, auto())
    left_usd = left_of(later)
    assert 0 < left_usd < 0.199
    assert later.choice.chosen.list_usd.expected <= left_usd
    # All of it is spent: nothing is within what is left.
    little = intent.settings.with_options(budget_usd=0.2 - left_usd)
    with pytest.raises(UsageError, match="the cheapest"):
        prepare(dataclasses.replace(intent, settings=little), MEASURED, auto())


def test_a_deadline_wants_something_to_choose():
    check_choice(auto(deadline=5.0), local=False)
    check_choice(words(), local=True)
    for arguments, local in ((words(deadline=5.0), False), (auto(deadline=5.0), True)):
        with pytest.raises(UsageError, match="--deadline is for"):
            check_choice(arguments, local=local)
    left = without_choice(auto(deadline=5.0, profile="x"))
    assert (left.memory, left.batch_size, left.deadline, left.profile) == (None, None, None, "x")


# -- what is warm, and pilots --------------------------------------------------------------------


def write_calls(intent, n, ended_s):
    """Let calls of the configured function have worked at the same time."""
    store = open_store(intent.plan.out)
    place = LambdaPlace(**where_it_runs(intent.settings)[PLACE_FACT])
    said = {"part": "parts/x.parquet", "outcomes": {"ok": 1}, "elapsed_s": 1.0}
    with Ledger(store, detail=lambda item: item.value, about=place.as_fact()) as ledger:
        for number in range(n):
            attempt = Attempt(
                "map", f"t{number}", 1, "ok", True, said, worker=WorkerInfo("w", number, True),
                started_s=ended_s - 1, ended_s=ended_s,
            )  # fmt: skip
            ledger(AttemptEnded(attempt, ended_s))


def test_environments_that_just_worked_need_no_start(intent):
    write_calls(intent, 5, time.time() - 20)
    prepared, foreseen = prepare(intent, MEASURED, words())
    assert prepared.n_warm == foreseen.estimate.shape.n_warm == 5
    cold = sum(call.n for call in foreseen.estimate.usage.calls if call.init_ms)
    assert cold == 30 - 5
    # Another memory starts all of them anew.
    other = dataclasses.replace(intent, settings=intent.settings.with_options(memory_mb=1024))
    assert prepare(other, MEASURED, words())[0].n_warm == 0


def test_environments_of_long_ago_are_gone(intent):
    write_calls(intent, 5, time.time() - 3600)
    assert prepare(intent, MEASURED, words())[0].n_warm == 0


def test_the_run_that_is_planned_by_has_left_some_warm(intent, tmp_path):
    write_calls(intent, 4, time.time() - 20)
    options = intent.options
    plan = plan_run(intent.manifest, str(tmp_path / "next"), RunParameters(), options)
    following = dataclasses.replace(intent, plan=plan)
    assert prepare(following, MEASURED, words())[0].n_warm == 0
    assert prepare(following, MEASURED, words(profile=intent.plan.out))[0].n_warm == 4
    assert prepare(following, MEASURED, words(profile="some.json"))[0].n_warm == 0


def test_a_pilot_is_foreseen_again_by_what_it_measured(intent):
    pilot, _ = prepare(pilot_of(intent, 40), MEASURED, words())
    assert (pilot.plan.n_todo, len(pilot.plan.batches)) == (40, 4)
    assert "pilot_usage" not in pilot.expected
    slower = dataclasses.replace(
        MEASURED,
        images=tuple(
            dataclasses.replace(image, compute_s=3 * image.compute_s) for image in MEASURED.images
        ),
    )
    rest, foreseen = prepare(dataclasses.replace(intent, pilot=pilot), slower, words())
    assert foreseen.estimate.shape.n_parts_there == 4
    before, after = pilot.expected["usage"]["calls"], rest.expected["pilot_usage"]["calls"]
    assert sum(call["n"] for call in after) == sum(call["n"] for call in before) == 4
    assert after[0]["duration_ms"] > 2 * before[0]["duration_ms"]


class Heard:
    """In the place of a log of requests."""

    def __init__(self, **counts):
        self.so_far = RequestCounts(**counts)


def test_plans_hold_what_was_asked_before_them(intent):
    usual, _ = prepare(pilot_of(intent, 40), MEASURED, words())
    pilot, _ = prepare(pilot_of(intent, 40), MEASURED, words(), Heard(n_get=70, n_list=5))
    before = before_usage(RunShape(40))
    get, listed = (
        pilot.expected["usage"][name] - usual.expected["usage"][name]
        for name in ("n_get", "n_list")
    )
    assert (get, listed) == (70 - before.n_get, 5 - before.n_list)
    rest, _ = prepare(dataclasses.replace(intent, pilot=pilot), MEASURED, words(), Heard(n_get=300))
    # A pilot that is foreseen again has asked what it had.
    again = rest.expected["pilot_usage"]
    assert again["n_get"] == pilot.expected["usage"]["n_get"]
    assert rest.expected["usage"]["n_get"] > 300


# -- usage ---------------------------------------------------------------------------------------


def test_parts_are_merged_once_by_the_map_that_ends_the_run():
    shape = RunShape(100, 10, 10)
    whole, pilot, rest = (
        client_usage(dataclasses.replace(shape, **changes), 5.0)
        for changes in ({}, {"is_pilot": True}, {"n_parts_there": 4})
    )
    assert pilot.n_put < rest.n_put == whole.n_put - 1  # the run's record is there
    # Of each part, its end and its columns; and the run's record and manifest.
    assert whole.n_get - pilot.n_get == 2 * 10 + 2
    assert rest.n_get - whole.n_get == 2 * 4
    longer = client_usage(shape, 65.0)
    assert longer.n_put == whole.n_put + 6  # a segment of the ledger each ten seconds


@pytest.mark.parametrize(
    ("map_s", "poll_s", "n_looks"),
    [(60.0, 0.5, 121), (60.1, 0.5, 122), (0.2, 0.5, 2), (0.6 / 0.2 * 0.2, 0.2, 4)],
)
def test_the_client_looks_at_each_interval_and_once_at_the_end(map_s, poll_s, n_looks):
    assert count_looks(map_s, 7, poll_s) == n_looks


def test_who_looks_without_pauses_looks_when_there_is_something_to_see():
    assert count_looks(60.0, 7, 0.0) == 8


def test_a_look_lists_what_is_under_way_and_what_was_read_lately():
    poll = dataclasses.replace(EXPECTED, poll_s=1.0)
    for n_workers, n_pages in ((2, 1), (750, 1), (751, 2), (1750, 2), (1751, 3)):
        shape = RunShape(50_000, n_workers, 10)
        usage = count_usage(shape, MEASURED, [Call(100, 1769, n=5000)], (0, 0), 30.0, poll)
        assert usage.n_list == 31 * n_pages


def test_what_was_asked_stands_for_what_was_to_be_expected():
    shape = RunShape(2500, 10, 10)
    expected = client_usage(shape, 5.0)
    usual = before_usage(shape)
    assert usual.n_list == 6  # of which three are of images, a thousand names each
    asked = RequestCounts(n_get=100, n_head=3, n_list=9, n_put=1, n_delete=5)
    usage = with_asked(expected, shape, asked)
    assert usage.n_get == expected.n_get - usual.n_get + 103
    assert usage.n_list == expected.n_list - usual.n_list + 9
    assert usage.n_put == expected.n_put + 1
    same = RequestCounts(n_get=usual.n_get, n_list=usual.n_list)
    assert with_asked(expected, shape, same) == expected


def test_what_is_stored_is_parts_summary_and_catalogues():
    sized = dataclasses.replace(
        MEASURED, part_nbytes_image=1e6, summary_nbytes_image=5e5, catalog_nbytes_image=2e6
    )

    def stored(profile, catalogs):
        shape = RunShape(100, 10, 10, catalogs=catalogs)
        calls = [Call(100, 1769, n=10)]
        return count_usage(shape, profile, calls, (0, 0), 5.0, EXPECTED).stored_nbytes

    assert stored(sized, "none") == pytest.approx(150e6, rel=1e-3)
    assert stored(sized, "batch") == stored(sized, "image") == pytest.approx(350e6, rel=1e-3)
    # Where nobody has merged yet: as much as parts.
    unmerged = dataclasses.replace(sized, summary_nbytes_image=0.0)
    assert stored(unmerged, "none") == pytest.approx(200e6, rel=1e-3)


def test_cold_starts_log_more():
    shape = RunShape(100, 10, 10)
    warm = count_usage(shape, MEASURED, [Call(100, 1769, n=10)], (100, 110), 5.0, EXPECTED)
    cold = count_usage(shape, MEASURED, [Call(100, 1769, 500, n=10)], (100, 110), 5.0, EXPECTED)
    assert warm.log_nbytes == 10 * LOG_NBYTES_A_CALL
    assert 1.2 < cold.log_nbytes / warm.log_nbytes < 2


@pytest.mark.parametrize("n_images", [7, 900])
def test_calls_put_together_cost_what_they_cost_apart(n_images):
    shape = RunShape(n_images, 30, 5)
    estimate = estimate_run(shape, MEASURED, NOW, "arm64", n_seeds=1)
    together = price(estimate.usage, NOW, "arm64")
    result = simulate_run(shape, MEASURED, EXPECTED, 0)
    apart = price(result.usage + client_usage(shape, result.map_s), NOW, "arm64")
    assert len(estimate.usage.calls) <= 6
    for name in LINES:
        ours, theirs = together.line(name).list_usd, apart.line(name).list_usd
        assert ours == pytest.approx(theirs, rel=2e-3)
        assert estimate.lines[name].expected == pytest.approx(theirs)


def test_what_was_measured_on_lambda_is_not_assumed_otherwise():
    shape = RunShape(10, poll_s=0.125)
    assert assumption_sets(RunShape(10), MEASURED) == (EXPECTED, LOW, HIGH)
    there = dataclasses.replace(MEASURED, on_lambda=True)
    for item, base in zip(assumption_sets(shape, there), (EXPECTED, LOW, HIGH), strict=True):
        assert (item.cpu_ratio, item.init_ratio, item.poll_s) == (1.0, 1.0, 0.125)
        assert item.straggler_share == base.straggler_share
        assert item.failure_share == pytest.approx(base.failure_share)


def test_failures_count_as_far_as_there_were_calls():
    def shares(n_failures, n_attempts, on_lambda=True):
        measured = dataclasses.replace(
            MEASURED, on_lambda=on_lambda, n_failures=n_failures, n_attempts=n_attempts
        )
        return [item.failure_share for item in assumption_sets(RunShape(10), measured)]

    assumed = EXPECTED.failure_share
    # None of a few calls failed, or two of a few: that says little.
    assert shares(0, 20)[0] == pytest.approx(assumed, rel=0.05)
    assert assumed < shares(2, 80)[0] < 2 / 80
    # Of many calls it is what was measured.
    assert shares(3000, 100_000)[0] == pytest.approx(0.03, rel=0.01)
    assert shares(0, 100_000)[0] < assumed / 100
    assert shares(3000, 100_000)[2] == shares(3000, 100_000)[0] > HIGH.failure_share
    assert shares(0, 100_000)[1:] == [0.0, HIGH.failure_share]
    # What failed on this machine says nothing of Lambda.
    assert shares(30, 80, on_lambda=False) == [assumed, 0.0, HIGH.failure_share]


def test_the_curve_shows_one_chosen_point(intent):
    _, foreseen = prepare(intent, MEASURED, auto())
    lines = choice_lines(foreseen.choice)
    chosen = foreseen.choice.chosen
    assert sum(line.startswith("  chosen *") for line in lines) == 1
    rows = [line[10:].split()[:2] for line in lines[2:]]
    memory, batch = f"{chosen.memory_mb:,}", f"{chosen.batch_size:,}"
    assert all(row[0] == memory or row[1] == batch for row in rows)
    assert len({len(line) for line in lines[1:]}) == 1  # columns
