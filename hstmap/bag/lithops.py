"""Engines on Lithops. No other module of hstmap imports it.

On this machine Lithops starts workers that stay and take one attempt after another
(`hstmap.bag.pilot`); on any other backend each attempt is an invocation
(`hstmap.bag.invocations`). Lithops' own waiting is used for neither: it waits for ever for an
invocation that never starts, and it polls.

The uses of Lithops' internals are written against the pinned version, 3.8.0.
"""

from __future__ import annotations

import ast
import atexit
import copy
import fcntl
import functools
import itertools
import logging
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hstmap
from hstmap.bag.engine import TransportEngine
from hstmap.bag.events import Observer
from hstmap.bag.outcome import attempt_call
from hstmap.bag.pilot import PilotTransport
from hstmap.bag.task import EngineOptions
from hstmap.bag.worker import LOCK_NAME, serve
from hstmap.errors import UsageError

__all__ = ["LithopsEngine"]

_SPARE_CALLS = 1000  # workers that can die before a new job has to be started
_LONGEST_CALL_S = 2_000_000  # poll(2) takes milliseconds as an int: 24 days
_LAST_WORDS_WAIT_S = 0.5
_START_ORDER = itertools.count()


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
        backend = config["lithops"]["backend"]
        if options.mode == "pilot" and backend != "localhost":
            raise UsageError(
                f"mode is 'pilot' and the Lithops backend is {backend!r}; workers stay on this "
                "machine only, so set the backend 'localhost' or the mode 'events'"
            )
        pool = _LocalPool(config, options.n_workers)
        super().__init__(PilotTransport(pool, options), options, observers)


def _with_backend(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a copy of a Lithops configuration that names its backend."""
    full: dict[str, Any] = copy.deepcopy(dict(config or {}))
    lithops = full["lithops"] = dict(full.get("lithops") or {})
    if not lithops.get("backend"):
        local = lithops.get("mode", "localhost") == "localhost"
        lithops["backend"] = "localhost" if local else _default_backend(lithops["mode"])
    return full


def _default_backend(mode: str) -> str:
    _import_lithops()
    from lithops.utils import get_default_backend

    return str(get_default_backend(mode))


# -- Lithops' surroundings -----------------------------------------------------------------------


class _Home:
    """A folder of this process's own, removed with it: sockets, and what Lithops leaves lying."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hstmap-")).resolve()
        # POSIX locks end with the process, whatever ends it, so a worker that finds this one gone
        # knows that the folder is nobody's.
        self._lock = (self.folder / LOCK_NAME).open("wb")
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        self._pid = os.getpid()
        atexit.register(self._remove)

    def _remove(self) -> None:
        if os.getpid() == self._pid:  # and not a fork of the client
            shutil.rmtree(self.folder, ignore_errors=True)


@functools.cache
def _home() -> _Home:
    return _Home()


def _import_lithops() -> Any:
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
        tempfile.tempdir = str(_home().folder)
        try:
            import lithops  # noqa: F401
        finally:
            tempfile.tempdir = before
    return sys.modules["lithops"]


# -- workers of this machine ---------------------------------------------------------------------


class _LocalPool:
    """Workers that Lithops' localhost backend starts, and replaces when they die.

    One Lithops job has a call for each worker and many more. Lithops runs as many calls at a time
    as there are workers, and takes the next call when the process of one dies.

    Parameters
    ----------
    config : dict
        Lithops' configuration.
    n_workers : int, optional
    """

    def __init__(self, config: dict[str, Any], n_workers: int | None) -> None:
        section = config.get("localhost") or {}
        self._config = config
        self._n_workers = n_workers or section.get("worker_processes") or _n_cpus()
        self._address = str(_home().folder / f"{next(_START_ORDER)}.sock")
        self._starting: threading.Thread | None = None
        self._start_error: str | None = None
        self._executor: Any = None
        self._futures: list[Any] = []
        self._pid = os.getpid()

    @property
    def n_workers(self) -> int:
        return int(self._n_workers)

    @property
    def address(self) -> str:
        return self._address

    def start(self) -> None:
        atexit.register(self.close)
        # In a thread, because importing Lithops takes a while; in a daemon thread, because
        # Lithops' job manager inherits that, and would else keep this process from ending.
        self._starting = threading.Thread(target=self._start, daemon=True)
        self._starting.start()

    def _start(self) -> None:
        launched = attempt_call(self._launch)
        if launched.error is not None:
            self._start_error = f"{launched.error.type_name}: {launched.error.message}"

    def _launch(self) -> None:
        if self._executor is None:
            self._executor = self._make_executor()
        calls = [(self._address, index) for index in range(self._n_workers + _SPARE_CALLS)]
        self._futures = self._executor.map(
            serve, calls, timeout=_LONGEST_CALL_S, include_modules=None
        )
        self._executor.job_monitor.stop()  # it would list Lithops' storage every two seconds

    def _make_executor(self) -> Any:
        lithops = _import_lithops()
        config = copy.deepcopy(self._config)
        config["lithops"] |= {
            "backend": "localhost",
            "storage": "localhost",
            "monitoring": "storage",
            "data_cleaner": False,
            "data_limit": False,
            "include_modules": "none",
            "telemetry": False,
        }
        config["localhost"] = {
            **(config.get("localhost") or {}),
            "version": 1,  # forks its workers; version 2 starts an interpreter for each call
            "runtime": sys.executable,
            "worker_processes": self._n_workers,
        }
        executor = lithops.FunctionExecutor(config=config, log_level=None)
        environment = executor.compute_handler.env
        environment._start_job_process = functools.partial(_start_runner, environment)
        _tell_runtime_metadata(executor)
        return executor

    def failure(self) -> str | None:
        if self._starting is None or self._starting.is_alive():
            return None
        if self._start_error is not None:
            return self._start_error
        runners = list(self._executor.compute_handler.env.jobs.values())
        if not runners or any(runner.poll() is None for runner in runners):
            return None
        return f"Lithops' runner ended with exit status {runners[-1].returncode}.{_log_tail()}"

    def why_lost(self, index: int) -> str | None:
        if index >= len(self._futures):
            return None
        future = self._futures[index]
        deadline = time.monotonic() + _LAST_WORDS_WAIT_S
        while time.monotonic() < deadline:
            status = self._executor.internal_storage.get_call_status(
                future.executor_id, future.job_id, future.call_id
            )
            if status is not None and status.get("type") == "__end__":
                return _last_words(status)
            time.sleep(0.005)
        return None

    def close(self) -> None:
        if os.getpid() != self._pid:
            return
        atexit.unregister(self.close)
        if self._starting is not None:
            self._starting.join()
        if self._executor is not None:
            self._executor.compute_handler.clear()  # kills the runner and all that it forked
            self._executor.job_monitor.stop()
            atexit.unregister(self._executor._clean_at_exit)
        Path(self._address).unlink(missing_ok=True)


def _n_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
    """Tell Lithops what it would start an interpreter to ask, and then keep in the home folder."""
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
    return "\n".join([" Its log ends:", *lines[-n_lines:]])


def _last_words(status: Mapping[str, Any]) -> str | None:
    """Return what the process that watched over a call says of how it ended."""
    told = attempt_call(lambda: pickle.loads(ast.literal_eval(status["exc_info"]))[1].args)
    if told.error is None and len(told.value) == 2 and told.value[0] == "HANDLER":
        return str(told.value[1])
    return None
