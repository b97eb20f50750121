"""Images a second and memory of hstmap beside what else finds the sources of the same frames.

Each contestant has an interpreter of its own, with the same number of workers, and maps the images
twice: from a standing start, and again with all started and warm, which is what is compared. They
take turns, because the machine may do other work at the same time; speeds are compared within a
round. Lists must agree before the times count.

Memory is looked at ten times a second. Pages that several processes share are shared out among
them (PSS), so that each is counted once: added up over all processes, at the moment when that was
most, and of the largest one but the first at that moment, which is what a worker costs. Beside it
is the most that one of these was ever seen with (VmHWM), in which pages count in full for each
process that shares them, as they do to `ps` and to limits.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from scipy.spatial import cKDTree

from benchmarks.frames import simulate_frames
from benchmarks.measuring import Spread
from benchmarks.peer_runs import CONTESTANTS, Contestant, Job
from benchmarks.sextractor import find_sextractor, prepare_sextractor
from hstmap.batch import RunParameters
from hstmap.wfc3.image import read_image

ROOT = Path(__file__).resolve().parents[1]
RADIUS_PIXELS = 1.0
_SAMPLE_S = 0.1
#: Of the sources of one list, those that the other must have.
_LEAST_SHARE = {"SExtractor": 0.85, "photutils": 0.85}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("frames", nargs="*", type=Path, help="FLT files (default: simulated)")
    parser.add_argument("--images", type=int, default=96, help="images a pass")
    parser.add_argument("--images-slow", type=int, default=8, help="the same, of slow contestants")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="*", choices=tuple(CONTESTANTS), help="beside hstmap")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print and return the figures."""
    names = ["hstmap", *(arguments.only if arguments.only is not None else list(CONTESTANTS)[1:])]
    n_rounds, sizes = arguments.rounds, (arguments.images, arguments.images_slow)
    if arguments.short:
        n_rounds, sizes = 1, (4, 2)
        names = names if arguments.only is not None else ["hstmap", "multiprocessing.Pool"]
    if "SExtractor" in names and find_sextractor() is None:
        print("SExtractor is not installed: apt-get install source-extractor")
        names.remove("SExtractor")
    passes: dict[str, list[Pass]] = {name: [] for name in dict.fromkeys(names)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frames = arguments.frames or simulate_frames(folder / "frames", 1 if arguments.short else 3)
        inputs = Inputs(frames, folder, max(sizes))
        lists: dict[str, dict[str, Any]] = {}
        for number in range(n_rounds):
            for who in list(passes)[:: -1 if number % 2 else 1]:
                contestant = CONTESTANTS[who]
                n_images = sizes[contestant.slow]
                job = inputs.job(contestant.kind, n_images, arguments.workers)
                passes[who].append(measure(who, job))
                lists[who] = contestant.found(Path(job.out, "again"))
                shutil.rmtree(job.out)
    figures: dict[str, Any] = {
        "n_workers": arguments.workers,
        "n_images": sizes[0],
        "n_images_slow": sizes[1],
        "frames": [path.name for path in frames],
        "contestants": compared(passes),
        "agreement": {who: agreement(lists["hstmap"], lists[who]) for who in passes},
    }
    check(figures["agreement"])
    for line in report_lines(figures):
        print(line)
    return figures


# -- inputs --------------------------------------------------------------------------------------


class Inputs:
    """The same frames in every contestant's own form, which is made before its clock starts."""

    def __init__(self, frames: Sequence[Path], folder: Path, n_images: int) -> None:
        self._folder = folder
        self._paths: dict[str, list[Path]] = {"flt": [], "drz": [], "planes": []}
        self._settings = RunParameters().as_dict()
        for number in range(n_images):
            link = folder / "flt" / f"i{number:06d}aq_flt.fits"
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(frames[number % len(frames)].resolve())
            self._paths["flt"].append(link)
        self._n_frames = len(frames)

    def job(self, kind: str, n_images: int, n_workers: int) -> Job:
        """Make a job of so many images, with a folder of its own."""
        if not self._paths[kind]:
            self._prepare(kind)
        paths = tuple(str(path) for path in self._paths[kind][:n_images])
        return Job(paths, tempfile.mkdtemp(dir=self._folder), n_workers, self._settings)

    def _prepare(self, kind: str) -> None:
        """Make a form of each frame, and link it for the other images of the frame."""
        made: list[Path] = []
        for number, flt in enumerate(self._paths["flt"]):
            root = flt.name.partition("_")[0]
            path = self._folder / kind / (f"{root}_drz.fits" if kind == "drz" else root)
            path.parent.mkdir(exist_ok=True)
            if number >= self._n_frames:
                path.symlink_to(made[number % self._n_frames])
            elif kind == "drz":
                from benchmarks.function_of_2018 import write_drz

                write_drz(flt, path, int(self._settings["read.mask_bits"]))
            else:
                path.mkdir()
                with flt.open("rb") as file:
                    prepare_sextractor(read_image(file, flt.name), RunParameters(), path)
            made.append(path)
        self._paths[kind] = made


# -- one pass ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pass:
    """What a contestant took in a round.

    Attributes
    ----------
    n_images : int
    first_s, again_s : float
        Seconds of the clock, from a standing start and warm.
    cpu_s : float
        Of all processes, warm.
    tree_mb : float
        The most memory of all processes together, what they share counted once.
    worker_share_mb : float
        Of it, that of the largest process but the first.
    worker_mb : float
        The most that one of them ever had, with what it shared with others.
    """

    n_images: int
    first_s: float
    again_s: float
    cpu_s: float
    tree_mb: float
    worker_share_mb: float
    worker_mb: float


def measure(name: str, job: Job) -> Pass:
    """Run one contestant in an interpreter of its own, and watch its memory.

    Parameters
    ----------
    name : str
    job : Job

    Returns
    -------
    Pass
    """
    command = [sys.executable, "-m", "benchmarks.peer_runs", name, json.dumps(asdict(job))]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": job.out}
    with (
        tempfile.TemporaryFile("w+") as noise,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=noise, text=True
        ) as process,
    ):
        memory = Memory(process.pid)
        with memory:
            told, _ = process.communicate()
        if process.returncode:
            noise.seek(0)
            raise RuntimeError(f"{name} ended with {process.returncode}:\n{noise.read()[-2000:]}")
    return Pass(
        len(job.inputs),
        **json.loads(told),
        tree_mb=memory.tree_mb,
        worker_share_mb=memory.worker_share_mb,
        worker_mb=memory.worker_mb,
    )


@dataclass
class Memory:
    """Watches the memory of a process and its descendants from a thread."""

    pid: int
    tree_mb: float = 0.0
    worker_share_mb: float = 0.0
    worker_mb: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Memory:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_SAMPLE_S):
            self.look()

    def look(self) -> None:
        """Take a sample."""
        try:
            root = psutil.Process(self.pid)
            pids = [self.pid, *(child.pid for child in root.children(recursive=True))]
        except psutil.Error:
            return
        shares = [_kilobytes(pid, "smaps_rollup", "Pss") / 1024 for pid in pids]
        if sum(shares) > self.tree_mb:
            self.tree_mb, self.worker_share_mb = sum(shares), max(shares[1:], default=0.0)
        peaks = [_kilobytes(pid, "status", "VmHWM") / 1024 for pid in pids[1:]]
        self.worker_mb = max([self.worker_mb, *peaks])


def _kilobytes(pid: int, file: str, name: str) -> int:
    """Read a figure of a process; 0 if it has gone."""
    try:
        text = Path("/proc", str(pid), file).read_text()
    except OSError:
        return 0
    match = re.search(rf"^{name}:\s+(\d+) kB", text, re.M)
    return int(match[1]) if match else 0


# -- comparison ----------------------------------------------------------------------------------


def compared(passes: dict[str, list[Pass]]) -> dict[str, dict[str, Any]]:
    """Compare speeds within rounds, and the memory of all.

    Parameters
    ----------
    passes : dict of str to list of Pass
        One list a contestant, one pass a round; one of them is ``hstmap``.

    Returns
    -------
    dict of str to dict
    """
    ours = passes["hstmap"]
    figures = {}
    for name, each in passes.items():
        ahead = [
            (theirs.again_s / theirs.n_images) / (own.again_s / own.n_images)
            for own, theirs in zip(ours, each, strict=True)
        ]
        ahead_cpu = [
            (theirs.cpu_s / theirs.n_images) / (own.cpu_s / own.n_images)
            for own, theirs in zip(ours, each, strict=True)
        ]
        figures[name] = {
            "images_s": Spread([one.n_images / one.again_s for one in each]).as_dict(),
            "images_s_with_start": Spread([one.n_images / one.first_s for one in each]).as_dict(),
            "cpu_ms_an_image": Spread([1e3 * one.cpu_s / one.n_images for one in each]).as_dict(),
            "tree_mb": Spread([one.tree_mb for one in each]).as_dict(),
            "worker_share_mb": Spread([one.worker_share_mb for one in each]).as_dict(),
            "worker_mb": Spread([one.worker_mb for one in each]).as_dict(),
            "hstmap_is_faster_by": Spread(ahead).as_dict(),
            "hstmap_is_faster_by_cpu": Spread(ahead_cpu).as_dict(),
            "n_images": each[0].n_images,
            "measures": CONTESTANTS[name].measures,
        }
    return figures


def agreement(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """Compare lists of the same images.

    Parameters
    ----------
    ours, theirs : dict of str to numpy.ndarray
        By rootname, positions of shape (n, 2).

    Returns
    -------
    dict
        ``n_images`` that both have, ``n_equal`` of those whose positions are equal to 1e-4 pixels
        in their order, the share of each one's sources that the other has within a pixel.
    """
    n_ours = n_theirs = n_of_ours = n_of_theirs = n_equal = 0
    both = sorted(ours.keys() & theirs.keys())
    for root in both:
        mine, other = ours[root], theirs[root]
        n_equal += mine.shape == other.shape and np.allclose(mine, other, rtol=0, atol=1e-4)
        n_ours, n_theirs = n_ours + len(mine), n_theirs + len(other)
        n_of_ours += _n_within(mine, other)
        n_of_theirs += _n_within(other, mine)
    return {
        "n_images": len(both),
        "n_equal": int(n_equal),
        "share_of_ours": n_of_ours / max(1, n_ours),
        "share_of_theirs": n_of_theirs / max(1, n_theirs),
    }


def _n_within(points: np.ndarray, others: np.ndarray) -> int:
    """Count the points that have another within the radius."""
    if not len(points) or not len(others):
        return 0
    distance, _ = cKDTree(others).query(points)
    return int((distance <= RADIUS_PIXELS).sum())


def check(found: dict[str, dict[str, float]]) -> None:
    """Refuse figures of contestants that did something else.

    Raises
    ------
    RuntimeError
        Names the contestant.
    """
    for name, one in found.items():
        contestant: Contestant = CONTESTANTS[name]
        same = contestant.kind == "flt" and name not in _LEAST_SHARE
        if not one["n_images"] or (same and one["n_equal"] < one["n_images"]):
            raise RuntimeError(f"{name}: its lists are not hstmap's: {one}")
        if one["share_of_ours"] < _LEAST_SHARE.get(name, 0.0):
            raise RuntimeError(f"{name}: it lacks too many sources: {one}")


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
        f"frames    {', '.join(figures['frames'])}; {figures['n_images']} images a pass "
        f"({figures['n_images_slow']} of slow contestants), {figures['n_workers']} workers",
        "",
        f"{'answer: of hstmap, of theirs':30s} {'equal':>8s} {'ours found':>11s} "
        f"{'theirs found':>13s}",
    ]
    for name, one in figures["agreement"].items():
        equal = f"{one['n_equal']}/{one['n_images']}"
        lines.append(
            f"{name:30s} {equal:>8s} {one['share_of_ours']:11.1%} {one['share_of_theirs']:13.1%}"
        )
    lines += [
        "",
        f"{'':22s}{'images/s':>9s}{'(quartiles)':>15s}{'with start':>11s}{'CPU, ms':>9s}"
        f"{'all, MB':>9s}{'one, MB':>9s}{'its RSS':>9s}{'hstmap is faster':>26s}{'by CPU':>8s}",
    ]
    for name, one in figures["contestants"].items():
        speed, ahead = one["images_s"], one["hstmap_is_faster_by"]
        spread = f"({speed['low']:.1f} to {speed['high']:.1f})"
        faster = f"{ahead['median']:.2f} ({ahead['low']:.2f} to {ahead['high']:.2f})"
        lines.append(
            f"{name:22s}{speed['median']:9.1f}{spread:>15s}"
            f"{one['images_s_with_start']['median']:11.1f}{one['cpu_ms_an_image']['median']:9.1f}"
            f"{one['tree_mb']['median']:9.0f}{one['worker_share_mb']['median']:9.0f}"
            f"{one['worker_mb']['median']:9.0f}{faster:>26s}"
            f"{one['hstmap_is_faster_by_cpu']['median']:8.2f}"
        )
    lines += ["", *(f"{name:22s}{one['measures']}" for name, one in figures["contestants"].items())]
    n = next(iter(figures["contestants"].values()))["images_s"]["n"]
    lines.append("MB: all processes and the largest one's part of that (PSS), and its peak RSS")
    return [*lines, f"medians of n = {n} rounds"]
