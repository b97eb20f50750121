"""Execution environments: their processes from cold start to the end.

An environment is a folder, a Runtime API, limits, and a runtime process in them. What happens
in INIT and in invocations is told as values; what that costs is the caller's to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hstmap.aws.local.endings import Ending, died, timed_out
from hstmap.aws.local.functions import Function
from hstmap.aws.local.launch import Host, launch
from hstmap.aws.local.output import Output
from hstmap.aws.local.processes import marked_processes, youngest_process
from hstmap.aws.local.runtime_api import RuntimeApi

__all__ = ["Environment", "Invocation"]

_SAMPLE_EVERY_S = 0.02
# After its answer a runtime asks for the next event at once, unless something is wrong with it.
_SETTLE_S = 5.0


@dataclass(frozen=True)
class Invocation:
    """One event on its way to a function."""

    request_id: str
    payload: bytes
    client_context: str | None = None


class Environment:
    """One execution environment of a function.

    Parameters
    ----------
    function : Function
        What it is an environment of, as it is now.
    host : Host
        What all environments share.
    """

    def __init__(self, function: Function, host: Host) -> None:
        self.id = uuid.uuid4().hex
        self.function = function
        self.generation = function.generation
        self.log_stream = time.strftime("%Y/%m/%d/[$LATEST]", time.gmtime()) + self.id
        self.idle_since = 0.0
        self.on_line: Callable[[str], None] = lambda _line: None
        self.peak_nbytes = 0
        self._host = host
        self._folder = host.run_folder / "environments" / self.id
        self._limits = host.isolation.make_limits(
            f"{host.run_folder.name}-{self.id[:8]}", str(self._folder), function.memory_mb
        )
        self._api = RuntimeApi()
        self._output: Output | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._exited: asyncio.Task[int] | None = None
        self._sampling: asyncio.Task[None] | None = None
        self._is_killed = False
        self._is_frozen = False

    async def start(self) -> None:
        """Make the folder, the Runtime API and the first runtime process."""
        await self._api.start()
        await self._start_process()

    async def initialise(self, timeout_s: float) -> Ending:
        """Wait until the runtime asks for its first event.

        Parameters
        ----------
        timeout_s : float
            How long INIT may take.

        Returns
        -------
        Ending
            A failed INIT leaves no process behind; `restart` starts another.
        """
        exited = self._require_exited()
        await self._await_first(timeout_s, self._api.init_error, exited)
        if self._api.waiting.is_set():
            return Ending()
        if self._api.init_error.done():
            body = self._api.init_error.result()
            await self._end_process()
            error_type = json.loads(body).get("errorType", "Runtime.Unknown")
            return Ending(body, "error", is_error=True, error_type=error_type)
        if exited.done():
            return await self.death()
        await self._end_process()
        return timed_out(timeout_s)

    async def restart(self) -> None:
        """Start another runtime process, after INIT failed."""
        self._api.reset()
        self._is_killed = False
        await self._start_process()

    async def run(self, invocation: Invocation) -> Ending:
        """Hand one event to the runtime, and wait for its answer, its death or its time-out.

        Parameters
        ----------
        invocation : Invocation
            The event.

        Returns
        -------
        Ending
            After anything but a success of the runtime the environment is of no more use.
        """
        timeout_s = self.function.timeout_s
        headers = {"Lambda-Runtime-Invoked-Function-Arn": self.function.arn}
        if invocation.client_context is not None:
            headers["Lambda-Runtime-Client-Context"] = invocation.client_context
        answer = self._api.deliver(invocation.request_id, invocation.payload, headers, timeout_s)
        exited = self._require_exited()
        # What was killed for its memory before was not the runtime: it is alive.
        self._was_killed_for_memory()
        either: set[asyncio.Future[Any]] = {answer, exited}
        await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        self.sample()
        with contextlib.suppress(OSError):
            # Samples miss what was freed between them.
            self.peak_nbytes = max(self.peak_nbytes, self._limits.peak_nbytes())
        if answer.done() and not self._is_killed:
            return Ending(answer.result().payload, is_error=answer.result().is_error)
        if exited.done() or self._is_killed:
            return await self.death()
        await self._end_process()
        return timed_out(timeout_s)

    async def settle(self) -> bool:
        """Wait until the runtime asks for its next event; False where it does not."""
        exited = self._require_exited()
        await self._await_first(_SETTLE_S, exited)
        return self._api.waiting.is_set() and not exited.done()

    def kill(self) -> None:
        """Kill the processes, as a fault does; `initialise` and `run` then tell of it."""
        if not self._is_killed:
            self._is_killed = True
            self._kill_processes()

    def kill_youngest(self) -> None:
        """Kill the process that was started last, as the kernel may where memory is wanting."""
        youngest = youngest_process(marked_processes(str(self._folder)))
        if youngest is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(youngest, signal.SIGKILL)

    @property
    def is_alive(self) -> bool:
        """Whether the runtime process is there."""
        return self._exited is not None and not self._exited.done()

    def set_cpu(self, share: float | None) -> None:
        """Limit the CPU to this many vCPUs, or not at all."""
        self._limits.set_cpu(share)

    def set_frozen(self, frozen: bool) -> None:
        """Freeze an idle environment, or thaw it."""
        self._is_frozen = frozen
        self._limits.set_frozen(frozen)

    def sample(self) -> None:
        """Look at the memory now, and take in what was printed until now."""
        with contextlib.suppress(OSError):
            self.peak_nbytes = max(self.peak_nbytes, self._limits.sample_nbytes())
        if self._output is not None:
            self._output.drain()

    async def close(self) -> None:
        """Kill the processes and leave nothing behind."""
        if self._sampling is not None:
            self._sampling.cancel()
        await self._end_process()
        await self._api.close()
        await asyncio.to_thread(self._limits.remove)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _start_process(self) -> None:
        plan = launch(self.function, self._host, self._folder, self._api.address, self.log_stream)
        self._output = Output(self._print)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._limits.wrap(plan.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=self._output.write_fd,
                stderr=self._output.write_fd,
                env={"PATH": os.defpath, **plan.environment},
                cwd=plan.folder,
                start_new_session=True,
            )
        finally:
            self._output.close_writer()
        self._exited = asyncio.ensure_future(self._process.wait())
        if self._sampling is None:
            self._sampling = asyncio.ensure_future(self._sample_for_ever())

    def _print(self, line: str) -> None:
        self.on_line(line)

    async def _sample_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_SAMPLE_EVERY_S)
            if not self._is_frozen:
                self.sample()

    async def death(self) -> Ending:
        """Tell of a runtime process that is gone, and why."""
        status = await self._require_exited()
        for_memory = self._was_killed_for_memory()
        await self._end_process()
        if for_memory:
            self.peak_nbytes = self.function.memory_mb << 20
        return died(status, for_memory=for_memory, is_killed=self._is_killed)

    def _was_killed_for_memory(self) -> bool:
        try:
            return self._limits.killed_for_memory()
        except OSError:
            return False

    async def _end_process(self) -> None:
        if self._process is None:
            return
        exited = self._require_exited()
        if not exited.done():
            await asyncio.to_thread(self._kill_processes)
            await asyncio.wait({exited}, timeout=_SETTLE_S)
        if not exited.done() and self._process.returncode is None:
            self._process.kill()
        await exited
        await asyncio.to_thread(self._limits.kill)
        if self._output is not None:
            self._output.drain()
            self._output.close()
        self._output = None

    def _kill_processes(self) -> None:
        if self._process is None:
            return
        # A sandbox ends with the processes in it, and takes note of their end; killed before
        # them it would leave them to a first process that perhaps takes note of nothing.
        is_sandboxed = self._host.isolation.bubblewrap is not None
        any_killed = self._limits.kill(self._process.pid if is_sandboxed else None)
        # One so young that it is not within its limits yet has to be found otherwise.
        if not any_killed and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _await_first(self, timeout_s: float, *others: asyncio.Future[Any]) -> None:
        """Wait until the runtime asks for an event, or something else happens."""
        waiting = asyncio.ensure_future(self._api.waiting.wait())
        try:
            await asyncio.wait(
                {waiting, *others}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            waiting.cancel()

    def _require_exited(self) -> asyncio.Task[int]:
        if self._exited is None:
            raise RuntimeError("the environment was not started")
        return self._exited
