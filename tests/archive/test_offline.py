"""The made archive and its server: what rehearsals and all other tests of MAST rest on."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from datetime import date

import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from hstmap.archive.keys import is_association, key_of
from hstmap.archive.offline.conditions import (
    SkyPoint,
    matching_observations,
    matching_rows,
    within,
)
from hstmap.archive.offline.faults import Fault, Script, stalled, status
from hstmap.archive.offline.redirect import astroquery_pointed_at, offline_mast
from hstmap.archive.offline.rows import MadeArchive
from hstmap.archive.offline.server import Answer, MastServer, Question

ARCHIVE = MadeArchive(400)
ROWS = {
    "name": ["IB01", "IB02", "IC01", None],
    "seconds": [10.0, 20.0, None, 40.0],
    "start": ["2010-01-01T00:00:00", "2012-06-01T12:00:00", "2015-01-01T00:00:00", None],
}


class TestArchive:
    def test_the_same_arguments_make_the_same_archive(self):
        assert MadeArchive(400).exposures == ARCHIVE.exposures
        assert MadeArchive(400, seed=1).exposures != ARCHIVE.exposures

    def test_names_are_rootnames_of_exposures_and_sorted(self):
        names = ARCHIVE.exposures["sci_data_set_name"]
        assert names == sorted(set(names))
        for name in names:
            key_of(name, "flt")

    def test_it_has_as_many_infrared_exposures_as_asked_for(self):
        configs = ARCHIVE.exposures["sci_instrument_config"]
        assert configs.count("WFC3/IR") == 400
        assert configs.count("WFC3/UVIS") == 8

    def test_associations_hold_exposures_of_one_filter_and_visit(self):
        made = ARCHIVE.exposures
        for group, rows in ARCHIVE.members.items():
            assert len({made["sci_spec_1234"][row] for row in rows}) == 1
            if is_association(group):
                assert {made["sci_data_set_name"][row][:6] for row in rows} == {group[:6]}
                assert group.endswith("0")

    def test_every_exposure_is_in_one_observation(self):
        rows = [row for rows in ARCHIVE.members.values() for row in rows]
        assert sorted(rows) == list(range(len(ARCHIVE.exposures["sci_ra"])))
        assert len(ARCHIVE.observations["obs_id"]) == len(ARCHIVE.members)

    def test_columns_are_of_one_length(self):
        for rows in (ARCHIVE.exposures, ARCHIVE.observations):
            assert len({len(values) for values in rows.values()}) == 1

    def test_there_is_something_of_every_kind(self):
        made = MadeArchive(6000).exposures
        assert {"G141", "BLANK", "F160W"} <= set(made["sci_spec_1234"])
        for column, odd in {
            "sci_mtflag": "T",
            "sci_expflag": "INTERRUPTED",
            "scp_scan_type": "C",
            "sci_status": "PROPRIETARY",
            "sci_aec": "C",
            "sci_aper_1234": "IRSUB256",
        }.items():
            assert 0 < made[column].count(odd) < 2000
        assert None in made["sci_ra"]
        assert 0.0 in made["sci_actual_duration"]


class TestConditions:
    @pytest.mark.parametrize(
        ("name", "wanted", "expected"),
        [
            ("name", "IB01", [0]),
            ("name", "ib01", [0]),
            ("name", "IB01,IC01", [0, 2]),
            ("name", "IB*", [0, 1]),
            ("name", "!IB01", [1, 2]),
            ("name", "!IB*", [2]),
            ("seconds", ">10", [1, 3]),
            ("seconds", "<40", [0, 1]),
            ("seconds", "10..20", [0, 1]),
            ("start", ">2012", [1, 2]),
            ("start", "<2012", [0]),
            ("start", ">2012-06-01", [1, 2]),
        ],
    )
    def test_the_search_service_s_way_to_ask(self, name, wanted, expected):
        """As astroquery's own remote tests ask: ``<2012``, ``0..200``, ``!F395N``, ``*LE*``."""
        assert matching_rows(ROWS, [{name: wanted}]) == expected

    def test_all_conditions_must_hold(self):
        assert matching_rows(ROWS, [{"name": "IB*"}, {"seconds": ">10"}]) == [1]
        assert matching_rows(ROWS, []) == [0, 1, 2, 3]

    @pytest.mark.parametrize(
        ("values", "expected"),
        [(["IB01"], [0]), (["IB01", "IC01"], [0, 2])],
    )
    def test_the_portal_s_way_to_ask_for_values(self, values, expected):
        assert matching_observations(ROWS, [{"paramName": "name", "values": values}]) == expected

    def test_the_portal_s_way_to_ask_for_a_range(self):
        asked = [{"paramName": "seconds", "values": [{"min": 10, "max": 20}]}]
        assert matching_observations(ROWS, asked) == [0, 1]

    @given(
        st.floats(0, 360), st.floats(-90, 90), st.floats(0, 360), st.floats(-90, 90)
    )  # fmt: skip
    def test_cones_are_those_of_astropy(self, ra, dec, ra_2, dec_2):
        distance = SkyCoord(ra, dec, unit="deg").separation(SkyCoord(ra_2, dec_2, unit="deg")).deg
        for radius_deg in (distance * 1.001 + 1e-6, distance * 0.999 - 1e-6):
            inside = within(ra, dec, SkyPoint(ra_2, dec_2), radius_deg)
            assert inside == (radius_deg >= distance)

    def test_what_has_no_position_is_in_no_cone(self):
        assert not within(None, 1.0, SkyPoint(0, 0), 360)
        assert not within(1.0, None, SkyPoint(0, 0), 360)


class TestServer:
    def ask(self, url, body=None):
        data = json.dumps(body).encode() if body is not None else None
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=10) as answer:
            return json.loads(answer.read())

    def search(self, server, **changes):
        asked = {
            "limit": 10,
            "offset": 0,
            "select_cols": ["sci_data_set_name"],
            "sort_by": ["sci_data_set_name"],
            "conditions": [{"sci_instrument_config": "WFC3/IR"}],
        }
        return self.ask(f"{server.url}/search/hst/api/v0.1/search", asked | changes)

    def test_a_page_has_the_recorded_shape(self):
        with MastServer(ARCHIVE) as server:
            answer = self.search(server, offset=390, limit=20)
        assert set(answer) == {"messages", "info", "search_params", "totalResults", "results"}
        assert answer["totalResults"] == 400
        assert len(answer["results"]) == 10
        assert answer["info"] == [{"name": "sci_data_set_name", "type": "VARCHAR"}]

    def test_an_unknown_column_is_answered_with_500_as_by_mast(self):
        with MastServer(ARCHIVE) as server, pytest.raises(urllib.error.HTTPError) as caught:
            self.search(server, select_cols=["sci_colour"])
        assert caught.value.code == 500

    def test_an_unknown_address_is_not_found(self):
        with MastServer(ARCHIVE) as server, pytest.raises(urllib.error.HTTPError) as caught:
            self.ask(f"{server.url}/nowhere")
        assert caught.value.code == 404

    def test_astroquery_s_tables_hold_the_rows(self):
        """Through astroquery's own parser of the answers: the shapes are such as it expects."""
        from astroquery.mast import MastMissionsClass

        with offline_mast(300):
            table = MastMissionsClass(mission="hst").query_criteria(
                sci_instrument_config="WFC3/IR",
                sci_spec_1234="F160W",
                select_cols=["sci_ra", "sci_pep_id"],
                sort_by=["sci_data_set_name"],
            )
        made = MadeArchive(300).exposures
        expected = [
            name
            for name, filter_, config in zip(
                made["sci_data_set_name"],
                made["sci_spec_1234"],
                made["sci_instrument_config"],
                strict=True,
            )
            if filter_ == "F160W" and config == "WFC3/IR"
        ]
        assert list(table["sci_data_set_name"]) == expected
        assert table["sci_ra"].dtype.kind == "f"
        assert table["sci_pep_id"].dtype.kind == "i"

    def test_the_portal_s_tables_hold_the_rows(self):
        from astroquery.mast import ObservationsClass

        with offline_mast(300):
            observations = ObservationsClass()
            wanted = {"obs_collection": "HST", "instrument_name": "WFC3/IR"}
            n_counted = observations.query_criteria_count(**wanted)
            table = observations.query_criteria(**wanted, pagesize=40)
            products = observations.get_product_list(table[:2])
        assert n_counted == len(table) == 150
        assert set(products["productSubGroupDescription"]) == {"FLT", "IMA", "DRZ"}

    def test_astroquery_is_pointed_back_afterwards(self):
        from astroquery.mast import conf
        from astroquery.mast.services import ServiceAPI

        before = conf.server, ServiceAPI.SERVICE_URL

        def fail_there():
            with astroquery_pointed_at("http://127.0.0.1:1"):
                assert conf.server == ServiceAPI.SERVICE_URL == "http://127.0.0.1:1"
                raise ConnectionError

        with pytest.raises(ConnectionError):
            fail_there()
        assert (conf.server, ServiceAPI.SERVICE_URL) == before


class TestFaults:
    QUESTION = Question("search", 2)
    HONEST = Answer(b"{}")

    def test_they_happen_as_often_and_where_the_script_says(self):
        script = Script(Fault(status(503), page=2, times=2))
        assert script(Question("search", 1), self.HONEST) == self.HONEST
        assert script(Question("observations", 2), self.HONEST) == self.HONEST
        answers = [script(self.QUESTION, self.HONEST).status for _ in range(4)]
        assert answers == [503, 503, 200, 200]
        assert script.n_done == 2

    def test_headers_come_along(self):
        answer = status(429, Retry_After="3")(self.QUESTION, self.HONEST)
        assert answer.headers == {"Retry-After": "3"}

    def test_a_stalled_answer_is_sent_once_it_is_let_go(self):
        again = threading.Event()
        again.set()
        assert stalled(again)(self.QUESTION, self.HONEST) == self.HONEST


def test_a_rehearsal_says_since_when(patience):
    """The clock of the made archive: its first exposure is of July 2009."""
    first = date.fromisoformat(min(ARCHIVE.exposures["sci_start_time"])[:10])
    assert date(2009, 7, 1) <= first < date(2012, 1, 1)
