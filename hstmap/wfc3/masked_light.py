"""How much of a star's light fell on masked pixels.

SEP makes up for the masked pixels of an aperture as if light lay evenly over it. A star's does not:
a masked core hides most of it, a masked rim hardly any.
"""

from __future__ import annotations

import functools
import math
from typing import Final

import numpy as np

from hstmap.wfc3.encircled_energy import PIXEL_SIZE_ARCSEC, box_sum, fine_profile
from hstmap.wfc3.windows import Windows

__all__ = ["UNCERTAINTY", "masked_shares"]

#: What is made up for is uncertain by this share of itself: the profile is a filter's mean one.
UNCERTAINTY: Final = 0.2

_N_FINE: Final = 20
_STEP_PIXELS: Final = 0.1
#: The table goes so much further than a circle.
_N_MORE_PIXELS: Final = 3
#: A pixel whose centre is half a pixel or more beyond the circle does not count as covered.
_BEYOND_COVER: Final = 0.51


@functools.lru_cache(maxsize=64)
def _light_of_pixels(
    wavelength_nm: float, half_size: int, pixel_size_arcsec: tuple[float, float]
) -> np.ndarray:
    """Tabulate the share of a star's light in a pixel by the distance of its centre.

    Returns
    -------
    numpy.ndarray
        Mean shares at distances from half a step on, a step apart.
    """
    _, _, profile = fine_profile(wavelength_nm, half_size + 1, _N_FINE, pixel_size_arcsec)
    pixels = box_sum(profile, _N_FINE)
    steps = (np.arange(len(pixels)) - (len(pixels) - 1) / 2.0) / _N_FINE
    distance = np.hypot(steps[None, :], steps[:, None]).ravel()
    edges = np.arange(0.0, half_size, _STEP_PIXELS)
    bins = np.digitize(distance, edges) - 1
    counts = np.bincount(bins, minlength=len(edges))[: len(edges)]
    sums = np.bincount(bins, pixels.ravel(), minlength=len(edges))[: len(edges)]
    shares: np.ndarray = sums / np.maximum(counts, 1)
    return shares


def _interpolated(table: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Look distances up; the steps being even, at a quarter of the time of `numpy.interp`."""
    place = (distance / _STEP_PIXELS - 0.5).clip(0.0, len(table) - 1.0)
    i = np.minimum(place.astype(np.intp), len(table) - 2)
    place -= i
    place *= np.diff(table).take(i)
    place += table.take(i)
    return place


def masked_shares(
    mask: np.ndarray,
    windows: Windows,
    radius: float,
    wavelength_nm: float,
    pixel_size_arcsec: tuple[float, float] = PIXEL_SIZE_ARCSEC,
) -> tuple[np.ndarray, np.ndarray]:
    """Give the masked share of circles, by light of a star at their centre and by area.

    Parameters
    ----------
    mask : numpy.ndarray
        bool, shape (ny, nx): True where a pixel is not used. What lies outside is not, either.
    windows : Windows
        Around the circles' centres, of their radius or a larger one.
    radius : float
        Pixels.
    wavelength_nm : float
        Pivot wavelength of the filter.
    pixel_size_arcsec : (float, float)
        Width and height of a pixel.

    Returns
    -------
    of_light, of_area : numpy.ndarray
        float64, shape (n,), from 0 to 1.
    """
    unused = windows.gather(mask) | windows.is_outside
    # Nearly all windows have masked pixels; not so many have some that the circle covers.
    near = windows.distance2 < (radius + _BEYOND_COVER) ** 2
    some = np.flatnonzero((unused & near).any(axis=(0, 1)))
    unused, distance = unused.take(some, axis=2), np.sqrt(windows.distance2.take(some, axis=2))
    # The share of a pixel inside the circle, exact where its edge is straight across it.
    cover = np.clip(radius - distance + 0.5, 0.0, 1.0)
    share = _light_of_pixels(wavelength_nm, math.ceil(radius) + _N_MORE_PIXELS, pixel_size_arcsec)
    light = _interpolated(share, distance) * cover
    of_light, of_area = np.zeros((2, windows.index.shape[-1]))
    of_light[some] = (light * unused).sum(axis=(0, 1)) / light.sum(axis=(0, 1))
    of_area[some] = (cover * unused).sum(axis=(0, 1)) / cover.sum(axis=(0, 1))
    return of_light, of_area
