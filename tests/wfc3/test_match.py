from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hstmap.errors import UsageError
from hstmap.wfc3.match import match_nearest, pairs_within, sky_points

COORDINATES = st.floats(-20, 20) | st.integers(-20, 20).map(float)


def points(n_axes):
    shapes = st.tuples(st.integers(0, 25), st.just(n_axes))
    return shapes.flatmap(lambda shape: hnp.arrays(np.float64, shape, elements=COORDINATES))


def all_pairs(first, second, radius):
    """Every pair by trying each: the definition."""
    distances = np.sqrt(((first[:, None] - second[None]) ** 2).sum(axis=2))
    return set(zip(*(rows.tolist() for rows in np.nonzero(distances <= radius)), strict=True))


@pytest.mark.parametrize("n_axes", [2, 3])
def test_all_pairs_within_the_radius_are_found_once(n_axes):
    @given(first=points(n_axes), second=points(n_axes), radius=st.floats(0.1, 15))
    def check(first, second, radius):
        pairs = pairs_within(first, second, radius)
        found = list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
        assert len(set(found)) == len(found)
        assert set(found) == all_pairs(first, second, radius)
        expected = np.sqrt(((first[pairs.first] - second[pairs.second]) ** 2).sum(axis=1))
        np.testing.assert_array_equal(pairs.distance, expected)

    check()


@given(first=points(2), second=points(2), radius=st.floats(0.1, 30))
def test_the_closest_pair_is_taken_first_and_no_row_twice(first, second, radius):
    pairs = pairs_within(first, second, radius)
    matched = match_nearest(pairs)
    assert np.all(np.diff(matched.first) > 0)
    assert len(set(matched.second.tolist())) == len(matched.second)
    # The definition, a pair at a time.
    taken_first, taken_second, expected = set(), set(), set()
    order = np.lexsort((pairs.second, pairs.first, pairs.distance))
    for i, j in zip(pairs.first[order].tolist(), pairs.second[order].tolist(), strict=True):
        if i not in taken_first and j not in taken_second:
            taken_first.add(i)
            taken_second.add(j)
            expected.add((i, j))
    assert set(zip(matched.first.tolist(), matched.second.tolist(), strict=True)) == expected


def test_a_neighbour_leaves_the_nearest_to_who_is_nearer():
    first = np.array([[0.0, 0.0], [1.0, 0.0]])
    second = np.array([[0.9, 0.0], [2.5, 0.0]])
    matched = match_nearest(pairs_within(first, second, 3.0))
    assert matched.first.tolist() == [0, 1]
    assert matched.second.tolist() == [1, 0]


def test_positions_that_are_nowhere_match_nothing():
    first = np.array([[np.nan, 0.0], [1.0, 1.0]])
    second = np.array([[0.0, np.inf], [1.0, 1.0]])
    pairs = pairs_within(first, second, 5.0)
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([1], [1])


@pytest.mark.parametrize("radius", [0.0, -1.0, np.nan])
def test_a_radius_that_matches_nothing_is_refused(radius):
    with pytest.raises(UsageError, match="radius"):
        pairs_within(np.zeros((1, 2)), np.zeros((1, 2)), radius)


@given(
    ra=st.floats(0, 360),
    dec=st.floats(-90, 90),
    angle=st.floats(0, 360),
    distance=st.floats(0, 3),
)
def test_distances_on_the_sky_are_astropys(ra, dec, angle, distance):
    here = SkyCoord(ra, dec, unit="deg")
    there = here.directional_offset_by(angle * u.deg, distance * u.arcsec)
    a, b = (sky_points([each.ra.deg], [each.dec.deg]) for each in (here, there))
    assert np.linalg.norm(a - b) == pytest.approx(here.separation(there).arcsec, abs=1e-8)


def test_right_ascension_has_no_edge_and_the_pole_no_hole():
    first = sky_points([359.99999, 10.0], [0.0, 89.99999])
    second = sky_points([0.00001, 190.0], [0.0, 89.99999])
    matched = match_nearest(pairs_within(first, second, 0.1))
    assert matched.second.tolist() == [0, 1]
    np.testing.assert_allclose(matched.distance, 0.072, rtol=1e-6)
