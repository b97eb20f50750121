"""What the reduce is to do: how many files sources fill, and which rows of which parts each has.

The plan follows from the images and their parts alone, so that whoever makes it makes the same.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from itertools import groupby
from typing import Final

import hstmap
from hstmap.parts import PlacedImage
from hstmap.storage import StorageOptions

__all__ = [
    "MOST_ROWS_OF_ONE_FILE",
    "ROWS_A_FILE",
    "STAGED_PREFIX",
    "Slice",
    "SourcesFile",
    "n_files_of",
    "slices_of_files",
    "staged_key",
]

#: What fits into memory where people work: 10 million sources are 2.1 GB there, 1.6 GB on disk.
MOST_ROWS_OF_ONE_FILE: Final = 10_000_000
#: Of larger summaries, a file: 0.3 GB, for which a worker of Lambda has room.
ROWS_A_FILE: Final = 2_000_000
#: Where files wait until all of them are there.
STAGED_PREFIX: Final = "reduce/"

_DIGEST_LENGTH: Final = 24


@dataclass(frozen=True)
class Slice:
    """Rows of a part that follow each other.

    Attributes
    ----------
    part : str
        Key of the part.
    start, stop : int
    """

    part: str
    start: int
    stop: int

    @property
    def n_sources(self) -> int:
        """Number of rows."""
        return self.stop - self.start


@dataclass(frozen=True)
class SourcesFile:
    """A task of the reduce: one file of sources.

    Attributes
    ----------
    out : str
        URL of the run.
    key : str
        Where the file is to be written.
    slices : tuple of Slice
        What is in it, in its order.
    metadata : mapping of str to str
        Of the file: units and descriptions.
    out_options : StorageOptions
        How to reach the run.
    """

    out: str
    key: str
    slices: tuple[Slice, ...]
    metadata: Mapping[str, str]
    out_options: StorageOptions = field(default_factory=StorageOptions)

    @property
    def n_sources(self) -> int:
        """Number of its rows."""
        return sum(item.n_sources for item in self.slices)


def n_files_of(n_sources: int, rows_a_file: int | None = None) -> int:
    """Say how many files sources fill.

    Parameters
    ----------
    n_sources : int
    rows_a_file : int, optional
        By default one file holds up to `MOST_ROWS_OF_ONE_FILE`, and one of several `ROWS_A_FILE`.

    Returns
    -------
    int
        1 or more.
    """
    if rows_a_file is None:
        rows_a_file = n_sources if n_sources <= MOST_ROWS_OF_ONE_FILE else ROWS_A_FILE
    return max(1, math.ceil(n_sources / max(1, rows_a_file)))


def slices_of_files(images: Sequence[PlacedImage], n_files: int) -> list[tuple[Slice, ...]]:
    """Deal images out to files of about as many sources, in their order.

    Parameters
    ----------
    images : sequence of PlacedImage
    n_files : int
        As many as there should be; there are fewer where single images fill more than one's share.

    Returns
    -------
    list of tuple of Slice
        Of each file, 1 or more. All sources of an image are in one file, which has less than a
        whole image more than its share. Only if no image has sources, a file is empty.
    """
    n_sources = sum(image.stop - image.start for image in images)
    files: dict[int, list[PlacedImage]] = {}
    n_before = 0
    for image in images:
        if image.stop > image.start:
            files.setdefault(n_before * n_files // n_sources, []).append(image)
            n_before += image.stop - image.start
    return [_joined(members) for members in files.values()] or [()]


def _joined(images: Iterable[PlacedImage]) -> tuple[Slice, ...]:
    """Join the rows of images of one part that follow each other."""
    slices: list[Slice] = []
    for part, group in groupby(images, lambda image: image.part):
        for image in group:
            before = slices[-1] if slices else None
            if before is not None and (before.part, before.stop) == (part, image.start):
                slices[-1] = Slice(part, before.start, image.stop)
            else:
                slices.append(Slice(part, image.start, image.stop))
    return tuple(slices)


def staged_key(slices: Sequence[Slice], metadata: Mapping[str, str]) -> str:
    """Name a file by what goes into it: who writes it twice writes the same bytes.

    Parameters
    ----------
    slices : sequence of Slice
    metadata : mapping of str to str

    Returns
    -------
    str
    """
    inputs = json.dumps([[astuple(item) for item in slices], dict(metadata), hstmap.__version__])
    return f"{STAGED_PREFIX}{hashlib.sha256(inputs.encode()).hexdigest()[:_DIGEST_LENGTH]}.parquet"
