from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from hstmap.errors import UsageError
from hstmap.wfc3.detect import detect
from hstmap.wfc3.measure import empty_sources, measure
from hstmap.wfc3.parameters import PRESETS, MeasureParameters
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


def test_sky_coordinates_of_an_fk5_image_are_icrs():
    as_icrs, _ = measured(make_image(STARS))
    image = make_image(STARS)
    image.wcs.wcs.radesys, image.wcs.wcs.equinox = "FK5", 2000.0
    image.wcs.wcs.set()
    as_fk5, _ = measured(image)
    found = SkyCoord(as_fk5["ra"], as_fk5["dec"], unit="deg")
    # The same numbers, in the other system.
    expected = SkyCoord(as_icrs["ra"], as_icrs["dec"], unit="deg", frame="fk5")
    assert found.separation(expected.icrs).to_value("uas").max() < 1
    turned = as_fk5["position_angle"] - as_icrs["position_angle"]
    assert np.abs(turned).max() < 1e-4  # north is 0.02 arcsec elsewhere: not to be seen here


def test_without_wcs_or_zero_point_sources_are_kept():
    image = make_image(STARS, zero_point_ab=None, pixel_scale_arcsec=None)
    sources, _ = measured(dataclasses.replace(image, wcs=None))
    assert len(sources["x"]) >= len(STARS)
    for name in ("ra", "dec", "mag_auto", "mag_auto_err", "mag_aper_1"):
        assert np.isnan(sources[name]).all()
    assert np.isfinite(sources["flux_auto"]).all()


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


@pytest.mark.parametrize("name", ["kron_factor", "min_kron_radius"])
def test_impossible_parameters_are_refused(name):
    with pytest.raises(UsageError, match=name):
        MeasureParameters(**{name: 0})


def test_info_of_the_test_image_is_complete():
    assert make_info().rootname == "itest01aq"


def test_a_flux_that_is_not_positive_gives_an_upper_limit():
    image = make_image([(64.0, 64.0)], flux=500.0)
    detection = detect(image, PRESETS["default"])
    detection = dataclasses.replace(detection, data=-detection.data)
    sources = measure(image, detection, MeasureParameters())
    (i,) = np.flatnonzero(np.hypot(sources["x"] - 64, sources["y"] - 64) < 1)
    assert sources["flux_aper_2"][i] < 0
    limit = 25.94 - 2.5 * np.log10(3 * sources["flux_aper_2_err"][i])
    assert sources["mag_aper_2"][i] == pytest.approx(limit, abs=1e-4)
    assert np.isnan(sources["mag_aper_2_err"][i])
    assert sources["flags"][i] & 256
    assert np.isnan(sources["concentration"][i])
    assert sources["point_like"][i] == -1


def test_saturated_cores_are_found_and_flagged():
    image = make_image(STARS, flux=500.0)
    image.dq[64, 64] = 256
    sources, _ = measured(image)
    saturated = sources["flags"] & 512 != 0
    assert saturated.sum() == 1
    assert sources["x"][saturated] == pytest.approx(64.0, abs=0.2)


def test_position_angles_are_east_of_north():
    """North is up and east left here: an angle from +x is 90 degrees less, mirrored."""
    image = make_image()
    y, x = np.mgrid[:128, :128]
    for x0, y0, theta in ((32, 32, 0.0), (96, 32, 30.0), (32, 96, 90.0), (96, 96, 150.0)):
        along = (x - x0) * np.cos(np.radians(theta)) + (y - y0) * np.sin(np.radians(theta))
        across = (y - y0) * np.cos(np.radians(theta)) - (x - x0) * np.sin(np.radians(theta))
        image.data[:] += 60 * np.exp(-0.5 * ((along / 4) ** 2 + (across / 1.5) ** 2))
    sources, _ = measured(image)
    for i in brightest(sources):
        expected = (sources["theta"][i] - 90.0) % 180.0
        difference = (sources["position_angle"][i] - expected + 90.0) % 180.0 - 90.0
        assert abs(difference) < 1.0
    assert len({round(float(sources["position_angle"][i]) / 30) for i in brightest(sources)}) == 4


def test_stars_are_point_like_and_galaxies_are_not():
    from hstmap.wfc3.image import read_image
    from hstmap.wfc3.simulate import simulate_flt
    from hstmap.wfc3.simulate_scene import scene

    simulated = simulate_flt(dataclasses.replace(scene("sparse"), seed=3, n_stars=300), "isim03a1q")
    image = read_image(io.BytesIO(simulated.content), simulated.filename)
    sources, _ = measured(image)
    truth = simulated.truth
    distance = np.hypot(
        sources["x"][:, None] - np.array(truth["x"]), sources["y"][:, None] - np.array(truth["y"])
    )
    nearest = distance.argmin(axis=1)
    good = (distance.min(axis=1) < 1) & (sources["snr"] > 20) & (sources["flags"] & ~32 == 0)
    is_star = np.array(truth["kind"] == "star")[nearest]
    large = np.array(truth["half_light_radius"])[nearest] > 0.3
    stars, galaxies = good & is_star, good & ~is_star & large
    assert stars.sum() > 50
    assert (sources["point_like"][stars] == 1).mean() > 0.9
    assert (sources["point_like"][galaxies] == 1).mean() < 0.3
    bias = sources["mag_point"][stars] - np.array(truth["mag_ab"])[nearest][stars]
    assert abs(np.median(bias)) < 0.02


def test_windowed_positions_are_better_than_barycentres():
    rng = np.random.default_rng(3)
    stars = np.stack(np.meshgrid(np.arange(20, 480, 40), np.arange(20, 480, 40)), -1).reshape(-1, 2)
    stars = stars + rng.uniform(-0.5, 0.5, stars.shape)
    image = make_image(stars, flux=60.0, shape=(512, 512))
    sources, _ = measured(image)
    found = np.column_stack([sources["x"], sources["y"]])
    barycentres = np.column_stack([sources["x_barycentre"], sources["y_barycentre"]])

    def error(positions):
        distance = np.linalg.norm(positions[None] - stars[:, None], axis=2)
        return np.median(distance.min(axis=1))

    assert error(found) < error(barycentres) < 0.2


def test_positions_are_barycentres_where_that_is_asked():
    image = make_image(STARS, flux=60.0)
    detection = detect(image, PRESETS["default"])
    sources = measure(image, detection, MeasureParameters(windowed_positions=False))
    np.testing.assert_array_equal(sources["x"], detection.objects["x"])
    np.testing.assert_array_equal(sources["x"], sources["x_barycentre"])


def test_a_star_with_a_masked_core_keeps_its_flux():
    info = {"photplam": 15369.0}
    whole = make_image([(64.0, 64.0)], flux=500.0, **info)
    holed = make_image([(64.0, 64.0)], flux=500.0, **info)
    holed.mask[64, 65] = True
    plain, holey = (
        {name: values[brightest(s, 1)[0]] for name, values in s.items()}
        for s in (measured(whole)[0], measured(holed)[0])
    )
    assert holey["masked_share"] > 0.05
    assert plain["masked_share"] == 0
    assert holey["flux_point"] == pytest.approx(plain["flux_point"], rel=0.1)
    assert holey["flux_point_err"] > plain["flux_point_err"]


def test_a_star_that_is_mostly_masked_has_no_flux_as_a_point():
    image = make_image([(64.0, 64.0)], flux=500.0, photplam=15369.0)
    image.mask[62:67, 63:66] = True
    sources, _ = measured(image)
    near = np.hypot(sources["x"] - 64, sources["y"] - 64) < 4
    hidden = sources["masked_share"] > 0.7
    assert np.isnan(sources["flux_point"][hidden]).all()
    assert np.isfinite(sources["flux_aper_2"][near]).all()
