"""What a run used, before any price: calls as their REPORT lines tell them, requests, bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal

from hstmap.aws.reports import Report
from hstmap.errors import UsageError

__all__ = ["LOG_NBYTES_A_CALL", "Call", "Purpose", "Usage", "n_event_requests"]

Purpose = Literal["work", "retry", "twin", "waste"]
"""What a call was for.

``work``: its result was kept. ``retry``: it failed, and another attempt of its task did it.
``twin``: the other attempt of its task was faster. ``waste``: its task failed for good.
"""

#: What a call is taken to log: START, END and REPORT, and a line of the worker's own, of a cold
#: start.
LOG_NBYTES_A_CALL: Final = 650

_FIRST_EVENT_NBYTES: Final = 256 * 1024
_FURTHER_EVENT_NBYTES: Final = 64 * 1024


def n_event_requests(nbytes: int) -> int:
    """Count the requests that an asynchronous event is charged as.

    Parameters
    ----------
    nbytes : int
        Size of the event.

    Returns
    -------
    int
        One for its first 256 KB and one for each further 64 KB [1]_.

    References
    ----------
    .. [1] https://aws.amazon.com/lambda/pricing/
    """
    return 1 + max(0, math.ceil((nbytes - _FIRST_EVENT_NBYTES) / _FURTHER_EVENT_NBYTES))


@dataclass(frozen=True)
class Call:
    """One invocation of a function, or several alike.

    Attributes
    ----------
    duration_ms : float
        Without INIT.
    memory_mb : int
    init_ms : float
        Of a cold start, else 0.
    purpose : Purpose
    n : int
        How many calls were just like this.
    n_requests : int
        What each is charged as, see `n_event_requests`.
    reported_ms : int, optional
        Billed duration of the REPORT line, ms; what the arithmetic is held against.
    """

    duration_ms: float
    memory_mb: int
    init_ms: float = 0.0
    purpose: Purpose = "work"
    n: int = 1
    n_requests: int = 1
    reported_ms: int | None = None

    @classmethod
    def from_report(cls, report: Report, purpose: Purpose = "work", n: int = 1) -> Call:
        """Take a call from its REPORT line.

        Parameters
        ----------
        report : Report
        purpose : Purpose
        n : int
            How many calls were just like this.

        Returns
        -------
        Call
        """
        return cls(
            duration_ms=report.duration_ms,
            memory_mb=report.memory_size_mb,
            init_ms=report.init_duration_ms or 0.0,
            purpose=purpose,
            n=n,
            reported_ms=report.billed_duration_ms,
        )


@dataclass(frozen=True)
class Usage:
    """What was used, before any price.

    Attributes
    ----------
    calls : tuple of Call
    n_get, n_put, n_list : int
        Requests of S3: HEAD is charged as GET, COPY and POST as PUT, DELETE is free.
    log_nbytes : int
        Taken in by CloudWatch Logs.
    stored_nbytes : int
        What the results take, kept for a month.
    egress_regions_nbytes, egress_internet_nbytes : int
        What left the region, to another one and to the internet.
    """

    calls: tuple[Call, ...] = ()
    n_get: int = 0
    n_put: int = 0
    n_list: int = 0
    log_nbytes: int = 0
    stored_nbytes: int = 0
    egress_regions_nbytes: int = 0
    egress_internet_nbytes: int = 0

    @property
    def n_calls(self) -> int:
        """Number of calls."""
        return sum(call.n for call in self.calls)

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            **{item.name: getattr(self, item.name) + getattr(other, item.name)
               for item in fields(self)}
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """Describe it for JSON; `from_dict` reads it."""
        record = {item.name: getattr(self, item.name) for item in fields(self)}
        return record | {"calls": [asdict(call) for call in self.calls]}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Usage:
        """Read what `as_dict` made.

        Parameters
        ----------
        record : mapping

        Returns
        -------
        Usage

        Raises
        ------
        UsageError
            If it is something else.
        """
        try:
            return cls(**{**record, "calls": tuple(Call(**call) for call in record["calls"])})
        except (TypeError, KeyError) as error:
            raise UsageError(f"this is no record of what a run used: {error}") from error
