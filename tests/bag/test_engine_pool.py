"""Workers that do not come up, and workers that run out."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from hstmap.bag import pool as pool_module
from hstmap.bag.engine import EngineOptions, Stage, Task, TransportEngine, make_engine
from hstmap.bag.pilot import PilotTransport
from hstmap.bag.pool import LocalPool, last_words
from hstmap.errors import EngineError

STAGE = Stage("test", abs, [Task("a", -1)])


def engine_with(make_executor: Callable[[int], Any], **settings: Any) -> TransportEngine:
    options = EngineOptions(n_workers=1, **settings)
    pool = LocalPool(make_executor, lambda: "Its log ends:\nthe last line", n_workers=1)
    return TransportEngine(PilotTransport(pool, options), options)


def test_lithops_that_cannot_start_is_told() -> None:
    def broken(_: int) -> Any:
        raise OSError("no space left on the disk")

    engine = engine_with(broken)
    with engine, pytest.raises(EngineError, match=r"could be started: OSError: no space left"):
        list(engine.run(STAGE))


def test_workers_that_never_come_are_not_waited_for() -> None:
    over = threading.Event()

    def slow(_: int) -> Any:
        over.wait(60)
        raise OSError("over")

    engine = engine_with(slow, start_timeout_s=0.3)
    with pytest.raises(EngineError, match=r"no worker came up within start_timeout_s=0\.3"):
        list(engine.run(STAGE))
    over.set()
    engine.close()


class EndedRunner:
    """A process of Lithops' that ended before any worker could say a word."""

    returncode = 1

    def poll(self) -> int:
        return self.returncode


class ExecutorWithEndedRunner:
    """As much of Lithops' executor as a pool uses."""

    def __init__(self) -> None:
        self.compute_handler = self.env = self
        self.jobs = {"job": EndedRunner()}

    def map(self, *_: Any, **__: Any) -> list[Any]:
        return []

    def clear(self) -> None:
        """Nothing to end."""

    def _clean_at_exit(self) -> None:
        """Nothing to clean."""


def test_a_runner_that_ends_at_once_is_told_with_its_log() -> None:
    engine = engine_with(lambda _: ExecutorWithEndedRunner())
    with engine, pytest.raises(EngineError, match=r"(?s)exit status 1\. Its log ends:.*last line"):
        list(engine.run(STAGE))


@pytest.fixture
def no_spares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that Lithops does not replace."""
    monkeypatch.setattr(pool_module, "_N_SPARE_CALLS", 0)


def die_if(wanted: bool) -> int:
    if wanted:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


@pytest.mark.usefixtures("no_spares")
def test_when_all_workers_are_used_up_new_ones_are_started() -> None:
    options = EngineOptions(n_workers=2, retries=1, stragglers=None)
    tasks = [Task(str(n), n < 3) for n in range(6)]
    with make_engine("lithops", options) as engine:
        attempts = list(engine.run(Stage("test", die_if, tasks)))
    of = {key: [a.status for a in attempts if a.task_key == key] for key in "012345"}
    assert of == {key: ["lost", "lost"] if key in "012" else ["ok"] for key in "012345"}


@pytest.mark.parametrize("status", [{}, {"exc_info": "b'not a pickle'"}, {"exc_info": "open('x')"}])
def test_odd_last_words_are_none(status: dict[str, str]) -> None:
    assert last_words(status) is None
