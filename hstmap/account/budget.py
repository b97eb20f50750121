"""What a run has spent, and its budget: a gate that no call passes which the budget may not hold.

The account is a function of the engine's events, so that a ledger tells later maps of the same run
what earlier ones have spent. Not counted is the storage of results: a run does not spend it,
keeping them does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, Final

from hstmap.account.charges import CallTerms
from hstmap.bag.events import AttemptEnded, AttemptSubmitted, Event, StageEnded
from hstmap.bag.ledger import attempt_of
from hstmap.bag.task import Attempt

__all__ = ["ACCOUNT_EVENT", "Account", "account_record", "spent_before"]

#: Name under which a ledger has the terms of the attempts that follow.
ACCOUNT_EVENT: Final = "account"

#: A call of which nothing is heard counts as lost this long after its time, at the most: not
#: started within a minute, or silent for half of one.
_SILENCE_S: Final = 90.0
#: AWS says that an event can be delivered twice, and not how often: this share is provided for.
_DUPLICATES: Final = 0.005


class Account:
    """What a run has spent at most; a gate, that opens as long as its budget allows.

    Parameters
    ----------
    terms : CallTerms
    budget_usd : float, optional
        None: the gate is always open.
    earlier_usd : float
        Spent by earlier maps of the run.
    to_come_usd : float
        What the run will cost besides its calls, for certain.
    begin_usd : float
        What this map has spent before its first call.
    """

    def __init__(
        self,
        terms: CallTerms,
        budget_usd: float | None = None,
        earlier_usd: float = 0.0,
        to_come_usd: float = 0.0,
        begin_usd: float = 0.0,
    ) -> None:
        self.terms = terms
        self.budget_usd = budget_usd
        self.earlier_usd = earlier_usd
        self._to_come_usd = to_come_usd
        self.begin_usd = begin_usd
        self._charged_usd = begin_usd
        self._in_flight: dict[tuple[str, str, int], float] = {}
        self._n_sent = 0
        self._first_s = self._last_s = math.nan

    @property
    def spent_usd(self) -> float:
        """What was spent at most, by earlier maps too; without what is in flight."""
        seconds = 0.0 if math.isnan(self._first_s) else self._last_s - self._first_s
        looked_usd = self.terms.client_usd(seconds, self._n_sent)
        return self.earlier_usd + self._charged_usd + looked_usd

    @property
    def n_in_flight(self) -> int:
        """Number of calls that were sent and have not ended."""
        return len(self._in_flight)

    def needed_usd(self, n_calls: int = 1) -> float:
        """Say what the budget must be for further calls to be sent now.

        Parameters
        ----------
        n_calls : int

        Returns
        -------
        float
            What is spent, what is in flight and those calls at their most, and what is to come.
        """
        terms, n_open = self.terms, len(self._in_flight) + n_calls
        calls_usd = n_open * terms.most_usd + n_calls * _DUPLICATES * terms.most_usd
        looks_usd = terms.client_usd(terms.most_s + _SILENCE_S, self._n_sent + n_calls)
        return self.spent_usd + calls_usd + looks_usd + self._to_come_usd

    def may_send(self) -> bool:
        """Say whether the budget holds whatever becomes of one more call."""
        return self.budget_usd is None or self.needed_usd() <= self.budget_usd

    def note(self, event: Event) -> None:
        """Reckon with what happened."""
        if isinstance(event, AttemptSubmitted):
            self.send((event.stage, event.task_key, event.number), event.time_s)
        elif isinstance(event, AttemptEnded):
            self.end(event.attempt, event.time_s)
        elif isinstance(event, StageEnded):
            self._pass(event.time_s)
            self.give_up()

    def send(self, call: tuple[str, str, int], time_s: float) -> None:
        """Reckon with a call that was sent.

        Parameters
        ----------
        call : tuple of str, str, int
            Its stage, the key of its task, its number.
        time_s : float
            Unix time, s.
        """
        self._pass(time_s)
        self._in_flight[call] = time_s
        self._n_sent += 1
        self._charged_usd += _DUPLICATES * self.terms.most_usd

    def end(self, attempt: Attempt, time_s: float, billed_ms: int | None = None) -> None:
        """Charge an attempt that ended.

        Parameters
        ----------
        attempt : Attempt
        time_s : float
            When that was known, Unix time, s.
        billed_ms : int, optional
            What its REPORT lines say, if they were read.
        """
        self._pass(time_s)
        call = (attempt.stage, attempt.task_key, attempt.number)
        # The line of its sending can be missing in the ledger of a client that was killed.
        submitted_s = self._in_flight.pop(call, attempt.submitted_s)
        if billed_ms is not None:
            self._charged_usd += self.terms.billed_usd(attempt, billed_ms)
        else:
            self._charged_usd += self.terms.charge_usd(attempt, submitted_s, time_s)

    def give_up(self) -> None:
        """Charge what is in flight as what it can cost: nothing more will be heard of it."""
        self._charged_usd += len(self._in_flight) * self.terms.most_usd
        self._in_flight.clear()

    def _pass(self, time_s: float) -> None:
        if math.isnan(self._first_s):
            self._first_s = self._last_s = time_s
        self._last_s = max(self._last_s, time_s)


def spent_before(
    ledger: Iterable[Mapping[str, Any]],
    terms: CallTerms,
    billed_ms: Mapping[str, int] = MappingProxyType({}),
) -> float:
    """Say what the maps of a ledger have spent at most.

    Parameters
    ----------
    ledger : iterable of mapping
        From `~hstmap.bag.ledger.read_ledger`.
    terms : CallTerms
        Of maps that did not note their own.
    billed_ms : mapping of str to int
        What REPORT lines say that were read since, by request id, ms.

    Returns
    -------
    float
        US dollars. Calls whose end no line tells of are charged in full.
    """
    accounts = [Account(terms)]
    for entry in ledger:
        if entry["event"] == "ledger_opened":
            accounts.append(Account(terms))
        elif entry["event"] == ACCOUNT_EVENT:
            terms_then = CallTerms(**entry["terms"])
            accounts[-1] = Account(terms_then, begin_usd=entry["begin_usd"])
        elif entry["event"] == "attempt_submitted":
            call = (entry["stage"], entry["task_key"], entry["number"])
            accounts[-1].send(call, entry["time_s"])
        elif entry["event"] == "attempt_ended":
            attempt = attempt_of(entry)
            accounts[-1].end(attempt, entry["time_s"], billed_ms.get(attempt.request_id))
    for account in accounts:
        account.give_up()
    return math.fsum(account.spent_usd for account in accounts)


def account_record(account: Account) -> dict[str, Any]:
    """Write down for the ledger what later maps must know of this one.

    Parameters
    ----------
    account : Account

    Returns
    -------
    dict
    """
    return {
        "terms": asdict(account.terms),
        "budget_usd": account.budget_usd,
        "begin_usd": account.begin_usd,
    }
