"""What engines on Lithops share: Lithops itself, and calls that are sent and read through it.

The uses of Lithops' internals are written against the pinned version, 3.8.0.
"""

from __future__ import annotations

import ast
import logging
import math
import pickle
import queue
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hstmap.bag.home import home_folder
from hstmap.bag.invocations import Letter, Ticket
from hstmap.bag.outcome import attempt_call
from hstmap.bag.pool import last_words
from hstmap.bag.task import RemoteError
from hstmap.bag.wire import Program, perform
from hstmap.errors import EngineError

__all__ = [
    "CALL_MARK",
    "fetch_letter",
    "import_lithops",
    "look_for_calls",
    "make_executor",
    "remove_objects",
    "send_calls",
]

#: Set for the calls that are hstmap's: a backend of ours sends them without what they do not need.
CALL_MARK: Final = "HSTMAP_CALL"

_MAKING = threading.Lock()  # making two executors at a time, Lithops trips over its own files


def import_lithops() -> Any:
    """Import Lithops so that its files are apart from those of all other programs.

    Lithops keeps its jobs, and a copy of itself that it replaces whenever it starts, in the folder
    for temporary files, as that was when Lithops was imported. Two programs that share the folder
    break each other.
    """
    if "lithops" not in sys.modules:
        logger = logging.getLogger("lithops")
        if not logger.handlers and logger.level == logging.NOTSET:
            logger.addHandler(logging.NullHandler())  # else warnings would go to stderr
            logger.propagate = False
        before = tempfile.tempdir
        tempfile.tempdir = str(home_folder())
        try:
            import lithops  # noqa: F401
        finally:
            tempfile.tempdir = before
    return sys.modules["lithops"]


class _NoMonitor:
    """In the place of Lithops' job monitor, which lists its storage all the time."""

    def __init__(self) -> None:
        self.token_bucket_q: queue.Queue[str] = queue.Queue()

    def _ignore(self, *_arguments: Any, **_settings: Any) -> None:
        """Do nothing: nobody asks this monitor for anything."""

    prepare = start = stop = remove = cleanup = close_jobs = _ignore


def make_executor(config: Mapping[str, Any]) -> Any:
    """Make a `lithops.FunctionExecutor` that says nothing and polls nothing."""
    with _MAKING:
        executor = import_lithops().FunctionExecutor(config=config, log_level=None)
    executor.job_monitor = executor.invoker.job_monitor = _NoMonitor()
    return executor


# -- calls ---------------------------------------------------------------------------------------


def _make_invocation(program: bytes) -> Callable[[bytes], bytes]:
    def invoke(payload: bytes) -> bytes:
        return pickle.dumps(perform(Program(program), payload), pickle.HIGHEST_PROTOCOL)

    return invoke


def send_calls(
    executor: Any, program: bytes, payloads: Sequence[bytes], timeout_s: float | None
) -> list[Ticket]:
    """Call a program once for each payload, each call an invocation of its own."""
    futures = executor.map(
        _make_invocation(program),
        [(payload,) for payload in payloads],
        chunksize=1,
        timeout=None if timeout_s is None else max(1, math.ceil(timeout_s)),
        include_modules=None,
        extra_env=dict.fromkeys([CALL_MARK], "1"),
    )
    return [(future.executor_id, future.job_id, future.call_id) for future in futures]


def look_for_calls(executor: Any) -> tuple[set[Ticket], set[Ticket]]:
    """Return the calls of an executor that have started, and those that have ended."""
    started, ended = executor.internal_storage.get_job_status(executor.executor_id)
    return {call for call, _activation in started}, ended


def fetch_letter(executor: Any, ticket: Ticket) -> Letter:
    """Return what a call has left that ended."""
    storage = executor.internal_storage
    status = storage.get_call_status(*ticket)
    if status is None:
        raise EngineError(f"the status of {'/'.join(ticket)} is listed and cannot be read")
    cold = bool(status.get("worker_cold_start"))
    if status.get("exception"):
        return replace(_letter_of_failure(status, cold), **_told_by_worker(status))
    if "result" in status:
        output = ast.literal_eval(status["result"])
    else:
        output = storage.get_call_output(*ticket)
        if output is None:
            raise EngineError(f"the result of {'/'.join(ticket)} is not there yet")
    return Letter(pickle.loads(pickle.loads(output)), cold, **_told_by_worker(status))


def _told_by_worker(status: Mapping[str, Any]) -> dict[str, Any]:
    """Say which invocation it was, and how long it took by its own clock."""
    started_s, ended_s = status.get("worker_start_tstamp"), status.get("worker_end_tstamp")
    return {
        "request_id": str(status.get("activation_id") or ""),
        "handler_s": ended_s - started_s if started_s and ended_s else None,
        "init_s": status.get("worker_init_s"),
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


def remove_objects(executor: Any) -> None:
    """Remove what the calls of an executor left in Lithops' storage."""
    from lithops.constants import JOBS_PREFIX

    storage, bucket = executor.storage, executor.internal_storage.bucket
    keys = storage.list_keys(bucket, f"{JOBS_PREFIX}/{executor.executor_id}")
    if keys:
        storage.delete_objects(bucket, keys)
