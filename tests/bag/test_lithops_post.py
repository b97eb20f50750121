"""What calls leave in Lithops' storage: seen, read, accounted for, removed."""

from __future__ import annotations

import base64
import json
import pickle
from types import SimpleNamespace
from typing import Any

import pytest

from hstmap.bag.lithops_post import Post
from hstmap.bag.wire import Reply
from hstmap.errors import EngineError
from hstmap.storage_counts import CallRequests, RequestCounts

CALL = CallRequests(RequestCounts(n_get=3), RequestCounts(n_get=1, n_put=2))
REPLY = Reply("ok", b"value", b"", None, "host", 7, 1.0, 2.0, 1024, RequestCounts(n_get=3))
FOLDER = "lithops.jobs/abc-1-M000/00000"
TICKET = ("abc-1", "M000", "00000")
FUNCTION = "lithops.jobs/abc-1/hash.func.pickle"


class Storage:
    """Lithops' storage, of which everything is in memory and every request is noted."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []

    def list_keys(self, bucket: str, prefix: str) -> list[str]:
        assert bucket == "bucket"
        self.asked.append("list")
        return sorted(key for key in self.objects if key.startswith(prefix))

    def get_object(self, bucket: str, key: str) -> bytes:
        from lithops.storage.utils import StorageNoSuchKeyError

        self.asked.append(f"get {key}")
        if key not in self.objects:
            raise StorageNoSuchKeyError(bucket, key)
        return self.objects[key]

    def delete_objects(self, _bucket: str, keys: list[str]) -> None:
        self.asked.append(f"delete {len(keys)}")
        for key in keys:
            self.objects.pop(key, None)


@pytest.fixture
def storage() -> Storage:
    return Storage()


@pytest.fixture
def post(storage: Storage) -> Post:
    return Post(
        SimpleNamespace(
            executor_id="abc-1", storage=storage, internal_storage=SimpleNamespace(bucket="bucket")
        )
    )


def answer(name: str = "id-1", **changes: Any) -> bytes:
    """What a worker of hstmap's writes."""
    result = base64.b64encode(pickle.dumps(pickle.dumps(REPLY))).decode()
    status = {
        "activation_id": name.partition("-")[0],
        "worker_cold_start": True,
        "worker_start_tstamp": 10.0,
        "worker_end_tstamp": 12.5,
        "requests": CALL.as_dict(),
        "result_base64": result,
    }
    return json.dumps(status | changes).encode()


def leave(storage: Storage, *names: str, folder: str = FOLDER) -> None:
    """Let invocations begin and answer."""
    for name in names:
        storage.objects[f"{folder}/{name}.init"] = b""
        storage.objects[f"{folder}/{name}.status.json"] = answer(name)


def test_calls_are_seen_to_start_and_to_end(storage, post):
    assert post.look() == (set(), set())
    storage.objects[f"{FOLDER}/id-1.init"] = b""
    assert post.look() == ({TICKET}, set())
    storage.objects[f"{FOLDER}/id-1.status.json"] = answer()
    assert post.look() == ({TICKET}, {TICKET})


def test_an_answer_is_read_with_its_requests(storage, post):
    leave(storage, "id-1")
    post.look()
    letter = post.fetch(TICKET)
    assert letter.reply == REPLY
    assert letter.requests == CALL
    assert (letter.cold, letter.request_id, letter.handler_s) == (True, "id", 2.5)


def test_answers_of_lithops_own_worker_are_read_too(storage, post):
    result = str(pickle.dumps(pickle.dumps(REPLY)))
    status = {"activation_id": "id", "worker_cold_start": False, "result": result}
    storage.objects[f"{FOLDER}/id.init"] = b""
    storage.objects[f"{FOLDER}/status.json"] = json.dumps(status).encode()
    assert post.look() == ({TICKET}, {TICKET})
    letter = post.fetch(TICKET)
    assert (letter.reply, letter.requests) == (REPLY, None)
    post.remove_all()
    assert (post.silent, post.strays) == ((), CallRequests())


@pytest.mark.parametrize("name", ["", "id-1."])
def test_a_large_result_is_an_object_of_its_own(storage, post, name):
    status = json.loads(answer("id-1"))
    del status["result_base64"]
    storage.objects[f"{FOLDER}/{name}status.json"] = json.dumps(status).encode()
    post.look()
    with pytest.raises(EngineError, match="not there yet"):
        post.fetch(TICKET)
    storage.objects[f"{FOLDER}/{name}output.pickle"] = pickle.dumps(pickle.dumps(REPLY))
    assert post.fetch(TICKET).reply == REPLY
    post.remove_all()
    assert storage.objects == {}


@pytest.mark.parametrize("content", [b"", None])
def test_an_answer_that_is_not_whole_yet_is_read_later(storage, post, content):
    leave(storage, "id-1")
    post.look()
    key = f"{FOLDER}/id-1.status.json"
    storage.objects[key] = content or b""
    if content is None:
        del storage.objects[key]
    with pytest.raises(EngineError, match="cannot be read"):
        post.fetch(TICKET)
    storage.objects[key] = answer()
    assert post.fetch(TICKET).reply == REPLY


def test_two_invocations_of_a_call_are_accounted_for_one_as_a_stray(storage, post):
    leave(storage, "id-1", "id-2")
    post.look()
    assert post.fetch(TICKET).requests == CALL
    post.remove_all()
    assert post.strays == CALL
    assert post.silent == ()


def test_who_began_and_never_answered_is_silent(storage, post):
    leave(storage, "id-1")
    storage.objects["lithops.jobs/abc-1-M001/00003/gone-7.init"] = b""
    post.look()
    post.fetch(TICKET)
    post.remove_all()
    assert post.silent == ("gone-7",)
    assert storage.objects == {}


def test_who_answers_between_two_stages_is_no_longer_silent(storage, post):
    storage.objects[f"{FOLDER}/slow-1.init"] = b""
    storage.objects[FUNCTION] = b"f"
    post.look()
    post.settle()
    assert FUNCTION in storage.objects  # Lithops does not send it again
    storage.objects[f"{FOLDER}/slow-1.status.json"] = answer("slow-1")
    post.remove_all()
    assert (post.silent, post.strays) == ((), CALL)
    assert storage.objects == {}


def test_an_answer_is_read_once(storage, post):
    leave(storage, "id-1", "id-2")
    post.look()
    post.fetch(TICKET)
    post.settle()
    post.settle()
    post.remove_all()
    assert [asked for asked in storage.asked if asked.startswith("get")] == [
        f"get {FOLDER}/id-1.status.json",
        f"get {FOLDER}/id-2.status.json",
    ]
    assert post.strays == CALL


def test_what_was_read_is_removed_on_the_way_and_stays_known(storage, post, monkeypatch):
    monkeypatch.setattr("hstmap.bag.lithops_post._MOST_SPENT", 6)
    for number in range(9):
        leave(storage, f"id-{number}", folder=f"lithops.jobs/abc-1-M000/{number:05d}")
        post.look()
        post.fetch(("abc-1", "M000", f"{number:05d}"))
        assert len(storage.objects) <= 6 + 2
    started, ended = post.look()
    assert len(started) == len(ended) == 9
    post.remove_all()
    assert (post.silent, post.strays) == ((), CallRequests())


def test_what_is_of_another_executor_is_left_alone(storage, post):
    theirs = "lithops.jobs/abc-10-M000/00000"
    leave(storage, "id-1", folder=theirs)
    storage.objects["lithops.jobs/abc-10/hash.func.pickle"] = b"f"
    before = dict(storage.objects)
    assert post.look() == (set(), set())
    post.remove_all()
    assert storage.objects == before
    assert (post.silent, post.strays) == ((), CallRequests())


def test_where_nothing_is_nothing_is_removed(storage, post):
    post.settle()
    post.remove_all()
    assert storage.asked == ["list", "list"]


@pytest.mark.parametrize(
    ("raised", "status", "timed_out"),
    [
        (TimeoutError("HANDLER", "too long"), "TimedOut", True),
        (MemoryError("HANDLER", "killed"), "WorkerLost", False),
        (RuntimeError("ImportError: no module"), "WorkerFailed", False),
    ],
)
def test_a_call_that_failed_tells_its_requests_too(storage, post, raised, status, timed_out):
    told = str(pickle.dumps((type(raised), raised, None)))
    content = answer(exception=True, exc_info=told)
    storage.objects[f"{FOLDER}/id-1.status.json"] = content
    post.look()
    letter = post.fetch(TICKET)
    assert letter.reply is None
    assert (letter.error.type_name, letter.timed_out) == (status, timed_out)
    assert letter.requests == CALL
