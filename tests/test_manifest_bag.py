"""Bags of the images of a manifest."""

from __future__ import annotations

from pathlib import Path

import pytest

import hstmap
from hstmap.archive.manifest import Manifest
from hstmap.errors import UsageError

ROWS = [
    {
        "rootname": f"ib1f23a{letter}q",
        "key": f"ib1f23a{letter}q_flt.fits",
        "filter": "F160W" if n % 3 else "F125W",
    }
    for n, letter in enumerate("abcdefghij")
]


@pytest.fixture
def manifest() -> Manifest:
    return Manifest.from_rows(ROWS, store="s3://stpubdata/hst/public")


def test_the_items_are_the_rows_with_their_urls(manifest: Manifest) -> None:
    bag = hstmap.from_manifest(manifest, partition_size=3)
    assert bag.npartitions == 4
    rows = bag.compute()
    assert [row["key"] for row in rows] == [row["key"] for row in ROWS]
    assert rows[0]["url"] == "s3://stpubdata/hst/public/ib1f23aaq_flt.fits"
    assert dict(bag.pluck("filter").frequencies()) == {"F125W": 4, "F160W": 6}
    assert bag.take(2)[1]["key"] == "ib1f23abq_flt.fits"


def test_partitions_are_those_of_a_sequence_of_that_length(manifest: Manifest) -> None:
    for options in ({}, {"npartitions": 3}, {"partition_size": 4}):
        sizes = [
            bag.map_partitions(lambda part: [len(part)]).compute()
            for bag in (
                hstmap.from_manifest(manifest, **options),
                hstmap.from_sequence(ROWS, **options),
            )
        ]
        assert sizes[0] == sizes[1]


def test_rows_are_a_sequence(manifest: Manifest) -> None:
    rows = hstmap.from_manifest(manifest)._node.operation.sequence
    assert list(rows) == rows[:]
    assert rows[-1] == rows[9]
    assert rows[20:] == []
    with pytest.raises(IndexError):
        rows[10]


def test_a_path_is_a_manifest_too(manifest: Manifest, tmp_path: Path) -> None:
    path = str(tmp_path / "manifest.parquet")
    manifest.write(path)
    assert hstmap.from_manifest(path).pluck("url").compute() == manifest.urls
    with pytest.raises(UsageError, match="missing"):
        hstmap.from_manifest(str(tmp_path / "missing.parquet"))
