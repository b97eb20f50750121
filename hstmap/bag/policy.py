"""Decisions of the scheduler, as pure functions: what is tried again, when, and what is doubled."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

from hstmap.errors import ForbiddenObjectError, MissingObjectError, StorageError

__all__ = [
    "PERMANENT_ERRORS",
    "TRANSIENT_ERRORS",
    "RunningQuantile",
    "StragglerPolicy",
    "grown_limit_s",
    "is_retryable",
    "retry_delay_s",
]

TRANSIENT_ERRORS: tuple[type[BaseException], ...] = (OSError, StorageError)
"""Exceptions that may be gone at the next attempt: networks, stores, disks, time-outs."""

PERMANENT_ERRORS: tuple[type[BaseException], ...] = (
    FileExistsError,
    FileNotFoundError,
    ForbiddenObjectError,
    IsADirectoryError,
    MissingObjectError,
    NotADirectoryError,
    PermissionError,
)
"""Kinds of transient exceptions that are not transient: what is asked for is not there."""

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 10.0
_LIMIT_GROWTH = 4.0
_MOST_GROWTHS = 20  # whatever it was at first, that is longer than anybody waits


def is_retryable(
    error_type: type[BaseException],
    retry_on: tuple[type[BaseException], ...] = TRANSIENT_ERRORS,
) -> bool:
    """Tell whether another attempt may mend an exception.

    Parameters
    ----------
    error_type : type
        Class of the exception.
    retry_on : tuple of type
        Classes that another attempt may mend.

    Returns
    -------
    bool
        Decided by the nearest of the exception's base classes that is in ``retry_on`` or in
        `PERMANENT_ERRORS`; the former wins if the class is in both. False if none is.
    """
    for base in error_type.__mro__:
        if base in retry_on:
            return True
        if base in PERMANENT_ERRORS:
            return False
    return False


def retry_delay_s(n_failures: int) -> float:
    """Return the pause before the next attempt of a task.

    Parameters
    ----------
    n_failures : int
        How often the task has failed so far, 1 or more.

    Returns
    -------
    float
        Seconds: doubles with each failure, from 0.1 s up to 10 s.
    """
    return min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** (n_failures - 1))


def grown_limit_s(first_s: float, number: int, longest_s: float | None) -> float:
    """Return the time limit of an attempt whose task got little time at first.

    Parameters
    ----------
    first_s : float
        That of the first attempt, s.
    number : int
        1 for the first attempt.
    longest_s : float, optional
        Which it does not exceed, s.

    Returns
    -------
    float
        Seconds: four times that of the attempt before.
    """
    grown_s = first_s * _LIMIT_GROWTH ** min(number - 1, _MOST_GROWTHS)
    return grown_s if longest_s is None else min(grown_s, longest_s)


class RunningQuantile:
    """A quantile of the values so far, kept in two heaps: adding is O(log n), reading O(1).

    Parameters
    ----------
    q : float
        Which quantile, above 0 and below 1.
    """

    def __init__(self, q: float) -> None:
        if not 0.0 < q < 1.0:
            raise ValueError(f"q is {q}; a quantile lies above 0 and below 1")
        self._q = q
        self._low: list[float] = []  # negated: its first element is the largest of the low values
        self._high: list[float] = []

    def __len__(self) -> int:
        return len(self._low) + len(self._high)

    def add(self, value: float) -> None:
        """Take one more value into account."""
        if self._low and value <= -self._low[0]:
            heapq.heappush(self._low, -value)
        else:
            heapq.heappush(self._high, value)
        n_low = math.ceil(self._q * len(self))
        while len(self._low) > n_low:
            heapq.heappush(self._high, -heapq.heappop(self._low))
        while len(self._low) < n_low:
            heapq.heappush(self._low, -heapq.heappop(self._high))

    @property
    def value(self) -> float:
        """The smallest value that at least the fraction ``q`` of the values does not exceed."""
        if not self._low:
            raise ValueError("no values yet; a quantile needs one")
        return -self._low[0]


@dataclass(frozen=True)
class StragglerPolicy:
    """When a task that runs far past the others gets a second attempt (a twin).

    Parameters
    ----------
    done_fraction : float
        Fraction of the stage's tasks that must have ended first, 0 to 1.
    quantile : float
        Which quantile of the durations of the ended tasks is the typical duration.
    slowdown : float
        A twin is started after this many typical durations.
    min_elapsed_s : float
        And not before this time, s: a second attempt of a short task gains nothing.
    max_fraction : float
        At most this fraction of the stage's tasks gets a twin (but one is always allowed).
    """

    done_fraction: float = 0.75
    quantile: float = 0.75
    slowdown: float = 3.0
    min_elapsed_s: float = 2.0
    max_fraction: float = 0.05

    def max_twins(self, n_tasks: int) -> int:
        """Return how many twins a stage can cost at most; a plan's price for them."""
        return math.ceil(self.max_fraction * n_tasks)

    def patience_s(self, n_tasks: int, n_done: int, typical_s: float) -> float:
        """Return how long an attempt may run before its task gets a twin.

        Parameters
        ----------
        n_tasks, n_done : int
            Tasks of the stage, and those of them that ended.
        typical_s : float
            The ``quantile`` of the durations of the ended tasks, s.

        Returns
        -------
        float
            Seconds from the start of the attempt; infinite while too few tasks have ended.
        """
        if n_done == 0 or n_done < self.done_fraction * n_tasks:
            return math.inf
        return max(self.min_elapsed_s, self.slowdown * typical_s)
