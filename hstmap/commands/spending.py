"""What a map may cost, and what it has cost so far: its account, and the lines that tell of it."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hstmap.account.budget import Account
    from hstmap.account.charges import CallTerms
    from hstmap.account.costs import LambdaShape
    from hstmap.account.estimate import Estimate
    from hstmap.account.run_calls import LambdaPlace
    from hstmap.aws.price_table import PriceTable
    from hstmap.commands.call_limits import CallLimits
    from hstmap.config import Settings
    from hstmap.pipeline import RunOptions, RunPlan
    from hstmap.storage import Store
    from hstmap.tally import MapResult

__all__ = [
    "Spending",
    "billed_ms",
    "check_region",
    "command_with_budget",
    "function_shape",
    "lambda_place",
    "open_spending",
    "usd_text",
]


@dataclass(frozen=True)
class Spending:
    """The money of a map.

    Attributes
    ----------
    account : Account
        A gate for its engine.
    settings : Settings
        Those of the run, with the time limit of its attempts.
    estimate : Estimate
        Of what is still to be done.
    simulated : bool
        Whether nothing is paid: it runs on this machine, as if it were on Lambda.
    first_timeout_s : float or None
        A shorter limit for the first attempt of each task, s.
    """

    account: Account
    settings: Settings
    estimate: Estimate
    simulated: bool
    first_timeout_s: float | None = None

    @property
    def expected_usd(self) -> float:
        """What is still to be spent: without the storage of results, which no run spends."""
        estimate = self.estimate
        return estimate.list_usd.expected - estimate.lines["storage_month"].expected

    @property
    def so_far(self) -> str:
        """The cost so far, for the progress line."""
        return f"{usd_text(self.account.spent_usd)}{' simulated' if self.simulated else ''}"

    def plan_line(self) -> str:
        """Say how the budget compares to what is expected."""
        account = self.account
        earlier = account.spent_usd
        spent = f"{usd_text(earlier)} is spent, " if earlier > account.begin_usd else ""
        limit = self.settings.timeout_s
        ended = "" if limit is None else f"an attempt is ended after {limit:g} s and "
        return (
            f"budget    {usd_text(account.budget_usd or 0.0)}{self._kind()}: {spent}"
            f"{usd_text(self.expected_usd)} is expected to come; {ended}"
            f"costs {usd_text(account.terms.most_usd)} at most"
        )

    def limit_line(self) -> str | None:
        """Say after what time attempts are ended, if nobody said it; None if there is no limit."""
        if self.first_timeout_s is None:
            return None
        return (
            f"limit     a first attempt is ended after {self.first_timeout_s:g} s, a further one "
            f"later, the last after {self.settings.timeout_s:g} s; --timeout sets one for all"
        )

    def check(self) -> None:
        """Refuse a run that its budget is not expected to hold.

        Raises
        ------
        UsageError
            With what would do.
        """
        from hstmap.errors import UsageError

        account = self.account
        if account.budget_usd is None:
            return
        budget = usd_text(account.budget_usd)
        usd, extra = self.estimate.list_usd, self.estimate.lines["storage_month"].expected
        whole = account.spent_usd + self.expected_usd
        if whole > account.budget_usd:
            raise UsageError(
                f"the run is expected to cost {usd_text(whole)}{self._kind()} "
                f"(from {usd_text(account.spent_usd + usd.low - extra)} to "
                f"{usd_text(account.spent_usd + usd.high - extra)}; "
                f"{usd_text(account.spent_usd)} of it is spent), above the budget of {budget}: "
                f"give --budget {self.enough():g}, --limit, another --memory or --batch-size, "
                "or --catalogs batch"
            )
        if not account.may_send():
            raise UsageError(
                f"a budget of {budget} lets no call be sent{self._kind()}: one could cost "
                f"{usd_text(account.terms.most_usd)}, if it ran for {account.terms.most_s:g} s. "
                f"Give --budget {self.enough():g}, or a shorter --timeout"
            )

    def enough(self, left_usd: float | None = None) -> float:
        """Say which budget would do to go on.

        Parameters
        ----------
        left_usd : float, optional
            What is still to be spent; by default what was expected before.

        Returns
        -------
        float
            US dollars, to two digits: what is spent, what is left with a third on top, and what
            must be there for a last call.
        """
        left_usd = self.expected_usd if left_usd is None else left_usd
        return _rounded_up(self.account.needed_usd() + 4 / 3 * left_usd)

    def stop_lines(self, result: MapResult, words: Sequence[str]) -> list[str]:
        """Say that the budget stopped the run, what is done, and how to go on.

        Parameters
        ----------
        result : MapResult
        words : sequence of str
            The command.

        Returns
        -------
        list of str
        """
        account = self.account
        n_todo = self.estimate.shape.n_images
        left = f"{result.n_left:,} of {n_todo:,} images"
        # What was expected of an image, or what it turned out to take.
        spent_usd = account.spent_usd - account.earlier_usd
        image_usd = max(self.expected_usd / n_todo, spent_usd / max(1, n_todo - result.n_left))
        return [
            f"budget    {usd_text(account.spent_usd)} of {usd_text(account.budget_usd or 0.0)} "
            f"is spent at most{self._kind()}; with one more call, which could cost "
            f"{usd_text(account.terms.most_usd)}, and with what is to come after it, it could be "
            f"{usd_text(account.needed_usd())}",
            f"left      {left}; what is done is kept, and this goes on with it:",
            f"          {command_with_budget(words, self.enough(image_usd * result.n_left))}",
        ]

    def _kind(self) -> str:
        return " (simulated)" if self.simulated else ""


def open_spending(
    plan: RunPlan, settings: Settings, options: RunOptions, estimate: Estimate
) -> Spending:
    """Open the account of a map, with what earlier maps of the run have spent.

    Parameters
    ----------
    plan : RunPlan
        With something to do.
    settings : Settings
    options : RunOptions
    estimate : Estimate
        Of what the plan does.

    Returns
    -------
    Spending

    Raises
    ------
    UsageError
        If there is a budget, and the prices that it would be reckoned with are of another region.
    """
    from hstmap.account.budget import Account, spent_before
    from hstmap.account.run_profile import load_profile
    from hstmap.account.run_reduce import reduce_calls_usd
    from hstmap.aws.price_table import DEFAULT_PRICES, load_prices
    from hstmap.bag.ledger import read_ledger
    from hstmap.commands.call_limits import limit_calls
    from hstmap.storage import open_store

    place = lambda_place(settings)
    prices = load_prices(settings.prices or DEFAULT_PRICES)
    if settings.budget_usd is not None and "prices" not in settings.given:
        check_region(prices, place)
    limits = limit_calls(settings, place, _mean_call_s(estimate))
    terms = _terms(plan, limits, prices)
    # A ledger stays when a run is done afresh: what it tells of was paid for.
    store = open_store(plan.out, options.out_options)
    earlier_usd = spent_before(read_ledger(store), terms, billed_ms(store))
    largest = max(len(batch.images) for batch in plan.batches)
    n_parts_done = math.ceil(plan.n_done / largest)
    to_come_usd = terms.reduce_usd(
        n_parts_done + len(plan.batches), plan.n_images * load_profile().part_nbytes_image
    )
    to_come_usd += reduce_calls_usd(plan.n_images, estimate.shape, prices, estimate.architecture)
    begin_usd = terms.begin_usd(plan.n_images, n_parts_done)
    account = Account(terms, settings.budget_usd, earlier_usd, to_come_usd, begin_usd)
    simulated = place is None
    return Spending(account, limits.settings, estimate, simulated, limits.first_timeout_s)


def function_shape(settings: Settings) -> LambdaShape:
    """Say which function the calls are made to, or taken to be made to.

    Parameters
    ----------
    settings : Settings

    Returns
    -------
    LambdaShape
    """
    from hstmap.account.costs import LambdaShape

    place = lambda_place(settings)
    if place is not None:
        return LambdaShape(place.memory_mb, place.architecture)
    default = LambdaShape()
    return LambdaShape(settings.memory_mb or default.memory_mb, default.architecture)


def lambda_place(settings: Settings) -> LambdaPlace | None:
    """Find the function on Lambda.

    Parameters
    ----------
    settings : Settings

    Returns
    -------
    LambdaPlace or None
        None if calls are made elsewhere.
    """
    from hstmap.account.run_calls import PLACE_FACT, LambdaPlace
    from hstmap.commands.engines import where_it_runs

    facts = where_it_runs(settings)
    return LambdaPlace(**facts[PLACE_FACT]) if PLACE_FACT in facts else None


def check_region(prices: PriceTable, place: LambdaPlace | None) -> None:
    """Refuse to promise what holds elsewhere only.

    Parameters
    ----------
    prices : PriceTable
    place : LambdaPlace or None

    Raises
    ------
    UsageError
        If the prices are not of the function's region.
    """
    from hstmap.errors import UsageError

    if place is not None and place.region != prices.region:
        raise UsageError(
            f"a budget is reckoned with the prices of {prices.region}, and {place.function} is in "
            f"{place.region}: fetch those, by python -m hstmap prices --region {place.region} "
            f"-o {place.region}.json, and give --prices {place.region}.json"
        )


def _terms(plan: RunPlan, limits: CallLimits, prices: PriceTable) -> CallTerms:
    from hstmap.account.charges import CallTerms

    n_images = max(len(batch.images) for batch in plan.batches)
    n_files = max(batch.n_files for batch in plan.batches)
    return CallTerms.of(function_shape(limits.settings), prices, limits.work(n_images, n_files))


def billed_ms(store: Store) -> dict[str, int]:
    """Add up what the REPORT lines say that `bill` has left with a run.

    Parameters
    ----------
    store : Store
        The run's.

    Returns
    -------
    dict of str to int
        Milliseconds, by request id.
    """
    from hstmap.account.report_rows import read_rows

    sums: Counter[str] = Counter()
    for row in read_rows(store):
        sums[row.request_id] += row.billed_duration_ms
    return sums


def _mean_call_s(estimate: Estimate) -> float:
    """Say what a call is expected to take, s."""
    calls = estimate.usage.calls
    return math.fsum(call.n * call.duration_ms for call in calls) / sum(c.n for c in calls) / 1000


def usd_text(usd: float) -> str:
    """Write a sum: to the hundredth of a cent, small ones to the ten-thousandth.

    Parameters
    ----------
    usd : float

    Returns
    -------
    str
    """
    return f"${usd:.4f}" if usd >= 0.01 else f"${usd:.6f}"


def _rounded_up(usd: float) -> float:
    """Round up to two digits."""
    unit = 10.0 ** (math.floor(math.log10(usd)) - 1)
    return round(math.ceil(usd / unit) * unit, 12)


def command_with_budget(words: Sequence[str], usd: float) -> str:
    """Write a command again, with another budget.

    Parameters
    ----------
    words : sequence of str
        Of the command, without the program.
    usd : float

    Returns
    -------
    str
    """
    kept: list[str] = []
    follows = False
    for word in words:
        if not follows and not word.startswith("--budget="):
            kept.append(word)
        follows = not follows and word == "--budget"
        if follows:
            kept.pop()
    return shlex.join(["python", "-m", "hstmap", *kept, "--budget", f"{usd:g}"])
