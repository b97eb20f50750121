"""A progress bar that counts whatever it is told to: tasks, or the images in them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Self, TextIO

from hstmap.bag.events import AttemptEnded, Event, StageStarted

__all__ = ["Progress", "duration_text"]


class Progress:
    """Shows how far something is: a bar on a terminal, a line every few seconds elsewhere.

    A context manager. As an observer of an engine (`on_event`) it counts tasks by itself; for
    other units, call `advance`.

    Parameters
    ----------
    total : int
        How many units there will be.
    unit : str
        Name of one unit.
    stream : text file
        Where to write; a terminal or not.
    quiet : bool
        Whether to write nothing at all.
    interval_s : float
        Shortest time between two lines where there is no terminal, s.
    clock : callable
        Monotonic time, s.
    """

    def __init__(
        self,
        total: int,
        *,
        unit: str = "task",
        stream: TextIO,
        quiet: bool = False,
        interval_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._unit = unit
        self._stream = stream
        self._quiet = quiet
        self._interval_s = interval_s
        self._clock = clock
        self._n_done = 0
        self._n_failed = 0
        self._note = ""
        self._started = self._last_line = clock()
        self._n_told = -1
        self._bar: Any = None
        if not quiet and stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit=unit, file=stream, dynamic_ncols=True)

    @property
    def n_done(self) -> int:
        """Units that are done, failed ones among them."""
        return self._n_done

    @property
    def n_failed(self) -> int:
        """Units that failed."""
        return self._n_failed

    def on_event(self, event: Event) -> None:
        """Count the tasks of an engine: give this as one of its observers."""
        if isinstance(event, StageStarted):
            self.expect(event.n_tasks)
        elif isinstance(event, AttemptEnded) and event.attempt.final:
            self.advance(1, n_failed=int(event.attempt.status != "ok"))

    def expect(self, n: int) -> None:
        """Make the total larger by ``n`` units."""
        self._total += n
        if self._bar is not None:
            self._bar.total = self._total
            self._bar.refresh()

    def advance(self, n: int = 1, *, n_failed: int = 0) -> None:
        """Count units that have ended.

        Parameters
        ----------
        n : int
            How many ended.
        n_failed : int
            How many of these failed.
        """
        self._n_done += n
        self._n_failed += n_failed
        if self._bar is not None:
            self._bar.set_postfix_str(self._remarks(), refresh=False)
            self._bar.update(n)
        elif self._clock() - self._last_line >= self._interval_s:
            self._write_line()

    def note(self, text: str) -> None:
        """Show a few words beside the figures, until others are given."""
        self._note = text
        if self._bar is not None:
            self._bar.set_postfix_str(self._remarks())

    def close(self) -> None:
        """Show the last state and end; may be repeated."""
        if self._bar is not None:
            self._bar.close()
        elif self._n_told != self._n_done and self._n_done:
            self._write_line()

    def _remarks(self) -> str:
        failures = f"{self._n_failed:,} failed" if self._n_failed else ""
        return ", ".join(filter(None, [failures, self._note]))

    def _write_line(self) -> None:
        self._last_line = self._clock()
        self._n_told = self._n_done
        if self._quiet:
            return
        elapsed_s = self._last_line - self._started
        rate = self._n_done / elapsed_s if elapsed_s > 0 else 0.0
        parts = [f"{self._n_done:,} of {self._total:,} {self._unit}s"]
        if self._total:
            # Rounded down: 100 % says that it is done.
            parts[0] += f" ({100 * self._n_done // self._total} %)"
        parts += [f"{rate:.1f} {self._unit}s/s", self._remarks()]
        if rate > 0 and self._n_done < self._total:
            parts.append(f"{duration_text((self._total - self._n_done) / rate)} left")
        self._stream.write(", ".join(filter(None, parts)) + "\n")
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def duration_text(seconds: float) -> str:
    """Write a duration as people say it.

    Parameters
    ----------
    seconds : float
        Duration, s.

    Returns
    -------
    str
        Such as ``"42 s"``, ``"3 min 05 s"``, ``"2 h 10 min"``.
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
