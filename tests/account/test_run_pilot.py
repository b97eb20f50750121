"""A pilot is a fair sample of a run, and a part of it; what was planned adds up."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.account.run_pilot import pilot_plan, stratified
from hstmap.account.run_plans import planned_usage
from hstmap.archive.manifest import Manifest
from hstmap.aws.usage import Call, Usage
from hstmap.batch import RunParameters, part_key
from hstmap.pipeline import RunOptions, plan_run
from hstmap.run_record import read_plans
from hstmap.storage import open_store

MANY = [f"i{number:08d}" for number in range(1000)]


# -- the sample ----------------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    n=st.integers(0, 200),
    seed=st.integers(0, 99),
)
def test_each_stratum_has_its_share(sizes, n, seed):
    strata = [number for number, size in enumerate(sizes) for _ in range(size)]
    names = MANY[: len(strata)]
    drawn = stratified(names, strata, n, seed)
    assert len(drawn) == len(set(drawn)) == min(n, len(names))
    assert drawn == sorted(drawn)  # in the order of the images
    stratum_of = dict(zip(names, strata, strict=True))
    counts = Counter(stratum_of[name] for name in drawn)
    for number, size in enumerate(sizes):
        share = len(drawn) * size / len(names)
        assert math.floor(share - 1e-9) <= counts[number] <= math.ceil(share + 1e-9)


def test_the_same_seed_draws_the_same_and_another_one_others():
    strata = [0] * 500 + [1] * 500
    one, again, other = (stratified(MANY, strata, 50, seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    # No image is favoured: over many seeds each has its turn.
    turns = Counter(name for seed in range(300) for name in stratified(MANY, strata, 100, seed))
    assert len(turns) == 1000
    assert max(turns.values()) < 70


# -- the plan ------------------------------------------------------------------------------------


def manifest_of(n, **columns):
    rows = [
        {"rootname": name, "key": f"{name}_flt.fits"}
        | {column: values[i] for column, values in columns.items()}
        for i, name in enumerate(MANY[:n])
    ]
    return Manifest.from_rows(rows, store="s3://bucket/images")


def plan_of(manifest, out, **options):
    return plan_run(manifest, str(out), RunParameters(), RunOptions(**options))


def test_a_pilot_is_a_part_of_the_run(tmp_path):
    filters = ["F110W"] * 60 + ["F160W"] * 30 + ["F140W"] * 10
    manifest = manifest_of(100, filter=filters, nbytes=[16_000_000] * 100)
    plan = plan_of(manifest, tmp_path, batch_size=25, catalogs="batch")
    pilot = pilot_plan(plan, manifest, 20, batch_size=25)
    images = [image for batch in pilot.batches for image in batch.images]
    assert {image for batch in plan.batches for image in batch.images} > set(images)
    filter_of = dict(zip(MANY, filters, strict=False))
    assert Counter(filter_of[image.rootname] for image in images) == {
        "F110W": 12, "F160W": 6, "F140W": 2,
    }  # fmt: skip
    assert [len(batch.images) for batch in pilot.batches] == [5] * 4
    assert pilot.n_todo == pilot.n_get == 20
    assert pilot.n_put == 8  # a part and a file of catalogues each
    assert pilot.nbytes == 20 * 16_000_000
    assert (pilot.out, pilot.n_images, pilot.n_done) == (plan.out, plan.n_images, plan.n_done)
    assert pilot.unused == ()
    assert {part_key(batch) for batch in pilot.batches}.isdisjoint(map(part_key, plan.batches))


def test_exposures_and_sizes_make_strata_too(tmp_path):
    exposures = [10.0] * 50 + [1000.0] * 50
    sizes = [1_000_000, 16_000_000] * 50
    manifest = manifest_of(100, exposure_s=exposures, nbytes=sizes)
    plan = plan_of(manifest, tmp_path, batch_size=10)
    pilot = pilot_plan(plan, manifest, 8, batch_size=10)
    facts = {
        name: (exposures[i], sizes[i]) for i, name in enumerate(MANY[:100])
    }  # fmt: skip
    drawn = Counter(facts[image.rootname] for batch in pilot.batches for image in batch.images)
    assert set(drawn.values()) == {2}
    assert len(drawn) == 4


def test_a_manifest_that_knows_nothing_gives_a_plain_sample(tmp_path):
    manifest = manifest_of(40)
    plan = plan_of(manifest, tmp_path, batch_size=5)
    assert pilot_plan(plan, manifest, 10, batch_size=5).n_todo == 10
    assert pilot_plan(plan, manifest, 400, batch_size=5).n_todo == 40
    # Batches are no larger than those of the rest.
    assert {len(batch.images) for batch in pilot_plan(plan, manifest, 40, 2).batches} == {2}


# -- what was planned ----------------------------------------------------------------------------

USAGE = Usage(
    calls=(Call(1000, 1769, 500, n=4), Call(900, 1769, n=6)),
    n_get=100, n_put=50, n_list=7, log_nbytes=6500, stored_nbytes=10_000,
)  # fmt: skip


def write_plans(store, *plans):
    store.put("plan.json", json.dumps({"plans": list(plans)}).encode())


def plan_record(n_todo, n_done, usage=USAGE):
    return {"n_todo": n_todo, "n_done": n_done} | (
        {} if usage is None else {"usage": usage.as_dict()}
    )


def test_plans_of_a_pilot_and_its_rest_add_up(tmp_path):
    store = open_store(str(tmp_path))
    write_plans(store, plan_record(20, 0), plan_record(80, 20))
    assert planned_usage(store) == USAGE + USAGE


def test_of_a_start_that_was_stopped_counts_what_came_of_it(tmp_path):
    store = open_store(str(tmp_path))
    write_plans(store, plan_record(100, 0), plan_record(50, 50))
    total = planned_usage(store)
    assert (total.n_get, total.n_put, total.log_nbytes) == (150, 75, 9750)
    assert total.n_calls == 15
    # One that came to nothing counts for nothing.
    write_plans(store, plan_record(100, 0), plan_record(100, 0))
    assert planned_usage(store) == USAGE


def test_a_pilot_counts_as_what_it_is_expected_to_take_by_itself(tmp_path):
    store = open_store(str(tmp_path))
    rest = plan_record(80, 20) | {"pilot_usage": Usage(n_get=7).as_dict()}
    write_plans(store, plan_record(20, 0), rest)
    assert planned_usage(store) == USAGE + Usage(n_get=7)


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"plans": 3}', b'{"plans": [3, {}]}'])
def test_where_no_plan_tells_there_is_no_column(tmp_path, content):
    store = open_store(str(tmp_path))
    assert planned_usage(store) is None
    store.put("plan.json", content)
    assert planned_usage(store) is None
    write_plans(store, plan_record(5, 0, usage=None))
    assert planned_usage(store) is None
    assert len(read_plans(store)) == 1
