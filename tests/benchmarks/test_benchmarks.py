"""The entry of the benchmarks, how they time, and the short form of the one of a single image."""

from __future__ import annotations

import argparse
import json
import math
import re
import time
import types
from pathlib import Path

import numpy as np
import pytest
import sep

import benchmarks.__main__ as entry
from benchmarks import image
from benchmarks.frames import simulate_frames
from benchmarks.measuring import CallClock, Timings, machine_lines
from hstmap.wfc3 import measure as measure_module

# -- the entry -----------------------------------------------------------------------------------


def test_every_benchmark_is_listed_with_its_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}
    assert {"image", "throughput", "peers", "billed", "reduce", "manifest", "bag_overhead",
            "compare", "history"} <= set(listed)  # fmt: skip
    for name, first in listed.items():
        assert first.endswith((".", ":", ",")) or len(first) > 30, name
    assert "measuring" not in listed


def test_what_is_no_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        entry.main(["measuring"])
    assert "invalid choice: 'measuring'" in capsys.readouterr().err


def test_machine_date_and_versions_come_before_the_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run(arguments: argparse.Namespace) -> dict[str, float]:
        print(f"figures of {arguments.images}")  # noqa: T201
        return {"image_s": 0.5}

    monkeypatch.setattr(image, "run", run)
    kept = tmp_path / "figures.json"
    assert entry.main(["image", "--images", "3", "--json", str(kept)]) == 0
    said = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert said == ["machine", "date", "versions", "load", "figures"]
    record = json.loads(kept.read_text())
    assert (record["benchmark"], record["figures"]) == ("image", {"image_s": 0.5})
    assert set(record["machine"]) == {"machine", "date", "versions"}


def test_the_machine_is_described() -> None:
    lines = machine_lines()
    assert re.fullmatch(r"machine   \S.*, \d+ cores, \w+", lines["machine"])
    assert re.fullmatch(r"date      \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", lines["date"])
    assert f"sep {sep.__version__}" in lines["versions"]
    assert f"numpy {np.__version__}" in lines["versions"]


# -- timing --------------------------------------------------------------------------------------


def test_timings_have_a_median_and_quartiles() -> None:
    timings = Timings([0.005, 0.001, 0.002, 0.004, 0.003])
    assert timings.median_s == 0.003
    low, high = timings.quartiles_s
    assert 0.001 <= low <= 0.002
    assert 0.004 <= high <= 0.005
    assert str(timings).strip().startswith("3.00 ms")
    assert timings.as_dict()["n"] == 5
    assert Timings([0.25]).quartiles_s == (0.25, 0.25)


def test_timings_take_the_time_of_what_happens_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.5, 20.0, 21.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    timings = Timings()
    for _ in range(2):
        with timings.measure():
            pass
    assert timings.times_s == [0.5, 1.0]


def test_calls_are_timed_wherever_they_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    owner = types.SimpleNamespace(double=lambda x: 2 * x, fail=lambda: 1 / 0)
    originals = owner.double, owner.fail
    with CallClock(owner, ("double", "fail")) as clock:
        assert [owner.double(x) for x in (1, 2)] == [2, 4]
        with pytest.raises(ZeroDivisionError):
            owner.fail()
        assert clock.take() == {"double": 2.0, "fail": 1.0}
        owner.double(3)
    assert (owner.double, owner.fail) == originals
    assert clock.take() == {"double": 1.0, "fail": 0.0}


# -- one image -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (path,) = simulate_frames(tmp_path_factory.mktemp("frames"), 1, "sparse")
    return path


def short(frame: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    image.add_arguments(parser)
    arguments = parser.parse_args([str(frame)])
    arguments.short = True
    return arguments


def test_the_short_form_splits_the_time_of_an_image(
    frame: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = image.run(short(frame))
    steps = sum(figures[f"{step}_s"] for step in ("read", "background", "extract", "measure"))
    assert 0 < figures["sep_s"] < figures["image_s"]
    assert math.isclose(figures["sep_share"], figures["sep_s"] / figures["image_s"])
    assert 0 < figures["sep_cpu_s"] < figures["image_cpu_s"]
    assert math.isclose(figures["sep_cpu_share"], figures["sep_cpu_s"] / figures["image_cpu_s"])
    assert steps > 0
    assert figures["n_sources"] > 100
    said = capsys.readouterr().out
    assert said.index("answer    equals SEP called directly") < said.index("SEP's C code")
    assert sep.Background.__module__ == "sep"
    assert sep.extract.__module__ == "sep"


def test_another_answer_has_no_time(frame: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def moved(*arguments: object) -> dict[str, np.ndarray]:
        sources = measure_module.measure(*arguments)
        return sources | {"x_barycentre": sources["x_barycentre"] + 1e-9}

    monkeypatch.setattr(image, "measure", moved)
    with pytest.raises(AssertionError):
        image.run(short(frame))
