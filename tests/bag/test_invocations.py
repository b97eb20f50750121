"""What becomes of invocations that are never heard of, or whose storage stumbles."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest

from hstmap.bag.engine import EngineOptions, RemoteError, Stage
from hstmap.bag.invocations import InvocationTransport, Letter, Ticket
from hstmap.bag.transport import Call, CallEnded, CallNames, CallStarted
from hstmap.bag.wire import Program, perform
from hstmap.errors import EngineError

LONGEST_CALL_S = 900.0


class FakeMailbox:
    """Keeps invocations until a test decides what becomes of them."""

    n_slots = 3
    longest_call_s = LONGEST_CALL_S
    poll_interval_s = 2.0
    shared_path = True

    def __init__(self) -> None:
        self.sent: dict[Ticket, tuple[bytes, bytes]] = {}
        self.jobs: list[tuple[float | None, int]] = []  # time limit, calls
        self.started: set[Ticket] = set()
        self.ended: set[Ticket] = set()
        self.cancelled: list[Ticket] = []
        self.letters: dict[Ticket, Letter] = {}
        self.n_looks = 0
        self.n_broken_looks = 0
        self.n_broken_fetches = 0
        self.send_error: Exception | None = None
        self.request_ids: dict[Ticket, str] = {}
        self.closed = False

    def open(self) -> None:
        self.started.clear()
        self.ended.clear()

    def send(
        self, program: bytes, payloads: Sequence[bytes], timeout_s: float | None
    ) -> Sequence[Ticket]:
        if self.send_error is not None:
            raise self.send_error
        tickets = [("executor", "job", str(len(self.sent) + n)) for n in range(len(payloads))]
        self.sent |= dict(zip(tickets, ((program, p) for p in payloads), strict=True))
        self.jobs.append((timeout_s, len(payloads)))
        return tickets

    def look(self) -> tuple[set[Ticket], set[Ticket]]:
        self.n_looks += 1
        if self.n_broken_looks:
            self.n_broken_looks -= 1
            raise ConnectionError("the store stumbles")
        return self.started, self.ended

    def fetch(self, ticket: Ticket) -> Letter:
        if self.n_broken_fetches:
            self.n_broken_fetches -= 1
            raise ValueError("half a status")
        return self.letters[ticket]

    def request_id(self, ticket: Ticket) -> str:
        return self.request_ids.get(ticket, "")

    def cancel(self, tickets: Iterable[Ticket]) -> None:
        self.cancelled += tickets

    def close(self) -> None:
        self.closed = True

    def do(self, ticket: Ticket) -> None:
        """Make the attempt, as a worker would."""
        program, payload = self.sent[ticket]
        self.letters[ticket] = Letter(perform(Program(program), payload), cold=True)
        self.ended.add(ticket)


class World:
    """A transport on a fake mailbox, in which time passes by sleeping only."""

    def __init__(self, start_timeout_s: float = 30.0) -> None:
        self.now = 0.0
        self.mailbox = FakeMailbox()
        self.transport = InvocationTransport(
            self.mailbox,
            EngineOptions(start_timeout_s=start_timeout_s),
            clock=lambda: self.now,
            sleep=self.sleep,
        )
        self.transport.begin(Stage("test", abs, []))

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def send(self, *payloads: object) -> list[Ticket]:
        first = len(self.mailbox.sent)
        self.transport.submit([Call(first + n, payload) for n, payload in enumerate(payloads)])
        return list(self.mailbox.sent)[first:]


@pytest.fixture
def world() -> World:
    return World()


def test_a_value_is_reported_with_its_start(world: World) -> None:
    (ticket,) = world.send(-3)
    assert world.transport.n_free == 2
    world.mailbox.do(ticket)
    started, ended = world.transport.poll(60)
    assert isinstance(started, CallStarted)
    assert isinstance(ended, CallEnded)
    assert (ended.status, ended.value) == ("ok", 3)
    assert ended.worker is not None
    assert ended.worker.cold
    assert world.transport.n_free == 3


def test_waiting_ends_with_the_time_out(world: World) -> None:
    world.send(1)
    assert world.transport.poll(5) == []
    assert world.now == 5
    assert world.transport.poll(0) == []
    assert world.now == 5


def test_a_look_that_found_something_is_not_followed_by_another_at_once(world: World) -> None:
    """Each look is a listing: one an interval, whatever it finds."""
    tickets = world.send(-1, -2, -3)
    seen = []
    for number, ticket in enumerate(tickets):
        world.mailbox.started.add(ticket)
        seen += [(world.now, report) for report in world.transport.poll(None)]
        if number:
            world.mailbox.do(ticket)
    seen += [(world.now, report) for report in world.transport.poll(None)]
    times = [now for now, report in seen if isinstance(report, CallStarted)]
    assert times == [2.0, 4.0, 6.0]
    assert [now for now, report in seen if isinstance(report, CallEnded)] == [6.0, 8.0]
    assert world.mailbox.n_looks == 4


def test_what_was_just_sent_is_not_looked_for_at_once(world: World) -> None:
    (ticket,) = world.send(-1)
    world.mailbox.do(ticket)
    world.transport.poll(None)
    assert (world.now, world.mailbox.n_looks) == (2.0, 1)
    # While others are under way, what is sent does not put the next look off.
    world.send(-2)
    world.now += 1.5
    (late,) = world.send(-3)
    world.mailbox.do(late)
    world.transport.poll(None)
    assert (world.now, world.mailbox.n_looks) == (4.0, 2)


def test_when_the_time_is_over_there_is_a_last_look(world: World) -> None:
    """Who ends a call for its time has seen that it did not end by itself."""
    (ticket,) = world.send(-1)
    assert world.transport.poll(2.5) == []
    world.mailbox.do(ticket)
    assert len(world.transport.poll(0.25)) == 2
    assert (world.now, world.mailbox.n_looks) == (2.75, 3)


def test_who_waits_for_a_time_with_nothing_under_way_sleeps(world: World) -> None:
    assert world.transport.poll(7.0) == []
    assert (world.now, world.mailbox.n_looks) == (7.0, 0)


def test_a_call_that_never_starts_is_lost(world: World) -> None:
    world.send(1)
    (report,) = world.transport.poll(None)
    assert isinstance(report, CallEnded)
    assert report.status == "lost"
    assert report.error is not None
    assert report.error.retryable
    assert "did not start within 30 s" in report.error.message
    assert 30 < world.now <= 32
    assert world.transport.n_free == 3


def test_a_call_that_starts_late_is_not_lost_for_running_long(world: World) -> None:
    (ticket,) = world.send(-1)
    assert world.transport.poll(29) == []
    world.mailbox.started.add(ticket)
    assert [type(report) for report in world.transport.poll(1)] == [CallStarted]
    assert world.transport.poll(800) == []
    world.mailbox.do(ticket)
    assert [report.status for report in world.transport.poll(1)] == ["ok"]  # type: ignore[union-attr]


def test_a_call_that_dies_in_silence_is_lost_at_last(world: World) -> None:
    (ticket,) = world.send(1)
    world.mailbox.started.add(ticket)
    world.transport.poll(0)
    (report,) = world.transport.poll(None)
    assert isinstance(report, CallEnded)
    assert report.status == "lost"
    assert LONGEST_CALL_S < world.now <= LONGEST_CALL_S + 60
    assert world.mailbox.cancelled == [ticket]


def test_storage_may_stumble(world: World) -> None:
    (ticket,) = world.send(-1)
    world.mailbox.do(ticket)
    world.mailbox.n_broken_looks = 4
    world.mailbox.n_broken_fetches = 4
    _, ended = [report for _ in range(2) for report in world.transport.poll(60)]
    assert isinstance(ended, CallEnded)
    assert ended.value == 1


def test_storage_that_is_gone_ends_the_run(world: World) -> None:
    world.send(1)
    world.mailbox.n_broken_looks = 5
    with pytest.raises(EngineError, match=r"cannot be read \(5 times in a row\).*stumbles"):
        world.transport.poll(60)


def test_a_result_that_cannot_be_read_is_a_lost_call(world: World) -> None:
    (ticket,) = world.send(1)
    world.mailbox.do(ticket)
    world.mailbox.n_broken_fetches = 99
    reports = [report for _ in range(2) for report in world.transport.poll(60)]
    assert isinstance(reports[-1], CallEnded)
    assert reports[-1].status == "lost"
    assert reports[-1].error is not None
    assert "half a status" in reports[-1].error.message


def test_a_backend_that_takes_nothing_ends_the_run(world: World) -> None:
    world.mailbox.send_error = OSError("no such function")
    with pytest.raises(EngineError, match="no such function"):
        world.send(1)


@pytest.mark.parametrize("timed_out", [True, False])
def test_what_the_backend_says_of_a_failure_is_kept(world: World, timed_out: bool) -> None:
    (ticket,) = world.send(1)
    error = RemoteError("WorkerLost", "out of memory", retryable=True)
    world.mailbox.letters[ticket] = Letter(None, timed_out=timed_out, error=error)
    world.mailbox.ended.add(ticket)
    _, ended = world.transport.poll(60)
    assert isinstance(ended, CallEnded)
    assert ended.status == ("timeout" if timed_out else "lost")
    assert ended.error == error


def test_killed_calls_are_cancelled_and_forgotten(world: World) -> None:
    first, second = world.send(1, -2)
    world.transport.kill([0])
    assert world.mailbox.cancelled == [first]
    assert world.transport.n_free == 2
    world.mailbox.do(first)
    world.mailbox.do(second)
    _, ended = world.transport.poll(60)
    assert isinstance(ended, CallEnded)
    assert ended.value == 2
    assert world.transport.poll(60) == []


def test_what_cannot_be_pickled_is_not_sent(world: World) -> None:
    world.send(threading.Lock(), -1)
    assert len(world.mailbox.sent) == 1
    (report,) = world.transport.poll(0)
    assert isinstance(report, CallEnded)
    assert report.status == "unpicklable"


def test_workers_are_told_the_limit_of_each_call(world: World) -> None:
    limits = {0: 5.0, 1: None, 2: 5.0}
    world.transport.submit([Call(number, -number, limits[number]) for number in limits])
    assert world.mailbox.jobs == [(5.0, 2), (None, 1)]
    for ticket in world.mailbox.sent:
        world.mailbox.do(ticket)
    ended = [report for report in world.transport.poll(60) if isinstance(report, CallEnded)]
    assert {report.call_id: report.value for report in ended} == {0: 0, 1: 1, 2: 2}


def test_calls_have_the_names_that_the_backend_gives_them(world: World) -> None:
    first, second = world.send(-1, -2)
    assert world.transport.names(0) == CallNames("", "executor-job/0")
    world.mailbox.request_ids |= {first: "a", second: "b"}
    assert world.transport.names(1) == CallNames("b", "executor-job/1")
    world.mailbox.started.add(second)
    (started,) = world.transport.poll(1)
    assert isinstance(started, CallStarted)
    assert started.names == CallNames("b", "executor-job/1")
    world.transport.kill([1])
    assert world.transport.names(1) == CallNames()


@pytest.mark.parametrize("told", ["", "c"])
def test_who_left_a_letter_counts_more_than_who_was_sent(world: World, told: str) -> None:
    (ticket,) = world.send(-1)
    world.mailbox.request_ids[ticket] = "a"
    world.mailbox.do(ticket)
    letter = world.mailbox.letters[ticket]
    world.mailbox.letters[ticket] = replace(letter, request_id=told, handler_s=3.0, init_s=1.0)
    _, ended = world.transport.poll(60)
    assert isinstance(ended, CallEnded)
    assert (ended.handler_s, ended.init_s) == (3.0, 1.0)
    assert ended.names == CallNames(told or "a", "executor-job/0")


def test_calls_that_never_answered_have_their_request_id(world: World) -> None:
    never, silent, failed = world.send(1, 2, 3)
    world.mailbox.request_ids |= {never: "never", silent: "silent", failed: "failed"}
    world.mailbox.started.add(silent)
    world.mailbox.letters[failed] = Letter(None, error=RemoteError("WorkerLost", "gone"))
    world.mailbox.ended.add(failed)
    ended = {}
    while len(ended) < 3:
        reports = world.transport.poll(None)
        ended |= {r.call_id: r for r in reports if isinstance(r, CallEnded)}
    assert [ended[n].names.request_id for n in range(3)] == ["never", "silent", "failed"]
    assert {report.status for report in ended.values()} == {"lost"}


def test_closing_clears_the_mailbox(world: World) -> None:
    world.send(1)
    world.transport.close()
    assert world.mailbox.closed
    assert world.transport.n_free == 3


def test_letters_can_be_pickled(world: World) -> None:
    (ticket,) = world.send(-1)
    world.mailbox.do(ticket)
    assert pickle.loads(pickle.dumps(world.mailbox.letters[ticket])).reply.status == "ok"
