"""What SEP's two ways to filter recover of a list from a deeper image of the same field.

REFERENCE is a SExtractor list in the pixels of the frame: X_IMAGE and Y_IMAGE (counted from 1) in
its first two columns, a magnitude in the 13th. For each filter and deblending contrast, and with
the noise map or one number for the noise, it prints how many sources are found and which
share of the reference has one within 2 pixels: docs/decisions/0005-filter-type-conv.md rests on it.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from hstmap.wfc3.detect import extract, subtract_background
from hstmap.wfc3.image import read_image
from hstmap.wfc3.parameters import DetectionParameters

MATCH_RADIUS_PIXELS = 2.0
CONTRASTS = (0.005, 0.001, 1.0)
THRESHOLD = 3.0
MIN_PIXELS = 5


def reference_positions(path: Path, shape: tuple[int, int], faintest: float) -> np.ndarray:
    """Read the positions of a list that lie in the frame, counted from 0, shape (n, 2)."""
    table = np.loadtxt(path, comments="#")
    positions, magnitudes = table[:, :2] - 1.0, table[:, 12]
    limits = np.array(shape[::-1]) - 1
    inside = ((positions >= 0) & (positions <= limits)).all(axis=1)
    return positions[inside & (magnitudes < faintest)]


def recovered_share(found: np.ndarray, reference: np.ndarray) -> float:
    """Give the share of the reference with a source nearby; both of shape (n, 2)."""
    offsets = found[None, :, :] - reference[:, None, :]
    distances = np.hypot(offsets[..., 0], offsets[..., 1])
    return float((distances.min(axis=1) < MATCH_RADIUS_PIXELS).mean())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("frame", type=Path, help="an FLT file")
    parser.add_argument("reference", type=Path, help="a SExtractor list in its pixels")
    parser.add_argument("--faintest", type=float, default=24.0, help="default: %(default)s mag")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print and return the figures."""
    with arguments.frame.open("rb") as file:
        image = read_image(file, arguments.frame.name)
    flat = subtract_background(image, DetectionParameters())
    reference = reference_positions(arguments.reference, flat.data.shape, arguments.faintest)
    print(f"{arguments.frame.name}: {len(reference)} reference sources, threshold {THRESHOLD:g}")
    one_noise = float(np.median(flat.err[~flat.mask]))
    noises = {"noise map": flat.err, "one number": one_noise}
    figures: dict[str, Any] = {"n_reference": len(reference)}
    for kind, (noise, err), contrast in product(("conv", "matched"), noises.items(), CONTRASTS):
        parameters = DetectionParameters(
            threshold=THRESHOLD,
            min_pixels=MIN_PIXELS,
            filter_type=kind,
            deblend_contrast=contrast,
        )
        objects = extract(replace(flat, err=err), parameters).objects
        share = recovered_share(np.stack([objects["x"], objects["y"]], axis=1), reference)
        print(
            f"{kind:8s} {noise:10s} contrast {contrast:5.3f}: "
            f"{len(objects):5d} sources, {100 * share:5.1f} % recovered"
        )
        figures[f"{kind}, {noise}, {contrast}"] = {"n_found": len(objects), "recovered": share}
    return figures
