"""The arrays of one FITS file, read lazily and no further than needed.

astropy.io.fits parses the headers and reads the bytes. Nothing after the last array that is used
is touched: an FLT's SAMP, TIME and WCSCORR are a third of the file. A gzipped file is
decompressed in memory, as a whole.
"""

from __future__ import annotations

import io
import math
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from astropy.io import fits

from hstmap.errors import BrokenImageError, RejectedImageError
from hstmap.wfc3.header import Headers, one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FitsFile", "Hdu", "SeekableFile"]

# What astropy raises at headers and data that are not as they should be. Errors of a store are
# none of these and pass through.
_FITS_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    fits.VerifyError,
)

# SCI is HDU 1 in every product of the archive; a file without one is not searched to its end.
_N_HDUS_SEARCHED = 12
# No image that a worker can hold is larger; a gzip file may be made to be.
_MAX_DECOMPRESSED_NBYTES = 2**31


class SeekableFile(Protocol):
    """What an image is read from: an open file, `io.BytesIO`, `hstmap.ranged.RangedFile`."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next `size` bytes, fewer at the end."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move, and return the position from the start."""

    def tell(self) -> int:
        """Return the position from the start."""

# Arrays that need no arithmetic: BITPIX and numpy's name of it.
_PLAIN_DTYPES = {8: "u1", 16: ">i2", 32: ">i4", -32: ">f4", -64: ">f8"}
_SCALING = ("BSCALE", "BZERO", "BLANK")


@dataclass(frozen=True)
class Hdu:
    """What is to be known of an HDU before its array is read.

    Parameters
    ----------
    name : str
        EXTNAME, or ``"PRIMARY"``.
    header : astropy.io.fits.Header
        Its header.
    is_image : bool
        Whether it is an image, not a table (which may hold a tile-compressed one).
    shape : tuple of int
        Of its array, as numpy has it; empty if it has no pixels.
    constant : float, int or None
        The value of all pixels, where the archive has written NPIX1, NPIX2 and PIXVALUE in place
        of an array.
    end : int
        First byte of the file that is not of its array.
    astropy_hdu : object
        What reads the array.
    """

    name: str
    header: Any
    is_image: bool
    shape: tuple[int, ...]
    constant: float | None
    end: int
    astropy_hdu: Any


class FitsFile:
    """One FITS file, plain or gzipped, open for reading.

    Parameters
    ----------
    file : SeekableFile
        Seekable; it is not closed.

    Raises
    ------
    BrokenImageError
        If it is empty or not FITS, or its first header cannot be read.
    """

    def __init__(self, file: SeekableFile) -> None:
        file.seek(0)
        magic = file.read(6)
        if not magic:
            raise BrokenImageError("empty", "the file has no bytes")
        if magic.startswith(b"\x1f\x8b"):
            file, magic = _decompressed(file), b"SIMPLE"
        if magic != b"SIMPLE":
            raise BrokenImageError("not_fits", f"the file begins with {magic!r}, not with SIMPLE")
        self._view: Callable[[int, int], Any] | None = getattr(file, "view", None)
        if isinstance(file, io.BytesIO):
            self._view = lambda start, end: file.getbuffer()[start:end]
        self._nbytes = file.seek(0, io.SEEK_END)
        file.seek(0)
        self._hdus = _open(file)
        self._known: dict[int, Hdu] = {}
        primary = self.hdu(0)
        if primary is None:
            raise BrokenImageError("bad_header", "the first FITS header cannot be read")
        self.primary = primary

    def hdu(self, index: int) -> Hdu | None:
        """Return an HDU, or None where there is no further one.

        Raises
        ------
        BrokenImageError
            If its header cannot be read (reason ``bad_header``).
        """
        if index not in self._known:
            try:
                astropy_hdu = self._hdus[index]
            except IndexError:
                return None
            except _FITS_ERRORS as error:
                raise _bad_header(index, error) from error
            try:
                self._known[index] = _describe(astropy_hdu)
            except _FITS_ERRORS as error:
                raise _bad_header(index, error) from error
        return self._known[index]

    def find_science(self) -> int:
        """Return the number of the HDU that holds the science image.

        Raises
        ------
        RejectedImageError
            If there is none (reason ``no_sci``), or only compressed ones (``compressed``).
        BrokenImageError
            If the file ends before it.
        """
        if self.primary.shape:
            return 0
        n_hdus = 1
        is_compressed = False
        for index in range(1, _N_HDUS_SEARCHED):
            hdu = self.hdu(index)
            if hdu is None:
                break
            if hdu.name == "SCI" and hdu.is_image:
                return index
            n_hdus += 1
            is_compressed |= "ZIMAGE" in hdu.header
        if is_compressed:
            raise RejectedImageError(
                "compressed", "the images are tile-compressed; expected plain SCI, ERR and DQ"
            )
        if n_hdus == 1 and "INSTRUME" in self.primary.header:
            raise BrokenImageError("truncated", "the file ends after its primary header")
        raise RejectedImageError("no_sci", "no image in the primary HDU and no SCI extension")

    def check_length(self, hdu: Hdu) -> None:
        """Check that the file is as long as an HDU's header says.

        Raises
        ------
        BrokenImageError
            If it is shorter (reason ``truncated``).
        """
        if hdu.end > self._nbytes:
            raise BrokenImageError(
                "truncated",
                f"{hdu.name} ({' x '.join(map(str, hdu.shape[::-1]))} pixels) should end at byte"
                f" {hdu.end:,}, the file ends at {self._nbytes:,}: cut short, or its header lies",
            )

    def pixels(self, hdu: Hdu) -> NDArray[Any]:
        """Return the array of an HDU as astropy reads it; a constant one is filled.

        Raises
        ------
        BrokenImageError
            If the file is shorter than the header says.
        """
        if hdu.constant is not None:
            dtype = np.float32 if isinstance(hdu.constant, float) else np.int32
            return np.full(hdu.shape, hdu.constant, dtype=dtype)
        self.check_length(hdu)
        in_place = self._in_place(hdu)
        if in_place is not None:
            return in_place
        try:
            return cast("NDArray[Any]", hdu.astropy_hdu.data)
        except _FITS_ERRORS as error:
            raise BrokenImageError(
                "truncated", f"the pixels of {hdu.name} cannot be read: {one_line(error)}"
            ) from error


    def _in_place(self, hdu: Hdu) -> NDArray[Any] | None:
        """View an array where its bytes lie, if they are in memory and are plain numbers.

        astropy has said where; what it would do beyond that is to copy them once more.
        """
        header = hdu.header
        dtype = _PLAIN_DTYPES.get(header["BITPIX"])
        if self._view is None or dtype is None or any(word in header for word in _SCALING):
            return None
        nbytes = math.prod(hdu.shape) * np.dtype(dtype).itemsize
        view = self._view(hdu.end - nbytes, hdu.end)
        return np.frombuffer(view, dtype=dtype).reshape(hdu.shape)


class _GuardedFile:
    """What astropy reads through: stops at a header that would keep it busy for ever.

    FITS allows 999 axes and 999 columns. astropy goes through as many as the header claims: a
    damaged digit would hold a worker until its time is up.
    """

    _TOO_MANY = re.compile(rb"(NAXIS   |TFIELDS )= *\+?\d{4,}")
    _HEADER_BLOCK_NBYTES = 2880

    def __init__(self, file: SeekableFile) -> None:
        self._file = file
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        if size == self._HEADER_BLOCK_NBYTES and (match := self._TOO_MANY.search(data)):
            raise OSError(f"{match.group().decode()}: FITS allows 999")
        return data


def _decompressed(file: SeekableFile) -> SeekableFile:
    """Return what a gzip file holds; of one that was cut short, what is left of it."""
    file.seek(0)
    try:
        data = zlib.decompressobj(wbits=31).decompress(file.read(), _MAX_DECOMPRESSED_NBYTES)
    except zlib.error as error:
        raise BrokenImageError("not_fits", f"gzip cannot be decompressed: {error}") from error
    if not data.startswith(b"SIMPLE"):
        raise BrokenImageError(
            "not_fits", f"in the gzip file is {data[:6]!r}..., which is not FITS: expected SIMPLE"
        )
    return io.BytesIO(data)


def _open(file: SeekableFile) -> Any:
    try:
        return fits.open(
            _GuardedFile(file), memmap=False, lazy_load_hdus=True, disable_image_compression=True
        )
    except _FITS_ERRORS as error:
        reason = "no_end" if "END card" in str(error) else "bad_header"
        raise BrokenImageError(
            reason, f"the first FITS header cannot be read: {one_line(error)}"
        ) from error


def _bad_header(index: int, error: Exception) -> BrokenImageError:
    return BrokenImageError(
        "bad_header", f"the header of HDU {index} cannot be read: {one_line(error)}"
    )


def _describe(astropy_hdu: Any) -> Hdu:
    header = astropy_hdu.header
    is_image = hasattr(astropy_hdu, "shape") and "ZIMAGE" not in header
    shape = tuple(int(length) for length in astropy_hdu.shape) if is_image else ()
    end = astropy_hdu.fileinfo()["datLoc"]
    constant = None
    if shape:
        end += math.prod(shape) * abs(header["BITPIX"]) // 8
    elif is_image:
        headers = Headers(header, header)
        lengths = headers.integer("NPIX2"), headers.integer("NPIX1")
        value = headers.value("PIXVALUE")
        if isinstance(value, (int, float)) and all(lengths):
            shape, constant = cast("tuple[int, int]", lengths), value
    if any(length <= 0 for length in shape):
        shape = ()
    return Hdu(astropy_hdu.name, header, is_image, shape, constant, end, astropy_hdu)
