"""Measure what images take, for plans and simulations: makes a profile file.

Runs simulated scenes of all kinds, and real frames where a folder of them is given, one after
another in this process, with a catalogue for each, and once more in a worker for its memory;
starts a worker's Python a few times. What the reduce takes is that of synthetic parts, for as many
sources an image as these have on average.

Times are CPU time, of the thread that measures and of the processes that start, and of an image and
a batch the least of all runs: what else this machine does is none of Lambda's, stragglers and
reading are simulated apart.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from benchmarks import reduce
from benchmarks.measuring import machine_lines
from benchmarks.reduce import Size
from hstmap.account.run_measured import profile_of_run
from hstmap.account.run_profile import DEFAULT_PROFILE, ImageSample, Profile
from hstmap.cli import main as hstmap
from hstmap.parts import placed_images
from hstmap.storage import open_store
from hstmap.wfc3.simulate import simulate_flt
from hstmap.wfc3.simulate_scene import SCENES, scene

BATCH_SIZE = 8
_REDUCED = (Size(10, 100, 300), Size(40, 100, 10), Size(40, 100, 300))
_REDUCED_SHORT = (Size(2, 10, 20), Size(8, 10, 1), Size(8, 10, 20))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--frames", type=Path, help="folder of real FLT files, used as they are")
    parser.add_argument("--simulated", type=int, default=6, help="simulated images a scene")
    parser.add_argument("--repeat", type=int, default=3, help="runs over all of them")
    parser.add_argument("-o", "--output", type=Path, help="the profile file")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print and write the profile."""
    n_each, n_runs = (1, 1) if arguments.short else (arguments.simulated, arguments.repeat)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate(folder / "images", n_each)
        sources = [folder / "images", *([arguments.frames] if arguments.frames else [])]
        init_s = tuple(_start_s() for _ in range(2 if arguments.short else 7))
        profiles = [_measured(sources, folder / f"out{i}", init_s) for i in range(n_runs)]
        rows = [item.row for item in placed_images(open_store(str(folder / "out0"))).values()]
        sources_an_image = sum(row["n_sources"] for row in rows) / len(rows)
        peak_memory_nbytes = _peak_memory(sources, folder / "peak")
    _, (_, image_s, source_s) = reduce.measure(_REDUCED_SHORT if arguments.short else _REDUCED)
    profile = replace(
        profiles[0],
        name=DEFAULT_PROFILE,
        origin=f"python -m benchmarks profile: {len(profiles[0].images)} images"
        f"{' with real frames' if arguments.frames else ''}, CPU time, fastest of {n_runs} runs",
        images=tuple(map(_fastest, zip(*(item.images for item in profiles), strict=True))),
        overhead_s=tuple(map(min, zip(*(item.overhead_s for item in profiles), strict=True))),
        reduce_s_image=round(image_s + source_s * sources_an_image, 6),
        peak_memory_nbytes=peak_memory_nbytes,
    )
    if arguments.output:
        arguments.output.write_text(profile.as_json())
    figures = {
        "n_images": len(profile.images),
        "mean_compute_s": profile.mean_compute_s,
        "mean_nbytes_read": profile.mean_nbytes_read,
        "sources_an_image": sources_an_image,
        "init_s": sorted(profile.init_s)[len(profile.init_s) // 2],
        "reduce_s_image": profile.reduce_s_image,
        "peak_memory_mb": profile.peak_memory_nbytes / 2**20,
        "part_nbytes_image": profile.part_nbytes_image,
        "catalog_nbytes_image": profile.catalog_nbytes_image,
        "summary_nbytes_image": profile.summary_nbytes_image,
    }
    for label, value in figures.items():
        print(f"{label:22s} {value:,.4f}")
    return figures


def simulate(folder: Path, n_each: int) -> None:
    """Write so many images of each scene."""
    folder.mkdir()
    for i_scene, kind in enumerate(SCENES):
        for i in range(n_each):
            parameters = replace(scene(kind), seed=1000 * i_scene + i)
            image = simulate_flt(parameters, f"i{i_scene:03d}{i:03d}1q")
            (folder / image.filename).write_bytes(image.content)


def _fastest(samples: Sequence[ImageSample]) -> ImageSample:
    """Take of several runs of an image the fastest, step by step."""
    compute_s = min(item.compute_s for item in samples)
    return replace(samples[0], compute_s=compute_s, catalog_s=min(x.catalog_s for x in samples))


def _measured(sources: list[Path], out: Path, init_s: tuple[float, ...]) -> Profile:
    """Run the map alone in this process."""
    with patch("hstmap.worker.time", SimpleNamespace(perf_counter=time.thread_time)):
        hstmap(["map", *map(str, sources), "-o", str(out), "--engine", "inprocess", "--quiet",
                "--batch-size", str(BATCH_SIZE)])  # fmt: skip
    machine = machine_lines()
    unmeasured = ImageSample(0.0, 0.0, 0)
    base = Profile(
        name="", origin="", machine="", date="", images=(unmeasured,), n_get_image=0.0,
        overhead_s=(0.0,), init_s=init_s, part_nbytes_image=0.0, catalog_nbytes_image=0.0,
        reduce_s_image=0.0,
    )  # fmt: skip
    profile = profile_of_run(open_store(str(out)), base)
    return replace(
        profile,
        machine=machine["machine"].split(maxsplit=1)[1],
        date=machine["date"].split(maxsplit=1)[1],
    )


def _peak_memory(sources: list[Path], out: Path) -> int:
    """Tell what a worker holds that does all images in one batch, bytes."""
    hstmap(["map", *map(str, sources), "-o", str(out), "--quiet", "--workers", "1",
            "--batch-size", "100", "--no-reduce"])  # fmt: skip
    return profile_of_run(open_store(str(out))).peak_memory_nbytes


def _start_s() -> float:
    """Time a worker's start: a Python that imports what Lambda's INIT imports."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import hstmap.handler"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 4)
