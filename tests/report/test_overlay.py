from __future__ import annotations

import dataclasses
import io

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from hstmap.report.overlay import STRETCHES, draw_overlay
from hstmap.wfc3.detect import PRESETS, detect
from hstmap.wfc3.measure import MeasureParameters, measure
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
