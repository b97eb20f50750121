"""What a map has done, added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from hstmap.batch import BatchReport
from hstmap.storage import RequestCounts

__all__ = ["MapResult", "Tally"]


@dataclass(frozen=True)
class MapResult:
    """What the map has done in this call.

    Attributes
    ----------
    outcomes : dict of str to int
        Number of images by outcome.
    n_sources : int
    requests : RequestCounts
        Of all workers.
    n_attempts : int
        Attempts that it took, for so many tasks.
    n_left : int
        Images that came to no outcome, because no further calls could be sent.
    """

    outcomes: dict[str, int]
    n_sources: int
    requests: RequestCounts
    n_attempts: int
    n_left: int = 0

    def __add__(self, other: MapResult) -> MapResult:
        return MapResult(
            dict(Counter(self.outcomes) + Counter(other.outcomes)),
            self.n_sources + other.n_sources,
            self.requests + other.requests,
            self.n_attempts + other.n_attempts,
            self.n_left + other.n_left,
        )


class Tally:
    """Adds up what batches did.

    Parameters
    ----------
    on_batch : callable
        Told the outcomes of each batch.

    Attributes
    ----------
    n_attempts, n_left : int
        As in `MapResult`.
    """

    def __init__(self, on_batch: Callable[[dict[str, int]], None]) -> None:
        self._on_batch = on_batch
        self._outcomes: Counter[str] = Counter()
        self._n_sources = 0
        self._requests = RequestCounts()
        self.n_attempts = 0
        self.n_left = 0

    def add(self, outcomes: dict[str, int]) -> None:
        """Count images, and tell whoever is watching."""
        self._outcomes.update(outcomes)
        self._on_batch(outcomes)

    def add_report(self, report: BatchReport) -> None:
        """Count what a worker did."""
        self._n_sources += report.n_sources
        self._requests += report.requests
        self.add(report.outcomes)

    def result(self) -> MapResult:
        """Give the sums."""
        return MapResult(
            dict(self._outcomes), self._n_sources, self._requests, self.n_attempts, self.n_left
        )
