"""Where the time of one image goes in a warm worker, and which share is SEP's own C code.

Without a frame, a simulated one is made. The answer is checked before the time: the sources must
equal those of SEP called directly on the same arrays. Several batches are run, and that with the
least CPU time of the worker's thread is told of: on a busy machine, clocks count others' work too.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sep

from benchmarks.measuring import CallClock
from hstmap.batch import Batch, ImageKey, RunParameters
from hstmap.parts import part_images
from hstmap.storage import open_store
from hstmap.wfc3 import detect
from hstmap.wfc3.image import read_image
from hstmap.wfc3.measure import measure
from hstmap.wfc3.simulate import simulate_flt
from hstmap.wfc3.simulate_scene import SCENES, scene
from hstmap.worker import run_batch

SEP_FUNCTIONS = ("extract", "kron_radius", "sum_ellipse", "sum_circle", "flux_radius", "winpos")
BACKGROUND = ("model", "back", "rms")


CLOCKS = {"wall": time.perf_counter, "cpu": time.thread_time}


class _Background:
    """`sep.Background` by methods that can be timed one by one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._model = self.model(*args, **options)
        self.globalback, self.globalrms = self._model.globalback, self._model.globalrms

    def model(self, *args: Any, **options: Any) -> Any:
        return _BACKGROUND(*args, **options)

    def back(self) -> np.ndarray:
        return self._model.back()

    def rms(self) -> np.ndarray:
        return self._model.rms()


_BACKGROUND = sep.Background


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("frame", nargs="?", type=Path, help="an FLT file (default: simulated)")
    parser.add_argument("--scene", choices=SCENES, default="normal", help="what to simulate")
    parser.add_argument("--images", type=int, default=20, help="images in a batch")
    parser.add_argument("--repeat", type=int, default=5, help="batches")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print and return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        frame = arguments.frame or _simulated(Path(folder), arguments.scene)
        _check(frame)
        print("answer    equals SEP called directly")
        n_images, n_batches = (8, 1) if arguments.short else (arguments.images, arguments.repeat)
        return _told(frame, n_images, _measure(frame, n_images, n_batches, f"{folder}/out"))


def _simulated(folder: Path, kind: str) -> Path:
    """Make a frame."""
    image = simulate_flt(scene(kind), "isim01a1q")
    path = folder / image.filename
    path.write_bytes(image.content)
    return path


def _check(frame: Path) -> None:
    """Compare with SEP called directly on the arrays of the same image."""
    parameters = RunParameters()
    with frame.open("rb") as file:
        image = read_image(file, frame.name, parameters.read)
    data, err = image.data.copy(), image.err.copy()
    mine = measure(image, detect.detect(image, parameters.detection), parameters.measure)
    background = sep.Background(data, mask=image.mask, bw=64, bh=64)
    data = np.where(image.mask, 0, data - background.back())
    stride = (slice(None, None, 8),) * 2
    used = ~image.mask[stride]
    err *= np.median(background.rms()[stride][used] / err[stride][used])
    direct = sep.extract(
        data,
        parameters.detection.threshold,
        err=err,
        mask=image.mask,
        minarea=parameters.detection.min_pixels,
        filter_kernel=detect.gaussian_kernel(
            parameters.detection.kernel_fwhm, parameters.detection.kernel_size
        ),
        filter_type="conv",
        deblend_cont=parameters.detection.deblend_contrast,
    )
    np.testing.assert_array_equal(mine["x_barycentre"], direct["x"])
    np.testing.assert_array_equal(mine["y_barycentre"], direct["y"])


@dataclass
class _Run:
    """One batch: totals by clock, SEP's calls by clock and name, s; and its images' rows."""

    total_s: dict[str, float]
    in_sep_s: dict[str, dict[str, float]]
    rows: list[dict[str, Any]]


def _measure(frame: Path, n_images: int, n_batches: int, out: str) -> _Run:
    """Run batches of the frame and return the one that took the least CPU time."""
    batch = Batch(tuple(ImageKey(f"i{i:03d}", str(frame)) for i in range(n_images)), out)
    run_batch(batch)  # warm: imports, caches, the template of the catalogues
    runs = []
    with contextlib.ExitStack() as stack:
        sep.Background = _Background
        stack.callback(setattr, sep, "Background", _BACKGROUND)
        calls = {
            name: [
                stack.enter_context(CallClock(owner, functions, clock))
                for owner, functions in ((sep, SEP_FUNCTIONS), (_Background, BACKGROUND))
            ]
            for name, clock in CLOCKS.items()
        }
        for _ in range(n_batches):
            started = {name: clock() for name, clock in CLOCKS.items()}
            report = run_batch(batch)
            total_s = {name: clock() - started[name] for name, clock in CLOCKS.items()}
            ((_, rows),) = part_images(open_store(out), [report.part])
            in_sep_s = {name: a.take() | b.take() for name, (a, b) in calls.items()}
            runs.append(_Run(total_s, in_sep_s, rows))
    return min(runs, key=lambda run: run.total_s["cpu"])


def _told(frame: Path, n_images: int, run: _Run) -> dict[str, Any]:
    """Print and return what a run says of one image."""
    figures: dict[str, Any] = {"n_images": n_images, "n_sources": run.rows[0]["n_sources"]}
    print(f"frame     {frame.name}: {figures['n_sources']} sources; a batch of {n_images}")
    for step in ("read", "background", "extract", "measure", "write"):
        figures[f"{step}_s"] = statistics.median(row[f"{step}_s"] for row in run.rows)
        print(f"{step:12s} {figures[f'{step}_s'] * 1e3:8.2f} ms (median of the images)")
    for name, seconds in run.in_sep_s["cpu"].items():
        print(f"  sep {name:12s} {seconds / n_images * 1e3:8.2f} ms of CPU")
    for clock, suffix in (("wall", ""), ("cpu", "_cpu")):
        image_s = run.total_s[clock] / n_images
        sep_s = sum(run.in_sep_s[clock].values()) / n_images
        figures |= {f"image{suffix}_s": image_s, f"sep{suffix}_s": sep_s}
        figures[f"sep{suffix}_share"] = sep_s / image_s
        print(
            f"{clock:4s} an image {image_s * 1e3:8.2f} ms, SEP's C code {sep_s * 1e3:8.2f} ms,"
            f" {sep_s / image_s:.1%} of it; the rest {(image_s - sep_s) * 1e3:6.2f} ms"
        )
    return figures
