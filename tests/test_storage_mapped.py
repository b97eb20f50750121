"""Large local reads are mappings, with what is promised of any other read."""

from __future__ import annotations

import mmap
import os
import re
from pathlib import Path

import pytest

from hstmap.errors import StorageError
from hstmap.storage import open_store
from hstmap.storage_mapped import MAPPED_FROM_NBYTES, map_range

DATA = os.urandom(MAPPED_FROM_NBYTES) + b"the rest"
linux_only = pytest.mark.skipif(
    not hasattr(mmap, "MADV_WILLNEED"), reason="mapped files are not read ahead here"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "large file.fits"
    path.write_bytes(DATA)
    return path


@linux_only
def test_a_mapping_holds_the_bytes_and_cannot_be_written(path: Path) -> None:
    view = map_range(path, (0, MAPPED_FROM_NBYTES), len(DATA))
    assert view is not None
    assert view == DATA[:MAPPED_FROM_NBYTES]
    assert view.readonly


@pytest.mark.parametrize(
    ("stretch", "size"),
    [
        ((0, 1000), len(DATA)),
        ((8, len(DATA)), len(DATA)),
        ((0, len(DATA)), len(DATA) + 1),
        ((0, len(DATA) - 1), len(DATA) - 1),
    ],
    ids=["short", "not from the start", "smaller than believed", "larger than believed"],
)
def test_what_is_not_worth_it_or_not_sure_is_left_to_others(
    path: Path, stretch: tuple[int, int], size: int
) -> None:
    assert map_range(path, stretch, size) is None


def test_a_file_that_is_gone_is_left_to_others(tmp_path: Path) -> None:
    assert map_range(tmp_path / "gone", (0, len(DATA)), len(DATA)) is None


def test_a_system_that_cannot_read_ahead_maps_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(mmap, "MADV_WILLNEED", raising=False)
    assert map_range(path, (0, len(DATA)), len(DATA)) is None
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
