"""Measure what images take, for plans and simulations: makes a profile file.

Runs simulated scenes of all kinds, and real frames where a folder of them is given, one after
another in this process, with a catalogue for each; starts a worker's Python a few times.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.measuring import machine_lines
from hstmap.cli import main as hstmap
from hstmap.run_measured import profile_of_run
from hstmap.run_profile import DEFAULT_PROFILE, ImageSample, Profile
from hstmap.storage import open_store
from hstmap.wfc3.simulate import simulate_flt
from hstmap.wfc3.simulate_scene import SCENES, scene

BATCH_SIZE = 8


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
        of_one_scene = sorted((folder / "images").glob("i000*"))
        few = [_measured(of_one_scene, folder / f"few{i}", init_s) for i in range(n_runs)]
    profile = replace(
        profiles[0],
        name=DEFAULT_PROFILE,
        origin=f"python -m benchmarks profile: {len(profiles[0].images)} images"
        f"{' with real frames' if arguments.frames else ''}, {n_runs} runs",
        images=tuple(image for item in profiles for image in item.images),
        overhead_s=tuple(value for item in profiles for value in item.overhead_s),
        reduce_s_image=_further_image_s(few, profiles),
    )
    if arguments.output:
        arguments.output.write_text(profile.as_json())
    figures = {
        "n_images": len(profile.images),
        "mean_compute_s": profile.mean_compute_s,
        "mean_nbytes_read": profile.mean_nbytes_read,
        "init_s": sorted(profile.init_s)[len(profile.init_s) // 2],
        "reduce_s_image": profile.reduce_s_image,
        "part_nbytes_image": profile.part_nbytes_image,
        "catalog_nbytes_image": profile.catalog_nbytes_image,
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


def _further_image_s(few: list[Profile], many: list[Profile]) -> float:
    """Tell what a further image adds to a reduce from the fastest of two sizes, s."""
    sizes = [len(few[0].images), len(many[0].images)]
    times_s = [
        min(item.reduce_s_image for item in profiles) * size
        for profiles, size in zip((few, many), sizes, strict=True)
    ]
    return round(max(0.0, times_s[1] - times_s[0]) / (sizes[1] - sizes[0]), 6)


def _measured(sources: list[Path], out: Path, init_s: tuple[float, ...]) -> Profile:
    """Run the map alone on this process, and the reduce after it."""
    hstmap(["map", *map(str, sources), "-o", str(out), "--engine", "inprocess", "--quiet",
            "--batch-size", str(BATCH_SIZE), "--no-reduce"])  # fmt: skip
    started = time.perf_counter()
    hstmap(["reduce", str(out), "--quiet"])
    reduce_s = time.perf_counter() - started
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
        reduce_s_image=reduce_s / len(profile.images),
    )


def _start_s() -> float:
    """Time a worker's start: a Python that imports what Lambda's INIT imports."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import hstmap.worker"], check=True)
    return round(time.perf_counter() - started, 4)
