"""What happened, attempt by attempt, written while it happens.

The ledger of a run is a folder with a file of JSON lines for each time that the run was started or
went on. It can be read while it is written. In a local folder each event is in the file before the
next task is looked at. An object store cannot add to an object, so there the lines are kept back
and put as numbered segments, every few seconds; a client that is killed loses the last of them.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, Final, Self

import hstmap
from hstmap.bag.events import (
    AttemptEnded,
    AttemptStarted,
    AttemptSubmitted,
    Event,
    StageEnded,
    StageStarted,
)
from hstmap.bag.task import Attempt, RemoteError, WorkerInfo
from hstmap.errors import StorageError
from hstmap.storage_append import open_append
from hstmap.storage_counts import CallRequests

if TYPE_CHECKING:
    from hstmap.storage import Store

__all__ = ["LEDGER_PREFIX", "Ledger", "attempt_of", "read_attempts", "read_ledger"]

LEDGER_PREFIX: Final = "ledger/"
_FORMAT: Final = 1
_LINES_A_SEGMENT: Final = 1000


class Ledger:
    """Writes events down; an observer of engines, and a context manager.

    Parameters
    ----------
    store : Store
        The run's place; the ledger lies under ``ledger/`` in it.
    detail : callable, optional
        Makes of an attempt that ended well what shall be kept of its value: something that JSON
        can write. By default nothing of the value is kept.
    about : mapping, optional
        What shall be known of this time, for JSON: where it runs.
    segment_s : float
        Longest time that lines are kept back where objects cannot be added to, s.
    clock : callable
        Monotonic time, s.
    """

    def __init__(
        self,
        store: Store,
        *,
        detail: Callable[[Attempt], Any] | None = None,
        about: Mapping[str, Any] | None = None,
        segment_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._detail = detail
        self._segment_s = segment_s
        self._clock = clock
        started = datetime.now(UTC)
        self._prefix = f"{LEDGER_PREFIX}{started:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(3)}/"
        self._n_segments = 0
        self._lines: list[bytes] = []
        self._last_segment = clock()
        self._has_named_a_call = False
        self._file: IO[bytes] | None = open_append(store, self._segment_key())
        self._write(
            {
                "event": "ledger_opened",
                "time_s": started.timestamp(),
                "format": _FORMAT,
                "hstmap": hstmap.__version__,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "about": dict(about or {}),
            }
        )

    def __call__(self, event: Event) -> None:
        """Write an event down."""
        self._write(_as_dict(event, self._detail))
        if isinstance(event, AttemptStarted) and event.call_name and not self._has_named_a_call:
            # By one call's name the bill finds all calls of this client, even if it is killed now.
            self._has_named_a_call = True
            self._put_segment()

    def note(self, event: str, facts: Mapping[str, Any]) -> None:
        """Write down what is no engine's event.

        Parameters
        ----------
        event : str
            Name of the kind.
        facts : mapping
            What JSON can write.
        """
        self._write({"event": event, "time_s": time.time(), **facts})

    def close(self) -> None:
        """Put what was kept back; may be repeated."""
        self._put_segment()
        if self._file is not None:
            self._file.close()

    @property
    def n_puts_a_segment(self) -> int:
        """Requests that it takes to write lines down: none where they are added to a file."""
        return int(self._file is None)

    def _segment_key(self) -> str:
        return f"{self._prefix}{self._n_segments + 1:06d}.jsonl"

    def _write(self, entry: Mapping[str, Any]) -> None:
        line = json.dumps(entry, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        if self._file is not None:
            self._write_through(self._file, line)
            return
        self._lines.append(line)
        waited_s = self._clock() - self._last_segment
        if waited_s >= self._segment_s or len(self._lines) >= _LINES_A_SEGMENT:
            self._put_segment()

    def _write_through(self, file: IO[bytes], line: bytes) -> None:
        try:
            file.write(line)
        except OSError as error:
            key = self._segment_key()
            raise StorageError(key, f"the ledger cannot be written: {error.strerror}") from error

    def _put_segment(self) -> None:
        if self._lines:
            self._store.put(self._segment_key(), b"".join(self._lines))
            self._n_segments += 1
            self._lines.clear()
        self._last_segment = self._clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def read_ledger(store: Store) -> Iterator[dict[str, Any]]:
    """Read what happened, also while it goes on or after the client was killed.

    Parameters
    ----------
    store : Store
        The run's place.

    Yields
    ------
    dict
        The events of each time that the run was started, in their order. Each has ``event`` and
        ``time_s`` (Unix time, s); ``attempt_ended`` has the fields of
        `~hstmap.bag.task.Attempt`.

    Raises
    ------
    StorageError
        If a line other than the last one of a segment is damaged.
    """
    for key in sorted(info.key for info in store.list(LEDGER_PREFIX)):
        lines = store.get(key).split(b"\n")
        # What follows the last newline is empty, or a line that is not complete yet (or never
        # will be, if its client was killed).
        for number, line in enumerate(lines[:-1], start=1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise StorageError(
                    key,
                    f"line {number} of the ledger is damaged ({error}); the ledger is history "
                    "only: delete this file to go on without it",
                ) from error


def read_attempts(store: Store) -> Iterator[Attempt]:
    """Read the attempts that ended.

    Parameters
    ----------
    store : Store
        The run's place.

    Yields
    ------
    Attempt
        Its value is what the ledger's ``detail`` made of it, else None.
    """
    for entry in read_ledger(store):
        if entry["event"] == "attempt_ended":
            yield attempt_of(entry)


def attempt_of(entry: Mapping[str, Any]) -> Attempt:
    """Read an event ``attempt_ended`` of a ledger.

    Parameters
    ----------
    entry : mapping
        From `read_ledger`.

    Returns
    -------
    Attempt
        Its value is what the ledger's ``detail`` made of it, else None.
    """
    fields = {name: entry[name] for name in _ATTEMPT_FIELDS if name in entry}
    worker, error, requests = entry["worker"], entry["error"], entry.get("requests")
    return Attempt(
        **fields,
        value=entry.get("detail"),
        worker=None if worker is None else WorkerInfo(**worker),
        error=None if error is None else RemoteError(**error),
        requests=None if requests is None else CallRequests.from_dict(requests),
    )


_ATTEMPT_FIELDS: Final = (
    "stage",
    "task_key",
    "number",
    "status",
    "final",
    "submitted_s",
    "started_s",
    "ended_s",
    "peak_memory_nbytes",
    "nbytes_in",
    "nbytes_out",
    "request_id",
    "call_name",
    "handler_s",
    "init_s",
)
_NAMES: Final[Mapping[type[Event], str]] = {
    StageStarted: "stage_started",
    AttemptSubmitted: "attempt_submitted",
    AttemptStarted: "attempt_started",
    AttemptEnded: "attempt_ended",
    StageEnded: "stage_ended",
}


def _as_dict(event: Event, detail: Callable[[Attempt], Any] | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"event": _NAMES[type(event)]}
    if not isinstance(event, AttemptEnded):
        entry |= vars(event)
        if isinstance(event, AttemptStarted):
            entry["worker"] = None if event.worker is None else vars(event.worker)
        return entry
    attempt = event.attempt
    entry["time_s"] = event.time_s
    entry |= {name: getattr(attempt, name) for name in _ATTEMPT_FIELDS}
    entry["worker"] = None if attempt.worker is None else vars(attempt.worker)
    entry["error"] = None if attempt.error is None else _error_as_dict(attempt.error)
    entry["requests"] = None if attempt.requests is None else attempt.requests.as_dict()
    if detail is not None and attempt.status == "ok":
        entry["detail"] = detail(attempt)
    return entry


def _error_as_dict(error: RemoteError) -> dict[str, Any]:
    return {name: value for name, value in vars(error).items() if name != "exception"}
