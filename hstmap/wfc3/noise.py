"""The noise of an image as its photometry meets it: apertures laid where nothing is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from hstmap.wfc3.photometry import aperture_radii, circle_fluxes

if TYPE_CHECKING:
    from hstmap.wfc3.detect import Detection
    from hstmap.wfc3.image import ImageInfo

__all__ = ["EmptyApertures", "measure_empty_apertures", "median", "on_objects"]

_N_APERTURES: Final = 1000
#: Fewer that are left over do not tell a scatter.
_FEWEST: Final = 30
#: Of a Gaussian, standard deviation over median absolute deviation.
_SIGMA_PER_MAD: Final = 1.4826
_ALL_MASKED: Final = 64
#: Steps of the R2 sequence (Roberts 2018, extremelearning.com.au), which fills a square evenly
#: with any number of points: powers of the inverse of the plastic number.
_R2_STEPS: Final = (0.7548776662466927, 0.5698402909980532)


@dataclass(frozen=True)
class EmptyApertures:
    """What apertures without a source say.

    Attributes
    ----------
    sigma : float or None
        Their scatter, electron/s; None if too few were left.
    depth_5sigma : float or None
        AB magnitude of five times that; None without a zero point.
    noise_ratio : float or None
        The scatter over what the errors of single pixels make of it. Above 1 where the noise of
        neighbouring pixels is correlated, as in drizzled images: errors of fluxes are that much
        too small there.
    """

    sigma: float | None = None
    depth_5sigma: float | None = None
    noise_ratio: float | None = None


def measure_empty_apertures(info: ImageInfo, detection: Detection) -> EmptyApertures:
    """Sum apertures of 0.45 arcsec where no source was found.

    Parameters
    ----------
    info : ImageInfo
        For scale and zero point.
    detection : Detection
        With its objects.

    Returns
    -------
    EmptyApertures
        All None if the image has too little empty sky.
    """
    radius = aperture_radii(info)[-1]
    x, y = _empty_places(detection, radius)
    if len(x) < _FEWEST:
        return EmptyApertures()
    flux, flux_err, flags = circle_fluxes(detection, x, y, radius)
    used = (flags & _ALL_MASKED) == 0
    if used.sum() < _FEWEST:
        return EmptyApertures()
    flux, flux_err = flux[used], flux_err[used]
    sigma = _SIGMA_PER_MAD * median(np.abs(flux - median(flux)))
    expected = median(flux_err)
    if not sigma > 0:
        return EmptyApertures()
    zero_point = info.zero_point_ab
    return EmptyApertures(
        sigma=sigma,
        depth_5sigma=None if zero_point is None else float(zero_point - 2.5 * np.log10(5 * sigma)),
        noise_ratio=sigma / expected if expected > 0 else None,
    )


def median(values: np.ndarray) -> float:
    """Give the median of some values: that of `numpy.median` at half of its time.

    Parameters
    ----------
    values : numpy.ndarray
        Finite floats, shape (n,), at least one.

    Returns
    -------
    float
    """
    ordered = np.sort(values)
    n = len(ordered)
    return float((ordered[(n - 1) // 2] + ordered[n // 2]) / 2)


@cache
def _even_places() -> np.ndarray:
    """Spread places evenly over a square of side 1.

    Returns
    -------
    numpy.ndarray
        x and y, shape (2, n), by ascending y.
    """
    places = np.outer(_R2_STEPS, np.arange(1, _N_APERTURES + 1)) % 1.0
    return places[:, np.argsort(places[1])]


def _empty_places(detection: Detection, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Spread places over an image and keep those whose middle lies on no source and no mask.

    Returns
    -------
    x, y : numpy.ndarray
        Pixels from 0, of one shape (n,), by ascending y.
    """
    ny, nx = detection.data.shape
    if min(nx, ny) <= 2 * radius + 1:
        return np.empty(0), np.empty(0)
    x, y = _even_places()
    x, y = radius + x * (nx - 1 - 2 * radius), radius + y * (ny - 1 - 2 * radius)
    column, row = np.rint(x).astype(np.intp), np.rint(y).astype(np.intp)
    occupied = detection.mask[row, column]
    occupied |= on_objects(detection.objects, column, row, int(np.ceil(radius)))
    return x[~occupied], y[~occupied]


def on_objects(objects: np.ndarray, column: np.ndarray, row: np.ndarray, reach: int) -> np.ndarray:
    """Tell which pixels lie within the boxes of objects, or not further than `reach` beside.

    Parameters
    ----------
    objects : numpy.ndarray
        SEP's: ``xmin``, ``xmax``, ``ymin`` and ``ymax`` are looked at.
    column, row : numpy.ndarray
        The pixels, integers of shape (n,), by ascending row.
    reach : int
        Pixels.

    Returns
    -------
    numpy.ndarray
        bool, shape (n,).
    """
    # In the order of rows, those of a box are one stretch: what is left to compare are columns.
    start, stop = np.searchsorted(row, [objects["ymin"] - reach, objects["ymax"] + (reach + 1)])
    n_each = stop - start
    box = np.repeat(np.arange(len(objects)), n_each)
    pixel = np.arange(len(box)) + (stop - np.cumsum(n_each))[box]
    columns = column[pixel]
    within = columns >= (objects["xmin"] - reach)[box]
    within &= columns <= (objects["xmax"] + reach)[box]
    on_objects = np.zeros(len(column), dtype=np.bool_)
    on_objects[pixel[within]] = True
    return on_objects
