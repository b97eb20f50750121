"""Fluxes of sources: Kron ellipses, circles, and what a circle misses of a star."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sep

from hstmap.wfc3.encircled_energy import PIXEL_SIZE_ARCSEC, aperture_fraction
from hstmap.wfc3.schema import APERTURE_RADII_ARCSEC, UPPER_LIMIT_SIGMA

if TYPE_CHECKING:
    from hstmap.wfc3.detect import Detection
    from hstmap.wfc3.image import ImageInfo
    from hstmap.wfc3.parameters import MeasureParameters

__all__ = [
    "ON_DETECTOR",
    "POGSON",
    "KronFluxes",
    "aperture_radii",
    "aperture_shares",
    "circle_fluxes",
    "half_light_radii",
    "kron_fluxes",
    "magnitudes",
    "pixel_size_arcsec",
    "poisson_gain",
]

#: SExtractor integrates the Kron radius over this many isophotal radii (its manual, "FLUX_AUTO").
_KRON_ISOPHOTAL_RADII: Final = 6.0
#: Samples a pixel and axis where an aperture's edge cuts it, as in SExtractor.
_SUBPIXELS: Final = 5
#: Of the extent of a source: a circle of this radius holds half of the light of 95 in 100.
_FIRST_WINDOW: Final = 0.5
#: In windows of this radius and more, fewer samples a pixel and axis do: against 25 of them, radii
#: of some 10 pixels scatter by 0.03 pixels instead of 0.015, at half of the time.
_WIDE_WINDOW_PIXELS: Final = 5.0
_SUBPIXELS_WIDE: Final = 3
#: Magnitudes a relative error of flux: 2.5 / ln 10.
POGSON: Final = 2.5 / np.log(10.0)
#: Of the flags of the Kron radius itself: all masked, not positive. That some pixel of its large
#: ellipse is masked or outside says nothing of the flux, whose own ellipse has its own flags.
_KRON_FLAGS: Final = 64 | 128
#: Kept of an image without a WCS: the scale of WFC3/IR (Instrument Handbook, 7.1), arcsec a pixel.
_NOMINAL_PIXEL_SCALE: Final = 0.128
#: A circle smaller than this, in pixels, holds less than one pixel.
_LEAST_RADIUS: Final = 0.5
#: Products whose pixels are the detector's, so that their shape on the sky is known.
ON_DETECTOR: Final = frozenset({"flt", "ima"})
_PLACEHOLDER_S: Final = 1.0
#: What the table of encircled energy spans, nm.
_TABULATED_NM: Final = (700.0, 1700.0)


@dataclass(frozen=True, eq=False)
class KronFluxes:
    """What `kron_fluxes` gives; arrays of shape (n,).

    Attributes
    ----------
    radius : numpy.ndarray
        Kron radius in units of a and b; 0 where there is no light to weigh.
    flux, flux_err : numpy.ndarray
        electron/s.
    flags : numpy.ndarray
        SEP's, of the ellipse that was summed.
    extent : numpy.ndarray
        Semi-major axis of what was summed, pixels.
    half_light_radius : numpy.ndarray
        Radius of a circle with half of the flux, pixels; NaN where the flux is not positive.
    """

    radius: np.ndarray
    flux: np.ndarray
    flux_err: np.ndarray
    flags: np.ndarray
    extent: np.ndarray
    half_light_radius: np.ndarray


def poisson_gain(info: ImageInfo) -> float | None:
    """Say what makes a flux's own Poisson noise, where the image's errors leave it out.

    The ERR plane of calwf3 holds it. Weights of drizzled images, and an rms, are the
    background's only: then a flux of f electron/s adds a variance of f / exposure time.

    Parameters
    ----------
    info : ImageInfo

    Returns
    -------
    float or None
        Electrons a data unit, which is the exposure time in s; None if nothing is to be added,
        or if the exposure time is 1 s or less, which in drizzled images is a placeholder.
    """
    if info.err_kind == "error" or not info.exposure_s or info.exposure_s <= _PLACEHOLDER_S:
        return None
    return info.exposure_s


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
        float32, the error to first order in ``flux_err / flux``. Where the flux is not positive,
        the magnitude of `~hstmap.wfc3.schema.UPPER_LIMIT_SIGMA` errors, and NaN for its error;
        both NaN without a zero point.
    """
    mag = np.full(flux.shape, np.nan, dtype=np.float32)
    mag_err = mag.copy()
    if zero_point is None:
        return mag, mag_err
    positive = flux > 0
    measured = np.where(positive, flux, UPPER_LIMIT_SIGMA * flux_err)
    some = measured > 0
    mag[some] = zero_point - 2.5 * np.log10(measured[some])
    mag_err[positive] = POGSON * flux_err[positive] / flux[positive]
    return mag, mag_err


def aperture_radii(info: ImageInfo) -> tuple[float, ...]:
    """Give the radii of the circular apertures in pixels of an image.

    Parameters
    ----------
    info : ImageInfo

    Returns
    -------
    tuple of float
    """
    scale = info.pixel_scale_arcsec or _NOMINAL_PIXEL_SCALE
    return tuple(max(radius / scale, _LEAST_RADIUS) for radius in APERTURE_RADII_ARCSEC)


def pixel_size_arcsec(info: ImageInfo) -> tuple[float, float]:
    """Give width and height of a pixel on the sky.

    Parameters
    ----------
    info : ImageInfo

    Returns
    -------
    (float, float)
        arcsec.
    """
    if info.product in ON_DETECTOR:
        return PIXEL_SIZE_ARCSEC
    scale = round(info.pixel_scale_arcsec or _NOMINAL_PIXEL_SCALE, 4)
    return scale, scale


def aperture_shares(info: ImageInfo) -> tuple[float | None, ...]:
    """Give the share of a point source's light that the circular apertures catch.

    Parameters
    ----------
    info : ImageInfo
        For its pivot wavelength and its pixels.

    Returns
    -------
    tuple of float or None
        From the handbook's encircled energy, seen through the pixels: exact for the detector's
        own, nearly so for drizzled ones. None where the pivot wavelength is not known, or not
        one of the IR channel.
    """
    if info.photplam is None or not _TABULATED_NM[0] <= info.photplam / 10 <= _TABULATED_NM[1]:
        return (None,) * len(APERTURE_RADII_ARCSEC)
    pixel = pixel_size_arcsec(info)
    # Rounded, so that frames of one filter and slightly different scales share one table.
    return tuple(
        aperture_fraction(round(info.photplam / 10, 1), round(radius, 2), pixel)
        for radius in aperture_radii(info)
    )


def circle_fluxes(
    detection: Detection, x: np.ndarray, y: np.ndarray, radius: float, gain: float | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum circles.

    Parameters
    ----------
    detection : Detection
        The planes to sum on.
    x, y : numpy.ndarray
        Centres, pixels from 0.
    radius : float
        Pixels.
    gain : float, optional
        From `poisson_gain`.

    Returns
    -------
    flux, flux_err, flags : numpy.ndarray
        As `sep.sum_circle`; masked pixels are made up for by the others.
    """
    flux, flux_err, flags = sep.sum_circle(
        detection.data, x, y, radius, **_how(detection, gain), subpix=_SUBPIXELS
    )
    return flux, flux_err, flags


def _how(detection: Detection, gain: float | None) -> dict[str, Any]:
    """Collect what all sums have in common."""
    return {"err": detection.err, "mask": detection.mask, "gain": gain}


def kron_fluxes(
    detection: Detection, parameters: MeasureParameters, theta: np.ndarray, gain: float | None
) -> KronFluxes:
    """Sum the Kron ellipses, or circles where these are too small.

    Parameters
    ----------
    detection : Detection
        With its objects.
    parameters : MeasureParameters
    theta : numpy.ndarray
        Angles of the major axes, within -pi/2 and pi/2, rad.
    gain : float or None
        From `poisson_gain`.

    Returns
    -------
    KronFluxes
    """
    objects, data, mask = detection.objects, detection.data, detection.mask
    x, y, a, b = objects["x"], objects["y"], objects["a"], objects["b"]
    radius, flags = sep.kron_radius(data, x, y, a, b, theta, _KRON_ISOPHOTAL_RADII, mask=mask)
    flags &= _KRON_FLAGS
    scale = parameters.kron_factor * radius
    # Also where the radius is NaN: masked or negative pixels left nothing to weigh.
    small = ~(scale * np.sqrt(a * b) >= parameters.min_kron_radius)
    flux, flux_err = np.empty(len(x)), np.empty(len(x))
    if not small.all():
        i = ~small
        flux[i], flux_err[i], more = sep.sum_ellipse(
            data, x[i], y[i], a[i], b[i], theta[i], scale[i],
            **_how(detection, gain), subpix=_SUBPIXELS,
        )  # fmt: skip
        flags[i] |= more
    if small.any():
        flux[small], flux_err[small], more = circle_fluxes(
            detection, x[small], y[small], parameters.min_kron_radius, gain
        )
        flags[small] |= more
    extent = np.where(small, parameters.min_kron_radius, scale * a)
    return KronFluxes(
        radius=np.where(np.isfinite(radius), radius, 0.0),
        flux=flux,
        flux_err=flux_err,
        flags=flags,
        extent=extent,
        half_light_radius=half_light_radii(detection, flux, extent),
    )


def half_light_radii(detection: Detection, flux: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """Find the circles around sources that hold half of their flux.

    Parameters
    ----------
    detection : Detection
        With its objects.
    flux : numpy.ndarray
        What half is of, electron/s, shape (n,).
    extent : numpy.ndarray
        No circle is larger than this, pixels, shape (n,).

    Returns
    -------
    numpy.ndarray
        Pixels, shape (n,), to 0.03 pixels, as `sep.flux_radius` finds them: `extent` where that
        holds less than half, NaN where the flux is not positive.
    """
    x, y = detection.objects["x"], detection.objects["y"]
    radius = np.full(len(x), np.nan)
    # SEP samples each pixel within a window, and half of the light is mostly within half of it.
    todo = np.flatnonzero(flux > 0)
    for share in (_FIRST_WINDOW, 1.0):
        window = share * extent
        is_wide = window[todo] >= _WIDE_WINDOW_PIXELS
        for some, n_samples in ((todo[~is_wide], _SUBPIXELS), (todo[is_wide], _SUBPIXELS_WIDE)):
            radius[some], _ = sep.flux_radius(
                detection.data, x[some], y[some], window[some], 0.5,
                normflux=flux[some], mask=detection.mask, subpix=n_samples,
            )  # fmt: skip
        todo = todo[radius[todo] >= window[todo]]
    return radius
