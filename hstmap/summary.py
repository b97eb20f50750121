"""The reduce: parts become the summary, and every row is accounted for.

``sources.parquet`` holds every source, ``images.parquet`` one row for each image of the manifest,
``coverage.moc.fits`` the sky that they cover. The tables are in the manifest's order whatever the
order in which the parts were written, so that two runs over the same images give the same bytes
of sources.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from hstmap.archive.manifest import Manifest
from hstmap.errors import ConservationError, UsageError
from hstmap.parquet_metadata import ARROW_TYPES, arrow_schema
from hstmap.parts import PlacedImage, placed_images
from hstmap.run_record import MANIFEST_KEY, read_run_record
from hstmap.sky import coverage_moc, healpix_29
from hstmap.storage import StorageOptions, Store, open_store
from hstmap.wfc3.schema import (
    IMAGE_COLUMNS,
    SOURCE_COLUMNS,
    SUMMARY_COLUMNS,
    Column,
    source_columns_of_image,
)

__all__ = ["COVERAGE_FILE", "IMAGES_FILE", "SOURCES_FILE", "Summary", "reduce_run"]

SOURCES_FILE: Final = "sources.parquet"
IMAGES_FILE: Final = "images.parquet"
COVERAGE_FILE: Final = "coverage.moc.fits"

_ROWS_A_GROUP: Final = 262_144
_PARTS_IN_MEMORY: Final = 16
_N_AHEAD: Final = 4
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
    n_sources = _write_sources(store, images)
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


class _PartTables:
    """The sources of parts: the next ones are under way, the last few stay in memory."""

    def __init__(self, store: Store, pool: ThreadPoolExecutor) -> None:
        self._store = store
        self._pool = pool
        self._tables: OrderedDict[str, Future[pa.Table]] = OrderedDict()

    def begin(self, part: str) -> None:
        """See to it that a part will be there soon."""
        if part not in self._tables:
            self._tables[part] = self._pool.submit(self._read, part)
        self._tables.move_to_end(part)
        while len(self._tables) > _PARTS_IN_MEMORY:
            self._tables.popitem(last=False)

    def __getitem__(self, part: str) -> pa.Table:
        return self._tables[part].result()

    def _read(self, part: str) -> pa.Table:
        return pq.read_table(pa.BufferReader(self._store.get(part)))


def _source_tables(store: Store, images: list[PlacedImage]) -> Iterator[pa.Table]:
    """Yield the sources of images in their order, in as large pieces as lie together."""
    groups = [(part, list(group)) for part, group in groupby(images, lambda image: image.part)]
    with ThreadPoolExecutor(_N_AHEAD) as pool:
        tables = _PartTables(store, pool)
        for i, (part, group) in enumerate(groups):
            for soon, _ in reversed(groups[i : i + 1 + _N_AHEAD]):
                tables.begin(soon)
            for start, stop in _pieces(group):
                table = tables[part].slice(start, stop - start)
                if len(table) != stop - start:
                    raise ConservationError(
                        f"{store.url}/{part} says that it holds {stop} sources and holds "
                        f"{len(tables[part])}: delete it and run the same map again"
                    )
                yield table


def _pieces(images: list[PlacedImage]) -> Iterator[tuple[int, int]]:
    """Join the rows of images of one part that follow each other."""
    pieces: list[list[int]] = []
    for image in images:
        if pieces and pieces[-1][1] == image.start:
            pieces[-1][1] = image.stop
        else:
            pieces.append([image.start, image.stop])
    return ((start, stop) for start, stop in pieces if stop > start)


def _write_sources(store: Store, images: list[PlacedImage]) -> int:
    """Write the table of sources and check that no row was lost on the way."""
    columns = (*SOURCE_COLUMNS, *SUMMARY_COLUMNS)
    schema = arrow_schema(columns, _text_lengths(columns, images))
    expected = sum(image.row["n_sources"] for image in images)
    n_written = 0
    tables = (_with_healpix(table).cast(schema) for table in _source_tables(store, images))
    with (
        store.writer(SOURCES_FILE) as file,
        pq.ParquetWriter(
            file,
            schema,
            compression="zstd",
            # As in parts: measured values do not repeat.
            use_dictionary=[column.name for column in source_columns_of_image()],
        ) as writer,
        ThreadPoolExecutor(1) as encoder,
    ):
        # While one piece is compressed, which takes most of the time, the next is made.
        writing: Future[None] = encoder.submit(lambda: None)
        for table in _in_groups(tables):
            writing.result()
            writing = encoder.submit(_write_groups, writer, table)
            n_written += len(table)
        writing.result()
        if n_written != expected:
            raise ConservationError(
                f"the images count {expected} sources, the summary has {n_written}"
            )
    return n_written


def _with_healpix(table: pa.Table) -> pa.Table:
    """Append the columns that only the summary has."""
    (column,) = SUMMARY_COLUMNS
    index = healpix_29(table["ra"].to_numpy(), table["dec"].to_numpy())
    return table.append_column(column.name, pa.array(index))


def _in_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Cut tables into whole row groups, wherever parts begin and end; the rest comes last."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        n_waiting = sum(map(len, waiting))
        if n_waiting >= _ROWS_A_GROUP:
            together = pa.concat_tables(waiting)
            n = n_waiting - n_waiting % _ROWS_A_GROUP
            yield together.slice(0, n)
            waiting = [together.slice(n)]
    if waiting:
        yield pa.concat_tables(waiting)


def _write_groups(writer: pq.ParquetWriter, table: pa.Table) -> None:
    writer.write_table(table.combine_chunks(), row_group_size=_ROWS_A_GROUP)


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
        columns.append(pa.array(values, type=ARROW_TYPES[column.dtype]))
    with store.writer(IMAGES_FILE) as file:
        pq.write_table(pa.Table.from_arrays(columns, schema=schema), file, compression="zstd")
