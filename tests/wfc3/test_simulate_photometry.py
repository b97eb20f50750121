"""What a plain aperture measures on simulated frames is what the truth says."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import sep
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from hstmap.wfc3.encircled_energy import aperture_fraction
from hstmap.wfc3.simulate import (
    SceneParameters,
    SimulatedImage,
    make_star_grid,
    make_stars,
    scene,
    simulate_drz,
    simulate_flt,
)
from hstmap.wfc3.simulate_instrument import FILTERS, PIXEL_SCALE_ARCSEC, pixel_area_map

IDEAL = dataclasses.replace(
    scene("sparse"), noise=False, bad_pixels=False, blobs=False, sky_gradient=0.0
)


def _plane(image: SimulatedImage, name: str = "SCI") -> np.ndarray:
    with fits.open(io.BytesIO(image.content)) as hdus:
        return np.ascontiguousarray(hdus[name].data.astype(np.float32))


def _sums(image: SimulatedImage, background: float, radius: float) -> np.ndarray:
    sci = _plane(image) - np.float32(background)
    flux, _, _ = sep.sum_circle(sci, image.truth["x"], image.truth["y"], radius, subpix=0)
    return np.asarray(flux)


def _areas(image: SimulatedImage) -> np.ndarray:
    column, row = (np.rint(image.truth[name]).astype(int) for name in ("x", "y"))
    return pixel_area_map()[row, column]


@pytest.mark.parametrize("name", ["F105W", "F160W"])
@pytest.mark.parametrize("radius_pixels", [3.0, 8.0])
def test_stars_have_their_flux_times_the_encircled_energy(name: str, radius_pixels: float) -> None:
    parameters = dataclasses.replace(IDEAL, filter_name=name)
    image = simulate_flt(parameters, "isim01a1q", make_star_grid(parameters, 7, 19.0))
    assert len(image.truth) == 49
    ratio = _sums(image, parameters.background_e_s, radius_pixels) * _areas(image)
    ratio /= image.truth["flux"]
    fraction = aperture_fraction(FILTERS[name].photplam / 10.0, radius_pixels)
    assert ratio.mean() == pytest.approx(fraction, rel=0.004)
    assert ratio.std() < 0.004


def test_a_star_is_constant_across_the_frame_only_with_the_pixel_area() -> None:
    image = simulate_flt(IDEAL, "isim01a1q", make_star_grid(IDEAL, 9, 19.0))
    raw = _sums(image, IDEAL.background_e_s, 10.0)
    corrected = raw * _areas(image)
    assert np.ptp(raw) / raw.mean() > 0.06
    assert np.ptp(corrected) / corrected.mean() < 0.001


def test_the_sky_is_flat_whatever_the_pixels_areas_are() -> None:
    image = simulate_flt(IDEAL, "isim01a1q", make_stars([], [], []))
    assert np.ptp(_plane(image)) < 1e-6


def test_a_source_adds_light_and_two_add_twice_as_much() -> None:
    parameters = dataclasses.replace(IDEAL, subarray=128)
    one = make_stars(parameters.ra, parameters.dec, 20.0)
    two = make_stars(parameters.ra, parameters.dec, 20.0 - 2.5 * np.log10(2.0))
    images = [_plane(simulate_flt(parameters, "isim01a1q", each)) for each in (one, two)]
    light = [image - np.float32(parameters.background_e_s) for image in images]
    assert light[1].sum() == pytest.approx(2 * light[0].sum(), rel=0.01)
    assert light[1].max() == pytest.approx(2 * light[0].max(), rel=1e-4)


@given(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5), st.floats(0.0, 360.0))
@settings(max_examples=12, deadline=None)
def test_a_star_peaks_where_the_truth_has_it(east: float, north: float, angle: float) -> None:
    parameters = dataclasses.replace(IDEAL, subarray=64, orientation_deg=angle)
    star = make_stars(
        parameters.ra + east / 3600 / np.cos(np.radians(parameters.dec)),
        parameters.dec + north / 3600,
        19.0,
    )
    image = simulate_flt(parameters, "isim01a1q", star)
    assert len(image.truth) == 1
    light = _plane(image) - np.float32(parameters.background_e_s)
    x, y, _ = sep.winpos(light, image.truth["x"], image.truth["y"], np.array([1.0]))
    # Sampled so coarsely, a star has no better centroid.
    assert abs(x[0] - image.truth["x"][0]) < 0.05
    assert abs(y[0] - image.truth["y"][0]) < 0.05


def test_noise_of_a_whole_frame_matches_err() -> None:
    parameters = dataclasses.replace(scene("normal"), cosmic_ray_rate=0.0)
    noisy = simulate_flt(parameters, "isim01a1q")
    clean = simulate_flt(dataclasses.replace(parameters, noise=False), "isim01a1q")
    usable = _plane(noisy, "DQ").astype(int) == 0
    pulls = ((_plane(noisy) - _plane(clean)) / _plane(noisy, "ERR"))[usable]
    assert pulls.std() == pytest.approx(1.0, abs=0.01)
    assert abs(pulls.mean()) < 0.03
    bright = (_plane(clean) > 3 * parameters.background_e_s)[usable]
    assert bright.sum() > 500
    assert pulls[bright].std() == pytest.approx(1.0, abs=0.06)


def test_err_is_like_that_of_a_real_frame(data_dir: object) -> None:
    path = f"{data_dir}/frames/hst/public/ib6o/ib6o04uwq/ib6o04uwq_flt.fits"
    with fits.open(path) as hdus:
        header = hdus[0].header
        sky = float(np.median(hdus["SCI"].data[hdus["DQ"].data == 0]))
        real = float(np.median(hdus["ERR"].data[hdus["DQ"].data == 0]))
    parameters = SceneParameters(
        filter_name=header["FILTER"],
        exposure_s=header["EXPTIME"],
        n_samples=header["NSAMP"],
        sky_e_s=sky,
        subarray=512,
    )
    made = np.median(_plane(simulate_flt(parameters, "isim01a1q"), "ERR"))
    assert made == pytest.approx(real, rel=0.1)


@pytest.mark.parametrize("mag_ab", [21.0, 23.0, 24.5])
def test_fluxes_scatter_by_the_expected_signal_to_noise(mag_ab: float) -> None:
    parameters = dataclasses.replace(
        scene("sparse"), bad_pixels=False, blobs=False, cosmic_ray_rate=0.0, sky_gradient=0.0
    )
    image = simulate_flt(parameters, "isim01a1q", make_star_grid(parameters, 16, mag_ab))
    flux = _sums(image, parameters.background_e_s, 0.4 / PIXEL_SCALE_ARCSEC) * _areas(image)
    assert flux.mean() / flux.std() == pytest.approx(image.truth["snr"].mean(), rel=0.15)


# --- rectified products ------------------------------------------------------------------------


def test_a_drz_has_its_planes_and_a_wcs_without_distortion() -> None:
    image = simulate_drz(dataclasses.replace(IDEAL, noise=True), "isim01010")
    with fits.open(io.BytesIO(image.content)) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SCI", "WHT", "CTX"]
        assert {hdu.data.dtype.str for hdu in hdus[1:3]} == {">f4"}
        assert hdus["CTX"].data.dtype.kind == "i"
        header = hdus["SCI"].header
        assert header["CTYPE1"] == "RA---TAN"
        assert "A_ORDER" not in header
        assert hdus[0].header["NDRIZIM"] == 1
        assert hdus[0].header["FILENAME"] == "isim01010_drz.fits" == image.filename
        assert hdus[0].header["DRIZCORR"] == "COMPLETE"
        wcs = WCS(header)
        weight, context = hdus["WHT"].data, hdus["CTX"].data
        sci = hdus["SCI"].data
    x, y = wcs.all_world2pix(image.truth["ra"], image.truth["dec"], 0)
    assert np.abs(x - image.truth["x"]).max() < 1e-3
    assert np.abs(y - image.truth["y"]).max() < 1e-3
    assert np.all(sci[weight == 0] == 0)
    assert np.array_equal(context != 0, weight > 0)
    assert 0.85 < (weight > 0).mean() < 1.0
    # A pixel of the output is a little larger than one of the input, where the light is spread.
    assert np.median(weight[weight > 0]) == pytest.approx(300.0, rel=0.05)


def test_a_drz_needs_no_pixel_area_correction() -> None:
    image = simulate_drz(IDEAL, "isim01010", sources=make_star_grid(IDEAL, 7, 19.0))
    ratio = _sums(image, 0.0, 10.0) / image.truth["flux"]
    assert ratio.mean() == pytest.approx(aperture_fraction(1536.9, 10.0), rel=0.005)
    assert ratio.std() < 0.004


def test_exposures_add_up_in_a_drz() -> None:
    parameters = dataclasses.replace(scene("sparse"), subarray=256, cosmic_ray_rate=0.0)
    offsets = ((0.0, 0.0), (0.9, 0.4), (-0.5, 1.1), (0.3, -0.8))
    one = simulate_drz(parameters, "isim01010")
    four = simulate_drz(parameters, "isim01020", offsets)
    assert _plane(four, "WHT").max() > 3.5 * np.median(_plane(one, "WHT")[100:150, 100:150])
    assert _plane(four, "CTX").max() == 15
    middle = np.s_[60:200, 60:200]
    rms = [
        1.4826 * np.median(np.abs(plane - np.median(plane)))
        for plane in (_plane(one)[middle], _plane(four)[middle])
    ]
    assert rms[1] == pytest.approx(rms[0] / 2.0, rel=0.15)


def test_neighbouring_pixels_of_a_drz_share_their_noise() -> None:
    parameters = dataclasses.replace(
        scene("sparse"), subarray=256, cosmic_ray_rate=0.0, bad_pixels=False, blobs=False
    )
    empty = make_stars([], [], [])
    drz = _plane(simulate_drz(parameters, "isim01010", sources=empty))[40:220, 40:220]
    flt = _plane(simulate_flt(parameters, "isim01a1q", empty))
    correlations = [
        np.corrcoef(plane[:, :-1].ravel(), plane[:, 1:].ravel())[0, 1] for plane in (flt, drz)
    ]
    assert abs(correlations[0]) < 0.02
    assert correlations[1] > 0.1
    assert drz.std() < 0.9 * flt.std()
