"""Who made which requests for a run, as its ledger tells it."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from hstmap.account.requests_made import ORIGINS, RequestLog, recorded, requests_of_run
from hstmap.bag.engine import Attempt, EngineOptions, InProcessEngine, Stage, Task
from hstmap.bag.events import AttemptEnded
from hstmap.bag.ledger import Ledger, read_attempts, read_ledger
from hstmap.bag.transport import EngineRequests
from hstmap.errors import ConservationError, UsageError
from hstmap.storage import RequestCounts, Store, open_store
from hstmap.storage_counts import CallRequests

CALL = CallRequests(RequestCounts(n_get=12, n_put=2, nbytes_read=99), RequestCounts(n_put=2))
ENDED = Attempt(
    "map", "parts/1", 1, "ok", final=True, started_s=1.0, ended_s=2.0, requests=CALL
)  # fmt: skip


class Told:
    """An engine of which nothing matters but what it says of its requests."""

    def __init__(self, requests: EngineRequests | None) -> None:
        self.requests = requests


@pytest.fixture(params=["folder", "objects"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A run's place where ledgers grow, and one where they are put segment by segment."""
    is_folder = request.param == "folder"
    return open_store(str(tmp_path) if is_folder else f"memory://{uuid.uuid4().hex}/run")


def command(
    store: Store,
    *attempts: Attempt,
    engine: EngineRequests | None = None,
    error: BaseException | None = None,
) -> Ledger:
    """What `map` does with its ledger."""
    with RequestLog("map") as requests, Ledger(store) as ledger, requests.written_to(ledger):
        requests.watch(Told(engine))  # type: ignore[arg-type]
        with requests.of("sources"):
            list(store.list("images/"))
        store.put("plan.json", b"{}")
        for attempt in attempts:
            ledger(AttemptEnded(attempt, 2.0))
        if error is not None:
            raise error
        with requests.of("reduce"):
            store.get("plan.json")
    return ledger


def test_requests_are_told_apart_by_what_they_were_for(store):
    command(store, ENDED)
    made = requests_of_run(store)
    assert made.by_origin["workers"] == CALL.work
    assert made.by_origin["workers_engine"] == CALL.engine
    assert made.by_origin["sources"] == RequestCounts(n_list=1)
    assert made.by_origin["reduce"] == RequestCounts(n_get=1, nbytes_read=2)
    assert set(made.by_origin) == set(ORIGINS)
    assert (made.silent, made.n_silent_clients, made.notes) == ((), 0, ())


def test_nothing_that_was_asked_of_the_store_is_missing(store):
    """The store's own counts are the judge, the ledger's last segment included."""
    heard = RequestCounts()
    ledger = command(store, ENDED)
    made = requests_of_run(open_store(store.url)).total - CALL.work - CALL.engine
    heard += store.counts
    assert (made.n_get, made.n_list, made.n_put) == (heard.n_get, heard.n_list, heard.n_put)
    assert heard.n_put == 1 + ledger.n_puts_a_segment


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("no room")])
def test_a_command_that_was_stopped_has_left_its_requests(store, error):
    with pytest.raises(type(error)):
        command(store, ENDED, error=error)
    made = requests_of_run(store)
    assert made.by_origin["workers"] == CALL.work
    assert made.by_origin["map"].n_put >= 1
    assert made.n_silent_clients == 0


def test_a_command_leaves_a_ledger_of_its_own_unless_there_is_no_run(store):
    with recorded("reduce", store):
        store.put("sources.parquet", b"x")
    with pytest.raises(ConservationError), recorded("reduce", store):
        raise ConservationError("rows")
    with pytest.raises(UsageError), recorded("reduce", store):
        raise UsageError("no run")
    made = requests_of_run(store)
    assert made.by_origin["reduce"].n_put == store.counts.n_put
    assert sum(entry["event"] == "ledger_opened" for entry in read_ledger(store)) == 2


def test_several_commands_add_up(store):
    for _ in range(3):
        command(store, ENDED)
    with RequestLog("bill") as requests, Ledger(store) as ledger, requests.written_to(ledger):
        store.get("plan.json")
    made = requests_of_run(store)
    assert made.by_origin["workers"] == CALL.work + CALL.work + CALL.work
    assert made.by_origin["sources"].n_list == 3
    assert made.by_origin["bill"].n_get == 1


def test_a_command_that_was_killed_is_named_as_one_that_did_not_tell(store):
    command(store, ENDED)
    Ledger(store).close()
    made = requests_of_run(store)
    assert made.n_silent_clients == 1
    assert "1 commands on this run were killed" in made.notes[0]


def test_attempts_that_died_without_a_word_are_named(store):
    dead = replace(ENDED, status="lost", final=False, requests=None)
    never_started = replace(dead, number=2, started_s=None)
    command(store, dead, replace(dead, number=3, request_id="abc"), never_started)
    made = requests_of_run(store)
    assert made.silent == ("map parts/1 1", "abc")
    assert "2 invocations left no word" in made.notes[0]
    assert made.by_origin["workers"] == RequestCounts()


def test_an_engine_that_sees_every_invocation_knows_better_which_are_silent(store):
    timed_out = replace(ENDED, status="timeout", final=False, requests=None, request_id="late")
    told = EngineRequests(RequestCounts(n_list=7), CALL, ("gone",))
    command(store, timed_out, engine=told)
    made = requests_of_run(store)
    assert made.silent == ("gone",)  # the one that came late has told meanwhile
    assert made.by_origin["client_engine"] == RequestCounts(n_list=7)
    assert made.by_origin["workers"] == CALL.work
    assert made.by_origin["workers_engine"] == CALL.engine + RequestCounts(n_put=1)


def test_what_tells_when_all_is_over_is_found_where_it_was_left(store):
    root = f"memory://{uuid.uuid4().hex}"
    told = EngineRequests(RequestCounts(), silent=("one", "two"), late_url=f"{root}/jobs/e-1-")
    command(store, engine=told)
    assert requests_of_run(store).silent == ("one", "two")
    answers = open_store(root)
    answer = json.dumps({"requests": CALL.as_dict()}).encode()
    answers.put("jobs/e-1-M000/0/two.status.json", answer)  # it was slow
    answers.put("jobs/e-1-M000/0/three.init", b"")  # Lambda delivered an event again,
    answers.put("jobs/e-1-M000/0/three.status.json", answer)
    answers.put("jobs/e-1-M000/0/four.init", b"")  # and again, and then it died
    answers.put("jobs/e-10-M000/0/five.status.json", answer)  # another executor's
    made = requests_of_run(store)
    assert made.silent == ("four", "one")
    assert made.by_origin["workers"] == CALL.work + CALL.work
    began = RequestCounts(n_put=2)
    assert made.by_origin["workers_engine"] == CALL.engine + CALL.engine + began


def test_a_storage_whose_requests_cannot_be_counted_adds_none(store):
    command(store, engine=EngineRequests(client=None))
    assert requests_of_run(store).by_origin["client_engine"] == RequestCounts()


def ask(store: Store) -> bytes:
    """What a task does: two requests; the second one of a missing object, which raises."""
    store.put("part", b"x")
    return store.get("part" if store.exists("there") else "nothing")


@pytest.mark.parametrize("is_there", [True, False])
def test_what_a_task_asks_for_in_this_process_is_a_workers(store, is_there):
    if is_there:
        store.put("there", b"")
    with (
        RequestLog("map") as requests,
        Ledger(store) as ledger,
        requests.written_to(ledger),
        InProcessEngine(EngineOptions(retries=0), [ledger, requests]) as engine,
    ):
        requests.watch(engine)
        list(engine.run(Stage("map", ask, [Task("one", store)])))
    made = requests_of_run(store)
    workers = made.by_origin["workers"]
    assert (workers.n_put, workers.n_head, workers.n_get) == (1, 1, 1)
    assert made.by_origin["map"] == RequestCounts(n_put=ledger.n_puts_a_segment) + RequestCounts(
        nbytes_written=made.by_origin["map"].nbytes_written
    )
    assert made.silent == ()


def test_attempts_bring_their_requests_back_from_the_ledger(store):
    command(store, ENDED, replace(ENDED, number=2, requests=None))
    assert [attempt.requests for attempt in read_attempts(store)] == [CALL, None]
