"""What observers see: the same events feed the ledger, the progress bar and anything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from hstmap.bag.task import Attempt, WorkerInfo

__all__ = [
    "AttemptEnded",
    "AttemptStarted",
    "AttemptSubmitted",
    "Event",
    "Observer",
    "StageEnded",
    "StageStarted",
]


@dataclass(frozen=True)
class StageStarted:
    """A stage begins; times are Unix time, s."""

    stage: str
    n_tasks: int
    time_s: float


@dataclass(frozen=True)
class AttemptSubmitted:
    """An attempt was handed to the engine's workers.

    Parameters
    ----------
    reason : str
        ``first``, ``retry`` or ``twin``.
    """

    stage: str
    task_key: str
    number: int
    reason: str
    time_s: float


@dataclass(frozen=True)
class AttemptStarted:
    """A worker took an attempt up; which one, is not always known before the attempt ends.

    What the backend calls it is as in `~hstmap.bag.task.Attempt`.
    """

    stage: str
    task_key: str
    number: int
    worker: WorkerInfo | None
    time_s: float
    request_id: str = ""
    call_name: str = ""


@dataclass(frozen=True)
class AttemptEnded:
    """An attempt ended, in whatever way."""

    attempt: Attempt
    time_s: float


@dataclass(frozen=True)
class StageEnded:
    """A stage is over.

    Parameters
    ----------
    complete : bool
        Whether every task came to its final attempt; False if the caller stopped early.
    """

    stage: str
    n_tasks: int
    n_ok: int
    n_failed: int
    complete: bool
    time_s: float


Event: TypeAlias = StageStarted | AttemptSubmitted | AttemptStarted | AttemptEnded | StageEnded
Observer: TypeAlias = Callable[[Event], None]
