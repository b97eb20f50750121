"""Which invocations a function's log tells of: pure reading of its events, in text or JSON.

Lambda writes an event when an environment starts (INIT_START), when it gets a request (START) and
when the request has ended (END, REPORT); what the function itself logs lies between. Each stream is
of one environment, and an environment does one request at a time [1]_.

References
----------
.. [1] https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hstmap.aws.reports import Report, parse_report

__all__ = ["EVENT_OVERHEAD_NBYTES", "LogEvent", "LoggedRun", "logged_runs"]

#: What CloudWatch adds to each event when it takes the size of what comes in:
#: https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
EVENT_OVERHEAD_NBYTES: Final = 26

_REQUEST_ID: Final = r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
_SYSTEM_LINE: Final = re.compile(rf"(?:(START|END|REPORT) )?RequestId: {_REQUEST_ID}\b")
#: A line of Python's logging under Lambda's runtime, and Lambda's own of a time-out.
_LOGGING_LINE: Final = re.compile(rf"(?:\[\w+\]\t)?\S+Z[\t ]{_REQUEST_ID}[\t ](.*)", re.DOTALL)
_CALLS_PREFIX: Final = "lithops.jobs/"


@dataclass(frozen=True, slots=True)
class LogEvent:
    """What an event of the log says.

    Attributes
    ----------
    stream : str
        Its environment's.
    timestamp_ms : int
        Unix time, ms.
    nbytes : int
        As CloudWatch charges it.
    request_id : str
        Which request it is of; empty where it does not say.
    begins : bool
        Whether the request begins with it.
    call_name : str
        What the engine calls the call, where the function has logged it.
    report : Report or None
    """

    stream: str
    timestamp_ms: int
    nbytes: int
    request_id: str = ""
    begins: bool = False
    call_name: str = ""
    report: Report | None = None

    @classmethod
    def from_cloudwatch(cls, event: Mapping[str, Any]) -> LogEvent:
        """Read an event as CloudWatch Logs gives it.

        Parameters
        ----------
        event : mapping
            With ``logStreamName``, ``timestamp`` (Unix time, ms) and ``message``.

        Returns
        -------
        LogEvent
        """
        message = event["message"]
        nbytes = len(message.encode()) + EVENT_OVERHEAD_NBYTES
        facts = _of_json(message) if message.startswith("{") else _of_text(message)
        return cls(event["logStreamName"], event["timestamp"], nbytes, **facts)


def _of_text(message: str) -> dict[str, Any]:
    if found := _SYSTEM_LINE.match(message):
        word, request_id = found.groups()
        report = parse_report(message) if word == "REPORT" else None
        return {"request_id": request_id, "begins": word == "START", "report": report}
    if found := _LOGGING_LINE.match(message):
        return {"request_id": found[1], "call_name": _call_name(found[2])}
    return {}


def _of_json(message: str) -> dict[str, Any]:
    try:
        event = json.loads(message)
    except ValueError:
        return {}
    record = event.get("record")
    if str(event.get("type", "")).startswith("platform.") and isinstance(record, dict):
        return {
            "request_id": record.get("requestId", ""),
            "begins": event["type"] == "platform.start",
            "report": parse_report(message),
        }
    call_name = _call_name(event.get("message", ""))
    return {"request_id": str(event.get("requestId", "")), "call_name": call_name}


def _call_name(text: object) -> str:
    """Find the name of the call in what hstmap's handler logs."""
    if not isinstance(text, str) or '"call"' not in text:
        return ""
    try:
        told = json.loads(text)["call"]
    except (ValueError, KeyError, TypeError):
        return ""
    return str(told).removeprefix(_CALLS_PREFIX)


@dataclass
class LoggedRun:
    """One run of a function, as its log tells of it.

    Attributes
    ----------
    request_id : str
        Repetitions and duplicates of an event share it.
    stream : str
        Of the environment.
    call_name : str
        What the engine calls the call; empty if the function did not come to logging it.
    timestamp_ms : int
        Unix time of its last event so far, ms.
    nbytes : int
        Of its events, and of those of the environment's start, as CloudWatch charges them.
    report : Report or None
        None if it has not ended, or its end is not in the log yet.
    """

    request_id: str
    stream: str
    call_name: str = ""
    timestamp_ms: int = 0
    nbytes: int = 0
    report: Report | None = None


def logged_runs(events: Iterable[LogEvent]) -> list[LoggedRun]:
    """Find the runs that a log tells of.

    Parameters
    ----------
    events : iterable of LogEvent
        Of any number of streams, each in order.

    Returns
    -------
    list of LoggedRun
        Ordered by their first events. Each event's bytes are in exactly one of them, but for those
        of streams in which no request is named.
    """
    runs: list[LoggedRun] = []
    current: dict[str, LoggedRun] = {}
    before: dict[str, int] = {}  # bytes of a stream that come before its first request
    for event in events:
        run = current.get(event.stream)
        if event.request_id and (
            run is None
            or run.request_id != event.request_id
            or (run.report is not None and (event.begins or event.report is not None))
        ):
            run = LoggedRun(event.request_id, event.stream, nbytes=before.pop(event.stream, 0))
            current[event.stream] = run
            runs.append(run)
        if run is None:
            before[event.stream] = before.get(event.stream, 0) + event.nbytes
            continue
        run.nbytes += event.nbytes
        run.timestamp_ms = event.timestamp_ms
        run.call_name = run.call_name or event.call_name
        run.report = run.report or event.report
    return runs
