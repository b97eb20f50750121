"""Asynchronous events: queued, run when there is room, retried when they fail.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
"""

from __future__ import annotations

import asyncio
import collections
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from hstmap.aws.local.admission import Concurrency
from hstmap.aws.local.environments import Invocation
from hstmap.aws.local.faults import FaultScript
from hstmap.aws.local.functions import Function
from hstmap.aws.local.invoker import Invoker

__all__ = ["DiscardedEvent", "EventQueue"]

_DEFAULT_RETRIES = 2
_DEFAULT_MAX_AGE_S = 21600
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DiscardedEvent:
    """An event that Lambda gave up: its retries or its age exhausted, or its function deleted."""

    function: str
    request_id: str
    reason: str


@dataclass(frozen=True)
class _Event:
    region: str
    function: str
    invocation: Invocation
    queued_at: float
    attempt: int = 1


class EventQueue:
    """The queue that Lambda keeps asynchronous events in.

    Parameters
    ----------
    invoker : Invoker
        Runs them.
    concurrency : Concurrency
        Says whether there is room.
    find : callable
        Returns a function by region and name, None where it is gone.
    faults : FaultScript
        What is dropped or delivered twice.
    retry_delays_s : tuple of float
        Seconds before the first and the second retry.
    """

    def __init__(
        self,
        invoker: Invoker,
        concurrency: Concurrency,
        find: Callable[[str, str], Function | None],
        faults: FaultScript,
        retry_delays_s: tuple[float, ...],
    ) -> None:
        self._invoker = invoker
        self._concurrency = concurrency
        self._find = find
        self._faults = faults
        self._retry_delays_s = retry_delays_s
        self._queues: dict[tuple[str, str], collections.deque[_Event]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._n_pending = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.discarded: list[DiscardedEvent] = []

    def put(self, function: Function, invocation: Invocation) -> None:
        """Accept an event."""
        if self._faults.fire("drop", function.name, invocation.request_id) is not None:
            return
        event = _Event(function.region, function.name, invocation, time.monotonic())
        self._enqueue(event)
        if self._faults.fire("duplicate", function.name, invocation.request_id) is not None:
            self._enqueue(event)
        self.kick()

    def kick(self) -> None:
        """Start what there is room for; to be called whenever room was made."""
        for (region, name), queue in list(self._queues.items()):
            function = self._find(region, name)
            while queue and (function is None or self._may_run(function, queue[0])):
                event = queue.popleft()
                if function is None:
                    self._discard(event, "the function was deleted")
                elif time.monotonic() - event.queued_at > _max_age_s(function):
                    self._discard(event, "the event is older than MaximumEventAgeInSeconds")
                else:
                    self._concurrency.take(function)
                    self._spawn(self._run(function, event))

    async def join(self) -> None:
        """Wait until no event is queued, running or waiting for a retry."""
        await self._idle.wait()

    async def close(self) -> None:
        """Forget all events."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _may_run(self, function: Function, event: _Event) -> bool:
        is_old = time.monotonic() - event.queued_at > _max_age_s(function)
        return is_old or self._concurrency.refusal(function) is None

    async def _run(self, function: Function, event: _Event) -> None:
        is_error = True
        try:
            outcome = await self._invoker.run(function, event.invocation)
            is_error = outcome.is_error
        except OSError as error:
            # As when AWS itself fails: counted and retried like an error of the function.
            _logger.warning("no environment for %s: %s", function.name, error)
        finally:
            self._concurrency.give_back(function)
        if is_error and event.attempt <= _max_retries(function):
            self._spawn(self._retry(event))
        elif is_error:
            self._discard(event, "the retries are exhausted")
        else:
            self._done()
        self.kick()

    async def _retry(self, event: _Event) -> None:
        delays = self._retry_delays_s
        await asyncio.sleep(delays[min(event.attempt, len(delays)) - 1])
        queue = self._queues.setdefault((event.region, event.function), collections.deque())
        queue.append(replace(event, attempt=event.attempt + 1))
        self.kick()

    def _enqueue(self, event: _Event) -> None:
        key = (event.region, event.function)
        self._queues.setdefault(key, collections.deque()).append(event)
        self._n_pending += 1
        self._idle.clear()

    def _discard(self, event: _Event, reason: str) -> None:
        self.discarded.append(DiscardedEvent(event.function, event.invocation.request_id, reason))
        self._done()

    def _done(self) -> None:
        self._n_pending -= 1
        if self._n_pending == 0:
            self._idle.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _max_retries(function: Function) -> int:
    return int((function.event_invoke or {}).get("MaximumRetryAttempts", _DEFAULT_RETRIES))


def _max_age_s(function: Function) -> float:
    settings = function.event_invoke or {}
    return float(settings.get("MaximumEventAgeInSeconds", _DEFAULT_MAX_AGE_S))
