"""REPORT lines: what Lambda says that an invocation took and what of it is billed, as text or JSON.

The lines are those that AWS documents and writes [1]_ [2]_. A REPORT is what is paid for:
``billed = ceil(duration + INIT)`` in milliseconds, INIT included since August 2025 [3]_.

References
----------
.. [1] https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html
.. [2] https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
.. [3] https://aws.amazon.com/blogs/compute/aws-lambda-standardizes-billing-for-init-phase/
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Report", "Status", "billed_ms", "parse_report"]

Status = Literal["success", "error", "timeout"]

_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_TEXT_FIELDS = {
    "duration_ms": re.compile(rf"\tDuration: {_NUMBER} ms"),
    "billed_duration_ms": re.compile(rf"\tBilled Duration: {_NUMBER} ms"),
    "memory_size_mb": re.compile(rf"\tMemory Size: {_NUMBER} MB"),
    "max_memory_used_mb": re.compile(rf"\tMax Memory Used: {_NUMBER} MB"),
    "init_duration_ms": re.compile(rf"\tInit Duration: {_NUMBER} ms"),
}


@dataclass(frozen=True)
class Report:
    """What an invocation took, and what of it is billed.

    Parameters
    ----------
    request_id : str
        The invocation's request id; retries and duplicates of an event share it.
    duration_ms : float
        From the event's delivery to the runtime to its answer, to 0.01 ms.
    billed_duration_ms : int
        Whole milliseconds, INIT included.
    memory_size_mb, max_memory_used_mb : int
        The configured and the largest used memory.
    init_duration_ms : float, optional
        What INIT took, to 0.01 ms, where this invocation was a cold start.
    status : {'success', 'error', 'timeout'}
        How the runtime ended. A handler's exception is a success of the runtime.
    error_type : str, optional
        Such as ``Runtime.OutOfMemory``, where the status is ``error``.
    """

    request_id: str
    duration_ms: float
    billed_duration_ms: int
    memory_size_mb: int
    max_memory_used_mb: int
    init_duration_ms: float | None = None
    status: Status = "success"
    error_type: str | None = None

    def as_text(self) -> str:
        """Return the line of the text format, ended by a newline."""
        fields = [
            f"REPORT RequestId: {self.request_id}",
            f"Duration: {self.duration_ms:.2f} ms",
            f"Billed Duration: {self.billed_duration_ms} ms",
            f"Memory Size: {self.memory_size_mb} MB",
            f"Max Memory Used: {self.max_memory_used_mb} MB",
        ]
        if self.init_duration_ms is not None:
            fields.append(f"Init Duration: {self.init_duration_ms:.2f} ms")
        if self.status != "success":
            fields.append(f"Status: {self.status}")
        if self.error_type is not None:
            fields.append(f"Error Type: {self.error_type}")
        return "\t".join(fields) + "\n"

    def as_record(self) -> dict[str, Any]:
        """Return the record of a ``platform.report`` event."""
        metrics: dict[str, float] = {
            "durationMs": self.duration_ms,
            "billedDurationMs": self.billed_duration_ms,
            "memorySizeMB": self.memory_size_mb,
            "maxMemoryUsedMB": self.max_memory_used_mb,
        }
        if self.init_duration_ms is not None:
            metrics["initDurationMs"] = self.init_duration_ms
        record: dict[str, Any] = {
            "requestId": self.request_id,
            "metrics": metrics,
            "status": self.status,
        }
        if self.error_type is not None:
            record["errorType"] = self.error_type
        return record


def billed_ms(duration_ms: float, init_duration_ms: float | None) -> int:
    """Return the milliseconds that are billed for an invocation.

    Parameters
    ----------
    duration_ms : float
        The duration, to 0.01 ms.
    init_duration_ms : float or None
        INIT, to 0.01 ms, of a cold start.

    Returns
    -------
    int
        Their sum, rounded up to whole milliseconds, at least 1.

    Notes
    -----
    The sum is taken in hundredths of a millisecond, so that a reader who adds the two numbers
    of a REPORT line gets the third.
    """
    hundredths = round(duration_ms * 100) + round((init_duration_ms or 0.0) * 100)
    return max(1, -(-hundredths // 100))


def parse_report(message: str) -> Report | None:
    """Read a REPORT line of either format, AWS's own ones too.

    Parameters
    ----------
    message : str
        One log event.

    Returns
    -------
    Report or None
        None where the event is not a report.
    """
    if message.startswith("REPORT RequestId: "):
        return _parse_text(message)
    if message.startswith("{"):
        return _parse_json(message)
    return None


def _parse_text(message: str) -> Report | None:
    numbers = {name: field.search(message) for name, field in _TEXT_FIELDS.items()}
    values = {name: match.group(1) for name, match in numbers.items() if match is not None}
    if not {"duration_ms", "billed_duration_ms", "memory_size_mb"} <= set(values):
        return None
    status = re.search(r"\tStatus: (\w+)", message)
    init_ms = values.get("init_duration_ms")
    error_type = re.search(r"\tError Type: ([^\t\n]+)", message)
    return Report(
        request_id=message.removeprefix("REPORT RequestId: ").split("\t")[0].strip(),
        duration_ms=float(values["duration_ms"]),
        billed_duration_ms=int(values["billed_duration_ms"]),
        memory_size_mb=int(values["memory_size_mb"]),
        max_memory_used_mb=int(values.get("max_memory_used_mb", 0)),
        init_duration_ms=None if init_ms is None else float(init_ms),
        status=_status(status.group(1) if status else "success"),
        error_type=error_type.group(1).strip() if error_type else None,
    )


def _parse_json(message: str) -> Report | None:
    try:
        event = json.loads(message)
    except ValueError:
        return None
    if event.get("type") != "platform.report":
        return None
    record = event["record"]
    metrics = record["metrics"]
    return Report(
        request_id=record["requestId"],
        duration_ms=metrics["durationMs"],
        billed_duration_ms=int(metrics["billedDurationMs"]),
        memory_size_mb=int(metrics["memorySizeMB"]),
        max_memory_used_mb=int(metrics.get("maxMemoryUsedMB", 0)),
        init_duration_ms=metrics.get("initDurationMs"),
        status=_status(record.get("status", "success")),
        error_type=record.get("errorType"),
    )


def _status(word: str) -> Status:
    if word == "timeout":
        return "timeout"
    return "success" if word == "success" else "error"
