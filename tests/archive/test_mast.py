"""MAST's search service through the real astroquery, with and without trouble on the way."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from hstmap.archive.mast import ExposureQuery, numbers, resolve, texts, times_mjd
from hstmap.archive.offline.faults import (
    Fault,
    cut_off,
    edited,
    not_json,
    stalled,
    status,
    truncated,
)
from hstmap.archive.offline.rows import MadeArchive
from hstmap.archive.offline.server import MastServer
from hstmap.archive.pages import PagingOptions, read_pages
from hstmap.archive.patience import Patience
from hstmap.archive.query import ArchiveQuery
from hstmap.errors import ArchiveError, UsageError

ARCHIVE = MadeArchive(900)
N_PAGES = 9


def listed(patience, query=None, centre=None, page_size=100, **options):
    asked = ExposureQuery(query or ArchiveQuery(), centre, patience)
    asked.page_size = page_size
    pages = read_pages(asked, PagingOptions(patience=patience, **options))
    return pa.concat_tables(pages.tables)


def shrunk(content):
    content["results"] = content["results"][:-3]


def fewer_in_all(content):
    content["totalResults"] -= 100


def twice_the_same(content):
    content["results"][7] = content["results"][8]


def first_page_again(question, answer):
    detail = dict(question.detail, offset=0)
    return first_page_again.server.honest_answer(type(question)("search", 0, detail))


class TestExposures:
    def test_every_exposure_of_the_channel_comes_once_in_order(self, serve_mast, patience):
        server = serve_mast(ARCHIVE)
        table = listed(patience)
        made = ARCHIVE.exposures
        expected = [
            name.lower()
            for name, config in zip(
                made["sci_data_set_name"], made["sci_instrument_config"], strict=True
            )
            if config == "WFC3/IR"
        ]
        assert table["rootname"].to_pylist() == expected
        assert len(server.questions) == N_PAGES

    def test_a_row_keeps_what_the_archive_says(self, serve_mast, patience):
        serve_mast(ARCHIVE)
        row = listed(patience).slice(0, 1).to_pylist()[0]
        made = {name: values[0] for name, values in ARCHIVE.exposures.items()}
        assert row["rootname"] == made["sci_data_set_name"].lower()
        assert row["association"] == made["sci_asn_id"].lower()
        assert row["filter"] == made["sci_spec_1234"]
        assert row["ra"] == made["sci_ra"]
        assert row["exposure_s"] == made["sci_actual_duration"]
        assert row["program_id"] == made["sci_pep_id"]
        assert row["moving_target"] is (made["sci_mtflag"] == "T")
        assert row["scan"] == made["scp_scan_type"]

    def test_positions_that_are_not_known_are_null(self, serve_mast, patience):
        serve_mast(MadeArchive(3000))
        made = MadeArchive(3000).exposures
        n_unknown = sum(
            ra is None and config == "WFC3/IR"
            for ra, config in zip(made["sci_ra"], made["sci_instrument_config"], strict=True)
        )
        assert n_unknown > 0
        assert listed(patience, page_size=1000)["ra"].null_count == n_unknown

    def test_limit_cuts_the_last_page(self, serve_mast, patience):
        serve_mast(ARCHIVE)
        assert listed(patience, limit=250).num_rows == 250

    def test_conditions_are_the_archives_work(self, serve_mast, patience):
        server = serve_mast(ARCHIVE)
        query = ArchiveQuery(
            filters=("F160W", "F140W"), programs=(11000,), since=date(2009, 9, 1), mode="imaging"
        )
        table = listed(patience, query)
        assert 0 < table.num_rows < 900
        assert set(table["filter"].to_pylist()) == {"F160W", "F140W"}
        assert set(table["program_id"].to_pylist()) == {11000}
        assert pc.min(table["start_mjd"]).as_py() >= 55075.0
        conditions = {k: v for c in server.questions[0].detail["conditions"] for k, v in c.items()}
        assert conditions["sci_obs_type"] == "IMAGE"

    def test_target_and_radius_bound_the_positions(self, serve_mast, patience):
        serve_mast(ARCHIVE)
        query = ArchiveQuery(target="FIELD-1", radius_arcmin=1.0)
        centre = resolve("FIELD-1", patience)
        table = listed(patience, query, centre)
        assert 0 < table.num_rows < 50
        assert pc.max(pc.abs(pc.subtract(table["dec"], centre[1]))).as_py() < 1 / 60

    def test_only_the_columns_that_are_kept_are_asked_for(self, serve_mast, patience):
        server = serve_mast(ARCHIVE)
        listed(patience)
        assert len(server.questions[0].detail["select_cols"]) == 18

    def test_astroquery_reads_the_server_from_its_own_configuration(self, tmp_path):
        """The documented way, in a process of its own since it is read at import."""
        with MastServer(ARCHIVE) as server:
            folder = tmp_path / "astropy"
            folder.mkdir()
            (folder / "astroquery.cfg").write_text(f"[mast]\nserver = {server.url}\n")
            code = (
                "from hstmap.archive.mast import ExposureQuery\n"
                "from hstmap.archive.patience import Patience\n"
                "from hstmap.archive.query import ArchiveQuery\n"
                "page = ExposureQuery(ArchiveQuery(limit=7), None, Patience()).page(0)\n"
                "print(len(page.names), page.n_total)"
            )
            done = subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)},
                capture_output=True,
                text=True,
                check=True,
            )
        assert done.stdout.split() == ["7", "900"]


class TestTrouble:
    @pytest.mark.parametrize(
        "change",
        [
            status(500),
            status(503),
            status(504),
            status(429, Retry_After="7"),
            truncated,
            cut_off,
            not_json,
            edited(shrunk),
            edited(fewer_in_all),
            edited(twice_the_same),
            edited(lambda content: content.pop("results")),
        ],
    )
    @pytest.mark.parametrize("page", [0, 4, 8])
    def test_a_fault_is_lived_through(self, serve_mast, patience, naps, change, page):
        serve_mast(ARCHIVE)
        honest = listed(patience)
        server = serve_mast(ARCHIVE, Fault(change, page, times=2))
        assert listed(patience).equals(honest)
        assert server.meddle.n_done == 2
        assert naps

    def test_only_the_page_in_trouble_is_asked_again(self, serve_mast, patience):
        server = serve_mast(ARCHIVE, Fault(status(503), 5, times=3))
        listed(patience)
        pages = [question.page for question in server.questions]
        assert pages.count(5) == 4
        assert len(pages) == N_PAGES + 3

    def test_a_page_that_repeats_another_is_found_out(self, serve_mast, patience):
        serve_mast(ARCHIVE)
        honest = listed(patience)
        server = serve_mast(ARCHIVE, Fault(first_page_again, 3), Fault(first_page_again, 6))
        first_page_again.server = server
        assert listed(patience).equals(honest)
        again = [question.page for question in server.questions][N_PAGES:]
        assert sorted(again) == [0, 3, 6]

    def test_a_page_that_stays_a_repeat_is_an_error(self, serve_mast, patience):
        server = serve_mast(ARCHIVE, Fault(first_page_again, 3, times=100))
        first_page_again.server = server
        with pytest.raises(ArchiveError, match=r"pages \[0, 3\] still share rows"):
            listed(patience)

    def test_a_slow_page_is_given_up_and_asked_again(self, serve_mast):
        given_up = threading.Event()
        hasty = Patience(n_attempts=3, read_s=1.0, sleep=lambda _: given_up.set())
        serve_mast(ARCHIVE)
        honest = listed(hasty)
        server = serve_mast(ARCHIVE, Fault(stalled(given_up), 2))
        assert listed(hasty).equals(honest)
        assert [question.page for question in server.questions].count(2) == 2

    def test_retry_after_is_obeyed(self, serve_mast, patience, naps):
        serve_mast(ARCHIVE, Fault(status(429, Retry_After="37"), 2))
        listed(patience)
        assert naps == [37.0]

    def test_retry_after_may_be_a_date(self, serve_mast, patience, naps):
        serve_mast(ARCHIVE, Fault(status(503, Retry_After="Fri, 01 Jan 2100 00:00:00 GMT"), 2))
        listed(patience)
        assert naps == [patience.longest_delay_s]

    def test_back_off_grows_and_is_told(self, serve_mast, patience, naps):
        told = []
        serve_mast(ARCHIVE, Fault(status(502), 1, times=3))
        listed(patience, on_trouble=told.append)
        assert len(naps) == 3
        assert all(0.5 * 2**k <= nap <= 2**k for k, nap in enumerate(naps))
        assert all("502" in line and "page 2 of 9" in line for line in told)

    def test_a_short_answer_never_looks_whole(self, serve_mast, patience):
        serve_mast(ARCHIVE, Fault(edited(shrunk), 8, times=100))
        with pytest.raises(ArchiveError, match=r"page 9 of 9.*97 rows came, 100 were expected"):
            listed(patience)

    def test_an_archive_that_grew_is_asked_anew(self, serve_mast, patience):
        """From the second page on another total, for good: the first page is what is old."""
        told = []

        def one_row_less(content):
            content["totalResults"] -= 1
            content["results"] = content["results"][: 899 - content["search_params"]["offset"]]

        server = serve_mast(ARCHIVE, Fault(edited(one_row_less), 0))
        table = listed(patience, on_trouble=told.append)
        assert table.num_rows == 900
        assert any("asking anew" in line for line in told)
        assert [question.page for question in server.questions].count(0) == 2

    def test_a_total_that_never_settles_is_an_error_that_names_both(self, serve_mast, patience):
        serve_mast(ARCHIVE, Fault(edited(fewer_in_all), 7, times=1000))
        with pytest.raises(ArchiveError, match="now counts 800 rows, 900 at first"):
            listed(patience)

    def test_a_query_that_is_refused_is_not_repeated(self, serve_mast, patience, naps):
        server = serve_mast(ARCHIVE, Fault(status(400), 0, times=100))
        with pytest.raises(ArchiveError, match="refused"):
            listed(patience)
        assert len(server.questions) == 1
        assert not naps

    def test_an_answer_that_no_repeat_will_change_is_not_repeated(self, serve_mast, patience):
        server = serve_mast(ARCHIVE, Fault(status(404), 0, times=100))
        with pytest.raises(ArchiveError, match="404"):
            listed(patience)
        assert len(server.questions) == 1

    def test_nobody_listening_is_one_clear_error(self, serve_mast, patience):
        with MastServer(ARCHIVE):
            pass
        server = serve_mast(ARCHIVE)
        server.__exit__()
        with pytest.raises(ArchiveError, match=r"no usable answer in 4 tries.*Try again later"):
            listed(patience)


class TestResolve:
    def test_two_numbers_are_a_position(self, patience):
        assert resolve("53.16 -27.79", patience) == (53.16, -27.79)
        assert resolve("53.16,-27.79", patience) == (53.16, -27.79)

    @pytest.mark.parametrize("target", ["400 0", "10 -91", "-1 5"])
    def test_numbers_off_the_sky_are_refused(self, target, patience):
        with pytest.raises(UsageError, match="degrees"):
            resolve(target, patience)

    def test_a_name_is_looked_up(self, serve_mast, patience):
        serve_mast(ARCHIVE, Fault(status(503), kind="resolve"))
        made = ARCHIVE.exposures
        row = made["sci_targname"].index("FIELD-1")
        assert resolve("field-1", patience) == (made["sci_ra"][row], made["sci_dec"][row])

    def test_a_name_that_nobody_knows(self, serve_mast, patience):
        serve_mast(ARCHIVE)
        with pytest.raises(UsageError, match="knows no such name"):
            resolve("NOWHERE", patience)


class TestValues:
    def test_blanks_that_databases_pad_with_go(self):
        assert texts(["WFC3  ", "", None, "  "]).to_pylist() == ["WFC3", None, None, None]

    def test_numbers_may_come_as_text(self):
        assert numbers([1, "2.5", None, ""]).to_pylist() == [1.0, 2.5, None, None]

    def test_times(self):
        # MJD 51544.5 is J2000 (IAU): 2000 January 1, 12 h.
        assert times_mjd(["2000-01-01T12:00:00", None]).to_pylist() == [51544.5, None]
