"""How good the catalogues are, judged by simulated truth: what is found, where, how bright.

The figures that hstmap promises, over several seeds: of a sparse field, of a crowded one, and of
one star moved across the detector. Times are of the CPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hstmap.batch import RunParameters
from hstmap.wfc3.compare import Comparison, MatchParameters, compare
from hstmap.wfc3.detect import detect
from hstmap.wfc3.image import read_image
from hstmap.wfc3.measure import measure
from hstmap.wfc3.parameters import MeasureParameters
from hstmap.wfc3.score import score, score_between
from hstmap.wfc3.simulate import make_star_grid, simulate_flt
from hstmap.wfc3.simulate_instrument import find_filter
from hstmap.wfc3.simulate_scene import SceneParameters, scene
from hstmap.wfc3.source_list import make_source_list

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hstmap.wfc3.measure import Sources
    from hstmap.wfc3.simulate import SimulatedImage

AROUND_10 = (10**0.9, 10**1.1)
AROUND_50 = (40.0, 63.0)
#: Stars are isolated here if nothing within this many pixels adds 1 % to their light.
ISOLATION_PIXELS = 15.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4], metavar="SEED")
    parser.add_argument("--filter", default="F160W", help="of the sparse field")
    parser.add_argument("--exposure", type=float, default=300.0, help="of the sparse field, s")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print and return the figures."""
    seeds = arguments.seeds[:1] if arguments.short else arguments.seeds
    sparse = dataclasses.replace(
        scene("sparse"), filter_name=arguments.filter, exposure_s=arguments.exposure
    )
    figures = {"sparse": judge_sparse(sparse, seeds), "pixel_area": judge_pixel_area()}
    if not arguments.short:
        figures["crowded"] = judge_crowded(seeds[:2])
        figures["crowded"]["peak_memory_mb"] = _crowded_peak_memory_mb()
    for name, values in figures.items():
        print(name)
        for key, value in values.items():
            print(f"  {key:34s} {value:10.4f}")
    return figures


def catalog(
    image: SimulatedImage, parameters: RunParameters | None = None
) -> tuple[Sources, tuple[int, int]]:
    """Make the catalogue of a simulated image.

    Parameters
    ----------
    image : SimulatedImage
    parameters : RunParameters, optional
        By default the defaults.

    Returns
    -------
    dict of str to numpy.ndarray
        The columns of a catalogue.
    (int, int)
        Height and width of the image.
    """
    parameters = parameters or RunParameters()
    read = read_image(io.BytesIO(image.content), image.filename, parameters.read)
    return measure(read, detect(read, parameters.detection), parameters.measure), read.data.shape


def compare_images(
    images: Iterable[SimulatedImage], mag: str, match: MatchParameters
) -> list[Comparison]:
    """Make the catalogues of simulated images and compare them with the truth.

    Parameters
    ----------
    images : iterable of SimulatedImage
    mag : str
        Column of magnitudes.
    match : MatchParameters

    Returns
    -------
    list of Comparison
        One an image.
    """
    made = []
    for image in images:
        sources, shape = catalog(image)
        truth = make_source_list(image.truth)
        made.append(compare(make_source_list(sources, mag), truth, match, shape))
    return made


def _fields(parameters: SceneParameters, seeds: Iterable[int]) -> Iterable[SimulatedImage]:
    for seed in seeds:
        yield simulate_flt(dataclasses.replace(parameters, seed=seed), "isim01a1q")


def judge_sparse(parameters: SceneParameters, seeds: Iterable[int]) -> dict[str, float]:
    """Judge fields whose sources are far from each other.

    Parameters
    ----------
    parameters : SceneParameters
    seeds : iterable of int

    Returns
    -------
    dict of str to float
        Shares of 1; distances in pixels, of stars; magnitudes and pulls of `flux_point`, of
        isolated stars.
    """
    images = list(_fields(parameters, seeds))
    everything = MatchParameters()
    stars = MatchParameters(kind="star", isolation=ISOLATION_PIXELS)
    of_all = compare_images(images, "mag_auto", everything)
    of_stars = compare_images(images, "mag_point", stars)
    at_10 = score_between(of_all, *AROUND_10)
    from_10 = score_between(of_all, 10.0, np.inf)
    bright = score_between(of_stars, 30.0, np.inf)
    total = score(of_stars, stars)
    by_snr = [each for each in total.by_snr if each.low > 30 and each.magnitude.n >= 10]
    return {
        "completeness_snr_10": at_10.completeness,
        "reliability_snr_10": at_10.reliability,
        "completeness_from_snr_10": from_10.completeness,
        "reliability_from_snr_10": from_10.reliability,
        "n_reference_snr_10": float(at_10.n_reference),
        "n_found_snr_10": float(at_10.n_found),
        "distance_snr_50": score_between(of_stars, *AROUND_50).distance,
        "x_bias": total.x.bias,
        "y_bias": total.y.bias,
        "mag_bias_from_snr_30": bright.magnitude.bias,
        "mag_scatter_from_snr_30": bright.magnitude.scatter,
        "mag_bias_worst_bin": max((each.magnitude.bias for each in by_snr), key=abs),
        "n_stars_from_snr_30": float(bright.magnitude.n),
        "pull_bias": total.total.pull.bias,
        "pull_scatter": total.total.pull.scatter,
        "pull_std": total.total.pull.std,
        "pull_scatter_snr_10_to_30": score_between(of_stars, 10.0, 30.0).pull.scatter,
        "pull_scatter_from_snr_30": bright.pull.scatter,
    }


def judge_crowded(seeds: Iterable[int]) -> dict[str, float]:
    """Judge fields of 10,000 stars a frame.

    Parameters
    ----------
    seeds : iterable of int

    Returns
    -------
    dict of str to float
    """
    match = MatchParameters()
    started = time.process_time()
    images = list(_fields(scene("crowded"), seeds))
    simulated_s = time.process_time() - started
    compared = compare_images(images, "mag_point", match)
    measured_s = time.process_time() - started - simulated_s
    at_10, at_50, from_100 = (
        score_between(compared, *edges) for edges in (AROUND_10, AROUND_50, (100.0, np.inf))
    )
    return {
        "n_reference": float(sum(len(each.reference) for each in compared)) / len(compared),
        "n_found": float(sum(len(each.found) for each in compared)) / len(compared),
        "completeness_snr_10": at_10.completeness,
        "reliability_snr_10": at_10.reliability,
        "completeness_snr_50": at_50.completeness,
        "reliability_snr_50": at_50.reliability,
        "completeness_from_snr_100": from_100.completeness,
        "distance_snr_50": at_50.distance,
        "mag_bias_from_snr_100": from_100.magnitude.bias,
        "mag_scatter_from_snr_100": from_100.magnitude.scatter,
        "cpu_s_a_frame": measured_s / len(compared),
    }


def _crowded_peak_memory_mb() -> float:
    """Run the whole program on a crowded frame, and ask the system what it took."""
    with tempfile.TemporaryDirectory() as folder:
        image = next(iter(_fields(scene("crowded"), [1])))
        (Path(folder) / image.filename).write_bytes(image.content)
        command = [
            sys.executable, "-m", "hstmap", "map", folder, "--out", f"{folder}/out", "--quiet",
            "--engine", "inprocess",
        ]  # fmt: skip
        with subprocess.Popen(command) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"hstmap map ended with {process.returncode}")
    return usage.ru_maxrss / 1024


def judge_pixel_area(mag_ab: float = 18.5, n_side: int = 9) -> dict[str, float]:
    """Move one star across the detector, and see whether its flux stays.

    Parameters
    ----------
    mag_ab : float
        Of the star.
    n_side : int
        Places along each axis.

    Returns
    -------
    dict of str to float
        Range and standard deviation of `flux_aper_2` over its mean, with the correction and
        without. The share of a star's light in the circle depends a little on where in a pixel
        the star lies: that is in both.
    """
    parameters = dataclasses.replace(
        scene("sparse"), bad_pixels=False, blobs=False, cosmic_ray_rate=0.0, exposure_s=1000.0
    )
    # Equal stars all over the frame are one star in as many dithers.
    image = simulate_flt(parameters, "isim01a1q", make_star_grid(parameters, n_side, mag_ab))
    figures = {}
    for name, corrects in (("with", True), ("without", False)):
        sources, _ = catalog(image, RunParameters(measure=MeasureParameters(pixel_area=corrects)))
        compared = compare(
            make_source_list(sources, "mag_aper_2"), make_source_list(image.truth),
            MatchParameters(),
        )  # fmt: skip
        flux = compared.found.flux[compared.pairs.first]
        figures[f"flux_range_{name}"] = float(np.ptp(flux) / flux.mean())
        figures[f"flux_std_{name}"] = float(flux.std() / flux.mean())
    figures["n_places"] = float(len(flux))
    figures["zero_point_f140w"] = find_filter("F140W").zero_point_ab
    figures["zero_point_f140w_by_fnu"] = 8.90 - 2.5 * np.log10(find_filter("F140W").photfnu)
    return figures
