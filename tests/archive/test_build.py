"""Whole manifests: complete, identical whatever the network does, up to date, verified."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from hstmap.archive import build
from hstmap.archive.build import (
    BuildOptions,
    build_manifest,
    update_manifest,
    use_counts,
    verify_manifest,
)
from hstmap.archive.manifest import Manifest
from hstmap.archive.offline.faults import Fault, cut_off, edited, stalled, status, truncated
from hstmap.archive.offline.redirect import offline_mast
from hstmap.archive.offline.rows import MadeArchive
from hstmap.archive.pages import Pages, PagingOptions
from hstmap.archive.patience import Patience
from hstmap.archive.query import ArchiveQuery
from hstmap.errors import ArchiveError, ConservationError, UsageError
from hstmap.storage import open_store

ARCHIVE = MadeArchive(900)
LONG_AGO = datetime(2015, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def options(patience, tmp_path):
    return BuildOptions(
        store=str(tmp_path / "bucket"),
        paging=PagingOptions(patience=patience),
        now=lambda: NOW,
    )


def infrared(archive):
    made = archive.exposures
    return [
        {name: values[row] for name, values in made.items()}
        for row, config in enumerate(made["sci_instrument_config"])
        if config == "WFC3/IR"
    ]


class GrowingArchive:
    """A made archive that takes in exposures, makes products anew and releases them."""

    def __init__(self, archive, until):
        self.members = archive.members
        rows = [row for row in infrared(archive) if row["sci_generation_date"] < until]
        self.exposures = {name: [row[name] for row in rows] for name in rows[0]}


def repeated_page(question, answer):
    detail = dict(question.detail, offset=0)
    return repeated_page.server.honest_answer(replace(question, page=0, detail=detail))


class TestBuild:
    def test_130_000_exposures_are_the_same_file_whatever_happens_on_the_way(
        self, serve_mast, options, tmp_path
    ):
        archive = MadeArchive(130_000)
        honest = serve_mast(archive)
        build_manifest(ArchiveQuery(), options).write(str(tmp_path / "honest.parquet"))
        given_up = threading.Event()
        faulty = serve_mast(
            archive,
            Fault(status(503), 0),
            Fault(status(500), 3, times=2),
            Fault(truncated, 7, times=2),
            Fault(repeated_page, 11),
            Fault(cut_off, 16),
            Fault(status(429, Retry_After="30"), 19, times=3),
            Fault(stalled(given_up), 22),
            Fault(edited(lambda content: content["results"].pop()), 25),
        )
        repeated_page.server = faulty
        hasty = Patience(n_attempts=8, read_s=2.0, sleep=lambda _: given_up.set())
        hasty_options = replace(options, paging=PagingOptions(patience=hasty))
        manifest = build_manifest(ArchiveQuery(), hasty_options)
        manifest.write(str(tmp_path / "faulty.parquet"))
        assert faulty.meddle.n_done == 12
        assert len(honest.questions) == 26
        assert len(manifest) == 130_000
        assert (tmp_path / "faulty.parquet").read_bytes() == (
            tmp_path / "honest.parquet"
        ).read_bytes()

    def test_nothing_is_left_out_in_silence(self, serve_mast, options):
        serve_mast(ARCHIVE)
        manifest = build_manifest(ArchiveQuery(), options)
        counts = use_counts(manifest)
        assert sum(counts.values()) == len(manifest) == 900
        made = infrared(ARCHIVE)
        n_grism = sum(row["sci_spec_1234"].startswith("G") for row in made)
        assert counts["grism"] == n_grism > 0
        assert next(iter(counts)) == ""

    def test_it_knows_what_was_asked_and_what_came(self, serve_mast, options):
        serve_mast(ARCHIVE)
        query = ArchiveQuery(programs=(11001,))
        manifest = build_manifest(query, options)
        assert ArchiveQuery.from_text(manifest.query) == query
        assert manifest.provenance["n_counted"] == manifest.provenance["n_received"] == 360
        assert manifest.created == "2026-01-01T00:00:00+00:00"

    def test_it_comes_back_from_its_file(self, serve_mast, options, tmp_path):
        serve_mast(ARCHIVE)
        manifest = build_manifest(ArchiveQuery(), options)
        path = str(tmp_path / "manifest.parquet")
        manifest.write(path)
        again = Manifest.read(path)
        assert again.metadata == manifest.metadata
        assert again.table.equals(manifest.table)

    def test_limit_is_of_images(self, serve_mast, options):
        serve_mast(ARCHIVE)
        flt = build_manifest(ArchiveQuery(limit=7), options)
        drz = build_manifest(ArchiveQuery(limit=7, product="drz"), options)
        whole = build_manifest(ArchiveQuery(product="drz"), options)
        assert len(flt) == len(drz) == 7
        assert flt.provenance == {"n_counted": 900, "n_received": 7}
        assert set(drz.table["rootname"].to_pylist()) == set(
            sorted(whole.table["rootname"].to_pylist())[:7]
        )

    def test_a_query_that_matches_nothing_says_so(self, serve_mast, options):
        serve_mast(ARCHIVE)
        with pytest.raises(UsageError, match=r"no image matches.*F164N"):
            build_manifest(ArchiveQuery(filters=("F164N",)), options)

    def test_rows_that_do_not_add_up_are_an_error_that_names_both(self, monkeypatch, options):
        table = pa.table({"rootname": ["a", "b"]})
        monkeypatch.setattr(build, "read_pages", lambda *_: Pages(3, [table]))
        with pytest.raises(ConservationError, match=r"counts 3 rows.* and 2 came"):
            build_manifest(ArchiveQuery(), options)

    def test_trouble_that_stays_leaves_no_manifest(self, serve_mast, options):
        serve_mast(ARCHIVE, Fault(truncated, 0, times=99))
        with pytest.raises(ArchiveError):
            build_manifest(ArchiveQuery(), options)

    def test_progress_ends_with_all_rows(self, serve_mast, options):
        serve_mast(MadeArchive(12_000))
        seen = []
        paging = replace(options.paging, on_progress=seen.append)
        build_manifest(ArchiveQuery(), replace(options, paging=paging))
        assert [(p.unit, p.n_done, p.n_units) for p in seen] == [("pages", n, 3) for n in (1, 2, 3)]
        assert (seen[-1].n_rows, seen[-1].n_rows_total) == (12_000, 12_000)

    def test_offline_needs_nothing_but_itself(self):
        with offline_mast(60) as server:
            manifest = build_manifest(ArchiveQuery(mode="imaging"))
            assert server.questions
        assert 0 < len(manifest) <= 60


class TestPortal:
    def test_it_lists_the_same_exposures_with_footprints(self, serve_mast, options):
        serve_mast(ARCHIVE)
        missions = build_manifest(ArchiveQuery(), options).table
        portal = build_manifest(ArchiveQuery(source="caom"), options).table
        assert sorted(portal["rootname"].to_pylist()) == sorted(missions["rootname"].to_pylist())
        outlines = portal["footprint"].to_pylist()
        assert sum(outline.startswith("POLYGON ") for outline in outlines) > 850

    def test_it_lists_the_same_drizzled_images(self, serve_mast, options):
        serve_mast(ARCHIVE)
        missions = build_manifest(ArchiveQuery(product="drz"), options).table
        portal = build_manifest(ArchiveQuery(source="caom", product="drz"), options).table
        assert sorted(portal["key"].to_pylist()) == sorted(missions["key"].to_pylist())

    def test_a_member_does_not_pass_the_whole_s_exposure_for_its_own(self, serve_mast, options):
        serve_mast(ARCHIVE)
        rows = build_manifest(ArchiveQuery(source="caom"), options).table.to_pylist()
        assert {row["exposure_s"] is None for row in rows if row["association"]} == {True}
        assert {row["exposure_s"] is None for row in rows if not row["association"]} == {False}

    def test_conditions(self, serve_mast, options):
        serve_mast(ARCHIVE)
        query = ArchiveQuery(
            source="caom",
            product="drz",
            filters=("F160W", "F140W"),
            programs=(11000,),
            since=datetime(2010, 1, 1, tzinfo=UTC).date(),
            mode="imaging",
        )
        portal = build_manifest(query, options).table
        missions = build_manifest(replace(query, source="missions"), options).table
        # An association counts by its first exposure there, and by each of them here.
        assert set(portal["rootname"].to_pylist()) == set(missions["rootname"].to_pylist())

    def test_around_a_target(self, serve_mast, options):
        serve_mast(ARCHIVE)
        query = ArchiveQuery(source="caom", product="drz", target="FIELD-1", radius_arcmin=20)
        portal = build_manifest(query, options).table
        missions = build_manifest(replace(query, source="missions"), options).table
        assert 0 < len(portal) < 300
        assert set(portal["rootname"].to_pylist()) == set(missions["rootname"].to_pylist())

    @pytest.mark.parametrize("kind", ["observations", "products"])
    @pytest.mark.parametrize("change", [status(503), truncated, cut_off])
    def test_faults_are_lived_through(self, serve_mast, options, kind, change):
        serve_mast(ARCHIVE)
        honest = build_manifest(ArchiveQuery(source="caom"), options)
        faulty = serve_mast(ARCHIVE, Fault(change, 0, times=2, kind=kind))
        assert build_manifest(ArchiveQuery(source="caom"), options).table.equals(honest.table)
        assert faulty.meddle.n_done == 2

    def test_a_portal_that_reports_an_error_is_asked_again(self, serve_mast, options):
        def failed(content):
            content.update(status="ERROR", msg="the database timed out")

        serve_mast(ARCHIVE, Fault(edited(failed), 0, kind="observations"))
        assert len(build_manifest(ArchiveQuery(source="caom", product="drz"), options)) == 450

    def test_products_that_are_cut_short_are_asked_for_again(self, serve_mast, options):
        serve_mast(ARCHIVE, Fault(edited(lambda c: c["data"].pop()), 0, kind="products"))
        assert len(build_manifest(ArchiveQuery(source="caom"), options)) == 900

    def test_an_association_without_members_stays_with_its_reason(self, serve_mast, options):
        def childless(content):
            content["data"] = [row for row in content["data"] if "_drz" in row["productFilename"]]
            content["paging"]["rowsFiltered"] = len(content["data"])

        serve_mast(ARCHIVE, Fault(edited(childless), 0, times=99, kind="products"))
        counts = use_counts(build_manifest(ArchiveQuery(source="caom"), options))
        assert counts["association"] == 150


class TestUpdate:
    def build(self, serve_mast, options, archive, query=None):
        serve_mast(archive)
        return build_manifest(query or ArchiveQuery(), options)

    def test_only_what_is_newer_is_asked_for(self, serve_mast, options):
        early = GrowingArchive(ARCHIVE, "2018-01-01")
        old = self.build(serve_mast, options, early)
        server = serve_mast(ARCHIVE)
        update = update_manifest(old, options)
        assert len(update.manifest) == 900
        assert len(update.added) == 900 - len(old)
        assert not update.removed
        assert not update.changed
        assert update.n_asked < len(update.added) + 20
        assert len(server.questions) == 2
        assert update.manifest.provenance["updated_from"] == old.content_hash

    def test_an_updated_manifest_is_the_one_that_would_be_made_anew(self, serve_mast, options):
        old = self.build(serve_mast, options, GrowingArchive(ARCHIVE, "2018-01-01"))
        fresh = self.build(serve_mast, options, ARCHIVE)
        assert update_manifest(old, options).manifest.content_hash == fresh.content_hash

    def test_nothing_new_changes_nothing(self, serve_mast, options):
        old = self.build(serve_mast, options, ARCHIVE)
        update = update_manifest(old, options)
        assert update.manifest.content_hash == old.content_hash
        assert (update.added, update.removed, update.changed) == ((), (), {})

    def test_what_was_made_anew_is_shown(self, serve_mast, options):
        old = self.build(serve_mast, options, ARCHIVE)
        redone = MadeArchive(900)
        row = redone.exposures["sci_data_set_name"].index("IA0001P5Q")
        redone.exposures["sci_generation_date"][row] = "2026-01-09T00:00:00"
        redone.exposures["sci_expflag"][row] = "INTERRUPTED"
        serve_mast(redone)
        update = update_manifest(old, options)
        changed = update.changed["ia0001p5q"]
        assert set(changed) == {"exposure_flag", "generated_mjd", "use"}
        assert len(update.changed) == 1

    def test_what_became_public_is_shown_without_being_asked_for(self, serve_mast, options):
        serve_mast(ARCHIVE)
        then = replace(options, now=lambda: LONG_AGO)
        old = build_manifest(ArchiveQuery(), then)
        n_proprietary = use_counts(old)["proprietary"]
        update = update_manifest(old, options)
        released = Counter(c for c in update.changed.values())
        assert released == {("use",): n_proprietary - use_counts(update.manifest)["proprietary"]}
        assert update.n_asked < 30
        assert update.manifest.content_hash == build_manifest(ArchiveQuery(), options).content_hash

    def test_rows_that_left_the_archive_are_an_error_that_names_both(self, serve_mast, options):
        old = self.build(serve_mast, options, ARCHIVE)
        smaller = GrowingArchive(ARCHIVE, "2018-01-01")
        serve_mast(smaller)
        n_left = len(smaller.exposures["sci_ra"])
        with pytest.raises(ConservationError, match=rf"counts {n_left} .*would have 900"):
            update_manifest(old, options)

    @pytest.mark.parametrize(
        "query", [ArchiveQuery(product="drz"), ArchiveQuery(source="caom", product="drz")]
    )
    def test_others_are_asked_for_anew(self, serve_mast, options, query):
        old = self.build(serve_mast, options, ARCHIVE, query)
        update = update_manifest(old, options)
        assert update.n_asked == len(old)
        assert update.manifest.content_hash == old.content_hash

    def test_a_manifest_that_was_not_asked_for_cannot_be_updated(self, options):
        manual = Manifest.from_rows([{"rootname": "a", "key": "a_flt.fits"}], query="my files")
        with pytest.raises(UsageError, match="my files"):
            update_manifest(manual, options)

    def test_target_and_filters_hold_for_the_update_too(self, serve_mast, options):
        query = ArchiveQuery(target="FIELD-1", radius_arcmin=30, filters=("F160W",))
        old = self.build(serve_mast, options, ARCHIVE, query)
        update = update_manifest(old, options)
        assert update.manifest.content_hash == old.content_hash


class TestVerify:
    @pytest.fixture
    def manifest(self, serve_mast, options):
        serve_mast(ARCHIVE)
        return build_manifest(ArchiveQuery(limit=60), options)

    def fill(self, options, manifest, leave_out=()):
        store = open_store(options.store)
        for row in manifest.table.to_pylist():
            if row["rootname"] not in leave_out:
                store.put(row["key"], row["rootname"].encode() * 3)

    def test_sizes_and_etags_are_learnt(self, manifest, options):
        self.fill(options, manifest)
        verified = verify_manifest(manifest, options)
        rows = verified.table.to_pylist()
        assert {row["verified"] for row in rows} == {"found"}
        assert {row["nbytes"] for row in rows} == {27}
        assert all(row["etag"] for row in rows)
        assert use_counts(verified) == use_counts(manifest)
        assert verified.provenance["n_found"] == 60

    def test_a_key_that_is_not_there_is_not_for_use(self, manifest, options):
        rows = manifest.table.to_pylist()
        gone = next(row["rootname"] for row in rows if not row["use"])
        grism = next(row["rootname"] for row in rows if row["use"])
        self.fill(options, manifest, leave_out=(gone, grism))
        rows = {
            row["rootname"]: row for row in verify_manifest(manifest, options).table.to_pylist()
        }
        assert (rows[gone]["verified"], rows[gone]["use"]) == ("missing", "missing")
        assert rows[grism]["verified"] == "missing"
        assert rows[grism]["use"] not in ("", "missing")

    def test_a_key_that_comes_back_is_for_use_again(self, manifest, options):
        gone = next(row["rootname"] for row in manifest.table.to_pylist() if not row["use"])
        self.fill(options, manifest, leave_out=(gone,))
        verified = verify_manifest(manifest, options)
        self.fill(options, manifest)
        assert use_counts(verify_manifest(verified, options)) == use_counts(manifest)

    def test_it_survives_the_file(self, manifest, options, tmp_path):
        self.fill(options, manifest)
        verified = verify_manifest(manifest, options)
        verified.write(str(tmp_path / "v.parquet"))
        again = Manifest.read(str(tmp_path / "v.parquet"))
        assert again.content_hash == verified.content_hash
        assert json.loads(json.dumps(dict(again.provenance))) == dict(verified.provenance)

    def test_keys_of_several_stores_are_held_against_each(self, tmp_path, options):
        for name in ("one", "two"):
            open_store(str(tmp_path / name)).put("x_flt.fits", b"xyz")
        rows = [
            {"rootname": "a", "key": str(tmp_path / "one" / "x_flt.fits")},
            {"rootname": "b", "key": str(tmp_path / "two" / "x_flt.fits")},
            {"rootname": "c", "key": str(tmp_path / "two" / "y_flt.fits")},
        ]
        verified = verify_manifest(Manifest.from_rows(rows), options)
        assert verified.table["verified"].to_pylist() == ["found", "found", "missing"]
        assert verified.table["use"].to_pylist() == ["", "", "missing"]


class TestQuery:
    @pytest.mark.parametrize(
        ("values", "match"),
        [
            ({"source": "google"}, "missions, caom, listing"),
            ({"product": "raw"}, "flt, drz, ima"),
            ({"mode": "fast"}, "all, imaging, spectroscopic"),
            ({"limit": 0}, "from 1 on"),
            ({"radius_arcmin": 0}, "above 0"),
            ({"radius_arcmin": float("nan")}, "above 0"),
            ({"source": "listing", "filters": ("F160W",)}, "names alone"),
        ],
    )
    def test_what_cannot_be_asked_is_refused_at_once(self, values, match):
        with pytest.raises(UsageError, match=match):
            ArchiveQuery(**values)

    @pytest.mark.parametrize(
        "query",
        [
            ArchiveQuery(),
            ArchiveQuery(
                source="caom",
                product="drz",
                filters=("F160W",),
                target="M 101",
                radius_arcmin=12.5,
                programs=(11359, 12060),
                since=datetime(2012, 3, 4, tzinfo=UTC).date(),
                mode="imaging",
                limit=9,
            ),
        ],
    )
    def test_a_query_survives_being_written_down(self, query):
        assert ArchiveQuery.from_text(query.as_text()) == query

    @pytest.mark.parametrize("text", ["", "frames/*.fits", "[]", '{"colour": "red"}', "7"])
    def test_other_texts_are_no_query(self, text):
        with pytest.raises(UsageError, match="make a new one"):
            ArchiveQuery.from_text(text)
