"""How much of a star's light an aperture catches: the published encircled energy, through pixels.

The WFC3 Instrument Handbook's Table 7.7 (section 7.6.1) gives the fraction of a star's light
inside a radius, before the light falls on pixels. A sum over pixels inside a circle catches less
than that: the pixels smear the star once, and the circle cuts through them once more.
`aperture_fraction` tells how much such a sum catches.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]

__all__ = [
    "INFINITY_ARCSEC",
    "PIXEL_SIZE_ARCSEC",
    "aperture_fraction",
    "box_sum",
    "core_fwhm_arcsec",
    "encircled_energy",
    "fine_profile",
]

# WFC3 Instrument Handbook, Table 7.7: fractions of a star's light inside a radius.
_TABLE_RADII_ARCSEC = np.array(
    [0.10, 0.15, 0.20, 0.25, 0.30, 0.40, 0.50, 0.60, 0.80, 1.00, 1.50, 2.00]
)
_TABLE_WAVELENGTHS_NM = np.arange(700.0, 1701.0, 100.0)
_TABLE_FRACTIONS = np.array(
    [
        [0.575, 0.549, 0.524, 0.502, 0.484, 0.468, 0.453, 0.438, 0.426, 0.410, 0.394],
        [0.736, 0.714, 0.685, 0.653, 0.623, 0.596, 0.575, 0.558, 0.550, 0.539, 0.531],
        [0.802, 0.794, 0.780, 0.762, 0.739, 0.712, 0.683, 0.653, 0.631, 0.608, 0.590],
        [0.831, 0.827, 0.821, 0.813, 0.804, 0.792, 0.776, 0.756, 0.735, 0.708, 0.679],
        [0.850, 0.845, 0.838, 0.833, 0.828, 0.822, 0.816, 0.808, 0.803, 0.789, 0.770],
        [0.878, 0.876, 0.869, 0.859, 0.850, 0.845, 0.841, 0.838, 0.840, 0.836, 0.832],
        [0.899, 0.894, 0.889, 0.884, 0.878, 0.868, 0.858, 0.852, 0.854, 0.850, 0.848],
        [0.916, 0.913, 0.904, 0.897, 0.893, 0.889, 0.883, 0.875, 0.870, 0.863, 0.859],
        [0.937, 0.936, 0.929, 0.924, 0.918, 0.909, 0.903, 0.900, 0.903, 0.900, 0.895],
        [0.951, 0.951, 0.946, 0.941, 0.935, 0.930, 0.925, 0.920, 0.917, 0.912, 0.909],
        [0.967, 0.969, 0.967, 0.965, 0.963, 0.959, 0.954, 0.951, 0.952, 0.948, 0.943],
        [0.974, 0.977, 0.976, 0.975, 0.973, 0.972, 0.969, 0.967, 0.970, 0.967, 0.963],
    ]
)
# WFC3 Instrument Handbook, Table 7.5: full width of the core at half its maximum, in arcsec.
_FWHM_WAVELENGTHS_NM = np.arange(800.0, 1701.0, 100.0)
_FWHM_ARCSEC = np.array([0.124, 0.126, 0.128, 0.130, 0.133, 0.137, 0.141, 0.145, 0.151, 0.156])


INFINITY_ARCSEC = 6.0
"""The radius that the zero points call infinite."""

PIXEL_SIZE_ARCSEC = (0.13543, 0.12096)
"""Width and height of a pixel at the detector's centre (IDCTAB's OCX11, OCY10)."""

# Cells a pixel of the grid that profiles are summed on.
_N_FINE = 20


def _table_at(wavelength_nm: float) -> FloatArray:
    return np.array(
        [np.interp(wavelength_nm, _TABLE_WAVELENGTHS_NM, row) for row in _TABLE_FRACTIONS]
    )


def core_fwhm_arcsec(wavelength_nm: float) -> float:
    """Full width at half maximum of the core before pixels, from the handbook's Table 7.5."""
    return float(np.interp(wavelength_nm, _FWHM_WAVELENGTHS_NM, _FWHM_ARCSEC))


def encircled_energy(wavelength_nm: float, radius_arcsec: npt.ArrayLike) -> FloatArray:
    """Fraction of a star's light inside a radius, before pixels.

    Parameters
    ----------
    wavelength_nm : float
        Pivot wavelength of the filter, 700 to 1700 nm.
    radius_arcsec : array_like
        Radii in arcsec.

    Returns
    -------
    ndarray of float64
        The handbook's Table 7.7 at its own radii, a Gaussian core inside the first of them, and
        an inverse-cube halo from the last to 6 arcsec, where all light is in.
    """
    radius = np.atleast_1d(np.asarray(radius_arcsec, dtype=np.float64))
    table = _table_at(wavelength_nm)
    first, last = _TABLE_RADII_ARCSEC[0], _TABLE_RADII_ARCSEC[-1]
    sigma = core_fwhm_arcsec(wavelength_nm) / math.sqrt(8.0 * math.log(2.0))
    core = -np.expm1(-(np.minimum(radius, first) ** 2) / (2.0 * sigma**2))
    core *= table[0] / -math.expm1(-(first**2) / (2.0 * sigma**2))
    inverse = 1.0 / np.clip(radius, last, INFINITY_ARCSEC) - 1.0 / INFINITY_ARCSEC
    halo = 1.0 - (1.0 - table[-1]) * inverse / (1.0 / last - 1.0 / INFINITY_ARCSEC)
    between = _monotone_cubic(_TABLE_RADII_ARCSEC, table, np.clip(radius, first, last))
    return np.where(radius < first, core, np.where(radius > last, halo, between))


def _monotone_cubic(x: FloatArray, y: FloatArray, at: FloatArray) -> FloatArray:
    """Interpolate with the monotone cubic of Fritsch & Butland 1984 (SIAM J. Sci. Stat. 5, 300)."""
    step = np.diff(x)
    slope = np.diff(y) / step
    w1, w2 = 2.0 * step[1:] + step[:-1], step[1:] + 2.0 * step[:-1]
    tangent = np.empty_like(y)
    tangent[1:-1] = (w1 + w2) / (w1 / slope[:-1] + w2 / slope[1:])
    tangent[0], tangent[-1] = slope[0], slope[-1]
    index = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    t = (at - x[index]) / step[index]
    rise = (3.0 - 2.0 * t) * t**2 * (y[index + 1] - y[index])
    bend = t * (1.0 - t) * ((1.0 - t) * tangent[index] - t * tangent[index + 1]) * step[index]
    return y[index] + rise + bend


def fine_profile(
    wavelength_nm: float,
    half_size: float,
    n_fine: int,
    pixel_size_arcsec: tuple[float, float] = PIXEL_SIZE_ARCSEC,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Spread a star's light over a fine grid whose middle corner it lies at.

    Parameters
    ----------
    wavelength_nm : float
        Pivot wavelength of the filter.
    half_size : float
        Pixels on each side of the star.
    n_fine : int
        Cells a pixel and axis.
    pixel_size_arcsec : (float, float)
        Width and height of a pixel.

    Returns
    -------
    x, y : ndarray of float64, shape (m,)
        Offsets of the cells' centres, arcsec.
    profile : ndarray of float64, shape (m, m)
        Share of the light in each cell.
    """
    x, y = (
        (np.arange(-half_size * n_fine, half_size * n_fine) + 0.5) / n_fine * size
        for size in pixel_size_arcsec
    )
    # The surface brightness is the slope of the encircled energy over the circle's length.
    radii = np.linspace(0.0, INFINITY_ARCSEC * 1.5, 6001)
    growth = encircled_energy(wavelength_nm, radii)
    middle = 0.5 * (radii[1:] + radii[:-1])
    brightness = np.diff(growth) / (math.pi * np.diff(radii**2))
    cell_area = pixel_size_arcsec[0] * pixel_size_arcsec[1] / n_fine**2
    return x, y, np.interp(np.hypot(x[None, :], y[:, None]), middle, brightness) * cell_area


def box_sum(values: FloatArray, n: int) -> FloatArray:
    """Sum every n x n square; the result is n - 1 shorter on each axis.

    Parameters
    ----------
    values : ndarray of float64, shape (ny, nx)
    n : int

    Returns
    -------
    ndarray of float64, shape (ny - n + 1, nx - n + 1)
    """
    total = np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    sums: FloatArray = total[n:, n:] - total[:-n, n:] - total[n:, :-n] + total[:-n, :-n]
    return sums


@functools.lru_cache(maxsize=64)
def aperture_fraction(
    wavelength_nm: float,
    radius_pixels: float,
    pixel_size_arcsec: tuple[float, float] = PIXEL_SIZE_ARCSEC,
) -> float:
    """Fraction of a star's light that a sum over pixels in a circle catches.

    Pixels that the circle cuts count by the share of them inside it, and the star lies anywhere
    between the pixels, all places being equally likely.

    Parameters
    ----------
    wavelength_nm : float
        Pivot wavelength of the filter.
    radius_pixels : float
        At most 40.
    pixel_size_arcsec : (float, float)
        Width and height of a pixel.

    Returns
    -------
    float
    """
    half_size = math.ceil(radius_pixels) + 2
    _, _, smeared = fine_profile(wavelength_nm, half_size, _N_FINE, pixel_size_arcsec)
    # Once for the pixels' own area, once for what a circle cuts off them.
    for _ in range(2):
        smeared = box_sum(smeared, _N_FINE) / _N_FINE**2
    steps = (np.arange(len(smeared)) - (len(smeared) - 1) / 2.0) / _N_FINE
    inside = np.hypot(steps[None, :], steps[:, None]) <= radius_pixels
    return float(smeared[inside].sum())
