"""The files of a summary: what they are named, and which of them belong together.

The sources of a run are one file, or a folder of files that are read as one table. Which it is,
and which files, stands in the metadata of ``images.parquet``. That is written last and deleted
first, so that where it is, all that it names is there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from hstmap.errors import MissingObjectError, UsageError

if TYPE_CHECKING:
    from hstmap.storage import Store

__all__ = [
    "COVERAGE_FILE",
    "IMAGES_FILE",
    "INCOMPLETE_FILE",
    "MOST_ROWS_OF_ONE_FILE",
    "ROWS_A_FILE",
    "SOURCES_FILE",
    "SOURCES_PREFIX",
    "StoredSources",
    "files_of_sources",
    "n_files_of",
    "open_images",
    "open_sources",
    "sources_key",
    "sources_metadata",
]

SOURCES_FILE: Final = "sources.parquet"
SOURCES_PREFIX: Final = "sources/"
IMAGES_FILE: Final = "images.parquet"
COVERAGE_FILE: Final = "coverage.moc.fits"

#: What fits into memory where people work: 10 million sources are 2.1 GB there, 1.6 GB on disk.
MOST_ROWS_OF_ONE_FILE: Final = 10_000_000
#: Of larger summaries, a file: 0.17 GB, which a worker writes in some seconds. It is also the most
#: that a partition of a HATS catalogue has by default.
ROWS_A_FILE: Final = 1_000_000

#: In the folder while files of it are not all there. Whoever reads it as one table fails by that,
#: and is shown this name: pandas, pyarrow, polars and DuckDB know nothing of ``images.parquet``.
INCOMPLETE_FILE: Final = f"{SOURCES_PREFIX}000000_incomplete_reduce_again.parquet"

_METADATA_KEY: Final = "hstmap.sources"


@dataclass(frozen=True)
class StoredSources:
    """One file of a summary's sources.

    Attributes
    ----------
    key : str
    made_of : str
        A name of what went into it: who has the same has the same bytes.
    n_sources, nbytes : int
        Its rows, and its size.
    """

    key: str
    made_of: str
    n_sources: int
    nbytes: int


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


def sources_key(number: int) -> str:
    """Name one of several files of sources; the names sort as the numbers do.

    Parameters
    ----------
    number : int
        From 1.

    Returns
    -------
    str
    """
    return f"{SOURCES_PREFIX}{number:06d}.parquet"


def sources_metadata(files: list[StoredSources]) -> dict[str, str]:
    """Write for the metadata of the images which files have their sources.

    Parameters
    ----------
    files : list of StoredSources
        In the order of their rows.

    Returns
    -------
    dict of str to str
    """
    return {_METADATA_KEY: json.dumps([asdict(file) for file in files])}


@contextmanager
def open_images(store: Store) -> Iterator[Any]:
    """Open the table of a summary's images.

    Parameters
    ----------
    store : Store
        The run's.

    Yields
    ------
    pyarrow.parquet.ParquetFile

    Raises
    ------
    UsageError
        If the run has no summary.
    """
    import pyarrow.parquet as pq

    try:
        # The footer, at its end, is what is read first.
        opened = store.open_ranged(IMAGES_FILE, 1)
    except MissingObjectError as error:
        raise UsageError(
            f"the run at {store.url} has no summary yet: run `hstmap reduce {store.url}` first, "
            "or name images with --image to have their sources"
        ) from error
    with opened, pq.ParquetFile(opened, pre_buffer=True) as file:
        yield file


def files_of_sources(store: Store, images: Any) -> tuple[StoredSources, ...]:
    """Read which files have the sources of a summary.

    Parameters
    ----------
    store : Store
        The run's.
    images : pyarrow.parquet.ParquetFile
        From `open_images`.

    Returns
    -------
    tuple of StoredSources
        In the order of their rows, which is that of the images.

    Raises
    ------
    UsageError
        If the table does not say it: something else has written it.
    """
    told = (images.metadata.metadata or {}).get(_METADATA_KEY.encode())
    if told is None:
        raise UsageError(
            f"{store.url}/{IMAGES_FILE} does not say which files have its sources: "
            f"run `hstmap reduce {store.url}` again"
        )
    return tuple(StoredSources(**record) for record in json.loads(told))


@contextmanager
def open_sources(store: Store, told: StoredSources) -> Iterator[Any]:
    """Open a file of a summary's sources.

    Parameters
    ----------
    store : Store
        The run's.
    told : StoredSources
        From `files_of_sources`.

    Yields
    ------
    pyarrow.parquet.ParquetFile

    Raises
    ------
    UsageError
        If the file is not there, or is not the one that the images were written with.
    """
    import pyarrow.parquet as pq

    again = f"run `hstmap reduce {store.url}` again"
    try:
        opened = store.open_ranged(told.key, 1)
    except MissingObjectError as error:
        raise UsageError(
            f"{error.key}, of which {IMAGES_FILE} says that it has {told.n_sources} sources, "
            f"is not there: {again}"
        ) from error
    with opened, pq.ParquetFile(opened, pre_buffer=True) as file:
        found = (file.metadata.num_rows, opened.info.nbytes)
        if found != (told.n_sources, told.nbytes):
            raise UsageError(
                f"{store.url}/{told.key} has {found[0]} sources in {found[1]} bytes, and "
                f"{IMAGES_FILE} says {told.n_sources} in {told.nbytes}: they are of two runs of "
                f"`hstmap reduce`; {again}"
            )
        yield file
