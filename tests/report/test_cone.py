"""Cones against astropy, over poles and across 0 h."""

from __future__ import annotations

import math

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from hypothesis import assume, given
from hypothesis import strategies as st

from hstmap.errors import UsageError
from hstmap.report.cone import Cone
from hstmap.wfc3.wcs import footprint

RA = st.floats(0, 360) | st.sampled_from([0.0, 1e-9, 359.9999999, 360.0])
DEC = st.floats(-90, 90) | st.sampled_from([-90.0, 90.0, 89.99999])
#: From a hundredth of a pixel to the whole sky.
RADIUS = st.floats(-3, math.log10(648_000)).map(lambda power: 10**power)
ANGLE = st.floats(0, 360)
NX, NY = 100, 60
PIXEL_ARCSEC = 0.128


@given(RA, DEC, RADIUS, st.floats(0, 2), ANGLE)
def test_what_lies_in_it_is_what_astropy_says(ra, dec, radius, ratio, angle):
    centre = SkyCoord(ra, dec, unit="deg")
    there = centre.directional_offset_by(angle * u.deg, radius * ratio * u.arcsec)
    distance = centre.separation(there).arcsec
    # Two ways to the same number differ by some 1e-16 of a circle.
    assume(abs(distance - radius) > 1e-8)
    inside = Cone(ra, dec, radius).contains([there.ra.deg, np.nan], [there.dec.deg, 0.0])
    assert inside.tolist() == [distance < radius, False]


def test_its_axis_lies_in_it():
    assert Cone(360.0, 20.0, 0.001).contains([0.0, 360.0], [20.0, 20.0]).all()
    assert Cone(0.0, -90.0, 0.001).contains([0.0, 123.4], [-90.0, -90.0]).all()


def image_wcs(ra, dec, rotation, parity):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [(NX + 1) / 2, (NY + 1) / 2]
    sine, cosine = np.sin(np.radians(rotation)), np.cos(np.radians(rotation))
    turn = np.array([[cosine, -sine], [sine, cosine]])
    wcs.wcs.cd = turn @ np.diag([-PIXEL_ARCSEC * parity, PIXEL_ARCSEC]) / 3600
    return wcs


def outline_of(wcs):
    corners = footprint(wcs, NX, NY)[:-1]
    return "POLYGON ICRS " + " ".join(repr(float(value)) for value in corners.ravel())


@given(
    place=st.tuples(RA, DEC, ANGLE, st.sampled_from([1, -1])),
    towards=st.tuples(ANGLE, st.floats(0, 20)),
    radius=st.floats(0.01, 15),
)
def test_images_that_it_touches_are_those_with_a_point_in_it(place, towards, radius):
    wcs = image_wcs(*place)
    centre = SkyCoord(place[0], place[1], unit="deg")
    axis = centre.directional_offset_by(towards[0] * u.deg, towards[1] * u.arcsec)
    # In the image's own plane, where its outline is a rectangle and distances are pixels'.
    x, y = (float(value) for value in wcs.all_world2pix(axis.ra.deg, axis.dec.deg, 0))
    outside = max(-0.5 - x, x - NX + 0.5, 0.0), max(-0.5 - y, y - NY + 0.5, 0.0)
    distance = math.hypot(*outside) * PIXEL_ARCSEC
    assume(abs(distance - radius) > 1e-4)
    cone = Cone(axis.ra.deg, axis.dec.deg, radius)
    outlines = ["", outline_of(wcs), outline_of(image_wcs((place[0] + 180) % 360, -place[1], 0, 1))]
    assert cone.touches(outlines).tolist() == [False, distance < radius, False]
    if distance > radius:
        assert cone.touches(outlines, distance - radius + 0.001).tolist() == [False, True, False]


def test_the_whole_sky_touches_all_images():
    outlines = [outline_of(image_wcs(ra, dec, 0, 1)) for ra, dec in ((0, 90), (10, -90), (359, 0))]
    assert Cone(10.0, 20.0, 648_000.0).touches(outlines).all()
    assert Cone(10.0, 20.0, 648_000.0).touches([]).tolist() == []


@pytest.mark.parametrize(
    ("ra", "dec", "radius", "said"),
    [
        (-1.0, 0.0, 1.0, "right ascension is -1"),
        (math.nan, 0.0, 1.0, "right ascension is nan"),
        (0.0, 90.1, 1.0, "declination is 90.1"),
        (0.0, 0.0, 0.0, "radius is 0"),
        (0.0, 0.0, 1e6, "radius is 1e"),
        (0.0, 0.0, math.inf, "radius is inf"),
    ],
)
def test_what_is_no_cone_is_refused(ra, dec, radius, said):
    with pytest.raises(UsageError, match=said):
        Cone(ra, dec, radius)
