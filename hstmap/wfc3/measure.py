"""Measuring the sources of an image: photometry, sizes, sky coordinates, magnitudes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sep

from hstmap.wfc3.masked_light import UNCERTAINTY, masked_shares
from hstmap.wfc3.parameters import MeasureParameters
from hstmap.wfc3.photometry import (
    ON_DETECTOR,
    POGSON,
    KronFluxes,
    aperture_radii,
    aperture_shares,
    circle_fluxes,
    kron_fluxes,
    magnitudes,
    pixel_size_arcsec,
    poisson_gain,
)
from hstmap.wfc3.pixel_area import pixel_area
from hstmap.wfc3.schema import POINT_LIKE_MAG, POINT_LIKE_SIGMA, SOURCE_COLUMNS
from hstmap.wfc3.wcs import to_icrs
from hstmap.wfc3.windows import Windows, windows_around

if TYPE_CHECKING:
    from hstmap.wfc3.detect import Detection
    from hstmap.wfc3.image import Image, ImageInfo

__all__ = ["MeasureParameters", "Sources", "empty_sources", "measure"]

Sources = dict[str, np.ndarray]
Position = tuple[np.ndarray, np.ndarray]
#: Fluxes and their errors, by name.
Fluxes = dict[str, tuple[np.ndarray, np.ndarray]]

_SATURATED_BIT: Final = 256
_UPPER_LIMIT_FLAG: Final = 256
_SATURATED_FLAG: Final = 512
#: Width of the window that positions are weighed with: about a star's, so that it holds its light
#: and little else.
_WINDOW_SIGMA_PIXELS: Final = 1.3
#: A window that moves further has gone to another source.
_LARGEST_SHIFT_PIXELS: Final = 1.5
#: Where more of a star's light is hidden, what is left does not tell its flux.
_LARGEST_MASKED_SHARE: Final = 0.7
_FLUX_COLUMNS: Final = ("flux_{}", "flux_{}_err", "mag_{}", "mag_{}_err")
#: Only to weigh hidden pixels by, where the filter is not known.
_USUAL_WAVELENGTH_AA: Final = 14000.0


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
    objects = detection.objects
    if len(objects) == 0:
        return empty_sources()
    position = _positions(detection, parameters)
    # SEP's angle can leave its range by a rounding error, which its own photometry refuses.
    theta = np.clip(objects["theta"], -np.pi / 2, np.pi / 2)
    kron = kron_fluxes(detection, parameters, theta, poisson_gain(image.info))
    area = _pixel_area(image, position, parameters)
    radius = aperture_radii(image.info)[-1]
    windows = windows_around(*position, radius, detection.data.shape)
    dq = _or_around(image.dq, windows, radius)
    fluxes = {"auto": (kron.flux * area, kron.flux_err * area)}
    fluxes |= _apertures(image.info, detection, position, area)
    fluxes["point"], masked_share = _point_fluxes(image.info, detection, windows, fluxes["aper_2"])
    columns = (
        _of_image(image.info, len(objects))
        | _shapes(image, detection, position, theta)
        | _photometry(fluxes, image.info.zero_point_ab)
        | _concentration(fluxes, aperture_shares(image.info))
    )
    columns |= {
        "background": windows.gather_middles(detection.background),
        "masked_share": masked_share,
        "kron_radius": kron.radius,
        "half_light_radius": kron.half_light_radius,
        "pixel_area": area,
        "snr": np.divide(
            kron.flux, kron.flux_err, out=np.zeros_like(kron.flux), where=kron.flux_err > 0
        ),
        "dq": dq,
        "flags": _flags(objects, kron, dq),
    }
    return {
        c.name: columns[c.name] if c.dtype == "str" else columns[c.name].astype(c.dtype, copy=False)
        for c in SOURCE_COLUMNS
    }


def _of_image(info: ImageInfo, n: int) -> Sources:
    """Repeat what is the same for all sources of an image."""
    return {
        "rootname": np.full(n, info.rootname),
        "filter": np.full(n, info.filter),
        "exposure_start_mjd": np.full(n, info.exposure_start_mjd, dtype=np.float64),
        "exposure_s": np.full(n, info.exposure_s, dtype=np.float32),
    }


def _positions(detection: Detection, parameters: MeasureParameters) -> Position:
    """Give windowed positions, and barycentres where a window runs away or finds no light."""
    x, y = detection.objects["x"], detection.objects["y"]
    if not parameters.windowed_positions:
        return x, y
    xwin, ywin, _ = sep.winpos(
        detection.data, x, y, _WINDOW_SIGMA_PIXELS, mask=detection.mask, subpix=1
    )
    good = np.hypot(xwin - x, ywin - y) <= _LARGEST_SHIFT_PIXELS
    return np.where(good, xwin, x), np.where(good, ywin, y)


def _shapes(image: Image, detection: Detection, position: Position, theta: np.ndarray) -> Sources:
    """Give places and shapes in the image and on the sky, and brightest pixels."""
    objects = detection.objects
    x, y = position
    ra, dec, position_angle = _sky(image, x, y, theta)
    return {
        "number": np.arange(1, len(objects) + 1),
        "x": x,
        "y": y,
        "x_barycentre": objects["x"],
        "y_barycentre": objects["y"],
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
        "position_angle": position_angle,
        "peak": objects["peak"],
    }


def _sky(
    image: Image, x: np.ndarray, y: np.ndarray, theta: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give ICRS coordinates and the position angle of the major axis, deg; NaN without a WCS."""
    n = len(x)
    if image.wcs is None:
        nothing = np.full(n, np.nan)
        return nothing, nothing.copy(), nothing.copy()
    # Positions count from 0, so that the origin is 0: a 1 here moves every source by a pixel.
    # The second half lies one pixel along the major axis from the first.
    pixels = np.concatenate([[x, y], [x + np.cos(theta), y + np.sin(theta)]], axis=1)
    ra, dec = to_icrs(image.wcs, *image.wcs.all_pix2world(pixels.T, 0).T)
    east = ((ra[n:] - ra[:n] + 180.0) % 360.0 - 180.0) * np.cos(np.radians(dec[:n]))
    north = dec[n:] - dec[:n]
    return ra[:n], dec[:n], np.degrees(np.arctan2(east, north)) % 180.0


def _pixel_area(image: Image, position: Position, parameters: MeasureParameters) -> np.ndarray:
    """Give what fluxes are multiplied by; 1 where nothing is to be corrected."""
    if not parameters.pixel_area or image.info.product not in ON_DETECTOR:
        return np.ones(len(position[0]))
    return pixel_area(image.wcs, *position, (image.info.ltv1, image.info.ltv2))


def _photometry(fluxes: Fluxes, zero_point: float | None) -> Sources:
    """Name fluxes, their magnitudes and the errors of both."""
    flux, flux_err = (np.array(values) for values in zip(*fluxes.values(), strict=True))
    every = (flux, flux_err, *magnitudes(flux, flux_err, zero_point))
    return {
        label.format(name): values[i]
        for i, name in enumerate(fluxes)
        for label, values in zip(_FLUX_COLUMNS, every, strict=True)
    }


def _apertures(
    info: ImageInfo, detection: Detection, position: Position, area: np.ndarray
) -> Fluxes:
    """Measure the two circles."""
    gain = poisson_gain(info)
    fluxes: Fluxes = {}
    for i, radius in enumerate(aperture_radii(info), start=1):
        flux, flux_err, _ = circle_fluxes(detection, *position, radius, gain)
        fluxes[f"aper_{i}"] = flux * area, flux_err * area
    return fluxes


def _concentration(fluxes: Fluxes, shares: tuple[float | None, ...]) -> Sources:
    """Compare what the two circles hold with each other, and that with a star's."""
    (small, small_err), (large, large_err) = fluxes["aper_1"], fluxes["aper_2"]
    concentration = np.full(len(small), np.nan)
    point_like = np.full(len(small), -1, dtype=np.int16)
    both = np.flatnonzero((small > 0) & (large > 0))
    small, small_err, large, large_err = (
        values.take(both) for values in (small, small_err, large, large_err)
    )
    measured = 2.5 * np.log10(large / small)
    concentration[both] = measured
    share_1, share_2 = shares
    if share_1 is not None and share_2 is not None:
        # The small circle lies in the large one: what they share cancels, the ring's noise remains.
        ring_err = np.sqrt(np.maximum(large_err**2 - small_err**2, 0.0))
        error = POGSON * np.hypot(small_err * (1 / small - 1 / large), ring_err / large)
        tolerance = np.maximum(POINT_LIKE_MAG, POINT_LIKE_SIGMA * error)
        point_like[both] = np.abs(measured - 2.5 * np.log10(share_2 / share_1)) <= tolerance
    return {"concentration": concentration, "point_like": point_like}


def _point_fluxes(
    info: ImageInfo, detection: Detection, windows: Windows, measured: tuple[np.ndarray, np.ndarray]
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Turn the flux of the larger circle into that of a point source at its centre.

    Returns
    -------
    (flux, flux_err), masked_share : numpy.ndarray
        float64, shape (n,).
    """
    flux, flux_err = measured
    _, share = aperture_shares(info)
    hidden, hidden_area = masked_shares(
        detection.mask,
        windows,
        aperture_radii(info)[-1],
        round((info.photplam or _USUAL_WAVELENGTH_AA) / 10, 1),
        pixel_size_arcsec(info),
    )
    # SEP has made up for the hidden area: that is undone, and the hidden light made up for.
    seen = np.where(hidden <= _LARGEST_MASKED_SHARE, 1.0 - hidden, np.nan)
    factor = (1.0 - hidden_area) / seen / (np.nan if share is None else share)
    flux, flux_err = flux * factor, flux_err * factor
    return (flux, np.hypot(flux_err, UNCERTAINTY * hidden * flux)), hidden


def _or_around(dq: np.ndarray | None, windows: Windows, radius: float) -> np.ndarray:
    """Or the data quality bits of the pixels whose centres lie within a radius.

    Returns
    -------
    numpy.ndarray
        int32, shape (n,).
    """
    if dq is None:
        return np.zeros(windows.index.shape[-1], dtype=np.int32)
    inside = (windows.distance2 <= radius**2) & ~windows.is_outside
    combined: np.ndarray = np.bitwise_or.reduce(windows.gather(dq) * inside, axis=(0, 1))
    return combined.astype(np.int32)


def _flags(objects: Any, kron: KronFluxes, dq: np.ndarray) -> np.ndarray:
    """Or SEP's flags of extraction and photometry with those of this catalogue."""
    flags: np.ndarray = objects["flag"] | kron.flags
    flags[kron.flux <= 0] |= _UPPER_LIMIT_FLAG
    flags[(dq & _SATURATED_BIT) != 0] |= _SATURATED_FLAG
    return flags
