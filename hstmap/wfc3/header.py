"""What a WFC3/IR header says: values, names, photometry.

Headers of the archive are not all well: cards are missing, hold text where a number belongs, or
cannot be parsed. The readers here return None for a value that is not there and for one that is
not what it should be, and never raise.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from astropy.io.fits import VerifyError
from astropy.io.fits.card import Undefined

from hstmap.errors import RejectedImageError

if TYPE_CHECKING:
    from warnings import WarningMessage

__all__ = [
    "USED_CARDS",
    "Headers",
    "count_rate_divisor",
    "one_line",
    "product_of_name",
    "rootname_of",
    "warning_lines",
    "zero_point_ab",
]

# A product of the archive: nine characters of rootname, then the product's suffix.
_ARCHIVE_NAME = re.compile(r"^([a-z][a-z0-9]{8})_")
_PRODUCT = re.compile(r"_(flt|drz|ima)\.fits(\.gz)?$")
_SUFFIX = re.compile(r"\.(fits|fit|fts)(\.gz)?$", re.IGNORECASE)

# Two zero points of one header that differ by more are worth a note.
_ZERO_POINT_TOLERANCE_MAG = 0.01


# The cards that reading an image needs, of the 400 that its headers have: parsing the others is
# most of the time that headers take. The first line is what FITS needs, the second the WCS.
USED_CARDS = re.compile(
    r"(SIMPLE|XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|GROUPS|EXTNAME|EXTVER|ZIMAGE|BSCALE|BZERO|BLANK"
    r"|NPIX[12]|PIXVALUE"
    r"|WCSAXES|WCSNAME|RADESYS|RADECSYS|EQUINOX|EPOCH|LONPOLE|LATPOLE|LTV[12]|ORIENTAT"
    r"|(CRPIX|CRVAL|CTYPE|CUNIT|CDELT|CROTA)[12]|(CD|PC)[12]_[12]|PV[12]_\d+"
    r"|[AB]P?_(ORDER|\d_\d)"
    r"|TELESCOP|INSTRUME|DETECTOR|FILETYPE|FILENAME|ROOTNAME|FILTER|APERTURE|SUBARRAY|SAMP_SEQ"
    r"|OBSTYPE|IMAGETYP|TARGNAME|SCAN_TYP|MTFLAG|EXPFLAG|FGSLOCK|PROPOSID|RA_TARG|DEC_TARG"
    r"|EXPTIME|EXPSTART|EXPEND|BUNIT|UNITCORR|CAL_VER|PHOTFLAM|PHOTPLAM|PHOTFNU)$"
)


@functools.cache
def _is_used(keyword: str) -> bool:
    return USED_CARDS.match(keyword) is not None


class Headers:
    """Look-ups in the primary header, then in the science extension's.

    Parameters
    ----------
    primary : Cards or astropy.io.fits.Header
        Header of the primary HDU.
    science : Cards or astropy.io.fits.Header
        Header of the HDU with the image; may be the primary's own.
    """

    def __init__(self, primary: Any, science: Any) -> None:
        self.primary = primary
        self.science = science

    def value(self, keyword: str) -> Any:
        """Return the value of a card, or None where it is missing, empty or cannot be parsed.

        Raises
        ------
        KeyError
            If the card is not among `USED_CARDS`, and so may not have been parsed.
        """
        if not _is_used(keyword):
            raise KeyError(f"{keyword} is read and is not among USED_CARDS: add it there")
        for header in (self.primary, self.science):
            if keyword not in header:
                continue
            try:
                value = header[keyword]
            except (KeyError, ValueError, VerifyError):
                continue
            if isinstance(value, str):
                value = value.strip()
            if value != "" and not isinstance(value, Undefined):
                return value
        return None

    def text(self, keyword: str) -> str:
        """Return a card as text without blanks around it; empty where there is none."""
        value = self.value(keyword)
        return "" if value is None else str(value)

    def number(self, keyword: str) -> float | None:
        """Return a card as a finite float, or None."""
        value = self.value(keyword)
        if value is None or isinstance(value, bool):
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            return None
        return number if math.isfinite(number) else None

    def integer(self, keyword: str) -> int | None:
        """Return a card as an int, or None."""
        number = self.number(keyword)
        return None if number is None else int(number)

    def is_true(self, keyword: str) -> bool:
        """Whether a card is a logical T, or a text that says so."""
        value = self.value(keyword)
        return value is True or (isinstance(value, str) and value.upper() in ("T", "TRUE"))


def product_of_name(name: str) -> str:
    """Return the product that a file name ends in, such as ``"flt"``; empty if none is known."""
    match = _PRODUCT.search(name.rpartition("/")[2].lower())
    return match.group(1) if match else ""


def rootname_of(name: str, header_rootname: str, notes: list[str]) -> str:
    """Return the name by which an image is known.

    Parameters
    ----------
    name : str
        Key or path of the file.
    header_rootname : str
        What ROOTNAME says; may be empty.
    notes : list of str
        Gets a line if the two disagree.

    Returns
    -------
    str
        The nine characters that the archive's file names begin with, lower case; else the
        header's nine characters; else the file's name without its ending.
    """
    file_name = name.rpartition("/")[2]
    match = _ARCHIVE_NAME.match(file_name.lower())
    in_header = header_rootname.lower()
    if match:
        rootname = match.group(1)
        if in_header and in_header != rootname:
            notes.append(f"ROOTNAME says {in_header!r}; the file's name, {rootname!r}, is taken")
        return rootname
    if re.fullmatch(r"[a-z][a-z0-9]{8}", in_header):
        notes.append(f"the file is named {file_name!r}; ROOTNAME, {in_header!r}, is taken")
        return in_header
    return _SUFFIX.sub("", file_name)


def zero_point_ab(headers: Headers, notes: list[str]) -> float | None:
    """Return the AB magnitude of one electron per second.

    ``-2.5 log10(PHOTFLAM) - 5 log10(PHOTPLAM) - 2.408`` (WFC3 Data Handbook, section 9.1), or,
    without these, ``8.90 - 2.5 log10(PHOTFNU)`` with PHOTFNU in Jy s / electron.

    Parameters
    ----------
    headers : Headers
        Where the keywords are looked up.
    notes : list of str
        Gets a line if there is no zero point, or if the two ways disagree by more than 0.01 mag.

    Returns
    -------
    float or None
        Zero point in mag; None if the header has no usable photometry keywords.
    """
    photflam, photplam, photfnu = (
        headers.number(keyword) for keyword in ("PHOTFLAM", "PHOTPLAM", "PHOTFNU")
    )
    from_flam = from_fnu = None
    if photflam and photplam and photflam > 0 and photplam > 0:
        from_flam = -2.5 * math.log10(photflam) - 5 * math.log10(photplam) - 2.408
    if photfnu and photfnu > 0:
        from_fnu = 8.90 - 2.5 * math.log10(photfnu)
    if from_flam is None:
        if from_fnu is None:
            notes.append("no PHOTFLAM and PHOTPLAM, no PHOTFNU: magnitudes are null")
        return from_fnu
    if from_fnu is not None and abs(from_flam - from_fnu) > _ZERO_POINT_TOLERANCE_MAG:
        notes.append(
            f"zero point {from_flam:.3f} from PHOTFLAM, {from_fnu:.3f} from PHOTFNU: the first"
            " is taken"
        )
    return from_flam


def count_rate_divisor(headers: Headers, notes: list[str]) -> float:
    """Return what the pixels are to be divided by to be electrons per second.

    Parameters
    ----------
    headers : Headers
        BUNIT, UNITCORR and EXPTIME are looked up.
    notes : list of str
        Gets a line if the unit had to be assumed or changed.

    Raises
    ------
    RejectedImageError
        If the unit is one that cannot be converted (reason ``"bunit"``).
    """
    # BUNIT belongs to the image: a primary header's would speak of nothing.
    bunit = Headers(headers.science, headers.primary).text("BUNIT")
    unit = re.sub(r"\s+", "", bunit).upper().replace("ELECTRONS", "ELECTRON")
    if unit in ("ELECTRON/S", "ELECTRON/SEC", "E-/S", "ELECTRONS-1", "ELECTRON*S**-1"):
        return 1.0
    if unit == "":
        notes.append("no BUNIT: taken as ELECTRONS/S")
        return 1.0
    exposure_s = headers.number("EXPTIME")
    if unit in ("ELECTRON", "E-") and exposure_s is not None and exposure_s > 0:
        notes.append(f"BUNIT is {bunit}: divided by EXPTIME, {exposure_s:g} s")
        return exposure_s
    raise RejectedImageError(
        "bunit",
        f"BUNIT is {bunit!r} and UNITCORR is {headers.text('UNITCORR')!r}; expected ELECTRONS/S:"
        " give calibrated images, not raw ones",
    )


def one_line(error: BaseException | str) -> str:
    """Return the first line of what an error or a warning says."""
    return str(error).strip().split("\n")[0].strip() or type(error).__name__


def warning_lines(warnings: Sequence[WarningMessage]) -> list[str]:
    """Return the first lines of recorded warnings, each once, in order."""
    return list(dict.fromkeys(one_line(warning.message) for warning in warnings))
