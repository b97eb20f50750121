"""What the progress bar tells, on a terminal and elsewhere."""

from __future__ import annotations

import io
import os
import re
import termios
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.bag.engine import EngineOptions, InProcessEngine, Stage, Task
from hstmap.bag.progress import Progress, duration_text


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_tell_count_rate_failures_and_time_left() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = Progress(1000, unit="image", stream=stream, interval_s=5, clock=clock)
    clock.now += 10
    progress.advance(250, n_failed=3)
    assert stream.getvalue() == ("250 of 1,000 images (25 %), 25.0 images/s, 3 failed, 30 s left\n")


def test_lines_keep_their_distance() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = Progress(100, stream=stream, interval_s=5, clock=clock)
    for _ in range(60):
        clock.now += 0.25
        progress.advance()
    assert len(stream.getvalue().splitlines()) == 3  # 15 s


def test_the_last_line_tells_the_end_once() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(4, stream=stream, interval_s=5, clock=clock) as progress:
        clock.now += 2
        progress.advance(4)
        progress.close()
    assert stream.getvalue() == "4 of 4 tasks (100 %), 2.0 tasks/s\n"


def test_quiet_writes_nothing_and_counts() -> None:
    clock, stream = Clock(), Terminal()
    with Progress(3, stream=stream, quiet=True, clock=clock) as progress:
        clock.now += 60
        progress.advance(3, n_failed=1)
        progress.note("hello")
    assert stream.getvalue() == ""
    assert (progress.n_done, progress.n_failed) == (3, 1)


def test_nothing_done_is_nothing_said() -> None:
    stream = io.StringIO()
    with Progress(3, stream=stream):
        pass
    assert stream.getvalue() == ""


def test_a_note_is_shown_beside_the_figures() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = Progress(8, stream=stream, interval_s=1, clock=clock)
    progress.note("merging")
    clock.now += 4
    progress.advance(4)
    assert "1.0 tasks/s, merging, 4 s left" in stream.getvalue()


def test_a_terminal_gets_a_bar() -> None:
    stream = Terminal()
    with Progress(10, unit="image", stream=stream) as progress:
        progress.advance(10, n_failed=2)
        progress.note("last words")
    text = stream.getvalue()
    assert "\r" in text
    assert "10/10" in text
    assert "2 failed, last words" in text


def test_as_an_observer_it_counts_tasks_and_not_attempts() -> None:
    stream = io.StringIO()
    progress = Progress(0, stream=stream, interval_s=1e9)

    def fail_twice(number: int) -> int:
        if number == 1:
            raise ConnectionError("try again")
        if number == 2:
            raise ValueError("do not")
        return number

    stage = Stage("count", fail_twice, [Task(str(number), number) for number in range(5)])
    with progress, InProcessEngine(EngineOptions(retries=1), [progress.on_event]) as engine:
        assert len(list(engine.run(stage))) == 6
    assert stream.getvalue().startswith("5 of 5 tasks (100 %)")
    assert (progress.n_done, progress.n_failed) == (5, 2)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_duration_text(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


# -- any course of things --------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 9), st.sampled_from([0.0, 1.0, 5.0, 7.5])),
    min_size=1,
    max_size=12,
)


@given(steps=STEPS, n_too_many=st.integers(0, 5))
def test_every_line_adds_up(steps: list[tuple[int, int, float]], n_too_many: int) -> None:
    total = sum(n for n, _, _ in steps) + n_too_many
    clock, stream = Clock(), io.StringIO()
    n_done = n_failed = 0
    with Progress(total, stream=stream, interval_s=5, clock=clock) as progress:
        for n, failed, passed_s in steps:
            clock.now += passed_s
            progress.advance(n, n_failed=min(n, failed))
            n_done += n
            n_failed += min(n, failed)
        assert (progress.n_done, progress.n_failed) == (n_done, n_failed)
    lines = stream.getvalue().splitlines()
    told = []
    for line in lines:
        found = re.match(r"([\d,]+) of ([\d,]+) tasks(?: \((\d+) %\))?, ([\d,.]+) tasks/s", line)
        assert found is not None, line
        told.append(int(found[1].replace(",", "")))
        assert int(found[2].replace(",", "")) == total
        # Whoever reads 100 % takes it for done.
        assert (found[3] == "100") == (told[-1] == total > 0)
        assert ("left" in line) <= (told[-1] < total)
    assert told == sorted(told)
    # The last line is the end of it, if there was anything to tell.
    assert not n_done or told[-1] == n_done
    if n_failed:
        assert f"{n_failed:,} failed" in lines[-1]


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_a_bar_keeps_within_its_terminal(width: int) -> None:
    terminal, side = os.openpty()
    termios.tcsetwinsize(side, (24, width))
    with (
        open(side, "w") as stream,  # noqa: PTH123 - a descriptor
        Progress(100_000, unit="image", stream=stream) as progress,
    ):
        progress.note("0.0123 USD")
        for _ in range(4):
            progress.advance(25_000, n_failed=1_000)
    pieces = []
    with suppress(OSError):  # the end of what the other side wrote, on Linux
        while piece := os.read(terminal, 4096):
            pieces.append(piece)
    os.close(terminal)
    text = b"".join(pieces).decode()
    assert max(map(len, re.split(r"[\r\n]+", text))) <= width
    if width > 100:
        assert "100000/100000" in text
        assert "4,000 failed, 0.0123 USD" in text


def test_more_than_was_expected_moves_the_end() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = Progress(2, stream=stream, interval_s=1, clock=clock)
    progress.expect(2)
    clock.now += 1
    progress.advance(2)
    assert stream.getvalue().startswith("2 of 4 tasks (50 %), 2.0 tasks/s, 1 s left")
    terminal = Terminal()
    with Progress(2, stream=terminal) as bar:
        bar.expect(2)
        bar.advance(2)
    assert "2/4" in terminal.getvalue()


def test_of_an_unknown_number_no_share_is_told() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(0, stream=stream, interval_s=1, clock=clock) as progress:
        clock.now += 2
        progress.advance(3)
    assert stream.getvalue() == "3 of 0 tasks, 1.5 tasks/s\n"


@given(st.floats(0, 1e7))
def test_durations_are_told_to_the_last_unit_shown(seconds: float) -> None:
    text = duration_text(seconds)
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    units = re.findall(r"[a-z]+", text)
    size = {"h": 3600, "min": 60, "s": 1}
    told = sum(n * size[unit] for n, unit in zip(numbers, units, strict=True))
    assert 0 <= round(seconds) - told < size[units[-1]]
    assert all(number < 60 for number, unit in zip(numbers, units, strict=True) if unit != "h")


def test_a_bar_shows_failures_as_they_come_and_ends_its_line() -> None:
    stream = Terminal()
    progress = Progress(2, stream=stream)
    progress.advance(n_failed=1)
    assert (progress.n_done, progress.n_failed) == (1, 1)
    progress.close()
    assert "1/2" in stream.getvalue()
    assert "1 failed" in stream.getvalue()
    assert stream.getvalue().endswith("\n")
