"""Runs with a budget on a cloud that does what it likes: what it bills never passes the budget."""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest

from hstmap.account.budget import Account
from hstmap.account.charges import CallTerms, CallWork
from hstmap.account.costs import LambdaShape
from hstmap.aws.price_table import load_prices
from hstmap.bag.engine import EngineOptions, Stage, Task
from hstmap.bag.events import Event
from hstmap.bag.scheduler import StageRun
from support.fake_cloud import FakeCloud, Weather

N_TRIALS = 300
SHAPE = LambdaShape(1769, "arm64")
PRICES = load_prices()
ATTEMPT_S = 30.0
TERMS = CallTerms.of(SHAPE, PRICES, CallWork(n_images=10, n_files=11, attempt_s=ATTEMPT_S))
OPTIONS = EngineOptions(retries=3, timeout_s=ATTEMPT_S)


@pytest.fixture
def on_the_clouds_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make the scheduler's wall clock that of the cloud that is looked at."""
    wall = SimpleNamespace(time=lambda: wall.cloud.now, cloud=None)
    monkeypatch.setattr("hstmap.bag.scheduler.time", wall)
    return wall


@dataclass
class Run:
    """A run in several maps: what is left, what it has spent."""

    cloud: FakeCloud
    left: list[str]
    earlier_usd: float = 0.0
    n_maps: int = 0
    statuses: Counter[str] = field(default_factory=Counter)

    def map(self, budget_usd: float | None, stop_after: int | None = None) -> Account:
        """Go on with what is left; be interrupted after so many attempts."""
        self.n_maps += 1
        to_come_usd = TERMS.reduce_usd(len(self.left), 0)
        account = Account(TERMS, budget_usd, self.earlier_usd, to_come_usd)
        seen: list[Event] = []
        stage = Stage(f"map {self.n_maps}", str, [Task(key, key) for key in self.left])
        run = StageRun(stage, self.cloud, OPTIONS, [seen.append], clock=self.cloud.clock)
        attempts = run.attempts(account)
        for n, attempt in enumerate(attempts, start=1):
            self.statuses[attempt.status] += 1
            if attempt.final:
                self.left.remove(attempt.task_key)
            if n == stop_after:
                attempts.close()
        assert account.n_in_flight == 0
        self.earlier_usd = account.spent_usd
        self.cloud.now += 3600
        return account


def new_run(chance: random.Random, wall: Any, n_tasks: int, weather: Weather) -> Run:
    cloud = FakeCloud(chance, weather, ATTEMPT_S, n_slots=chance.choice([1, 4, 16, 64]))
    wall.cloud = cloud
    return Run(cloud, [f"task {i}" for i in range(n_tasks)])


@cache
def expected_usd(n_tasks: int) -> float:
    """What such a run costs without a budget, on average; any wall clock will do."""
    costs = []
    for seed in range(5):
        cloud = FakeCloud(random.Random(seed), Weather(), ATTEMPT_S, n_slots=16)
        stage = Stage("free", str, [Task(f"task {i}", "") for i in range(n_tasks)])
        list(StageRun(stage, cloud, OPTIONS, clock=cloud.clock).attempts())
        costs.append(cloud.billed_usd(SHAPE, PRICES))
    return statistics.fmean(costs)


def drawn_weather(chance: random.Random) -> Weather:
    """Draw how bad it is: up to ten times what is taken as normal."""
    weather = Weather(tells=chance.random() < 0.7, batch_s=chance.choice([2.0, 4.0, 8.0]))
    shares = ("straggler", "error", "dies", "hangs", "is_lost", "comes_late", "twice")
    return replace(
        weather, **{name: getattr(weather, name) * 10 * chance.random() ** 2 for name in shares}
    )


def test_the_budget_holds_in_every_trial_and_the_run_finishes_with_more(
    on_the_clouds_clock: Any,
) -> None:
    happened: Counter[str] = Counter()
    for seed in range(N_TRIALS):
        chance = random.Random(seed)
        n_tasks = chance.choice([5, 20, 60])
        run = new_run(chance, on_the_clouds_clock, n_tasks, drawn_weather(chance))
        budget_usd = expected_usd(n_tasks) * chance.uniform(0.2, 3.0)
        stop_after = chance.choice([None, None, chance.randrange(1, n_tasks)])
        while run.left:
            account = run.map(budget_usd, stop_after)
            billed_usd = run.cloud.billed_usd(SHAPE, PRICES)
            assert max(billed_usd, account.spent_usd) <= budget_usd, f"seed {seed}"
            # How many events are delivered twice is provided for on average only.
            assert billed_usd <= account.spent_usd or run.cloud.n_twice, f"seed {seed}"
            happened["stopped" if run.left else "finished"] += 1
            assert run.n_maps < 30, f"seed {seed}: it does not come to an end"
            stop_after = None
            budget_usd = max(budget_usd * 1.3, account.needed_usd())
        happened += run.statuses
        cloud = run.cloud
        happened.update({"ran on": cloud.n_ran_on, "twice": cloud.n_twice, "late": cloud.n_late})
    # All of it was there: what does not happen is not tried.
    assert happened["finished"] == N_TRIALS
    for what in ("error", "lost", "timeout", "cancelled", "ran on", "twice", "late", "stopped"):
        assert happened[what] > 20, happened


def test_a_budget_is_used_well(on_the_clouds_clock: Any) -> None:
    n_runs, n_tasks, shares, n_finished = 40, 150, [], 0
    for seed in range(n_runs):
        run = new_run(random.Random(1000 + seed), on_the_clouds_clock, n_tasks, Weather())
        account = run.map(1.3 * expected_usd(n_tasks))
        n_finished += not run.left
        shares.append(account.spent_usd / run.cloud.billed_usd(SHAPE, PRICES))
    assert n_finished >= 0.7 * n_runs
    # What the account says is above what is billed, for it must be, and not by much.
    assert all(1.0 < share < 1.5 for share in shares)
    assert statistics.fmean(shares) < 1.2


def test_a_budget_that_holds_no_call_sends_none(on_the_clouds_clock: Any) -> None:
    run = new_run(random.Random(0), on_the_clouds_clock, 20, Weather())
    account = run.map(0.9 * TERMS.most_usd)
    assert len(run.left) == 20
    assert run.cloud.n_sent == 0
    assert account.spent_usd < TERMS.most_usd / 100


def test_a_fixed_sum_of_the_run_is_kept_back(on_the_clouds_clock: Any) -> None:
    run = new_run(random.Random(1), on_the_clouds_clock, 60, Weather())
    kept_usd, budget_usd = 0.5 * expected_usd(60), expected_usd(60)
    account = Account(TERMS, budget_usd, to_come_usd=kept_usd)
    stage = Stage("map", str, [Task(key, key) for key in run.left])
    scheduled = StageRun(stage, run.cloud, OPTIONS, clock=run.cloud.clock)
    assert list(scheduled.attempts(account))
    assert run.cloud.billed_usd(SHAPE, PRICES) + kept_usd <= budget_usd
