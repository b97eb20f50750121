from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.wfc3.detect import detect
from hstmap.wfc3.noise import EmptyApertures, measure_empty_apertures, median, on_objects
from hstmap.wfc3.parameters import PRESETS
from support.images import make_image

AREA = np.pi * (0.45 / 0.128) ** 2
# A pixel that the circle cuts adds its share squared to the variance: some 8 % less in all.
CUT = 0.92


def empty(image):
    return measure_empty_apertures(image.info, detect(image, PRESETS["default"]))


@pytest.mark.parametrize("noise", [0.02, 0.2])
def test_white_noise_adds_up_as_the_root_of_the_area(noise):
    measured = empty(make_image(shape=(512, 512), noise=noise))
    assert measured.sigma == pytest.approx(CUT * noise * np.sqrt(AREA), rel=0.1)
    assert measured.noise_ratio == pytest.approx(CUT, abs=0.08)
    assert measured.depth_5sigma == pytest.approx(
        25.94 - 2.5 * np.log10(5 * CUT * noise * np.sqrt(AREA)), abs=0.1
    )


def test_correlated_noise_shows_in_the_ratio():
    image = make_image(shape=(512, 512))
    smooth = sum(
        np.roll(image.data - 0.5, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)
    )
    correlated = dataclasses.replace(image, data=(0.5 + smooth / 3).astype(np.float32))
    # Each value is spread over nine pixels: sums over large areas scatter three times as much.
    assert 2.0 < empty(correlated).noise_ratio < 3.1


def test_sources_do_not_count_as_noise():
    rng = np.random.default_rng(5)
    stars = rng.uniform(10, 500, (60, 2))
    bare = empty(make_image(shape=(512, 512)))
    full = empty(make_image(stars, flux=300.0, shape=(512, 512)))
    assert full.sigma == pytest.approx(bare.sigma, rel=0.1)


def test_too_little_sky_tells_nothing():
    image = make_image()
    image.mask[:, 4:] = True
    assert empty(image) == EmptyApertures()
    assert empty(make_image(shape=(6, 128))) == EmptyApertures()


def test_without_a_zero_point_there_is_no_depth():
    measured = empty(make_image(zero_point_ab=None))
    assert measured.depth_5sigma is None
    assert measured.sigma > 0


def test_the_same_image_gives_the_same_depth():
    assert empty(make_image()) == empty(make_image())


SIDE = 30
BOXES = st.lists(
    st.tuples(*[st.integers(0, SIDE - 1)] * 2, *[st.integers(0, 6)] * 2).map(
        lambda box: (box[0], box[0] + box[2], box[1], box[1] + box[3])
    ),
    max_size=6,
)


@given(BOXES, st.integers(0, 3), st.integers(0, 1000))
def test_pixels_on_objects_are_those_of_their_boxes_painted(boxes, reach, seed):
    names = ("xmin", "xmax", "ymin", "ymax")
    objects = np.array(boxes, dtype=[(name, np.int64) for name in names])
    painted = np.zeros((SIDE, SIDE), dtype=bool)
    for x0, x1, y0, y1 in boxes:
        rows = slice(max(y0 - reach, 0), y1 + reach + 1)
        painted[rows, max(x0 - reach, 0) : x1 + reach + 1] = True
    column, row = np.random.default_rng(seed).integers(0, SIDE, (2, 200))
    row.sort()
    found = on_objects(objects, column, row, reach)
    np.testing.assert_array_equal(found, painted[row, column])


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
def test_the_median_is_that_of_numpy(values):
    with np.errstate(over="ignore"):
        assert median(np.array(values)) == np.median(values)
