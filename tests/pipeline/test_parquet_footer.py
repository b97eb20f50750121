"""The same metadata in any order makes the same file, which every reader reads as before."""

from __future__ import annotations

import io
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from arro3.core import Array, RecordBatch
from arro3.io import write_parquet
from hypothesis import given, settings
from hypothesis import strategies as st

from hstmap.parquet_footer import sort_metadata

BATCH = RecordBatch.from_pydict({"x": Array.from_numpy(np.arange(5.0))})
#: Lengths on both sides of where a number takes a second and a third byte.
TEXTS = st.text(max_size=20) | st.sampled_from(["v" * n for n in (126, 127, 128, 16383, 16384)])


def written(metadata) -> bytes:
    file = io.BytesIO()
    write_parquet(BATCH, file, key_value_metadata=metadata, skip_arrow_metadata=True)
    return file.getvalue()


def sorted_file(content: bytes, metadata) -> bytes:
    file = io.BytesIO(content)
    sort_metadata(file, metadata)
    assert file.tell() == len(content)
    return file.getvalue()


@settings(max_examples=60, deadline=None)
@given(metadata=st.dictionaries(st.text(min_size=1, max_size=8), TEXTS, max_size=6))
def test_files_of_the_same_metadata_are_the_same_bytes(metadata):
    contents = {sorted_file(written(metadata), metadata) for _ in range(4)}
    assert len(contents) == 1
    (content,) = contents
    told = pq.read_metadata(io.BytesIO(content)).metadata or {}
    assert {key.decode(): value.decode() for key, value in told.items()} == metadata
    assert pq.read_table(io.BytesIO(content))["x"].to_pylist() == [0, 1, 2, 3, 4]


def test_without_it_they_are_not():
    metadata = {name: name * 3 for name in "abcdefgh"}
    assert len({written(metadata) for _ in range(20)}) > 1


def test_a_value_that_looks_like_another_entry_is_left_whole():
    inner = "\x18\x01a\x18\x01b\x00"
    metadata = {"z": inner, "a": "b"}
    for _ in range(10):
        content = sorted_file(written(metadata), metadata)
        told = pq.read_metadata(io.BytesIO(content)).metadata
        assert told == {b"z": inner.encode(), b"a": b"b"}


def test_a_file_whose_entries_are_elsewhere_stays_as_it_is():
    table = pa.table({"x": [1.0]}).replace_schema_metadata({"b": "2", "a": "1"})
    file = io.BytesIO()
    pq.write_table(table, file)
    content = file.getvalue()
    assert sorted_file(content, {"a": "1", "b": "3"}) == content
    (nbytes,) = struct.unpack("<I", content[-8:-4])
    assert 0 < nbytes < len(content)
