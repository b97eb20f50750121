"""Which requests a run made, by whom and for what: the bill's, and S3's own log says the same.

Workers' requests come with their attempts. Each command (`map`, `reduce`, `bill`) hears those of
its own process, and leaves them in the ledger of the run when it ends, however it ends, together
with what its engine asked for. Commands on one run add up.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Self, TypeAlias, get_args

from hstmap.bag.engine import Attempt, Engine
from hstmap.bag.events import AttemptEnded, Event
from hstmap.bag.ledger import Ledger, attempt_of, read_ledger
from hstmap.errors import StorageError, UsageError
from hstmap.storage import RequestCounts, Store, open_store, split_url
from hstmap.storage_counts import CallRequests, heard_by

__all__ = ["ORIGINS", "Origin", "RequestLog", "RequestsOfRun", "recorded", "requests_of_run"]

Origin: TypeAlias = Literal[
    "workers", "workers_engine", "client_engine", "sources", "map", "reduce", "bill"
]
"""Who asked for what.

``workers``: batches, for images, parts and catalogues. ``workers_engine``: what brings a call to a
worker, and its answer back. ``client_engine``: the client's side of that. The others are the
client's own: ``sources`` finds the images, ``map`` keeps the run's record, manifest, plan and
ledger and looks for what is done, ``reduce`` reads parts and writes the summary, ``bill`` reads
the ledger.
"""
ORIGINS: Final[tuple[Origin, ...]] = get_args(Origin)

_EVENT: Final = "requests_made"
_OPENED: Final = "ledger_opened"
_ENDED: Final = "attempt_ended"
_N_NAMED: Final = 3
# What the calls of hstmap's own backends leave; see `hstmap.bag.lithops_post`.
_BEGAN: Final = ".init"
_ANSWERED: Final = ".status.json"


@dataclass(frozen=True)
class RequestsOfRun:
    """What was asked of stores for a run, so far.

    Attributes
    ----------
    by_origin : dict of str to RequestCounts
        For each of `ORIGINS`.
    silent : tuple of str
        Invocations that began and left no word, by names that begin with the backend's id (or
        attempts, where it has none): what they asked for is not among the counts, but for the one
        write that said that they began.
    n_silent_clients : int
        Commands that were killed before they could tell, or still run: what their process asked
        for is not among the counts.
    """

    by_origin: Mapping[Origin, RequestCounts]
    silent: tuple[str, ...] = ()
    n_silent_clients: int = 0

    @property
    def total(self) -> RequestCounts:
        """The sum of all origins."""
        return sum(self.by_origin.values(), RequestCounts())

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not counted, in words for people; empty if all is."""
        notes = []
        if self.silent:
            more = ", ..." if len(self.silent) > _N_NAMED else ""
            notes.append(
                f"{len(self.silent)} invocations left no word, so their requests are not "
                f"counted: {', '.join(self.silent[:_N_NAMED])}{more}"
            )
        if self.n_silent_clients:
            notes.append(
                f"{self.n_silent_clients} commands on this run were killed, or still run: the "
                "requests of their own are not counted"
            )
        return tuple(notes)


class RequestLog:
    """Hears the requests of this process while a command runs; a context manager.

    Parameters
    ----------
    origin : Origin
        What they are for, unless `of` says otherwise.
    """

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._heard: dict[Origin, RequestCounts] = {}
        self._engine: Engine | None = None
        self._hearing: AbstractContextManager[None] = heard_by(self._hear)

    def __enter__(self) -> Self:
        self._hearing.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._hearing.__exit__(*error)

    def _hear(self, counts: RequestCounts) -> None:
        self._heard.setdefault(self._origin, RequestCounts()).__iadd__(counts)

    @property
    def so_far(self) -> RequestCounts:
        """What was heard and is not written down yet."""
        return sum(self._heard.values(), RequestCounts())

    @contextmanager
    def of(self, origin: Origin) -> Iterator[None]:
        """Say what the requests in a block are for.

        Parameters
        ----------
        origin : Origin
        """
        before, self._origin = self._origin, origin
        try:
            yield
        finally:
            self._origin = before

    def __call__(self, event: Event) -> None:
        """See of an attempt whether this process made it: then its requests are a worker's."""
        if not isinstance(event, AttemptEnded) or event.attempt.requests is None:
            return
        worker = event.attempt.worker
        if worker and (worker.host, worker.pid) == (socket.gethostname(), os.getpid()):
            heard = self._heard.get(self._origin, RequestCounts())
            self._heard[self._origin] = heard - event.attempt.requests.work

    def watch(self, engine: Engine) -> None:
        """Remember the engine whose requests are to be written down, too."""
        self._engine = engine

    @contextmanager
    def written_to(self, ledger: Ledger) -> Iterator[None]:
        """Write everything into a ledger when the block ends, however it does.

        Parameters
        ----------
        ledger : Ledger
            Closed next, and not before.
        """
        try:
            yield
        finally:
            n_puts_to_come = ledger.n_puts_a_segment
            ledger.note(_EVENT, self._facts(n_puts_to_come))
            # What is written here is not to be written into another ledger again; the request that
            # is to come will be heard, too.
            self._heard = {self._origin: RequestCounts(n_put=-n_puts_to_come)}

    def _facts(self, n_puts_to_come: int) -> dict[str, Any]:
        """Collect what is to be written, with the ledger's own last request, which is to come."""
        self._hear(RequestCounts(n_put=n_puts_to_come))
        facts: dict[str, Any] = {
            "by_origin": {name: _nonzero(counts) for name, counts in self._heard.items()}
        }
        told = None if self._engine is None else self._engine.requests
        if told is not None:
            facts["engine"] = {
                "client": None if told.client is None else _nonzero(told.client),
                "strays": told.strays.as_dict(),
                "silent": list(told.silent),
                "late_url": told.late_url,
            }
        return facts


@contextmanager
def recorded(origin: Origin, store: Store) -> Iterator[None]:
    """Leave what a block asks for in a ledger of its own, however it ends.

    Parameters
    ----------
    origin : Origin
    store : Store
        The run's place. Nothing is written there after a `UsageError`: then it holds no run.
    """
    with RequestLog(origin) as requests:
        try:
            yield
        except UsageError:
            raise
        except BaseException:
            with suppress(StorageError):  # what went wrong first is what matters
                _write(requests, store)
            raise
        _write(requests, store)


def _write(requests: RequestLog, store: Store) -> None:
    with Ledger(store) as ledger, requests.written_to(ledger):
        pass


def _nonzero(counts: RequestCounts) -> dict[str, int]:
    return {kind: n for kind, n in asdict(counts).items() if n}


def requests_of_run(store: Store) -> RequestsOfRun:
    """Add up what was asked of stores for a run, by all commands that have ended.

    Parameters
    ----------
    store : Store
        The run's place.

    Returns
    -------
    RequestsOfRun
        Without the requests that this makes: to read the ledger, and what invocations left that
        came when their command was over.
    """
    adding = _Adding()
    for entry in read_ledger(store):
        adding.add(entry)
    return adding.result()


class _Adding:
    """Adds the entries of ledgers up."""

    def __init__(self) -> None:
        self._by_origin = {origin: RequestCounts() for origin in ORIGINS}
        self._silent: list[str] = []
        self._unheard: list[Attempt] = []  # of the ledger that is being read
        self._n_silent_clients = 0

    def add(self, entry: Mapping[str, Any]) -> None:
        """Add an entry, in their order."""
        if entry["event"] == _OPENED:
            self._name_unheard()
            self._n_silent_clients += 1
        elif entry["event"] == _ENDED:
            attempt = attempt_of(entry)
            if attempt.requests is not None:
                self._add_calls(attempt.requests)
            elif attempt.started_s is not None:
                self._unheard.append(attempt)
        elif entry["event"] == _EVENT:
            self._n_silent_clients -= 1
            for origin, counts in entry["by_origin"].items():
                self._by_origin[origin] += RequestCounts(**counts)
            if "engine" in entry:
                self._add_engine(entry["engine"])

    def result(self) -> RequestsOfRun:
        """Give the sums."""
        self._name_unheard()
        return RequestsOfRun(self._by_origin, tuple(self._silent), self._n_silent_clients)

    def _add_calls(self, requests: CallRequests) -> None:
        self._by_origin["workers"] += requests.work
        self._by_origin["workers_engine"] += requests.engine

    def _add_engine(self, engine: Mapping[str, Any]) -> None:
        self._by_origin["client_engine"] += RequestCounts(**(engine["client"] or {}))
        self._add_calls(CallRequests.from_dict(engine["strays"]))
        late = _late_answers(engine["late_url"])
        # The engine has seen every invocation, also those that no attempt knows of.
        self._unheard.clear()
        for name in sorted({*engine["silent"], *late}):
            requests = late.get(name)
            if requests is None:
                self._silent.append(name)
                requests = CallRequests(engine=RequestCounts(n_put=1))  # by which it began
            self._add_calls(requests)

    def _name_unheard(self) -> None:
        self._silent += [
            item.request_id or f"{item.stage} {item.task_key} {item.number}"
            for item in self._unheard
        ]
        self._unheard.clear()


def _late_answers(url: str) -> dict[str, CallRequests | None]:
    """Find what invocations left that came when their run was over; None if only that they began.

    Lambda delivers an event twice now and then, and twins go on when their task is done.
    """
    late: dict[str, CallRequests | None] = {}
    if not url:
        return late
    root, prefix = split_url(url)
    store = open_store(root)
    with suppress(StorageError):  # where the bucket is gone, so is what they said
        for info in store.list(prefix):
            name = info.key.rpartition("/")[2]
            if name.endswith(_BEGAN):
                late.setdefault(name.removesuffix(_BEGAN), None)
            elif name.endswith(_ANSWERED):
                status = json.loads(store.get(info.key))
                late[name.removesuffix(_ANSWERED)] = CallRequests.from_dict(status["requests"])
    return late
