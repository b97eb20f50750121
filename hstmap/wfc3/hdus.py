"""The arrays of one FITS file, read lazily and no further than needed.

astropy.io.fits parses the headers and reads the bytes. Nothing after the last array that is used
is touched: an FLT's SAMP, TIME and WCSCORR are a third of the file. Arrays are read in the order
of the file, so that a gzipped one is decompressed once and only as far as needed.
"""

from __future__ import annotations

import gzip
import math
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from hstmap.errors import BrokenImageError, RejectedImageError
from hstmap.wfc3.header import one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FitsFile"]

# What astropy raises at headers that are not as they should be. Errors of a store are none of
# these and pass through.
_FITS_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    zlib.error,
)

# SCI is HDU 1 in every product of the archive; a file without one is not searched to its end.
_N_HDUS_SEARCHED = 12


class FitsFile:
    """One FITS file, plain or gzipped, open for reading.

    Parameters
    ----------
    file : BinaryIO
        Seekable; it is not closed.

    Raises
    ------
    BrokenImageError
        If it is empty or not FITS, or its first header does not end.
    """

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        magic = file.read(6)
        if not magic:
            raise BrokenImageError("empty", "the file has no bytes")
        self._nbytes: int | None = None
        stream = file
        if magic.startswith(b"\x1f\x8b"):
            stream = cast("BinaryIO", gzip.GzipFile(fileobj=file))
        elif magic == b"SIMPLE":
            self._nbytes = file.seek(0, 2)
        else:
            raise BrokenImageError("not_fits", f"the file begins with {magic!r}, not with SIMPLE")
        file.seek(0)
        self._hdus = _open(stream)
        self.primary = self._hdus[0].header

    def hdu(self, index: int) -> Any:
        """Return an HDU, or None where there is no further one."""
        try:
            return self._hdus[index]
        except IndexError:
            return None
        except _FITS_ERRORS as error:
            raise BrokenImageError(
                "bad_header", f"the header of HDU {index} cannot be read: {one_line(error)}"
            ) from error

    def find_science(self) -> int:
        """Return the number of the HDU that holds the science image.

        Raises
        ------
        RejectedImageError
            If there is none (reason ``no_sci``), or only compressed ones (``compressed``).
        BrokenImageError
            If the file ends before it.
        """
        if shape_of(self.hdu(0)):
            return 0
        n_hdus = 1
        is_compressed = False
        for index in range(1, _N_HDUS_SEARCHED):
            hdu = self.hdu(index)
            if hdu is None:
                break
            n_hdus += 1
            if hdu.name == "SCI" and is_plain_image(hdu):
                return index
            is_compressed |= "ZIMAGE" in hdu.header
        if is_compressed:
            raise RejectedImageError(
                "compressed", "the images are tile-compressed; expected plain SCI, ERR and DQ"
            )
        if n_hdus == 1 and "INSTRUME" in self.primary:
            raise BrokenImageError("truncated", "the file ends after its primary header")
        raise RejectedImageError("no_sci", "no image in the primary HDU and no SCI extension")

    def check_length(self, index: int) -> None:
        """Check that the file is as long as an HDU's header says.

        Raises
        ------
        BrokenImageError
            If it is shorter (reason ``truncated``).
        """
        hdu = self.hdu(index)
        nbytes = math.prod(hdu.shape) * abs(hdu.header["BITPIX"]) // 8 if hdu.shape else 0
        end = hdu.fileinfo()["datLoc"] + nbytes
        if self._nbytes is not None and end > self._nbytes:
            raise BrokenImageError(
                "truncated",
                f"{hdu.name} ({' x '.join(map(str, hdu.shape[::-1]))} pixels) should end at byte"
                f" {end:,}, the file ends at {self._nbytes:,}: cut short, or its header lies",
            )

    def pixels(self, index: int) -> NDArray[Any]:
        """Return the array of an HDU as astropy reads it; a constant one is filled.

        Raises
        ------
        BrokenImageError
            If the file is shorter than the header says.
        """
        self.check_length(index)
        hdu = self.hdu(index)
        if not hdu.shape:
            dtype = _CONSTANT_DTYPES[hdu.header["BITPIX"]]
            return np.full(shape_of(hdu), hdu.header["PIXVALUE"], dtype=dtype)
        try:
            return cast("NDArray[Any]", hdu.data)
        except _FITS_ERRORS as error:
            raise BrokenImageError(
                "truncated", f"the pixels of {hdu.name} cannot be read: {one_line(error)}"
            ) from error


_CONSTANT_DTYPES = {8: np.uint8, 16: np.int16, 32: np.int32, -32: np.float32, -64: np.float64}


def _open(stream: BinaryIO) -> Any:
    from astropy.io import fits

    try:
        return fits.open(stream, memmap=False, lazy_load_hdus=True, disable_image_compression=True)
    except _FITS_ERRORS as error:
        reason = "no_end" if "END card" in str(error) else "not_fits"
        raise BrokenImageError(reason, f"no FITS header can be read: {one_line(error)}") from error


def is_plain_image(hdu: Any) -> bool:
    """Whether an HDU is an image, not a table that may hold a compressed one."""
    return hasattr(hdu, "shape") and "ZIMAGE" not in hdu.header


def shape_of(hdu: Any) -> tuple[int, ...]:
    """Return the shape of an HDU's array as numpy has it; empty if it has no pixels.

    The archive keeps an array of one value as a header alone, with NPIX1, NPIX2 and PIXVALUE.
    """
    shape = tuple(int(length) for length in hdu.shape)
    if not shape:
        header = hdu.header
        lengths = (header.get("NPIX2"), header.get("NPIX1"))
        is_constant = isinstance(header.get("PIXVALUE"), (int, float))
        if is_constant and all(isinstance(n, int) and n > 0 for n in lengths):
            return cast("tuple[int, int]", lengths)
    return () if 0 in shape else shape
