"""The lists of sources that SExtractor and photutils make of the same frames, beside hstmap's.

All three have the same detection settings, and fluxes are compared as they are summed, without
hstmap's corrections. Compares positions of all matched sources, and magnitudes of those whose
aperture is whole: over masked pixels each program does something else.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.photutils_list import run_photutils
from benchmarks.sextractor import find_sextractor, run_sextractor
from hstmap.batch import RunParameters
from hstmap.wfc3.compare import Comparison, MatchParameters, compare
from hstmap.wfc3.detect import detect
from hstmap.wfc3.image import read_image
from hstmap.wfc3.measure import measure
from hstmap.wfc3.parameters import PRESETS, MeasureParameters
from hstmap.wfc3.score import describe
from hstmap.wfc3.simulate import simulate_flt
from hstmap.wfc3.simulate_scene import SCENES, scene
from hstmap.wfc3.source_list import make_source_list

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hstmap.wfc3.image import Image
    from hstmap.wfc3.score import Difference

RADIUS_PIXELS = 1.0
#: Flags of a Kron aperture that is not whole: cut off, or with masked pixels.
NOT_WHOLE = 16 | 32 | 64


class Agreement(NamedTuple):
    """How much two lists of one image agree."""

    n_ours: int
    n_theirs: int
    n_matched: int
    distance: float
    distance_95: float
    magnitude: Difference
    aperture: Difference

    @property
    def share_of_ours(self) -> float:
        """Share of hstmap's sources that the other has."""
        return self.n_matched / self.n_ours

    @property
    def share_of_theirs(self) -> float:
        """Share of the other's sources that hstmap has."""
        return self.n_matched / self.n_theirs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("frames", nargs="*", type=Path, help="FLT files (default: simulated)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare, print and return the figures."""
    figures: dict[str, Any] = {}
    print(
        "                          ours theirs  matched: of ours, of theirs   "
        "distance: median, 95 %   mag_auto: n, median, scatter   aperture: median, scatter    CPU"
    )
    for name, image in _images(arguments):
        for program, theirs, elapsed_s in _others(image):
            found = agreement(image, theirs)
            figures[f"{name} {program}"] = found._asdict()
            print(
                f"{name:14s} {program:10s} {found.n_ours:5d} {found.n_theirs:6d} "
                f"{found.share_of_ours:15.1%} {found.share_of_theirs:10.1%} "
                f"{found.distance:18.4f} {found.distance_95:8.4f} "
                f"{found.magnitude.n:13d} {found.magnitude.bias:+8.4f} "
                f"{found.magnitude.scatter:8.4f} "
                f"{found.aperture.bias:+17.4f} {found.aperture.scatter:8.4f} {elapsed_s:8.2f} s"
            )
    return figures


def parameters() -> RunParameters:
    """Give the settings that all are run with: SExtractor's own least area and contrast.

    Without the corrections that the others do not make.
    """
    return RunParameters(
        detection=replace(PRESETS["default"], min_pixels=5, deblend_contrast=0.005),
        measure=MeasureParameters(pixel_area=False, windowed_positions=False),
    )


def _images(arguments: argparse.Namespace) -> Iterator[tuple[str, Image]]:
    for path in arguments.frames:
        with path.open("rb") as file:
            yield path.name.partition("_")[0], read_image(file, path.name)
    if not arguments.frames:
        for name in ("sparse",) if arguments.short else SCENES:
            frame = simulate_flt(scene(name), "isim01a1q")
            yield name, read_image(io.BytesIO(frame.content), frame.filename)


def _others(image: Image) -> Iterator[tuple[str, dict[str, Any], float]]:
    """Run the other programs, each with the CPU time that it took, its own start included."""
    if find_sextractor() is None:
        print("SExtractor is not installed: apt-get install source-extractor")
    else:
        with tempfile.TemporaryDirectory() as folder:
            started = _cpu_s()
            yield (
                "SExtractor",
                run_sextractor(image, parameters(), Path(folder)),
                _cpu_s() - started,
            )
    started = _cpu_s()
    yield "photutils", run_photutils(image, parameters()), _cpu_s() - started


def _cpu_s() -> float:
    import os

    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def agreement(image: Image, theirs: dict[str, Any]) -> Agreement:
    """Compare hstmap's list of an image with another's.

    Parameters
    ----------
    image : Image
        As read; its planes stay as they are.
    theirs : dict of str to numpy.ndarray
        From `run_sextractor` or `run_photutils`.

    Returns
    -------
    Agreement
    """
    err = None if image.err is None else image.err.copy()
    detection = detect(replace(image, data=image.data.copy(), err=err), parameters().detection)
    ours = measure(image, detection, parameters().measure)
    compared = compare(
        make_source_list(ours, "mag_auto"),
        make_source_list(theirs, "mag_auto"),
        MatchParameters(radius=RADIUS_PIXELS, least_snr=-np.inf),
    )
    whole = (ours["flags"][compared.pairs.first] & NOT_WHOLE) == 0
    return Agreement(
        n_ours=len(compared.found),
        n_theirs=len(compared.reference),
        n_matched=len(compared.pairs.first),
        distance=float(np.median(compared.pairs.distance)),
        distance_95=float(np.percentile(compared.pairs.distance, 95)),
        magnitude=describe(_magnitudes(compared)[whole]),
        aperture=describe(_aperture_magnitudes(compared, ours, theirs)[whole]),
    )


def _magnitudes(compared: Comparison) -> np.ndarray:
    """Subtract the magnitudes of matched sources."""
    return compared.found.mag[compared.pairs.first] - compared.reference.mag[compared.pairs.second]


def _aperture_magnitudes(
    compared: Comparison, ours: dict[str, Any], theirs: dict[str, Any]
) -> np.ndarray:
    """Give the difference of the larger circle's fluxes in magnitudes."""
    name = "flux_aper_2" if "flux_aper_2" in theirs else "FLUX_APER_1"
    first = ours["flux_aper_2"][compared.pairs.first]
    second = theirs[name][compared.pairs.second]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(-2.5 * np.log10(first / second))
