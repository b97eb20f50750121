"""The area of WFC3/IR pixels on the sky, relative to a pixel near the middle of the detector.

The optics map the detector's square pixels onto areas of the sky that differ by 8 to 9 % over the
field. calwf3's flat fields make the *sky* even, so each pixel's counts are per pixel as if all
had one area: a star's flux in an FLT depends on where on the detector it fell. Multiplied by the
area at its position it does not, and equals the flux in a drizzled image.

The area is the Jacobian of the distortion polynomial (SIP) in the image's own WCS,

    area = (1 + df/du) (1 + dg/dv) - (df/dv) (dg/du),

with the pixel's offsets u, v from CRPIX and the polynomials f (A_p_q) and g (B_p_q) of Shupe et
al. 2005, ASP Conf. 347, 491, divided by its value at the reference pixel. The linear part of the
WCS cancels. The projection changes the area by less than 4e-7 over the field and is left out.

The WFC3 team's pixel area map (``ir_wfc3_map.fits``) is normalised to 1 at pixel (557, 557) of
the 1014 x 1014 image, counted from 1, so that fluxes go with the published zero points:
http://www.stsci.edu/hst/wfc3/pam/pixel_area_maps and Kalirai et al. 2010, ISR WFC3 2010-08.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.polynomial.polynomial import polygrid2d, polyval2d

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["REFERENCE_PIXEL", "pixel_area", "pixel_area_map"]

REFERENCE_PIXEL = (557.0, 557.0)
"""Where the area is 1: x and y in the full 1014 x 1014 image, counted from 1."""


def pixel_area(
    wcs: Any, x: ArrayLike, y: ArrayLike, ltv: tuple[float, float] = (0.0, 0.0)
) -> NDArray[np.float64]:
    """Return the relative area of the pixels at some positions.

    Parameters
    ----------
    wcs : astropy.wcs.WCS or None
        Of the image.
    x, y : array_like of float, any one shape
        Positions in the image, counted from 0.
    ltv : tuple of float
        LTV1 and LTV2 of the image's header: where a subarray lies on the detector.

    Returns
    -------
    ndarray of float64, shape of `x`
        What a point source's flux in an FLT is to be multiplied by. 1 everywhere without a WCS,
        or with one that has no distortion, as drizzled images have.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    sip = _sip_of(wcs)
    if sip is None:
        return np.ones(x.shape)
    derivatives, reference_area = _distortion(sip, ltv)
    u, v = x + 1 - sip.crpix[0], y + 1 - sip.crpix[1]
    return _jacobian(polyval2d(u, v, derivatives)) / reference_area


def pixel_area_map(
    wcs: Any, shape: tuple[int, int], ltv: tuple[float, float] = (0.0, 0.0)
) -> NDArray[np.float32]:
    """Return the relative area of every pixel of an image.

    Parameters
    ----------
    wcs, ltv
        As for `pixel_area`.
    shape : tuple of int
        Of the image: (ny, nx).

    Returns
    -------
    ndarray of float32, shape (ny, nx)
        What an FLT is to be multiplied by before point sources are measured on it.
    """
    sip = _sip_of(wcs)
    if sip is None:
        return np.ones(shape, dtype=np.float32)
    u, v = np.arange(shape[1]) + 1 - sip.crpix[0], np.arange(shape[0]) + 1 - sip.crpix[1]
    derivatives, reference_area = _distortion(sip, ltv)
    area = _jacobian(polygrid2d(v, u, derivatives.swapaxes(0, 1)))
    return (area / reference_area).astype(np.float32)


def _sip_of(wcs: Any) -> Any:
    """Return the distortion polynomials of a WCS, or None if it has none."""
    sip = None if wcs is None else wcs.sip
    return None if sip is None or sip.a is None or sip.b is None else sip


def _distortion(sip: Any, ltv: tuple[float, float]) -> tuple[NDArray[np.float64], float]:
    """Return the slopes of the distortion, and the area of the pixel that others are relative to.

    Returns
    -------
    derivatives : ndarray of float64, shape (m, m, 4)
        Coefficients of u^p v^q of df/du, df/dv, dg/du and dg/dv, so that one evaluation gives all
        four; read-only. m is the order of f and g, whose slopes are of a lower one.
    reference_area : float
    """
    # Position in the image = position on the detector + LTV.
    u, v = (float(REFERENCE_PIXEL[i] + ltv[i] - sip.crpix[i]) for i in (0, 1))
    polynomials = (tuple(map(tuple, values.tolist())) for values in (sip.a, sip.b))
    return _distortion_of(u, v, *polynomials)


# The images of a batch are of one detector, whose distortion is the same for many of them.
@lru_cache(maxsize=16)
def _distortion_of(
    u: float, v: float, *polynomials: tuple[tuple[float, ...], ...]
) -> tuple[NDArray[np.float64], float]:
    """Derive polynomials whose coefficients are given by the powers of u, and of v."""
    order = max(map(len, polynomials))
    derivatives = np.zeros((order, order, 4))
    for i, coefficients in enumerate(polynomials):
        polynomial = np.array(coefficients)
        power, n = np.arange(1, len(polynomial)), len(polynomial)
        derivatives[: n - 1, :n, 2 * i] = polynomial[1:] * power[:, np.newaxis]
        derivatives[:n, : n - 1, 2 * i + 1] = polynomial[:, 1:] * power
    # Of what is no polynomial of its order, u^order v is left, say.
    if order > 1 and not (derivatives[-1].any() or derivatives[:, -1].any()):
        derivatives = derivatives[:-1, :-1]
    derivatives.flags.writeable = False
    return derivatives, float(_jacobian(polyval2d(u, v, derivatives)))


def _jacobian(slopes: Any) -> NDArray[np.float64]:
    """Return the determinant of the distortion, given df/du, df/dv, dg/du and dg/dv."""
    df_du, df_dv, dg_du, dg_dv = slopes
    area: NDArray[np.float64] = (1 + df_du) * (1 + dg_dv) - df_dv * dg_du
    return area
