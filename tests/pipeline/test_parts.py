"""Reading what tasks wrote: what it asks for, and what may happen meanwhile."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from hstmap.batch import ImageKey, image_row
from hstmap.errors import StorageError
from hstmap.parts import listed_parts, part_images, placed_images
from hstmap.storage import RequestCounts, Store, open_store
from hstmap.wfc3.catalog import parquet_part
from hstmap.wfc3.measure import empty_sources


@pytest.fixture
def store() -> Store:
    return open_store(f"memory://{uuid.uuid4().hex}/run")


def part(*names: str, outcome: str = "empty", **values: Any) -> bytes:
    """A part whose images have no sources."""
    rows = [image_row(ImageKey(name, f"{name}.fits"), outcome, **values) for name in names]
    return parquet_part(empty_sources(), [row | {"part": "parts/x.parquet"} for row in rows])


def names_in(store: Store, *parts: Any) -> list[list[str]]:
    return [[row["rootname"] for row in rows] for _, rows in part_images(store, parts)]


def test_parts_are_listed_in_order_and_nothing_else_is(store):
    for name in ("b", "a", "c"):
        store.put(f"parts/{name}.parquet", b"x")
    store.put("parts/note.txt", b"x")
    store.put("partsies/d.parquet", b"x")
    assert [info.key[6] for info in listed_parts(store)] == ["a", "b", "c"]


def test_a_part_that_was_listed_is_read_in_one_request(store):
    for name in ("a", "b", "c"):
        store.put(f"parts/{name}.parquet", part(name))
    listed = listed_parts(store)
    before = store.counts + RequestCounts()
    assert names_in(store, *listed) == [["a"], ["b"], ["c"]]
    assert (store.counts - before).n_requests == len(listed)


def test_a_part_can_be_named_by_its_key(store):
    store.put("parts/a.parquet", part("one", "two"))
    assert names_in(store, "parts/a.parquet") == [["one", "two"]]


def test_a_part_that_a_twin_wrote_again_meanwhile_is_read_as_it_is_now(store):
    store.put("parts/a.parquet", part("one"))
    listed = listed_parts(store)
    store.put("parts/a.parquet", part("one", message="by the twin, and longer"))
    ((key, (row,)),) = part_images(store, listed)
    assert (key, row["message"]) == ("parts/a.parquet", "by the twin, and longer")


@pytest.mark.parametrize("content", [b"", b"junk" * 100, part("one")[:-20]])
def test_what_is_no_part_is_named(store, content):
    store.put("parts/a.parquet", content)
    with pytest.raises(StorageError, match=r"parts/a\.parquet.*delete it"):
        list(part_images(store, listed_parts(store)))


def test_a_part_that_is_gone_is_named(store):
    store.put("parts/a.parquet", part("one"))
    listed = listed_parts(store)
    store.delete("parts/a.parquet")
    with pytest.raises(StorageError, match=r"a\.parquet"):
        list(part_images(store, listed))


def test_the_best_outcome_of_an_image_counts(store):
    store.put("parts/a.parquet", part("one", outcome="failed"))
    store.put("parts/b.parquet", part("one", outcome="empty"))
    store.put("parts/c.parquet", part("one", outcome="missing"))
    placed = placed_images(store)
    assert placed["one"].part == "parts/b.parquet"
    assert (placed["one"].start, placed["one"].stop) == (0, 0)
