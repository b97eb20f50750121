"""One invocation while it runs: its clock, its log, and the report that comes of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from hstmap.aws.local.endings import Ending
from hstmap.aws.local.environments import Environment, Invocation
from hstmap.aws.local.functions import Function
from hstmap.aws.local.logs import LogBatch
from hstmap.aws.local.reports import InitReport
from hstmap.aws.reports import Report, billed_ms

__all__ = ["InvocationRecord", "Run"]

_TAIL_NBYTES = 4096


@dataclass(frozen=True)
class InvocationRecord:
    """One run of a function, as the invocation log keeps it.

    Parameters
    ----------
    function : str
        The function's name.
    environment : str
        The id of the environment; invocations of one environment share it.
    is_cold : bool
        Whether the environment was started for it.
    is_error : bool
        Whether the client was told of an error.
    started_s, ended_s : float
        When it got its share of the host's cores, and when it ended, in Unix seconds.
    report : Report
        What was written into the log.
    """

    function: str
    environment: str
    is_cold: bool
    is_error: bool
    started_s: float
    ended_s: float
    report: Report


class Run:
    """One invocation on one environment, while it runs: its clock and its log.

    Parameters
    ----------
    environment : Environment
        Where it runs.
    function : Function
        What runs.
    invocation : Invocation
        The event.
    is_cold : bool
        Whether the environment is started for it.
    """

    def __init__(
        self,
        environment: Environment,
        function: Function,
        invocation: Invocation,
        *,
        is_cold: bool,
    ) -> None:
        self.environment = environment
        self.function = function
        self.invocation = invocation
        self.request_id = invocation.request_id
        self.is_cold = is_cold
        self.system = function.system_log()
        self.kill_at: str | None = None
        self.ending = Ending()
        self._events: list[tuple[int, str]] = []
        self._started_s = time.time()
        self._ended_s = self._started_s
        self._init_began = 0.0
        self._began: float | None = None
        self._init_ms: float | None = None
        self._report: Report | None = None

    def write(self, lines: list[str]) -> None:
        """Log lines of Lambda's own."""
        now_ms = int(time.time() * 1000)
        self._events.extend((now_ms, line) for line in lines)

    def print_line(self, line: str) -> None:
        """Log what the function printed; a fault may wait for it."""
        self.write([line])
        if self.kill_at is not None and self.kill_at in line:
            self.environment.kill()

    def ignore_line(self, line: str) -> None:
        """Drop what an environment prints on its way to being frozen: it belongs to nobody."""

    def clock_init(self) -> None:
        """Take the time: an INIT begins."""
        self._init_began = time.monotonic()

    def clock_duration(self) -> None:
        """Take the time: the invocation proper begins."""
        # A second INIT, within the invocation, is a part of its duration.
        if self._began is None:
            self._began = time.monotonic()

    def init_ended(self, ending: Ending, phase: Literal["init", "invoke"]) -> None:
        """Take the time: an INIT ended, well or not."""
        took_ms = _milliseconds(self._init_began)
        if ending.status != "success":
            report = InitReport(took_ms, phase, ending.status, ending.error_type)
            self.write(self.system.init_failed(report))
        elif phase == "init":
            self._init_ms = took_ms

    def start(self) -> None:
        """Log that the invocation starts."""
        self.write(self.system.start(self.request_id))

    def end(self, ending: Ending) -> None:
        """Take the time, log how the invocation ended, and report what it took."""
        self.ending = ending
        self._ended_s = time.time()
        duration_ms = _milliseconds(self._began if self._began is not None else time.monotonic())
        is_failure = ending.status != "success"
        if ending.status == "timeout":
            duration_ms = self.function.timeout_s * 1000
        if is_failure and ending.message:
            self.write(
                self.system.fault(
                    self.request_id, ending.status, ending.message, ending.error_type or ""
                )
            )
        self._report = Report(
            request_id=self.request_id,
            duration_ms=duration_ms,
            billed_duration_ms=billed_ms(duration_ms, self._init_ms),
            memory_size_mb=self.function.memory_mb,
            max_memory_used_mb=-(-self.environment.peak_nbytes >> 20),
            init_duration_ms=self._init_ms,
            status=ending.status,
            error_type=ending.error_type if ending.status == "error" else None,
        )
        self.write(self.system.end(self._report))

    def tail(self) -> bytes:
        """Return the end of the log, as ``LogType=Tail`` gives it."""
        return "".join(line for _, line in self._events).encode()[-_TAIL_NBYTES:]

    def log_batch(self) -> LogBatch:
        """Return the whole log."""
        function = self.function
        return LogBatch(
            function.region, function.log_group, self.environment.log_stream, tuple(self._events)
        )

    def record(self) -> InvocationRecord:
        """Return what is kept of the run."""
        if self._report is None:
            raise RuntimeError("the invocation has not ended")
        return InvocationRecord(
            function=self.function.name,
            environment=self.environment.id,
            is_cold=self.is_cold,
            is_error=self.ending.is_error,
            started_s=self._started_s,
            ended_s=self._ended_s,
            report=self._report,
        )


def _milliseconds(since: float) -> float:
    return round((time.monotonic() - since) * 1000, 2)
