"""Images a second on this machine, from local files and a throttled S3, beside SEP alone.

The bound is the calls of SEP that the default measurement makes, on arrays in memory and nothing
else, in as many processes as there are workers. Runs go as ``hstmap map`` goes, on workers that
Lithops started. Their ratio to the bound is taken with the workers up; what the start takes is
told, and what the ratio would be with it. Bound and runs take turns, because the machine may do
other work as well, and each round is a ratio: of the clock, and of the CPU time of all processes.
The server of the S3 runs on the same processors, which is none of hstmap's doing: a second bound
makes the same calls while bare sockets read the same bytes from it, at the pace of the calls.
The sources of each run must be those of astropy and SEP called directly, without hstmap.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq

from benchmarks.bare_reader import Objects
from benchmarks.bound import bound_of
from benchmarks.frames import lay_out, manifest_of, rootname, simulate_frames
from benchmarks.measuring import Spread
from benchmarks.plain import make_table
from benchmarks.throttled_s3 import MB_S, throttled_s3
from hstmap.archive.manifest import Manifest
from hstmap.bag.engine import Engine, EngineOptions, make_engine
from hstmap.batch import RunParameters
from hstmap.pipeline import BATCH_MODULES, RunOptions, plan_run, run_map
from hstmap.storage import StorageOptions
from hstmap.wfc3.image import first_nbytes

#: A run and its time: seconds of the clock, and of the CPU of all its processes.
Contestant = Callable[[], tuple[float, float]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("frames", nargs="*", type=Path, help="FLT files (default: simulated)")
    parser.add_argument("--images", type=int, default=192, help="images a run")
    parser.add_argument("--batch-size", type=int, default=48, help="images a task")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--mb-s", type=float, default=MB_S, help="rate of an S3 connection")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="of the first byte from S3")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print and return the figures."""
    n_images = 8 if arguments.short else arguments.images
    n_rounds = 2 if arguments.short else arguments.rounds
    n_workers = arguments.workers
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = folder / "archive"
        frames = arguments.frames or simulate_frames(folder / "frames", 1 if arguments.short else 3)
        links = lay_out(frames, archive, n_images)
        expected = [barycentres(frame) for frame in frames]
        options = RunOptions(
            batch_size=max(1, min(arguments.batch_size, n_images // n_workers)),
            n_workers=n_workers,
        )
        started = time.perf_counter()
        how = EngineOptions(n_workers=n_workers, preload=BATCH_MODULES)
        with make_engine("lithops", how) as engine:
            runs = Runs(engine, options, folder, expected)
            # The first image of each worker: its start, its imports, its caches.
            first = replace(runs, options=replace(options, batch_size=1))
            first.run(manifest_of(n_workers, str(archive)))
            start_s = time.perf_counter() - started
            runs = replace(runs, processes=tuple(psutil.Process().children(recursive=True)))
            with (
                throttled_s3(archive, arguments.mb_s, arguments.latency_ms) as s3,
                bound_of(frames, n_workers) as bound,
            ):
                local, remote = manifest_of(n_images, str(archive)), manifest_of(n_images, s3.url)
                served = Served(lambda: runs.run(remote, s3.storage), s3.cpu_s)
                paths = tuple(f"/{s3.bucket}/{link.relative_to(archive)}" for link in links)
                objects = Objects(s3.storage.endpoint_url or "", paths, first_nbytes("flt"))
                bound.run(n_images // 2, objects)
                contestants: dict[str, Contestant] = {
                    "bound": lambda: bound.run(n_images),
                    "bound_s3": lambda: bound.run(n_images, objects),
                    "local": lambda: runs.run(local),
                    "s3": served,
                }
                legs = take_turns(contestants, n_rounds)
    figures = compared(legs, n_images, start_s) | {
        "answer": "the sources of each run are those of SEP called directly",
        "n_images": n_images,
        "n_workers": n_workers,
        "batch_size": options.batch_size,
        "s3_mb_s": arguments.mb_s,
        "s3_latency_ms": arguments.latency_ms,
        "s3_server_cores": served.cores(),
        "frames": [path.name for path in frames],
    }
    for line in report_lines(figures):
        print(line)
    return figures


# -- contestants ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Runs:
    """Runs of hstmap on one engine.

    Attributes
    ----------
    engine : Engine
    options : RunOptions
    folder : Path
        For results, which are looked at and deleted.
    expected : sequence of numpy.ndarray
        Barycentres of the frames that the images are links to, in turn.
    processes : sequence of psutil.Process
        All of the engine's.
    """

    engine: Engine
    options: RunOptions
    folder: Path
    expected: Sequence[np.ndarray]
    processes: Sequence[psutil.Process] = ()

    def run(self, manifest: Manifest, source: StorageOptions | None = None) -> tuple[float, float]:
        """Map the images, and check what was found after the clock has stopped."""
        out = Path(tempfile.mkdtemp(dir=self.folder))
        options = self.options if source is None else replace(self.options, source_options=source)
        begun, cpu_begun_s = time.perf_counter(), self._cpu_s()
        plan = plan_run(manifest, str(out), RunParameters(), options)
        result = run_map(plan, manifest, self.engine, options)
        spent = time.perf_counter() - begun, self._cpu_s() - cpu_begun_s
        if result.outcomes != {"ok": len(manifest)}:
            raise RuntimeError(f"not all images were done: {result.outcomes}")
        check_sources(out, self.expected, len(manifest))
        shutil.rmtree(out)
        return spent

    def _cpu_s(self) -> float:
        """Add up the CPU time of this process and the workers."""
        times = (process.cpu_times() for process in self.processes)
        return time.process_time() + sum(each.user + each.system for each in times)


@dataclass
class Served:
    """A contestant that is served, and how much of a core its server takes meanwhile."""

    run: Contestant
    server_cpu_s: Callable[[], float]
    wall_s: float = 0.0
    cpu_s: float = 0.0

    def __call__(self) -> tuple[float, float]:
        """Run, and count."""
        before_s = self.server_cpu_s()
        spent = self.run()
        self.wall_s += spent[0]
        self.cpu_s += self.server_cpu_s() - before_s
        return spent

    def cores(self) -> float:
        """Give the server's CPU time over that of the clock."""
        return self.cpu_s / self.wall_s


def barycentres(frame: Path) -> np.ndarray:
    """Find the sources of a frame with astropy and SEP alone.

    Parameters
    ----------
    frame : Path

    Returns
    -------
    numpy.ndarray
        Shape (n, 2), x and y.
    """
    table = make_table(str(frame), RunParameters().as_dict())
    return np.column_stack([table["x"], table["y"]])


def check_sources(out: Path, expected: Sequence[np.ndarray], n_images: int) -> None:
    """Compare what a run found with what is expected, to the last bit.

    Parameters
    ----------
    out : Path
        The run.
    expected : sequence of numpy.ndarray
        From `barycentres`, of the frames that the images are, in turn.
    n_images : int

    Raises
    ------
    RuntimeError
        Names the first image that differs.
    """
    names = ("rootname", "x_barycentre", "y_barycentre")
    table = pq.read_table(out / "parts", columns=list(names)).to_pandas()
    found = {name: rows[list(names[1:])].to_numpy() for name, rows in table.groupby("rootname")}
    for number in range(n_images):
        name, wanted = rootname(number), expected[number % len(expected)]
        if not np.array_equal(found.get(name, np.empty((0, 2))), wanted):
            raise RuntimeError(f"{name}: its sources are not those of SEP called directly")


# -- turns ---------------------------------------------------------------------------------------


@dataclass
class Leg:
    """What one contestant took in each round, s."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)


def take_turns(contestants: dict[str, Contestant], n_rounds: int) -> dict[str, Leg]:
    """Run all contestants in each round, every other round backwards.

    Parameters
    ----------
    contestants : dict of str to callable
    n_rounds : int

    Returns
    -------
    dict of str to Leg
    """
    legs = {name: Leg() for name in contestants}
    for number in range(n_rounds):
        for name in list(contestants)[:: -1 if number % 2 else 1]:
            wall_s, cpu_s = contestants[name]()
            legs[name].wall_s.append(wall_s)
            legs[name].cpu_s.append(cpu_s)
    return legs


def compared(legs: dict[str, Leg], n_images: int, start_s: float) -> dict[str, Any]:
    """Compare the runs with the bound, round by round.

    Parameters
    ----------
    legs : dict of str to Leg
        One is ``bound``; one may be ``bound_s3``, which ``s3`` is compared with as well.
    n_images : int
        Of each run.
    start_s : float
        What the start of the workers took.

    Returns
    -------
    dict
    """
    figures: dict[str, Any] = {"start_s": start_s}
    for name, leg in legs.items():
        figures[name] = {
            "images_s": Spread([n_images / wall_s for wall_s in leg.wall_s]).as_dict(),
            "cpu_ms_an_image": Spread([1e3 * cpu_s / n_images for cpu_s in leg.cpu_s]).as_dict(),
        }
        for limit in {"bound": (), "s3": ("bound", "bound_s3")}.get(name, ("bound",)):
            if limit in legs:
                figures[name] |= _over(leg, legs[limit], limit)
        if name in ("local", "s3"):
            pairs = zip(legs["bound"].wall_s, leg.wall_s, strict=True)
            ratios = [bound / (own + start_s) for bound, own in pairs]
            figures[name]["of_bound_with_start"] = Spread(ratios).as_dict()
    return figures


def _over(leg: Leg, limit: Leg, name: str) -> dict[str, dict[str, float]]:
    """Give what a leg reaches of a bound."""
    by_clock = zip(limit.wall_s, leg.wall_s, strict=True)
    by_cpu = zip(limit.cpu_s, leg.cpu_s, strict=True)
    return {
        f"of_{name}": Spread([bound / own for bound, own in by_clock]).as_dict(),
        f"of_{name}_cpu": Spread([bound / own for bound, own in by_cpu]).as_dict(),
    }


def report_lines(figures: dict[str, Any]) -> list[str]:
    """Write the figures down.

    Parameters
    ----------
    figures : dict

    Returns
    -------
    list of str
    """
    lines = [
        f"answer    {figures['answer']}",
        f"frames    {', '.join(figures['frames'])}; {figures['n_images']} images a run, "
        f"{figures['batch_size']} a task, {figures['n_workers']} workers",
        f"S3        {figures['s3_mb_s']:g} MB/s a connection; its server took "
        f"{figures['s3_server_cores']:.2f} of a core",
        f"start     {figures['start_s']:.2f} s until each worker has done an image",
    ]
    for name in ("bound", "bound_s3", "local", "s3"):
        leg = figures[name]
        line = f"{name:8s} {_text(leg['images_s'], 1)} images/s "
        lines.append(line + f"{_text(leg['cpu_ms_an_image'], 1)} ms of CPU an image")
    beside = "while bare sockets read the same bytes beside it"
    lines.append(f"bound_s3 {_text(figures['bound_s3']['of_bound'], 3)} of the bound, {beside}")
    for name in ("local", "s3"):
        for key, what in (
            ("of_bound", "of the bound's images/s"),
            ("of_bound_cpu", "of the bound by CPU time"),
            ("of_bound_with_start", "of the bound, start of the workers included"),
            ("of_bound_s3", "of the images/s of bound_s3"),
            ("of_bound_s3_cpu", "of bound_s3 by CPU time"),
        ):
            if key in figures[name]:
                lines.append(f"{name:8s} {_text(figures[name][key], 3)} {what}")
    return lines


def _text(spread: dict[str, float], digits: int) -> str:
    return (
        f"{spread['median']:8.{digits}f} ({spread['low']:.{digits}f} to "
        f"{spread['high']:.{digits}f}, n = {spread['n']})"
    )
