"""Makes the calls that events bring: in a fork, watched over, with an answer in any case.

Lithops' own handler would do; it costs 1.4 s of imports, boto3 among them, and talks to its storage
before it forks. This one speaks the same protocol through hstmap's store, and reads and writes in
children only: obstore does not survive a fork, so the process that stays never makes a request.
"""

from __future__ import annotations

import base64
import json
import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final

import hstmap
from hstmap.aws.event import CallEvent, check_versions, python_version, runtime_facts
from hstmap.aws.shared_counts import SharedCounts
from hstmap.errors import StorageError
from hstmap.storage import Store, open_store
from hstmap.storage_counts import CallRequests, RequestCounts, heard_by

__all__ = ["CallEnd", "Invocation", "make_call", "process_age_s", "run_in_fork"]

#: Values up to this size travel in the status: one write and one read less.
_MOST_INLINE_NBYTES: Final = 256 * 1024
#: Kept back of an invocation's time to say that the call ran too long.
_LAST_WORDS_S: Final = 3.0
#: What a process has left to do after its last word is none of ours.
_PARTING_S: Final = 1.0
_FORKS: Final = multiprocessing.get_context("fork")
_DONE: Final = b"done"


@dataclass(frozen=True)
class Invocation:
    """What Lambda says of an invocation.

    Parameters
    ----------
    request_id : str
    is_cold : bool
        Whether it is the first of its execution environment.
    started_s : float
        Unix time, s.
    left_s : float
        Time until Lambda ends it.
    init_s : float, optional
        How old the process was when it was ready for its first event, s.
    """

    request_id: str
    is_cold: bool
    started_s: float
    left_s: float
    init_s: float | None = None


@dataclass(frozen=True)
class CallEnd:
    """How a call went.

    Parameters
    ----------
    how : str
        ``"done"``, or what went wrong, for the log.
    requests : CallRequests
        What it asked of stores, also until it was ended by force.
    """

    how: str
    requests: CallRequests


@dataclass(frozen=True)
class _Call:
    """A call on its way: what a child that makes it, or mourns it, has to know."""

    event: CallEvent
    invocation: Invocation
    prefix: str
    requests: SharedCounts


#: The function of the last call, by its key: warm environments need not fetch it again.
_functions: dict[str, bytes] = {}


def process_age_s() -> float | None:
    """Say how long this process has been there, s; None where the system does not tell.

    It is from the start that the kernel has noted, to a hundredth of a second: see ``starttime`` in
    proc(5).
    """
    try:
        stat = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    started_ticks = int(stat.rpartition(")")[2].split()[19])
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    return now_s - started_ticks / os.sysconf("SC_CLK_TCK")


def make_call(event: CallEvent, invocation: Invocation) -> CallEnd:
    """Make a call, and leave its status where the client looks.

    Parameters
    ----------
    event : CallEvent
    invocation : Invocation

    Returns
    -------
    CallEnd
    """
    # An event that Lambda delivers twice has one request id, and leaves two answers.
    prefix = f"{event.prefix}/{invocation.request_id}-{os.urandom(4).hex()}"
    call = _Call(event, invocation, prefix, SharedCounts())
    how = _make(call)
    requests = call.requests.read()
    call.requests.close()
    return CallEnd(how, requests)


def _make(call: _Call) -> str:
    timeout_s = max(1.0, min(call.event.timeout_s, call.invocation.left_s - _LAST_WORDS_S))

    def keep(function: bytes) -> None:
        _functions.clear()
        _functions[call.event.function_key] = function

    exit_code = run_in_fork(_perform, (call,), timeout_s, keep)
    if exit_code == 0:
        return "done"
    error = _why_it_ended(exit_code, timeout_s)
    # What died may have been in the middle of anything, so another child tells of it.
    run_in_fork(_mourn, (call, error), _LAST_WORDS_S)
    return f"{type(error).__name__}: {error.args[1]}"


def run_in_fork(
    function: Callable[..., bytes | None],
    arguments: tuple[Any, ...],
    timeout_s: float,
    keep: Callable[[bytes], object] = bool,
) -> int | None:
    """Run a function in a fork of this process.

    Parameters
    ----------
    function : callable
    arguments : tuple
        Of the function; they need not be pickled.
    timeout_s : float
        The fork is killed after that.
    keep : callable
        Given what the function returned, if it returned bytes.

    Returns
    -------
    int or None
        0 if the function returned, whatever its process did then; the exit code of the process if
        not (negative: the signal that ended it); None if it took too long.
    """
    ours, theirs = _FORKS.Pipe(duplex=False)
    child = _FORKS.Process(target=_to_the_end, args=(function, arguments, theirs))
    sys.stdout.flush()
    child.start()
    theirs.close()
    # Nothing comes through the pipe but the word that all is done, with what the function
    # returned; or its end with the process.
    if not wait([ours, child.sentinel], timeout_s):
        child.kill()
        child.join()
        return None
    word = _received(ours) if ours.poll() else b""
    if returned := word.removeprefix(_DONE):
        keep(returned)
    child.join(_PARTING_S)
    if child.is_alive():
        child.kill()
        child.join()
    return 0 if word else child.exitcode or 1


def _received(connection: Connection) -> bytes:
    try:
        return connection.recv_bytes()
    except EOFError:
        return b""


def _to_the_end(
    function: Callable[..., bytes | None], arguments: tuple[Any, ...], connection: Connection
) -> None:
    returned = function(*arguments)
    connection.send_bytes(_DONE + (returned if isinstance(returned, bytes) else b""))


def _why_it_ended(exit_code: int | None, timeout_s: float) -> Exception:
    """Say it as Lithops' handler does, which its client understands."""
    if exit_code is None:
        return TimeoutError("HANDLER", f"the call ran longer than {timeout_s:.0f} s and was ended")
    if exit_code == -signal.SIGKILL:
        return MemoryError(
            "HANDLER", "the worker's process was killed (SIGKILL), most likely for want of memory"
        )
    how = f"was killed by signal {-exit_code}" if exit_code < 0 else f"left with code {exit_code}"
    return RuntimeError("HANDLER", f"the worker's process {how} before its answer was written")


# -- in a child ------------------------------------------------------------------------------------


def _perform(call: _Call) -> bytes | None:
    """Make a call, and say how it went; the function is returned if it had to be fetched."""
    event = call.event
    with heard_by(call.requests.add):
        store = open_store(f"s3://{event.bucket}")
        store.put(f"{call.prefix}.init", b"")
        fetched = None
        try:
            check_versions({"hstmap": event.version, "python": event.python}, runtime_facts())
            if event.function_key not in _functions:
                fetched = _functions[event.function_key] = store.get(event.function_key)
            result = _call(call, store)
        except StorageError as error:
            lost = RuntimeError("HANDLER", f"the worker could not use Lithops' bucket: {error}")
            _write_failure(call, store, lost)
        # The worker's boundary: the client would else wait for what never comes.
        except Exception as error:  # noqa: BLE001
            _write_failure(call, store, error)
        else:
            _write_result(call, store, result)
        return fetched


def _call(call: _Call, store: Store) -> bytes:
    event = call.event
    function = pickle.loads(pickle.loads(_functions[event.function_key])["func"])
    if event.data_key:
        first, last = event.data_range
        data = store.get_range(event.data_key, first, last + 1)
    else:
        data = base64.b64decode(event.data)
    arguments = pickle.loads(data)
    with call.requests.of_work():
        value = function(**arguments)
    return pickle.dumps(value)


def _mourn(call: _Call, error: Exception) -> None:
    with heard_by(call.requests.add):
        _write_failure(call, open_store(f"s3://{call.event.bucket}"), error)


def _write_result(call: _Call, store: Store, result: bytes) -> None:
    status = _status(call)
    if len(result) < _MOST_INLINE_NBYTES:
        status["result_base64"] = base64.b64encode(result).decode("ascii")
    else:
        store.put(f"{call.prefix}.output.pickle", result)
    _write_status(call, store, status)


def _write_failure(call: _Call, store: Store, error: Exception) -> None:
    if error.args[:1] != ("HANDLER",):  # of the others the text is enough, and always loads
        error = RuntimeError(f"{type(error).__name__}: {error}")
    told = pickle.dumps((type(error), error, None))
    _write_status(call, store, _status(call) | {"exception": True, "exc_info": str(told)})


def _status(call: _Call) -> dict[str, Any]:
    """Write what Lithops' client reads of every call."""
    event, invocation = call.event, call.invocation
    return {
        "type": "__end__",
        "exception": False,
        "activation_id": invocation.request_id,
        "executor_id": event.executor_id,
        "job_id": event.job_id,
        "call_id": event.call_id,
        "python_version": python_version(),
        "hstmap_version": hstmap.__version__,
        "worker_cold_start": invocation.is_cold,
        "worker_start_tstamp": invocation.started_s,
        "worker_end_tstamp": time.time(),
        "worker_init_s": invocation.init_s if invocation.is_cold else None,
        "log_stream": os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME", ""),
    }


def _write_status(call: _Call, store: Store, status: dict[str, Any]) -> None:
    # This last request is one of the call, too.
    requests = call.requests.read() + CallRequests(engine=RequestCounts(n_put=1))
    told = json.dumps(status | {"requests": requests.as_dict()})
    store.put(f"{call.prefix}.status.json", told.encode("ascii"))
