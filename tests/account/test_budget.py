"""What calls are charged, and what a budget lets through."""

from __future__ import annotations

import math
import uuid
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.account.budget import ACCOUNT_EVENT, Account, account_record, spent_before
from hstmap.account.charges import CallTerms, CallWork
from hstmap.account.costs import LambdaShape
from hstmap.aws.bill import price
from hstmap.aws.price_table import load_prices
from hstmap.aws.usage import LOG_NBYTES_A_CALL, Call, Usage
from hstmap.bag.events import AttemptEnded, AttemptSubmitted, StageEnded, StageStarted
from hstmap.bag.ledger import Ledger, read_ledger
from hstmap.bag.task import Attempt, RemoteError, WorkerInfo
from hstmap.storage import open_store
from hstmap.storage_counts import CallRequests, RequestCounts

PRICES = load_prices()
SHAPE = LambdaShape(2048, "x86_64")
WORK = CallWork(n_images=10, n_files=11, attempt_s=29.5)
TERMS = CallTerms.of(SHAPE, PRICES, WORK)
#: So that seconds can be read off.
SECONDS = CallTerms(1.0, 0.0, 0.0, 0.0, 0.0, limit_s=36.0, n_get=0, n_put=0, looks_s=2.0)
SENT_S = 1000.0


def ended(status="ok", seconds=5.0, *, cold=False, number=1, key="a", **values):
    """Make an attempt that started 2 s after it was sent."""
    error = None if status == "ok" else RemoteError("Error", "why")
    return Attempt(
        "map", key, number, status, final=status == "ok", error=error,
        worker=values.pop("worker", WorkerInfo("there", 1, cold)), submitted_s=SENT_S,
        started_s=SENT_S + 2, ended_s=SENT_S + 2 + seconds, **values,
    )  # fmt: skip


def sent(key="a", number=1, time_s=SENT_S):
    return AttemptSubmitted("map", key, number, "first", time_s)


# -- what a call costs -----------------------------------------------------------------------------


def test_the_most_that_a_call_costs_is_its_limits_at_the_functions_price():
    # 30 s for the attempt, 6 s for its worker to end it, 10 s of INIT.
    assert TERMS.most_s == 46
    bill = price(
        Usage((Call(36_000, 2048, 10_000),), n_get=84, n_put=16, log_nbytes=LOG_NBYTES_A_CALL),
        PRICES,
        "x86_64",
    )
    assert TERMS.most_usd == pytest.approx(bill.list_usd)


def test_the_functions_own_limit_holds_whatever_the_attempts():
    short = CallTerms.of(SHAPE, PRICES, replace(WORK, function_s=20.0))
    assert short.most_s == 30
    assert CallTerms.of(SHAPE, PRICES, replace(WORK, attempt_s=1e9)).most_s == 910


def test_a_call_that_told_its_times_costs_these_and_an_allowance():
    attempt = ended(handler_s=5.4)
    assert SECONDS.charge_usd(attempt, SENT_S, SENT_S + 60) == pytest.approx(5.9)
    attempt = ended(handler_s=5.4, init_s=1.5, cold=True)
    assert SECONDS.charge_usd(attempt, SENT_S, SENT_S + 60) == pytest.approx(5.9 + 2.0)


def test_a_cold_start_that_did_not_tell_its_time_may_have_taken_all_that_it_may():
    assert SECONDS.charge_usd(ended(), SENT_S, SENT_S + 60) == pytest.approx(5.5)
    assert SECONDS.charge_usd(ended(cold=True), SENT_S, SENT_S + 60) == pytest.approx(15.5)
    # But it was not longer than from its sending to its answer.
    assert SECONDS.charge_usd(ended(cold=True), SENT_S, SENT_S + 8) == pytest.approx(8.5)


def test_a_failure_without_a_worker_costs_what_lies_between_sending_and_seeing():
    attempt = ended("lost", worker=None, requests=CallRequests())
    assert SECONDS.charge_usd(attempt, SENT_S, SENT_S + 20) == pytest.approx(20.5)
    assert SECONDS.charge_usd(attempt, SENT_S, SENT_S + 500) == SECONDS.most_s


@pytest.mark.parametrize("status", ["lost", "timeout", "cancelled"])
def test_what_was_not_heard_of_costs_the_most(status):
    assert SECONDS.charge_usd(ended(status, 1.0), SENT_S, SENT_S + 3) == SECONDS.most_s
    assert TERMS.charge_usd(ended(status, 1.0), SENT_S, SENT_S + 3) == TERMS.most_usd


def test_what_was_never_sent_costs_nothing():
    attempt = Attempt("map", "a", 1, "unpicklable", True, error=RemoteError("Pickle", "why"))
    assert TERMS.charge_usd(attempt, SENT_S, SENT_S) == 0


def test_requests_cost_what_was_told_and_else_the_most():
    told = CallRequests(RequestCounts(n_get=7, n_head=1, n_put=2), RequestCounts(n_get=2, n_list=1))
    known = TERMS.charge_usd(ended(requests=told), SENT_S, SENT_S + 9)
    most = TERMS.charge_usd(ended(), SENT_S, SENT_S + 9)
    expected = 10 * PRICES.s3_get_usd + 2 * PRICES.s3_put_usd + PRICES.s3_list_usd
    without = 82 * PRICES.s3_get_usd + 14 * PRICES.s3_put_usd
    assert most - known == pytest.approx(without - expected)


@given(
    st.floats(0.01, 36.0), st.floats(0.0, 9.5), st.floats(0.0, 30.0), st.booleans(), st.booleans()
)
def test_no_call_within_its_limits_is_charged_less_than_it_is_billed_or_more_than_the_most(
    duration_s, init_s, late_s, is_cold, tells
):
    init_s = init_s if is_cold else 0.0
    times = {"handler_s": duration_s, "init_s": init_s or None} if tells else {}
    attempt = ended(seconds=duration_s, cold=is_cold, **times)
    charged = SECONDS.charge_usd(attempt, SENT_S, SENT_S + init_s + duration_s + late_s)
    assert charged >= PRICES.billed_ms(duration_s * 1000, init_s * 1000) / 1000 - 1e-9
    assert charged <= SECONDS.most_s + 1.0


def test_the_client_looks_as_often_as_it_does_and_at_as_much():
    terms = replace(SECONDS, list_usd=1.0, put_usd=10.0)
    assert terms.client_usd(20.0, 0) == 10 + 20
    assert terms.client_usd(20.0, 1000) == 40 + 20  # three keys a call, a thousand a LIST


def test_beginning_costs_requests_by_image_and_by_part():
    terms = replace(SECONDS, get_usd=1.0, put_usd=100.0, list_usd=1e6)
    assert terms.begin_usd(10, 0) == 800 + 4e6
    assert terms.begin_usd(2500, 600) == 1200 + 800 + 7e6


def test_merging_costs_requests_by_part_and_by_size():
    terms = replace(SECONDS, get_usd=1.0, put_usd=100.0, list_usd=1e6)
    few, more = terms.reduce_usd(10, 0.0), terms.reduce_usd(2500, 1e9)
    assert few == 40 + 800 + 1e6
    assert more > 10_000 + 800 + 3e6


# -- the account -----------------------------------------------------------------------------------


def test_an_account_knows_what_is_spent_and_what_may_come():
    account = Account(SECONDS, budget_usd=120.0, earlier_usd=3.0, to_come_usd=1.0)
    assert account.spent_usd == 3
    assert account.may_send()
    premium = 0.005 * SECONDS.most_s  # for events that are delivered twice
    assert account.needed_usd() == pytest.approx(3 + 1 + 46 + premium)
    account.note(sent("a"))
    account.note(sent("b"))
    assert account.n_in_flight == 2
    assert account.needed_usd() == pytest.approx(3 + 1 + 3 * (46 + premium))
    assert not account.may_send()
    account.note(AttemptEnded(ended(handler_s=5.0), SENT_S + 9))
    assert account.spent_usd == pytest.approx(3 + 5.5 + 2 * premium)
    assert account.may_send()


def test_without_a_budget_everything_may_be_sent():
    account = Account(SECONDS)
    for number in range(100):
        assert account.may_send()
        account.note(sent(number=number))


def test_what_is_in_flight_when_a_stage_ends_is_spent():
    account = Account(SECONDS)
    account.note(StageStarted("map", 2, SENT_S))
    account.note(sent())
    account.note(StageEnded("map", 2, 0, 0, False, SENT_S))
    assert account.n_in_flight == 0
    assert account.spent_usd == pytest.approx(46.23)


def test_time_costs_looks():
    account = Account(replace(SECONDS, list_usd=1.0))
    account.note(sent(time_s=SENT_S))
    before = account.spent_usd
    account.note(sent("b", time_s=SENT_S + 20))
    assert account.spent_usd - before == pytest.approx(10 + 0.005 * 46)


STATUSES = ["ok", "error", "lost", "timeout", "cancelled", "unpicklable"]
HISTORIES = st.lists(
    st.tuples(st.sampled_from([*STATUSES, "open"]), st.floats(0.0, 36.0), st.floats(0.0, 5.0)),
    max_size=12,
)


def story(history):
    """Make the events of calls that follow each other, some of them without an end."""
    time_s = SENT_S
    for i, (status, seconds, wait_s) in enumerate(history):
        yield sent(f"task {i}", time_s=time_s)
        time_s += wait_s
        if status != "open":
            attempt = ended(status, seconds, key=f"task {i}", cold=i == 0)
            time_s += seconds
            yield AttemptEnded(attempt, time_s)


@given(HISTORIES)
def test_what_is_spent_grows_and_what_is_needed_was_provided_for(history):
    account = Account(TERMS)
    before = account.spent_usd
    for event in story(history):
        if isinstance(event, AttemptSubmitted):
            needed = account.needed_usd()
        account.note(event)
        assert account.spent_usd >= before
        before = account.spent_usd
        # What was said to be needed for a call is enough, but for looks in the time that passes.
        looks = TERMS.client_usd(1e4, 100)
        open_usd = account.n_in_flight * TERMS.most_usd
        assert account.spent_usd + open_usd <= needed + looks + TERMS.second_usd


@given(HISTORIES)
def test_a_ledger_tells_what_the_account_said(history):
    store = open_store(f"memory://{uuid.uuid4().hex}")
    account = Account(TERMS, 1.0, begin_usd=0.25)
    with Ledger(store) as ledger:
        ledger.note(ACCOUNT_EVENT, account_record(account))
        for event in story(history):
            account.note(event)
            ledger(event)
    account.give_up()
    # Its own terms were written down, so those of now do not matter.
    assert spent_before(read_ledger(store), SECONDS) == pytest.approx(account.spent_usd)


def test_what_was_billed_takes_the_place_of_what_may_have_been():
    store = open_store(f"memory://{uuid.uuid4().hex}")
    with Ledger(store) as ledger:
        for key, status in {"a": "ok", "b": "cancelled", "c": "lost"}.items():
            ledger(sent(key))
            attempt = ended(status, key=key, handler_s=5.0, request_id=f"id of {key}")
            ledger(AttemptEnded(attempt, SENT_S + 9))
    premium = 3 * 0.23
    unread = spent_before(read_ledger(store), SECONDS)
    assert unread == pytest.approx(5.5 + 2 * 46 + premium)
    # The event of the third was lost, and has no REPORT line.
    read = spent_before(read_ledger(store), SECONDS, {"id of a": 5120, "id of b": 9000})
    assert read == pytest.approx(5.12 + 9 + 46 + premium)


def test_the_maps_of_a_run_add_up_and_old_ones_go_by_the_terms_of_now(tmp_path):
    store = open_store(str(tmp_path))
    assert spent_before(read_ledger(store), SECONDS) == 0
    for _ in range(2):
        with Ledger(store) as ledger:
            ledger(sent())
            ledger(AttemptEnded(ended(handler_s=5.0), SENT_S + 9))
            ledger(sent("b", time_s=SENT_S + 9))  # and then the client was killed
    one = 5.5 + 46 + 2 * 0.23
    assert spent_before(read_ledger(store), SECONDS) == pytest.approx(2 * one)
    assert math.isclose(spent_before(read_ledger(store), replace(SECONDS, second_usd=2.0)), 4 * one)
