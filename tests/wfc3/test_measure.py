from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given
from hypothesis import strategies as st

from hstmap.errors import UsageError
from hstmap.wfc3.detect import PRESETS, detect
from hstmap.wfc3.measure import (
    MeasureParameters,
    depth_5sigma,
    empty_sources,
    magnitudes,
    measure,
)
from hstmap.wfc3.schema import SOURCE_COLUMNS
from support.images import SIGMA, make_image, make_info

# Pixels are boxes: what is summed is the profile smeared by one.
SMEARED_SIGMA = np.hypot(SIGMA, 1 / np.sqrt(12))

STARS = [(20.3, 30.7), (64.0, 64.0), (99.6, 21.2), (40.1, 101.9)]


def measured(image):
    detection = detect(image, PRESETS["default"])
    return measure(image, detection, MeasureParameters()), detection


def brightest(sources, n=4):
    return np.argsort(sources["flux_auto"])[::-1][:n]


def test_columns_are_the_schemas_with_its_types():
    for sources in (measured(make_image(STARS))[0], empty_sources()):
        assert list(sources) == [column.name for column in SOURCE_COLUMNS]
        for column in SOURCE_COLUMNS:
            if column.dtype == "str":
                assert sources[column.name].dtype.kind == "U"
            else:
                assert sources[column.name].dtype == column.dtype


def test_no_source_gives_an_empty_table():
    image = make_image()
    detection = dataclasses.replace(detect(image, PRESETS["default"]))
    detection = dataclasses.replace(detection, objects=detection.objects[:0])
    sources = measure(image, detection, MeasureParameters())
    assert all(len(values) == 0 for values in sources.values())


def test_a_stars_flux_size_and_place_come_out():
    image = make_image(STARS, flux=200.0)
    sources, _ = measured(image)
    best = brightest(sources)
    # The Kron ellipse of a Gaussian holds some 96 % of it, a half lies within 1.177 sigma.
    np.testing.assert_allclose(sources["flux_auto"][best], 200.0, rtol=0.06)
    np.testing.assert_allclose(sources["half_light_radius"][best], 1.177 * SMEARED_SIGMA, rtol=0.06)
    assert (sources["flux_auto_err"][best] > 0).all()
    np.testing.assert_allclose(
        sources["snr"][best], (sources["flux_auto"] / sources["flux_auto_err"])[best], rtol=1e-5
    )
    np.testing.assert_allclose(
        sources["mag_auto"][best], 25.94 - 2.5 * np.log10(sources["flux_auto"][best]), rtol=1e-6
    )
    assert (sources["flux_aper_1"][best] < sources["flux_aper_2"][best]).all()
    assert (sources["flags"][best] == 0).all()


def test_an_apertures_flux_is_the_integral_of_the_profile():
    sources, _ = measured(make_image(STARS, flux=500.0, noise=0.01))
    best = brightest(sources)
    for name, arcsec in (("flux_aper_1", 0.15), ("flux_aper_2", 0.45)):
        radius = arcsec / 0.128
        inside = 1 - np.exp(-(radius**2) / 2 / SMEARED_SIGMA**2)
        np.testing.assert_allclose(sources[name][best], 500 * inside, rtol=0.08)
        assert np.mean(sources[name][best]) == pytest.approx(500 * inside, rel=0.04)


def test_sky_coordinates_count_pixels_from_zero():
    image = make_image([(63.5, 63.5)], flux=500.0)
    sources, _ = measured(image)
    (i,) = brightest(sources, 1)
    # The reference pixel is 64.5 counted from one: 63.5 from zero.
    assert sources["ra"][i] == pytest.approx(53.1, abs=0.01 / 3600)
    assert sources["dec"][i] == pytest.approx(-27.8, abs=0.01 / 3600)


def test_without_wcs_or_zero_point_sources_are_kept():
    image = make_image(STARS, zero_point_ab=None, pixel_scale_arcsec=None)
    sources, detection = measured(dataclasses.replace(image, wcs=None))
    assert len(sources["x"]) >= len(STARS)
    for name in ("ra", "dec", "mag_auto", "mag_auto_err", "mag_aper_1"):
        assert np.isnan(sources[name]).all()
    assert np.isfinite(sources["flux_auto"]).all()
    assert depth_5sigma(image.info, detection) is None


def test_data_quality_bits_near_a_source_are_collected():
    image = make_image([(64.0, 64.0)], flux=500.0)
    image.dq[64, 66] = 16
    image.dq[66, 64] |= 512
    image.dq[64, 68] = 4096  # beyond 0.45 arcsec, 3.5 pixels
    sources, _ = measured(image)
    (i,) = brightest(sources, 1)
    assert sources["dq"][i] == 16 + 512


def test_flags_tell_masked_and_truncated_apertures():
    image = make_image([(1.0, 64.0), (64.0, 64.0)], flux=500.0)
    image.mask[63:66, 66] = True
    sources, _ = measured(image)
    by_x = {round(float(sources["x"][i])): sources["flags"][i] for i in brightest(sources, 2)}
    assert by_x[64] & 32
    assert by_x[1] & 16


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


@given(flux=st.floats(max_value=0, allow_nan=False, allow_infinity=False))
def test_no_magnitude_for_what_has_no_light(flux):
    mag, mag_err = magnitudes(np.array([flux]), np.array([1.0]), 25.0)
    assert np.isnan(mag[0])
    assert np.isnan(mag_err[0])


def test_depth_is_five_sigma_in_the_aperture():
    image = make_image(noise=0.2)
    _, detection = measured(image)
    depth = depth_5sigma(image.info, detection)
    area = np.pi * (0.45 / 0.128) ** 2
    assert depth == pytest.approx(25.94 - 2.5 * np.log10(5 * 0.2 * np.sqrt(area)), abs=0.05)


@pytest.mark.parametrize("name", ["kron_factor", "min_kron_radius"])
def test_impossible_parameters_are_refused(name):
    with pytest.raises(UsageError, match=name):
        MeasureParameters(**{name: 0})


def test_info_of_the_test_image_is_complete():
    assert make_info().rootname == "itest01aq"
