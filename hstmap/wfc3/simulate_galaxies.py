"""Galaxies with Sersic profiles, blurred by the telescope and drawn on pixels.

A profile is written as a sum of Gaussians (Hogg & Lang 2013, PASP 125, 719), and so is the point
spread function: blurring is then an addition of variances, and a galaxy is drawn in a fraction of
a millisecond at any size, shape and angle.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hstmap.wfc3.encircled_energy import encircled_energy

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]

__all__ = ["GalaxyShape", "GaussianMixture", "draw_galaxy", "psf_mixture", "sersic_mixture"]

_PIXEL_VARIANCE = 1.0 / 12.0  # Of the square that a pixel integrates over, in pixels squared.


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """A round profile as a sum of Gaussians.

    Attributes
    ----------
    weights : ndarray of float64, shape (n,)
        Share of the light in each; they add up to 1.
    sigmas : ndarray of float64, shape (n,)
        Their widths: in arcsec for the point spread function, in half-light radii for a galaxy.
    """

    weights: FloatArray
    sigmas: FloatArray

    def growth(self, radius: npt.ArrayLike) -> FloatArray:
        """Fraction of the light inside each radius."""
        inside = np.square(np.atleast_1d(np.asarray(radius, dtype=np.float64)))[:, None]
        growth: FloatArray = -np.expm1(-inside / (2.0 * self.sigmas**2)) @ self.weights
        return growth


def _fit_growth(sigmas: FloatArray, radius: FloatArray, growth: FloatArray) -> GaussianMixture:
    """Fit the weights of Gaussians to a growth curve, none of them negative.

    Multiplicative updates of least squares (Lee & Seung 2001): slow to converge in the last
    digits, which do not matter here, and no weight can turn negative.
    """
    design = np.vstack(
        [-np.expm1(-(radius[:, None] ** 2) / (2.0 * sigmas**2)), np.ones(len(sigmas))]
    )
    target = np.append(growth, 1.0)
    normal, moments = design.T @ design, design.T @ target
    weights = np.full(len(sigmas), 1.0 / len(sigmas))
    for _ in range(3000):
        weights *= moments / (normal @ weights)
    used = weights > 1e-3
    return GaussianMixture(weights[used] / weights[used].sum(), sigmas[used])


@functools.lru_cache(maxsize=12)
def psf_mixture(wavelength_nm: float) -> GaussianMixture:
    """Fit Gaussians to the encircled energy of a wavelength, as good as they can (2.5 %)."""
    radius = np.concatenate([np.arange(0.02, 0.6, 0.02), np.arange(0.6, 5.0, 0.1)])
    sigmas = np.array([0.045, 0.06, 0.08, 0.11, 0.16, 0.35, 0.7, 1.4, 2.4])
    return _fit_growth(sigmas, radius, encircled_energy(wavelength_nm, radius))


@functools.lru_cache(maxsize=24)
def sersic_mixture(index: float) -> GaussianMixture:
    """Fit Gaussians to a Sersic profile that ends at ten half-light radii.

    Parameters
    ----------
    index : float
        Sersic index, 0.5 to 6.

    Returns
    -------
    GaussianMixture
        Widths in half-light radii; exactly half of its light is inside radius 1.
    """
    # Ciotti & Bertin 1999 (A&A 352, 447), eq. 18.
    b = 2.0 * index - 1.0 / 3.0 + 4.0 / (405.0 * index) + 46.0 / (25515.0 * index**2)
    radius = np.geomspace(1e-4, 10.0, 2000)
    light = radius**2 * np.exp(-b * radius ** (1.0 / index))  # In each step of ln(radius).
    growth = np.cumsum(light)
    at = np.geomspace(0.02, 9.0, 60)
    fitted = _fit_growth(
        np.geomspace(0.02, 5.0, 10), at, np.interp(at, radius, growth / growth[-1])
    )
    fine = np.linspace(0.5, 1.5, 2001)
    half_light = float(np.interp(0.5, fitted.growth(fine), fine))
    return GaussianMixture(fitted.weights, fitted.sigmas / half_light)


@dataclass(frozen=True)
class GalaxyShape:
    """How a galaxy looks on the sky.

    Attributes
    ----------
    half_light_radius : float
        Semi-major axis of the ellipse that holds half of the light, in arcsec.
    sersic_index : float
        1 for a disc, 4 for an elliptical.
    axis_ratio : float
        Minor over major axis.
    position_angle : float
        Of the major axis, in degrees east of north.
    """

    half_light_radius: float
    sersic_index: float
    axis_ratio: float
    position_angle: float

    def covariance(self) -> FloatArray:
        """Shape of the unit Gaussian on the sky, axes east and north, arcsec squared."""
        angle = math.radians(self.position_angle)
        major = np.array([math.sin(angle), math.cos(angle)]) * self.half_light_radius
        minor = np.array([math.cos(angle), -math.sin(angle)]) * (
            self.half_light_radius * self.axis_ratio
        )
        return np.outer(major, major) + np.outer(minor, minor)


def draw_galaxy(
    shape: GalaxyShape,
    psf: GaussianMixture,
    to_pixels: FloatArray,
    dxy: tuple[float, float],
    half_size: int,
) -> FloatArray:
    """Draw one galaxy of unit flux.

    Parameters
    ----------
    shape : GalaxyShape
        What to draw.
    psf : GaussianMixture
        Point spread function, widths in arcsec.
    to_pixels : ndarray of float64, shape (2, 2)
        Matrix that turns steps (east, north) in arcsec into steps (x, y) in pixels.
    dxy : (float, float)
        Galaxy's centre minus the middle pixel's centre, in pixels.
    half_size : int
        Pixels on each side of the middle one.

    Returns
    -------
    ndarray of float64, shape (2 * half_size + 1, 2 * half_size + 1)
    """
    profile = sersic_mixture(shape.sersic_index)
    own = to_pixels @ shape.covariance() @ to_pixels.T
    blur = to_pixels @ to_pixels.T
    weights = np.outer(profile.weights, psf.weights).ravel()
    variances = (
        profile.sigmas[:, None, None, None] ** 2 * own
        + psf.sigmas[None, :, None, None] ** 2 * blur
        + _PIXEL_VARIANCE * np.eye(2)
    ).reshape(-1, 2, 2)
    used = weights > 1e-3
    weights, variances = weights[used] / weights[used].sum(), variances[used]
    xx, yy, xy = variances[:, 0, 0], variances[:, 1, 1], variances[:, 0, 1]
    determinant = xx * yy - xy**2
    steps = np.arange(-half_size, half_size + 1)
    x, y = steps - dxy[0], steps - dxy[1]
    # The exponent -(yy x^2 - 2 xy x y + xx y^2) / 2 det, and the height, for all Gaussians at once.
    terms = np.stack([yy, -2.0 * xy, xx], axis=1) / (-2.0 * determinant[:, None])
    square_x, square_y = np.broadcast_arrays((x**2)[None, :], (y**2)[:, None])
    basis = np.stack([square_x, np.outer(y, x), square_y]).reshape(3, -1)
    heights = weights / (2.0 * math.pi * np.sqrt(determinant))
    # Single precision halves the time and is good to one part in a million here.
    exponents = terms.astype(np.float32) @ basis.astype(np.float32)
    drawn: npt.NDArray[np.float32] = heights.astype(np.float32) @ np.exp(exponents)
    return drawn.astype(np.float64).reshape(len(y), len(x))
