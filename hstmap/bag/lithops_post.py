"""What the calls of a Lithops executor leave in its storage: seen, read, accounted for, removed.

Lithops' own worker leaves ``ID.init``, ``status.json`` and perhaps ``output.pickle`` for a call;
hstmap's puts the invocation's name before the last two as well, so that several invocations of one
call can tell what they did. What has been read is removed while the calls go on: each look lists
all that is there, a thousand objects a request.
"""

from __future__ import annotations

import ast
import base64
import functools
import json
import pickle
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from hstmap.bag.invocations import Letter, Ticket
from hstmap.bag.outcome import attempt_call
from hstmap.bag.pool import last_words
from hstmap.bag.task import RemoteError
from hstmap.errors import EngineError
from hstmap.storage_counts import CallRequests

__all__ = ["Post"]

_FOLDER: Final = "lithops.jobs"
_INIT: Final = ".init"
_STATUS: Final = "status.json"
_OUTPUT: Final = "output.pickle"
#: A look costs a request for each thousand objects: fewer than that are left lying.
_MOST_SPENT: Final = 500


@dataclass
class Post:
    """The objects of one executor.

    Parameters
    ----------
    executor : object
        Of Lithops.

    Attributes
    ----------
    strays : CallRequests
        Of invocations whose answers were nobody's any more, as far as they were read.
    silent : tuple of str
        Names of invocations that began and left no answer; known after `remove_all`.
    """

    executor: Any
    strays: CallRequests = field(default_factory=CallRequests)
    silent: tuple[str, ...] = ()
    _begun: dict[str, Ticket] = field(default_factory=dict)
    _answers: dict[Ticket, list[str]] = field(default_factory=lambda: defaultdict(list))
    _told: set[str] = field(default_factory=set)  # invocations
    _read: set[str] = field(default_factory=set)  # keys of answers
    _spent: set[str] = field(default_factory=set)  # keys of what is of no use any more

    def look(self) -> tuple[set[Ticket], set[Ticket]]:
        """Return the calls that have started so far, and those that have ended."""
        if len(self._spent) >= _MOST_SPENT:
            self._remove_spent()
        self._list()
        return set(self._begun.values()), set(self._answers)

    def fetch(self, ticket: Ticket) -> Letter:
        """Return what a call has left that ended.

        Raises
        ------
        EngineError
            If it cannot be read yet.
        """
        key = self._answers[ticket][0]
        status = self._status(key)
        if status is None:
            raise EngineError(f"the status of {'/'.join(ticket)} is listed and cannot be read")
        letter = _letter(status, functools.partial(self._output, key))
        self._note_read(key, status)
        return replace(letter, **_told_by_worker(status))

    def settle(self) -> None:
        """Read the answers that nobody fetched, for their requests, and remove all answers."""
        self._list()
        self._read_strays()
        self._remove_spent()

    def remove_all(self) -> None:
        """Settle for good: note who is silent, and leave nothing."""
        keys = self._list()
        self._read_strays()
        self.silent = tuple(name for name in self._begun if name not in self._told)
        self._remove(keys)

    def _list(self) -> list[str]:
        """Note what is there."""
        storage, bucket = self.executor.storage, self.executor.internal_storage.bucket
        mine = f"{_FOLDER}/{self.executor.executor_id}"
        listed: list[str] = storage.list_keys(bucket, mine)
        # Numbers end their names: what begins like the first one's may be the tenth's.
        keys = [key for key in listed if key.startswith((f"{mine}/", f"{mine}-"))]
        for key in keys:
            match key.split("/")[1:]:
                case [job_key, call_id, name]:
                    executor_id, _, job_id = job_key.rpartition("-")
                    ticket = (executor_id, job_id, call_id)
                    if name.endswith(_INIT):
                        self._begun[name.removesuffix(_INIT)] = ticket
                    elif name.endswith(_STATUS) and key not in self._answers[ticket]:
                        self._answers[ticket].append(key)
        return keys

    def _read_strays(self) -> None:
        for key in [key for of_call in self._answers.values() for key in of_call]:
            if key not in self._read:
                status = self._status(key)
                if status is not None:
                    self.strays += _requests(status) or CallRequests()
                    self._note_read(key, status)

    def _status(self, key: str) -> dict[str, Any] | None:
        content = self._get(key)
        return json.loads(content) if content else None

    def _output(self, status_key: str) -> bytes:
        content = self._get(status_key.removesuffix(_STATUS) + _OUTPUT)
        if content is None:
            raise EngineError(f"the result that belongs to {status_key} is not there yet")
        return content

    def _get(self, key: str) -> bytes | None:
        from lithops.storage.utils import StorageNoSuchKeyError

        try:
            content: bytes = self.executor.storage.get_object(
                self.executor.internal_storage.bucket, key
            )
        except StorageNoSuchKeyError:
            return None
        return content

    def _note_read(self, key: str, status: Mapping[str, Any]) -> None:
        folder, _, name = key.rpartition("/")
        invocation = name.removesuffix(_STATUS).rstrip(".") or str(status.get("activation_id"))
        self._read.add(key)
        self._told.add(invocation)
        self._spent |= {key, f"{folder}/{invocation}{_INIT}"}
        if not _is_inline(status):
            self._spent.add(key.removesuffix(_STATUS) + _OUTPUT)

    def _remove_spent(self) -> None:
        self._remove(sorted(self._spent))
        self._spent.clear()

    def _remove(self, keys: Sequence[str]) -> None:
        if keys:
            bucket = self.executor.internal_storage.bucket
            self.executor.storage.delete_objects(bucket, list(keys))


# -- answers ---------------------------------------------------------------------------------------


def _is_inline(status: Mapping[str, Any]) -> bool:
    return bool({"exc_info", "result", "result_base64"} & status.keys())


def _letter(status: Mapping[str, Any], output: Callable[[], bytes]) -> Letter:
    cold = bool(status.get("worker_cold_start"))
    if status.get("exception"):
        return _letter_of_failure(status, cold)
    if "result_base64" in status:
        result = base64.b64decode(status["result_base64"])
    elif "result" in status:  # as Lithops' own worker writes it
        result = ast.literal_eval(status["result"])
    else:
        result = output()
    return Letter(pickle.loads(pickle.loads(result)), cold)


def _told_by_worker(status: Mapping[str, Any]) -> dict[str, Any]:
    """Say which invocation it was, and how long it took by its own clock."""
    started_s, ended_s = status.get("worker_start_tstamp"), status.get("worker_end_tstamp")
    return {
        "request_id": str(status.get("activation_id") or ""),
        "handler_s": ended_s - started_s if started_s and ended_s else None,
        "init_s": status.get("worker_init_s"),
        "requests": _requests(status),
    }


def _letter_of_failure(status: Mapping[str, Any], cold: bool) -> Letter:
    told = last_words(status)
    if told is not None:
        name, message = told
        timed_out = name == "TimeoutError"
        error = RemoteError("TimedOut" if timed_out else "WorkerLost", message, retryable=True)
        return Letter(None, cold, timed_out, error)
    # The boundary of the worker lets nothing through, so the worker never got there: most likely
    # it could not import what it needs.
    told_why = attempt_call(lambda: pickle.loads(ast.literal_eval(status["exc_info"]))[1])
    reason = told_why.value or status.get("exc_info", "no reason is given")
    error = RemoteError(
        "WorkerFailed", f"the worker's runtime is not what it should be: {reason}", retryable=False
    )
    return Letter(None, cold, error=error)


def _requests(status: Mapping[str, Any]) -> CallRequests | None:
    """Read what an invocation asked of stores; Lithops' own worker does not say."""
    return CallRequests.from_dict(status["requests"]) if "requests" in status else None
