"""Large local reads are mappings, with what is promised of any other read."""

from __future__ import annotations

import mmap
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hstmap.errors import StorageError
from hstmap.storage import open_store
from hstmap.storage_mapped import MAPPED_FROM_NBYTES, map_file

if TYPE_CHECKING:
    from obstore import GetOptions

DATA = os.urandom(MAPPED_FROM_NBYTES) + b"the rest"
linux_only = pytest.mark.skipif(
    not hasattr(mmap, "MADV_WILLNEED"), reason="mapped files are not read ahead here"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "large file.fits"
    path.write_bytes(DATA)
    return path


def backend_path(path: Path) -> str:
    return str(path).lstrip("/")


@linux_only
def test_a_mapping_holds_the_bytes_and_cannot_be_written(path: Path) -> None:
    found = map_file(backend_path(path), {"range": (0, MAPPED_FROM_NBYTES)})
    assert found is not None
    view, _ = found
    assert view == DATA[:MAPPED_FROM_NBYTES]
    assert view.readonly


@linux_only
@pytest.mark.parametrize("options", [{}, {"range": (0, 2 * len(DATA))}])
def test_all_of_a_file_is_mapped_where_that_or_more_is_asked_for(
    path: Path, options: GetOptions
) -> None:
    found = map_file(backend_path(path), options)
    assert found is not None
    assert found[0] == DATA


@linux_only
@pytest.mark.parametrize("name", ["plain.fits", "a b.fits", "100%25 é~#?.fits"])
@pytest.mark.parametrize("modified_ns", [1_700_000_000_123_456_789, 5, -1_500, 2**33 * 10**9])
def test_a_mapped_file_is_the_one_that_was_listed(
    tmp_path: Path, name: str, modified_ns: int
) -> None:
    path = tmp_path / name
    path.write_bytes(DATA)
    os.utime(path, ns=(0, modified_ns))
    store = open_store(str(tmp_path))
    (listed,) = store.list()
    with store.open_ranged(name, len(DATA)) as file:
        assert isinstance(file.view(0, 10).obj, mmap.mmap)
        assert file.info == listed == store.head(name)
    assert store.get_range(name, 0, len(DATA), listed.etag) == DATA


@pytest.mark.parametrize(
    "options",
    [
        {"range": (0, 1000)},
        {"range": (8, len(DATA))},
        {"range": {"offset": 0}},
        {"range": (0, len(DATA)), "if_match": '"of-another-version"'},
    ],
    ids=["short", "not from the start", "in other words", "another version"],
)
def test_what_is_not_worth_it_or_not_sure_is_left_to_others(
    path: Path, options: GetOptions
) -> None:
    assert map_file(backend_path(path), options) is None


def test_what_is_no_file_or_a_small_one_is_left_to_others(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"a few bytes")
    os.mkfifo(tmp_path / "pipe")
    for name in ("gone", "small", "pipe", ""):
        assert map_file(backend_path(tmp_path / name), {"range": (0, len(DATA))}) is None


def test_a_system_that_cannot_read_ahead_maps_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(mmap, "MADV_WILLNEED", raising=False)
    assert map_file(backend_path(path), {}) is None
    assert open_store(str(path.parent)).get(path.name) == DATA


@linux_only
def test_a_large_first_read_of_a_local_file_is_mapped(path: Path) -> None:
    store = open_store(str(path.parent))
    with store.open_ranged(path.name, MAPPED_FROM_NBYTES) as file:
        assert isinstance(file.view(0, 10).obj, mmap.mmap)
        assert file.read() == DATA
        assert file.info == store.head(path.name)
    assert store.counts.n_get == 2
    assert store.counts.nbytes_read == len(DATA)


def test_a_large_file_that_was_replaced_keeps_its_first_bytes_and_refuses_the_rest(
    path: Path,
) -> None:
    store = open_store(str(path.parent))
    file = store.open_ranged(path.name, MAPPED_FROM_NBYTES)
    store.put(path.name, b"b" * (len(DATA) + 1))
    assert file.read(MAPPED_FROM_NBYTES) == DATA[:MAPPED_FROM_NBYTES]
    with pytest.raises(StorageError, match="was replaced while it was being read"):
        file.read()


def resident_nbytes(name: str) -> int:
    """Count the bytes of a mapped file that this process has in its memory."""
    maps = Path("/proc/self/smaps").read_text()
    (found,) = re.findall(rf"{re.escape(name)}\n.*?^Rss:\s+(\d+) kB", maps, re.M | re.S)
    return int(found) * 1024


@linux_only
def test_a_file_that_waits_takes_no_memory_of_the_process(path: Path) -> None:
    file = open_store(str(path.parent)).open_ranged(path.name, len(DATA))
    assert resident_nbytes(path.name) == 0
    assert file.view(0, len(DATA)) == DATA
    assert resident_nbytes(path.name) >= len(DATA)


@linux_only
def test_what_was_viewed_leaves_when_what_follows_is_viewed_and_can_be_viewed_again(
    path: Path,
) -> None:
    file = open_store(str(path.parent)).open_ranged(path.name, len(DATA))
    begin = file.view(0, 800_000)
    assert begin == DATA[:800_000]
    end = file.view(800_001, len(DATA))
    assert resident_nbytes(path.name) < 400_000  # the pages around it come along
    assert (begin, end) == (DATA[:800_000], DATA[800_001:])
    assert file.view(10, 500_000) == DATA[10:500_000]


@linux_only
def test_nothing_stays_mapped_behind_a_closed_file(path: Path) -> None:
    store = open_store(str(path.parent))
    file = store.open_ranged(path.name, len(DATA))
    assert path.name in Path("/proc/self/maps").read_text()
    file.close()
    assert path.name not in Path("/proc/self/maps").read_text()
