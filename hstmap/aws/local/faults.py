"""Faults by script: what goes wrong on AWS once in a while, here exactly when it is asked for."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from hstmap.errors import UsageError

__all__ = ["FAULT_KINDS", "Fault", "FaultScript", "FiredFault"]

FaultKind = Literal[
    "throttle",
    "drop",
    "duplicate",
    "kill-before-init",
    "kill-midway",
    "kill-call",
    "kill-at-response",
    "slow-start",
]

FAULT_KINDS: tuple[FaultKind, ...] = (
    "throttle",
    "drop",
    "duplicate",
    "kill-before-init",
    "kill-midway",
    "kill-call",
    "kill-at-response",
    "slow-start",
)


@dataclass(frozen=True)
class Fault:
    """One thing to go wrong.

    Parameters
    ----------
    kind : str
        ``throttle``: the Invoke call answers 429. ``drop``: an asynchronous event is accepted
        and never runs. ``duplicate``: it runs twice under one request id.
        ``kill-before-init``: the environment dies before its runtime asks for work.
        ``kill-midway``: it dies `delay_s` after it got the event, or as soon as it logs a line
        that contains `at_log`. ``kill-call``: the process that it started last dies `delay_s` after
        the event, as for want of memory: where calls are made in forks, the environment stays.
        ``kill-at-response``: it dies with its work done and its answer
        lost. ``slow-start``: `delay_s` pass before the environment is started.
    function : str
        The functions that it is for: a name, or a pattern as of `fnmatch`.
    n_skip : int
        How many occasions pass unharmed before the first fault.
    n_times : int, optional
        How often it happens, by default once; None for always.
    probability : float
        How likely each occasion goes wrong; drawn from the script's seeded generator.
    delay_s : float
        Seconds, where the kind needs them.
    at_log : str, optional
        The text whose appearance in the function's output triggers ``kill-midway``.
    """

    kind: FaultKind
    function: str = "*"
    n_skip: int = 0
    n_times: int | None = 1
    probability: float = 1.0
    delay_s: float = 0.0
    at_log: str | None = None

    def __post_init__(self) -> None:
        """Refuse a fault that could never happen as it was meant."""
        if self.kind not in FAULT_KINDS:
            raise UsageError(
                f"there is no fault {self.kind!r}: take one of {', '.join(FAULT_KINDS)}"
            )
        if not 0 <= self.probability <= 1:
            raise UsageError(f"a fault's probability is {self.probability}: give 0 to 1")
        if self.at_log is not None and self.kind != "kill-midway":
            raise UsageError(f"at_log is for kill-midway only, and this is {self.kind}")


@dataclass(frozen=True)
class FiredFault:
    """A fault that happened: which, to which function and to which request."""

    fault: Fault
    function: str
    request_id: str


class FaultScript:
    """The faults still to come, and those that happened; safe to use from any thread.

    Parameters
    ----------
    faults : tuple of Fault
        What is scripted from the start.
    seed : int
        Seeds the draws of faults with a probability under one.
    """

    def __init__(self, faults: tuple[Fault, ...] = (), seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._pending: list[_Pending] = [_Pending(fault) for fault in faults]
        self._fired: list[FiredFault] = []

    def add(self, *faults: Fault) -> None:
        """Script further faults; the first that matches an occasion is the one that happens."""
        with self._lock:
            self._pending.extend(_Pending(fault) for fault in faults)

    def clear(self) -> None:
        """Forget the faults still to come; those that happened stay in `fired`."""
        with self._lock:
            self._pending.clear()

    def reseed(self, seed: int) -> None:
        """Start the draws of faults with a probability under one afresh."""
        with self._lock:
            self._random.seed(seed)

    @property
    def fired(self) -> tuple[FiredFault, ...]:
        """The faults that happened, in order."""
        with self._lock:
            return tuple(self._fired)

    def fire(self, kind: FaultKind, function: str, request_id: str) -> Fault | None:
        """Tell the script of an occasion for a fault, and learn whether it happens.

        Parameters
        ----------
        kind : str
            What could go wrong here.
        function : str
            The name of the function.
        request_id : str
            The invocation's request id.

        Returns
        -------
        Fault or None
            The fault that happens now.
        """
        with self._lock:
            for pending in self._pending:
                if pending.happens(kind, function, self._random):
                    self._fired.append(FiredFault(pending.fault, function, request_id))
                    return pending.fault
            return None


class _Pending:
    """A scripted fault with what is left of its counts."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._n_to_skip = fault.n_skip
        self._n_fired = 0

    def happens(self, kind: str, function: str, generator: random.Random) -> bool:
        fault = self.fault
        if fault.kind != kind or not fnmatchcase(function, fault.function):
            return False
        if fault.n_times is not None and self._n_fired >= fault.n_times:
            return False
        if self._n_to_skip > 0:
            self._n_to_skip -= 1
            return False
        if fault.probability < 1 and generator.random() >= fault.probability:
            return False
        self._n_fired += 1
        return True
