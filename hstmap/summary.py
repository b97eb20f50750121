"""The reduce: parts become the summary, and every row is accounted for.

``sources.parquet`` holds every source, ``images.parquet`` one row for each image of the manifest,
``coverage.moc.fits`` the sky that they cover. The tables are in the manifest's order whatever the
order in which the parts were written, so that two runs over the same images give the same bytes
of sources.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from hstmap.archive.manifest import Manifest
from hstmap.errors import ConservationError, UsageError
from hstmap.merge import merge
from hstmap.parquet_metadata import arrow_schema, table_metadata
from hstmap.parts import PlacedImage, placed_images
from hstmap.reduce_plan import SourcesFile, slices_of_files
from hstmap.run_record import MANIFEST_KEY, read_run_record
from hstmap.sky import coverage_moc
from hstmap.storage import StorageOptions, Store, open_store
from hstmap.wfc3.schema import (
    IMAGE_COLUMNS,
    SOURCE_COLUMNS,
    SUMMARY_COLUMNS,
    Column,
)

__all__ = ["COVERAGE_FILE", "IMAGES_FILE", "SOURCES_FILE", "Summary", "reduce_run"]

SOURCES_FILE: Final = "sources.parquet"
IMAGES_FILE: Final = "images.parquet"
COVERAGE_FILE: Final = "coverage.moc.fits"

_NAMED_IN_MESSAGES: Final = 3


@dataclass(frozen=True)
class Summary:
    """What the reduce wrote.

    Attributes
    ----------
    n_images, n_sources : int
        Rows of the two tables.
    outcomes : dict of str to int
        Number of images by outcome; their sum is `n_images`.
    reasons : dict of (str, str) to int
        Number of images by outcome and reason, of those that have a reason.
    sources_url, images_url : str
        Where the tables are.
    """

    n_images: int
    n_sources: int
    outcomes: dict[str, int]
    reasons: dict[tuple[str, str], int]
    sources_url: str
    images_url: str


def reduce_run(out: str, options: StorageOptions | None = None) -> Summary:
    """Merge the parts of a run into its summary.

    Parameters
    ----------
    out : str
        URL of the run.
    options : StorageOptions, optional
        How to reach it.

    Returns
    -------
    Summary

    Raises
    ------
    UsageError
        If there is no run at `out`.
    ConservationError
        If an image of the manifest has no outcome, or rows of sources went missing; the message
        names the difference. Nothing is written then.
    """
    store = open_store(out, options)
    names = _manifest_rootnames(store)
    placed = placed_images(store)
    absent = [name for name in names if name not in placed]
    if absent:
        raise ConservationError(
            f"{len(absent)} of {len(names)} images have no outcome yet, for example "
            f"{', '.join(absent[:_NAMED_IN_MESSAGES])}: run the same map again to do them"
        )
    images = [placed[name] for name in names]
    n_sources = _write_sources(store, images, options or StorageOptions())
    _write_images(store, images)
    coverage = coverage_moc(image.row["footprint"] for image in images if image.row["footprint"])
    if coverage is not None:
        store.put(COVERAGE_FILE, coverage)
    outcomes = Counter(image.row["outcome"] for image in images)
    reasons = Counter(
        (image.row["outcome"], image.row["reason"]) for image in images if image.row["reason"]
    )
    return Summary(
        n_images=len(images),
        n_sources=n_sources,
        outcomes=dict(outcomes),
        reasons=dict(reasons),
        sources_url=f"{store.url}/{SOURCES_FILE}",
        images_url=f"{store.url}/{IMAGES_FILE}",
    )


def _manifest_rootnames(store: Store) -> list[str]:
    """Read which images the run is of."""
    if read_run_record(store) is None:
        raise UsageError(
            f"there is no run at {store.url}; "
            "name the folder or prefix that was given to map as --out"
        )
    manifest = Manifest.read(f"{store.url}/{MANIFEST_KEY}")
    names: list[str] = manifest.table["rootname"].to_pylist()
    return names


def _write_sources(store: Store, images: list[PlacedImage], options: StorageOptions) -> int:
    """Write the table of sources and check that no row was lost on the way."""
    columns = (*SOURCE_COLUMNS, *SUMMARY_COLUMNS)
    metadata = table_metadata(columns, _text_lengths(columns, images))
    (slices,) = slices_of_files(images, 1)
    report = merge(SourcesFile(store.url, SOURCES_FILE, slices, metadata, options))
    expected = sum(image.row["n_sources"] for image in images)
    if report.n_sources != expected:
        raise ConservationError(
            f"the images count {expected} sources, the summary has {report.n_sources}"
        )
    return report.n_sources


def _text_lengths(columns: Iterable[Column], images: Iterable[PlacedImage]) -> dict[str, int]:
    """Find the longest text of each column of texts, which all are those of images."""
    names = [column.name for column in columns if column.dtype == "str"]
    rows = [image.row for image in images]
    return {name: max((len(row[name].encode()) for row in rows), default=0) for name in names}


def _write_images(store: Store, images: list[PlacedImage]) -> None:
    """Write the table of images."""
    schema = arrow_schema(IMAGE_COLUMNS, _text_lengths(IMAGE_COLUMNS, images))
    columns = []
    for column in IMAGE_COLUMNS:
        values = [image.row[column.name] for image in images]
        if column.dtype in ("f4", "f8"):
            values = [float("nan") if value is None else value for value in values]
        columns.append(pa.array(values, type=schema.field(column.name).type))
    with store.writer(IMAGES_FILE) as file:
        pq.write_table(pa.Table.from_arrays(columns, schema=schema), file, compression="zstd")
