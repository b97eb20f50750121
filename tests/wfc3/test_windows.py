from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.wfc3.windows import windows_around

NY, NX = 12, 17
PLANE = np.arange(NY * NX).reshape(NY, NX)
RADIUS = 2.3
REACH = 3
PLACES = st.lists(st.tuples(st.floats(-2, NX + 1), st.floats(-2, NY + 1)), max_size=5).map(
    lambda places: np.array(places).reshape(-1, 2)
)


@given(PLACES)
def test_each_pixel_is_where_it_is(places):
    """Against a loop over sources, rows and columns."""
    x, y = places.T
    windows = windows_around(x, y, RADIUS, PLANE.shape)
    values = windows.gather(PLANE)
    side = 2 * REACH + 1
    assert values.shape == windows.is_outside.shape == windows.distance2.shape
    assert values.shape == (side, side, len(x))
    for i in range(len(x)):
        for j in range(side):
            for k in range(side):
                row, column = round(y[i]) - REACH + j, round(x[i]) - REACH + k
                distance = np.hypot(column - x[i], row - y[i])
                assert windows.distance2[j, k, i] == pytest.approx(distance**2, rel=1e-12)
                outside = not (0 <= row < NY and 0 <= column < NX)
                assert windows.is_outside[j, k, i] == outside
                nearest = min(max(row, 0), NY - 1), min(max(column, 0), NX - 1)
                assert values[j, k, i] == PLANE[nearest]


@given(st.floats(4, NX - 5), st.floats(4, NY - 5), st.floats(0, 3))
def test_no_pixel_within_the_radius_and_half_a_pixel_is_missing(x, y, radius):
    rows, columns = np.indices(PLANE.shape)
    within = PLANE[np.hypot(rows - y, columns - x) <= radius + 0.5]
    windows = windows_around(np.array([x]), np.array([y]), radius, PLANE.shape)
    assert set(within) <= set(windows.gather(PLANE).ravel())


def test_planes_of_any_type_are_gathered():
    windows = windows_around(np.array([5.0]), np.array([6.0]), 0.5, PLANE.shape)
    for dtype in (np.bool_, np.int16, np.float32):
        values = windows.gather(PLANE.astype(dtype))
        assert values.dtype == dtype
        np.testing.assert_array_equal(values[:, :, 0], PLANE[5:8, 4:7].astype(dtype))


@given(PLACES)
def test_the_middle_is_the_pixel_that_a_source_lies_on(places):
    x, y = places.T
    middles = windows_around(x, y, RADIUS, PLANE.shape).gather_middles(PLANE)
    assert middles.tolist() == [
        PLANE[min(max(round(v), 0), NY - 1), min(max(round(u), 0), NX - 1)] for u, v in places
    ]
