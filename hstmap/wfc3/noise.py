"""The noise of an image as its photometry meets it: apertures laid where nothing is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from hstmap.wfc3.photometry import aperture_radii, circle_fluxes

if TYPE_CHECKING:
    from hstmap.wfc3.detect import Detection
    from hstmap.wfc3.image import ImageInfo

__all__ = ["EmptyApertures", "measure_empty_apertures"]

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
    sigma = float(_SIGMA_PER_MAD * np.median(np.abs(flux - np.median(flux))))
    expected = float(np.median(flux_err))
    if not sigma > 0:
        return EmptyApertures()
    zero_point = info.zero_point_ab
    return EmptyApertures(
        sigma=sigma,
        depth_5sigma=None if zero_point is None else float(zero_point - 2.5 * np.log10(5 * sigma)),
        noise_ratio=sigma / expected if expected > 0 else None,
    )


def _empty_places(detection: Detection, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Spread places over an image and keep those whose middle lies on no source and no mask.

    Returns
    -------
    x, y : numpy.ndarray
        Pixels from 0, of one shape (n,).
    """
    ny, nx = detection.data.shape
    occupied = detection.mask.copy()
    objects, reach = detection.objects, int(np.ceil(radius))
    for y0, y1, x0, x1 in zip(
        np.maximum(objects["ymin"] - reach, 0),
        objects["ymax"] + reach + 1,
        np.maximum(objects["xmin"] - reach, 0),
        objects["xmax"] + reach + 1,
        strict=True,
    ):
        occupied[y0:y1, x0:x1] = True
    i = np.arange(1, _N_APERTURES + 1)
    x, y = (
        radius + (step * i % 1.0) * (side - 1 - 2 * radius)
        for step, side in zip(_R2_STEPS, (nx, ny), strict=True)
    )
    if min(nx, ny) <= 2 * radius + 1:
        return x[:0], y[:0]
    empty = ~occupied[np.rint(y).astype(np.intp), np.rint(x).astype(np.intp)]
    return x[empty], y[empty]
