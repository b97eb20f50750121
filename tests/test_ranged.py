"""The file over ranged requests, held against an ordinary file of the same bytes."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.ranged import MIN_FETCH_NBYTES, RangedFile
from hstmap.storage import ObjectInfo


class Source:
    """Bytes behind a ranged file, with a record of what was fetched."""

    def __init__(self, data: bytes, first_nbytes: int) -> None:
        self.data = data
        self.fetched: list[tuple[int, int]] = []
        info = ObjectInfo("key", len(data), "etag", datetime(2026, 1, 1, tzinfo=UTC))
        self.file = RangedFile("/folder/key", info, data[:first_nbytes], self._fetch)

    def _fetch(self, start: int, end: int) -> bytes:
        self.fetched.append((start, end))
        return self.data[start:end]


def pattern(nbytes: int) -> bytes:
    """Bytes in which no two stretches are alike."""
    return b"".join(i.to_bytes(4, "big") for i in range(nbytes // 4 + 1))[:nbytes]


LARGEST = 5 * MIN_FETCH_NBYTES
positions = st.integers(0, LARGEST + 1000)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.one_of(st.integers(-1, 200_000), st.none())),
        st.tuples(st.just("readinto"), st.integers(0, 200_000)),
        st.tuples(st.just("seek"), positions),
        st.tuples(st.just("back"), st.integers(0, 3000)),
    ),
    max_size=12,
)


@given(nbytes=st.integers(0, LARGEST), first_nbytes=st.integers(0, 200_000), todo=actions)
def test_it_reads_as_a_file_does_and_fetches_no_byte_twice(
    nbytes: int, first_nbytes: int, todo: list[tuple[str, int]]
) -> None:
    source = Source(pattern(nbytes), first_nbytes)
    ranged, plain = source.file, io.BytesIO(source.data)
    for action, number in todo:
        if action == "read":
            assert ranged.read(number) == plain.read(number)
        elif action == "readinto":
            ours, theirs = bytearray(number), bytearray(number)
            assert ranged.readinto(ours) == plain.readinto(theirs)
            assert ours == theirs
        elif action == "seek":
            assert ranged.seek(number) == plain.seek(number)
        else:
            offset = -min(number, nbytes)
            assert ranged.seek(offset, io.SEEK_END) == plain.seek(offset, io.SEEK_END)
        assert ranged.tell() == plain.tell()
    taken = [(0, min(first_nbytes, nbytes)), *source.fetched]
    held = sorted(taken)
    assert all(end <= start for (_, end), (start, _) in pairwise(held))
    assert ranged.nbytes_read == sum(end - start for start, end in taken) <= nbytes
    for start, end in source.fetched:
        # A small request is one that had no room: a neighbour or the end of the file bounds it.
        bounded = end == nbytes or any(end == other for other, _ in taken)
        assert end - start >= MIN_FETCH_NBYTES or bounded


def test_a_read_over_a_known_stretch_fetches_the_gaps_alone() -> None:
    source = Source(pattern(10 * MIN_FETCH_NBYTES), 1000)
    middle = 5 * MIN_FETCH_NBYTES
    source.file.seek(middle)
    source.file.read(10)
    source.file.seek(0)
    assert source.file.read() == source.data
    assert source.fetched == [
        (middle, middle + MIN_FETCH_NBYTES),
        (1000, middle),
        (middle + MIN_FETCH_NBYTES, len(source.data)),
    ]


def test_seeking_fetches_nothing() -> None:
    source = Source(pattern(100_000), 10)
    assert source.file.seek(0, io.SEEK_END) == 100_000
    assert source.file.seek(10_000_000) == 10_000_000
    assert source.file.read() == b""
    assert source.file.readinto(bytearray(10)) == 0
    assert source.fetched == []


def test_it_is_a_read_only_binary_file() -> None:
    source = Source(b"line 1\nline 2\n", 3)
    file = source.file
    assert (file.name, file.mode) == ("/folder/key", "rb")
    assert file.readable()
    assert file.seekable()
    assert not file.writable()
    assert file.readlines() == [b"line 1\n", b"line 2\n"]
    file.seek(5)
    assert io.BufferedReader(file).read() == b"1\nline 2\n"


@pytest.mark.parametrize("arguments", [(-1,), (-11, io.SEEK_END), (-1, io.SEEK_CUR), (0, 7)])
def test_a_seek_to_nowhere_is_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"seek|whence"):
        Source(b"0123456789", 4).file.seek(*arguments)


def test_a_closed_file_is_closed() -> None:
    source = Source(b"0123456789", 4)
    with source.file as file:
        assert file.read(2) == b"01"
    assert file.closed
    for act in (file.read, file.tell, file.readable, file.seekable, lambda: file.seek(0)):
        with pytest.raises(ValueError, match="closed file /folder/key"):
            act()
    assert source.fetched == []


def test_an_error_of_the_store_reaches_the_reader_and_can_be_tried_again() -> None:
    source = Source(pattern(200_000), 100)
    fetch, source.file._fetch = source.file._fetch, lambda start, end: 1 / 0
    with pytest.raises(ZeroDivisionError):
        source.file.read()
    assert source.file.tell() == 0
    source.file._fetch = fetch
    assert source.file.read() == source.data


def test_a_closed_file_still_says_how_much_was_read() -> None:
    source = Source(pattern(300_000), 1000)
    source.file.seek(200_000)
    source.file.read(70_000)
    assert source.file.nbytes_read == 71_000
    source.file.close()
    assert source.file.nbytes_read == 71_000
