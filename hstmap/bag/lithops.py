"""Engines on Lithops. No other module of hstmap imports it.

On this machine Lithops starts workers that stay and take one attempt after another
(`hstmap.bag.pilot`); on any other backend each attempt is an invocation
(`hstmap.bag.invocations`). Lithops' own waiting is used for neither: it waits for ever for an
invocation that never starts, and it polls where nothing needs to be asked.

The uses of Lithops' internals are written against the pinned version, 3.8.0.
"""

from __future__ import annotations

import ast
import atexit
import copy
import functools
import logging
import math
import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hstmap
from hstmap.bag.engine import TransportEngine
from hstmap.bag.events import Observer
from hstmap.bag.home import home_folder
from hstmap.bag.invocations import InvocationTransport, Letter, Ticket
from hstmap.bag.pilot import PilotTransport
from hstmap.bag.pool import LocalPool, last_words, n_cpus
from hstmap.bag.task import EngineOptions, RemoteError
from hstmap.bag.transport import Transport
from hstmap.bag.wire import Program, perform
from hstmap.errors import EngineError, UsageError

__all__ = ["LithopsEngine"]

_LOCALHOST = "localhost"
_LOCAL_POLL_INTERVAL_S = 0.02
_UNLIMITED = 1_000_000
_MAKING = threading.Lock()  # making two executors at a time, Lithops trips over its own files


class LithopsEngine(TransportEngine):
    """Runs tasks wherever Lithops can.

    Parameters
    ----------
    options : EngineOptions, optional
        ``lithops_config`` says where; by default on this machine.
    observers : sequence of Observer

    Raises
    ------
    UsageError
        If the mode asked for is not possible on the backend.
    """

    def __init__(
        self, options: EngineOptions | None = None, observers: Sequence[Observer] = ()
    ) -> None:
        options = EngineOptions() if options is None else options
        config = _with_backend(options.lithops_config)
        super().__init__(_make_transport(config, options), options, observers)


def _make_transport(config: dict[str, Any], options: EngineOptions) -> Transport:
    backend = config["lithops"]["backend"]
    if options.mode == "pilot" and backend != _LOCALHOST:
        raise UsageError(
            f"mode is 'pilot' and the Lithops backend is {backend!r}; workers stay on this machine "
            "only, so set the backend 'localhost' or the mode 'events'"
        )
    section = config.get(_LOCALHOST) or {}
    n_workers = int(options.n_workers or section.get("worker_processes") or n_cpus())
    if backend != _LOCALHOST:
        return InvocationTransport(_RemoteMailbox(config, options), options)
    make_executor = functools.partial(_local_executor, config)
    if options.mode == "events":
        return InvocationTransport(_LocalMailbox(make_executor, n_workers, options), options)
    return PilotTransport(LocalPool(make_executor, _log_tail, n_workers), options)


def _with_backend(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a copy of a Lithops configuration that names its backend."""
    full: dict[str, Any] = copy.deepcopy(dict(config or {}))
    settings = full["lithops"] = dict(full.get("lithops") or {})
    if not settings.get("backend"):
        mode = settings.get("mode", _LOCALHOST)
        if mode != _LOCALHOST:
            raise UsageError(
                f"the Lithops configuration has the mode {mode!r} and names no backend; name one "
                "under 'lithops: backend:'"
            )
        settings["backend"] = _LOCALHOST
    return full


# -- Lithops' surroundings -----------------------------------------------------------------------


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


def _make_executor(config: Mapping[str, Any]) -> Any:
    with _MAKING:
        executor = import_lithops().FunctionExecutor(config=config, log_level=None)
    executor.job_monitor = executor.invoker.job_monitor = _NoMonitor()
    return executor


def _local_executor(config: Mapping[str, Any], n_workers: int) -> Any:
    """Make an executor that forks its workers in one runner, and quietly."""
    full = copy.deepcopy(dict(config))
    full["lithops"] |= {
        "backend": _LOCALHOST,
        "storage": _LOCALHOST,
        "monitoring": "storage",
        "data_cleaner": False,
        "data_limit": False,
        "include_modules": "none",
        "telemetry": False,
    }
    full[_LOCALHOST] = {
        **(full.get(_LOCALHOST) or {}),
        "version": 1,  # version 2 starts an interpreter for each call
        "runtime": sys.executable,
        "worker_processes": n_workers,
    }
    executor = _make_executor(full)
    environment = executor.compute_handler.env
    environment._start_job_process = functools.partial(_start_runner, environment)
    _tell_runtime_metadata(executor)
    return executor


def _start_runner(environment: Any, job_key: str, command: list[str]) -> Any:
    """Start Lithops' runner as Lithops does, but with a folder for temporary files of its own."""
    from lithops.constants import TEMP_DIR

    root = str(Path(hstmap.__file__).parents[1])
    search = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    surroundings = os.environ | {"TMPDIR": TEMP_DIR, "PYTHONPATH": os.pathsep.join(search)}
    with environment.jobs_lock:
        if job_key in environment.stopped_jobs:
            return None
        runner = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=surroundings,
        )
        environment.jobs[job_key] = runner
        return runner


def _tell_runtime_metadata(executor: Any) -> None:
    """Tell Lithops what it would start an interpreter to ask, and then keep in the user's home."""
    from lithops.storage.storage import RUNTIME_META_CACHE
    from lithops.version import __version__

    key = executor.compute_handler.get_runtime_key(executor.compute_handler.runtime_name)
    _, cache_key, _ = executor.internal_storage._runtime_meta_refs(key)
    RUNTIME_META_CACHE[cache_key] = {
        "preinstalls": [],
        "python_version": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "lithops_version": __version__,
        "runtime_timeout": None,
    }


def _log_tail(n_lines: int = 15) -> str:
    from lithops.constants import RN_LOG_FILE

    try:
        lines = Path(RN_LOG_FILE).read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(["Its log ends:", *lines[-n_lines:]])


# -- invocations ---------------------------------------------------------------------------------


def _make_invocation(program: bytes) -> Callable[[bytes], bytes]:
    def invoke(payload: bytes) -> bytes:
        return pickle.dumps(perform(Program(program), payload), pickle.HIGHEST_PROTOCOL)

    return invoke


def _send(
    executor: Any, program: bytes, payloads: Sequence[bytes], timeout_s: float | None
) -> list[Ticket]:
    futures = executor.map(
        _make_invocation(program),
        [(payload,) for payload in payloads],
        chunksize=1,
        timeout=None if timeout_s is None else max(1, math.ceil(timeout_s)),
        include_modules=None,
    )
    return [(future.executor_id, future.job_id, future.call_id) for future in futures]


def _look(executor: Any) -> tuple[set[Ticket], set[Ticket]]:
    started, ended = executor.internal_storage.get_job_status(executor.executor_id)
    return {call for call, _activation in started}, ended


def _fetch(executor: Any, ticket: Ticket) -> Letter:
    storage = executor.internal_storage
    status = storage.get_call_status(*ticket)
    if status is None:
        raise EngineError(f"the status of {'/'.join(ticket)} is listed and cannot be read")
    cold = bool(status.get("worker_cold_start"))
    if status.get("exception"):
        return _letter_of_failure(status, cold)
    if "result" in status:
        output = ast.literal_eval(status["result"])
    else:
        output = storage.get_call_output(*ticket)
        if output is None:
            raise EngineError(f"the result of {'/'.join(ticket)} is not there yet")
    return Letter(pickle.loads(pickle.loads(output)), cold)


def _letter_of_failure(status: Mapping[str, Any], cold: bool) -> Letter:
    told = last_words(status)
    if told is not None:
        name, message = told
        timed_out = name == "TimeoutError"
        error = RemoteError("TimedOut" if timed_out else "WorkerLost", message, retryable=True)
        return Letter(None, cold, timed_out, error)
    # The boundary of the worker lets nothing through, so the worker never got there: most likely
    # it could not import what it needs.
    reason = str(status.get("exc_info", "no reason is given"))
    error = RemoteError(
        "WorkerFailed", f"the worker's runtime is not what it should be: {reason}", retryable=False
    )
    return Letter(None, cold, error=error)


def _remove_objects(executor: Any) -> None:
    from lithops.constants import JOBS_PREFIX

    storage, bucket = executor.storage, executor.internal_storage.bucket
    keys = storage.list_keys(bucket, f"{JOBS_PREFIX}/{executor.executor_id}")
    if keys:
        storage.delete_objects(bucket, keys)


class _LocalMailbox:
    """Invocations on this machine: a Lithops job for each, as a job can only be ended whole."""

    shared_path = True
    poll_interval_s = _LOCAL_POLL_INTERVAL_S

    def __init__(
        self, make_executor: Callable[[int], Any], n_slots: int, options: EngineOptions
    ) -> None:
        self._make_executor = make_executor
        self._options = options
        self._executors: dict[str, Any] = {}
        self.n_slots = n_slots
        self.longest_call_s = math.inf

    def open(self) -> None:
        self.close()

    def send(self, program: bytes, payloads: Sequence[bytes]) -> Sequence[Ticket]:
        tickets: list[Ticket] = []
        for payload in payloads:
            executor = self._make_executor(1)
            self._executors[executor.executor_id] = executor
            tickets += _send(executor, program, [payload], self._options.timeout_s)
        return tickets

    def look(self) -> tuple[set[Ticket], set[Ticket]]:
        looks = [_look(executor) for executor in self._executors.values()]
        started, ended = zip(*looks, strict=True)
        return set().union(*started), set().union(*ended)

    def fetch(self, ticket: Ticket) -> Letter:
        letter = _fetch(self._executors[ticket[0]], ticket)
        self.cancel((ticket,))
        return letter

    def cancel(self, tickets: Iterable[Ticket]) -> None:
        for executor_id, _, _ in tickets:
            executor = self._executors.pop(executor_id)
            executor.compute_handler.clear()
            _remove_objects(executor)
            atexit.unregister(executor._clean_at_exit)

    def close(self) -> None:
        self.cancel([(executor_id, "", "") for executor_id in tuple(self._executors)])


class _RemoteMailbox:
    """Invocations on a backend elsewhere: one Lithops executor, a job for each handful of calls."""

    shared_path = False

    def __init__(self, config: dict[str, Any], options: EngineOptions) -> None:
        self._config = config
        self._options = options
        self._executor: Any = None
        self.n_slots = 0
        self.longest_call_s = math.inf
        self.poll_interval_s = 2.0

    def open(self) -> None:
        if self._executor is None:
            self._executor = self._make()
        else:
            _remove_objects(self._executor)

    def _make(self) -> Any:
        config = copy.deepcopy(self._config)
        config["lithops"] |= {
            "data_cleaner": False,
            "data_limit": False,
            "include_modules": "none",
        }
        executor = _make_executor(config)
        settings = executor.config
        section = settings[executor.backend]
        self.n_slots = int(self._options.n_workers or section["max_workers"])
        self.poll_interval_s = float(settings["lithops"]["monitoring_interval"])
        self.longest_call_s = float(
            section.get("runtime_timeout") or settings["lithops"]["execution_timeout"]
        )
        # How many calls are under way is the scheduler's to say: Lithops would count those that
        # never came back as running for ever.
        executor.invoker.max_workers = _UNLIMITED
        return executor

    def send(self, program: bytes, payloads: Sequence[bytes]) -> Sequence[Ticket]:
        return _send(self._executor, program, payloads, self._options.timeout_s)

    def look(self) -> tuple[set[Ticket], set[Ticket]]:
        return _look(self._executor)

    def fetch(self, ticket: Ticket) -> Letter:
        return _fetch(self._executor, ticket)

    def cancel(self, tickets: Iterable[Ticket]) -> None:
        """Let them run to their end: Lithops has no way to end invocations."""

    def close(self) -> None:
        if self._executor is not None:
            self._executor.invoker.stop()
            self._executor.compute_handler.clear()
            _remove_objects(self._executor)
            self._executor = None
