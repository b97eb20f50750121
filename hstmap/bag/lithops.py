"""Engines on Lithops. No modules of hstmap import it but `hstmap.bag.lithops*`.

On this machine Lithops starts workers that stay and take one attempt after another
(`hstmap.bag.pilot`); on any other backend each attempt is an invocation
(`hstmap.bag.invocations`). Lithops' own waiting is used for neither: it waits for ever for an
invocation that never starts, and it polls where nothing needs to be asked.

The uses of Lithops' internals are written against the pinned version, 3.8.0.
"""

from __future__ import annotations

import atexit
import copy
import functools
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import hstmap
from hstmap.bag.engine import TransportEngine
from hstmap.bag.events import Observer
from hstmap.bag.gate import Gate
from hstmap.bag.invocations import InvocationTransport, Letter, Ticket
from hstmap.bag.lithops_calls import import_lithops, make_executor, send_calls
from hstmap.bag.lithops_post import Post
from hstmap.bag.lithops_remote import RemoteMailbox
from hstmap.bag.pilot import PilotTransport
from hstmap.bag.pool import LocalPool, n_cpus
from hstmap.bag.task import EngineOptions
from hstmap.bag.transport import Transport
from hstmap.config import WORKER_ENVIRONMENT
from hstmap.errors import UsageError

__all__ = ["LithopsEngine", "import_lithops"]

_LOCALHOST = "localhost"
_LOCAL_POLL_INTERVAL_S = 0.02


class LithopsEngine(TransportEngine):
    """Runs tasks wherever Lithops can.

    Parameters
    ----------
    options : EngineOptions, optional
        ``lithops_config`` says where; by default on this machine.
    observers : sequence of Observer
    gate : Gate, optional
        What each call must be let through by.

    Raises
    ------
    UsageError
        If the mode asked for is not possible on the backend.
    """

    def __init__(
        self,
        options: EngineOptions | None = None,
        observers: Sequence[Observer] = (),
        gate: Gate | None = None,
    ) -> None:
        options = EngineOptions() if options is None else options
        config = _with_backend(options.lithops_config)
        super().__init__(_make_transport(config, options), options, observers, gate)


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
        return InvocationTransport(RemoteMailbox(config, options), options)
    make_executor = functools.partial(_local_executor, config, options.preload)
    if options.mode == "events":
        return InvocationTransport(_LocalMailbox(make_executor, n_workers), options)
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


# -- Lithops on this machine ---------------------------------------------------------------------


#: What Lithops and hstmap import in each worker, whatever that is to do.
_OF_EACH_WORKER: Final = (
    "lithops.worker",
    "lithops.storage.backends.localhost",
    "lithops.monitoring.backends.storage",
    "hstmap.bag.worker",
)

#: Runs a script as Python itself would, with modules imported before. Garbage collection in a fork
#: writes into every object that it looks at, which takes the memory that forks share apart: it is
#: not to look at what was there before them (gc.freeze).
_PRELOADED: Final = f"""\
import contextlib, gc, importlib, os, runpy, sys
modules, sys.argv = sys.argv[1].split(), sys.argv[2:]
sys.path[0] = os.path.dirname(sys.argv[0])
gc.disable()
for module in (*{_OF_EACH_WORKER!r}, *modules):
    with contextlib.suppress(ImportError):
        importlib.import_module(module)
gc.collect()
gc.freeze()
gc.enable()
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _local_executor(config: Mapping[str, Any], preload: Sequence[str], n_workers: int) -> Any:
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
    executor = make_executor(full)
    environment = executor.compute_handler.env
    environment._start_job_process = functools.partial(_start_runner, environment, preload)
    _tell_runtime_metadata(executor)
    return executor


def _start_runner(
    environment: Any, preload: Sequence[str], job_key: str, command: list[str]
) -> Any:
    """Start Lithops' runner as Lithops does, but with a folder for temporary files of its own.

    What is imported before it forks its workers, is so once, and in memory that they share.
    """
    from lithops.constants import TEMP_DIR

    root = str(Path(hstmap.__file__).parents[1])
    search = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    if preload:
        command = [command[0], "-c", _PRELOADED, " ".join(preload), *command[1:]]
    own = {"TMPDIR": TEMP_DIR, "PYTHONPATH": os.pathsep.join(search)}
    surroundings = WORKER_ENVIRONMENT | os.environ | own
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


# -- invocations on this machine ------------------------------------------------------------------


class _LocalMailbox:
    """Invocations on this machine: a Lithops job for each, as a job can only be ended whole."""

    shared_path = True
    poll_interval_s = _LOCAL_POLL_INTERVAL_S
    requests = None  # nothing of it is in a store

    def __init__(self, make_executor: Callable[[int], Any], n_slots: int) -> None:
        self._make_executor = make_executor
        self._posts: dict[str, Post] = {}
        self.n_slots = n_slots
        self.longest_call_s = math.inf

    def open(self) -> None:
        self.close()

    def send(
        self, program: bytes, payloads: Sequence[bytes], timeout_s: float | None
    ) -> Sequence[Ticket]:
        tickets: list[Ticket] = []
        for payload in payloads:
            executor = self._make_executor(1)
            self._posts[executor.executor_id] = Post(executor)
            tickets += send_calls(executor, program, [payload], timeout_s)
        return tickets

    def look(self) -> tuple[set[Ticket], set[Ticket]]:
        looks = [post.look() for post in self._posts.values()]
        started, ended = zip(*looks, strict=True)
        return set().union(*started), set().union(*ended)

    def fetch(self, ticket: Ticket) -> Letter:
        letter = self._posts[ticket[0]].fetch(ticket)
        self.cancel((ticket,))
        return letter

    def request_id(self, ticket: Ticket) -> str:  # noqa: ARG002 - of none of them
        return ""

    def cancel(self, tickets: Iterable[Ticket]) -> None:
        for executor_id, _, _ in tickets:
            post = self._posts.pop(executor_id)
            post.executor.compute_handler.clear()
            post.remove_all()
            atexit.unregister(post.executor._clean_at_exit)

    def close(self) -> None:
        self.cancel([(executor_id, "", "") for executor_id in tuple(self._posts)])
