"""The planes of one image: which HDUs they are, their pixels in native order, their mask."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hstmap.errors import BrokenImageError, RejectedImageError
from hstmap.wfc3 import reject
from hstmap.wfc3.cards import astropy_header
from hstmap.wfc3.hdus import FitsFile, Hdu, SeekableFile
from hstmap.wfc3.header import Headers, count_rate_divisor, product_of_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hstmap.wfc3.parameters import ReadParameters

__all__ = ["Planes", "make_mask", "read_planes", "read_weights"]

# Reference pixels on each side of an IMA's arrays (WFC3 Instrument Handbook, section 5.7).
_IMA_BORDER = 5
# Between SCI and the last plane that belongs to it.
_N_HDUS_AFTER_SCIENCE = 3
# Rows that are gone through at once: half a megabyte of pixels stays in a processor's cache from
# their byte swap to what is asked of them. Of a full frame that is 1.2 ms less than plane by plane.
_N_ROWS = 64
_REQUIRED = {"flt": ("ERR", "DQ"), "ima": ("ERR", "DQ"), "drz": ("WHT",)}


Bounds = tuple[float, float]


@dataclass
class Planes:
    """The planes of one image, all of one shape.

    Parameters
    ----------
    product : str
        ``"flt"``, ``"drz"``, ``"ima"`` or ``"image"``.
    headers : Headers
        Of the primary HDU and of SCI.
    sci : ndarray of float32, shape (ny, nx), C-contiguous
        In electrons / s; not finite where the file is not.
    err, wht : ndarray of float32, shape (ny, nx), or None
        Standard deviation of `sci`; weight of `sci`, proportional to its inverse variance.
    dq : ndarray of integers, shape (ny, nx), or None
        DQ bits, as they are in the file until `make_mask` makes them native.
    dq_bits : int
        Those that any pixel has, once `make_mask` has looked.
    bounds : dict of str to (float, float)
        By plane, the lowest and the highest value in the file: NaN if there is any NaN.
    """

    product: str
    headers: Headers
    sci: NDArray[np.float32]
    err: NDArray[np.float32] | None = None
    wht: NDArray[np.float32] | None = None
    dq: NDArray[np.signedinteger[Any]] | None = None
    dq_bits: int = 0
    bounds: dict[str, Bounds] = field(default_factory=dict)


def read_planes(
    file: SeekableFile, name: str, parameters: ReadParameters, notes: list[str]
) -> Planes:
    """Read the planes of one file, after checking that its header is of an image of the sky.

    Parameters
    ----------
    file : SeekableFile
        Seekable.
    name : str
        Its key or path, which may name the product.
    parameters : ReadParameters
        How to read it.
    notes : list of str
        Gets a line for whatever is odd but usable.

    Raises
    ------
    RejectedImageError, BrokenImageError
        As `hstmap.wfc3.image.read_image` does.
    """
    fits_file = FitsFile(file)
    primary = Headers(fits_file.primary.header, fits_file.primary.header)
    reject.check_headers(primary)
    reject.check_filter(primary, parameters.only_filter)
    product = product_of_name(name) or product_of_name(primary.text("FILENAME"))
    index = fits_file.find_science()
    science = cast("Hdu", fits_file.hdu(index))
    if index == 0:
        product = "image"
    if product == "ima" and not parameters.ima:
        raise RejectedImageError("ima", "an IMA; its last read is read with --ima (ima=True)")
    headers = Headers(primary.primary, science.header)
    divisor = count_rate_divisor(headers, notes)
    fits_file.check_length(science)
    reject.check_shape(science.shape, parameters.min_side, parameters.max_pixels)
    sci, bounds = _native_float(fits_file.pixels(science))
    planes = Planes(product, headers, sci, bounds={"sci": bounds})
    if index > 0:
        _read_companions(fits_file, index, planes, notes)
    if planes.product == "ima":
        _trim_border(planes)
    if divisor != 1:
        _divide(planes, divisor)
    return planes


def read_weights(file: SeekableFile, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Read a weight map of its own: the primary array, or the first WHT or SCI extension.

    Raises
    ------
    BrokenImageError
        If its shape is not that of the image.
    """
    fits_file = FitsFile(file)
    hdu = fits_file.primary if fits_file.primary.shape else fits_file.hdu(1)
    found = () if hdu is None else hdu.shape
    if hdu is None or found != shape:
        raise BrokenImageError("shape", f"the weight map's shape is {found}, the image's {shape}")
    return _native_float(fits_file.pixels(hdu))[0]


def _read_companions(fits_file: FitsFile, science: int, planes: Planes, notes: list[str]) -> None:
    """Read ERR and DQ, or WHT, whichever follow SCI; nothing after them is touched."""
    found: set[str] = set()
    for index in range(science + 1, science + 1 + _N_HDUS_AFTER_SCIENCE):
        if {"ERR", "DQ"} <= found or "WHT" in found:
            break
        hdu = fits_file.hdu(index)
        if hdu is None or hdu.name == "SCI":
            break
        if hdu.name not in ("ERR", "DQ", "WHT") or not hdu.is_image:
            continue
        found.add(hdu.name)
        if not hdu.shape:
            notes.append(f"{hdu.name} has no pixels")
            continue
        if hdu.shape != planes.sci.shape:
            raise BrokenImageError(
                "shape",
                f"SCI has shape {planes.sci.shape}, {hdu.name} {hdu.shape}: they must agree",
            )
        pixels = fits_file.pixels(hdu)
        if hdu.name == "DQ":
            planes.dq = pixels
        else:
            plane, bounds = _native_float(pixels)
            setattr(planes, hdu.name.lower(), plane)
            planes.bounds[hdu.name.lower()] = bounds
    missing = [plane for plane in _REQUIRED.get(planes.product, ()) if plane not in found]
    if missing:
        raise BrokenImageError(
            "truncated",
            f"no plain {' and no plain '.join(missing)} after SCI: the file may be cut short",
        )
    if not planes.product:
        planes.product = "drz" if "WHT" in found else "flt" if "DQ" in found else "image"


def _row_blocks(ny: int) -> Iterator[slice]:
    return (slice(start, start + _N_ROWS) for start in range(0, ny, _N_ROWS))


def _native_float(pixels: NDArray[Any]) -> tuple[NDArray[np.float32], Bounds]:
    """Copy pixels of any type and byte order to native, C-contiguous float32.

    Returns
    -------
    ndarray of float32, (float, float)
        The pixels, and the lowest and the highest: NaN if there is any NaN.
    """
    native = np.empty(pixels.shape, dtype=np.float32)
    lowest, highest = np.float32(np.inf), np.float32(-np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        for rows in _row_blocks(len(pixels)):
            block = native[rows]
            np.copyto(block, pixels[rows], casting="unsafe")
            lowest, highest = np.minimum(lowest, block.min()), np.maximum(highest, block.max())
    return native, (float(lowest), float(highest))


def _native_dq(
    pixels: NDArray[Any], mask_bits: int
) -> tuple[NDArray[np.signedinteger[Any]], NDArray[np.bool_], int]:
    """Copy DQ bits of any type and byte order to native, C-contiguous int16 or int32.

    Returns
    -------
    ndarray of int16 or int32, ndarray of bool, int
        The bits, which pixels have some of `mask_bits`, and the bits that any pixel has.
    """
    fits_int16 = pixels.dtype.kind == "i" and pixels.dtype.itemsize <= 2
    native = np.empty(pixels.shape, dtype=np.int16 if fits_int16 else np.int32)
    hidden = np.empty(pixels.shape, dtype=np.bool_)
    hiding, some = native.dtype.type(mask_bits), native.dtype.type(0)
    hides = np.empty((min(_N_ROWS, len(pixels)), *pixels.shape[1:]), dtype=native.dtype)
    for rows in _row_blocks(len(pixels)):
        block = native[rows]
        np.copyto(block, pixels[rows], casting="unsafe")
        hiding_here = np.bitwise_and(block, hiding, out=hides[: len(block)])
        np.not_equal(hiding_here, 0, out=hidden[rows])
        some |= np.bitwise_or.reduce(block, axis=None)
    return native, hidden, int(some)


def _trim_border(planes: Planes) -> None:
    """Cut an IMA's reference pixels off, and shift its header's positions to match."""
    inner = (slice(_IMA_BORDER, -_IMA_BORDER),) * 2
    for plane in ("sci", "err", "dq"):
        pixels = getattr(planes, plane)
        if pixels is not None:
            setattr(planes, plane, np.ascontiguousarray(pixels[inner]))
    header = astropy_header(planes.headers.science).copy()
    for keyword in ("CRPIX1", "CRPIX2", "LTV1", "LTV2"):
        position = planes.headers.number(keyword)
        if position is not None:
            header[keyword] = position - _IMA_BORDER
    planes.headers = Headers(planes.headers.primary, header)


def _divide(planes: Planes, divisor: float) -> None:
    planes.bounds.clear()
    planes.sci /= np.float32(divisor)
    if planes.err is not None:
        planes.err /= np.float32(divisor)
    if planes.wht is not None:
        planes.wht *= np.float32(divisor**2)


def make_mask(planes: Planes, mask_bits: int, notes: list[str]) -> NDArray[np.bool_]:
    """Mark the pixels that are not to be used, and make their values harmless.

    A pixel is masked if its DQ has one of `mask_bits`, if its value is not finite, or if its
    error (or weight) is not a positive finite number. Values that are not finite become 0:
    SEP skips masked pixels, but a NaN spoils its sums.

    Parameters
    ----------
    planes : Planes
        Changed in place: `sci` and `err` are finite afterwards, `err` is made from `wht`, and
        `dq` is native int16 or int32.
    mask_bits : int
        DQ bits that hide a pixel.
    notes : list of str
        Gets a line if the errors are of no use.

    Raises
    ------
    RejectedImageError
        If no pixel is finite, none differs from zero, or all are masked.
    """
    if planes.dq is None:
        mask = np.zeros(planes.sci.shape, dtype=np.bool_)
    else:
        planes.dq, mask, planes.dq_bits = _native_dq(planes.dq, mask_bits)
    _mask_bad_values(planes, mask)
    if planes.wht is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            planes.err = np.reciprocal(np.sqrt(planes.wht))
    if planes.err is not None:
        _mask_bad_errors(planes, mask, notes)
    if mask.all():
        raise RejectedImageError("all_masked", "no pixel is good: all are masked")
    return mask


def _mask_bad_values(planes: Planes, mask: NDArray[np.bool_]) -> None:
    """Mask the values that are not finite, and make them 0."""
    sci = planes.sci
    lowest, highest = planes.bounds.get("sci", (np.nan, np.nan))
    is_zero = lowest == highest == 0
    # Of most frames the bounds tell that all are finite.
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        bad = ~np.isfinite(sci)
        if bad.all():
            raise RejectedImageError("all_nan", "no pixel of the science array is finite")
        mask |= bad
        np.copyto(sci, 0, where=bad)
        is_zero = not sci.any()
    if is_zero:
        raise RejectedImageError("all_zero", "every pixel of the science array is zero")


def _mask_bad_errors(planes: Planes, mask: NDArray[np.bool_], notes: list[str]) -> None:
    """Mask pixels whose error is not a positive finite number, and make those errors 0."""
    err = cast("NDArray[np.float32]", planes.err)
    lowest, highest = planes.bounds.get("err", (np.nan, np.nan))
    if lowest > 0 and highest < np.inf:
        return
    bad = ~((err > 0) & (err < np.inf))
    if planes.wht is None and bad.all():
        notes.append("ERR has no positive value: not used")
        planes.err = None
        return
    mask |= bad
    np.copyto(err, 0, where=bad)
