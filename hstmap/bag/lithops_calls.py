"""What engines on Lithops share: Lithops itself, and calls that are sent and read through it.

The uses of Lithops' internals are written against the pinned version, 3.8.0.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import pickle
import queue
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from hstmap.bag.home import home_folder
from hstmap.bag.invocations import Ticket
from hstmap.bag.wire import Program, perform

__all__ = [
    "CALL_MARK",
    "end_executor",
    "import_lithops",
    "make_executor",
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


@contextmanager
def _own_session() -> Iterator[None]:
    """Let Lithops name executors after this process alone.

    It exports its session and how many executors it has, and whoever finds these variables goes on
    counting: two programs that a third one starts would name their calls alike, and each would
    take the other's for its own, in the bucket and in the bill.
    """
    from lithops.constants import SESSION_ID_ENV, TOTAL_EXECUTORS_ENV

    names = (SESSION_ID_ENV, TOTAL_EXECUTORS_ENV)
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)


def make_executor(config: Mapping[str, Any]) -> Any:
    """Make a `lithops.FunctionExecutor` that says nothing and polls nothing."""
    lithops = import_lithops()
    with _MAKING, _own_session():
        executor = lithops.FunctionExecutor(config=config, log_level=None)
    executor.job_monitor = executor.invoker.job_monitor = _NoMonitor()
    return executor


# -- calls ---------------------------------------------------------------------------------------


def _make_invocation(program: bytes) -> Callable[[bytes], bytes]:
    def invoke(payload: bytes) -> bytes:
        return pickle.dumps(perform(Program(program), payload), pickle.HIGHEST_PROTOCOL)

    return invoke


@contextmanager
def _arguments_in_events(most_nbytes: int) -> Iterator[None]:
    """Let arguments of calls travel with their events, up to a size; by default 8 KiB."""
    from lithops.job import job

    before = job.MAX_DATA_IN_PAYLOAD
    job.MAX_DATA_IN_PAYLOAD = max(before, most_nbytes)
    try:
        yield
    finally:
        job.MAX_DATA_IN_PAYLOAD = before


def end_executor(executor: Any) -> None:
    """End an executor, and let go of it: Lithops keeps each until the interpreter ends.

    Parameters
    ----------
    executor : object
        From `make_executor`.
    """
    executor.invoker.stop()
    executor.compute_handler.clear()
    pool = getattr(executor.invoker, "executor", None)  # backends elsewhere have one
    if pool is not None:
        pool.shutdown(wait=False, cancel_futures=True)
    atexit.unregister(executor._clean_at_exit)


def send_calls(
    executor: Any,
    program: bytes,
    payloads: Sequence[bytes],
    timeout_s: float | None,
    most_event_nbytes: int = 0,
) -> list[Ticket]:
    """Call a program once for each payload, each call an invocation of its own."""
    with _arguments_in_events(most_event_nbytes):
        futures = executor.map(
            _make_invocation(program),
            [(payload,) for payload in payloads],
            chunksize=1,
            timeout=None if timeout_s is None else max(1, math.ceil(timeout_s)),
            include_modules=None,
            extra_env=dict.fromkeys([CALL_MARK], "1"),
        )
    return [(future.executor_id, future.job_id, future.call_id) for future in futures]
