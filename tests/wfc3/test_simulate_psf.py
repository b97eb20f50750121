"""The simulated star image against the handbook's tables and a real star."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sep
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from hstmap.wfc3.encircled_energy import (
    aperture_fraction,
    core_fwhm_arcsec,
    encircled_energy,
)
from hstmap.wfc3.simulate_instrument import FILTERS, PIXEL_SCALE_ARCSEC
from hstmap.wfc3.simulate_psf import point_spread

F160W_NM = FILTERS["F160W"].photplam / 10.0
wavelengths = st.floats(800.0, 1700.0)


# WFC3 Instrument Handbook, Table 7.7, at 1100, 1400 and 1600 nm.
@pytest.mark.parametrize(
    ("radius_arcsec", "fractions"),
    [
        (0.10, (0.484, 0.438, 0.410)),
        (0.15, (0.623, 0.558, 0.539)),
        (0.25, (0.804, 0.756, 0.708)),
        (0.40, (0.850, 0.838, 0.836)),
        (0.60, (0.893, 0.875, 0.863)),
        (1.00, (0.935, 0.920, 0.912)),
        (2.00, (0.973, 0.967, 0.967)),
    ],
)
def test_encircled_energy_is_the_handbooks(
    radius_arcsec: float, fractions: tuple[float, ...]
) -> None:
    for wavelength_nm, fraction in zip((1100.0, 1400.0, 1600.0), fractions, strict=True):
        assert encircled_energy(wavelength_nm, radius_arcsec)[0] == pytest.approx(fraction)


def test_the_core_has_the_handbooks_width() -> None:
    assert core_fwhm_arcsec(1600.0) == pytest.approx(0.151)
    assert 0.12 < core_fwhm_arcsec(986.0) < core_fwhm_arcsec(1537.0) < 0.155


@given(wavelengths)
@settings(max_examples=30)
def test_encircled_energy_grows_from_nothing_to_all(wavelength_nm: float) -> None:
    growth = encircled_energy(wavelength_nm, np.linspace(0.0, 8.0, 2001))
    assert growth[0] == 0.0
    assert growth[-1] == 1.0
    assert np.all(np.diff(growth) >= 0)


def _circle_sum(stamp: np.ndarray, x: float, y: float, radius_pixels: float) -> float:
    flux, _, _ = sep.sum_circle(
        np.ascontiguousarray(stamp), np.array([x]), np.array([y]), radius_pixels, subpix=0
    )
    return float(flux[0])


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("radius_arcsec", [0.4, 0.6, 1.0, 2.0])
def test_pixel_sums_reproduce_the_table_where_pixels_do_not_matter(
    name: str, radius_arcsec: float
) -> None:
    wavelength_nm = FILTERS[name].photplam / 10.0
    stamp = point_spread(wavelength_nm).stamp(0.2, -0.3, 50)
    fraction = _circle_sum(stamp, 50.2, 49.7, radius_arcsec / PIXEL_SCALE_ARCSEC)
    table = encircled_energy(wavelength_nm, radius_arcsec)[0]
    assert fraction == pytest.approx(table, rel=0.02)


def test_small_apertures_catch_what_aperture_fraction_says() -> None:
    radius = 0.15 / PIXEL_SCALE_ARCSEC
    star = point_spread(F160W_NM)
    phases = (np.arange(8) + 0.5) / 8 - 0.5
    sums = [
        _circle_sum(star.stamp(dx, dy, 20), 20 + dx, 20 + dy, radius)
        for dx in phases
        for dy in phases
    ]
    expected = aperture_fraction(F160W_NM, radius)
    assert np.mean(sums) == pytest.approx(expected, rel=0.005)
    assert expected < encircled_energy(F160W_NM, 0.15)[0] - 0.03


@given(wavelengths)
@settings(max_examples=4, deadline=None)
def test_aperture_fractions_grow_with_the_circle(wavelength_nm: float) -> None:
    fractions = [aperture_fraction(wavelength_nm, radius) for radius in (0.2, 0.6, 1.5, 4.0, 8.0)]
    assert np.all(np.diff(fractions) > 0)
    assert 0 < fractions[0] < fractions[-1] < 1


@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
@settings(max_examples=50, deadline=None)
def test_the_star_lies_where_it_is_put_with_all_of_its_light(dx: float, dy: float) -> None:
    stamp = point_spread(F160W_NM).stamp(dx, dy, 50)
    assert stamp.sum() == pytest.approx(1.0, abs=0.003)
    assert np.all(stamp > -1e-15)
    steps = np.arange(-50, 51)
    assert (stamp * steps).sum() / stamp.sum() == pytest.approx(dx, abs=0.006)
    assert (stamp * steps[:, None]).sum() / stamp.sum() == pytest.approx(dy, abs=0.006)


def test_a_smaller_stamp_is_the_middle_of_a_larger_one() -> None:
    star = point_spread(F160W_NM)
    assert np.array_equal(star.stamp(0.1, 0.2, 6), star.stamp(0.1, 0.2, 16)[10:-10, 10:-10])


def test_pixels_are_oblong_and_so_is_the_star() -> None:
    stamp = point_spread(F160W_NM).stamp(0.0, 0.0, 3)
    assert stamp[4, 3] > stamp[3, 4]  # Pixels are wider in x, so light falls faster along x.
    assert stamp == pytest.approx(stamp[::-1, ::-1])


def test_spikes_are_diagonal_and_do_not_change_the_encircled_energy() -> None:
    stamp = point_spread(F160W_NM).stamp(0.0, 0.0, 50)
    x, y = np.meshgrid(np.arange(-50, 51) * 0.13543, np.arange(-50, 51) * 0.12096)
    radius, angle = np.hypot(x, y), np.degrees(np.arctan2(y, x)) % 90
    ring = (radius > 2.0) & (radius < 3.0)
    diagonal = stamp[ring & (np.abs(angle - 45) < 3)].mean()
    beside = stamp[ring & ((angle < 20) | (angle > 70))].mean()
    assert diagonal > 2 * beside
    assert stamp[ring].sum() == pytest.approx(
        np.diff(encircled_energy(F160W_NM, [2.0, 3.0]))[0], rel=0.03
    )


def test_a_real_star_grows_as_the_simulated_one(data_dir: Path) -> None:
    """WASP-12 in F126N, three reads of a real subarray: no pixel of it is simulated."""
    with fits.open(data_dir / "other-ir" / "iccz11q4q_ima.fits") as hdus:
        science = hdus["SCI", 1].data[5:-5, 5:-5].astype(np.float32)
    science -= np.median(science)
    x, y = 22.918, 148.171
    radius = np.array([0.15, 0.25, 0.40, 0.60, 0.80]) / PIXEL_SCALE_ARCSEC
    whole = 1.0 / PIXEL_SCALE_ARCSEC
    real = np.array([_circle_sum(science, x, y, r) for r in radius]) / _circle_sum(
        science, x, y, whole
    )
    stamp = point_spread(1258.5).stamp(x - 23, y - 148, 20)
    made = np.array(
        [_circle_sum(stamp, 20 + x - 23, 20 + y - 148, r) for r in radius]
    ) / _circle_sum(stamp, 20 + x - 23, 20 + y - 148, whole)
    assert made == pytest.approx(real, abs=0.06)
