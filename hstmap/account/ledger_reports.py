"""Calls of a run as its ledger has them: what stands for REPORT lines where there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from hstmap.account.run_calls import RunCalls, purposes
from hstmap.aws.usage import LOG_NBYTES_A_CALL, Call
from hstmap.bag.task import Attempt

__all__ = ["LedgerReports", "Reports", "has_report", "worker_calls"]


class Reports(Protocol):
    """A source of a run's calls: what CloudWatch has of them, or what stands for it.

    Attributes
    ----------
    simulated : bool
        Whether the calls were never made on Lambda.
    notes : tuple of str
        What is taken for granted.
    log_nbytes : int
        What CloudWatch took in of them.
    missing : mapping of str to int
        Calls of which nothing is known, by the status of their attempts.
    """

    @property
    def simulated(self) -> bool:
        """Whether the calls were never made on Lambda."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is taken for granted."""

    @property
    def log_nbytes(self) -> int:
        """What CloudWatch took in of them."""

    @property
    def missing(self) -> Mapping[str, int]:
        """Calls of which nothing is known, by the status of their attempts."""

    def calls(self) -> Sequence[Call]:
        """Give the calls, each once."""


class LedgerReports:
    """Calls of a run as its ledger has them: simulated.

    Parameters
    ----------
    attempts : sequence of Attempt
        From the ledger.
    memory_mb : int
        Of the function that they are taken to be calls of.
    init_s : float
        What a first attempt of a process is taken to have spent in INIT, s.
    """

    simulated = True

    def __init__(self, attempts: Sequence[Attempt], memory_mb: int, init_s: float) -> None:
        self._attempts = attempts
        self._memory_mb = memory_mb
        self._init_ms = init_s * 1000
        self.missing: Mapping[str, int] = {}
        self.notes = (
            f"each attempt as if it were a call of a function of {memory_mb} MB which took as "
            "long as the ledger says; Lambda's processors are other ones than this machine's",
            f"INIT of {init_s:.2f} s, in place of its imports, for the first attempt of a process",
            "an attempt that was cancelled is counted until then; on Lambda it would go on",
            f"logs of {LOG_NBYTES_A_CALL} bytes a call",
        )

    @property
    def log_nbytes(self) -> int:
        """What CloudWatch would take in, assumed."""
        return LOG_NBYTES_A_CALL * len(self.calls())

    def calls(self) -> Sequence[Call]:
        """Give the attempts that started, as calls."""
        return tuple(
            Call(
                duration_ms=round(_duration_s(attempt) * 1000, 2),
                memory_mb=self._memory_mb,
                init_ms=self._init_ms if attempt.worker and attempt.worker.cold else 0.0,
                purpose=purpose,
            )
            for attempt, purpose in zip(self._attempts, purposes(self._attempts), strict=True)
            if attempt.started_s is not None
        )


def _duration_s(attempt: Attempt) -> float:
    """Say how long an attempt was; of a first one without the imports, which INIT stands for."""
    if attempt.worker and attempt.worker.cold and has_report(attempt):
        return float(attempt.value["elapsed_s"])
    return attempt.ended_s - (attempt.started_s or attempt.ended_s)


def has_report(attempt: Attempt) -> bool:
    """Tell whether the worker said what it did.

    Parameters
    ----------
    attempt : Attempt
        From the ledger.

    Returns
    -------
    bool
    """
    value = attempt.value
    return attempt.status == "ok" and isinstance(value, dict) and "requests" in value


def worker_calls(calls: RunCalls, memory_mb: int, init_s: float) -> list[Call]:
    """Make calls of what workers said, by their own clocks.

    Parameters
    ----------
    calls : RunCalls
        From the ledger; of attempts that did not end well, nothing was said.
    memory_mb : int
        Of the function, where the ledger does not tell.
    init_s : float
        Taken for the INIT of a first attempt whose worker does not tell it, s.

    Returns
    -------
    list of Call
    """
    return [
        Call(
            duration_ms=round(_told_s(attempt) * 1000, 2),
            memory_mb=calls.memory_mb.get(attempt.call_name, memory_mb),
            init_ms=round(_init_s(attempt, init_s) * 1000, 2),
            purpose=purpose,
        )
        for attempt, purpose in zip(calls.attempts, purposes(calls.attempts), strict=True)
        if has_report(attempt)
    ]


def _told_s(attempt: Attempt) -> float:
    """Say how long the invocation was, or where no handler tells that, its batch."""
    if attempt.handler_s is not None:
        return attempt.handler_s
    return float(attempt.value["elapsed_s"])


def _init_s(attempt: Attempt, assumed_s: float) -> float:
    if not (attempt.worker and attempt.worker.cold):
        return 0.0
    return assumed_s if attempt.init_s is None else attempt.init_s
