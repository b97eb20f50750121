"""Memory and batch size of a run on Lambda, chosen by simulating it with many of both.

All of them are worked out in closed form (`~hstmap.account.run_rough`), the best of these simulated
event by event, and the best of the simulated ones is chosen: within seconds, whatever the size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, Final

from hstmap.account.estimate import Estimate, Range, estimate_run
from hstmap.account.run_assumptions import RunShape, assumption_sets
from hstmap.account.run_profile import Profile
from hstmap.account.run_rough import rough_run
from hstmap.account.run_usage import client_usage
from hstmap.aws.bill import price
from hstmap.aws.price_table import PriceTable
from hstmap.errors import UsageError

__all__ = ["BATCH_SIZES", "MEMORY_SIZES_MB", "Choice", "Goal", "Point", "Sweep", "choose"]

#: Beyond 1,769 MB a worker, which computes on one vCPU, is not faster; some need the room.
MEMORY_SIZES_MB: Final = (512, 768, 1024, 1280, 1536, 1769, 2048, 2560, 3008)
BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 100)
#: A worker must fit with something to spare: images differ, and Lambda kills what does not fit.
_SPARE_MEMORY: Final = 1.25
_MOST_MEMORY_MB: Final = 10_240
_N_SIMULATED: Final = 4
_MOST_SIMULATED: Final = 6
#: What closed form has this much beyond a limit, a simulation does not bring within it.
_HOPELESS: Final = 0.25
#: Two runs whose times differ by less take the same, and two whose costs differ by less than that
#: share of what their calls are billed cost the same: their spread over seeds is larger. Not of
#: the whole bill: of that, storage and requests can be four fifths, whatever the memory.
_ALIKE: Final = 0.01
_OF_CALLS: Final = ("compute", "init")
_MB: Final = 2**20


@dataclass(frozen=True)
class Goal:
    """What the choice is to be best at.

    Attributes
    ----------
    budget_usd : float, optional
        The fastest that is expected to cost no more.
    deadline_s : float, optional
        The cheapest that is expected to take no longer.
    fastest : bool
        The fastest, whatever it costs. Without any of them: the cheapest.
    """

    budget_usd: float | None = None
    deadline_s: float | None = None
    fastest: bool = False

    def __str__(self) -> str:
        if self.deadline_s is not None:
            limit = "" if self.budget_usd is None else f" and ${self.budget_usd:g}"
            return f"the cheapest within {self.deadline_s:g} s{limit}"
        if self.budget_usd is not None:
            return f"the fastest within ${self.budget_usd:g}"
        return "the fastest" if self.fastest else "the cheapest"

    @property
    def prefers_time(self) -> bool:
        """Whether of those that are within the limits the fastest is wanted."""
        return self.deadline_s is None and (self.fastest or self.budget_usd is not None)


@dataclass(frozen=True)
class Sweep:
    """What may be chosen.

    Attributes
    ----------
    memory_mb : tuple of int
        One, if it was given.
    batch_sizes : tuple of int
    goal : Goal
    timeout_s : float
        A call that could take longer is not offered, s.
    """

    memory_mb: tuple[int, ...] = MEMORY_SIZES_MB
    batch_sizes: tuple[int, ...] = BATCH_SIZES
    goal: Goal = Goal()
    timeout_s: float = 900.0


@dataclass(frozen=True)
class Point:
    """One way to make the run.

    Attributes
    ----------
    memory_mb, batch_size : int
    total_s, list_usd : Range
        Time of map and reduce, s, and US dollars at list price.
    calls_usd : float
        Of these, what calls are expected to be billed: memory times time, INIT included.
    simulated : bool
        Whether event by event; else in closed form.
    """

    memory_mb: int
    batch_size: int
    total_s: Range
    list_usd: Range
    calls_usd: float
    simulated: bool


@dataclass(frozen=True)
class Choice:
    """What was chosen, and from what.

    Attributes
    ----------
    goal : str
    least_memory_mb : int
        Less was not offered: a worker would not fit.
    points : tuple of Point
        By memory and batch size.
    chosen : Point
        One of them.
    estimate : Estimate
        Of the run with what was chosen.
    """

    goal: str
    least_memory_mb: int
    points: tuple[Point, ...]
    chosen: Point
    estimate: Estimate

    def as_dict(self) -> dict[str, Any]:
        """Describe it for JSON, without the estimate."""
        return {
            "goal": self.goal,
            "least_memory_mb": self.least_memory_mb,
            "chosen": {name: getattr(self.chosen, name) for name in ("memory_mb", "batch_size")},
            "points": [asdict(point) for point in self.points],
        }


def choose(
    shape: RunShape, profile: Profile, prices: PriceTable, architecture: str, sweep: Sweep
) -> Choice:
    """Choose memory and batch size.

    Parameters
    ----------
    shape : RunShape
        The run; its memory and batch size are not looked at.
    profile : Profile
    prices : PriceTable
    architecture : str
    sweep : Sweep

    Returns
    -------
    Choice

    Raises
    ------
    UsageError
        If nothing is within the limits of the goal; names what comes nearest.
    """
    least_mb = least_memory_mb(profile)
    shapes = _shapes(shape, sweep, least_mb)
    shape_of = {(item.memory_mb, item.images_a_call): item for item in shapes}
    worked_out = [_rough_point(item, profile, prices, architecture) for item in shapes]
    shortest_s = min(longest_s for _, longest_s in worked_out)
    limit_s = max(sweep.timeout_s, shortest_s)
    points = [point for point, longest_s in worked_out if longest_s <= limit_s]
    simulated: dict[Point, Estimate] = {}
    for coarse in _ranked(points, sweep.goal)[:_MOST_SIMULATED]:
        is_enough = len(simulated) >= _N_SIMULATED and _best(list(simulated), sweep.goal)
        if simulated and (is_enough or _excess(coarse, sweep.goal) > _HOPELESS):
            break
        fine = shape_of[coarse.memory_mb, coarse.batch_size]
        estimate = estimate_run(fine, profile, prices, architecture)
        calls_usd = sum(estimate.lines[name].expected for name in _OF_CALLS)
        point = replace(
            coarse, total_s=estimate.total_s, list_usd=estimate.list_usd, calls_usd=calls_usd,
            simulated=True,
        )  # fmt: skip
        simulated[point] = estimate
        points[points.index(coarse)] = point
    chosen = _best(list(simulated), sweep.goal)
    if chosen is None:
        raise UsageError(_refusal(simulated, sweep.goal))
    return Choice(str(sweep.goal), least_mb, tuple(points), chosen, simulated[chosen])


def least_memory_mb(profile: Profile) -> int:
    """Say with how little memory a function can do.

    Parameters
    ----------
    profile : Profile

    Returns
    -------
    int
        What a worker was measured to hold and a quarter more; 128 if that was not measured.
    """
    return max(128, math.ceil(profile.peak_memory_nbytes * _SPARE_MEMORY / _MB))


def _shapes(shape: RunShape, sweep: Sweep, least_mb: int) -> list[RunShape]:
    """Make the run in all ways that are possible."""
    memory = [size for size in sweep.memory_mb if size >= least_mb]
    if not memory:
        if len(sweep.memory_mb) == 1:
            memory = list(sweep.memory_mb)  # it was asked for
        elif least_mb > _MOST_MEMORY_MB:
            raise UsageError(f"a worker needs {least_mb:,} MB; Lambda has {_MOST_MEMORY_MB:,}")
        else:
            memory = [least_mb]
    batches = sorted({min(size, shape.n_images) for size in sweep.batch_sizes})
    # A function whose memory is changed starts all its environments anew.
    n_warm = {size: shape.n_warm if size == shape.memory_mb else 0 for size in memory}
    return [
        replace(shape, memory_mb=size, batch_size=batch, n_warm=n_warm[size])
        for size, batch in product(memory, batches)
    ]


def _rough_point(
    shape: RunShape, profile: Profile, prices: PriceTable, architecture: str
) -> tuple[Point, float]:
    """Work a way out in closed form, with the longest that a call is expected to take, s."""
    times, bills, calls_s = [], [], []
    for assumptions in assumption_sets(shape, profile):
        result = rough_run(shape, profile, assumptions)
        times.append(result.total_s)
        usage = result.usage + client_usage(shape, result.map_s)
        bills.append(price(usage, prices, architecture))
        calls_s.append(result.call_s * assumptions.straggler_slowdown)
    usd = [bill.list_usd for bill in bills]
    total_s, list_usd = (Range(min(values), values[0], max(values)) for values in (times, usd))
    calls_usd = sum(bills[0].line(name).list_usd for name in _OF_CALLS)
    point = Point(
        shape.memory_mb, shape.images_a_call, total_s, list_usd, calls_usd, simulated=False
    )
    return point, max(calls_s)


def _excess(point: Point, goal: Goal) -> float:
    """Say by how much a way is beyond its limits, as a share of them."""
    limits = ((point.list_usd, goal.budget_usd), (point.total_s, goal.deadline_s))
    return max(
        (
            item.expected / limit - 1 if limit > 0 else math.inf
            for item, limit in limits
            if limit is not None
        ),
        default=0.0,
    )


def _wanted(goal: Goal) -> tuple[Callable[[Point], float], Callable[[Point], float]]:
    """Give what is to be small, and what decides among those that are alike in it."""

    def usd(point: Point) -> float:
        return point.list_usd.expected

    def seconds(point: Point) -> float:
        return point.total_s.expected

    return (seconds, usd) if goal.prefers_time else (usd, seconds)


def _ranked(points: Sequence[Point], goal: Goal) -> list[Point]:
    """Sort points, the best first, and those beyond the limits by how near they are."""
    ranked: list[Point] = []
    left = [point for point in points if _excess(point, goal) <= 0]
    while best := _best(left, goal):
        ranked.append(best)
        left.remove(best)
    beyond = [point for point in points if _excess(point, goal) > 0]
    return ranked + sorted(beyond, key=lambda point: _excess(point, goal))


def _best(points: Sequence[Point], goal: Goal) -> Point | None:
    """Pick of points the best within the limits, if there is one."""
    first, second = _wanted(goal)
    within = [point for point in points if _excess(point, goal) <= 0]
    if not within:
        return None
    least = min(within, key=first)
    enough = first(least) + _ALIKE * (first(least) if goal.prefers_time else least.calls_usd)
    return min((point for point in within if first(point) <= enough), key=second)


def _refusal(simulated: Mapping[Point, Estimate], goal: Goal) -> str:
    """Say what comes nearest."""
    nearest = min(simulated, key=lambda point: (_excess(point, goal), point.list_usd.expected))
    estimate = simulated[nearest]
    what = "the fastest" if goal.deadline_s is not None else "the cheapest"
    advice = "more time, or more --workers" if goal.deadline_s is not None else "a larger budget"
    return (
        f"no memory and batch size is {goal}: {what}, {nearest.memory_mb:,} MB and "
        f"{nearest.batch_size} images a call, is expected to take {nearest.total_s.expected:.1f} s "
        f"({estimate.map_s.expected:.1f} s, and {estimate.reduce_s.expected:.1f} s for merging) "
        f"and cost ${nearest.list_usd.expected:.4f}; give {advice}"
    )
