"""Where the time of one image goes in a warm worker, and which share is SEP's own C code.

Without a frame, a simulated one is made. The answer is checked before the time: the sources must
equal those of SEP called directly on the same arrays.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import sep

from benchmarks.measuring import CallClock, Timings
from hstmap.batch import Batch, ImageKey, RunParameters
from hstmap.parts import part_images
from hstmap.storage import open_store
from hstmap.wfc3 import detect
from hstmap.wfc3.image import read_image
from hstmap.wfc3.measure import measure
from hstmap.wfc3.simulate import simulate_flt
from hstmap.wfc3.simulate_scene import scene
from hstmap.worker import run_batch

SEP_FUNCTIONS = ("extract", "kron_radius", "sum_ellipse", "sum_circle", "flux_radius", "winpos")
BACKGROUND = ("model", "back", "rms")


class _TimedBackground:
    """`sep.Background` with its C code timed: making the model, and its two maps."""

    clock: dict[str, float]

    def __init__(self, *args: Any, **options: Any) -> None:
        self._timings = Timings()
        with self._timings.measure():
            self._model = _BACKGROUND(*args, **options)
        type(self).clock["model"] += self._timings.times_s[-1]
        self.globalback, self.globalrms = self._model.globalback, self._model.globalrms

    def back(self) -> np.ndarray:
        return self._map("back")

    def rms(self) -> np.ndarray:
        return self._map("rms")

    def _map(self, name: str) -> np.ndarray:
        with self._timings.measure():
            values = getattr(self._model, name)()
        type(self).clock[name] += self._timings.times_s[-1]
        return values


_BACKGROUND = sep.Background


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("frame", nargs="?", type=Path, help="an FLT file (default: simulated)")
    parser.add_argument("--images", type=int, default=40, help="images in the batch")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print and return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        frame = arguments.frame or _simulated(Path(folder))
        _check(frame)
        print("answer    equals SEP called directly")
        n_images = 8 if arguments.short else arguments.images
        return _measure(frame, n_images, f"{folder}/out")


def _simulated(folder: Path) -> Path:
    """Make a frame."""
    image = simulate_flt(scene("normal"), "isim01a1q")
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


def _measure(frame: Path, n_images: int, out: str) -> dict[str, Any]:
    """Run batches of the frame and split their time."""
    batch = Batch(tuple(ImageKey(f"i{i:03d}", str(frame)) for i in range(n_images)), out)
    run_batch(batch)  # warm: imports, caches, the template of the catalogues
    _TimedBackground.clock = dict.fromkeys(BACKGROUND, 0.0)
    with CallClock(sep, SEP_FUNCTIONS) as clock:
        sep.Background = _TimedBackground
        try:
            total = Timings()
            with total.measure():
                report = run_batch(batch)
        finally:
            sep.Background = _BACKGROUND
    in_c = clock.take() | _TimedBackground.clock
    ((_, rows),) = part_images(open_store(out), [report.part])
    figures: dict[str, Any] = {
        "n_images": n_images,
        "n_sources": rows[0]["n_sources"],
        "image_s": total.median_s / n_images,
        "sep_s": sum(in_c.values()) / n_images,
    }
    print(f"frame     {frame.name}: {figures['n_sources']} sources; a batch of {n_images}")
    for step in ("read", "background", "extract", "measure", "write"):
        figures[f"{step}_s"] = statistics.median(row[f"{step}_s"] for row in rows)
        print(f"{step:12s} {figures[f'{step}_s'] * 1e3:8.2f} ms (median of the images)")
    for name, seconds in in_c.items():
        print(f"  sep {name:12s} {seconds / n_images * 1e3:8.2f} ms")
    figures["sep_share"] = figures["sep_s"] / figures["image_s"]
    print(f"an image     {figures['image_s'] * 1e3:8.2f} ms, fetching and writing included")
    print(f"SEP's C code {figures['sep_s'] * 1e3:8.2f} ms, {figures['sep_share']:.1%} of it")
    return figures
