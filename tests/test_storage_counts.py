"""Counts of requests, and who hears of them."""

from __future__ import annotations

import itertools
import threading
import uuid
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.errors import MissingObjectError, StorageError
from hstmap.storage import Store, open_store
from hstmap.storage_counts import CallRequests, RequestCounts, heard_by, tell

KINDS = tuple(asdict(RequestCounts()))


def counts() -> st.SearchStrategy[RequestCounts]:
    number = st.integers(0, 10**12)
    return st.builds(RequestCounts, **dict.fromkeys(KINDS, number))


@pytest.fixture
def store() -> Store:
    return open_store(f"memory://{uuid.uuid4().hex}")


# -- arithmetic ------------------------------------------------------------------------------------


@given(a=counts(), b=counts(), c=counts())
def test_counts_add_in_any_order(a: RequestCounts, b: RequestCounts, c: RequestCounts):
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + RequestCounts() == a


@given(a=counts(), b=counts())
def test_counts_add_and_take_away(a: RequestCounts, b: RequestCounts):
    assert a + b - b == a
    assert (a + b).n_requests == a.n_requests + b.n_requests


@given(a=counts(), b=counts())
def test_adding_in_place_is_adding(a: RequestCounts, b: RequestCounts):
    summed, changed = a + b, RequestCounts(**asdict(a))
    changed += b
    assert changed == summed


def test_bytes_are_no_requests():
    assert RequestCounts(nbytes_read=7, nbytes_written=8).n_requests == 0
    assert RequestCounts(1, 2, 3, 4, 5).n_requests == 15


@given(work=counts(), engine=counts())
def test_requests_of_a_call_survive_json(work: RequestCounts, engine: RequestCounts):
    call = CallRequests(work, engine)
    assert CallRequests.from_dict(call.as_dict()) == call
    assert (call + call).work == work + work


def test_what_is_zero_takes_no_room():
    call = CallRequests(RequestCounts(n_get=2))
    assert call.as_dict() == {"work": {"n_get": 2}, "engine": {}}


# -- listening -------------------------------------------------------------------------------------


def use(store: Store) -> None:
    """Make each kind of request that a store can make, with and without success."""
    store.put("a/1", b"123")
    store.put("a/1", b"456", if_absent=True)
    store.get("a/1")
    store.head("a/1")
    assert store.exists("a/2") is False
    with pytest.raises(MissingObjectError):
        store.get("a/2")
    assert [info.key for info in store.list("a/")] == ["a/1"]
    assert list(store.list("b/")) == []
    with store.open_ranged("a/1", 2) as file:
        assert file.read() == b"123"
    with store.writer("a/3") as file:
        file.write(b"x" * 10)
    store.delete("a/1")


EXPECTED = RequestCounts(
    n_get=4, n_put=3, n_list=2, n_head=2, n_delete=1, nbytes_read=3 + 2 + 1, nbytes_written=3 + 10
)


def test_a_listener_hears_what_the_store_counts(store):
    heard = RequestCounts()
    with heard_by(heard.__iadd__):
        use(store)
    assert heard == store.counts == EXPECTED


def test_all_stores_are_heard_in_all_threads_and_no_request_is_lost(store):
    heard = RequestCounts()
    n_threads, n_puts = 8, 50
    others = [open_store(store.url) for _ in range(n_threads // 2)]

    def put_many(store: Store) -> None:
        for number in range(n_puts):
            store.put(f"{threading.get_ident()}-{number}", b"x")

    pairs = itertools.islice(itertools.cycle([store, *others]), n_threads)
    threads = [threading.Thread(target=put_many, args=(each,)) for each in pairs]
    with heard_by(heard.__iadd__):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert heard == RequestCounts(n_put=n_threads * n_puts, nbytes_written=n_threads * n_puts)


def test_listeners_within_each_other_both_hear(store):
    outer, inner = RequestCounts(), RequestCounts()
    with heard_by(outer.__iadd__):
        store.put("1", b"")
        with heard_by(inner.__iadd__):
            store.put("2", b"")
        store.put("3", b"")
    store.put("4", b"")
    assert (outer.n_put, inner.n_put) == (3, 1)


def test_a_listener_goes_when_its_block_raises(store):
    heard = RequestCounts()
    with pytest.raises(StorageError), heard_by(heard.__iadd__):
        store.get("nothing")
    store.put("1", b"")
    assert heard == RequestCounts(n_get=1)


def test_a_request_is_told_before_it_is_sent(store, monkeypatch):
    """So that a process which is killed meanwhile has told of it."""
    heard = RequestCounts()

    def break_off(*_: object, **__: object) -> None:
        assert heard.n_put == 1
        raise OSError("cut")

    monkeypatch.setattr("hstmap.storage.obstore.put", break_off)
    with heard_by(heard.__iadd__), pytest.raises(StorageError):
        store.put("1", b"123")
    assert heard == RequestCounts(n_put=1)


def test_nobody_needs_to_listen():
    tell(RequestCounts(n_get=1))


@pytest.mark.parametrize(("n_objects", "n_requests"), [(0, 1), (1, 1), (1000, 1), (1001, 2)])
def test_a_listing_is_a_request_a_thousand_objects(store, n_objects, n_requests):
    for number in range(n_objects):
        store.put(f"{number:04d}", b"")
    heard = RequestCounts()
    with heard_by(heard.__iadd__):
        assert len(list(store.list())) == n_objects
    assert heard == RequestCounts(n_list=n_requests)


def test_a_listing_that_fails_is_a_request(tmp_path, monkeypatch):
    store = open_store(str(tmp_path))
    (tmp_path / "x").write_bytes(b"")

    def fail(*_: object, **__: object) -> object:
        def pages() -> object:
            raise OSError("cut")
            yield

        return pages()

    monkeypatch.setattr("hstmap.storage.obstore.list", fail)
    with pytest.raises(StorageError):
        list(store.list())
    assert store.counts == RequestCounts(n_list=1)
