"""Copies that grow: whatever happens on the way, the final name stands for all the bytes."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hstmap.archive.partfile import DamagedCopyError, PartFile, Version

URL = "s3://bucket/a_flt.fits"


def version_of(data, etag=None):
    return Version(URL, len(data), etag or hashlib.md5(data).hexdigest())


def write(part, data):
    with part.stretch() as append:
        append(data)


@settings(max_examples=50)
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6), st.data())
def test_a_copy_that_is_taken_up_again_and_again_is_whole(data, cuts, draw):
    """Stretches of any length, each by another process or by the same."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sub", "a_flt.fits")
        part = PartFile(path)
        part.resume(URL)
        part.start(version_of(data))
        for cut in [*sorted(cut for cut in cuts if cut < len(data)), len(data)]:
            if draw.draw(st.booleans()):
                part = PartFile(path)
                part.resume(URL)
            assert not path.exists()
            write(part, data[part.nbytes : cut])
        part.finish(check_md5=True)
        assert path.read_bytes() == data
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_what_was_written_before_an_exception_stays(tmp_path):
    part = PartFile(tmp_path / "a")
    part.start(version_of(b"abcdef"))

    def break_off():
        with part.stretch() as append:
            append(b"abc")
            raise ConnectionError

    with pytest.raises(ConnectionError):
        break_off()
    again = PartFile(tmp_path / "a")
    again.resume(URL)
    assert again.nbytes == part.nbytes == 3


def test_stretches_are_counted_and_an_earlier_process_is_one(tmp_path):
    part = PartFile(tmp_path / "a")
    part.start(version_of(b"abcdef"))
    assert part.n_stretches == 0
    write(part, b"ab")
    write(part, b"cd")
    assert part.n_stretches == 2
    again = PartFile(tmp_path / "a")
    again.resume(URL)
    assert again.n_stretches == 1


def test_a_longer_part_than_the_object_is_not_gone_on_with(tmp_path):
    part = PartFile(tmp_path / "a")
    part.start(version_of(b"abc"))
    write(part, b"abcdef")
    again = PartFile(tmp_path / "a")
    again.resume(URL)
    assert again.version is None
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_of_the_name_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    part = PartFile(path)
    part.start(version_of(b"newer"))
    write(part, b"new")
    assert path.read_bytes() == b"old"
    write(part, b"er")
    part.finish(check_md5=True)
    assert path.read_bytes() == b"newer"


@pytest.mark.parametrize(
    ("etag", "md5"),
    [
        ("d41d8cd98f00b204e9800998ecf8427e", "d41d8cd98f00b204e9800998ecf8427e"),
        ("d41d8cd98f00b204e9800998ecf8427e-3", None),
        ("D41D8CD98F00B204E9800998ECF8427E", None),
        ('W/"1"', None),
        ("", None),
        (None, None),
    ],
)
def test_which_etags_are_an_md5(etag, md5):
    assert Version(URL, 0, etag).md5 == md5


def test_a_wrong_md5_leaves_nothing(tmp_path):
    part = PartFile(tmp_path / "a")
    part.start(version_of(b"abc", hashlib.md5(b"other").hexdigest()))
    write(part, b"abc")
    with pytest.raises(DamagedCopyError, match="MD5"):
        part.finish(check_md5=True)
    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_was_never_begun_cannot_be_finished(tmp_path):
    part = PartFile(tmp_path / "a")
    (tmp_path / "a.part").write_bytes(b"abc")
    with pytest.raises(DamagedCopyError, match="3 bytes came"):
        part.finish(check_md5=False)
