"""Reads a function's log from CloudWatch Logs: all its pages, however often that is throttled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from hstmap.aws.invocation_log import LogEvent
from hstmap.aws.session import AwsSession
from hstmap.errors import MissingObjectError, UsageError

__all__ = ["FunctionLog", "log_client"]

#: FilterLogEvents may be called 5 to 10 times a second in an account and region, whoever calls:
#: https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html
_N_ATTEMPTS: Final = 12


def log_client(region: str) -> Any:
    """Make a client of CloudWatch Logs that is patient with throttling.

    Parameters
    ----------
    region : str

    Returns
    -------
    object
        Of boto3.
    """
    return AwsSession(region, n_attempts=_N_ATTEMPTS).client("logs")


class FunctionLog:
    """The log of a function, kept as far as it was read.

    Parameters
    ----------
    client : object
        Of boto3, for CloudWatch Logs; see `log_client`.
    function : str
    page_size : int
        Most events of one answer.
    """

    def __init__(self, client: Any, function: str, page_size: int = 10_000) -> None:
        self._client = client
        self._group = f"/aws/lambda/{function}"
        self._page_size = page_size
        self._events: dict[str, LogEvent] = {}

    def read(self, from_s: float, to_s: float) -> None:
        """Read a span of time; what was read before may be read again.

        Parameters
        ----------
        from_s, to_s : float
            Unix time, s.

        Raises
        ------
        MissingObjectError
            If the function has no log, or no longer.
        UsageError
            If it may not be read.
        """
        for event in self._pages(round(from_s * 1000), round(to_s * 1000)):
            self._events[event["eventId"]] = LogEvent.from_cloudwatch(event)

    def events(self) -> list[LogEvent]:
        """Give all events that were read, each once, in the order of their times."""
        return sorted(self._events.values(), key=lambda event: event.timestamp_ms)

    def _pages(self, from_ms: int, to_ms: int) -> Iterator[dict[str, Any]]:
        from botocore.exceptions import BotoCoreError, ClientError

        pages = self._client.get_paginator("filter_log_events").paginate(
            logGroupName=self._group,
            startTime=max(0, from_ms),
            endTime=to_ms,
            PaginationConfig={"PageSize": self._page_size},
        )
        try:
            for page in pages:
                yield from page.get("events", ())
        except self._client.exceptions.ResourceNotFoundException as error:
            raise MissingObjectError(self._group, "there is no such log group") from error
        except (BotoCoreError, ClientError) as error:
            raise UsageError(
                f"the log {self._group} cannot be read: {error}. It takes credentials of the "
                "account that the run was on, with logs:FilterLogEvents (python -m hstmap deploy "
                "--policies prints the policy of a runner)"
            ) from error
