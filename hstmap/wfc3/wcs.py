"""Where an image is on the sky: its WCS, centre, scale and footprint."""

from __future__ import annotations

import math
import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, Sip, WcsError

from hstmap.wfc3.cards import Cards, astropy_header
from hstmap.wfc3.header import Headers, one_line

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["build_wcs", "centre_and_scale", "footprint", "to_icrs"]

# The cards that make a celestial WCS with SIP distortion. The rest of a 200-card header - other
# solutions (CRVAL1A, ...), dates, calibration - changes nothing and costs most of the time. A
# number of axes (WCSAXES) follows from the cards, and would be believed where it is damaged.
_LINEAR_CARDS = (
    r"CRPIX[12]|CRVAL[12]|CTYPE[12]|CUNIT[12]|CDELT[12]|CROTA[12]|(CD|PC)[12]_[12]"
    r"|PV[12]_\d\d?|LONPOLE|LATPOLE|RADESYS|RADECSYS|EQUINOX|EPOCH|WCSNAME|NAXIS[12]"
)
_LINEAR = re.compile(rf"^({_LINEAR_CARDS})$")
_SIP_ORDERS = ("A_ORDER", "B_ORDER", "AP_ORDER", "BP_ORDER")
_MAX_SIP_ORDER = 9
# The detector's pixels are 0.13 arcsec, drizzled ones 0.03 to 0.13: what is far off is damaged.
_MIN_SCALE_ARCSEC, _MAX_SCALE_ARCSEC = 0.005, 5.0
_WITH_SIP = re.compile(rf"^({_LINEAR_CARDS}|[AB]P?_(ORDER|\d_\d))$")

# The cards of a WCS as the archive writes it, a CD matrix with or without SIP.
_USUAL = re.compile(
    r"^(WCSAXES|CRPIX[12]|CRVAL[12]|CTYPE[12]|CUNIT[12]|CD[12]_[12]|RADESYS|EQUINOX|WCSNAME"
    r"|NAXIS[12]?|[AB]P?_(ORDER|\d_\d))$"
)

_WCS_ERRORS = (
    WcsError,
    fits.VerifyError,
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    OverflowError,
)


def build_wcs(header: Any, nx: int, ny: int, notes: list[str]) -> Any:
    """Return the celestial WCS of a header.

    Parameters
    ----------
    header : Cards or astropy.io.fits.Header
        Header of the science HDU.
    nx, ny : int
        Size of the image in pixels.
    notes : list of str
        Gets a line if there is no usable WCS.

    Returns
    -------
    astropy.wcs.WCS or None
        Equal to ``WCS(header)``; None if the header has no celestial WCS, or one that does not
        give finite coordinates all over the image.
    """
    missing = _missing_cards(header)
    if missing:
        notes.append(f"no WCS ({', '.join(missing)} missing): sky coordinates are null")
        return None
    has_sip = all(str(header[keyword]).endswith("-SIP") for keyword in ("CTYPE1", "CTYPE2"))
    if not has_sip and "A_ORDER" in header:
        # astropy would use them; the convention (Shupe et al. 2005) has them only with -SIP.
        notes.append("SIP coefficients without -SIP in CTYPE: not used")
    pattern = _WITH_SIP if has_sip else _LINEAR
    try:
        wcs = _checked_wcs(_cards_of(header, pattern), has_sip, nx, ny)
    except _WCS_ERRORS as error:
        notes.append(f"the WCS cannot be used ({one_line(error)}): sky coordinates are null")
        return None
    if wcs.wcs.radesys not in ("", "ICRS") and not _is_fk5_j2000(wcs):
        notes.append(
            f"RADESYS is {wcs.wcs.radesys}, equinox {wcs.wcs.equinox:g}: taken as ICRS, "
            "sky coordinates are off"
        )
    return wcs


@cache
def _fk5_to_icrs() -> NDArray[np.float64]:
    """Make the rotation that takes vectors from the FK5 of J2000.0 to the ICRS.

    Hilton & Hohenkerk 2004, A&A 413, 765, and Kaplan 2005, USNO Circular 179, section 3.5:
    FK5 = R1(-eta0) R2(xi0) R3(da0) ICRS, with (eta0, xi0, da0) = (-19.9, 9.1, -22.9) mas.
    """
    angles = np.radians(np.array([19.9, 9.1, -22.9]) / 3.6e6)
    (sin_x, sin_y, sin_z), (cos_x, cos_y, cos_z) = np.sin(angles), np.cos(angles)
    about_x = np.array([[1, 0, 0], [0, cos_x, sin_x], [0, -sin_x, cos_x]])
    about_y = np.array([[cos_y, 0, -sin_y], [0, 1, 0], [sin_y, 0, cos_y]])
    about_z = np.array([[cos_z, sin_z, 0], [-sin_z, cos_z, 0], [0, 0, 1]])
    rotation: NDArray[np.float64] = (about_x @ about_y @ about_z).T
    return rotation


def _is_fk5_j2000(wcs: Any) -> bool:
    """Tell whether coordinates are FK5, J2000.0: an EQUINOX of 2000 alone says so, too."""
    return bool(wcs.wcs.radesys == "FK5" and wcs.wcs.equinox == 2000.0)


def to_icrs(
    wcs: Any, ra: ArrayLike, dec: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bring coordinates of an image to the ICRS.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        From `build_wcs`.
    ra, dec : array_like of float, any one shape
        What it gives for some pixels, deg.

    Returns
    -------
    ra, dec : ndarray of float64, shape of `ra`
        deg. Rotated where the image's are FK5, J2000.0, which moves them by up to 0.03 arcsec;
        as they are where they are ICRS, or of a system that `build_wcs` has noted.
    """
    ra, dec = np.asarray(ra, dtype=np.float64), np.asarray(dec, dtype=np.float64)
    if not _is_fk5_j2000(wcs):
        return ra, dec
    longitude, latitude = np.radians(ra), np.radians(dec)
    x, y, z = np.tensordot(
        _fk5_to_icrs(),
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
        ],
        axes=1,
    )
    # Twice the remainder, because that of a tiny negative angle is 360 itself; and no arcsine of
    # z, which loses digits at the poles.
    return np.degrees(np.arctan2(y, x)) % 360.0 % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))


def _checked_wcs(header: Any, has_sip: bool, nx: int, ny: int) -> Any:
    """Make a WCS, and raise a ValueError if it does not lead to the sky."""
    headers = Headers(header, header)
    for keyword in _SIP_ORDERS:
        # astropy makes as many coefficients as a damaged order says, and runs out of memory at -1.
        if not 0 <= (headers.number(keyword) or 0) <= _MAX_SIP_ORDER:
            raise ValueError(f"{keyword} is not between 0 and {_MAX_SIP_ORDER}")
    wcs = _usual_wcs(header, has_sip) if _is_usual(header) else WCS(astropy_header(header))
    if wcs.naxis != 2 or wcs.wcs.lng < 0 or wcs.wcs.lat < 0:
        raise ValueError("it has no celestial axes")
    # One call for all of them, and so everywhere here: a call costs more than its positions.
    middle = _middle_pixel(nx, ny)
    corners = np.array([[-0.5, -0.5], [nx - 0.5, -0.5], [-0.5, ny - 0.5], [nx - 0.5, ny - 0.5]])
    sky = wcs.all_pix2world(np.concatenate([middle, corners]), 0)
    if not np.isfinite(sky[len(middle) :]).all():
        raise ValueError("it gives no coordinates")
    scale = _scale_arcsec(sky)
    if not _MIN_SCALE_ARCSEC < scale < _MAX_SCALE_ARCSEC:
        raise ValueError(f"its pixels are {scale:g} arcsec")
    return wcs


def _cards_of(header: Any, pattern: re.Pattern[str]) -> Any:
    """Pick the cards whose keywords match."""
    if isinstance(header, Cards):
        return header.select(_matching(pattern, tuple(header)))
    return fits.Header([card for card in header.cards if pattern.match(card.keyword)])


@lru_cache(maxsize=64)
def _matching(pattern: re.Pattern[str], keywords: tuple[str, ...]) -> tuple[str, ...]:
    """Pick the keywords that match; headers of one kind have the same ones."""
    return tuple(keyword for keyword in keywords if pattern.match(keyword))


def _is_usual(header: Any) -> bool:
    """Tell whether a WCS has no cards but those of the archive's own images."""
    keywords = tuple(header)
    plain = len(_matching(_USUAL, keywords)) == len(keywords)
    axes = [header["CTYPE1"][:8], header["CTYPE2"][:8]]
    units = {header.get("CUNIT1", "deg"), header.get("CUNIT2", "deg")}
    return plain and axes == ["RA---TAN", "DEC--TAN"] and units == {"deg"}


def _usual_wcs(header: Any, has_sip: bool) -> Any:
    """Make a WCS from its numbers: thirty times as fast as having wcslib parse a header."""
    wcs = WCS(naxis=2)
    wcs.wcs.crpix = [header["CRPIX1"], header["CRPIX2"]]
    wcs.wcs.crval = [header["CRVAL1"], header["CRVAL2"]]
    wcs.wcs.cd = [[header.get(f"CD{i}_{j}", 0.0) for j in (1, 2)] for i in (1, 2)]
    wcs.wcs.ctype = [header["CTYPE1"], header["CTYPE2"]]
    for attribute, keyword in (("radesys", "RADESYS"), ("equinox", "EQUINOX"), ("name", "WCSNAME")):
        if keyword in header:
            setattr(wcs.wcs, attribute, header[keyword])
    if has_sip:
        polynomials = [_polynomial(header, letter) for letter in ("A", "B", "AP", "BP")]
        wcs.sip = Sip(*polynomials, wcs.wcs.crpix)
    wcs.wcs.set()
    return wcs


def _polynomial(header: Any, letter: str) -> NDArray[np.float64] | None:
    """Collect a distortion polynomial: ``[p, q]`` is the coefficient of u^p v^q."""
    order = header.get(f"{letter}_ORDER")
    if order is None:
        return None
    coefficients = np.zeros((order + 1, order + 1))
    for p, q, keyword in _coefficient_cards(letter, order):
        coefficients[p, q] = header.get(keyword, 0.0)
    return coefficients


@cache
def _coefficient_cards(letter: str, order: int) -> tuple[tuple[int, int, str], ...]:
    """List the powers of u and v in a polynomial and the cards of their coefficients."""
    powers = range(order + 1)
    return tuple((p, q, f"{letter}_{p}_{q}") for p in powers for q in powers[: order + 1 - p])


def _missing_cards(header: Any) -> list[str]:
    """Return the cards without which wcslib would silently put a default in."""
    headers = Headers(header, header)
    scale = ("CDELT1", "CDELT2") if "CDELT1" in header else ("CD1_1", "CD2_2")
    numbers = ("CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2", *scale)
    missing = [
        keyword for keyword in ("CTYPE1", "CTYPE2") if not isinstance(headers.value(keyword), str)
    ]
    missing += [keyword for keyword in numbers if headers.number(keyword) is None]
    return missing


def centre_and_scale(wcs: Any, nx: int, ny: int) -> tuple[float, float, float]:
    """Tell of the pixel in the middle of an image.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        Of the image.
    nx, ny : int
        Its size in pixels.

    Returns
    -------
    ra, dec : float
        Of its centre, deg, ICRS.
    scale : float
        The square root of its area on the sky, arcsec.
    """
    sky = wcs.all_pix2world(_middle_pixel(nx, ny), 0)
    ra, dec = to_icrs(wcs, *sky[4])
    return float(ra), float(dec), _scale_arcsec(sky)


def _middle_pixel(nx: int, ny: int) -> NDArray[np.float64]:
    """Return x and y of the middles of the edges of an image's middle pixel, and of its centre."""
    x, y = (nx - 1) / 2, (ny - 1) / 2
    return np.array([[x - 0.5, y], [x + 0.5, y], [x, y - 0.5], [x, y + 0.5], [x, y]])


def _scale_arcsec(sky: NDArray[np.float64]) -> float:
    """Return a pixel's side from where its `_middle_pixel` is on the sky, deg."""
    (ra_0, ra_1, ra_2, ra_3), dec = sky[:4, 0].tolist(), sky[:4, 1].tolist()
    cos_dec = math.cos(math.radians(float(sky[:4, 1].mean())))
    dx = ((ra_1 - ra_0 + 180) % 360 - 180) * cos_dec, dec[1] - dec[0]
    dy = ((ra_3 - ra_2 + 180) % 360 - 180) * cos_dec, dec[3] - dec[2]
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
        the first one again at the end; counter-clockwise as one looks up at the sky (north up,
        east left), as IVOA's DALI 1.1, section 3.3.7, has polygons.
    """
    x = np.array([-0.5, nx - 0.5, nx - 0.5, -0.5, -0.5])
    y = np.array([-0.5, -0.5, ny - 0.5, ny - 0.5, -0.5])
    corners = np.column_stack(to_icrs(wcs, *wcs.all_pix2world(x, y, 0)))
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = map(_direction, corners[:3].tolist())
    # The triple product of three corners. Positive: counter-clockwise as seen from outside the
    # sphere, which is the other way round.
    turn = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
    return np.ascontiguousarray(corners[::-1] if turn > 0 else corners)


def _direction(position: list[float]) -> tuple[float, float, float]:
    """Return the unit vector to right ascension and declination, deg."""
    ra, dec = map(math.radians, position)
    return math.cos(dec) * math.cos(ra), math.cos(dec) * math.sin(ra), math.sin(dec)
