"""Requests of a call, counted in memory that outlives the process that makes them."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, fields
from typing import Final

from hstmap.storage_counts import CallRequests, RequestCounts

__all__ = ["SharedCounts"]

_N_KINDS: Final = len(fields(RequestCounts))
_N_NUMBERS: Final = 2 * _N_KINDS
_NBYTES_A_NUMBER: Final = 8


class SharedCounts:
    """Counts requests for the parent of the process that makes them, however that ends.

    Made before the fork, in memory that both share. Each number is written in one piece, so what
    is read after a kill is what was told until then.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _N_NUMBERS * _NBYTES_A_NUMBER)
        self._numbers = memoryview(self._memory).cast("Q")
        self._first = _N_KINDS  # the engine's, until the work begins

    def add(self, counts: RequestCounts) -> None:
        """Count requests; listens to stores (`~hstmap.storage_counts.heard_by`)."""
        for kind, number in enumerate(astuple(counts)):
            self._numbers[self._first + kind] += number

    @contextmanager
    def of_work(self) -> Iterator[None]:
        """Count what is asked for in a block as the function's, not as the engine's."""
        self._first = 0
        try:
            yield
        finally:
            self._first = _N_KINDS

    def read(self) -> CallRequests:
        """Return what was counted so far, in whichever process."""
        numbers = self._numbers.tolist()
        return CallRequests(
            RequestCounts(*numbers[:_N_KINDS]), RequestCounts(*numbers[_N_KINDS:_N_NUMBERS])
        )

    def close(self) -> None:
        """Give the memory back."""
        self._numbers.release()
        self._memory.close()
