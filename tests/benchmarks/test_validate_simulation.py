"""How predictions are held against runs, without the runs: those are for the benchmark itself."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

from benchmarks import validate
from benchmarks.validate import LINES, LOOPBACK, Case, predict
from hstmap.account.run_profile import ImageSample, load_profile

#: As a run on the loopback AWS leaves it: waits are measured, and nothing is drawn at random.
EVEN = dataclasses.replace(
    load_profile(),
    images=(ImageSample(0.5, 0.25, 7_500_000),),
    n_get_image=1.0, overhead_s=(0.125,), init_s=(1.0,), wait_s=(0.05,), call_s=0.01,
    on_lambda=True,
)  # fmt: skip


def test_a_prediction_has_all_lines_and_is_what_arithmetic_says():
    told = predict(Case(40, 5, True, "none"), EVEN, 1769)
    assert list(told) == list(LINES)
    call_s = 5 * (0.5 + 0.125) + 0.05 + 0.01
    assert told["n_calls"] == 8
    assert told["n_cold"] == 2
    assert told["init_s"] == pytest.approx(2.0)
    assert told["gb_s"] == pytest.approx((8 * call_s + 2) * 1769 / 1024, rel=1e-3)
    # Four rounds, of which each is seen at the client's next look.
    assert 1 + 4 * call_s <= told["map_s"] <= 1 + 4 * (call_s + LOOPBACK.poll_s)
    assert told["n_get"] == 40 + 8 + 2 + 1
    assert told["n_put"] == 8 + 16 + 1


def test_a_warm_run_has_no_start_and_half_the_memory_half_the_speed():
    cold, warm = (predict(Case(40, 5, is_cold, "none"), EVEN, 1769) for is_cold in (True, False))
    assert warm["n_cold"] == warm["init_s"] == 0
    assert cold["map_s"] - warm["map_s"] == pytest.approx(1.0, abs=LOOPBACK.poll_s)
    slow = predict(Case(40, 5, False, "none"), EVEN, 884)
    assert slow["map_s"] == pytest.approx(2 * warm["map_s"], rel=0.05)
    assert slow["gb_s"] == pytest.approx(warm["gb_s"], rel=0.05)


@pytest.mark.parametrize(("catalogs", "n_files"), [("none", 0), ("batch", 8), ("image", 40)])
def test_catalogues_are_among_the_writes(catalogs, n_files):
    told = predict(Case(40, 5, False, catalogs), EVEN, 1769)
    assert told["n_put"] == 8 + n_files + 16 + 1


def test_two_profiles_are_one_of_both_times():
    slow = dataclasses.replace(EVEN, images=(ImageSample(1.5, 0.25, 7_500_000),), init_s=(3.0,))
    both = validate._merged(EVEN, slow)
    assert both.mean_compute_s == pytest.approx(1.0)
    assert both.init_s == (1.0, 3.0)
    assert both.overhead_s_image == EVEN.overhead_s_image
    case = Case(200, 1, True, "none")
    between = [predict(case, profile, 1769)["gb_s"] for profile in (EVEN, both, slow)]
    assert between[0] < between[1] < between[2]


def test_errors_are_by_line_and_nothing_is_divided_by_nothing(capsys):
    told = dict.fromkeys(LINES, 11.0)
    took = dict.fromkeys(LINES, 10.0) | {"n_cold": 0}
    row = validate._print(Case(10, 5, False, "batch"), told, took)
    shown = capsys.readouterr().out
    assert "10 images, 5 a call, warm, batch" in shown
    assert shown.count("+10%") == len(LINES) - 1
    assert row["errors"].keys() == set(LINES) - {"n_cold"}
    assert row["errors"]["gb_s"] == pytest.approx(0.1)


def test_a_cold_run_ends_the_environments_before_it():
    said = []
    loopback = SimpleNamespace(
        end_environments=lambda: said.append("end"), map=lambda *words: said.append(words)
    )
    validate._make(loopback, "s3://x", Case(10, 5, False, "image"), 1024)
    validate._make(loopback, "s3://x", Case(10, 5, True, "image"), 1024)
    words = ("s3://x", 1024, "--limit", "10", "--batch-size", "5", "--catalogs", "image")
    assert said == [words, "end", words]
