"""Where an image is on the sky: its WCS, centre, scale and footprint."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["build_wcs", "footprint", "frame_centre", "pixel_scale_arcsec"]

# The cards that make a celestial WCS with SIP distortion. The rest of a 200-card header - other
# solutions (CRVAL1A, ...), dates, calibration - changes nothing and costs most of the time.
_WCS_CARD = re.compile(
    r"^(WCSAXES|CRPIX[12]|CRVAL[12]|CTYPE[12]|CUNIT[12]|CDELT[12]|CROTA[12]|CD[12]_[12]"
    r"|PC[12]_[12]|PV[12]_\d+|LONPOLE|LATPOLE|RADESYS|RADECSYS|EQUINOX|EPOCH|WCSNAME"
    r"|(A|B|AP|BP)_(ORDER|\d_\d)|NAXIS[12]?)$"
)


def build_wcs(header: Any, notes: list[str]) -> Any:
    """Return the celestial WCS of a header.

    Parameters
    ----------
    header : astropy.io.fits.Header
        Header of the science HDU.
    notes : list of str
        Gets a line if there is no usable WCS.

    Returns
    -------
    astropy.wcs.WCS or None
        Equal to ``WCS(header)``; None if the header has no celestial WCS or one that does not
        give finite coordinates.
    """
    from astropy.io import fits
    from astropy.wcs import WCS

    cards = [card for card in header.cards if _WCS_CARD.match(card.keyword)]
    try:
        wcs = WCS(fits.Header(cards), fix=False)
        usable = wcs.has_celestial and wcs.naxis == 2
        if usable:
            centre = wcs.all_pix2world([[0.0, 0.0], [1.0, 1.0]], 0)
            usable = bool(np.isfinite(centre).all()) and not np.array_equal(*centre)
    except Exception as error:  # noqa: BLE001
        notes.append(f"WCS cannot be used ({error}): sky coordinates are null")
        return None
    if not usable:
        notes.append("no celestial WCS: sky coordinates are null")
        return None
    return wcs


def frame_centre(wcs: Any, nx: int, ny: int) -> tuple[float, float]:
    """Return right ascension and declination (deg, ICRS) of the middle of an image."""
    ra, dec = wcs.all_pix2world((nx - 1) / 2, (ny - 1) / 2, 0)
    return float(ra), float(dec)


def pixel_scale_arcsec(wcs: Any, nx: int, ny: int) -> float:
    """Return the square root of the area on the sky of the pixel in the middle (arcsec)."""
    x, y = (nx - 1) / 2, (ny - 1) / 2
    ra, dec = wcs.all_pix2world([x - 0.5, x + 0.5, x, x], [y, y, y - 0.5, y + 0.5], 0)
    cos_dec = math.cos(math.radians(float(dec.mean())))
    dx = ((ra[1] - ra[0] + 180) % 360 - 180) * cos_dec, dec[1] - dec[0]
    dy = ((ra[3] - ra[2] + 180) % 360 - 180) * cos_dec, dec[3] - dec[2]
    return math.sqrt(abs(dx[0] * dy[1] - dx[1] * dy[0])) * 3600


def footprint(wcs: Any, nx: int, ny: int) -> NDArray[np.float64]:
    """Return the outline of an image on the sky.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        Of the image.
    nx, ny : int
        Its size in pixels.

    Returns
    -------
    ndarray of float64, shape (5, 2)
        Right ascension and declination (deg, ICRS) of the outer corners of the corner pixels,
        the first one again at the end, counter-clockwise as seen from inside the sphere (north
        up, east left), which is what IVOA's STC-S and MOC take for the inside.
    """
    x = np.array([-0.5, nx - 0.5, nx - 0.5, -0.5, -0.5])
    y = np.array([-0.5, -0.5, ny - 0.5, ny - 0.5, -0.5])
    corners = np.column_stack(wcs.all_pix2world(x, y, 0))
    ra = np.unwrap(corners[:, 0], period=360)
    signed_area = np.sum(ra[:-1] * corners[1:, 1] - ra[1:] * corners[:-1, 1])
    return np.ascontiguousarray(corners[::-1] if signed_area < 0 else corners)
