from __future__ import annotations

import dataclasses
import io

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import EllipseCollection

from hstmap.report.overlay import STRETCHES, draw_overlay
from hstmap.wfc3.detect import detect
from hstmap.wfc3.measure import measure
from hstmap.wfc3.parameters import PRESETS, MeasureParameters
from support.images import make_image

STARS = [(20.3, 30.7), (64.0, 64.0), (99.6, 21.2)]
ORANGE = np.array([1.0, 0.69, 0.0])


def drawn(image, sources, **options):
    file = io.BytesIO()
    draw_overlay(image, sources, title="a title", **options).savefig(file, format="png", dpi=60)
    file.seek(0)
    return matplotlib.image.imread(file)[..., :3]


def sources_of(image):
    return pd.DataFrame(measure(image, detect(image, PRESETS["default"]), MeasureParameters()))


@pytest.mark.parametrize("stretch", STRETCHES)
@pytest.mark.parametrize("with_wcs", [True, False])
def test_sources_are_drawn_where_they_are(stretch, with_wcs):
    sources = sources_of(make_image(STARS, flux=200.0))
    image = make_image(STARS, flux=200.0)
    if not with_wcs:
        image = dataclasses.replace(image, wcs=None)
    bare = drawn(image, sources.iloc[:0], stretch=stretch)
    marked = drawn(image, sources, stretch=stretch)
    orange = np.linalg.norm(marked - ORANGE, axis=2) < 0.3
    assert orange.sum() > 30
    rows, columns = np.nonzero(orange)
    # North of the picture is down the array: the star nearest the top left is (20, 30).
    assert np.abs(marked - bare).max(axis=2).sum() > 0
    assert np.ptp(rows) > 100
    assert np.ptp(columns) > 100


def test_an_image_that_is_all_masked_can_still_be_drawn():
    image = make_image(STARS)
    image.mask[:] = True
    sources = sources_of(make_image(STARS)).iloc[:0]
    assert drawn(image, sources).shape[2] == 3


def ellipses_of(sources, **options):
    """Widths, heights and angles of all that is drawn, pixels and degrees."""
    figure = draw_overlay(make_image(STARS), sources, title="", **options)
    drawn = [c for c in figure.axes[0].collections if isinstance(c, EllipseCollection)]
    return np.concatenate(
        [np.stack([c.get_widths(), c.get_heights(), c.get_angles()], axis=-1) for c in drawn]
    )


@pytest.mark.parametrize("kron_factor", [1.5, 2.5, 4.0])
def test_ellipses_are_the_apertures_of_the_run(kron_factor):
    shape = {"x": [9.0, 20.0], "y": [9.0, 20.0], "a": [2.0, 3.0], "b": [1.0, 1.5]}
    rest = {"theta": [30.0, -40.0], "kron_radius": [2.0, 0.0], "flags": [0, 32]}
    found = ellipses_of(pd.DataFrame(shape | rest), kron_factor=kron_factor)
    # Axes from end to end; the second has no Kron radius, and is drawn at 3 rms.
    expected = [
        [2 * kron_factor * 2 * 2, 2 * kron_factor * 2 * 1, 30],
        [2 * 3 * 3, 2 * 3 * 1.5, -40],
    ]
    np.testing.assert_allclose(found, expected)


def test_flagged_sources_are_told_apart_and_counted():
    n = 5
    table = pd.DataFrame(dict.fromkeys(("x", "y", "a", "b", "theta", "kron_radius"), [9.0] * n))
    table["flags"] = [0, 32, 1, 33, 8]
    figure = draw_overlay(make_image(STARS), table, title="")
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[0].startswith("2 sources")  # a masked pixel in the aperture is usual
    assert texts[1].startswith("3 flagged")
    assert len(ellipses_of(table)) == n
