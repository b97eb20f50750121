"""What is said of manifests, updates and fetches: every row in one of the numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hstmap.archive.build import BuildOptions, ManifestUpdate, build_manifest, verify_manifest
from hstmap.archive.describe import (
    fetch_lines,
    manifest_lines,
    plan_lines,
    trouble_lines,
    update_lines,
)
from hstmap.archive.fetch import FetchOptions, FetchOutcome, FetchReport
from hstmap.archive.fetch_plan import FetchPlan, Wanted
from hstmap.archive.manifest import Manifest
from hstmap.archive.offline.redirect import offline_mast
from hstmap.archive.query import ArchiveQuery
from hstmap.storage import RequestCounts


@pytest.fixture(scope="module")
def manifest():
    with offline_mast(600):
        return build_manifest(ArchiveQuery())


def wanted(n, nbytes=13_000_000):
    return tuple(
        Wanted("s3://b", f"k{i}_flt.fits", Path(f"k{i}_flt.fits"), nbytes) for i in range(n)
    )


def test_the_numbers_of_a_manifest_add_up(manifest):
    lines = manifest_lines(manifest)
    first = [int(number) for number in re.findall(r"\d+", lines[0])]
    reasons = [int(line.split()[0]) for line in lines if re.match(r" +\d+  \w+: ", line)]
    assert first[0] == 600
    assert first[1] + sum(reasons) == 600
    assert "the archive counted 600 rows, 600 came" in lines
    assert lines[-1].split()[-1] == manifest.content_hash[:16]


def test_a_verified_manifest_says_what_was_found(manifest, tmp_path):
    elsewhere = Manifest.from_table(manifest.table, store=str(tmp_path))
    lines = manifest_lines(verify_manifest(elsewhere, BuildOptions()))
    assert "keys held against a listing: 0 found, 600 missing, 0 forbidden" in lines


def test_a_manifest_of_somebody_s_own_says_less():
    lines = manifest_lines(
        Manifest.from_rows([{"rootname": "a", "key": "a_flt.fits", "use": "no"}])
    )
    assert lines[:2] == ["1 images, 0 for use", "        1  no: as the manifest says"]
    assert len(lines) == 3


def test_an_update_names_the_first_few(manifest):
    update = ManifestUpdate(
        manifest, ("a", "b", "c", "d", "e", "f", "g"), (), {"h": ("use", "ra")}, 12
    )
    assert update_lines(update) == [
        "asked for 12 rows",
        "7 new: a, b, c, d, e and 2 more",
        "1 changed: h (use, ra)",
    ]
    same = ManifestUpdate(manifest, (), (), {}, 3)
    assert update_lines(same) == ["asked for 3 rows", "nothing changed"]


def test_a_plan_says_files_bytes_requests_and_price():
    plan = FetchPlan(wanted(270), n_there=2, n_unused=5, n_listed=3)
    assert plan_lines(plan, 0.09, FetchOptions()) == [
        "270 files to fetch, 2 there already, 5 images not for use and left",
        "3.27 GiB in 270 requests, after 3 to list their sizes",
        "$0.29 of egress outside the bucket's region, at $0.09 a GiB; none in it",
    ]


def test_a_plan_without_sizes_says_so():
    plan = FetchPlan(wanted(2) + wanted(1, None))
    assert plan_lines(plan, 0.09, FetchOptions())[-1] == "the sizes of 1 of them are not known"


def test_a_report_names_what_did_not_come():
    files = wanted(4)
    outcomes = (
        FetchOutcome(files[0], "fetched", 13_000_000),
        FetchOutcome(files[1], "missing", message="no such object"),
        FetchOutcome(files[2], "failed", message="the disk is full"),
        FetchOutcome(files[3], "fetched", 13_000_000, "another version"),
    )
    report = FetchReport(outcomes, 2.0, RequestCounts(n_get=9))
    assert fetch_lines(report) == [
        "2 files, 0.02 GiB in 2.0 s (13 MB/s), 9 requests",
        "1 missing: s3://b/k1_flt.fits",
        "1 failed: s3://b/k2_flt.fits",
        "1 fetched in another version than the manifest's: k3_flt.fits",
    ]
    assert trouble_lines(report) == [
        "s3://b/k1_flt.fits: no such object",
        "s3://b/k2_flt.fits: the disk is full",
    ]
