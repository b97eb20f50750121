from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import QTable

from hstmap.archive.sources import resolve_sources
from hstmap.bag.engine import (
    Attempt,
    EngineOptions,
    InProcessEngine,
    RemoteError,
    make_engine,
)
from hstmap.batch import Batch, ImageKey, RunParameters, part_key
from hstmap.errors import ConservationError, RunMismatchError, StorageError, UsageError
from hstmap.pipeline import RunOptions, plan_run, run_map
from hstmap.summary import reduce_run
from hstmap.wfc3.parameters import PRESETS, ReadParameters
from hstmap.wfc3.schema import (
    IMAGE_COLUMNS,
    SOURCE_COLUMNS,
    SUMMARY_COLUMNS,
    catalog_columns,
)
from support.archive import write_archive, write_broken_files

PARAMETERS = RunParameters()


@pytest.fixture
def images(tmp_path):
    write_archive(tmp_path / "images")
    return tmp_path / "images"


def run(sources, out, *, parameters=PARAMETERS, engine=None, **options):
    """Map and reduce in this process; return what `run_map` said and the summary."""
    manifest = resolve_sources([str(source) for source in sources])
    run_options = RunOptions(**options)
    plan = plan_run(manifest, str(out), parameters, run_options)
    with engine or InProcessEngine() as running:
        result = run_map(plan, manifest, running, run_options)
    return result, reduce_run(str(out))


def test_every_image_has_its_catalog_its_row_and_its_sources(images, tmp_path):
    out = tmp_path / "out"
    result, summary = run([images], out, batch_size=2)
    assert summary.outcomes == {"ok": 5} == result.outcomes
    sources = pd.read_parquet(out / "sources.parquet")
    rows = pd.read_parquet(out / "images.parquet")
    assert list(sources) == [column.name for column in (*SOURCE_COLUMNS, *SUMMARY_COLUMNS)]
    assert list(rows) == [column.name for column in IMAGE_COLUMNS]
    assert len(sources) == rows["n_sources"].sum() == summary.n_sources == result.n_sources > 0
    assert list(rows["rootname"]) == sorted(path.name[:9] for path in images.iterdir())
    assert (rows["nbytes_read"] <= rows["nbytes"]).all()
    assert len(list((out / "parts").iterdir())) == 3
    for row in rows.itertuples():
        table = QTable.read(out / row.catalog)
        assert len(table) == row.n_sources
        of_image = sources[sources["rootname"] == row.rootname]
        np.testing.assert_array_equal(table["flux_auto"].value, of_image["flux_auto"])
        header = fits.getheader(out / row.catalog)
        assert header["ROOTNAME"] == row.rootname
        assert header["INPUT"] == row.key
        assert json.loads(header["PARAMS"]) == PARAMETERS.as_dict()


def test_units_are_the_same_in_fits_and_parquet(images, tmp_path, recwarn):
    run([images], tmp_path / "out")
    parquet = QTable.read(tmp_path / "out" / "sources.parquet")
    (catalog, *_) = sorted((tmp_path / "out" / "catalogs").iterdir())
    table = QTable.read(catalog)
    for column in catalog_columns():
        units = [getattr(t[column.name], "unit", None) for t in (table, parquet)]
        assert units[0] == units[1]
        assert str(units[0] or "") == column.unit
        assert parquet[column.name].info.description == column.description
        assert parquet[column.name].info.meta["ucd"] == column.ucd
    header = fits.getheader(catalog, "SOURCES")
    for i, column in enumerate(catalog_columns(), start=1):
        assert (header[f"TTYPE{i}"], header[f"TUCD{i}"]) == (column.name, column.ucd)
        assert header[f"TCOMM{i}"] == column.description
    images_table = QTable.read(tmp_path / "out" / "images.parquet")
    for column in IMAGE_COLUMNS:
        assert str(getattr(images_table[column.name], "unit", None) or "") == column.unit
    assert not [w for w in recwarn.list if "nit" in str(w.message)]


def test_bad_files_end_in_outcomes_and_stop_nobody(images, tmp_path):
    expected = write_broken_files(tmp_path / "bad")
    missing = tmp_path / "bad" / "igone1a1q_flt.fits"
    _, summary = run([images, *sorted((tmp_path / "bad").iterdir()), missing], tmp_path / "out")
    rows = pd.read_parquet(tmp_path / "out" / "images.parquet").set_index("rootname")
    for rootname, outcome in expected.items():
        assert rows.loc[rootname, "outcome"] == outcome
    assert rows.loc["igone1a1q", "outcome"] == "missing"
    broken = rows[rows["outcome"] != "ok"]
    assert (broken["reason"] != "").all()
    assert (broken["message"] != "").all()
    assert not broken["message"].str.contains("\n").any()
    assert (broken["n_sources"] == 0).all()
    assert summary.outcomes == {"ok": 5, "failed": 3, "rejected": 1, "missing": 1}


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_the_summary_does_not_depend_on_batches(images, tmp_path, batch_size):
    run([images], tmp_path / "a", batch_size=3)
    run([images], tmp_path / "b", batch_size=batch_size)
    a, b = ((tmp_path / name / "sources.parquet").read_bytes() for name in "ab")
    assert a == b


def test_going_on_does_only_what_is_missing(images, tmp_path):
    out = tmp_path / "out"
    manifest = resolve_sources([str(images)])
    options = RunOptions(batch_size=2)
    plan = plan_run(manifest, str(out), PARAMETERS, options)
    with InProcessEngine() as engine, pytest.raises(KeyboardInterrupt):
        run_map(plan, manifest, engine, options, interrupt_after(2))
    before = {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    assert len(before) == 2
    with pytest.raises(ConservationError, match=r"1 of 5 images have no outcome.*run the same map"):
        reduce_run(str(out))
    again = plan_run(manifest, str(out), PARAMETERS, RunOptions(batch_size=1))
    assert (again.n_done, again.n_todo) == (4, 1)
    result, summary = run([images], out)
    assert result.outcomes == {"ok": 1}
    assert summary.outcomes == {"ok": 5}
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    run([images], tmp_path / "afresh")
    assert (out / "sources.parquet").read_bytes() == (
        tmp_path / "afresh" / "sources.parquet"
    ).read_bytes()
    nothing, _ = run([images], out)
    assert nothing.outcomes == {}


def interrupt_after(n_batches):
    seen = []

    def on_batch(outcomes):
        seen.append(outcomes)
        if len(seen) == n_batches:
            raise KeyboardInterrupt

    return on_batch


def test_more_images_may_be_added_and_none_taken_away(images, tmp_path):
    out = tmp_path / "out"
    files = sorted(images.iterdir())
    run(files[:2], out)
    result, summary = run(files, out)
    assert (result.outcomes, summary.outcomes) == ({"ok": 3}, {"ok": 5})
    with pytest.raises(RunMismatchError, match=r"of 5 images, of which 4 are not among the 1"):
        run(files[:1], out)


def test_other_parameters_into_the_same_place_are_refused_with_both_values(images, tmp_path):
    run([images], tmp_path / "out")
    parameters = dataclasses.replace(PARAMETERS, detection=PRESETS["blog"])
    with pytest.raises(RunMismatchError, match=r"detection\.mesh is 64 there and 32 here"):
        run([images], tmp_path / "out", parameters=parameters)
    with pytest.raises(RunMismatchError, match="catalogs is 'image' there and 'none' here"):
        run([images], tmp_path / "out", catalogs="none")
    _, summary = run([images], tmp_path / "out", parameters=parameters, overwrite=True)
    assert summary.outcomes == {"ok": 5}


def test_overwriting_deletes_only_what_is_a_runs(images, tmp_path):
    out = tmp_path / "out"
    run([images], out)
    (out / "notes.txt").write_text("mine")
    run(sorted(images.iterdir())[:1], out, overwrite=True, catalogs="none")
    assert (out / "notes.txt").read_text() == "mine"
    assert len(list((out / "parts").iterdir())) == 1
    assert not list((out / "catalogs").glob("*"))


def test_failed_images_are_done_again_on_request(images, tmp_path):
    late = images / "ilate1a1q_flt.fits"
    files = [*sorted(images.iterdir()), late]
    _, before = run(files, tmp_path / "out")
    late.write_bytes(files[0].read_bytes())
    _, same = run(files, tmp_path / "out")
    _, after = run(files, tmp_path / "out", retry_failed=True)
    assert before.outcomes == same.outcomes == {"ok": 5, "missing": 1}
    assert after.outcomes == {"ok": 6}


def test_images_that_the_manifest_rules_out_are_rejected_unread(images, tmp_path):
    table = pd.DataFrame(
        {
            "rootname": ["isim01a1q", "inever1aq"],
            "key": [str(images / "isim01a1q_flt.fits"), "s3://nowhere/x_flt.fits"],
            "use": ["", "moving target"],
        }
    )
    table.to_csv(tmp_path / "list.csv", index=False)
    _, summary = run([tmp_path / "list.csv"], tmp_path / "out")
    rows = pd.read_parquet(tmp_path / "out" / "images.parquet").set_index("rootname")
    assert summary.outcomes == {"ok": 1, "rejected": 1}
    assert rows.loc["inever1aq", "message"] == "moving target"


def test_a_part_is_named_by_what_goes_into_it():
    batch = Batch((ImageKey("a", "/x/a_flt.fits"),), "/out")
    others = [
        dataclasses.replace(batch, images=(ImageKey("b", "/x/b_flt.fits"),)),
        dataclasses.replace(batch, version="0.0.0"),
        dataclasses.replace(
            batch, parameters=dataclasses.replace(PARAMETERS, read=ReadParameters(mask_bits=4))
        ),
        dataclasses.replace(batch, catalogs="none"),
    ]
    assert len({part_key(other) for other in [batch, *others]}) == 5
    assert part_key(dataclasses.replace(batch, out="s3://elsewhere", debug=True)) == part_key(batch)


def test_two_parts_that_hold_an_image_give_it_once(images, tmp_path):
    """A worker thought lost may still finish after its images were done again."""
    out = tmp_path / "out"
    files = sorted(images.iterdir())
    _, expected = run(files, out, batch_size=2)
    (part, *_) = (out / "parts").iterdir()
    (out / "parts" / "ffff.parquet").write_bytes(part.read_bytes())
    reduced = reduce_run(str(out))
    assert reduced.n_sources == expected.n_sources
    assert reduced.outcomes == expected.outcomes


def test_what_is_no_part_is_named(images, tmp_path):
    out = tmp_path / "out"
    run([images], out)
    (out / "parts" / "0000.parquet").write_bytes(b"PAR1 or not")
    with pytest.raises(StorageError, match=r"0000\.parquet: not a part of a run"):
        reduce_run(str(out))


def test_there_is_nothing_to_reduce_where_no_run_is(tmp_path):
    with pytest.raises(UsageError, match="there is no run at"):
        reduce_run(str(tmp_path))


def test_sources_that_a_part_promised_and_lacks_are_an_error(images, tmp_path):
    out = tmp_path / "out"
    run([images], out, batch_size=5)
    (part,) = (out / "parts").iterdir()
    table = pq.read_table(part)
    metadata = pq.read_metadata(part).metadata
    short = table.slice(0, len(table) - 1).replace_schema_metadata(
        {b"hstmap.images": metadata[b"hstmap.images"]}
    )
    pq.write_table(short, part)
    with pytest.raises(ConservationError, match="says that it holds"):
        reduce_run(str(out))
    # Nothing half-written is left in place of the old summary.
    assert pd.read_parquet(out / "sources.parquet").shape[0] == len(table)


class DeadlyEngine(InProcessEngine):
    """Loses every worker that touches one image, as running out of memory does."""

    def __init__(self, deadly):
        super().__init__()
        self.deadly = deadly

    def run(self, stage):
        alive = [task for task in stage.tasks if not self.kills(task)]
        for task in stage.tasks:
            if self.kills(task):
                error = RemoteError("WorkerLost", "killed by SIGKILL")
                for number in (1, 2):
                    yield Attempt(stage.name, task.key, number, "lost", number == 2, error=error)
        yield from super().run(dataclasses.replace(stage, tasks=alive))

    def kills(self, task):
        return any(image.rootname == self.deadly for image in task.payload.images)


def test_an_image_that_kills_its_worker_costs_itself_only(images, tmp_path):
    out = tmp_path / "out"
    result, summary = run([images], out, engine=DeadlyEngine("isim03a1q"), batch_size=3)
    assert summary.outcomes == {"ok": 4, "failed": 1} == result.outcomes
    # Two for the batch of three, one for the other batch, then two and twice one, one by one.
    assert result.n_attempts == 2 + 1 + 2 + 1 + 1
    rows = pd.read_parquet(out / "images.parquet").set_index("rootname")
    assert rows.loc["isim03a1q", "reason"] == "worker_lost"
    assert rows.loc["isim03a1q", "message"].endswith("2 attempts: WorkerLost: killed by SIGKILL")
    _, mended = run([images], out, retry_failed=True)
    assert mended.outcomes == {"ok": 5}


def test_a_single_image_that_kills_its_worker_is_not_tried_anew(images, tmp_path):
    engine = DeadlyEngine("isim03a1q")
    result, _ = run([images], tmp_path / "out", engine=engine, batch_size=1)
    assert result.n_attempts == 4 + 2


def test_lithops_and_this_process_write_the_same_bytes(images, tmp_path):
    _, here = run([images], tmp_path / "here")
    engine = make_engine("lithops", EngineOptions(n_workers=2))
    _, there = run([images], tmp_path / "there", engine=engine)
    assert here.outcomes == there.outcomes
    a, b = ((tmp_path / name / "sources.parquet").read_bytes() for name in ("here", "there"))
    assert a == b


def test_an_image_that_was_bettered_is_not_done_again(images, tmp_path):
    """Its failed row and its good one lie in two parts: the better one counts."""
    out = tmp_path / "out"
    late = images / "ilate1a1q_flt.fits"
    files = [*sorted(images.iterdir()), late]
    run(files, out, batch_size=1)
    late.write_bytes(files[0].read_bytes())
    run(files, out, batch_size=3, retry_failed=True)
    again, summary = run(files, out, batch_size=2, retry_failed=True)
    assert again.outcomes == {}
    assert summary.outcomes == {"ok": 6}
