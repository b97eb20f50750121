from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.cli import main
from hstmap.errors import UsageError
from hstmap.report.names import named_near
from hstmap.report.results import RunResults
from hstmap.wfc3.schema import IMAGES_KEY
from support.archive import write_archive, write_broken_files


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    write_archive(folder / "images", 2)
    write_broken_files(folder / "images")
    arguments = ["map", str(folder / "images"), "-o", str(folder / "out"), "--engine", "inprocess"]
    assert main([*arguments, "--quiet", "--no-reduce"]) == 1
    return folder / "out"


def test_sources_are_those_of_the_image(out):
    results = RunResults(str(out))
    assert [row["rootname"] for row in results.images()] == ["isim01a1q", "isim02a1q"]
    for row in (*results.images(), results.images()[0]):
        sources = results.sources_of(row)
        assert set(sources["rootname"]) == {row["rootname"]}
        np.testing.assert_array_equal(sources["number"], np.arange(row["n_sources"]) + 1)


def test_the_best_of_several_outcomes_counts(out):
    part = next((out / "parts").iterdir())
    before = RunResults(str(out)).image("isim02a1q")
    # As another attempt leaves it behind that could not read the image; sorts after all others.
    row = before | {"outcome": "failed", "message": "no luck", "n_sources": 0, "part": "parts/z"}
    metadata = {IMAGES_KEY: json.dumps([row])}
    later = out / "parts" / f"zz{part.name}"
    schema = pq.read_schema(part).with_metadata(metadata)
    pq.write_table(pa.Table.from_batches([], schema), later)
    try:
        assert RunResults(str(out)).image("isim02a1q") == before
    finally:
        later.unlink()


@pytest.mark.parametrize(
    ("rootname", "said"),
    [
        ("isim1a1q", "isim01a1q, .* and others"),
        ("ISIM01A1Q", "isim01a1q, .* and others"),
        ("zzz", "ibad01a1q, ibad02a1q, ibad03a1q, ibad04a1q, isim01a1q and others"),
        ("ibad02a1q", "ibad02a1q ended as failed: .*"),
        ("ibad04a1q", "ibad04a1q ended as rejected: .*G141"),
    ],
)
def test_an_image_without_sources_is_refused(out, rootname, said):
    with pytest.raises(UsageError, match=said):
        RunResults(str(out)).image(rootname)


def test_where_there_is_no_run(tmp_path):
    with pytest.raises(UsageError, match="there is no run at"):
        RunResults(str(tmp_path))


NAMES = st.text("abBC_1", min_size=1)


@given(NAMES, st.sets(NAMES, max_size=9))
def test_some_name_is_always_named(name, known):
    text = named_near(name, known)
    assert not known or any(text.startswith(each) for each in known)
    assert text.endswith(" and others") or text == "none" or text.count(", ") == len(known) - 1


def test_the_likest_name_comes_first():
    assert named_near("flux_autp", {"flux_auto", "flux_auto_err", "x"}).startswith("flux_auto,")
    assert named_near("RA", ["ra", "dec"]) == "ra and others"
    assert named_near("ra", []) == "none"
