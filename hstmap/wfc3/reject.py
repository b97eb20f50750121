"""Why an image is not one that source extraction is for.

Each check raises `RejectedImageError` with a short reason, by which outcomes are counted, and
one line that says what was found. The headers are checked before any pixel is read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hstmap.errors import RejectedImageError

if TYPE_CHECKING:
    from hstmap.wfc3.header import Headers

__all__ = ["REASONS", "check_filter", "check_headers", "check_shape"]

REASONS: dict[str, str] = {
    "not_wfc3": "taken by another camera or telescope",
    "uvis": "taken by WFC3's other channel",
    "grism": "dispersed by a grism",
    "other_filter": "not of the filter that was asked for",
    "spectroscopic": "OBSTYPE is not IMAGING",
    "calibration": "a dark, a bias, a flat or another calibration exposure",
    "spatial_scan": "the telescope moved along the exposure",
    "moving_target": "the telescope followed a moving target",
    "expflag": "the exposure did not run as planned",
    "no_exposure": "EXPTIME is not above 0",
    "not_science": "a weight map or another by-product",
    "ima": "an IMA, which is read on request only",
    "bunit": "pixels are in a unit that is not electrons per second",
    "compressed": "tile-compressed, which products of the archive are not",
    "no_sci": "there is no science image in the file",
    "not_2d": "the science array is not two-dimensional",
    "too_small": "too few pixels to find a background in",
    "too_large": "more pixels than a worker can hold",
    "all_nan": "no pixel is finite",
    "all_zero": "no pixel differs from zero",
    "all_masked": "no pixel is good",
}

_CALIBRATION_IMAGETYP = ("DARK", "BIAS", "FLAT", "EARTH", "LAMP")
# Whole names: a dark cloud is a target of science.
_CALIBRATION_TARGNAME = re.compile(
    r"(DARK|DARK-NM|BIAS|NONE|TUNGSTEN.*|DEUTERIUM.*|INTFLAT.*|VISFLAT.*|UVFLAT.*"
    r"|(DARK-|BRIGHT-)?EARTH[-_]?CAL.*)"
)


def check_headers(headers: Headers) -> None:
    """Check that the headers are of a WFC3/IR image of the sky.

    A header that does not say (a cut-out with a bare header) passes.

    Raises
    ------
    RejectedImageError
        With one of `REASONS`.
    """
    _check_camera(headers)
    _check_mode(headers)
    _check_target(headers)
    _check_exposure(headers)


def check_filter(headers: Headers, wanted: str) -> None:
    """Check that an image is of the filter that was asked for.

    Parameters
    ----------
    headers : Headers
    wanted : str
        Name of the filter; empty if all will do.

    Raises
    ------
    RejectedImageError
        ``other_filter``, also where the header names no filter.
    """
    element = headers.text("FILTER").upper()
    if wanted and element != wanted.upper():
        found = f"FILTER is {element}" if element else "no FILTER"
        raise RejectedImageError("other_filter", f"{found}; {wanted.upper()} was asked for")


def _check_camera(headers: Headers) -> None:
    telescope = headers.text("TELESCOP").upper()
    if telescope and telescope != "HST":
        raise RejectedImageError("not_wfc3", f"TELESCOP is {telescope!r}; expected HST")
    instrument = headers.text("INSTRUME").upper()
    if instrument and instrument != "WFC3":
        raise RejectedImageError("not_wfc3", f"INSTRUME is {instrument!r}; expected WFC3")
    detector = headers.text("DETECTOR").upper()
    if detector == "UVIS":
        raise RejectedImageError("uvis", "DETECTOR is 'UVIS'; expected IR")
    if detector and detector != "IR":
        raise RejectedImageError("not_wfc3", f"DETECTOR is {detector!r}; expected IR")
    file_type = headers.text("FILETYPE").upper()
    if file_type and file_type != "SCI":
        raise RejectedImageError("not_science", f"FILETYPE is {file_type!r}; expected SCI")


def _check_mode(headers: Headers) -> None:
    element = headers.text("FILTER").upper()
    if element.startswith("G"):
        raise RejectedImageError("grism", f"FILTER is the grism {element}; expected an imaging one")
    if element == "BLANK":
        raise RejectedImageError("calibration", "FILTER is BLANK: no light came in")
    obstype = headers.text("OBSTYPE").upper()
    if obstype and obstype != "IMAGING":
        raise RejectedImageError("spectroscopic", f"OBSTYPE is {obstype!r}; expected IMAGING")


def _check_target(headers: Headers) -> None:
    image_type = headers.text("IMAGETYP").upper()
    if image_type.startswith(_CALIBRATION_IMAGETYP):
        raise RejectedImageError("calibration", f"IMAGETYP is {image_type!r}; expected EXT")
    target = headers.text("TARGNAME").upper()
    if _CALIBRATION_TARGNAME.fullmatch(target):
        raise RejectedImageError("calibration", f"TARGNAME is {target!r}: not the sky")
    if headers.text("SCAN_TYP").upper() in ("C", "D"):
        raise RejectedImageError(
            "spatial_scan", f"SCAN_TYP is {headers.text('SCAN_TYP')!r}: stars are trails"
        )
    if headers.is_true("MTFLAG"):
        raise RejectedImageError("moving_target", "MTFLAG is T: stars are trails")


def _check_exposure(headers: Headers) -> None:
    flag = headers.text("EXPFLAG").upper()
    if flag and flag != "NORMAL":
        raise RejectedImageError("expflag", f"EXPFLAG is {flag!r}; expected NORMAL")
    exposure_s = headers.number("EXPTIME")
    if exposure_s is not None and exposure_s <= 0:
        raise RejectedImageError("no_exposure", f"EXPTIME is {exposure_s:g} s")


def check_shape(shape: tuple[int, ...], min_side: int, max_pixels: int) -> None:
    """Check the shape of the science array before it is read.

    Parameters
    ----------
    shape : tuple of int
        As numpy has it: (ny, nx).
    min_side, max_pixels : int
        The shortest side, and the most pixels, that pass.

    Raises
    ------
    RejectedImageError
        With reason ``no_sci``, ``not_2d``, ``too_small`` or ``too_large``.
    """
    if not shape or 0 in shape:
        raise RejectedImageError("no_sci", "the science extension has a header but no pixels")
    if len(shape) != 2:
        raise RejectedImageError("not_2d", f"the science array has {len(shape)} axes; expected 2")
    ny, nx = shape
    if min(shape) < min_side:
        raise RejectedImageError(
            "too_small", f"{nx} x {ny} pixels; expected {min_side} x {min_side} or more"
        )
    if nx * ny > max_pixels:
        raise RejectedImageError(
            "too_large", f"{nx} x {ny} pixels; expected {max_pixels:,} or fewer"
        )
