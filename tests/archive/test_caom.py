"""The portal's observations become exposures: columns, members, and what is not known."""

from __future__ import annotations

import pyarrow as pa
import pytest

from hstmap.archive import caom
from hstmap.archive.caom import ObservationQuery, with_members
from hstmap.archive.mast import EXPOSURE_SCHEMA
from hstmap.archive.offline.faults import Fault, edited
from hstmap.archive.offline.rows import MadeArchive
from hstmap.archive.pages import PagingOptions, read_pages
from hstmap.archive.query import ArchiveQuery
from hstmap.errors import ArchiveError

ARCHIVE = MadeArchive(240)


def observations(patience, query=None, page_size=50):
    asked = ObservationQuery(query or ArchiveQuery(source="caom"), None, patience)
    asked.page_size = page_size
    return pa.concat_tables(read_pages(asked, PagingOptions(patience=patience)).tables)


def made_row(obs_id):
    made = ARCHIVE.observations
    row = made["obs_id"].index(obs_id)
    return {name: values[row] for name, values in made.items()}


def test_a_row_keeps_what_the_portal_says(serve_mast, patience):
    serve_mast(ARCHIVE)
    for row in observations(patience).to_pylist():
        made = made_row(row["rootname"])
        assert row["filter"] == made["filters"]
        assert row["target"] == made["target_name"]
        assert (row["ra"], row["dec"]) == (made["s_ra"], made["s_dec"])
        assert row["footprint"] == made["s_region"]
        assert row["program_id"] == int(made["proposal_id"])
        assert row["intent"] == made["intentType"]
        assert row["moving_target"] is made["mtFlag"]
        assert row["start_mjd"] == made["t_min"]
        assert row["release_mjd"] == made["t_obs_release"]
        assert (
            row["obs_type"] == {"image": "IMAGE", "spectrum": "SPECTRUM"}[made["dataproduct_type"]]
        )


def test_what_the_portal_does_not_say_is_null(serve_mast, patience):
    serve_mast(ARCHIVE)
    table = observations(patience)
    for name in ("aperture", "exposure_flag", "scan", "guiding", "generated_mjd"):
        assert table[name].null_count == table.num_rows


def test_associations_are_told_by_their_name(serve_mast, patience):
    serve_mast(ARCHIVE)
    for row in observations(patience).to_pylist():
        is_association = row["rootname"][-1].isdigit()
        assert row["association"] == (row["rootname"] if is_association else None)


def test_only_the_columns_that_are_kept_are_asked_for(serve_mast, patience):
    server = serve_mast(ARCHIVE)
    observations(patience)
    asked = next(q for q in server.questions if q.kind == "observations").detail["params"]
    assert asked["columns"] != "*"
    wanted = {item["paramName"]: item["values"] for item in asked["filters"]}
    # Without the project, Hubble Advanced Products would come along.
    assert wanted["project"] == ["HST"]
    assert wanted["instrument_name"] == ["WFC3/IR"]


class TestMembers:
    def test_each_exposure_comes_once_with_its_association_s_facts(self, serve_mast, patience):
        serve_mast(ARCHIVE)
        whole = observations(patience)
        table = with_members(whole, "flt", PagingOptions(patience=patience))
        assert table.schema.names == EXPOSURE_SCHEMA.names
        rows = {row["rootname"]: row for row in table.to_pylist()}
        assert len(rows) == table.num_rows == 240
        facts = {row["rootname"]: row for row in whole.to_pylist()}
        for row in rows.values():
            if row["association"]:
                parent = facts[row["association"]]
                assert (row["filter"], row["ra"]) == (parent["filter"], parent["ra"])

    def test_products_of_many_associations_are_asked_for_at_once(
        self, serve_mast, patience, monkeypatch
    ):
        monkeypatch.setattr(caom, "_N_OBSERVATIONS", 15)
        server = serve_mast(ARCHIVE)
        with_members(observations(patience), "flt", PagingOptions(patience=patience))
        questions = [q for q in server.questions if q.kind == "products"]
        assert len(questions) == -(-40 // 15)

    def test_the_order_does_not_depend_on_the_threads(self, serve_mast, patience, monkeypatch):
        monkeypatch.setattr(caom, "_N_OBSERVATIONS", 3)
        serve_mast(ARCHIVE)
        whole = observations(patience)
        tables = [
            with_members(whole, "flt", PagingOptions(patience=patience, n_threads=n))
            for n in (1, 6)
        ]
        assert tables[0].equals(tables[1])

    def test_an_exposure_in_two_associations_is_listed_with_the_first(self, serve_mast, patience):
        def shared(content):
            first, second = [row for row in content["data"] if "_flt" in row["productFilename"]][
                :1
            ] * 2
            obsids = sorted({row["obsID"] for row in content["data"]})
            content["data"].append(second | {"obsID": obsids[-1]})
            content["paging"]["rowsFiltered"] += 1
            assert first["obsID"] == obsids[0]

        serve_mast(ARCHIVE)
        whole = observations(patience)
        honest = with_members(whole, "flt", PagingOptions(patience=patience))
        serve_mast(ARCHIVE, Fault(edited(shared), kind="products"))
        assert with_members(whole, "flt", PagingOptions(patience=patience)).equals(honest)

    def test_ima_and_flt_name_the_same_exposures(self, serve_mast, patience):
        serve_mast(ARCHIVE)
        whole = observations(patience)
        flt, ima = (
            with_members(whole, product, PagingOptions(patience=patience))
            for product in ("flt", "ima")
        )
        assert flt.equals(ima)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content.pop("paging"),
        lambda content: content.pop("data"),
        lambda content: [row.pop("obs_id") for row in content["data"]],
        lambda content: content.update(status="ERROR", msg="no such column"),
    ],
)
def test_answers_that_stay_unusable_are_an_error(serve_mast, patience, spoil):
    serve_mast(ARCHIVE, Fault(edited(spoil), times=1000, kind="observations"))
    with pytest.raises(ArchiveError, match="observations, page 1"):
        observations(patience)
