"""From the bytes of one file to an image that sources can be extracted from.

`read_image` takes FLT and DRZ products of WFC3/IR (full frame and subarray, plain and gzipped),
single-array drizzles with or without a weight map, and, on request, the last read of an IMA.
It reads the bytes that are needed, in one request where the file is given through a reader that
fetches `first_nbytes` at once.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from hstmap.wfc3.hdus import SeekableFile
from hstmap.wfc3.header import Headers, rootname_of, warning_lines, zero_point_ab
from hstmap.wfc3.model import Image, ImageInfo
from hstmap.wfc3.parameters import ReadParameters
from hstmap.wfc3.planes import Planes, make_mask, read_planes, read_weights
from hstmap.wfc3.wcs import build_wcs, centre_and_scale

__all__ = [
    "Image",
    "ImageInfo",
    "ReadParameters",
    "SeekableFile",
    "first_nbytes",
    "read_image",
]

# Headers of a new file run to some 60 kB before and between its arrays; those of a drizzle to
# more. With this much room the arrays come with them.
_HEADER_ROOM = 131_072
_FIRST_NBYTES = {
    "flt": 1014 * 1014 * (4 + 4 + 2) + _HEADER_ROOM,
    "ima": 1024 * 1024 * (4 + 4 + 2) + _HEADER_ROOM,
    # SCI and WHT of one visit's drizzle, mostly; a mosaic's rest is fetched when it is read.
    "drz": 12 * 1024 * 1024,
}
_FIRST_NBYTES_OTHER = 4 * 1024 * 1024
_SATURATED = 256


def first_nbytes(product: str) -> int:
    """Return how many bytes to ask for first, so that one request is enough for most files.

    Parameters
    ----------
    product : str
        ``"flt"``, ``"drz"``, ``"ima"``; anything else is taken for a small file.
    """
    return _FIRST_NBYTES.get(product, _FIRST_NBYTES_OTHER)


def read_image(
    file: SeekableFile,
    name: str,
    parameters: ReadParameters | None = None,
    weight_file: SeekableFile | None = None,
) -> Image:
    """Read one image.

    Parameters
    ----------
    file : SeekableFile
        The FITS file, seekable; read in file order and no further than needed, not closed.
    name : str
        Its key or path: product and rootname are taken from it where it has them.
    parameters : ReadParameters, optional
        How to read it.
    weight_file : SeekableFile, optional
        Weights (inverse variances) of a single-array drizzle, of the same shape.

    Returns
    -------
    Image
        The image with its mask.

    Raises
    ------
    RejectedImageError
        If it is not an image that this is for; see `hstmap.wfc3.reject.REASONS`.
    BrokenImageError
        If the file is damaged.
    """
    parameters = parameters or ReadParameters()
    notes: list[str] = []
    # What astropy warns of belongs to the image, not to the terminal of whoever runs thousands.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        planes = read_planes(file, name, parameters, notes)
        if weight_file is not None:
            planes.wht = read_weights(weight_file, planes.sci.shape)
        mask = make_mask(planes, parameters.mask_bits, notes)
        ny, nx = planes.sci.shape
        wcs = build_wcs(planes.headers.science, nx, ny, notes)
        facts = _header_facts(planes.headers, name, notes) | _geometry(planes, wcs, notes)
    notes.extend(warning_lines(caught))
    n_saturated = 0
    # Few frames have any.
    if planes.dq is not None and planes.dq_bits & _SATURATED:
        n_saturated = int(np.count_nonzero(planes.dq & _SATURATED))
    info = ImageInfo(
        product=planes.product,
        n_masked=int(np.count_nonzero(mask)),
        n_saturated=n_saturated,
        err_kind="none" if planes.err is None else "error" if planes.wht is None else "weight",
        notes=tuple(notes),
        **facts,
    )
    return Image(planes.sci, planes.err, mask, planes.dq, info, wcs)


def _header_facts(headers: Headers, name: str, notes: list[str]) -> dict[str, Any]:
    element = headers.text("FILTER").upper()
    if not element:
        notes.append("no FILTER")
    fgs_lock = headers.text("FGSLOCK")
    if fgs_lock and not fgs_lock.upper().startswith("FINE"):
        notes.append(f"FGSLOCK is {fgs_lock}: stars may be elongated")
    return {
        "rootname": rootname_of(name, headers.text("ROOTNAME"), notes),
        "filter": element,
        "target": headers.text("TARGNAME"),
        "program_id": headers.integer("PROPOSID"),
        "aperture": headers.text("APERTURE"),
        "subarray": headers.is_true("SUBARRAY"),
        "samp_seq": headers.text("SAMP_SEQ"),
        "fgs_lock": fgs_lock,
        "exposure_s": headers.number("EXPTIME"),
        "exposure_start_mjd": headers.number("EXPSTART"),
        "exposure_end_mjd": headers.number("EXPEND"),
        "photflam": headers.number("PHOTFLAM"),
        "photplam": headers.number("PHOTPLAM"),
        "photfnu": headers.number("PHOTFNU"),
        "zero_point_ab": zero_point_ab(headers, notes),
        "bunit": headers.text("BUNIT"),
        "cal_ver": headers.text("CAL_VER"),
        "wcs_name": headers.text("WCSNAME"),
        "ra_target": headers.number("RA_TARG"),
        "dec_target": headers.number("DEC_TARG"),
        "orientation_deg": headers.number("ORIENTAT"),
    }


def _geometry(planes: Planes, wcs: Any, notes: list[str]) -> dict[str, Any]:
    ny, nx = planes.sci.shape
    if wcs is not None and wcs.sip is None and planes.product in ("flt", "ima"):
        # 10 pixels: WFC3 Instrument Handbook, appendix B.3.
        notes.append("no distortion in the WCS: positions are off by up to 10 pixels at the edges")
    place = (None, None, None) if wcs is None else centre_and_scale(wcs, nx, ny)
    ra_ref, dec_ref, pixel_scale_arcsec = place
    return {
        "nx": nx,
        "ny": ny,
        "ltv1": planes.headers.number("LTV1") or 0.0,
        "ltv2": planes.headers.number("LTV2") or 0.0,
        "ra_ref": ra_ref,
        "dec_ref": dec_ref,
        "pixel_scale_arcsec": pixel_scale_arcsec,
    }
