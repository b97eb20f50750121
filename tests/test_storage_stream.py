"""Objects that come chunk by chunk, from every kind of store."""

from __future__ import annotations

import random

import pytest

from hstmap.errors import MissingObjectError, StorageError
from hstmap.storage import open_store
from hstmap.storage_errors import EmptyRangeError, ObjectChangedError
from hstmap.storage_stream import CHUNK_NBYTES, open_stream

DATA = random.Random(11).randbytes(3 * CHUNK_NBYTES + 4321)


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request, tmp_path):
    if request.param == "folder":
        return open_store(str(tmp_path))
    if request.param == "memory":
        return open_store(f"memory://{tmp_path.name}")
    return open_store(request.getfixturevalue("s3_bucket"))


def read(stream):
    return b"".join(bytes(chunk) for chunk in stream.chunks)


def test_the_whole_comes_in_order(store):
    store.put("a/b", DATA)
    stream = open_stream(store, "a/b", 0, 10 * len(DATA))
    assert stream.info.nbytes == len(DATA)
    assert read(stream) == DATA


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, 1), (0, CHUNK_NBYTES), (5, CHUNK_NBYTES + 7), (len(DATA) - 3, len(DATA) + 9)],
)
def test_ranges(store, start, end):
    store.put("a", DATA)
    stream = open_stream(store, "a", start, end)
    assert read(stream) == DATA[start:end]
    assert stream.info.nbytes == len(DATA)


@pytest.mark.parametrize("store", ["folder", "s3"], indirect=True)
def test_it_does_not_come_at_once(store):
    store.put("a", DATA)
    chunks = list(open_stream(store, "a", 0, len(DATA)).chunks)
    assert len(chunks) >= 2


def test_requests_and_bytes_are_counted(store):
    store.put("a", DATA)
    read(open_stream(store, "a", 10, 2010))
    assert (store.counts.n_get, store.counts.nbytes_read) == (1, 2000)


@pytest.mark.parametrize("store", ["folder", "s3"], indirect=True)
def test_bytes_are_counted_as_they_come(store):
    store.put("a", DATA)
    stream = open_stream(store, "a", 0, len(DATA))
    next(stream.chunks)
    assert 0 < store.counts.nbytes_read < len(DATA)


def test_an_empty_object_has_no_chunks(store):
    store.put("a", b"")
    stream = open_stream(store, "a", 0, 100)
    assert stream.info.nbytes == 0
    assert read(stream) == b""


def test_past_the_end_is_an_error(store):
    store.put("a", b"12345")
    with pytest.raises(EmptyRangeError):
        open_stream(store, "a", 5, 10)


def test_another_version_is_an_error(store):
    store.put("a", DATA)
    etag = store.head("a").etag
    assert read(open_stream(store, "a", 7, 20, etag)) == DATA[7:20]
    store.put("a", DATA[:-1])
    with pytest.raises(ObjectChangedError):
        open_stream(store, "a", 7, 20, etag)


def test_a_missing_object_is_an_error(store):
    with pytest.raises(MissingObjectError):
        open_stream(store, "nowhere", 0, 10)


def test_a_key_that_cannot_be_one_is_an_error(store):
    with pytest.raises(StorageError, match="cannot be a key"):
        open_stream(store, "a/../b", 0, 10)
