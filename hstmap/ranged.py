"""A read-only file over ranged requests: only the bytes that are read travel."""

from __future__ import annotations

import io
import mmap
from bisect import bisect_right, insort
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from hstmap.storage import ObjectInfo

__all__ = ["MIN_FETCH_NBYTES", "RangedFile"]

MIN_FETCH_NBYTES = 64 * 1024
"""A request's round trip costs as much as some 100 KiB of transfer: ask for no less than this."""


class RangedFile(io.RawIOBase):
    """A stored object as a seekable, read-only binary file.

    Bytes that were fetched are kept, so that no byte is fetched twice; a read that misses some
    of them fetches each missing stretch in one request, of at least `MIN_FETCH_NBYTES` where the
    object and the neighbouring stretches leave room for it.

    Parameters
    ----------
    name : str
        The object's URL or path: what `astropy.io.fits` calls the file in its messages.
    info : ObjectInfo
        The object's facts; ``info.nbytes`` is the size of the file.
    first : bytes or memoryview
        The object's first bytes, fetched already; not copied.
    fetch : callable
        ``fetch(start, end)`` returns the bytes of [start, end).
    """

    def __init__(
        self, name: str, info: ObjectInfo, first: Buffer, fetch: Callable[[int, int], bytes]
    ) -> None:
        super().__init__()
        self.name = name
        self.mode = "rb"
        self.info = info
        self._fetch = fetch
        self._position = 0
        self._starts: list[int] = []
        self._blocks: dict[int, memoryview] = {}
        self._nbytes_read = 0
        self._keep(0, first)

    @property
    def nbytes_read(self) -> int:
        """How many bytes were fetched so far; also of a closed file."""
        return self._nbytes_read

    def readable(self) -> bool:
        """Return True: it can be read."""
        self._check_open()
        return True

    def seekable(self) -> bool:
        """Return True: any position can be sought."""
        self._check_open()
        return True

    def tell(self) -> int:
        """Return the position, in bytes from the start."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to `offset` bytes from the start, the position or the end; fetches nothing."""
        self._check_open()
        if whence not in (io.SEEK_SET, io.SEEK_CUR, io.SEEK_END):
            raise ValueError(f"whence is {whence!r}: give 0 (start), 1 (position) or 2 (end)")
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.info.nbytes}
        position = base[whence] + offset
        if position < 0:
            raise ValueError(f"cannot seek to {position}, before the start of {self.name}")
        self._position = position
        return position

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next `size` bytes, fewer at the end; all that is left if negative or None."""
        self._check_open()
        end = self.info.nbytes
        if size is not None and size >= 0:
            end = min(end, self._position + size)
        if end <= self._position:
            return b""
        pieces = self._pieces(self._position, end)
        self._position = end
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def view(self, start: int, end: int) -> memoryview:
        """Return the bytes of [start, end) without a copy, where they were fetched in one piece.

        Who views one array after another has one of them in memory at a time, where the file is
        mapped.

        Parameters
        ----------
        start, end : int
            Within the file.

        Returns
        -------
        memoryview
            Read-only.
        """
        self._check_open()
        self._put_aside(start)
        pieces = self._pieces(start, end)
        return pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))

    def readall(self) -> bytes:
        """Return all bytes from the position to the end."""
        return self.read(-1)

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill `buffer` with the next bytes and return how many there were."""
        self._check_open()
        target = memoryview(buffer).cast("B")
        end = min(self.info.nbytes, self._position + len(target))
        if end <= self._position:
            return 0
        n_filled = 0
        for piece in self._pieces(self._position, end):
            target[n_filled : n_filled + len(piece)] = piece
            n_filled += len(piece)
        self._position = end
        return n_filled

    def close(self) -> None:
        """Close the file and let its bytes go."""
        self._blocks.clear()
        self._starts.clear()
        super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(f"I/O operation on closed file {self.name}")

    def _keep(self, start: int, content: Buffer) -> None:
        block = memoryview(content)
        if block.nbytes:
            insort(self._starts, start)
            self._blocks[start] = block
            self._nbytes_read += block.nbytes

    def _pieces(self, start: int, end: int) -> list[memoryview]:
        """Return views that make up [start, end), after fetching what is missing of it."""
        pieces = []
        position = start
        while position < end:
            index = bisect_right(self._starts, position) - 1
            if index < 0 or position >= self._end_of(index):
                self._fetch_gap(position, end, index + 1)
                continue
            block_start = self._starts[index]
            stop = min(end, self._end_of(index))
            block = self._blocks[block_start]
            pieces.append(block[position - block_start : stop - block_start])
            position = stop
        return pieces

    def _put_aside(self, end: int) -> None:
        """Take mapped bytes before `end` out of memory; who looks at them has them there again."""
        for block_start, block in self._blocks.items():
            nbytes = min(end - block_start, len(block)) // mmap.PAGESIZE * mmap.PAGESIZE
            if isinstance(block.obj, mmap.mmap) and nbytes > 0:
                block.obj.madvise(mmap.MADV_DONTNEED, 0, nbytes)

    def _end_of(self, index: int) -> int:
        start = self._starts[index]
        return start + len(self._blocks[start])

    def _fetch_gap(self, start: int, end: int, next_index: int) -> None:
        """Fetch from `start` up to the next kept block: what [start, end) needs, and not little."""
        has_next = next_index < len(self._starts)
        limit = self._starts[next_index] if has_next else self.info.nbytes
        self._keep(start, self._fetch(start, min(limit, max(end, start + MIN_FETCH_NBYTES))))
