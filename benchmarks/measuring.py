"""How benchmarks time things and say on what."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARIES = ("hstmap", "sep", "astropy", "numpy", "lithops", "obstore", "arro3-io")


def machine_lines() -> dict[str, str]:
    """Say which machine, when, and with which versions, as lines to print."""
    cpu = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).is_file():
        models = [x.partition(":")[2] for x in info.read_text().splitlines() if "model name" in x]
        cpu = models[0].strip() if models else cpu
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return {
        "machine": f"machine   {cpu}, {os.cpu_count()} cores, {platform.system()}",
        "date": f"date      {datetime.now(UTC).isoformat(timespec='seconds')}",
        "versions": f"versions  Python {platform.python_version()}, {libraries}",
    }


@dataclass(frozen=True)
class Spread:
    """Values of one thing: their median, and the quartiles around it.

    Attributes
    ----------
    values : sequence of float
    """

    values: Sequence[float]

    def as_dict(self) -> dict[str, float]:
        """Give ``median``, ``low`` and ``high`` (the quartiles), and ``n``."""
        median = statistics.median(self.values)
        low, high = median, median
        if len(self.values) > 1:
            low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return {"median": median, "low": low, "high": high, "n": len(self.values)}


@dataclass
class Timings:
    """Times of one thing, s."""

    times_s: list[float] = field(default_factory=list)

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Add the time of what happens inside."""
        started = time.perf_counter()
        yield
        self.times_s.append(time.perf_counter() - started)

    @property
    def median_s(self) -> float:
        """Their median."""
        return statistics.median(self.times_s)

    @property
    def quartiles_s(self) -> tuple[float, float]:
        """The quartiles around it."""
        if len(self.times_s) < 2:
            return self.median_s, self.median_s
        low, _, high = statistics.quantiles(self.times_s, n=4)
        return low, high

    def __str__(self) -> str:
        low, high = self.quartiles_s
        return (
            f"{self.median_s * 1e3:8.2f} ms  ({low * 1e3:.2f} to {high * 1e3:.2f}, "
            f"n = {len(self.times_s)})"
        )

    def as_dict(self) -> dict[str, float]:
        """Give median and quartiles, s."""
        low, high = self.quartiles_s
        return {"median_s": self.median_s, "low_s": low, "high_s": high, "n": len(self.times_s)}


class CallClock:
    """Times calls of functions, wherever they are made from.

    Parameters
    ----------
    owner : object
        What has the functions as attributes: a module or a class.
    names : iterable of str
        Which of them.
    clock : callable, optional
        Returns seconds, by default of the wall clock. `time.thread_time` counts the thread's own
        CPU time, which other jobs on the machine change less.
    """

    def __init__(
        self,
        owner: Any,
        names: tuple[str, ...],
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.times_s: dict[str, float] = dict.fromkeys(names, 0.0)
        self._clock = clock or time.perf_counter
        self._owner = owner
        self._originals = {name: getattr(owner, name) for name in names}

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            started = self._clock()
            try:
                return function(*args, **options)
            finally:
                self.times_s[name] += self._clock() - started

        return call

    def __enter__(self) -> CallClock:
        for name, function in self._originals.items():
            setattr(self._owner, name, self._timed(name, function))
        return self

    def __exit__(self, *exception: object) -> None:
        for name, function in self._originals.items():
            setattr(self._owner, name, function)

    def take(self) -> dict[str, float]:
        """Give the times since the last call of this, and start again."""
        taken, self.times_s = self.times_s, dict.fromkeys(self.times_s, 0.0)
        return taken
