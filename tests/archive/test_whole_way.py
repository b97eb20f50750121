"""The whole way of an archive's images: asked for, verified, fetched, and listed again."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from hstmap.archive.build import (
    BuildOptions,
    build_manifest,
    update_manifest,
    use_counts,
    verify_manifest,
)
from hstmap.archive.fetch import FetchOptions, fetch
from hstmap.archive.fetch_plan import plan_fetch
from hstmap.archive.manifest import Manifest
from hstmap.archive.offline.rows import MadeArchive
from hstmap.archive.pages import PagingOptions
from hstmap.archive.query import ArchiveQuery
from hstmap.archive.sources import resolve_sources
from hstmap.storage import open_store

ARCHIVE = MadeArchive(36)


@pytest.fixture
def bucket(s3_bucket):
    """An S3 bucket that holds the archive's FLT and IMA, one of them lost."""
    store = open_store(s3_bucket)
    made = ARCHIVE.exposures
    for row, name in enumerate(made["sci_data_set_name"]):
        if made["sci_instrument_config"][row] == "WFC3/IR":
            root = name.lower()
            for product in ("flt", "ima"):
                data = random.Random(f"{root}{product}").randbytes(900 + row)
                store.put(f"hst/public/{root[:4]}/{root}/{root}_{product}.fits", data)
    return store


def test_from_a_question_to_files(serve_mast, patience, bucket, tmp_path):
    serve_mast(ARCHIVE)
    options = BuildOptions(store=bucket.url, paging=PagingOptions(patience=patience))
    manifest = build_manifest(ArchiveQuery(), options)
    lost = next(row for row in manifest.table.to_pylist() if not row["use"])
    bucket.delete(lost["key"])

    verified = verify_manifest(manifest, options)
    counts = use_counts(verified)
    assert counts["missing"] == 1
    assert counts[""] == use_counts(manifest)[""] - 1
    path = str(tmp_path / "manifest.parquet")
    verified.write(path)

    plan = plan_fetch(resolve_sources([path]), tmp_path / "images")
    assert len(plan.files) == counts[""]
    assert plan.nbytes == sum(row["nbytes"] for row in verified.table.to_pylist() if not row["use"])
    report = fetch(plan, FetchOptions(patience=patience, md5="always"))
    assert report.counts == {"fetched": counts[""]}
    for outcome in report.outcomes:
        assert outcome.file.path.read_bytes() == bucket.get(outcome.file.key)

    # What was fetched is a source of its own, with the same names.
    names = set(resolve_sources([str(tmp_path / "images")]).table["rootname"].to_pylist())
    wanted = {row["rootname"] for row in verified.table.to_pylist() if not row["use"]}
    assert names == wanted


def test_a_listing_of_the_same_bucket_knows_the_same_images(
    serve_mast, patience, bucket, monkeypatch
):
    from hstmap.archive import listing

    # Each of the 1,296 prefixes is a request of its own, which moto answers in 5 ms.
    monkeypatch.setattr(listing, "_CHARACTERS", "a0")
    serve_mast(ARCHIVE)
    options = BuildOptions(store=bucket.url, paging=PagingOptions(patience=patience))
    asked = build_manifest(ArchiveQuery(), options)
    listed = build_manifest(ArchiveQuery(source="listing"), options)
    keys = [set(manifest.table["key"].to_pylist()) for manifest in (asked, listed)]
    assert keys[0] == keys[1]
    assert listed.provenance["n_received"] == 36
    # A listing verifies itself.
    assert use_counts(verify_manifest(listed, options)) == {"": 36}


def test_a_manifest_in_every_format_is_fetched_and_updated_alike(
    serve_mast, patience, bucket, tmp_path
):
    serve_mast(ARCHIVE)
    options = BuildOptions(store=bucket.url, paging=PagingOptions(patience=patience))
    manifest = build_manifest(ArchiveQuery(limit=None), options)
    for suffix in (".parquet", ".csv", ".ecsv"):
        path = str(tmp_path / f"manifest{suffix}")
        manifest.write(path)
        again = Manifest.read(path)
        assert again.content_hash == manifest.content_hash
        assert update_manifest(again, options).manifest.content_hash == manifest.content_hash
        assert plan_fetch(again, tmp_path / "to") == plan_fetch(manifest, tmp_path / "to")


def test_an_update_of_a_verified_manifest_forgets_what_it_must(serve_mast, patience, bucket):
    """Sizes and ETags of products that were made anew are those of the old ones."""
    serve_mast(ARCHIVE)
    options = BuildOptions(store=bucket.url, paging=PagingOptions(patience=patience))
    verified = verify_manifest(build_manifest(ArchiveQuery(), options), options)
    assert set(verified.table["verified"].to_pylist()) == {"found"}
    redone = MadeArchive(36)
    row = redone.exposures["sci_data_set_name"].index("IA0001P5Q")
    redone.exposures["sci_generation_date"][row] = "2026-02-02T00:00:00"
    serve_mast(redone)
    update = update_manifest(verified, replace(options))
    rows = {row["rootname"]: row for row in update.manifest.table.to_pylist()}
    assert "ia0001p5q" in update.changed
    assert (rows["ia0001p5q"]["nbytes"], rows["ia0001p5q"]["verified"]) == (None, "")
    kept = [row for row in rows.values() if row["verified"] == "found"]
    assert kept
    assert all(row["nbytes"] for row in kept)
