"""Drawing a sky of stars and galaxies on a pixel grid."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from hstmap.wfc3.encircled_energy import encircled_energy
from hstmap.wfc3.simulate_galaxies import GalaxyShape, draw_galaxy, psf_mixture, sersic_mixture
from hstmap.wfc3.simulate_instrument import (
    DARK_E_S,
    PIXEL_SCALE_ARCSEC,
    find_filter,
    ramp_read_noise_e,
)
from hstmap.wfc3.simulate_psf import point_spread

if TYPE_CHECKING:
    import numpy.typing as npt
    from astropy.table import Table
    from astropy.wcs import WCS

    from hstmap.wfc3.simulate_scene import SceneParameters

    FloatArray = npt.NDArray[np.float64]

__all__ = ["expected_snr", "pixel_noise_e_s", "render"]

_STAMP_HALF_SIZES = np.array([6, 10, 16, 24, 50])
_NEGLIGIBLE = 0.03  # Light of one source in one pixel that is left out, in units of its noise.
_SNR_RADIUS_ARCSEC = 0.4


def pixel_noise_e_s(parameters: SceneParameters) -> float:
    """Noise of a pixel of empty sky in e-/s: background, dark current and read noise."""
    electrons = (parameters.background_e_s + DARK_E_S) * parameters.exposure_s
    return math.sqrt(electrons + ramp_read_noise_e(parameters.n_samples) ** 2) / (
        parameters.exposure_s
    )


def render(
    sources: Table, xy: tuple[FloatArray, FloatArray], wcs: WCS, parameters: SceneParameters
) -> FloatArray:
    """Draw sources, each with all of its light, on the detector's grid.

    Parameters
    ----------
    sources : astropy.table.Table
        Columns as of `make_sources`, and `flux` in e-/s.
    xy : (ndarray, ndarray) of float64
        Pixel position of each, 0-based.
    wcs : astropy.wcs.WCS
        The frame's, for the angles of galaxies.
    parameters : SceneParameters
        The frame's size, filter and depth.

    Returns
    -------
    ndarray of float64, shape (size, size)
        e-/s in each pixel. The point spread function is the same in all of the frame.
    """
    image = np.zeros((parameters.size, parameters.size))
    wavelength_nm = find_filter(parameters.filter_name).photplam / 10.0
    is_star = np.asarray(sources["kind"]) == "star"
    flux = np.asarray(sources["flux"], dtype=np.float64)
    half_sizes = _half_sizes(flux, wavelength_nm, pixel_noise_e_s(parameters))
    star_image = point_spread(wavelength_nm)
    psf = psf_mixture(wavelength_nm)
    to_pixels = np.linalg.inv(wcs.pixel_scale_matrix * 3600.0)
    for row, (x, y) in enumerate(zip(*xy, strict=True)):
        column, line = math.floor(x + 0.5), math.floor(y + 0.5)
        half_size = int(half_sizes[row])
        shape = None if is_star[row] else _galaxy_shape(sources, row)
        if shape is not None:
            half_size = _galaxy_half_size(shape, half_size)
        if not _touches(column, line, half_size, len(image)):
            continue
        if shape is None:
            stamp = star_image.stamp(x - column, y - line, half_size)
        else:
            stamp = draw_galaxy(shape, psf, to_pixels, (x - column, y - line), half_size)
        _add_stamp(image, flux[row] * stamp, column, line)
    return image


def _half_sizes(flux: FloatArray, wavelength_nm: float, noise: float) -> npt.NDArray[np.int64]:
    """Choose for each flux the smallest stamp whose edge is lost in the noise."""
    radius = _STAMP_HALF_SIZES * PIXEL_SCALE_ARCSEC
    inner, outer = 0.9 * radius, 1.1 * radius
    ring = math.pi * (outer**2 - inner**2) / PIXEL_SCALE_ARCSEC**2
    share = encircled_energy(wavelength_nm, outer) - encircled_energy(wavelength_nm, inner)
    limits = _NEGLIGIBLE * noise / (share / ring)
    index = np.searchsorted(np.maximum.accumulate(limits), flux)
    return _STAMP_HALF_SIZES[np.minimum(index, len(_STAMP_HALF_SIZES) - 1)]


def _galaxy_shape(sources: Table, row: int) -> GalaxyShape:
    return GalaxyShape(
        float(sources["half_light_radius"][row]),
        float(sources["sersic_index"][row]),
        float(sources["axis_ratio"][row]),
        float(sources["position_angle"][row]),
    )


def _galaxy_half_size(shape: GalaxyShape, star_half_size: int) -> int:
    """Reach five half-light radii beyond the blur, more for the long tails of ellipticals."""
    reach = (3.0 + shape.sersic_index) * shape.half_light_radius / PIXEL_SCALE_ARCSEC
    return min(300, star_half_size + math.ceil(reach))


def _touches(column: int, line: int, half_size: int, size: int) -> bool:
    return -half_size <= column < size + half_size and -half_size <= line < size + half_size


def _add_stamp(image: FloatArray, stamp: npt.NDArray[np.floating], column: int, line: int) -> None:
    half_size, size = (len(stamp) - 1) // 2, len(image)
    left, low = column - half_size, line - half_size
    x0, x1 = max(left, 0), min(left + len(stamp), size)
    y0, y1 = max(low, 0), min(low + len(stamp), size)
    image[y0:y1, x0:x1] += stamp[y0 - low : y1 - low, x0 - left : x1 - left]


def expected_snr(sources: Table, parameters: SceneParameters) -> FloatArray:
    """Signal-to-noise ratio that each source should be measured with.

    That of the light in a circle of 0.4 arcsec, or for a galaxy of 0.4 arcsec and its circularised
    half-light radius added in quadrature, over the noise of the circle: of the source, the
    background, the dark current and the reads.

    Parameters
    ----------
    sources : astropy.table.Table
        Columns as of `make_sources`, and `flux` in e-/s.
    parameters : SceneParameters
        The frame's filter and depth.

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    wavelength_nm = find_filter(parameters.filter_name).photplam / 10.0
    half_light = np.asarray(sources["half_light_radius"]) * np.sqrt(sources["axis_ratio"])
    radius = np.hypot(_SNR_RADIUS_ARCSEC, half_light)
    share = encircled_energy(wavelength_nm, radius)
    indices = np.asarray(sources["sersic_index"])
    for index in np.unique(indices[indices > 0]):
        chosen = indices == index
        # The blur takes as much of a galaxy's light out of a circle as it takes of a star's.
        share[chosen] *= sersic_mixture(float(index)).growth(radius[chosen] / half_light[chosen])
    electrons = share * np.asarray(sources["flux"]) * parameters.exposure_s
    n_pixels = math.pi * radius**2 / PIXEL_SCALE_ARCSEC**2
    sky_electrons = n_pixels * (pixel_noise_e_s(parameters) * parameters.exposure_s) ** 2
    snr: FloatArray = electrons / np.sqrt(electrons + sky_electrons)
    return snr
