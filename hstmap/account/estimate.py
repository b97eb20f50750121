"""What a run would take and cost, low, expected and high: simulated, before anything is spent."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from hstmap.account.run_assumptions import RunShape, assumption_sets
from hstmap.account.run_model import ModelResult, simulate_run
from hstmap.account.run_profile import Profile
from hstmap.account.run_usage import client_usage
from hstmap.aws.bill import LINES, Bill, price
from hstmap.aws.price_table import PriceTable
from hstmap.aws.usage import Call, Purpose, Usage

__all__ = ["Estimate", "Range", "estimate_run"]

_MANY_IMAGES: Final = 50_000  # beyond these, one run of each kind says as much as three


@dataclass(frozen=True)
class Range:
    """What is expected, between what is low and what is high."""

    low: float
    expected: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """What a run would take and cost; simulated.

    Attributes
    ----------
    shape : RunShape
    architecture, prices, profile : str
        What it was made with; the profile by its origin.
    n_calls : int
        Expected, retries included.
    n_runs : int
        Simulated runs that it comes from.
    map_s, reduce_s, total_s : Range
    lines : dict of str to Range
        US dollars at list price, by line of the bill.
    list_usd, net_usd : Range
        Their sum, and after the month's free tier. Storage is that of one month.
    usage : Usage
        What the middle one of the expected runs uses, its calls put together by kind.
    """

    shape: RunShape
    architecture: str
    prices: str
    profile: str
    n_calls: int
    n_runs: int
    map_s: Range
    reduce_s: Range
    total_s: Range
    lines: dict[str, Range]
    list_usd: Range
    net_usd: Range
    usage: Usage

    def as_dict(self) -> dict[str, Any]:
        """Describe it for JSON."""
        return {"simulated": True} | asdict(self) | {"usage": self.usage.as_dict()}


def estimate_run(
    shape: RunShape,
    profile: Profile,
    prices: PriceTable,
    architecture: str,
    n_seeds: int | None = None,
) -> Estimate:
    """Simulate a run under low, expected and high assumptions.

    Parameters
    ----------
    shape : RunShape
    profile : Profile
    prices : PriceTable
    architecture : str
    n_seeds : int, optional
        Runs of each kind; by default three, and one of more than 50,000 images.

    Returns
    -------
    Estimate
        Low and high are the least and the most of all runs, expected is the median of those
        under the expected assumptions.
    """
    seeds = range(n_seeds or (1 if shape.n_images > _MANY_IMAGES else 3))
    runs: list[tuple[ModelResult, Bill]] = []
    for assumptions in assumption_sets(shape, profile):
        for seed in seeds:
            result = simulate_run(shape, profile, assumptions, seed)
            usage = result.usage + client_usage(shape, result.map_s)
            runs.append((replace(result, usage=usage), price(usage, prices, architecture)))

    def spread(value: Callable[[ModelResult, Bill], float]) -> Range:
        values = [value(*run) for run in runs]
        return Range(min(values), statistics.median(values[: len(seeds)]), max(values))

    def line(name: str) -> Range:
        return spread(lambda _, bill: bill.line(name).list_usd)

    expected = sorted(runs[: len(seeds)], key=lambda run: run[1].list_usd)
    return Estimate(
        shape=shape,
        architecture=architecture,
        prices=prices.name,
        profile=profile.origin,
        n_calls=round(spread(lambda result, _: result.usage.n_calls).expected),
        n_runs=len(runs),
        map_s=spread(lambda result, _: result.map_s),
        reduce_s=spread(lambda result, _: result.reduce_s),
        total_s=spread(lambda result, _: result.total_s),
        lines={name: line(name) for name in LINES},
        list_usd=spread(lambda _, bill: bill.list_usd),
        net_usd=spread(lambda _, bill: bill.net_usd),
        usage=_condensed(expected[len(expected) // 2][0].usage),
    )


def _condensed(usage: Usage) -> Usage:
    """Put calls of a kind together: as many of their mean duration."""
    kinds: dict[tuple[Purpose, bool], list[Call]] = {}
    for call in usage.calls:
        kinds.setdefault((call.purpose, call.init_ms > 0), []).append(call)
    calls = tuple(
        replace(
            alike[0],
            duration_ms=statistics.fmean(call.duration_ms for call in alike),
            init_ms=statistics.fmean(call.init_ms for call in alike),
            n=len(alike),
        )
        for alike in kinds.values()
    )
    return replace(usage, calls=calls)
