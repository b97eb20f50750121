"""Measuring the sources of an image: photometry, sizes, sky coordinates, magnitudes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import sep

from hstmap.errors import UsageError
from hstmap.wfc3.schema import APERTURE_RADII_ARCSEC, SOURCE_COLUMNS

if TYPE_CHECKING:
    from hstmap.wfc3.detect import Detection
    from hstmap.wfc3.image import Image, ImageInfo

__all__ = ["MeasureParameters", "Sources", "depth_5sigma", "empty_sources", "magnitudes", "measure"]

Sources = dict[str, np.ndarray]

#: SExtractor integrates the Kron radius over this many isophotal radii (its manual, "FLUX_AUTO").
_KRON_ISOPHOTAL_RADII: Final = 6.0
#: Samples a pixel and axis where an aperture's edge cuts it, as in SExtractor.
_SUBPIXELS: Final = 5
#: Magnitudes a relative error of flux: 2.5 / ln 10.
_POGSON: Final = 2.5 / np.log(10.0)
#: Of the flags of the Kron radius itself: all masked, not positive. That some pixel of its large
#: ellipse is masked or outside says nothing of the flux, whose own ellipse has its own flags.
_KRON_FLAGS: Final = 64 | 128
#: The data quality bits looked at reach this far from a source, arcsec.
_DQ_RADIUS_ARCSEC: Final = APERTURE_RADII_ARCSEC[1]
#: Kept of an image without a WCS: the scale of WFC3/IR (Instrument Handbook, 7.1), arcsec a pixel.
_NOMINAL_PIXEL_SCALE: Final = 0.128
#: A circle smaller than this, in pixels, holds less than one pixel.
_LEAST_RADIUS: Final = 0.5


@dataclass(frozen=True)
class MeasureParameters:
    """How sources are measured.

    Attributes
    ----------
    kron_factor : float
        The Kron ellipse is this many Kron radii large.
    min_kron_radius : float
        Least size of that ellipse, in units of a and b; where the Kron ellipse is smaller, a
        circle of this many ``sqrt(a b)`` takes its place, as SExtractor's PHOT_AUTOPARAMS do.
    """

    kron_factor: float = 2.5
    min_kron_radius: float = 3.5

    def __post_init__(self) -> None:
        for name in ("kron_factor", "min_kron_radius"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} is {getattr(self, name)!r}; it must be more than 0")


def empty_sources() -> Sources:
    """Make a table without rows that has every column with its type.

    Returns
    -------
    dict of str to numpy.ndarray
    """
    return {
        column.name: np.empty(0, dtype="U1" if column.dtype == "str" else column.dtype)
        for column in SOURCE_COLUMNS
    }


def magnitudes(
    flux: np.ndarray, flux_err: np.ndarray, zero_point: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Turn fluxes into AB magnitudes.

    Parameters
    ----------
    flux, flux_err : numpy.ndarray
        electron/s, of one shape.
    zero_point : float or None
        AB magnitude of 1 electron/s.

    Returns
    -------
    mag, mag_err : numpy.ndarray
        float32, the error to first order in ``flux_err / flux``; NaN where the flux is not
        positive, and everywhere without a zero point.
    """
    mag = np.full(flux.shape, np.nan, dtype=np.float32)
    mag_err = mag.copy()
    positive = flux > 0
    if zero_point is not None and positive.any():
        mag[positive] = zero_point - 2.5 * np.log10(flux[positive])
        mag_err[positive] = _POGSON * flux_err[positive] / flux[positive]
    return mag, mag_err


def _kron_photometry(
    detection: Detection, parameters: MeasureParameters, theta: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sum the Kron ellipses, or circles where these are too small.

    Returns
    -------
    kron_radius, flux, flux_err, flags, extent : numpy.ndarray
        Shape (n,); the extent is the semi-major axis of what was summed, pixels.
    """
    objects, data, mask = detection.objects, detection.data, detection.mask
    x, y, a, b = objects["x"], objects["y"], objects["a"], objects["b"]
    radius, flags = sep.kron_radius(data, x, y, a, b, theta, _KRON_ISOPHOTAL_RADII, mask=mask)
    flags &= _KRON_FLAGS
    scale = parameters.kron_factor * radius
    # Also where the radius is NaN: masked or negative pixels left nothing to weigh.
    small = ~(scale * np.sqrt(a * b) >= parameters.min_kron_radius)
    large = ~small
    flux, flux_err = np.empty(len(x)), np.empty(len(x))
    extent = np.where(small, parameters.min_kron_radius, scale * a)
    how = {"err": detection.err, "mask": mask, "subpix": _SUBPIXELS}
    if large.any():
        i = large
        flux[i], flux_err[i], more = sep.sum_ellipse(
            data, x[i], y[i], a[i], b[i], theta[i], scale[i], **how
        )
        flags[i] |= more
    if small.any():
        i = small
        flux[i], flux_err[i], more = sep.sum_circle(
            data, x[i], y[i], parameters.min_kron_radius, **how
        )
        flags[i] |= more
    return np.where(np.isfinite(radius), radius, 0.0), flux, flux_err, flags, extent


def _or_around(dq: np.ndarray | None, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Or the data quality bits of the pixels whose centres lie within a radius.

    Returns
    -------
    numpy.ndarray
        int32, shape (n,).
    """
    if dq is None or len(x) == 0:
        return np.zeros(len(x), dtype=np.int32)
    reach = int(np.ceil(radius))
    offset_y, offset_x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    column = np.rint(x).astype(np.intp)[:, None] + offset_x.ravel()
    row = np.rint(y).astype(np.intp)[:, None] + offset_y.ravel()
    inside = (column - x[:, None]) ** 2 + (row - y[:, None]) ** 2 <= radius**2
    ny, nx = dq.shape
    inside &= (column >= 0) & (column < nx) & (row >= 0) & (row < ny)
    bits = dq[row.clip(0, ny - 1), column.clip(0, nx - 1)]
    combined: np.ndarray = np.bitwise_or.reduce(np.where(inside, bits, 0), axis=1)
    return combined.astype(np.int32)


def _sky(image: Image, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give ICRS coordinates in degrees, NaN without a WCS."""
    if image.wcs is None or len(x) == 0:
        nothing = np.full(len(x), np.nan)
        return nothing, nothing.copy()
    # Positions count from 0, so that the origin is 0: a 1 here moves every source by a pixel.
    ra, dec = image.wcs.all_pix2world(x, y, 0)
    return ra, dec


def _of_image(info: ImageInfo, n: int) -> Sources:
    """Repeat what is the same for all sources of an image."""
    return {
        "rootname": np.full(n, info.rootname),
        "filter": np.full(n, info.filter),
        "exposure_start_mjd": np.full(n, info.exposure_start_mjd, dtype=np.float64),
        "exposure_s": np.full(n, info.exposure_s, dtype=np.float32),
    }


def measure(image: Image, detection: Detection, parameters: MeasureParameters) -> Sources:
    """Measure the sources of an image.

    Parameters
    ----------
    image : Image
        The image that they were found on, for its WCS, zero point and data quality.
    detection : Detection
        With its objects.
    parameters : MeasureParameters
        How to measure.

    Returns
    -------
    dict of str to numpy.ndarray
        The columns of `~hstmap.wfc3.schema.SOURCE_COLUMNS`, in their order, types and units;
        arrays of shape (n,).
    """
    objects, data = detection.objects, detection.data
    if len(objects) == 0:
        return empty_sources()
    x, y = objects["x"], objects["y"]
    # SEP's angle can leave its range by a rounding error, which its own photometry refuses.
    theta = np.clip(objects["theta"], -np.pi / 2, np.pi / 2)
    kron_radius, flux, flux_err, kron_flags, extent = _kron_photometry(detection, parameters, theta)
    columns: Sources = {}
    columns |= _photometry("auto", flux, flux_err, image.info.zero_point_ab)
    scale = image.info.pixel_scale_arcsec or _NOMINAL_PIXEL_SCALE
    for i, radius_arcsec in enumerate(APERTURE_RADII_ARCSEC, start=1):
        radius = max(radius_arcsec / scale, _LEAST_RADIUS)
        summed, summed_err, _ = sep.sum_circle(
            data, x, y, radius, err=detection.err, mask=detection.mask, subpix=_SUBPIXELS
        )
        columns |= _photometry(f"aper_{i}", summed, summed_err, image.info.zero_point_ab)
    half_light, _ = sep.flux_radius(
        data, x, y, extent, 0.5, normflux=flux, mask=detection.mask, subpix=_SUBPIXELS
    )
    ra, dec = _sky(image, x, y)
    column, row = np.rint(x).astype(np.intp), np.rint(y).astype(np.intp)
    ny, nx = data.shape
    columns |= _of_image(image.info, len(objects)) | {
        "number": np.arange(1, len(objects) + 1),
        "x": x,
        "y": y,
        "ra": ra,
        "dec": dec,
        "x_min": objects["xmin"],
        "x_max": objects["xmax"],
        "y_min": objects["ymin"],
        "y_max": objects["ymax"],
        "n_pixels": objects["npix"],
        "a": objects["a"],
        "b": objects["b"],
        "theta": np.degrees(theta),
        "kron_radius": kron_radius,
        "half_light_radius": np.where(flux > 0, half_light, np.nan),
        "peak": objects["peak"],
        "background": detection.background[row.clip(0, ny - 1), column.clip(0, nx - 1)],
        "snr": np.divide(flux, flux_err, out=np.zeros_like(flux), where=flux_err > 0),
        "dq": _or_around(image.dq, x, y, _DQ_RADIUS_ARCSEC / scale),
        "flags": objects["flag"] | kron_flags,
    }
    return {
        c.name: columns[c.name] if c.dtype == "str" else columns[c.name].astype(c.dtype, copy=False)
        for c in SOURCE_COLUMNS
    }


def _photometry(
    name: str, flux: np.ndarray, flux_err: np.ndarray, zero_point: float | None
) -> Sources:
    """Name a flux, its magnitude and their errors."""
    mag, mag_err = magnitudes(flux, flux_err, zero_point)
    return {
        f"flux_{name}": flux,
        f"flux_{name}_err": flux_err,
        f"mag_{name}": mag,
        f"mag_{name}_err": mag_err,
    }


def depth_5sigma(info: ImageInfo, detection: Detection) -> float | None:
    """Give the magnitude of a flux of 5 sigma in the larger aperture.

    Parameters
    ----------
    info : ImageInfo
        For zero point and pixel scale.
    detection : Detection
        For the background's rms, taken to be uncorrelated from pixel to pixel.

    Returns
    -------
    float or None
        AB magnitude; None without a zero point.
    """
    if info.zero_point_ab is None:
        return None
    radius = APERTURE_RADII_ARCSEC[1] / (info.pixel_scale_arcsec or _NOMINAL_PIXEL_SCALE)
    noise = detection.background_rms * np.sqrt(np.pi) * radius
    return float(info.zero_point_ab - 2.5 * np.log10(5.0 * noise))
