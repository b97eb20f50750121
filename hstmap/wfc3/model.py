"""An image in memory: its pixels, its mask and what its header says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Image", "ImageInfo"]


@dataclass(frozen=True)
class ImageInfo:
    """What is known of an image but its pixels; plain Python values, None where unknown.

    Parameters
    ----------
    rootname : str
        Nine lower-case characters for a product of the archive, else the file's name.
    product : str
        ``"flt"``, ``"drz"``, ``"ima"`` or ``"image"`` (a single array).
    filter, target, aperture, samp_seq, fgs_lock, bunit, cal_ver, wcs_name : str
        As in the header, without blanks; `filter` in upper case; empty where unknown.
    program_id : int or None
        PROPOSID.
    subarray : bool
        SUBARRAY.
    exposure_s, exposure_start_mjd, exposure_end_mjd : float or None
        EXPTIME (s), EXPSTART and EXPEND (MJD, UTC).
    photflam, photplam, photfnu, zero_point_ab : float or None
        Photometry keywords, and the AB magnitude of 1 electron / s that follows from them.
    ra_target, dec_target, ra_ref, dec_ref : float or None
        The target, and the middle of the image through its WCS (deg, ICRS).
    orientation_deg : float or None
        ORIENTAT: position angle of the y axis (deg east of north).
    pixel_scale_arcsec : float or None
        Square root of the area of the pixel in the middle.
    ltv1, ltv2 : float
        Pixel offset of a subarray: full-frame position = position - LTV.
    nx, ny, n_masked, n_saturated : int
        Size; pixels that are masked; pixels with the saturation bit, masked or not.
    err_kind : str
        ``"error"`` (ERR: with the sources' Poisson noise), ``"weight"`` (1 / sqrt(WHT): the
        background's, up to a factor) or ``"none"``.
    notes : tuple of str
        What was odd, assumed or left out; one line each.
    """

    rootname: str
    product: str
    filter: str
    target: str
    program_id: int | None
    aperture: str
    subarray: bool
    samp_seq: str
    fgs_lock: str
    exposure_s: float | None
    exposure_start_mjd: float | None
    exposure_end_mjd: float | None
    photflam: float | None
    photplam: float | None
    photfnu: float | None
    zero_point_ab: float | None
    bunit: str
    cal_ver: str
    wcs_name: str
    ra_target: float | None
    dec_target: float | None
    ra_ref: float | None
    dec_ref: float | None
    orientation_deg: float | None
    pixel_scale_arcsec: float | None
    ltv1: float
    ltv2: float
    nx: int
    ny: int
    n_masked: int
    n_saturated: int
    err_kind: str
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Image:
    """One image, ready for SEP.

    Parameters
    ----------
    data : ndarray of float32, shape (ny, nx), C-contiguous
        Electrons / s; 0 where the file's value is not finite.
    err : ndarray of float32, shape (ny, nx), or None
        Standard deviation of `data`, in electrons / s; 0 where the file's is not finite.
    mask : ndarray of bool, shape (ny, nx)
        True where a pixel is not to be used.
    dq : ndarray of int16 or int32, shape (ny, nx), or None
        DQ bits.
    info : ImageInfo
        What the header says.
    wcs : astropy.wcs.WCS or None
        Of the pixels of `data`; origin 0.
    """

    data: NDArray[np.float32]
    err: NDArray[np.float32] | None
    mask: NDArray[np.bool_]
    dq: NDArray[np.signedinteger[Any]] | None
    info: ImageInfo
    wcs: Any
