from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.wfc3.encircled_energy import aperture_fraction
from hstmap.wfc3.masked_light import masked_shares
from hstmap.wfc3.simulate_psf import point_spread
from hstmap.wfc3.windows import windows_around

WAVELENGTH_NM = 1537.0
RADIUS = 3.5
HERE = np.array([20.2]), np.array([19.9])


def shares(masked, position=HERE):
    mask = np.zeros((40, 40), dtype=bool)
    for row, column in masked:
        mask[row, column] = True
    windows = windows_around(*position, RADIUS, mask.shape)
    light, area = masked_shares(mask, windows, RADIUS, WAVELENGTH_NM)
    return light[0], area[0]


def test_nothing_masked_hides_nothing():
    assert shares([]) == (0.0, 0.0)
    assert shares([(0, 0), (30, 30)]) == (0.0, 0.0)


def test_the_core_hides_more_light_than_area_and_the_rim_less():
    core_light, core_area = shares([(20, 20)])
    rim_light, rim_area = shares([(20, 23)])
    assert core_light > 5 * core_area
    assert rim_light < 0.5 * rim_area
    assert core_area == pytest.approx(1 / (np.pi * RADIUS**2), rel=0.05)


def test_all_masked_hides_all():
    light, area = shares([(row, column) for row in range(40) for column in range(40)])
    assert (light, area) == (pytest.approx(1.0), pytest.approx(1.0))


@given(dx=st.floats(-0.5, 0.5), dy=st.floats(-0.5, 0.5))
def test_what_lies_beyond_the_circle_hides_nothing(dx, dy):
    """A pixel whose centre is more than half a diagonal away from the circle is not cut by it."""
    place = np.array([20 + dx]), np.array([20 + dy])
    beyond = [
        (row, column)
        for row in range(40)
        for column in range(40)
        if np.hypot(row - 20 - dy, column - 20 - dx) > RADIUS + 0.71
    ]
    assert shares(beyond, place) == (0.0, 0.0)


def test_beyond_the_edge_is_masked_too():
    light, area = shares([], (np.array([0.0]), np.array([20.0])))
    assert 0.2 < light < 0.5
    assert 0.3 < area < 0.5


@given(
    dx=st.floats(-0.5, 0.5),
    dy=st.floats(-0.5, 0.5),
    pixel=st.tuples(st.integers(-3, 3), st.integers(-3, 3)),
)
def test_it_is_the_light_that_a_star_has_there(dx, dy, pixel):
    """Against the star itself, drawn on pixels."""
    stamp = point_spread(WAVELENGTH_NM).stamp(dx, dy, 10)
    place = np.array([20 + dx]), np.array([20 + dy])
    light, _ = shares([(20 + pixel[1], 20 + pixel[0])], place)
    inside = aperture_fraction(WAVELENGTH_NM, RADIUS)
    expected = stamp[10 + pixel[1], 10 + pixel[0]] / inside
    # On the rim a circle cuts pixels, and the profile is round while pixels are not square.
    if np.hypot(pixel[0] - dx, pixel[1] - dy) < RADIUS - 0.8:
        assert light == pytest.approx(expected, rel=0.25, abs=0.01)
    else:
        assert light <= expected + 0.01
