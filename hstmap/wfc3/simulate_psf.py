"""The image of a star on WFC3/IR's pixels, as the simulation draws it.

The profile is that of the WFC3 Instrument Handbook: a Gaussian core of the width of its Table 7.5
and, from 0.1 arcsec on, the slope of the encircled energy of its Table 7.7, which shows the
diffraction rings. Both are of the light before it falls on pixels, so the profile is integrated
over the detector's pixels here. Four diffraction spikes move light around the circle, not along
the radius: the encircled energy stays.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hstmap.wfc3.encircled_energy import box_sum, fine_profile

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]

__all__ = [
    "PointSpread",
    "point_spread",
]

_SPIKE_WIDTH_ARCSEC = 0.09
_SPIKE_SHARE = 0.35  # Of the light at a radius, far from the core.


@dataclass(frozen=True, eq=False)
class PointSpread:
    """A star's image on the detector's pixels, for any place of the star between them.

    Attributes
    ----------
    wavelength_nm : float
        Wavelength that it is for.
    phases : ndarray of float64, shape (n_phases + 1, n_phases + 1, n, n)
        ``phases[j, i]`` is the fraction of the light in each pixel around a star whose centre lies
        ``i / n_phases - 0.5`` pixels right of the middle pixel's centre and ``j / n_phases - 0.5``
        above it.
    """

    wavelength_nm: float
    phases: FloatArray

    @property
    def half_size(self) -> int:
        """Pixels on each side of the middle one."""
        return (int(self.phases.shape[-1]) - 1) // 2

    def stamp(self, dx: float, dy: float, half_size: int) -> FloatArray:
        """Fraction of the light in each pixel around a star.

        Parameters
        ----------
        dx, dy : float
            Star's centre minus the middle pixel's centre, in pixels, -0.5 to 0.5.
        half_size : int
            Pixels on each side of the middle one, at most the whole.

        Returns
        -------
        ndarray of float64, shape (2 * half_size + 1, 2 * half_size + 1)
        """
        n_phases = len(self.phases) - 1
        cut = slice(self.half_size - half_size, self.half_size + half_size + 1)
        i, x_part = _split_phase(dx, n_phases)
        j, y_part = _split_phase(dy, n_phases)
        near = self.phases[j : j + 2, i : i + 2, cut, cut]
        below = near[0, 0] * (1.0 - x_part) + near[0, 1] * x_part
        above = near[1, 0] * (1.0 - x_part) + near[1, 1] * x_part
        stamp: FloatArray = below * (1.0 - y_part) + above * y_part
        return stamp


def _split_phase(offset: float, n_phases: int) -> tuple[int, float]:
    position = (offset + 0.5) * n_phases
    index = min(max(math.floor(position), 0), n_phases - 1)
    return index, position - index


def _spikes(x: FloatArray, y: FloatArray, radius: FloatArray) -> FloatArray:
    """Factor that gathers part of the halo into the four spikes of the secondary's support."""
    diagonal, other = (
        (x[None, :] + y[:, None]) / math.sqrt(2),
        (x[None, :] - y[:, None]) / math.sqrt(2),
    )
    width = _SPIKE_WIDTH_ARCSEC
    peaks = np.exp(-0.5 * (diagonal / width) ** 2) + np.exp(-0.5 * (other / width) ** 2)
    # Each circle meets a spike four times: this mean keeps the light at every radius.
    mean = 4.0 * math.sqrt(2.0 * math.pi) * width / (2.0 * math.pi * np.maximum(radius, 0.3))
    share = _SPIKE_SHARE * np.clip((radius - 0.5) / 1.0, 0.0, 1.0)
    factor: FloatArray = 1.0 + share * (peaks / mean - 1.0)
    return factor


@functools.lru_cache(maxsize=12)
def point_spread(wavelength_nm: float, half_size: int = 50, n_phases: int = 10) -> PointSpread:
    """Make the star image of a wavelength.

    Parameters
    ----------
    wavelength_nm : float
        Pivot wavelength of the filter.
    half_size : int
        Pixels on each side of the middle one.
    n_phases : int
        Places of the star across a pixel at which it is computed, an even number; between them it
        is interpolated.

    Returns
    -------
    PointSpread
        Read-only; kept for the next call.
    """
    x, y, profile = fine_profile(wavelength_nm, half_size + 1, n_phases)
    spiked = profile * _spikes(x, y, np.hypot(x[None, :], y[:, None]))
    pixels = box_sum(spiked, n_phases)
    # pixels[k] is the light in the pixel whose lower edge is k cells after that of the grid, and
    # the star is half_size + 1 pixels after it: a star further right needs an earlier pixel.
    n = 2 * half_size + 1
    phases = np.empty((n_phases + 1, n_phases + 1, n, n))
    for j in range(n_phases + 1):
        for i in range(n_phases + 1):
            phases[j, i] = pixels[n_phases - j :: n_phases, n_phases - i :: n_phases][:n, :n]
    phases.flags.writeable = False
    return PointSpread(wavelength_nm, phases)
