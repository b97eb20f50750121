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
        return np.ones(np.broadcast(x, y).shape)
    u, v = np.broadcast_arrays(x + 1 - sip.crpix[0], y + 1 - sip.crpix[1])
    u_ref, v_ref = _reference(sip, ltv)
    # The reference pixel comes along: it is cheaper than an evaluation of its own.
    area = _jacobian(polyval2d(np.append(u, u_ref), np.append(v, v_ref), _derivatives(sip)))
    relative: NDArray[np.float64] = (area[:-1] / area[-1]).reshape(u.shape)
    return relative


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
    area = _jacobian(polygrid2d(v, u, _derivatives(sip).swapaxes(0, 1)))
    area /= _jacobian(polyval2d(*_reference(sip, ltv), _derivatives(sip)))
    return area.astype(np.float32)


def _sip_of(wcs: Any) -> Any:
    """Return the distortion polynomials of a WCS, or None if it has none."""
    sip = None if wcs is None else wcs.sip
    return None if sip is None or sip.a is None or sip.b is None else sip


def _reference(sip: Any, ltv: tuple[float, float]) -> tuple[float, float]:
    """Return u and v of the pixel whose area is 1."""
    # Position in the image = position on the detector + LTV.
    return (
        REFERENCE_PIXEL[0] + ltv[0] - sip.crpix[0],
        REFERENCE_PIXEL[1] + ltv[1] - sip.crpix[1],
    )


def _derivatives(sip: Any) -> NDArray[np.float64]:
    """Return df/du, df/dv, dg/du, dg/dv, so that one evaluation gives all four.

    Returns
    -------
    ndarray of float64, shape (m, m, 4)
        Coefficients of u^p v^q, read-only; m is the order of f and g, whose slopes are of a lower
        one.
    """
    # The images of a batch are of one detector, whose distortion is the same for many of them.
    return _derivatives_of(*(tuple(map(tuple, values.tolist())) for values in (sip.a, sip.b)))


@lru_cache(maxsize=16)
def _derivatives_of(*polynomials: tuple[tuple[float, ...], ...]) -> NDArray[np.float64]:
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
    return derivatives


def _jacobian(slopes: Any) -> NDArray[np.float64]:
    """Return the determinant of the distortion, given df/du, df/dv, dg/du and dg/dv."""
    df_du, df_dv, dg_du, dg_dv = slopes
    area: NDArray[np.float64] = (1 + df_du) * (1 + dg_dv) - df_dv * dg_du
    return area
