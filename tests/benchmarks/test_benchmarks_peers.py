"""The peers do what is said of them, find what hstmap finds, and are compared within a round."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import function_of_2018, peers
from benchmarks.frames import simulate_frames
from benchmarks.peer_runs import CONTESTANTS, Job, in_folder, run_twice
from benchmarks.peers import Inputs, Memory, Pass, agreement
from benchmarks.sextractor import find_sextractor
from hstmap.batch import RunParameters


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (path,) = simulate_frames(tmp_path_factory.mktemp("frames"), 1, "sparse")
    return path


@pytest.fixture(scope="module")
def inputs(frame: Path, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return Inputs([frame], tmp_path_factory.mktemp("inputs"), 2)


@pytest.fixture(scope="module")
def ours(inputs: Inputs) -> dict[str, np.ndarray]:
    """What the plain script finds, which test_benchmarks_throughput.py holds to be hstmap's."""
    return _found("multiprocessing.Pool", inputs.job("flt", 2, 1))


def _found(name: str, job: Job) -> dict[str, np.ndarray]:
    contestant = CONTESTANTS[name]
    with contestant.make(job) as run:
        run(job)
    return contestant.found(Path(job.out))


# -- contestants ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dask.bag, processes", "SExtractor", "photutils"])
def test_a_peer_finds_what_hstmap_finds(
    name: str, inputs: Inputs, ours: dict[str, np.ndarray]
) -> None:
    if name == "SExtractor" and find_sextractor() is None:
        pytest.skip("source-extractor is not installed")
    theirs = _found(name, inputs.job(CONTESTANTS[name].kind, 2, 1))
    found = agreement(ours, theirs)
    assert found["n_images"] == 2
    assert found["share_of_ours"] > 0.95
    peers.check({name: found})
    if name.startswith("dask"):
        assert found["n_equal"] == 2


def test_a_contestant_runs_twice_in_an_interpreter_of_its_own(
    inputs: Inputs, ours: dict[str, np.ndarray]
) -> None:
    job = inputs.job("flt", 2, 1)
    measured = peers.measure("hstmap", job)
    assert measured.n_images == 2
    assert measured.first_s > measured.again_s > 0
    assert measured.cpu_s > 0.02
    # Python with numpy, at the least; the tree has the client, too.
    assert 50 < measured.worker_mb < 1000
    assert measured.tree_mb > measured.worker_mb > measured.worker_share_mb > 20
    for name in ("first", "again"):
        found = agreement(ours, CONTESTANTS["hstmap"].found(Path(job.out, name)))
        assert found["n_equal"] == found["n_images"] == 2


def test_a_contestant_that_breaks_is_told(inputs: Inputs) -> None:
    job = inputs.job("flt", 1, 1)
    broken = Job((*job.inputs, "nowhere_flt.fits"), job.out, 1, job.settings)
    with pytest.raises(RuntimeError, match=r"(?s)multiprocessing\.Pool ended with 1.*nowhere"):
        peers.measure("multiprocessing.Pool", broken)


def test_passes_write_into_folders_of_their_own(inputs: Inputs) -> None:
    job = inputs.job("flt", 1, 1)
    figures = run_twice("multiprocessing.Pool", job)
    assert set(figures) == {"first_s", "again_s", "cpu_s"}
    assert [path.name for path in sorted(Path(job.out).iterdir())] == ["again", "first"]
    with pytest.raises(FileExistsError):
        in_folder(job, "first")


# -- the function of 2018 ------------------------------------------------------------------------


def test_the_function_of_2018_leaves_a_table_and_a_picture(
    inputs: Inputs, ours: dict[str, np.ndarray], tmp_path: Path
) -> None:
    (path,) = inputs.job("drz", 1, 1).inputs
    n_sources = function_of_2018.process_image(path, str(tmp_path))
    assert sorted(each.suffix for each in tmp_path.iterdir()) == [".fits", ".png"]
    found = CONTESTANTS["function of 2018"].found(tmp_path)
    (positions,) = found.values()
    assert len(positions) == n_sources > 50
    # Its threshold is higher: it has fewer, nearly all of which hstmap has.
    assert agreement(ours, found)["share_of_theirs"] > 0.9
    without = tmp_path / "without"
    without.mkdir()
    assert function_of_2018.process_image(path, str(without), picture=False) == n_sources
    assert [each.suffix for each in without.iterdir()] == [".fits"]


def test_what_the_function_of_2018_takes_has_weights_instead_of_errors(
    frame: Path, tmp_path: Path
) -> None:
    from astropy.io import fits

    bits = RunParameters().read.mask_bits
    function_of_2018.write_drz(frame, tmp_path / "x_drz.fits", bits)
    with fits.open(tmp_path / "x_drz.fits") as drz, fits.open(frame) as flt:
        masked = (flt["DQ"].data & bits) != 0
        assert (drz["WHT"].data[masked] == 0).all()
        good = ~masked
        np.testing.assert_allclose(
            drz["WHT"].data[good], flt["ERR"].data[good].astype(float) ** -2.0, rtol=1e-5
        )
        np.testing.assert_array_equal(drz["SCI"].data[good], flt["SCI"].data[good])


# -- inputs and memory ---------------------------------------------------------------------------


def test_every_image_has_its_own_name_in_every_form(inputs: Inputs) -> None:
    kinds = ["flt", "drz", *(["planes"] if find_sextractor() else [])]
    for kind in kinds:
        job = inputs.job(kind, 2, 3)
        assert len(set(job.inputs)) == 2
        assert all(Path(path).exists() for path in job.inputs)
        assert job.n_workers == 3
        assert job.settings["detection.threshold"] == RunParameters().detection.threshold


def memory_of(code: str) -> Memory:
    """What a program's processes hold when it prints; they have gone afterwards."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        memory = Memory(process.pid)
        memory.look()
        process.communicate()
    return memory


def test_memory_of_descendants_is_seen() -> None:
    code = (
        "import subprocess, sys; "
        "subprocess.run([sys.executable, '-c', 'x = bytearray(80_000_000); print(1, flush=True);"
        " import sys; sys.stdin.read()'])"
    )
    memory = memory_of(code)
    assert 80 < memory.worker_mb < 200
    assert memory.tree_mb > memory.worker_share_mb > 80
    memory.look()  # a process that has gone changes nothing
    assert 80 < memory.worker_mb < 200


def test_what_processes_share_is_counted_once() -> None:
    """Two forks look at the same 60 MB of their parent's, and one has 30 MB of its own."""
    code = (
        "import os, sys; x = bytearray(60_000_000); r, w = os.pipe()\n"
        "for nbytes in (0, 30_000_000):\n"
        "    if not os.fork():\n"
        "        y = bytearray(nbytes); os.write(w, b'1'); sys.stdin.read(); os._exit(0)\n"
        "os.read(r, 1); os.read(r, 1); print(1, flush=True); sys.stdin.read()"
    )
    memory = memory_of(code)
    assert 90 < memory.tree_mb < 150
    assert 45 < memory.worker_share_mb < 75
    assert 88 < memory.worker_mb < 130


def test_memory_is_watched_meanwhile() -> None:
    with Memory(os.getpid()) as memory:
        while not memory.tree_mb:
            pass
    assert memory.tree_mb > 20


# -- comparison ----------------------------------------------------------------------------------


def test_speeds_are_compared_within_a_round() -> None:
    passes = {
        "hstmap": [Pass(10, 4.0, 1.0, 0.5, 300, 60, 100), Pass(10, 9.0, 3.0, 0.5, 320, 60, 90)],
        "photutils": [Pass(2, 4.0, 2.0, 1.0, 200, 70, 150), Pass(2, 4.0, 6.0, 1.0, 220, 80, 170)],
    }
    figures = peers.compared(passes)
    assert figures["hstmap"]["hstmap_is_faster_by"]["median"] == 1.0
    assert figures["photutils"]["hstmap_is_faster_by"] == {
        "median": 10.0, "low": 10.0, "high": 10.0, "n": 2,
    }  # fmt: skip
    assert figures["photutils"]["hstmap_is_faster_by_cpu"]["median"] == 10.0
    assert figures["hstmap"]["images_s"]["median"] == pytest.approx((10 + 10 / 3) / 2)
    assert figures["photutils"]["tree_mb"]["median"] == 210
    assert figures["photutils"]["worker_share_mb"]["median"] == 75
    assert figures["photutils"]["worker_mb"]["median"] == 160


def test_agreement_counts_both_ways() -> None:
    first = {"a": np.array([[1.0, 1.0], [5.0, 5.0], [9.0, 9.0]]), "b": np.array([[1.0, 1.0]])}
    other = {"a": np.array([[1.5, 1.0], [7.0, 5.0]]), "c": np.array([[1.0, 1.0]])}
    assert agreement(first, other) == {
        "n_images": 1, "n_equal": 0, "share_of_ours": 1 / 3, "share_of_theirs": 1 / 2,
    }  # fmt: skip
    assert agreement(first, first)["n_equal"] == 2
    assert agreement(first, {"a": np.empty((0, 2))})["share_of_ours"] == 0.0


@pytest.mark.parametrize(
    ("name", "changes", "fits"),
    [
        ("multiprocessing.Pool", {}, True),
        ("multiprocessing.Pool", {"n_equal": 2}, False),
        ("hstmap", {"n_images": 0}, False),
        ("SExtractor", {"n_equal": 0, "share_of_ours": 0.95}, True),
        ("SExtractor", {"n_equal": 0, "share_of_ours": 0.5}, False),
        ("photutils", {"n_equal": 0, "share_of_ours": 0.95}, True),
        ("function of 2018", {"n_equal": 0, "share_of_ours": 0.3}, True),
    ],
)
def test_who_does_something_else_has_no_time(name: str, changes: dict, fits: bool) -> None:
    found = {"n_images": 3, "n_equal": 3, "share_of_ours": 1.0, "share_of_theirs": 1.0} | changes
    if fits:
        peers.check({name: found})
    else:
        with pytest.raises(RuntimeError, match=name):
            peers.check({name: found})


def test_the_short_form_runs_and_its_figures_are_whole(
    frame: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    peers.add_arguments(parser)
    arguments = parser.parse_args([str(frame), "--workers", "2"])
    arguments.short = True
    figures = peers.run(arguments)
    assert list(figures["contestants"]) == ["hstmap", "multiprocessing.Pool"]
    for one in figures["contestants"].values():
        assert one["images_s"]["median"] > one["images_s_with_start"]["median"] > 0
        assert one["n_images"] == 4
    assert figures["agreement"]["multiprocessing.Pool"]["n_equal"] == 4
    said = capsys.readouterr().out
    assert "medians of n = 1 rounds" in said
    assert said.index("4/4") < said.index("images/s")  # the answer comes before the time
    json.dumps(figures)
