"""What Lambda writes of an invocation into its log: START, END and REPORT, as text or JSON.

The lines are those that AWS documents and writes [1]_ [2]_.

References
----------
.. [1] https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html
.. [2] https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, Literal

from hstmap.aws.reports import Report, Status

__all__ = ["InitReport", "LogFormat", "SystemLog"]

LogFormat = Literal["Text", "JSON"]

_LEVELS = {"DEBUG": 0, "INFO": 1, "WARN": 2}


@dataclass(frozen=True)
class InitReport:
    """An INIT that failed, in the phase in which it did."""

    duration_ms: float
    phase: Literal["init", "invoke"]
    status: Status
    error_type: str | None = None

    def as_text(self) -> str:
        """Return the line of the text format, ended by a newline."""
        line = (
            f"INIT_REPORT Init Duration: {self.duration_ms:.2f} ms\tPhase: {self.phase}"
            f"\tStatus: {self.status}"
        )
        if self.error_type is not None and self.status == "error":
            line += f"\tError Type: {self.error_type}"
        return line + "\n"

    def as_record(self) -> dict[str, Any]:
        """Return the record of a ``platform.initReport`` event."""
        record: dict[str, Any] = {
            "initializationType": "on-demand",
            "phase": self.phase,
            "status": self.status,
            "metrics": {"durationMs": self.duration_ms},
        }
        if self.error_type is not None:
            record["errorType"] = self.error_type
        return record


class SystemLog:
    """The lines that Lambda itself writes, in a function's log format and at its level.

    Parameters
    ----------
    log_format : {'Text', 'JSON'}
        The function's log format.
    level : {'DEBUG', 'INFO', 'WARN'}
        The lowest level of system lines that are written; only JSON has levels.
    runtime : str
        The runtime's identifier, such as ``python3.11``.
    region : str
        The region, for the runtime's ARN.
    """

    def __init__(self, log_format: LogFormat, level: str, runtime: str, region: str) -> None:
        self._is_json = log_format == "JSON"
        self._level = _LEVELS[level]
        self._runtime_version = f"{runtime.replace('python', 'python:')}.local"
        self._runtime_arn = f"arn:aws:lambda:{region}::runtime:{'0' * 64}"

    def init_start(self) -> list[str]:
        """Return the lines of an environment's start."""
        if not self._is_json:
            return [
                f"INIT_START Runtime Version: {self._runtime_version}\t"
                f"Runtime Version ARN: {self._runtime_arn}\n"
            ]
        record = {
            "initializationType": "on-demand",
            "phase": "init",
            "runtimeVersion": self._runtime_version,
            "runtimeVersionArn": self._runtime_arn,
        }
        return self._event("INFO", "platform.initStart", record)

    def init_failed(self, report: InitReport) -> list[str]:
        """Return the lines of an INIT that failed."""
        if not self._is_json:
            return [report.as_text()]
        return self._event("WARN", "platform.initReport", report.as_record())

    def start(self, request_id: str) -> list[str]:
        """Return the lines of an invocation's start."""
        if not self._is_json:
            return [f"START RequestId: {request_id} Version: $LATEST\n"]
        return self._event(
            "INFO", "platform.start", {"requestId": request_id, "version": "$LATEST"}
        )

    def fault(self, request_id: str, status: Status, message: str, error_type: str) -> list[str]:
        """Return the lines of a runtime that timed out or died."""
        if self._is_json:
            return []
        if status == "timeout":
            return [f"{_utc_now()} {request_id} {message}\n\n"]
        return [f"RequestId: {request_id} Error: {message}\n{error_type}\n"]

    def end(self, report: Report) -> list[str]:
        """Return the lines of an invocation's end."""
        if not self._is_json:
            return [f"END RequestId: {report.request_id}\n", report.as_text()]
        level = "INFO" if report.status == "success" else "WARN"
        done_level = "DEBUG" if report.status == "success" else "WARN"
        record: dict[str, Any] = {
            "requestId": report.request_id,
            "status": report.status,
            "metrics": {"durationMs": report.duration_ms},
        }
        if report.error_type is not None:
            record["errorType"] = report.error_type
        return self._event(done_level, "platform.runtimeDone", record) + self._event(
            level, "platform.report", report.as_record()
        )

    def _event(self, level: str, kind: str, record: dict[str, Any]) -> list[str]:
        if _LEVELS[level] < self._level:
            return []
        event = {"time": _utc_now(), "type": kind, "record": record}
        return [json.dumps(event, separators=(",", ":")) + "\n"]


def _utc_now() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
