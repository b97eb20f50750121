"""The pixel-area map: golden against the sky areas that astropy's own WCS gives."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS, Sip
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial.polynomial import polyval2d

from hstmap.wfc3.pixel_area import REFERENCE_PIXEL, pixel_area, pixel_area_map

FRAME = "frames/hst/public/ib6o/ib6o23rtq/ib6o23rtq_flt.fits"


@pytest.fixture(scope="module")
def frame_header(data_dir):
    return fits.getheader(data_dir / FRAME, "SCI")


@pytest.fixture(scope="module")
def frame_wcs(frame_header):
    return WCS(frame_header)


def sky_area(wcs, x, y, half=0.5):
    """Solid angle of the pixel at each position: the cross product of its sides on the sphere."""

    def direction(x, y):
        ra, dec = np.radians(wcs.all_pix2world(x, y, 0))
        return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)

    side_x = direction(x + half, y) - direction(x - half, y)
    side_y = direction(x, y + half) - direction(x, y - half)
    return np.linalg.norm(np.cross(side_x, side_y), axis=-1)


def test_area_is_the_sky_area_of_each_pixel(frame_wcs):
    rng = np.random.default_rng(2)
    x, y = rng.uniform(0, 1013, (2, 400))
    expected = sky_area(frame_wcs, x, y) / sky_area(frame_wcs, np.array([556.0]), np.array([556.0]))
    np.testing.assert_allclose(pixel_area(frame_wcs, x, y), expected, rtol=1e-6)


def test_map_varies_by_8_to_9_percent_and_is_1_at_the_reference_pixel(frame_wcs):
    area = pixel_area_map(frame_wcs, (1014, 1014))
    assert area.shape == (1014, 1014)
    assert area.dtype == np.float32
    assert 1.08 < area.max() / area.min() < 1.095  # Instrument Handbook B.3: 1.090
    assert area[int(REFERENCE_PIXEL[1]) - 1, int(REFERENCE_PIXEL[0]) - 1] == 1
    # The team's map grows from the bottom to the top of the detector.
    assert area[1000].mean() > area[500].mean() > area[10].mean()


def test_map_holds_what_the_positions_give(frame_wcs):
    shape = (40, 60)
    y, x = np.indices(shape)
    expected = pixel_area(frame_wcs, x, y)
    np.testing.assert_allclose(pixel_area_map(frame_wcs, shape), expected, rtol=1e-7)


@given(
    x0=st.integers(min_value=0, max_value=950),
    y0=st.integers(min_value=0, max_value=950),
)
def test_a_subarray_has_the_areas_of_its_place_on_the_detector(frame_header, x0, y0):
    """As the archive cuts a subarray: CRPIX and LTV move by the offset, SIP stays."""
    header = frame_header.copy()
    header["CRPIX1"] -= x0
    header["CRPIX2"] -= y0
    x, y = np.array([0.0, 10.5, 63.0]), np.array([63.0, 20.25, 0.0])
    in_subarray = pixel_area(WCS(header), x, y, ltv=(-x0, -y0))
    in_full_frame = pixel_area(WCS(frame_header), x + x0, y + y0)
    np.testing.assert_allclose(in_subarray, in_full_frame, rtol=1e-12)


def test_without_distortion_every_pixel_has_the_same_area(data_dir):
    drizzled = WCS(fits.getheader(data_dir / "other-ir/hudf_stamp_1002_f160w_sci.fits"))
    for wcs in (drizzled, None):
        np.testing.assert_array_equal(pixel_area(wcs, [0, 50.5], [1, 2]), [1, 1])
        np.testing.assert_array_equal(pixel_area_map(wcs, (3, 4)), np.ones((3, 4)))


def test_shapes_of_positions_are_kept(frame_wcs):
    assert pixel_area(frame_wcs, 5.0, 6.0).shape == ()
    assert pixel_area(frame_wcs, [], []).shape == (0,)
    assert pixel_area(frame_wcs, np.zeros((2, 3)), np.zeros((2, 3))).shape == (2, 3)


@given(
    seed=st.integers(0, 1000),
    orders=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    is_whole=st.booleans(),
)
def test_the_area_is_the_determinant_of_any_polynomials(seed, orders, is_whole):
    """Against slopes by differences, of triangles of coefficients and of whole squares."""
    rng = np.random.default_rng(seed)
    f, g = (rng.normal(0, 0.01, (order + 1, order + 1)) for order in orders)
    if not is_whole:
        f, g = (
            values * (np.add.outer(*[np.arange(len(values))] * 2) < len(values))
            for values in (f, g)
        )
    wcs = WCS(naxis=2)
    wcs.sip = Sip(f, g, None, None, [557.0, 557.0])
    u, v = rng.uniform(-1, 1, (2, 7))
    step = 1e-5

    def slope(polynomial, du, dv):
        ahead, behind = (polyval2d(u + s * du, v + s * dv, polynomial) for s in (step, -step))
        return (ahead - behind) / (2 * step)

    expected = (1 + slope(f, 1, 0)) * (1 + slope(g, 0, 1)) - slope(f, 0, 1) * slope(g, 1, 0)
    at_reference = (1 + f[1, 0]) * (1 + g[0, 1]) - f[0, 1] * g[1, 0]
    area = pixel_area(wcs, u + 556, v + 556)
    np.testing.assert_allclose(area, expected / at_reference, rtol=1e-7)
