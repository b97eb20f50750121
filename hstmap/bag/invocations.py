"""A transport that invokes a function for each call, and reads in a mailbox what became of it.

For backends whose workers cannot be talked to: AWS Lambda and its like.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from hstmap.bag.outcome import attempt_call
from hstmap.bag.task import EngineOptions, RemoteError, Stage
from hstmap.bag.transport import Call, CallEnded, CallNames, CallStarted, EngineRequests, Report
from hstmap.bag.wire import Packer, Reply, call_ended, call_lost
from hstmap.errors import EngineError
from hstmap.storage_counts import CallRequests

__all__ = ["InvocationTransport", "Letter", "Mailbox", "Ticket"]

_GRACE_S = 30.0
_N_FAILED_LOOKS = 5  # in a row, until the backend counts as broken

Ticket: TypeAlias = tuple[str, str, str]
"""Names an invocation: executor, job and call of Lithops."""


@dataclass(frozen=True)
class Letter:
    """What an invocation left: a reply, or the reason why there is none.

    Its request id is that of the invocation that left it: of several of one call, only it knows.
    The times are those of `~hstmap.bag.task.Attempt`.
    """

    reply: Reply | None
    cold: bool = False
    timed_out: bool = False
    error: RemoteError | None = None
    request_id: str = ""
    handler_s: float | None = None
    init_s: float | None = None
    requests: CallRequests | None = None


class Mailbox(Protocol):
    """A backend for invocations."""

    @property
    def n_slots(self) -> int:
        """Number of invocations that may be under way; known after `open`."""

    @property
    def longest_call_s(self) -> float:
        """Time after which the backend itself ends an invocation, s."""

    @property
    def poll_interval_s(self) -> float:
        """Time between two looks, s: where each is a listing, each is charged."""

    @property
    def shared_path(self) -> bool:
        """Whether workers import from where this process does."""

    @property
    def requests(self) -> EngineRequests | None:
        """Requests beside those of attempts; as `~hstmap.bag.transport.Transport.requests`."""

    def open(self) -> None:
        """Get ready; forget what was sent before."""

    def send(
        self, program: bytes, payloads: Sequence[bytes], timeout_s: float | None
    ) -> Sequence[Ticket]:
        """Invoke the function once for each payload; workers end a call that takes longer, s."""

    def look(self) -> tuple[set[Ticket], set[Ticket]]:
        """Return the invocations that have started, and those that have ended."""

    def fetch(self, ticket: Ticket) -> Letter:
        """Return what an invocation that ended has left."""

    def request_id(self, ticket: Ticket) -> str:
        """Return the backend's id of an invocation, also of one that leaves nothing.

        Empty if the backend has none, or has not told it yet.
        """

    def cancel(self, tickets: Iterable[Ticket]) -> None:
        """End invocations, if the backend can."""

    def close(self) -> None:
        """End all invocations that can be ended, and remove what was left lying about."""


@dataclass
class _Sent:
    """An invocation under way."""

    call_id: int
    nbytes_in: int
    sent_clock: float
    started_clock: float = math.nan
    n_failed_fetches: int = 0


class InvocationTransport:
    """Makes an invocation for each call.

    Parameters
    ----------
    mailbox : Mailbox
    options : EngineOptions
    clock, sleep : callable
        Monotonic time, s, and the passing of it.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        options: EngineOptions,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._mailbox = mailbox
        self._options = options
        self._clock = clock
        self._sleep = sleep
        self._packer: Packer | None = None
        self._program = b""
        self._sent: dict[Ticket, _Sent] = {}
        self._reports: list[Report] = []
        self._n_failed_looks = 0
        self._looked_clock = -math.inf

    @property
    def requests(self) -> EngineRequests | None:
        """Requests of the mailbox beside those of attempts."""
        return self._mailbox.requests

    @property
    def n_free(self) -> int:
        """Invocations that may be made now."""
        return max(0, self._mailbox.n_slots - len(self._sent))

    def begin(self, stage: Stage) -> None:
        """Pack the function of a stage and get the backend ready."""
        self._must(self._mailbox.open)
        self._packer = Packer(shared_path=self._mailbox.shared_path, include=self._options.include)
        self._program = self._packer.pack_program(stage, self._options.retry_on)

    def submit(self, calls: Sequence[Call]) -> None:
        """Invoke the function for each call."""
        assert self._packer is not None, "begin comes first"
        packed, refused = self._packer.pack_calls(calls)
        self._reports += refused
        by_limit: dict[float | None, list[tuple[int, bytes]]] = {}
        for call, payload in packed:
            by_limit.setdefault(call.timeout_s, []).append((call.call_id, payload))
        is_first = not self._sent
        for timeout_s, alike in by_limit.items():
            payloads = [payload for _, payload in alike]
            tickets = self._must(self._mailbox.send, self._program, payloads, timeout_s)
            now = self._clock()
            for ticket, (call_id, payload) in zip(tickets, alike, strict=True):
                self._sent[ticket] = _Sent(call_id, len(payload), now)
        if is_first:
            self._looked_clock = self._clock()  # what was just sent has no news

    def poll(self, timeout_s: float | None) -> Sequence[Report]:
        """Look into the mailbox until there is something new, or the time is over.

        Also after a look that found something the next one waits: what comes meanwhile is seen
        then. When the time is over there is a look whenever the last one was.

        Parameters
        ----------
        timeout_s : float, optional
            Longest wait, s.

        Returns
        -------
        sequence of Report

        Raises
        ------
        EngineError
            If the backend's storage cannot be read.
        """
        deadline = math.inf if timeout_s is None else self._clock() + timeout_s
        while not self._reports:
            next_look = self._looked_clock + self._mailbox.poll_interval_s
            wait_s = min(deadline, next_look) - self._clock()
            if wait_s > 0:
                self._sleep(wait_s)
            self._looked_clock = self._clock()
            self._look()
            self._give_up_on_the_silent()
            if self._clock() >= deadline:
                break
        reports, self._reports = self._reports, []
        return reports

    def names(self, call_id: int) -> CallNames:
        """Say what the backend calls a call under way, as far as that is known by now."""
        for ticket, sent in self._sent.items():
            if sent.call_id == call_id:
                return self._names(ticket)
        return CallNames()

    def _names(self, ticket: Ticket, told: str = "") -> CallNames:
        executor_id, job_id, call_id = ticket
        request_id = told or self._mailbox.request_id(ticket)
        return CallNames(request_id, f"{executor_id}-{job_id}/{call_id}")

    def kill(self, call_ids: Iterable[int]) -> None:
        """Forget calls, and end them where the backend can."""
        doomed = set(call_ids)
        tickets = [ticket for ticket, sent in self._sent.items() if sent.call_id in doomed]
        for ticket in tickets:
            del self._sent[ticket]
        if tickets:
            self._mailbox.cancel(tickets)

    def close(self) -> None:
        """End what can be ended, and clear the mailbox."""
        self._sent.clear()
        self._mailbox.close()

    def _must(self, action: Callable[..., Any], *arguments: Any) -> Any:
        outcome = attempt_call(action, *arguments)
        if outcome.error is not None:
            raise EngineError(
                f"Lithops cannot use its backend: {outcome.error.type_name}: "
                f"{outcome.error.message}"
            ) from outcome.error.exception
        return outcome.value

    # -- reading ---------------------------------------------------------------------------------

    def _look(self) -> None:
        if not self._sent:
            return
        looked = attempt_call(self._mailbox.look)
        if looked.error is not None:
            self._n_failed_looks += 1
            if self._n_failed_looks >= _N_FAILED_LOOKS:
                raise EngineError(
                    f"the storage of the backend cannot be read ({self._n_failed_looks} times in "
                    f"a row): {looked.error.type_name}: {looked.error.message}"
                ) from looked.error.exception
            return
        self._n_failed_looks = 0
        started, ended = looked.value
        for ticket, sent in tuple(self._sent.items()):
            if math.isnan(sent.started_clock) and (ticket in started or ticket in ended):
                sent.started_clock = self._clock()
                self._reports.append(
                    CallStarted(sent.call_id, None, time.time(), self._names(ticket))
                )
            if ticket in ended:
                self._open_letter(ticket, sent)

    def _open_letter(self, ticket: Ticket, sent: _Sent) -> None:
        fetched = attempt_call(self._mailbox.fetch, ticket)
        if fetched.error is not None:
            # Perhaps it is just being written, or the network stumbled: it is fetched again.
            sent.n_failed_fetches += 1
            if sent.n_failed_fetches >= _N_FAILED_LOOKS:
                self._lose(ticket, f"its result cannot be read: {fetched.error.message}")
            return
        del self._sent[ticket]
        letter: Letter = fetched.value
        if letter.reply is not None:
            report = call_ended(
                sent.call_id, letter.reply, cold=letter.cold, nbytes_in=sent.nbytes_in
            )
        else:
            report = CallEnded(
                sent.call_id,
                "timeout" if letter.timed_out else "lost",
                error=letter.error,
                ended_s=time.time(),
                nbytes_in=sent.nbytes_in,
            )
        names = self._names(ticket, letter.request_id)
        times: dict[str, Any] = {"handler_s": letter.handler_s, "init_s": letter.init_s}
        requests = letter.requests or report.requests
        self._reports.append(replace(report, names=names, requests=requests, **times))

    def _give_up_on_the_silent(self) -> None:
        """Report calls as lost that never started, or that outlived the backend's own limit."""
        now = self._clock()
        for ticket, sent in tuple(self._sent.items()):
            if math.isnan(sent.started_clock):
                if now - sent.sent_clock > self._options.start_timeout_s:
                    self._lose(
                        ticket, f"it did not start within {self._options.start_timeout_s:g} s"
                    )
            elif now - sent.started_clock > self._mailbox.longest_call_s + _GRACE_S:
                self._lose(
                    ticket,
                    f"it started, and said nothing within {self._mailbox.longest_call_s:g} s, the "
                    "longest time that the backend allows",
                )

    def _lose(self, ticket: Ticket, reason: str) -> None:
        sent = self._sent.pop(ticket)
        names = self._names(ticket)
        self._mailbox.cancel((ticket,))
        self._reports.append(call_lost(sent.call_id, reason, sent.nbytes_in, names))
