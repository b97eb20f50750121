"""What the progress bar tells, on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest

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

    stage = Stage("count", fail_twice, [Task(str(number), number) for number in range(4)])
    with progress, InProcessEngine(EngineOptions(retries=1), [progress.on_event]) as engine:
        assert len(list(engine.run(stage))) == 5
    assert stream.getvalue().startswith("4 of 4 tasks (100 %)")
    assert (progress.n_done, progress.n_failed) == (4, 2)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_duration_text(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
