"""The arrays of one FITS file, read lazily and no further than needed.

astropy.io.fits parses the headers; where the arrays lie follows from them (FITS standard 4.0,
section 4.4.1.1), and plain ones are viewed where their bytes are. Nothing after the last array that
is used is touched: an FLT's SAMP, TIME and WCSCORR are a third of the file. A gzipped file is
decompressed in memory, as a whole.
"""

from __future__ import annotations

import io
import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from astropy.io import fits

from hstmap.errors import BrokenImageError, RejectedImageError
from hstmap.ranged import RangedFile
from hstmap.wfc3.cards import CARD_NBYTES, Cards, astropy_header
from hstmap.wfc3.header import USED_CARDS, Headers, one_line

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


_BLOCK_NBYTES = 2880
_END_CARD = b"END".ljust(CARD_NBYTES)
# Two thousand times a usual header: what is longer is not one.
_MAX_HEADER_BLOCKS = 10_000
_MAX_AXES = 999
# Arrays that need no arithmetic: BITPIX and numpy's name of it.
_PLAIN_DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_SCALING = ("BSCALE", "BZERO", "BLANK")


@dataclass(frozen=True)
class Hdu:
    """What is to be known of an HDU before its array is read.

    Parameters
    ----------
    index : int
        Its number in the file, from 0.
    name : str
        EXTNAME, or ``"PRIMARY"``.
    header : Cards or astropy.io.fits.Header
        Its header, or the cards of it that are used.
    kind : str
        ``"primary"``, ``"groups"`` or XTENSION in lower case.
    shape : tuple of int
        Of its array, as numpy has it, if it is an image; empty if it has no pixels.
    constant : float, int or None
        The value of all pixels, where the archive has written NPIX1, NPIX2 and PIXVALUE in place
        of an array.
    start, data_start, data_nbytes : int
        Where its header and its data begin, and the size of the data, which are padded to whole
        blocks behind.
    """

    index: int
    name: str
    header: Any
    kind: str
    shape: tuple[int, ...]
    constant: float | None
    start: int
    data_start: int
    data_nbytes: int

    @property
    def is_image(self) -> bool:
        """Whether it is an image, not a table (which may hold a tile-compressed one)."""
        return self.kind in ("primary", "image") and "ZIMAGE" not in self.header

    @property
    def end(self) -> int:
        """First byte of the file that is not of its data."""
        return self.data_start + self.data_nbytes


class FitsFile:
    """One FITS file, plain or gzipped, open for reading.

    Parameters
    ----------
    file : SeekableFile
        Seekable; it is not closed.
    whole_headers : bool
        Whether to parse all cards; by default those that reading an image needs.

    Raises
    ------
    BrokenImageError
        If it is empty or not FITS, or its first header cannot be read.
    """

    def __init__(self, file: SeekableFile, *, whole_headers: bool = False) -> None:
        self._whole_headers = whole_headers
        file.seek(0)
        magic = file.read(6)
        if not magic:
            raise BrokenImageError("empty", "the file has no bytes")
        if magic.startswith(b"\x1f\x8b"):
            file, magic = _decompressed(file), b"SIMPLE"
        if magic != b"SIMPLE":
            raise BrokenImageError("not_fits", f"the file begins with {magic!r}, not with SIMPLE")
        self._file = file
        self._nbytes = file.seek(0, io.SEEK_END)
        self._known: list[Hdu] = []
        primary = self.hdu(0)
        if primary is None:
            raise BrokenImageError("no_end", "the first FITS header has no END card")
        self.primary = primary

    def hdu(self, index: int) -> Hdu | None:
        """Return an HDU, or None where there is no further one.

        Raises
        ------
        BrokenImageError
            If its header cannot be read (reason ``bad_header``).
        """
        while len(self._known) <= index:
            start = 0
            if self._known:
                start = self._known[-1].end
                start += -start % _BLOCK_NBYTES
            try:
                header = self._header(start)
                if header is None:
                    return None
                self._known.append(_describe(len(self._known), header, start, self._file.tell()))
            except _FITS_ERRORS as error:
                raise _bad_header(len(self._known), error) from error
        return self._known[index]

    def _header(self, start: int) -> Any:
        """Parse the header at a position; None where there is none, or nothing but remains."""
        if start >= self._nbytes:
            return None
        self._file.seek(start)
        if not self._whole_headers:
            header = self._used_header()
            if header is not None:
                return header if "XTENSION" in header or not start else None
            self._file.seek(start)
        try:
            header = fits.Header.fromfile(self._file)
        except (EOFError, OSError) as error:
            if isinstance(error, OSError) and "header" not in str(error).lower():
                raise  # the store's trouble, not the file's
            return None
        if start and "XTENSION" not in header:
            return None
        return header

    def _used_header(self) -> Any:
        """Parse the cards of `USED_CARDS`; None where the header is not as it should be."""
        raw = b""
        for _ in range(_MAX_HEADER_BLOCKS):
            block = self._file.read(_BLOCK_NBYTES)
            raw += block
            if len(block) < _BLOCK_NBYTES:
                return None
            end = raw.find(_END_CARD, len(raw) - _BLOCK_NBYTES)
            while end > 0 and end % CARD_NBYTES:
                end = raw.find(_END_CARD, end + 1)
            if end >= 0:
                return Cards(_used_cards(raw[:end]))
        return None

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
        """Return the array of an HDU, in the file's byte order; a constant one is filled.

        Raises
        ------
        BrokenImageError
            If the file is shorter than the header says.
        """
        if hdu.constant is not None:
            filled = np.float32 if isinstance(hdu.constant, float) else np.int32
            return np.full(hdu.shape, hdu.constant, dtype=filled)
        self.check_length(hdu)
        dtype = _PLAIN_DTYPES.get(hdu.header["BITPIX"])
        if dtype is None or any(word in hdu.header for word in _SCALING):
            return self._scaled_pixels(hdu)
        return np.frombuffer(self._bytes(hdu), dtype=dtype).reshape(hdu.shape)

    def _bytes(self, hdu: Hdu) -> Any:
        """Return the bytes of an array, without a copy where they are in memory."""
        if isinstance(self._file, RangedFile):
            return self._file.view(hdu.data_start, hdu.end)
        if isinstance(self._file, io.BytesIO):
            return self._file.getbuffer()[hdu.data_start : hdu.end]
        self._file.seek(hdu.data_start)
        return self._file.read(hdu.data_nbytes)

    def _scaled_pixels(self, hdu: Hdu) -> NDArray[Any]:
        """Let astropy do the arithmetic of an array that is not plain numbers."""
        try:
            header = astropy_header(hdu.header)
            content = header.tostring().encode("latin-1") + bytes(self._bytes(hdu))
            padding = b"\0" * (-len(content) % _BLOCK_NBYTES)
            scaled = fits.ImageHDU.fromstring(content + padding)
            return cast("NDArray[Any]", scaled.data)
        except _FITS_ERRORS as error:
            raise BrokenImageError(
                "bad_header", f"the pixels of {hdu.name} cannot be read: {one_line(error)}"
            ) from error


class _UsedNames(dict[bytes, str]):
    """The names of keywords that are used, by the eight bytes of a card; others' are empty."""

    def __missing__(self, keyword: bytes) -> str:
        name = keyword.rstrip().decode("latin-1")
        self[keyword] = name if USED_CARDS.match(name) else ""
        return self[keyword]


_USED_NAMES = _UsedNames()


def _used_cards(raw: bytes) -> dict[str, bytes]:
    """Pick the cards of `USED_CARDS` from a header; of several with one keyword, the first."""
    names = _USED_NAMES
    cards: dict[str, bytes] = {}
    for start in range(0, len(raw), CARD_NBYTES):
        name = names[raw[start : start + 8]]
        if name and name not in cards:
            cards[name] = raw[start : start + CARD_NBYTES]
    return cards


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


def _bad_header(index: int, error: Exception) -> BrokenImageError:
    return BrokenImageError(
        "bad_header", f"the header of HDU {index} cannot be read: {one_line(error)}"
    )


def _describe(index: int, header: Any, start: int, data_start: int) -> Hdu:
    n_axes = header["NAXIS"]
    if not 0 <= n_axes <= _MAX_AXES:
        raise ValueError(f"NAXIS is {n_axes}: FITS allows {_MAX_AXES}")
    lengths = [int(header[f"NAXIS{axis}"]) for axis in range(1, n_axes + 1)]
    kind = str(header.get("XTENSION", "primary")).strip().lower()
    if index == 0 and n_axes and lengths[0] == 0 and header.get("GROUPS") is True:
        kind, lengths = "groups", lengths[1:]
    n_values = math.prod(lengths) if lengths else 0
    size = abs(header["BITPIX"]) // 8
    per_group = header.get("PCOUNT", 0) + n_values
    is_image = kind in ("primary", "image")
    # An image is read as one array, whatever PCOUNT and GCOUNT may say.
    data_nbytes = size * (n_values if is_image else header.get("GCOUNT", 1) * per_group)
    if data_nbytes < 0:
        raise ValueError(f"the size of the data is {data_nbytes}")
    shape = tuple(lengths[::-1]) if is_image and n_values > 0 else ()
    constant = None
    if is_image and not lengths:
        headers = Headers(header, header)
        sides = headers.integer("NPIX2"), headers.integer("NPIX1")
        value = headers.value("PIXVALUE")
        if isinstance(value, (int, float)) and all(sides):
            shape, constant = cast("tuple[int, int]", sides), value
    if any(length <= 0 for length in shape):
        shape, constant = (), None
    name = str(header.get("EXTNAME", "PRIMARY" if index == 0 else "")).strip().upper()
    return Hdu(index, name, header, kind, shape, constant, start, data_start, data_nbytes)
