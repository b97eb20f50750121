"""A Lambda on a clock of its own that loses, doubles, slows and kills calls, and writes a bill.

What becomes of a call is drawn when it is sent, and so is what it costs: the bill knows what goes
on after the client has stopped to look. It is made by `hstmap.aws.bill`, from calls and requests.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hstmap.account.costs import LambdaShape
from hstmap.aws.bill import price
from hstmap.aws.price_table import PriceTable
from hstmap.aws.usage import LOG_NBYTES_A_CALL, Call, Usage
from hstmap.bag.task import RemoteError, WorkerInfo
from hstmap.bag.transport import Call as SentCall
from hstmap.bag.transport import CallEnded, CallNames, CallStarted, Report
from hstmap.storage_counts import CallRequests, RequestCounts

START_TIMEOUT_S = 60.0
SILENCE_S = 30.0


@dataclass(frozen=True)
class Weather:
    """How bad it is: shares of the calls, and times."""

    batch_s: float = 6.0
    straggler: float = 0.02
    error: float = 0.02
    dies: float = 0.005
    hangs: float = 0.003
    is_lost: float = 0.005
    comes_late: float = 0.003
    twice: float = 0.005
    tells: bool = True  # of INIT and handler; else the function's own times are all there is


@dataclass
class FakeCloud:
    """A transport with no more behind it than chance.

    ``attempt_s`` is when a worker ends a call, ``looks_s`` how often the client looks.
    """

    random: random.Random
    weather: Weather
    attempt_s: float
    n_slots: int
    n_images: int = 10
    looks_s: float = 2.0
    now: float = 1_000_000.0
    calls: list[Call] = field(default_factory=list)
    n_get: int = 0
    n_put: int = 0
    n_sent: int = 0
    n_list: int = 0
    n_ran_on: int = 0
    n_twice: int = 0
    n_late: int = 0
    requests: Any = None
    events: list[tuple[float, int, Report]] = field(default_factory=list)
    in_flight: set[int] = field(default_factory=set)
    free_at: list[float] = field(default_factory=list)
    next_look: float = 0.0

    def clock(self) -> float:
        return self.now

    # -- what a transport does ---------------------------------------------------------------------

    @property
    def n_free(self) -> int:
        return self.n_slots - len(self.in_flight)

    def begin(self, stage: Any) -> None:
        self.events.clear()
        self.in_flight.clear()

    def submit(self, calls: Sequence[SentCall]) -> None:
        for call in calls:
            self.n_sent += 1
            self.n_put += 1
            self.in_flight.add(call.call_id)
            self._decide(call.call_id)

    def poll(self, timeout_s: float | None) -> Sequence[Report]:
        deadline = math.inf if timeout_s is None else self.now + timeout_s
        while True:
            first = self.events[0][0] if self.events else math.inf
            assert min(first, deadline) < math.inf, "this would wait for ever"
            # The client sees what happened when it looks.
            seen = max(first, self.next_look)
            if deadline < seen:
                self.now = max(self.now, deadline)
                return ()
            self.n_list += (1 + 3 * self.n_sent // 1000) * (
                1 + int(max(0.0, seen - max(self.now, self.next_look)) / self.looks_s)
            )
            self.now = max(self.now, seen)
            self.next_look = self.now + self.looks_s
            told: list[Report] = []
            while self.events and self.events[0][0] <= self.now:
                report = heapq.heappop(self.events)[2]
                if report.call_id in self.in_flight:
                    told.append(report)
                    if isinstance(report, CallEnded):
                        self.in_flight.discard(report.call_id)
                        self.n_get += 1
            if told:
                return told

    def names(self, call_id: int) -> CallNames:
        return CallNames(f"request-{call_id}")

    def kill(self, call_ids: Iterable[int]) -> None:
        """Forget calls; they run on, and are in the bill already."""
        doomed = self.in_flight & set(call_ids)
        self.n_ran_on += len(doomed)
        self.in_flight -= doomed

    def close(self) -> None:
        self.in_flight.clear()

    # -- what happens ------------------------------------------------------------------------------

    def _decide(self, call_id: int) -> None:
        draw, weather = self.random.random, self.weather
        sent = self.now
        if draw() < weather.is_lost:
            self._lose(call_id, sent + START_TIMEOUT_S)
            return
        if draw() < weather.comes_late:  # after everybody has given it up
            self.n_late += 1
            self._lose(call_id, sent + START_TIMEOUT_S)
            self._run(None, sent + START_TIMEOUT_S + 200 * draw())
            return
        begun = sent + 0.02 + 0.3 * draw()
        self._run(call_id, begun)
        if draw() < weather.twice:
            self.n_twice += 1
            self._run(None, begun + 0.5 * draw())

    def _lose(self, call_id: int, when: float) -> None:
        error = RemoteError("WorkerLost", "silence", retryable=True)
        self._report(when, CallEnded(call_id, "lost", error=error, ended_s=when))

    def _run(self, call_id: int | None, begun: float) -> None:
        """Let a call run on an environment that is free, or a new one; write it into the bill."""
        draw, weather = self.random.random, self.weather
        init_s = 0.0
        if self.free_at and self.free_at[0] <= begun:
            heapq.heappop(self.free_at)
        else:
            init_s = 8.0 if draw() < 0.01 else 0.4 + 1.5 * draw()
        before_s, after_s = 0.05 + 0.2 * draw(), 0.02 + 0.15 * draw()
        if draw() < 0.003:
            after_s += 3.0 * draw()  # S3 was slow to take the last word
        work_s = weather.batch_s * self.random.lognormvariate(0.0, 0.3)
        if draw() < weather.straggler:
            work_s *= 2 + 6 * draw()
        if draw() < weather.hangs:
            work_s = math.inf
        fails, dies = draw() < weather.error, draw() < weather.dies
        if fails or dies:
            work_s *= draw()
        limit_s = math.ceil(self.attempt_s) - before_s
        timed_out = work_s > limit_s
        if timed_out:
            work_s, after_s = limit_s, after_s + 3.0 * draw()
        duration_s = before_s + work_s + after_s
        ended = begun + init_s + duration_s
        heapq.heappush(self.free_at, ended)
        self.calls.append(Call(duration_s * 1000, 1769, init_s * 1000))
        requests = RequestCounts(n_get=self.n_images + 2, n_put=self.n_images + 3)
        self.n_get += requests.n_get
        self.n_put += requests.n_put
        if call_id is None:
            return
        worker = WorkerInfo("worker", 1, cold=init_s > 0)
        self._report(begun + init_s, CallStarted(call_id, None, begun + init_s))
        if dies:
            gone = begun + init_s + math.ceil(self.attempt_s) + SILENCE_S
            self._lose(call_id, gone)
            return
        started = begun + init_s + before_s
        error = RemoteError("Error", "bad luck", retryable=True) if fails or timed_out else None
        status: Any = "timeout" if timed_out else "error" if fails else "ok"
        tells = weather.tells
        self._report(
            ended,
            CallEnded(
                call_id, status, error=error, value="done", worker=None if timed_out else worker,
                started_s=None if timed_out else started, ended_s=started + work_s,
                handler_s=duration_s - after_s if tells else None,
                init_s=max(0.0, init_s - 0.3 * draw()) if tells and init_s else None,
                requests=CallRequests(requests) if tells else None,
            ),
        )  # fmt: skip

    def _report(self, when: float, report: Report) -> None:
        heapq.heappush(self.events, (when, len(self.events) + 10**6 * self.n_sent, report))

    # -- what it costs -----------------------------------------------------------------------------

    def billed_usd(self, shape: LambdaShape, prices: PriceTable) -> float:
        """Write the bill of all that was sent, to its end."""
        usage = Usage(
            tuple(self.calls), n_get=self.n_get, n_put=self.n_put, n_list=self.n_list,
            log_nbytes=LOG_NBYTES_A_CALL * len(self.calls),
        )  # fmt: skip
        return price(usage, prices, shape.architecture).list_usd
