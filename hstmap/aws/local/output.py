"""What the processes of an environment print, through a pipe that can be emptied at any time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

__all__ = ["Output"]

_LINE_LIMIT_NBYTES = 256 << 10


class Output:
    """A pipe whose lines are handed on.

    Parameters
    ----------
    on_line : callable
        Gets each line, with its newline.
    """

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._partial = b""
        self._read_fd, self.write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._read_fd, self.drain)

    def drain(self) -> None:
        """Hand on what was printed until now."""
        while True:
            try:
                data = os.read(self._read_fd, 1 << 16)
            except BlockingIOError:
                return
            if not data:
                # All writers are gone; a reader would be called for ever.
                self._loop.remove_reader(self._read_fd)
                return
            self._split(data)

    def close_writer(self) -> None:
        """Let go of the end that the processes have inherited."""
        os.close(self.write_fd)

    def close(self) -> None:
        """Stop reading; a last line without a newline is handed on too."""
        self._loop.remove_reader(self._read_fd)
        os.close(self._read_fd)
        if self._partial:
            self._emit(self._partial)

    def _split(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._emit(line)
        while len(self._partial) > _LINE_LIMIT_NBYTES:
            self._emit(self._partial[:_LINE_LIMIT_NBYTES])
            self._partial = self._partial[_LINE_LIMIT_NBYTES:]

    def _emit(self, line: bytes) -> None:
        # The runtime keeps a traceback together by writing carriage returns within it.
        self._on_line(line.decode(errors="replace").replace("\r", "\n") + "\n")
