"""Objects under another name: whole, in the place of what was there, and counted."""

from __future__ import annotations

import uuid

import pytest

from hstmap.errors import MissingObjectError, StorageError
from hstmap.storage import RequestCounts, Store, open_store
from hstmap.storage_move import move, remove_empty_folder


@pytest.fixture(params=["folder", "objects"])
def store(request: pytest.FixtureRequest, tmp_path) -> Store:
    is_folder = request.param == "folder"
    return open_store(str(tmp_path) if is_folder else f"memory://{uuid.uuid4().hex}/run")


def test_what_is_moved_is_there_and_nowhere_else(store):
    store.put("old/a", b"content")
    before = store.counts + RequestCounts()
    move(store, "old/a", "new/deep/b")
    assert store.counts - before == RequestCounts(n_put=1, n_delete=1)
    assert [info.key for info in store.list()] == ["new/deep/b"]
    assert store.get("new/deep/b") == b"content"


def test_it_takes_the_place_of_what_is_there(store):
    store.put("a", b"new")
    store.put("b", b"old")
    move(store, "a", "b")
    assert store.get("b") == b"new"
    assert not store.exists("a")


def test_what_is_not_there_cannot_be_moved(store):
    store.put("b", b"old")
    with pytest.raises(MissingObjectError, match="a"):
        move(store, "a", "b")
    assert store.get("b") == b"old"


@pytest.mark.parametrize("key", ["../a", "a//b", ""])
def test_keys_that_are_none_are_refused(store, key):
    store.put("a", b"x")
    for pair in ((key, "b"), ("a", key)):
        with pytest.raises(StorageError, match="cannot be a key"):
            move(store, *pair)


def test_only_empty_folders_are_removed(tmp_path):
    store = open_store(str(tmp_path))
    store.put("f/a", b"x")
    remove_empty_folder(store, "f/")
    assert store.exists("f/a")
    store.delete("f/a")
    remove_empty_folder(store, "f/")
    assert not (tmp_path / "f").exists()
    remove_empty_folder(store, "f/")
    remove_empty_folder(open_store(f"memory://{uuid.uuid4().hex}"), "f/")
