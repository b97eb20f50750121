"""Invocations: an environment for each, warm or cold, and what is reported and logged of it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from hstmap.aws.local.admission import CpuGate
from hstmap.aws.local.endings import Ending, error_payload
from hstmap.aws.local.environments import Environment, Invocation
from hstmap.aws.local.faults import FaultScript
from hstmap.aws.local.functions import Function
from hstmap.aws.local.launch import Host
from hstmap.aws.local.logs import LogBatch
from hstmap.aws.local.options import LocalAwsOptions
from hstmap.aws.local.runs import InvocationRecord, Run

__all__ = ["Invoker", "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """What a client gets of an invocation: JSON, whether it is an error, the end of the log."""

    payload: bytes
    is_error: bool
    log_tail: bytes


class Invoker:
    """Runs invocations on environments, and keeps idle ones warm.

    Parameters
    ----------
    options : LocalAwsOptions
        INIT's time-out, and the cores.
    host : Host
        What environments are started with.
    faults : FaultScript
        What goes wrong.
    put_log : callable
        Takes the log events of each invocation.
    """

    def __init__(
        self,
        options: LocalAwsOptions,
        host: Host,
        faults: FaultScript,
        put_log: Callable[[LogBatch], None],
    ) -> None:
        self._options = options
        self._host = host
        self._faults = faults
        self._put_log = put_log
        self._idle: dict[str, list[Environment]] = {}
        self._alive: set[Environment] = set()
        # INIT has all the CPU it wants, so the shares say nothing of it.
        self._inits = asyncio.Semaphore(os.cpu_count() or 1)
        self.cpu = CpuGate(options.admitted_cores)
        self.records: list[InvocationRecord] = []

    async def run(self, function: Function, invocation: Invocation) -> Outcome:
        """Run one invocation, for which the concurrency was taken.

        Parameters
        ----------
        function : Function
            The function.
        invocation : Invocation
            The event.

        Returns
        -------
        Outcome
            Errors of the function and of its environment are outcomes too.
        """
        async with self.cpu.hold(min(function.cpu_share, self._options.admitted_cores)):
            environment = await self._warm(function)
            is_cold = environment is None
            if environment is None:
                environment = Environment(function, self._host)
                self._alive.add(environment)
            run = Run(environment, function, invocation, is_cold=is_cold)
            is_reusable = False
            try:
                outcome = await self._run_on(run)
                is_reusable = await self._can_stay(run)
            finally:
                if not is_reusable:
                    await self._end(environment)
            self._put_log(run.log_batch())
            self.records.append(run.record())
            return outcome

    async def retire(self, function: Function) -> None:
        """End the idle environments of a function that changed or is gone."""
        for environment in self._idle.pop(function.arn, []):
            await self._end(environment)

    async def end_expired(self) -> None:
        """End the environments that were idle for too long."""
        oldest = time.monotonic() - self._options.keep_warm_s
        for idle in self._idle.values():
            for environment in [e for e in idle if e.idle_since <= oldest]:
                idle.remove(environment)
                await self._end(environment)

    async def end_all(self) -> None:
        """End all environments."""
        self._idle.clear()
        await asyncio.gather(*(self._end(environment) for environment in list(self._alive)))

    async def _warm(self, function: Function) -> Environment | None:
        idle = self._idle.get(function.arn, [])
        while idle:
            # The latest used first, so that the others grow old and end.
            environment = idle.pop()
            if environment.is_alive:
                environment.set_frozen(False)
                return environment
            await self._end(environment)
        return None

    async def _run_on(self, run: Run) -> Outcome:
        environment, function = run.environment, run.function
        environment.on_line = run.print_line
        ending = Ending()
        if run.is_cold:
            doomed = self._faults.fire("kill-before-init", function.name, run.request_id)
            ending = await self._initialise(run, is_doomed=doomed is not None)
        if ending.status == "success":
            run.start()
            ending = await self._answer(run)
        run.end(ending)
        return Outcome(error_payload(run.request_id, ending), ending.is_error, run.tail())

    async def _initialise(self, run: Run, *, is_doomed: bool) -> Ending:
        """INIT, and where it fails once more as a part of the invocation, as AWS does it."""
        environment = run.environment
        late = self._faults.fire("slow-start", run.function.name, run.request_id)
        if late is not None:
            await asyncio.sleep(late.delay_s)
        run.write(run.system.init_start())
        async with self._inits:
            run.clock_init()
            await environment.start()
            if is_doomed:
                environment.kill()
            ending = await environment.initialise(self._options.init_timeout_s)
            run.init_ended(ending, "init")
        environment.set_cpu(run.function.cpu_share)
        if ending.status == "success":
            return ending
        run.clock_duration()
        run.clock_init()
        await environment.restart()
        if is_doomed:
            environment.kill()
        ending = await environment.initialise(run.function.timeout_s)
        run.init_ended(ending, "invoke")
        if ending.status != "success":
            run.start()
        return ending

    async def _answer(self, run: Run) -> Ending:
        environment, name = run.environment, run.function.name
        killed = self._faults.fire("kill-midway", name, run.request_id)
        timer = None
        if killed is not None and killed.at_log is not None:
            run.kill_at = killed.at_log
        elif killed is not None:
            timer = asyncio.get_running_loop().call_later(killed.delay_s, environment.kill)
        elif (hurt := self._faults.fire("kill-call", name, run.request_id)) is not None:
            timer = asyncio.get_running_loop().call_later(hurt.delay_s, environment.kill_youngest)
        run.clock_duration()
        ending = await environment.run(run.invocation)
        if timer is not None:
            timer.cancel()
        if ending.status == "success" and self._faults.fire(
            "kill-at-response", name, run.request_id
        ):
            environment.kill()
            ending = await environment.death()
        return ending

    async def _can_stay(self, run: Run) -> bool:
        environment, function = run.environment, run.function
        if run.ending.status != "success" or not await environment.settle():
            return False
        if environment.generation != function.generation:
            return False
        environment.on_line = run.ignore_line
        environment.set_frozen(True)
        environment.idle_since = time.monotonic()
        self._idle.setdefault(function.arn, []).append(environment)
        return True

    async def _end(self, environment: Environment) -> None:
        if environment in self._alive:
            self._alive.discard(environment)
            await environment.close()
