"""Drizzling keeps light and weights, and its grid is the one that its header says."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from hypothesis import given, settings
from hypothesis import strategies as st

from hstmap.errors import UsageError
from hstmap.wfc3.simulate import SceneParameters, make_stars, scene, simulate_drz
from hstmap.wfc3.simulate_detector import DQ, Exposure
from hstmap.wfc3.simulate_drizzle import Rectifier
from hstmap.wfc3.simulate_instrument import (
    PIXEL_SCALE_ARCSEC,
    detector_wcs,
    reference_pixel_area_arcsec2,
)

SIZE = 64
EMPTY = dataclasses.replace(scene("sparse"), subarray=SIZE, sky_gradient=0.0)
#: What a pixel's light is worth on a grid of other pixels.
SCALE = PIXEL_SCALE_ARCSEC**2 / reference_pixel_area_arcsec2()


def exposure_of(sci: np.ndarray, dq: np.ndarray | None = None) -> Exposure:
    sci = np.asarray(sci, dtype=np.float32)
    return Exposure(sci, np.ones_like(sci), np.zeros(sci.shape, np.int16) if dq is None else dq)


def wcs_of(parameters: SceneParameters) -> WCS:
    return WCS(detector_wcs(parameters.pointing, parameters.size))


def light(seed: int) -> np.ndarray:
    """Bright pixels here and there, on a sky whose median is 1."""
    rng = np.random.default_rng(seed)
    sci = np.ones((SIZE, SIZE))
    sci[rng.integers(0, SIZE, 60), rng.integers(0, SIZE, 60)] += rng.uniform(1, 100, 60)
    return sci


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32),
    dither=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    angle=st.floats(-180, 180),
)
def test_all_light_of_an_exposure_lands_on_the_grid(
    seed: int, dither: tuple[float, float], angle: float
) -> None:
    parameters = dataclasses.replace(EMPTY, dither_arcsec=dither, orientation_deg=angle)
    rectifier = Rectifier(parameters, margin_arcsec=1.5)
    sci = light(seed)
    rectifier.add(exposure_of(sci), wcs_of(parameters), 100.0)
    planes = rectifier.planes()
    landed = (planes["SCI"].astype(float) * planes["WHT"]).sum()
    assert landed == pytest.approx(100.0 * SCALE * (sci - 1).sum(), rel=1e-5)
    # Each pixel brings its exposure time along, to wherever it falls.
    assert planes["WHT"].sum() == pytest.approx(100.0 * SIZE**2, rel=1e-5)
    assert rectifier.background_e_s == 1.0


def test_an_even_sky_is_subtracted_from_all_of_the_grid() -> None:
    rectifier = Rectifier(EMPTY)
    rectifier.add(exposure_of(np.full((SIZE, SIZE), 0.7)), wcs_of(EMPTY), 50.0)
    assert (rectifier.planes()["SCI"] == 0).all()
    assert rectifier.background_e_s == pytest.approx(0.7)


def test_a_plateau_keeps_its_brightness() -> None:
    # Far from its edges, light that covers a patch evenly is even on any grid.
    sci = np.ones((SIZE, SIZE))
    sci[20:40, 20:40] += 10.0  # less than half of the frame: the median is the sky's
    rectifier = Rectifier(EMPTY)
    rectifier.add(exposure_of(sci), wcs_of(EMPTY), 50.0)
    planes = rectifier.planes()
    sky = wcs_of(EMPTY).all_pix2world(29.5, 29.5, 0)
    x, y = (round(float(v)) for v in WCS(rectifier.header).all_world2pix(*sky, 0))
    patch = planes["SCI"][y - 5 : y + 6, x - 5 : x + 6]
    np.testing.assert_allclose(patch, 10.0 * SCALE, rtol=1e-4)


@pytest.mark.parametrize(
    ("bit", "rejected"),
    [
        (DQ.DEAD, True), (DQ.HOT, True), (DQ.SATURATED, True), (DQ.BAD_REFERENCE, True),
        (DQ.COSMIC_RAY_DRIZZLE, True), (DQ.WARM, False), (DQ.BLOB, False), (0, False),
    ],
)  # fmt: skip
def test_pixels_that_are_bad_bring_neither_light_nor_weight(bit: int, rejected: bool) -> None:
    sci = np.ones((SIZE, SIZE))
    sci[30, 30] = 1e6
    dq = np.zeros((SIZE, SIZE), np.int16)
    dq[30, 30] = bit
    rectifier = Rectifier(EMPTY)
    rectifier.add(exposure_of(sci, dq), wcs_of(EMPTY), 50.0)
    planes = rectifier.planes()
    assert (planes["SCI"].max() == 0) == rejected
    assert planes["WHT"].sum() == pytest.approx(50.0 * (SIZE**2 - rejected), rel=1e-5)


@settings(max_examples=8)
@given(st.lists(st.tuples(st.integers(0, 99), st.floats(1, 500)), min_size=1, max_size=4))
def test_exposures_are_averaged_by_their_times_whatever_their_order(
    exposures: list[tuple[int, float]],
) -> None:
    def made(order: list[tuple[int, float]]) -> dict[str, np.ndarray]:
        rectifier = Rectifier(EMPTY)
        for seed, exposure_s in order:
            rectifier.add(exposure_of(light(seed)), wcs_of(EMPTY), exposure_s)
        return rectifier.planes()

    planes, reverse = made(exposures), made(exposures[::-1])
    for name in ("SCI", "WHT"):
        np.testing.assert_allclose(planes[name], reverse[name], rtol=1e-5, atol=1e-5)
    alone = [made([one]) for one in exposures]
    np.testing.assert_allclose(planes["WHT"], sum(one["WHT"] for one in alone), rtol=1e-5)
    total = sum(one["SCI"].astype(float) * one["WHT"] for one in alone)
    np.testing.assert_allclose(planes["SCI"] * planes["WHT"], total, rtol=1e-4, atol=1e-2)
    # A bit for each that went into a pixel.
    assert set(np.unique(planes["CTX"])) == {0, 2 ** len(exposures) - 1}


@settings(max_examples=30)
@given(
    ra=st.floats(0, 359.9), dec=st.floats(-88, 88), angle=st.floats(-180, 180),
    margin=st.floats(0, 10),
)  # fmt: skip
def test_the_grid_is_square_on_the_sky_and_holds_the_frame(
    ra: float, dec: float, angle: float, margin: float
) -> None:
    parameters = dataclasses.replace(EMPTY, ra=ra, dec=dec, orientation_deg=angle)
    header = Rectifier(parameters, margin).header
    wcs = WCS(header)
    np.testing.assert_allclose(proj_plane_pixel_scales(wcs) * 3600, PIXEL_SCALE_ARCSEC)
    centre = SkyCoord(ra, dec, unit="deg")
    middle = wcs.pixel_to_world(header["CRPIX1"] - 1, header["CRPIX2"] - 1)
    assert centre.separation(middle).arcsec < 1e-6
    above = wcs.pixel_to_world(header["CRPIX1"] - 1, header["CRPIX2"])
    angle_of_y = centre.position_angle(above)
    assert abs((angle_of_y - angle * u.deg).wrap_at(180 * u.deg).deg) < 0.01
    # The corners of the frame lie in it, and the margin beside them.
    corners = [-0.5, SIZE - 0.5, SIZE - 0.5, -0.5], [-0.5, -0.5, SIZE - 0.5, SIZE - 0.5]
    sky = wcs_of(parameters).all_pix2world(*corners, 0)
    x, y = wcs.all_world2pix(*sky, 0)
    room = margin / PIXEL_SCALE_ARCSEC
    n_x, n_y = (2 * header[name] - 1 for name in ("CRPIX1", "CRPIX2"))
    for position, n in ((x, n_x), (y, n_y)):
        assert position.min() - room >= -1
        assert position.max() + room <= n


# -- whole products --------------------------------------------------------------------------------


def noise_of(n_exposures: int) -> float:
    parameters = dataclasses.replace(
        EMPTY, bad_pixels=False, blobs=False, cosmic_ray_rate=0.0, exposure_s=300.0
    )
    image = simulate_drz(
        parameters, "isim01010", [(0.0, 0.0)] * n_exposures, make_stars([], [], [])
    )
    with fits.open(io.BytesIO(image.content)) as hdus:
        full = hdus["WHT"].data > 0.5 * hdus["WHT"].data.max()
        return float(hdus["SCI"].data[full].std())


def test_the_noise_of_every_exposure_is_its_own() -> None:
    one = noise_of(1)
    for n_exposures in (4, 31):
        assert noise_of(n_exposures) == pytest.approx(one / np.sqrt(n_exposures), rel=0.07)


@pytest.mark.parametrize("n_exposures", [0, 32])
def test_a_product_is_of_one_to_31_exposures(n_exposures: int) -> None:
    with pytest.raises(UsageError, match=f"got {n_exposures} exposures .* expected 1 to 31"):
        simulate_drz(EMPTY, "isim01010", [(0.0, 0.0)] * n_exposures)
