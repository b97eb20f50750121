"""The price of a bag's plan: by line as arithmetic has it, and never less for more."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hstmap
from hstmap.account.plan_pricing import BagFunction, lambda_pricing
from hstmap.aws.price_table import load_prices
from hstmap.bag.policy import StragglerPolicy
from hstmap.errors import UsageError

NOW = load_prices()
THEN = load_prices("us-east-1-2018")


def total_of(n_partitions, n_items=1000):
    return hstmap.range(n_items, npartitions=n_partitions).map(lambda x: x + 1).sum()


def priced(bag, *arguments, **keywords):
    return bag.plan(pricing=lambda_pricing(*arguments, **keywords)).price


def test_each_line_is_what_arithmetic_says():
    function = BagFunction(memory_mb=1024, architecture="x86_64", init_s=0.5, n_workers=10)
    bag = hstmap.range(1000, npartitions=40).map(lambda x: x + 1)
    price = priced(bag, 2.0, function)
    bill = price.bill
    assert bill.line("compute").quantity == pytest.approx(40 * 2.0)
    assert bill.line("init").quantity == pytest.approx(10 * 0.5)
    assert bill.line("requests").quantity == 40
    assert bill.line("s3_put").quantity == 2 * 40 + 1
    assert bill.line("s3_get").quantity == 40 + 10
    assert bill.line("compute").list_usd == pytest.approx(80 * NOW.lambda_gb_s_usd["x86_64"])
    # Two of forty tasks may get a second call.
    twin_usd = 2.0 * NOW.lambda_gb_s_usd["x86_64"] + NOW.lambda_request_usd
    assert price.twins_usd == pytest.approx(2 * twin_usd, rel=0.5)
    assert price.twins_usd > 2 * twin_usd


def test_environments_of_one_stage_serve_the_next():
    bag = total_of(40)
    plan = bag.plan()
    assert len(plan.stages) > 1
    price = priced(bag, 1.0, BagFunction(memory_mb=1024, init_s=1.0, n_workers=1000))
    assert price.bill.line("init").quantity == pytest.approx(max(s.n_tasks for s in plan.stages))
    assert price.bill.line("requests").quantity == plan.n_tasks


def test_a_stage_can_have_a_duration_of_its_own():
    bag = total_of(40)
    function = BagFunction(memory_mb=1024)
    price = priced(bag, lambda stage: 2.0 if stage.level == 0 else 0.25, function)
    n_first, n_tasks = bag.plan().stages[0].n_tasks, bag.plan().n_tasks
    expected = 2.0 * n_first + 0.25 * (n_tasks - n_first)
    assert price.bill.line("compute").quantity == pytest.approx(expected)


def test_large_arguments_are_several_requests():
    bag = hstmap.from_sequence([bytes(300_000)] * 4, npartitions=4).map(len)
    assert priced(bag, 1.0).bill.line("requests").quantity == 4 * 4  # 400 KB in base 64


def test_other_prices_and_no_twins():
    function = BagFunction(architecture="x86_64", stragglers=None)
    price = priced(total_of(10), 1.06, function, THEN)
    assert price.bill.prices == THEN.name
    assert price.twins_usd == 0
    assert price.bill.line("compute").quantity == pytest.approx(
        1.1 * total_of(10).plan().n_tasks * 1769 / 1024
    )


@given(
    n_partitions=st.integers(1, 60),
    seconds=st.floats(0, 100),
    memory_mb=st.sampled_from([512, 1769, 3008]),
    fraction=st.floats(0, 1),
)
@settings(max_examples=25, deadline=None)
def test_more_is_never_cheaper(n_partitions, seconds, memory_mb, fraction):
    function = BagFunction(memory_mb=memory_mb, stragglers=StragglerPolicy(max_fraction=fraction))
    price = priced(total_of(n_partitions), seconds, function)
    longer = priced(total_of(n_partitions), seconds + 1, function)
    larger = priced(total_of(n_partitions + 1), seconds, function)
    assert price.bill.list_usd < longer.bill.list_usd
    assert price.bill.list_usd < larger.bill.list_usd
    assert price.bill.net_usd <= price.bill.list_usd
    # At most every task has a twin.
    assert price.twins_usd <= price.bill.list_usd * (1 + 1e-9)


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_durations_that_cannot_be_are_refused(seconds):
    with pytest.raises(UsageError, match="is said to take"):
        priced(total_of(3), seconds)


def test_a_plan_shows_its_price():
    plan = total_of(10).plan(pricing=lambda_pricing(1.0))
    last = repr(plan).splitlines()[-1]
    assert last.startswith("  price: $0.0")
    for word in ("compute", "init", "requests", "s3_put", "free tier", "twins"):
        assert word in last
    assert "twins" in plan._repr_html_()
