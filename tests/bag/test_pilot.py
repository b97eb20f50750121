"""Workers that say what a script has them say, and end in the middle of it."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import ClassVar

import pytest

from hstmap.bag.engine import Attempt, EngineOptions, Stage, Task, TransportEngine
from hstmap.bag.home import connect_to
from hstmap.bag.pilot import PilotTransport
from hstmap.bag.transport import Call, CallEnded, CallStarted, Report
from hstmap.bag.wire import Program, perform
from hstmap.bag.worker import Hello, Setup, Work
from hstmap.errors import EngineError


class Actor:
    """One worker: a thread that talks to the client as a worker's process does."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.program = Program(b"")
        self.pid = os.getpid()

    def hello(self, index: int = 0) -> None:
        self.connection.send_bytes(pickle.dumps(Hello("stage", self.pid, index)))
        assert isinstance(pickle.loads(self.connection.recv_bytes()), Setup)

    def work(self) -> bytes:
        """Take a task and make its answer, without giving it."""
        work: Work = pickle.loads(self.connection.recv_bytes())
        if work.program is not None:
            self.program = Program(work.program)
        return pickle.dumps(perform(self.program, work.payload))

    def answer(self) -> None:
        self.connection.send_bytes(self.work())


Act = Callable[[Actor], object]


class ScriptedPool:
    """Keeps workers up that follow a script; each that ends is followed by the next act."""

    everyone: ClassVar[list[threading.Thread]] = []

    def __init__(self, folder: Path, acts: list[Act], n_workers: int = 1) -> None:
        self.address = folder / "s"
        self.n_workers = n_workers
        self.n_starts = 0
        self.closed = False
        self.asked: list[int] = []
        self.why: str | None = None
        self._acts = iter(acts)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self.n_starts += 1
        self._threads = [threading.Thread(target=self._serve) for _ in range(self.n_workers)]
        self.everyone.extend(self._threads)
        for thread in self._threads:
            thread.start()

    def _serve(self) -> None:
        while True:
            with self._lock:
                act = next(self._acts, None)
            if act is None or self.closed:
                return
            try:
                with Connection(connect_to(self.address).detach()) as connection:
                    act(Actor(connection))
            except (EOFError, OSError):
                pass  # the client has gone: the play is over

    def failure(self) -> str | None:
        return None if any(thread.is_alive() for thread in self._threads) else "the play is over"

    def why_lost(self, index: int) -> str | None:
        self.asked.append(index)
        return self.why

    def close(self) -> None:
        self.closed = True

    @classmethod
    def all_gone(cls) -> None:
        """Wait for the end of whoever was a worker; they see it when their clients are closed."""
        while cls.everyone:
            cls.everyone.pop().join(30)


def goes_on(actor: Actor) -> None:
    actor.hello()
    while True:
        actor.answer()


def leaves_before_hello(actor: Actor) -> None:
    """Ends as soon as it is connected."""


def leaves_after_hello(actor: Actor) -> None:
    actor.hello()


def leaves_with_a_task(actor: Actor) -> None:
    actor.hello(index=7)
    actor.work()


def leaves_within_its_answer(actor: Actor) -> None:
    actor.hello()
    answer = actor.work()
    # As `multiprocessing.connection` frames a message: its length, and then half of it.
    os.write(actor.connection.fileno(), struct.pack("!i", len(answer)) + answer[: len(answer) // 2])


def leaves_within_its_hello(actor: Actor) -> None:
    os.write(actor.connection.fileno(), struct.pack("!i", 100) + b"half")


def leaves_after_its_answer(actor: Actor) -> None:
    actor.hello()
    actor.answer()


@contextmanager
def engine_of(pool: ScriptedPool, **settings: object) -> Iterator[TransportEngine]:
    settings = {"retries": 2, "stragglers": None} | settings
    options = EngineOptions(n_workers=pool.n_workers, **settings)  # type: ignore[arg-type]
    with TransportEngine(PilotTransport(pool, options), options) as engine:
        yield engine
    assert pool.closed


def attempts_of(pool: ScriptedPool, n_tasks: int, **settings: object) -> list[Attempt]:
    stage = Stage("test", abs, [Task(str(number), -number) for number in range(n_tasks)])
    with engine_of(pool, **settings) as engine:
        return list(engine.run(stage))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a socket's address has room for a hundred bytes."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.mark.parametrize("leaves", [leaves_with_a_task, leaves_within_its_answer])
def test_a_worker_that_ends_before_its_answer_is_whole_costs_an_attempt(
    folder: Path, leaves: Act
) -> None:
    attempts = attempts_of(ScriptedPool(folder, [leaves, goes_on]), 3)
    lost = [attempt for attempt in attempts if attempt.status == "lost"]
    assert len(lost) == 1
    assert lost[0].error is not None
    assert lost[0].error.type_name == "WorkerLost"
    assert "killed, or out of memory?" in lost[0].error.message
    assert lost[0].nbytes_in > 0
    assert {attempt.task_key: attempt.value for attempt in attempts if attempt.final} == {
        "0": 0, "1": 1, "2": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    "leaves", [leaves_before_hello, leaves_after_hello, leaves_within_its_hello]
)
def test_a_worker_that_ends_without_a_task_costs_none(folder: Path, leaves: Act) -> None:
    attempts = attempts_of(ScriptedPool(folder, [leaves, leaves, goes_on]), 3, retries=0)
    # One that says hello may be handed a task before its end is seen.
    n_lost = sum(attempt.status == "lost" for attempt in attempts)
    assert n_lost <= (2 if leaves is leaves_after_hello else 0)
    assert sum(attempt.final for attempt in attempts) == 3


def test_last_words_count_though_the_worker_is_gone(folder: Path) -> None:
    pool = ScriptedPool(folder, [leaves_after_its_answer])
    (attempt,) = attempts_of(pool, 1, retries=0)
    assert (attempt.status, attempt.value) == ("ok", 0)
    assert pool.asked == []


def test_a_worker_is_cold_once_and_gets_the_program_once_a_stage(folder: Path) -> None:
    programs: list[bool] = []

    def watches(actor: Actor) -> None:
        actor.hello()
        while True:
            work: Work = pickle.loads(actor.connection.recv_bytes())
            programs.append(work.program is not None)
            if work.program is not None:
                actor.program = Program(work.program)
            actor.connection.send_bytes(pickle.dumps(perform(actor.program, work.payload)))

    tasks = [Task(str(number), number) for number in range(3)]
    with engine_of(ScriptedPool(folder, [watches])) as engine:
        cold = [
            attempt.worker.cold
            for function in (abs, float)
            for attempt in engine.run(Stage("test", function, tasks))
            if attempt.worker is not None
        ]
    assert programs == [True, False, False] * 2
    assert cold == [True, False, False, False, False, False]


def test_what_the_pool_knows_of_an_end_is_told(folder: Path) -> None:
    pool = ScriptedPool(folder, [leaves_with_a_task, goes_on])
    pool.why = "the sandbox ran out of memory"
    first, _ = attempts_of(pool, 1)
    assert first.error is not None
    assert first.error.message == "the sandbox ran out of memory"
    assert pool.asked == [7]


def test_tasks_that_end_every_worker_come_to_an_end_themselves(folder: Path) -> None:
    attempts = attempts_of(ScriptedPool(folder, [leaves_with_a_task] * 9, n_workers=3), 3)
    of = {key: [a.status for a in attempts if a.task_key == key] for key in "012"}
    assert of == dict.fromkeys("012", ["lost"] * 3)


def test_workers_that_all_end_at_once_are_started_again(folder: Path) -> None:
    pool = ScriptedPool(folder, [leaves_after_its_answer, leaves_after_its_answer])
    # The threads of the first start have nothing more to play, and those of the second have.
    real = pool.start

    def start() -> None:
        if pool.n_starts:
            pool._acts = iter([goes_on])
        real()

    pool.start = start  # type: ignore[method-assign]
    attempts = attempts_of(pool, 5)
    assert pool.n_starts == 2
    assert sorted(attempt.value for attempt in attempts if attempt.final) == [0, 1, 2, 3, 4]


def test_workers_that_never_say_a_word_are_an_error_of_the_engine(folder: Path) -> None:
    pool = ScriptedPool(folder, [leaves_before_hello] * 3)
    with pytest.raises(EngineError, match="no worker could be started: the play is over"):
        attempts_of(pool, 1)
    assert pool.n_starts == 1


# -- ending calls ----------------------------------------------------------------------------------


def heard(transport: PilotTransport, wanted: type[Report], n: int = 1) -> list[Report]:
    """Poll until there are so many reports of a kind."""
    found: list[Report] = []
    while len(found) < n:
        found += [report for report in transport.poll(10) if isinstance(report, wanted)]
    return found


def test_the_answer_of_a_call_that_was_ended_is_nobodys(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as victim:
        ended = threading.Event()

        def answers_after_its_death(actor: Actor) -> None:
            actor.pid = victim.pid
            actor.hello()
            answer = actor.work()
            assert ended.wait(30)
            actor.connection.send_bytes(answer)

        pool = ScriptedPool(folder, [answers_after_its_death, goes_on])
        transport = PilotTransport(pool, EngineOptions(n_workers=1))
        try:
            transport.begin(Stage("test", abs, []))
            while not transport.n_free:
                transport.poll(10)
            transport.submit([Call(1, -1)])
            heard(transport, CallStarted)
            transport.kill([1])
            assert victim.wait(30) < 0  # by a signal
            ended.set()
            while not transport.n_free:
                assert not [r for r in transport.poll(10) if r.call_id == 1]
            transport.submit([Call(2, -2)])
            (report,) = heard(transport, CallEnded)
            assert isinstance(report, CallEnded)
            assert (report.call_id, report.status, report.value) == (2, "ok", 2)
        finally:
            transport.close()


def test_a_call_that_waits_for_a_worker_can_be_ended(folder: Path) -> None:
    may_leave = threading.Event()

    def comes_late(actor: Actor) -> None:
        assert may_leave.wait(30)
        goes_on(actor)

    transport = PilotTransport(ScriptedPool(folder, [comes_late]), EngineOptions(n_workers=1))
    try:
        transport.begin(Stage("test", abs, []))
        transport.submit([Call(1, -1), Call(2, -2)])
        transport.kill([1])
        may_leave.set()
        (report,) = heard(transport, CallEnded)
        assert report.call_id == 2
        assert transport.names(2).request_id == ""
    finally:
        may_leave.set()
        transport.close()


def test_free_are_the_workers_for_which_nothing_waits(folder: Path) -> None:
    pool = ScriptedPool(folder, [goes_on, goes_on], n_workers=2)
    transport = PilotTransport(pool, EngineOptions(n_workers=2))
    try:
        assert transport.n_free == 0
        transport.begin(Stage("test", abs, []))
        while transport.n_free < 2:
            assert transport.poll(10) == []
        transport.submit([Call(1, -1)])
        assert transport.n_free == 1
        heard(transport, CallEnded)
        assert transport.n_free == 2
    finally:
        transport.close()


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
@pytest.mark.parametrize("act", [goes_on, leaves_with_a_task, leaves_before_hello])
def test_closing_leaves_no_descriptor_open(folder: Path, act: Act) -> None:
    descriptors = Path("/proc/self/fd")
    ScriptedPool.all_gone()
    before = len([*descriptors.iterdir()])
    pool = ScriptedPool(folder, [act, act, goes_on, goes_on], n_workers=2)
    attempts_of(pool, 4)
    pool.all_gone()
    assert len([*descriptors.iterdir()]) == before


def test_what_cannot_be_pickled_is_no_call_for_a_worker(folder: Path) -> None:
    stage = Stage("test", abs, [Task("bad", threading.Lock()), Task("good", -2)])
    with engine_of(ScriptedPool(folder, [goes_on])) as engine:
        of = {attempt.task_key: attempt for attempt in engine.run(stage)}
    assert (of["bad"].status, of["good"].value) == ("unpicklable", 2)
    assert of["bad"].final
    assert of["bad"].worker is None
