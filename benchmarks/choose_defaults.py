"""Scan how sources are found, on simulated truth and on real frames: what the defaults rest on.

Prints a line a setting: for each kind of field completeness and reliability around a signal to
noise of 10 (C10, R10), completeness from 5 to 8 (C6), how many sources a frame are real and how
many are not, and SEP's CPU time. For real frames: which share of a deeper list is found, which
share of one dither's sources the other has, and how many are found in the mirror image, dark for
bright, over how many there are. With --images it draws the curves of docs/defaults.md.

Signal to noise is that of a circle of 0.4 arcsec, in the truth and in the catalogue.
"""

from __future__ import annotations

import argparse
import io
import itertools
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hstmap.report.source_files import read_source_file
from hstmap.wfc3.compare import Comparison, MatchParameters, compare
from hstmap.wfc3.detect import extract, subtract_background
from hstmap.wfc3.image import Image, read_image
from hstmap.wfc3.parameters import PRESETS, DetectionParameters
from hstmap.wfc3.photometry import circle_fluxes, poisson_gain
from hstmap.wfc3.score import SNR_EDGES, score_between, wilson_interval
from hstmap.wfc3.simulate import simulate_flt
from hstmap.wfc3.simulate_scene import scene
from hstmap.wfc3.source_list import SourceList, make_source_list

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hstmap.wfc3.detect import Detection

AROUND_10: Final = (10**0.9, 10**1.1)
AROUND_6: Final = (5.0, 10**0.9)
SNR_RADIUS_ARCSEC: Final = 0.4
REAL_FRAMES: Final = ("ib6o23rtq", "ib6o23rwq")
REFERENCE_FAINTEST: Final = 24.0
#: Kind of field: scene, filters with exposure times (s), and seeds.
FIELDS: Final = {
    "sparse": ("sparse", (("F160W", 300.0), ("F105W", 600.0), ("F098M", 100.0)), (1, 2, 3)),
    "normal": ("normal", (("F140W", 500.0), ("F125W", 250.0)), (1, 2)),
    "crowded": ("crowded", (("F160W", 300.0),), (1, 2)),
    "cluster": ("cluster", (("F105W", 1000.0),), (1, 2)),
}
KERNELS: Final = ((0.0, 1), (1.2, 3), (1.5, 3), (1.5, 5), (2.0, 5), (2.5, 5), (3.0, 7))
#: What is scanned around the defaults, one at a time.
VALUES: Final[dict[str, tuple[Any, ...]]] = {
    "threshold": (0.8, 1.0, 1.2, 1.5, 2.0, 3.0),
    "min_pixels": (3, 4, 5, 7, 9),
    "kernel": KERNELS,
    "deblend_contrast": (0.0, 0.0001, 0.0002, 0.0005, 0.001, 0.005, 0.05, 1.0),
    "deblend_n_thresholds": (16, 32, 64),
    "clean": (0.0, 1.0),
    "mesh": (32, 64, 128, 256),
}
#: What is scanned together.
GRID_THRESHOLDS: Final = (1.0, 1.1, 1.2, 1.3, 1.5, 1.8)
GRID_MIN_PIXELS: Final = (3, 4, 5, 6)
GRID_KERNELS: Final = ((1.2, 3), (1.5, 3), (2.0, 5), (2.5, 5))


@dataclass(frozen=True, eq=False)
class Field:
    """An image, and what is truly on it (nothing is known of real ones)."""

    kind: str
    image: Image
    truth: SourceList | None


@dataclass(frozen=True, eq=False)
class Result:
    """What a setting finds in a kind of field."""

    comparisons: list[Comparison]
    sep_ms: float

    def shares(self, low: float, high: float) -> tuple[float, float]:
        """Give completeness and reliability in a range of signal to noise."""
        found = score_between(self.comparisons, low, high)
        return found.completeness, found.reliability

    @property
    def n_real(self) -> float:
        """Sources of the truth that were found, a frame."""
        return sum(each.judged[each.pairs.first].sum() for each in self.comparisons) / len(
            self.comparisons
        )

    @property
    def n_false(self) -> float:
        """Sources that the truth does not have, a frame."""
        n_found = sum(each.judged.sum() for each in self.comparisons) / len(self.comparisons)
        return float(n_found - self.n_real)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the real frames")
    parser.add_argument("--images", type=Path, metavar="DIR", help="draw the curves there")
    parser.add_argument("--grid", action="store_true", help="threshold x area x kernel, too")
    parser.add_argument("--seed-offset", type=int, default=0, help="take other fields")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Scan, print and return the figures."""
    fields = list(simulated_fields(arguments.seed_offset, short=arguments.short))
    real = _real(arguments.data) if arguments.data else None
    default = PRESETS["default"]
    figures: dict[str, Any] = {}
    print(_header(fields, real))
    scanned = [("preset blog", PRESETS["blog"]), ("preset default", default)]
    if not arguments.short:
        scanned += list(_one_at_a_time(default))
    if arguments.grid:
        scanned += list(_grid(default))
    for name, parameters in scanned:
        results = evaluate(fields, parameters)
        figures[name] = {kind: _figures(result) for kind, result in results.items()}
        line = f"{name:34s}" + "".join(_line(result) for result in results.values())
        if real is not None:
            figures[name]["real"] = real.judge(parameters)
            line += " {recovered:7.1%} {agreement:7.1%} {mirrored:7.1%} {n:5.0f}".format(
                **figures[name]["real"]
            )
        print(line, flush=True)
    if arguments.images:
        draw(fields, default, arguments.images)
    return figures


def simulated_fields(seed_offset: int = 0, *, short: bool = False) -> Iterable[Field]:
    """Simulate the fields that settings are judged on.

    Parameters
    ----------
    seed_offset : int
        Added to the seeds.
    short : bool
        Whether one field of each kind is enough.

    Yields
    ------
    Field
    """
    for kind, (name, exposures, seeds) in FIELDS.items():
        some = itertools.product(exposures, seeds)
        for (filter_name, exposure_s), seed in itertools.islice(some, 1 if short else None):
            parameters = replace(
                scene(name), filter_name=filter_name, exposure_s=exposure_s, seed=seed + seed_offset
            )
            frame = simulate_flt(parameters, "isim01a1q")
            image = read_image(io.BytesIO(frame.content), frame.filename)
            yield Field(kind, image, make_source_list(frame.truth))


def find(image: Image, parameters: DetectionParameters) -> tuple[SourceList, Detection, float]:
    """Find the sources of an image, and time SEP.

    Parameters
    ----------
    image : Image
        Its planes stay as they are.
    parameters : DetectionParameters

    Returns
    -------
    SourceList
        With signal to noise in the circle.
    Detection
    float
        CPU time of background and extraction, ms.
    """
    err = None if image.err is None else image.err.copy()
    copy = replace(image, data=image.data.copy(), err=err)
    started = time.thread_time()
    detection = extract(subtract_background(copy, parameters), parameters)
    elapsed_ms = 1e3 * (time.thread_time() - started)
    x, y = detection.objects["x"], detection.objects["y"]
    radius = SNR_RADIUS_ARCSEC / (image.info.pixel_scale_arcsec or 0.128)
    flux, flux_err, _ = circle_fluxes(detection, x, y, radius, poisson_gain(image.info))
    return make_source_list({"x": x, "y": y, "snr": flux / flux_err}), detection, elapsed_ms


def evaluate(fields: Iterable[Field], parameters: DetectionParameters) -> dict[str, Result]:
    """Judge a setting on every kind of field.

    Parameters
    ----------
    fields : iterable of Field
    parameters : DetectionParameters

    Returns
    -------
    dict of str to Result
    """
    comparisons: dict[str, list[Comparison]] = {}
    times: dict[str, list[float]] = {}
    for each in fields:
        found, _, elapsed_ms = find(each.image, parameters)
        compared = compare(found, each.truth, MatchParameters(), each.image.data.shape)
        comparisons.setdefault(each.kind, []).append(compared)
        times.setdefault(each.kind, []).append(elapsed_ms)
    return {kind: Result(each, float(np.median(times[kind]))) for kind, each in comparisons.items()}


def _with(parameters: DetectionParameters, name: str, value: Any) -> DetectionParameters:
    if name == "kernel":
        return replace(parameters, kernel_fwhm=value[0], kernel_size=value[1])
    return replace(parameters, **{name: value})


def _one_at_a_time(
    parameters: DetectionParameters,
) -> Iterable[tuple[str, DetectionParameters]]:
    for name, values in VALUES.items():
        for value in values:
            yield f"{name} {value}", _with(parameters, name, value)


def _grid(parameters: DetectionParameters) -> Iterable[tuple[str, DetectionParameters]]:
    for threshold, n_pixels, kernel in itertools.product(
        GRID_THRESHOLDS, GRID_MIN_PIXELS, GRID_KERNELS
    ):
        changed = replace(
            parameters, threshold=threshold, min_pixels=n_pixels,
            kernel_fwhm=kernel[0], kernel_size=kernel[1],
        )  # fmt: skip
        yield f"{threshold:g} sigma, {n_pixels} px, {kernel[0]:g}/{kernel[1]}", changed


def _figures(result: Result) -> dict[str, float]:
    figures = {"n_real": result.n_real, "n_false": result.n_false, "sep_ms": result.sep_ms}
    for snr, edges in (("6", AROUND_6), ("10", AROUND_10)):
        figures[f"completeness_{snr}"], figures[f"reliability_{snr}"] = result.shares(*edges)
    return figures


def _header(fields: Sequence[Field], real: _Real | None) -> str:
    kinds = dict.fromkeys(each.kind for each in fields)
    columns = "C10    R10    C6    real false   ms"
    titles = "".join(f"  {kind + ':':9s}{columns}" for kind in kinds)
    return " " * 34 + titles + ("  recov.   agree  mirror.    n" if real is not None else "")


def _line(result: Result) -> str:
    at_10, at_5 = result.shares(*AROUND_10), result.shares(*AROUND_6)
    return (
        f"    {at_10[0]:9.1%} {at_10[1]:6.1%} {at_5[0]:6.1%} {result.n_real:6.0f} "
        f"{result.n_false:5.1f} {result.sep_ms:4.0f}"
    )


class _Real:
    """Two dithers of one real field, and a list of it from a deeper image."""

    def __init__(self, images: list[Image], reference: SourceList) -> None:
        self._images = images
        self._reference = reference

    def judge(self, parameters: DetectionParameters) -> dict[str, float]:
        """Give what is found of the deeper list, and of the other dither; and of the mirror image.

        Dark for bright, the noise is much the same and there are no sources: what is found then,
        is found in the noise, and where the background was taken for too bright.
        """
        lists = [find(image, parameters)[0] for image in self._images]
        mirrored = (replace(image, data=-image.data) for image in self._images)
        n_mirrored = sum(len(find(image, parameters)[0]) for image in mirrored)
        shape = self._images[0].data.shape
        match = MatchParameters(least_snr=-np.inf, margin=0.0)
        recovered = score_between(
            [compare(lists[0], self._reference, match, shape)], -np.inf, REFERENCE_FAINTEST, "mag"
        )
        return {
            "recovered": recovered.completeness,
            "agreement": self._agreement(lists, match),
            "mirrored": n_mirrored / sum(map(len, lists)),
            "n": float(np.mean([len(each) for each in lists])),
        }

    def _agreement(self, lists: list[SourceList], match: MatchParameters) -> float:
        """Give the share of sources of each dither that the other has, too, where it looks."""
        n_there = n_matched = 0
        for here, there in ((0, 1), (1, 0)):
            wcs, other = self._images[here].wcs, self._images[there]
            ra, dec = wcs.all_pix2world(lists[here].x, lists[here].y, 0)
            moved = make_source_list({"ra": ra, "dec": dec}).with_pixels(other.wcs)
            n_y, n_x = other.data.shape
            column, row = np.rint(moved.x), np.rint(moved.y)
            inside = (column >= 0) & (column < n_x) & (row >= 0) & (row < n_y)
            inside[inside] = ~other.mask[row[inside].astype(int), column[inside].astype(int)]
            pairs = compare(moved.take(inside), lists[there], match).pairs
            n_there, n_matched = n_there + int(inside.sum()), n_matched + len(pairs.first)
        return n_matched / max(n_there, 1)


def _real(folder: Path) -> _Real:
    images = []
    for rootname in REAL_FRAMES:
        name = f"{rootname}_flt.fits"
        path = folder / "frames" / "hst" / "public" / rootname[:4] / rootname / name
        with path.open("rb") as file:
            images.append(read_image(file, name))
    columns = read_source_file(str(folder / "sextractor" / f"{REAL_FRAMES[0]}_flt_1.cat"))
    return _Real(images, make_source_list(columns))


def draw(fields: Sequence[Field], parameters: DetectionParameters, folder: Path) -> None:
    """Draw completeness and reliability by signal to noise, a figure for each setting scanned.

    Parameters
    ----------
    fields : sequence of Field
    parameters : DetectionParameters
        The defaults, drawn in black.
    folder : Path
        Where the figures go: ``defaults-threshold.png`` and so on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("threshold", "min_pixels", "kernel", "deblend_contrast", "mesh"):
        curves = {value: evaluate(fields, _with(parameters, name, value)) for value in VALUES[name]}
        _draw_curves(name, curves, _value(parameters, name), folder / f"defaults-{name}.png")


def _value(parameters: DetectionParameters, name: str) -> Any:
    if name == "kernel":
        return parameters.kernel_fwhm, parameters.kernel_size
    return getattr(parameters, name)


def _draw_curves(name: str, curves: dict[Any, dict[str, Result]], default: Any, file: Path) -> None:
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    kinds = list(next(iter(curves.values())))
    figure = Figure(figsize=(3.6 * len(kinds), 6.4), layout="constrained")
    axes = figure.subplots(2, len(kinds), sharex=True, sharey="row", squeeze=False)
    edges = np.array([edge for edge in SNR_EDGES if edge < 130])
    for number, (value, results) in enumerate(curves.items()):
        is_default = value == default
        colour = "black" if is_default else colormaps["viridis"](number / max(len(curves) - 1, 1))
        label = f"{value[0]:g} / {value[1]}" if isinstance(value, tuple) else f"{value:g}"
        for column, kind in enumerate(kinds):
            for row, points in enumerate(_curves(results[kind], edges)):
                axes[row, column].errorbar(
                    *points, color=colour, lw=2.0 if is_default else 1.0, ms=3, marker="o",
                    label=f"{label}{' (default)' if is_default else ''}",
                    zorder=3 if is_default else 2,
                )  # fmt: skip
    for column, kind in enumerate(kinds):
        axes[0, column].set_title(kind)
        axes[1, column].set_xlabel("signal to noise")
        axes[0, column].set_xscale("log")
        for row in (0, 1):
            axes[row, column].axvline(10.0, color="#999999", lw=0.6)
    axes[0, 0].set_ylabel("completeness")
    axes[1, 0].set_ylabel("reliability")
    axes[1, 0].set_ylim(0.55, 1.02)
    axes[0, 0].legend(title=name.replace("_", " "), fontsize=8, title_fontsize=8)
    figure.savefig(file, dpi=80)


def _curves(result: Result, edges: np.ndarray) -> tuple[tuple[Any, Any, Any], ...]:
    """Give completeness and reliability over signal to noise, with errors."""
    bins = [score_between(result.comparisons, low, high) for low, high in itertools.pairwise(edges)]
    middles = np.sqrt(edges[1:] * edges[:-1])
    drawn = []
    for counts in (
        [(each.n_recovered, each.n_reference) for each in bins],
        [(each.n_real, each.n_found) for each in bins],
    ):
        some = [i for i, (_, n) in enumerate(counts) if n]
        share = np.array([counts[i][0] / counts[i][1] for i in some])
        low, high = np.array([wilson_interval(*counts[i]) for i in some]).reshape(-1, 2).T
        drawn.append((middles[some], share, np.maximum([share - low, high - share], 0.0)))
    return tuple(drawn)
