"""Workers of this machine, started by Lithops' localhost backend and replaced when they die."""

from __future__ import annotations

import ast
import atexit
import itertools
import os
import pickle
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hstmap.bag.home import home_folder
from hstmap.bag.outcome import attempt_call
from hstmap.bag.worker import serve

__all__ = ["LocalPool", "last_words", "n_cpus"]

_N_SPARE_CALLS = 1000  # as many workers can die before a new job has to be started
_LONGEST_CALL_S = 2_000_000  # poll(2) takes milliseconds as an int: 24 days
_LAST_WORDS_WAIT_S = 0.5
_SOCKET_NUMBERS = itertools.count()


class LocalPool:
    """Workers that Lithops starts and keeps up.

    One Lithops job has a call for each worker and many more. Lithops runs as many calls at a time
    as there are workers, and takes the next call when the process of one dies.

    Parameters
    ----------
    make_executor : callable
        Makes a `lithops.FunctionExecutor` on the localhost backend for a number of workers.
    log_tail : callable
        Returns the end of the log of Lithops' runner.
    n_workers : int
    """

    def __init__(
        self, make_executor: Callable[[int], Any], log_tail: Callable[[], str], n_workers: int
    ) -> None:
        self._make_executor = make_executor
        self._log_tail = log_tail
        self._n_workers = n_workers
        # With the process's number, as a fork of the client has the same folder and count.
        self._address = home_folder() / f"{os.getpid()}-{next(_SOCKET_NUMBERS)}.sock"
        self._starting: threading.Thread | None = None
        self._start_error: str | None = None
        self._executor: Any = None
        self._futures: list[Any] = []
        self._n_started = 0
        self._pid = os.getpid()

    @property
    def n_workers(self) -> int:
        """Number of workers that are kept running."""
        return self._n_workers

    @property
    def address(self) -> Path:
        """Path for the socket that workers connect to."""
        return self._address

    def start(self) -> None:
        """Start the workers; does not wait for them."""
        if not self._n_started:
            atexit.register(self.close)
        self._n_started += 1
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
            self._executor = self._make_executor(self._n_workers)
        calls = [(str(self._address), index) for index in range(self._n_workers + _N_SPARE_CALLS)]
        self._futures = self._executor.map(
            serve, calls, timeout=_LONGEST_CALL_S, include_modules=None
        )

    def failure(self) -> str | None:
        """Return why no more workers will come; None while they may."""
        if self._starting is None or self._starting.is_alive():
            return None
        if self._start_error is not None:
            return self._start_error
        runners = list(self._executor.compute_handler.env.jobs.values())
        if len(runners) < self._n_started or any(runner.poll() is None for runner in runners):
            return None
        return (
            f"Lithops' runner ended with exit status {runners[-1].returncode}. {self._log_tail()}"
        )

    def why_lost(self, index: int) -> str | None:
        """Return what Lithops says of the end of the call ``index``, if it says so soon."""
        if index >= len(self._futures):
            return None
        future = self._futures[index]
        call = (future.executor_id, future.job_id, future.call_id)
        deadline = time.monotonic() + _LAST_WORDS_WAIT_S
        while time.monotonic() < deadline:
            # An error is a status that is just being written.
            status = attempt_call(self._executor.internal_storage.get_call_status, *call).value
            if status is not None and status.get("type") == "__end__":
                told = last_words(status)
                return None if told is None else told[1]
            time.sleep(0.005)
        return None

    def close(self) -> None:
        """End all workers and whatever they started in their process group."""
        if os.getpid() != self._pid:
            return  # in a fork of the client: the workers are not ours
        atexit.unregister(self.close)
        if self._starting is not None:
            self._starting.join()
        if self._executor is not None:
            self._executor.compute_handler.clear()  # kills the runner and all that it forked
            atexit.unregister(self._executor._clean_at_exit)
        self._address.unlink(missing_ok=True)


def last_words(status: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return what the process that watched over a Lithops call says of how it ended.

    Parameters
    ----------
    status : mapping
        The call's status, as Lithops keeps it.

    Returns
    -------
    tuple of str, str
        Name of the exception, and message; None if it was the function that raised.
    """
    told = attempt_call(lambda: pickle.loads(ast.literal_eval(status["exc_info"]))[1])
    if told.error is None and len(told.value.args) == 2 and told.value.args[0] == "HANDLER":
        return type(told.value).__name__, str(told.value.args[1])
    return None


def n_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
