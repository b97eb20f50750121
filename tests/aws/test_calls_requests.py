"""Calls as Lambda's handler makes them: what they leave in the bucket, and say that they asked.

The process that makes calls never uses a store, as in Lambda; so each test has one of its own.
"""

from __future__ import annotations

import base64
import json
import pickle
import subprocess
import sys
from typing import Any

import pytest

from hstmap.storage import RequestCounts, Store, open_store
from hstmap.storage_counts import CallRequests

MAKE_CALLS = """
import json, sys, time
from dataclasses import asdict, replace
from hstmap.aws.calls import Invocation, make_call
from hstmap.aws.event import CallEvent

for fields in json.loads(sys.argv[1]):
    fields["data_range"] = tuple(fields["data_range"])
    end = make_call(CallEvent(**fields), Invocation("id", True, time.time(), 60.0))
    print(json.dumps([end.how, end.requests.as_dict()]))
"""

#: What is sent as the function: it uses the store of its argument, and then ends as told.
FUNCTION = """
import os, signal, time
from hstmap.storage import open_store

def function(url, how):
    store = open_store(url)
    store.put("work", b"123")
    store.get("work")
    if how == "raise":
        raise LookupError("not here")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        os._exit(4)
    if how == "hang":
        time.sleep(3600)
    return b"x" * (300_000 if how == "large" else 3)
"""
WORK = RequestCounts(n_put=1, n_get=1, nbytes_read=3, nbytes_written=3)


def packed_function() -> bytes:
    """The function as Lithops writes it, by value."""
    import cloudpickle

    space: dict[str, Any] = {"__name__": "__main__"}
    exec(FUNCTION, space)  # of no module, as a user's script has
    return pickle.dumps({"func": cloudpickle.dumps(space["function"]), "module_data": {}})


@pytest.fixture
def store(s3_bucket: str) -> Store:
    store = open_store(s3_bucket)
    store.put("lithops.jobs/e-0/f.func.pickle", packed_function())
    return store


def make_calls(store: Store, *hows: str, **changes: Any) -> list[tuple[str, CallRequests]]:
    """Make calls one after another in one environment, and return what is said of them."""
    from hstmap.aws.event import CallEvent

    events = []
    for number, how in enumerate(hows):
        arguments = pickle.dumps({"url": store.url, "how": how})
        payload = {
            "executor_id": "e-0",
            "job_id": "M000",
            "call_ids": [f"{number:05d}"],
            "func_key": "lithops.jobs/e-0/f.func.pickle",
            "execution_timeout": 2 if how == "hang" else 50,
            "data_byte_strs": [arguments],
        }
        event = CallEvent.from_lithops(payload, store.url.removeprefix("s3://"))
        events.append(vars(event) | changes)
    command = [sys.executable, "-c", MAKE_CALLS, json.dumps(events)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return [(how, CallRequests.from_dict(requests)) for how, requests in told]


def statuses(store: Store) -> list[dict[str, Any]]:
    keys = sorted(info.key for info in store.list("lithops.jobs/e-0-M000/"))
    return [json.loads(store.get(key)) for key in keys if key.endswith(".status.json")]


def n_kinds(counts: RequestCounts) -> tuple[int, int]:
    return counts.n_get, counts.n_put


def test_a_call_leaves_two_objects_and_says_what_it_asked_for(store):
    ((how, requests),) = make_calls(store, "fine")
    assert how == "done"
    assert requests.work == WORK
    assert n_kinds(requests.engine) == (1, 2)
    (status,) = statuses(store)
    said = CallRequests.from_dict(status["requests"])
    assert said.work == WORK
    assert n_kinds(said.engine) == (1, 2)  # the answer itself is among them
    result = base64.b64decode(status["result_base64"])
    assert pickle.loads(result) == b"xxx"
    names = [info.key.rpartition("/")[2] for info in store.list("lithops.jobs/e-0-M000/")]
    assert sorted(name.partition(".")[2] for name in names) == ["init", "status.json"]
    assert all(name.startswith("id-") for name in names)


def test_a_large_result_takes_one_more(store):
    ((_, requests),) = make_calls(store, "large")
    assert n_kinds(requests.engine) == (1, 3)
    (output,) = (i for i in store.list("lithops.jobs/e-0-M000/") if i.key.endswith("output.pickle"))
    assert len(pickle.loads(store.get(output.key))) == 300_000


@pytest.mark.parametrize(
    ("how", "told"), [("kill", "MemoryError"), ("exit", "code 4"), ("hang", "longer than 2 s")]
)
def test_what_a_process_asked_for_is_known_after_its_end(store, how, told):
    ((said, requests),) = make_calls(store, how)
    assert told in said
    assert requests.work == WORK
    assert n_kinds(requests.engine) == (1, 2)
    (status,) = statuses(store)
    assert status["exception"] is True
    assert CallRequests.from_dict(status["requests"]).work == WORK


def test_a_function_that_raises_tells_too(store):
    ((how, requests),) = make_calls(store, "raise")
    assert how == "done"
    (status,) = statuses(store)
    assert "not here" in str(status["exc_info"])
    assert requests.work == CallRequests.from_dict(status["requests"]).work == WORK


def test_an_environment_keeps_its_function_also_past_a_failure(store):
    said = make_calls(store, "kill", "raise", "fine", "fine")
    assert [n_kinds(requests.engine)[0] for _, requests in said] == [1, 1, 0, 0]
    assert [requests.work for _, requests in said] == [WORK] * 4


def test_one_event_delivered_twice_leaves_two_answers(store):
    make_calls(store, "fine", "fine", call_id="00000")
    assert len(statuses(store)) == 2
    assert sum(CallRequests.from_dict(s["requests"]).work.n_put for s in statuses(store)) == 2


def test_a_function_that_is_not_there_is_told_and_was_asked_for(store):
    ((how, requests),) = make_calls(store, "fine", function_key="lithops.jobs/none")
    assert how == "done"
    assert requests.work == RequestCounts()
    assert n_kinds(requests.engine) == (1, 2)
    (status,) = statuses(store)
    assert "could not use Lithops" in str(status["exc_info"])


def test_arguments_in_the_bucket_are_asked_for(store):
    arguments = pickle.dumps({"url": store.url, "how": "fine"})
    store.put("lithops.jobs/e-0-M000/aggdata.pickle", b"----" + arguments)
    place = {
        "data": "",
        "data_key": "lithops.jobs/e-0-M000/aggdata.pickle",
        "data_range": (4, 3 + len(arguments)),
    }
    ((how, requests),) = make_calls(store, "fine", **place)
    assert how == "done"
    assert requests.work == WORK
    assert n_kinds(requests.engine) == (2, 2)
