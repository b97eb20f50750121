from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import sep
from astropy import units as u
from hypothesis import given
from hypothesis import strategies as st

from hstmap.wfc3.detect import detect
from hstmap.wfc3.image import read_image
from hstmap.wfc3.parameters import PRESETS, MeasureParameters
from hstmap.wfc3.photometry import (
    aperture_radii,
    aperture_shares,
    circle_fluxes,
    half_light_radii,
    kron_fluxes,
    magnitudes,
    poisson_gain,
)
from hstmap.wfc3.simulate import simulate_flt
from hstmap.wfc3.simulate_scene import scene
from support.images import make_image, make_info


@given(
    flux=st.floats(1e-3, 1e6),
    relative=st.floats(1e-4, 0.1),
    zero_point=st.floats(20, 30),
)
def test_magnitudes_follow_pogson(flux, relative, zero_point):
    mag, mag_err = magnitudes(np.array([flux]), np.array([flux * relative]), zero_point)
    outside = (flux * u.Jy).to_value(u.ABmag) - (1 * u.Jy).to_value(u.ABmag) + zero_point
    assert mag[0] == pytest.approx(outside, abs=1e-5 * zero_point)
    brighter, _ = magnitudes(np.array([flux * (1 + relative)]), np.array([0.0]), zero_point)
    assert mag_err[0] == pytest.approx(mag[0] - brighter[0], rel=0.15, abs=1e-5 * zero_point)


@given(
    flux=st.floats(-1e6, 0, allow_nan=False),
    flux_err=st.floats(1e-3, 1e3),
    zero_point=st.floats(20, 30),
)
def test_what_has_no_light_has_an_upper_limit(flux, flux_err, zero_point):
    mag, mag_err = magnitudes(np.array([flux]), np.array([flux_err]), zero_point)
    of_three_sigma, _ = magnitudes(np.array([3 * flux_err]), np.array([flux_err]), zero_point)
    assert mag[0] == of_three_sigma[0]
    assert np.isnan(mag_err[0])


def test_without_a_zero_point_there_is_no_magnitude():
    mag, mag_err = magnitudes(np.array([-1.0, 1.0]), np.array([1.0, 1.0]), None)
    assert np.isnan(mag).all()
    assert np.isnan(mag_err).all()


def test_no_error_gives_no_limit():
    mag, _ = magnitudes(np.array([0.0]), np.array([0.0]), 25.0)
    assert np.isnan(mag[0])


@pytest.mark.parametrize(
    ("kind", "exposure_s", "gain"),
    [("error", 300.0, None), ("weight", 300.0, 300.0), ("none", 300.0, 300.0),
     ("weight", None, None), ("weight", 0.0, None)],
)  # fmt: skip
def test_poisson_noise_is_added_where_errors_leave_it_out(kind, exposure_s, gain):
    assert poisson_gain(make_info(err_kind=kind, exposure_s=exposure_s)) == gain


def test_poisson_noise_is_the_square_root_of_the_electrons():
    detection = detect(make_image([(64.0, 64.0)], flux=500.0), PRESETS["default"])
    place = np.array([64.0]), np.array([64.0])
    flux, without, _ = circle_fluxes(detection, *place, 5.0)
    _, with_it, _ = circle_fluxes(detection, *place, 5.0, gain=300.0)
    electrons = flux[0] * 300.0
    added = np.sqrt(with_it[0] ** 2 - without[0] ** 2) * 300.0
    assert added == pytest.approx(np.sqrt(electrons), rel=1e-3)


def test_apertures_have_their_size_on_the_sky():
    assert aperture_radii(make_info()) == pytest.approx((0.15 / 0.128, 0.45 / 0.128))
    assert aperture_radii(make_info(pixel_scale_arcsec=0.06)) == pytest.approx((2.5, 7.5))
    assert aperture_radii(make_info(pixel_scale_arcsec=None)) == aperture_radii(make_info())
    assert min(aperture_radii(make_info(pixel_scale_arcsec=10.0))) == 0.5


def test_shares_are_the_handbooks_where_pixels_hardly_matter():
    # Table 7.7 of the handbook, between 0.40 and 0.50 arcsec at 1.5 micron: 0.840 and 0.852.
    small, large = aperture_shares(make_info(photplam=15000.0))
    assert 0.835 < large < 0.852
    assert 0.4 < small < 0.57
    blue = aperture_shares(make_info(photplam=10500.0))
    assert blue[0] > small
    assert blue[1] > large


@pytest.mark.parametrize("photplam", [None, 4000.0, 30000.0])
def test_shares_are_unknown_outside_the_channel(photplam):
    assert aperture_shares(make_info(photplam=photplam)) == (None, None)


def test_masked_pixels_of_a_circle_are_made_up_for():
    image = make_image(noise=0.001)
    detection = dataclasses.replace(detect(image, PRESETS["default"]))
    flat = dataclasses.replace(detection, data=np.full((128, 128), 2.0, dtype=np.float32))
    place = np.array([64.0]), np.array([64.0])
    whole, _, _ = circle_fluxes(flat, *place, 6.0)
    flat.mask[62:66, 62:66] = True
    partly, _, flags = circle_fluxes(flat, *place, 6.0)
    assert partly[0] == pytest.approx(whole[0], rel=1e-3)
    assert flags[0] == 32


@pytest.fixture(scope="module")
def galaxies():
    """A simulated frame's sources with their Kron fluxes and extents."""
    image = read_image(io.BytesIO(simulate_flt(scene("sparse"), "isim01a1q").content), "x_flt.fits")
    detection = detect(image, PRESETS["default"])
    theta = np.clip(detection.objects["theta"], -np.pi / 2, np.pi / 2)
    return detection, kron_fluxes(detection, MeasureParameters(), theta, None)


def seps_half_light(detection, flux, extent, n_samples):
    """SEP's own answer in one window, sampled as finely as wanted."""
    radius, _ = sep.flux_radius(
        detection.data, detection.objects["x"], detection.objects["y"], extent, 0.5,
        normflux=flux, mask=detection.mask, subpix=n_samples,
    )  # fmt: skip
    return radius


def test_half_light_radii_are_as_good_as_of_one_large_window(galaxies):
    detection, kron = galaxies
    some = kron.flux > 0
    assert some.sum() > 200
    truth = seps_half_light(detection, kron.flux, kron.extent, 25)[some]
    whole = seps_half_light(detection, kron.flux, kron.extent, 5)[some]
    mine = kron.half_light_radius[some]
    error, error_of_whole = np.std(mine - truth), np.std(whole - truth)
    assert error < 0.02
    assert error < 1.5 * error_of_whole
    assert abs(np.median(mine - truth)) < 0.002


def test_half_light_beyond_the_first_window_is_seps_of_the_whole(galaxies):
    detection, kron = galaxies
    flux = 1.6 * kron.flux  # of which many circles hold half later, and some never
    mine = half_light_radii(detection, flux, kron.extent)
    far = (flux > 0) & (mine >= 0.5 * kron.extent)
    assert 10 < far.sum() < len(far) - 10
    narrow = kron.extent < 5
    for some, n_samples in ((far & narrow, 5), (far & ~narrow, 3)):
        assert some.any()
        whole = seps_half_light(detection, flux, kron.extent, n_samples)
        np.testing.assert_array_equal(mine[some], whole[some])


def test_half_light_of_what_is_large_is_right_to_a_hundredth(galaxies):
    detection, kron = galaxies
    extent = np.full_like(kron.extent, 30.0)
    # Of a round, flat disc half of the light is within 0.7071 of its radius.
    flat = dataclasses.replace(detection, data=np.ones_like(detection.data))
    inside = (detection.objects["x"] % 974 > 40) & (detection.objects["y"] % 974 > 40)
    radius = half_light_radii(flat, np.full_like(kron.flux, np.pi * 30.0**2), extent)
    assert np.abs(radius[inside] / (30.0 * np.sqrt(0.5)) - 1).max() < 0.01


def test_there_is_no_half_of_no_light(galaxies):
    detection, kron = galaxies
    flux = np.where(np.arange(len(kron.flux)) % 3, kron.flux, -kron.flux)
    radius = half_light_radii(detection, flux, kron.extent)
    np.testing.assert_array_equal(np.isnan(radius), ~(flux > 0))
    flux[1] = np.nan
    assert np.isnan(half_light_radii(detection, flux, kron.extent)[1])
    assert np.isnan(half_light_radii(detection, -np.abs(flux), kron.extent)).all()


def test_a_circle_that_never_holds_half_ends_at_the_extent(galaxies):
    detection, kron = galaxies
    radius = half_light_radii(detection, np.full_like(kron.flux, 1e9), kron.extent)
    np.testing.assert_array_equal(radius, kron.extent)
