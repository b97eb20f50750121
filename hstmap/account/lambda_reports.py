"""The REPORT lines of a run on Lambda: read from its function's log, matched with its calls."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from hstmap.account.report_rows import ReportRow, calls_of_rows, merge_rows, row_of_report
from hstmap.account.run_calls import KnownCall, LambdaPlace, RunCalls
from hstmap.aws.cloudwatch import FunctionLog, log_client
from hstmap.aws.invocation_log import LoggedRun, logged_runs
from hstmap.aws.usage import Call, Purpose
from hstmap.errors import MissingObjectError

__all__ = ["LambdaReports", "Matched", "Waiting", "match_runs"]

#: AWS takes no request of a client whose clock is further off:
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html
_CLOCKS_S: Final = 300.0
#: Events that are older are dropped: what a deployment sets as MaximumEventAgeInSeconds.
_OLDEST_EVENT_S: Final = 900.0
#: What lines are taken to need, at the most, until they can be read.
_LATE_LINES_S: Final = 120.0
_LONGEST_PAUSE_S: Final = 10.0


@dataclass(frozen=True)
class Waiting:
    """How REPORT lines are waited for.

    Attributes
    ----------
    longest_s : float
        In all, s.
    say : callable
        Told once for what it is waited, if it is.
    clock, sleep : callable
        Unix time, s, and the passing of it.
    """

    longest_s: float = 60.0
    say: Callable[[str], None] = lambda _line: None
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Matched:
    """The runs of a function beside the calls of a run.

    Attributes
    ----------
    rows : tuple of ReportRow
        The REPORT lines of its calls.
    awaited : tuple of KnownCall
        Calls that have no REPORT line, or fewer than they have runs.
    missing : tuple of KnownCall
        Calls that have none: of those that Lambda took, with a request id.
    n_running : int
        Runs of it that have none, whether their calls are known or not.
    n_others : int
        REPORT lines that nothing shows to be of this run.
    """

    rows: tuple[ReportRow, ...]
    awaited: tuple[KnownCall, ...]
    missing: tuple[KnownCall, ...]
    n_running: int
    n_others: int


def match_runs(runs: Iterable[LoggedRun], calls: Sequence[KnownCall], architecture: str) -> Matched:
    """Find of a function's runs those that are of a run's calls.

    A call is known by its request id. One that was sent twice, because an answer of Lambda's was
    lost on its way, has a request id that nobody knows: its name is in the log.

    Parameters
    ----------
    runs : iterable of LoggedRun
    calls : sequence of KnownCall
    architecture : str
        Of the function.

    Returns
    -------
    Matched
    """
    by_id = {call.request_id: call for call in calls if call.request_id}
    by_name = {call.call_name: call for call in calls if call.call_name}
    executors = {_executor(name) for name in by_name}
    of_call: dict[KnownCall | None, list[LoggedRun]] = defaultdict(list)
    n_others = 0
    for run in runs:
        call = by_id.get(run.request_id) or by_name.get(run.call_name)
        if call is not None or (run.call_name and _executor(run.call_name) in executors):
            of_call[call].append(run)
        else:
            n_others += run.report is not None
    rows = [
        row
        for call, its_runs in of_call.items()
        for row in _rows_of_call(call, its_runs, architecture)
    ]
    unreported = {call for call, its in of_call.items() if any(run.report is None for run in its)}
    reported = {call for call, its in of_call.items() if any(run.report for run in its)}
    missing = tuple(call for call in calls if call.request_id and call not in reported)
    awaited = {call: None for call in (*missing, *unreported) if call is not None}
    n_running = sum(run.report is None for its in of_call.values() for run in its)
    return Matched(tuple(merge_rows((), rows)), tuple(awaited), missing, n_running, n_others)


def _executor(call_name: str) -> str:
    """Take the executor from the name of a call, ``EXECUTOR-JOB/CALL``: one a client's process."""
    return call_name.partition("/")[0].rpartition("-")[0]


def _rows_of_call(
    call: KnownCall | None, runs: Sequence[LoggedRun], architecture: str
) -> list[ReportRow]:
    """Make the rows of a call: of several runs the first did it, and the others are twins."""
    request_id = call.request_id if call else ""
    ended = sorted(
        (run for run in runs if run.report),
        key=lambda run: (run.request_id != request_id, run.timestamp_ms),
    )
    rows = []
    for number, run in enumerate(ended):
        assert run.report is not None
        purpose: Purpose = call.purpose if call else "waste"
        if number and purpose == "work":
            purpose = "twin"
        task = (call.task_key, call.number, purpose) if call else ("", 0, purpose)
        log = (run.stream, run.timestamp_ms, run.nbytes)
        rows.append(row_of_report(run.report, task, architecture, log))
    return rows


class LambdaReports:
    """REPORT lines of a run, from CloudWatch Logs.

    Parameters
    ----------
    calls : RunCalls
        From the run's ledger.
    saved : sequence of ReportRow
        What was read of it before.
    waiting : Waiting
    make_client : callable
        Makes a client of CloudWatch Logs for a region.

    Attributes
    ----------
    rows : tuple of ReportRow
        The lines, after `read`.
    missing : mapping of str to int
        Calls that have none, by the status of their attempts.
    """

    simulated = False

    def __init__(
        self,
        calls: RunCalls,
        saved: Sequence[ReportRow] = (),
        waiting: Waiting | None = None,
        make_client: Callable[[str], Any] = log_client,
    ) -> None:
        self._calls = calls
        self._saved = tuple(saved)
        self._waiting = waiting or Waiting()
        self._make_client = make_client
        self._n_others = 0
        self._log_is_gone = False
        self._final_s = 0.0
        self.rows: tuple[ReportRow, ...] = self._saved
        self.missing: Mapping[str, int] = {}

    def read(self) -> None:
        """Read the lines, and wait for those that may still come.

        Raises
        ------
        MissingObjectError
            If there is no log any more, and nothing was saved.
        UsageError
            If the logs may not be read.
        """
        logs: dict[tuple[str, str], FunctionLog] = {}
        spans: list[_Span] = []
        for session, place in self._calls.on_lambda:
            key = (place.region, place.function)
            if key not in logs:
                logs[key] = FunctionLog(self._make_client(place.region), place.function)
            to_s = session.ended_s + _OLDEST_EVENT_S + place.timeout_s + _CLOCKS_S
            spans.append(_Span(logs[key], session.began_s - _CLOCKS_S, to_s))
        try:
            matched = self._read_until_complete(spans)
        except MissingObjectError:
            if not self._saved:
                raise
            self._log_is_gone = True
            return
        self.rows = tuple(merge_rows(self._saved, matched.rows))
        reported = {row.request_id for row in self.rows}
        missing = [call for call in matched.missing if call.request_id not in reported]
        self.missing = dict(Counter(call.status for call in missing))
        self._n_others = matched.n_others

    def _read_until_complete(self, spans: Sequence[_Span]) -> Matched:
        """Read all spans, and again, from the first call on that is waited for."""
        waiting = self._waiting
        architecture = self.place.architecture
        # Nothing is expected any more when the last session is so long ago.
        self._final_s = max(span.to_s for span in spans) + _LATE_LINES_S - _CLOCKS_S
        deadline_s = min(waiting.clock() + waiting.longest_s, self._final_s)
        from_s, pause_s = -math.inf, 1.0
        while True:
            for span in spans:
                if span.to_s >= from_s:
                    span.log.read(max(span.from_s, from_s), span.to_s)
            logs = {id(span.log): span.log for span in spans}.values()
            runs = [run for log in logs for run in logged_runs(log.events())]
            matched = match_runs(runs, self._calls.calls, architecture)
            left_s = deadline_s - waiting.clock()
            if not (matched.awaited or matched.n_running) or left_s <= 0:
                return matched
            if from_s == -math.inf:
                n_awaited = max(len(matched.awaited), matched.n_running)
                waiting.say(
                    f"waiting   for the REPORT lines of {n_awaited:,} of "
                    f"{len(self._calls.calls):,} calls, at most {left_s:.0f} s"
                )
            since_s = [call.submitted_s for call in matched.awaited]
            from_s = min(since_s, default=spans[-1].from_s + _CLOCKS_S) - _CLOCKS_S
            waiting.sleep(min(left_s, pause_s))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    @property
    def place(self) -> LambdaPlace:
        """Where the calls were made last."""
        return self._calls.on_lambda[-1][1]

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known of the lines."""
        notes = []
        if self._log_is_gone:
            notes.append(
                f"the log of {self.place.function} is not there any more: its REPORT lines are "
                "those that were read before"
            )
        elif self._waiting.clock() < self._final_s:
            until = datetime.fromtimestamp(self._final_s, UTC)
            notes.append(
                f"until {until:%H:%M} UTC Lambda might still run an event a second time: make the "
                "bill again after that for the last word"
            )
        if self._n_others:
            notes.append(
                f"{self._n_others:,} other REPORT lines of {self.place.function} in that time are "
                "not counted: they are of other runs, or nothing shows whose they are"
            )
        if len({place.architecture for _, place in self._calls.on_lambda}) > 1:
            notes.append(f"all calls are priced as {self.place.architecture}, the last ones'")
        return tuple(notes)

    @property
    def log_nbytes(self) -> int:
        """Bytes of the calls' logs, as CloudWatch charges for taking them in."""
        return sum(row.log_nbytes for row in self.rows)

    def calls(self) -> list[Call]:
        """Give the calls that the lines are of."""
        return calls_of_rows(self.rows)


@dataclass(frozen=True)
class _Span:
    """A part of a log."""

    log: FunctionLog
    from_s: float
    to_s: float
