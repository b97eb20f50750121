"""Which of several ways is best, and how far from it one is: measured in turns, with the error.

Each round measures every way once, so that what slows the machine for minutes slows all of them,
and only ratios within a round are compared. The least of several noisy medians is the luck of one
as well: a way that is held against it looks worse than it is. So each round is held also against
the best of the *other* rounds, which has no such luck; it may not be the best one, so that this
makes a way look better than it is, if anything. The truth is expected between the two.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

#: Two-sided 95 % of the normal distribution; and the error of a median over that of a mean.
_Z = 1.96
_MEDIAN_OVER_MEAN = math.sqrt(math.pi / 2)
#: Standard deviation of a normal distribution over its interquartile range.
_SD_OF_IQR = 1 / 1.349
#: With fewer a spread is not known, and nothing can be told; more nobody would make.
LEAST_ROUNDS = 4
_MOST_ROUNDS = 1000


@dataclass(frozen=True)
class Excess:
    """By how much a way is above the best one.

    Attributes
    ----------
    chosen, best : int
        Names of both ways; the best is that of all rounds.
    excess, low, high : float
        Median of the ratios of each round less one, and its 95 % interval.
    held_out : float
        The same against the best of the other rounds.
    spread : float
        Standard deviation of a round's ratio.
    n_rounds : int
    """

    chosen: int
    best: int
    excess: float
    low: float
    high: float
    held_out: float
    spread: float
    n_rounds: int

    def verdict(self, limit: float) -> str:
        """Say whether it is within a limit: ``yes``, ``no``, or ``not told``."""
        if self.n_rounds < LEAST_ROUNDS:
            return "not told"
        if self.high <= limit:
            return "yes"
        return "no" if min(self.low, self.held_out) > limit else "not told"

    def rounds_needed(self, limit: float) -> int:
        """Say about how many rounds tell this excess from a limit."""
        gap = abs(limit - self.excess)
        needed = (_Z * _MEDIAN_OVER_MEAN * self.spread / gap) ** 2 if gap else math.inf
        return math.ceil(min(max(LEAST_ROUNDS, needed), _MOST_ROUNDS))

    def as_dict(self, limit: float) -> dict[str, Any]:
        """Describe it for JSON."""
        judged = {"verdict": self.verdict(limit), "n_rounds_needed": self.rounds_needed(limit)}
        return asdict(self) | {"limit": limit} | judged


def excess_of(chosen: int, rounds: Sequence[Mapping[int, float]]) -> Excess:
    """Hold one way against the best of all.

    Parameters
    ----------
    chosen : int
    rounds : sequence of mapping of int to float
        What each way took in each round; less is better.

    Returns
    -------
    Excess
    """
    best = best_of(rounds)
    ratios = [values[chosen] / values[best] for values in rounds]
    spread = _spread(ratios)
    median = statistics.median(ratios)
    error = _Z * _MEDIAN_OVER_MEAN * spread / math.sqrt(len(ratios))
    held_out = [
        values[chosen] / values[best_of([*rounds[:i], *rounds[i + 1 :]] or rounds)]
        for i, values in enumerate(rounds)
    ]
    return Excess(
        chosen, best, median - 1, median - error - 1, median + error - 1,
        statistics.median(held_out) - 1, spread, len(rounds),
    )  # fmt: skip


def best_of(rounds: Sequence[Mapping[int, float]]) -> int:
    """Name the way with the least median of what it took, over that round's median of all ways."""
    levels = [statistics.median(values.values()) for values in rounds]
    return min(
        rounds[0],
        key=lambda way: statistics.median(
            values[way] / level for values, level in zip(rounds, levels, strict=True)
        ),
    )


def _spread(values: Sequence[float]) -> float:
    """Give a standard deviation that single outliers do not change."""
    if len(values) < 2:
        return 0.0
    if len(values) < LEAST_ROUNDS:  # too few for quartiles
        return statistics.stdev(values)
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) * _SD_OF_IQR
