"""A transport to workers that stay: they are started once and take one call after another.

Workers connect back over a Unix socket. A call costs one message each way, a dead worker shows as
the end of its connection, and nothing is polled for while there is no news.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Protocol

from hstmap.bag.home import listen_at
from hstmap.bag.task import EngineOptions, Stage, WorkerInfo
from hstmap.bag.transport import Call, CallNames, CallStarted, EngineRequests, Report
from hstmap.bag.wire import Packer, Reply, call_ended, call_lost
from hstmap.bag.worker import Hello, Setup, Work
from hstmap.errors import EngineError

__all__ = ["PilotTransport", "WorkerPool"]

_HEALTH_CHECK_S = 0.2


class WorkerPool(Protocol):
    """What starts worker processes and replaces those that die."""

    @property
    def n_workers(self) -> int:
        """Number of workers that are kept running."""

    @property
    def address(self) -> Path:
        """Path for the socket that workers connect to."""

    def start(self) -> None:
        """Start workers, each with `hstmap.bag.worker.serve`; does not wait for them."""

    def failure(self) -> str | None:
        """Return why no more workers will come; None while they may."""

    def why_lost(self, index: int) -> str | None:
        """Return what is known of the end of the worker's call ``index``."""

    def close(self) -> None:
        """End all workers."""


@dataclass(eq=False)
class _Worker:
    """A connected worker."""

    connection: Connection
    info: Hello | None = None
    call_id: int | None = None
    nbytes_in: int = 0
    n_calls: int = 0
    program: bytes | None = None
    doomed: bool = False
    death: int | None = None  # descriptor that turns readable when the process ends


class PilotTransport:
    """Hands calls to workers of this machine.

    Parameters
    ----------
    pool : WorkerPool
    options : EngineOptions
    """

    def __init__(self, pool: WorkerPool, options: EngineOptions) -> None:
        self.requests: EngineRequests | None = None
        self._pool = pool
        self._options = options
        self._listener: socket.socket | None = None
        self._workers: dict[Connection, _Worker] = {}
        self._deaths: dict[int, _Worker] = {}
        self._idle: list[_Worker] = []
        self._backlog: deque[tuple[int, bytes]] = deque()
        self._reports: list[Report] = []
        self._packer: Packer | None = None
        self._program = b""
        self._last_sign_of_life = 0.0
        self._any_hello = False

    @property
    def n_free(self) -> int:
        """Idle workers for which no call waits."""
        return max(0, len(self._idle) - len(self._backlog))

    def begin(self, stage: Stage) -> None:
        """Pack the function of a stage; the first time, start the workers."""
        self._packer = Packer(shared_path=True, include=self._options.include)
        self._program = self._packer.pack_program(stage, self._options.retry_on)
        if self._listener is None:
            self._listener = listen_at(self._pool.address)
            self._start_workers()

    def submit(self, calls: Sequence[Call]) -> None:
        """Hand calls to idle workers."""
        assert self._packer is not None, "begin comes first"
        packed, refused = self._packer.pack_calls(calls)
        self._reports += refused
        self._backlog += [(call.call_id, payload) for call, payload in packed]
        self._dispatch()

    def poll(self, timeout_s: float | None) -> Sequence[Report]:
        """Wait for what workers say.

        Parameters
        ----------
        timeout_s : float, optional
            Longest wait, s.

        Returns
        -------
        sequence of Report

        Raises
        ------
        EngineError
            If no worker can be started.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        n_free = self.n_free
        while True:
            # Listen even if there is news already: an answer that has come must not be taken for
            # one that is overdue.
            wait_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            self._listen(0.0 if self._reports else wait_s)
            if self._reports or self.n_free > n_free or wait_s == 0.0:
                break
        reports, self._reports = self._reports, []
        return reports

    def names(self, call_id: int) -> CallNames:  # noqa: ARG002 - of none of them
        """Say that there is no backend that has names for calls."""
        return CallNames()

    def kill(self, call_ids: Iterable[int]) -> None:
        """Kill the workers that make these calls; others take their places."""
        doomed = set(call_ids)
        self._backlog = deque(item for item in self._backlog if item[0] not in doomed)
        for worker in self._workers.values():
            if worker.call_id in doomed and worker.info is not None:
                worker.call_id = None
                worker.doomed = True  # what it still says, to its end, is nobody's any more
                os.kill(worker.info.pid, signal.SIGKILL)

    def close(self) -> None:
        """End all workers."""
        self._pool.close()
        for worker in self._workers.values():
            worker.connection.close()
        for death in self._deaths:
            os.close(death)
        self._workers.clear()
        self._deaths.clear()
        self._idle.clear()
        if self._listener is not None:
            self._listener.close()

    # -- workers ---------------------------------------------------------------------------------

    def _start_workers(self) -> None:
        self._last_sign_of_life = time.monotonic()
        self._any_hello = False
        self._pool.start()

    def _listen(self, wait_s: float | None) -> None:
        """Take in what the workers have to say, or notice that there are none."""
        assert self._listener is not None, "begin comes first"
        if len(self._workers) < self._pool.n_workers:
            self._check_health()
            wait_s = _HEALTH_CHECK_S if wait_s is None else min(wait_s, _HEALTH_CHECK_S)
        news = wait([self._listener, *self._workers, *self._deaths], wait_s)
        for connection in news:
            if isinstance(connection, Connection):
                self._hear(self._workers[connection])
        for death in news:
            # Last words come first. They end with the end of the connection, unless a child of the
            # worker has it open too.
            if isinstance(death, int) and death in self._deaths:
                worker = self._deaths[death]
                if not worker.connection.poll():
                    self._bury(worker)
        if self._listener in news:
            accepted, _ = self._listener.accept()
            connection = Connection(accepted.detach())
            self._workers[connection] = _Worker(connection)
        self._dispatch()

    def _check_health(self) -> None:
        if self._workers:
            return
        failure = self._pool.failure()
        waited_s = time.monotonic() - self._last_sign_of_life
        if failure is not None and self._any_hello:
            self._start_workers()  # they worked, and died one after another: have new ones
        elif failure is not None:
            raise EngineError(f"no worker could be started: {failure}")
        elif waited_s > self._options.start_timeout_s:
            raise EngineError(
                f"no worker came up within start_timeout_s={self._options.start_timeout_s:g}: the "
                "machine may be overloaded; give more time, or fewer workers"
            )

    def _hear(self, worker: _Worker) -> None:
        self._last_sign_of_life = time.monotonic()
        try:
            message: Hello | Reply = pickle.loads(worker.connection.recv_bytes())
            if isinstance(message, Hello):
                self._any_hello = True
                worker.info = message
                self._watch_process(worker, message.pid)
                setup = Setup(tuple(map(os.path.abspath, sys.path)), tempfile.gettempdir())
                worker.connection.send_bytes(pickle.dumps(setup))
        except (EOFError, OSError):
            self._bury(worker)
            return
        if worker.doomed:
            return
        if isinstance(message, Reply) and worker.call_id is not None:
            self._reports.append(
                call_ended(
                    worker.call_id,
                    message,
                    cold=worker.n_calls == 1,
                    nbytes_in=worker.nbytes_in,
                )
            )
        worker.call_id = None
        self._idle.append(worker)

    def _watch_process(self, worker: _Worker, pid: int) -> None:
        """Learn of the process's end even if a child of it keeps the connection open."""
        if not hasattr(os, "pidfd_open"):
            return  # not Linux: then the end of the connection has to do
        try:
            worker.death = os.pidfd_open(pid)
        except OSError:
            return  # gone already, and then so is the connection; or the sandbox forbids it
        self._deaths[worker.death] = worker

    def _bury(self, worker: _Worker) -> None:
        worker.connection.close()
        del self._workers[worker.connection]
        if worker.death is not None:
            os.close(worker.death)
            del self._deaths[worker.death]
        if worker in self._idle:
            self._idle.remove(worker)
        if worker.call_id is None:
            return
        reason = None if worker.info is None else self._pool.why_lost(worker.info.index)
        reason = reason or "its process ended before it could answer (killed, or out of memory?)"
        self._reports.append(call_lost(worker.call_id, reason, worker.nbytes_in))

    def _dispatch(self) -> None:
        while self._backlog and self._idle:
            worker = self._idle.pop()
            call_id, payload = self._backlog[0]
            news = None if worker.program is self._program else self._program
            try:
                worker.connection.send_bytes(
                    pickle.dumps(Work(news, payload), pickle.HIGHEST_PROTOCOL)
                )
            except OSError:
                self._bury(worker)
                continue
            self._backlog.popleft()
            worker.program = self._program
            worker.call_id, worker.nbytes_in = call_id, len(payload)
            worker.n_calls += 1
            assert worker.info is not None, "an idle worker has said hello"
            info = WorkerInfo(worker.info.host, worker.info.pid, cold=worker.n_calls == 1)
            self._reports.append(CallStarted(call_id, info, time.time()))
