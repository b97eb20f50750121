"""Which calls a run is known to have made, when and where: from its ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from hstmap.aws.usage import Purpose
from hstmap.bag.ledger import read_attempts, read_ledger
from hstmap.bag.task import Attempt
from hstmap.errors import UsageError
from hstmap.storage import Store

__all__ = [
    "PLACE_FACT",
    "KnownCall",
    "LambdaPlace",
    "RunCalls",
    "Session",
    "purposes",
    "read_calls",
]

#: What a ledger calls the place, among what is to be known of its time.
PLACE_FACT: Final = "lambda"


@dataclass(frozen=True)
class LambdaPlace:
    """The function that a run's calls were made to.

    Attributes
    ----------
    function, region : str
    memory_mb : int
    architecture : str
    timeout_s : int
        After which Lambda ends an invocation.
    """

    function: str
    region: str
    memory_mb: int
    architecture: str
    timeout_s: int

    def as_fact(self) -> dict[str, Any]:
        """Write it for a ledger."""
        return {PLACE_FACT: asdict(self)}


@dataclass(frozen=True)
class Session:
    """One time that a run was started, or went on.

    Attributes
    ----------
    place : LambdaPlace or None
        None if it was not on Lambda.
    began_s, ended_s : float
        Unix time of the first and the last thing in its ledger, s.
    """

    place: LambdaPlace | None
    began_s: float
    ended_s: float


@dataclass(frozen=True)
class KnownCall:
    """A call that was sent to Lambda.

    Attributes
    ----------
    task_key : str
    number : int
        Of the attempt.
    status : str
        Of the attempt; ``unended`` if the client was gone before it ended.
    purpose : Purpose
    request_id, call_name : str
        As in `~hstmap.bag.task.Attempt`.
    submitted_s : float
        Unix time, s.
    """

    task_key: str
    number: int
    status: str
    purpose: Purpose
    request_id: str
    call_name: str
    submitted_s: float


@dataclass(frozen=True)
class RunCalls:
    """What a ledger has of a run.

    Attributes
    ----------
    sessions : tuple of Session
    attempts : tuple of Attempt
        Those that ended.
    calls : tuple of KnownCall
        Those that were sent to Lambda, whether they ended or not.
    memory_mb : mapping of str to int
        Of the function that they were sent to, as it was then, by the name of the call.
    """

    sessions: tuple[Session, ...]
    attempts: tuple[Attempt, ...]
    calls: tuple[KnownCall, ...]
    memory_mb: Mapping[str, int] = field(default_factory=dict)

    @property
    def on_lambda(self) -> tuple[tuple[Session, LambdaPlace], ...]:
        """The sessions that were on Lambda, with where."""
        return tuple((item, item.place) for item in self.sessions if item.place is not None)


def purposes(attempts: Sequence[Attempt]) -> list[Purpose]:
    """Say of attempts what they were for.

    Parameters
    ----------
    attempts : sequence of Attempt
        All of a run, from its ledger.

    Returns
    -------
    list of Purpose
    """
    done = _done(attempts)

    def purpose(attempt: Attempt) -> Purpose:
        if attempt.status == "ok":
            return "work" if attempt.final else "twin"
        if attempt.status == "cancelled":
            return "twin"
        return "retry" if attempt.task_key in done else "waste"

    return [purpose(attempt) for attempt in attempts]


def _done(attempts: Iterable[Attempt]) -> set[str]:
    return {attempt.task_key for attempt in attempts if attempt.status == "ok"}


def read_calls(store: Store) -> RunCalls:
    """Read a run's ledger for what is to be billed.

    Parameters
    ----------
    store : Store
        The run's.

    Returns
    -------
    RunCalls

    Raises
    ------
    UsageError
        If the run has no ledger.
    """
    attempts = tuple(read_attempts(store))
    sessions: list[Session] = []
    sent: dict[str, int] = {}
    started: dict[str, KnownCall] = {}
    for entry in read_ledger(store):
        now_s, call_name = entry["time_s"], entry.get("call_name")
        if entry["event"] == "ledger_opened":
            sessions.append(Session(_place(entry), now_s, now_s))
            continue
        sessions[-1] = replace(sessions[-1], ended_s=max(sessions[-1].ended_s, now_s))
        place = sessions[-1].place
        if call_name and place is not None:
            sent[call_name] = place.memory_mb
            if entry["event"] == "attempt_started":
                started[call_name] = _unended(entry)
            else:
                started.pop(call_name, None)
    if not attempts and not started:
        raise UsageError(
            f"{store.url} has no ledger with attempts that ended; "
            "name the folder or prefix that was given to map as --out"
        )
    done = _done(attempts)
    unended = [
        replace(call, purpose="retry" if call.task_key in done else "waste")
        for call in started.values()
    ]
    ended = [
        KnownCall(
            attempt.task_key,
            attempt.number,
            attempt.status,
            purpose,
            attempt.request_id,
            attempt.call_name,
            attempt.submitted_s,
        )
        for attempt, purpose in zip(attempts, purposes(attempts), strict=True)
        if attempt.call_name in sent
    ]
    return RunCalls(tuple(sessions), attempts, (*ended, *unended), sent)


def _place(entry: Mapping[str, Any]) -> LambdaPlace | None:
    fact = entry.get("about", {}).get(PLACE_FACT)
    return None if fact is None else LambdaPlace(**fact)


def _unended(entry: Mapping[str, Any]) -> KnownCall:
    return KnownCall(
        entry["task_key"],
        entry["number"],
        "unended",
        "waste",
        entry["request_id"],
        entry["call_name"],
        entry["time_s"],
    )
