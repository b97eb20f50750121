"""The headers of any number of FITS files as one Parquet table: one row for each HDU.

The function of the article of 2018, `astropy.io.fits.info` on Lambda, over the same engine as the
catalogues: batches of files become parts under ``info/``, and the parts one ``info.parquet``. A
call that was interrupted goes on where it was, since a part that is there is not made again.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import hstmap
from hstmap.bag.engine import Engine, Stage, Task, raise_for
from hstmap.errors import ConservationError, StorageError
from hstmap.storage import RequestCounts, StorageOptions, Store, open_store, split_url
from hstmap.wfc3.info import FIRST_NBYTES, INFO_COLUMNS, error_row, hdu_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from hstmap.archive.manifest import Manifest

__all__ = ["InfoBatch", "InfoOptions", "InfoReport", "InfoResult", "run_info", "run_info_batch"]

PART_PREFIX: Final = "info/"
TABLE_KEY: Final = "info.parquet"
_DIGEST_LENGTH: Final = 24


@dataclass(frozen=True)
class InfoOptions:
    """How the headers are read.

    Attributes
    ----------
    keywords : tuple of str
        Header keywords that become columns.
    batch_size : int
        Files a task.
    overwrite : bool
        Whether to read again what parts of an earlier call hold.
    source_options, out_options : StorageOptions
        How to reach files and results.
    on_batch : callable
        Told how many files and rows a batch had when it has ended.
    """

    keywords: tuple[str, ...] = ()
    batch_size: int = 200
    overwrite: bool = False
    source_options: StorageOptions = field(default_factory=StorageOptions)
    out_options: StorageOptions = field(default_factory=StorageOptions)
    on_batch: Callable[[int, int], None] = lambda _n_files, _n_rows: None


@dataclass(frozen=True)
class InfoBatch:
    """A task: the files of one call.

    Attributes
    ----------
    urls : tuple of str
        Where they are.
    keywords : tuple of str
        Header keywords that are wanted.
    out : str
        URL of what is written.
    source_options, out_options : StorageOptions
        How to reach both.
    """

    urls: tuple[str, ...]
    keywords: tuple[str, ...]
    out: str
    source_options: StorageOptions
    out_options: StorageOptions

    @property
    def part_key(self) -> str:
        """Key of the part, made of what decides its content."""
        content = json.dumps([hstmap.__version__, self.keywords, self.urls])
        return (
            f"{PART_PREFIX}{hashlib.sha256(content.encode()).hexdigest()[:_DIGEST_LENGTH]}.parquet"
        )


@dataclass(frozen=True)
class InfoReport:
    """What a worker says of a batch.

    Attributes
    ----------
    n_files, n_rows, n_errors : int
        Files read, HDUs found, files of which something is wrong.
    nbytes_files : int
        Bytes of the files, read or not.
    requests : RequestCounts
        What was asked of the files' store.
    """

    n_files: int
    n_rows: int
    n_errors: int
    nbytes_files: int
    requests: RequestCounts


@dataclass(frozen=True)
class InfoResult:
    """What a call has done.

    Attributes
    ----------
    url : str
        The table.
    n_files, n_rows, n_errors : int
        Files in it, its rows, rows that tell of an error.
    n_read : int
        Files that this call read; parts of an earlier one hold the others.
    nbytes_files : int
        Bytes of the files that were read.
    requests : RequestCounts
        What was asked for them.
    """

    url: str
    n_files: int
    n_rows: int
    n_errors: int
    n_read: int
    nbytes_files: int
    requests: RequestCounts


def run_info(
    manifest: Manifest, out: str, engine: Engine, options: InfoOptions | None = None
) -> InfoResult:
    """Read the headers of a manifest's files into ``OUT/info.parquet``.

    Parameters
    ----------
    manifest : Manifest
        The files; all of them, for use or not.
    out : str
        Folder or ``s3://bucket/prefix``.
    engine : Engine
        What the batches run on.
    options : InfoOptions, optional
        How.

    Raises
    ------
    TaskError
        If a batch fails for good. What the others wrote stays.
    ConservationError
        If a file is not in the table.
    """
    options = options or InfoOptions()
    store = open_store(out, options.out_options)
    urls = manifest.urls
    batches = [
        InfoBatch(
            tuple(urls[start : start + options.batch_size]),
            options.keywords,
            store.url,
            options.source_options,
            options.out_options,
        )
        for start in range(0, len(urls), options.batch_size)
    ]
    there = set() if options.overwrite else {info.key for info in store.list(PART_PREFIX)}
    todo = [batch for batch in batches if batch.part_key not in there]
    tasks = [Task(batch.part_key, batch) for batch in todo]
    reports: list[InfoReport] = []
    for attempt in engine.run(Stage("info", run_info_batch, tasks)):
        if attempt.final:
            raise_for(attempt)
            reports.append(attempt.value)
            options.on_batch(attempt.value.n_files, attempt.value.n_rows)
    table = _merged(store, [batch.part_key for batch in batches], options.keywords)
    _check_conserved(urls, table)
    _write(store, table)
    return InfoResult(
        url=f"{store.url}/{TABLE_KEY}",
        n_files=len(urls),
        n_rows=table.num_rows,
        n_errors=sum(bool(error) for error in table["error"].to_pylist()),
        n_read=sum(report.n_files for report in reports),
        nbytes_files=sum(report.nbytes_files for report in reports),
        requests=sum((report.requests for report in reports), RequestCounts()),
    )


def run_info_batch(batch: InfoBatch) -> InfoReport:
    """Read the headers of a batch's files and write its part. Runs on a worker.

    Parameters
    ----------
    batch : InfoBatch
        The files.
    """
    rows: list[dict[str, Any]] = []
    requests = RequestCounts()
    stores: dict[str, Store] = {}
    nbytes_files = 0
    n_errors = 0
    for url in batch.urls:
        root, key = split_url(url)
        if root not in stores:
            stores[root] = open_store(root, batch.source_options)
        try:
            with stores[root].open_ranged(key, FIRST_NBYTES) as file:
                found = hdu_rows(cast("BinaryIO", file), url, batch.keywords)
                nbytes_files += file.info.nbytes
        except StorageError as error:
            found = [error_row(url, error.message, len(batch.keywords))]
        rows += found
        n_errors += bool(found[-1]["error"])
    for store in stores.values():
        requests += store.counts
    open_store(batch.out, batch.out_options).put(batch.part_key, _part(rows))
    return InfoReport(len(batch.urls), len(rows), n_errors, nbytes_files, requests)


def _part(rows: Sequence[dict[str, Any]]) -> bytes:
    """Return rows as Parquet; keywords, whose types differ, as JSON."""
    from arro3.core import Array, DataType, Table
    from arro3.io import write_parquet

    types = {"str": DataType.string(), "i4": DataType.int32(), "i8": DataType.int64()}
    columns: dict[str, Any] = {
        name: Array([row[name] for row in rows], type=types[kind])
        for name, kind in INFO_COLUMNS.items()
    }
    values = [json.dumps(row["keywords"]) for row in rows]
    columns["keywords"] = Array(values, type=DataType.string())
    buffer = io.BytesIO()
    write_parquet(Table.from_pydict(columns), buffer, compression="zstd(3)", created_by="hstmap")
    return buffer.getvalue()


def _merged(store: Store, keys: Sequence[str], keywords: Sequence[str]) -> pa.Table:
    """Return all parts as one table, with a column for each keyword."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # The part's name is made of the files in it: a repeat of the same files is the same part.
    parts = [pq.read_table(pa.BufferReader(store.get(key))) for key in dict.fromkeys(keys)]
    table = pa.concat_tables(parts)
    values = [json.loads(text) for text in table["keywords"].to_pylist()]
    table = table.drop_columns(["keywords"])
    for number, keyword in enumerate(keywords):
        table = table.append_column(keyword, _keyword_column([row[number] for row in values]))
    return table


def _keyword_column(values: list[Any]) -> pa.Array:
    """Return values as truth, whole numbers, numbers or text, whichever holds them all."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        values = [None if value is None else float(value) for value in values]
    elif len(kinds) > 1:
        values = [None if value is None else str(value) for value in values]
    try:
        return pa.array(values)
    except (OverflowError, pa.ArrowInvalid):
        # A whole number of more than 64 bits: a header may hold any.
        return pa.array([None if value is None else str(value) for value in values])


def _check_conserved(urls: Sequence[str], table: pa.Table) -> None:
    missing = set(urls) - set(table["file"].to_pylist())
    if missing:
        raise ConservationError(
            f"{len(missing)} of {len(urls)} files are not in the table, {min(missing)} first: "
            "run again with --overwrite"
        )


def _write(store: Store, table: pa.Table) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    store.put(TABLE_KEY, sink.getvalue().to_pybytes())
