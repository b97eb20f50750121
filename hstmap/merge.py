"""One file of sources from slices of parts: what a task of the reduce does, and the client itself.

Workers do this, too, so that neither pandas nor pyarrow is imported here. The bytes of a file
follow from its slices and their parts: not from who makes it, nor from how they lie in memory.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple, dataclass, field
from typing import IO, Final

from arro3.core import Array, RecordBatch, RecordBatchReader, Schema, Table
from arro3.io import read_parquet, write_parquet

import hstmap
from hstmap.errors import ConservationError, HstmapError
from hstmap.parquet_footer import sort_metadata
from hstmap.parquet_metadata import column_schema
from hstmap.sky import healpix_29
from hstmap.storage import RequestCounts, StorageOptions, Store, open_store
from hstmap.wfc3.schema import SOURCE_COLUMNS, SUMMARY_COLUMNS, source_columns_of_image

__all__ = ["STAGED_PREFIX", "FileReport", "Slice", "SourcesFile", "merge", "staged_key"]

#: Where files wait until all of them are there.
STAGED_PREFIX: Final = "reduce/"

_DIGEST_LENGTH: Final = 24

#: A column of so many takes 0.5 MB, which a ranged read is worth; twice as many take 100 MB more.
_ROWS_A_GROUP: Final = 131_072
_PARTS_IN_MEMORY: Final = 16
_N_AHEAD: Final = 3


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


@dataclass(frozen=True)
class FileReport:
    """What a worker says of a file of sources that it has written.

    Attributes
    ----------
    key : str
    n_sources, nbytes : int
        Its rows, and its size.
    requests : RequestCounts
        What was asked of the store.
    elapsed_s : float
    """

    key: str
    n_sources: int
    nbytes: int
    requests: RequestCounts
    elapsed_s: float


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


def merge(wanted: SourcesFile) -> FileReport:
    """Write one file of sources.

    Parameters
    ----------
    wanted : SourcesFile

    Returns
    -------
    FileReport

    Raises
    ------
    ConservationError
        If a part does not hold the rows that it says it has. Nothing is written then.
    StorageError
        If a part cannot be read, or the file not be written.
    """
    started = time.perf_counter()
    store = open_store(wanted.out, wanted.out_options)
    with store.writer(wanted.key) as file, ThreadPoolExecutor(_N_AHEAD) as pool:
        sources = _Sources(_Parts(store, wanted.slices, pool))
        _write(file, sources, wanted.metadata)
        nbytes = file.tell()
    return FileReport(
        wanted.key, sources.n_rows, nbytes, store.counts, time.perf_counter() - started
    )


class _Sources:
    """The rows of slices, one slice after another; remembers what went wrong on the way."""

    def __init__(self, parts: _Parts) -> None:
        self._parts = parts
        self.n_rows = 0
        self.error: HstmapError | None = None

    def __iter__(self) -> Iterator[RecordBatch]:
        try:
            for i in range(len(self._parts.slices)):
                for batch in self._parts.rows(i):
                    self.n_rows += batch.num_rows
                    yield batch
        except HstmapError as error:
            self.error = error
            raise


def _write(file: IO[bytes], sources: _Sources, metadata: Mapping[str, str]) -> None:
    """Write rows as a Parquet file."""
    # pyarrow and pandas look for metadata in the schema that Arrow keeps, others in the file.
    schema = column_schema((*SOURCE_COLUMNS, *SUMMARY_COLUMNS)).with_metadata(dict(metadata))
    rows = (_completed(batch, schema) for batch in _in_groups(sources))
    try:
        write_parquet(
            RecordBatchReader.from_batches(schema, rows),
            file,
            compression="zstd(1)",
            # As in parts: measured values do not repeat.
            dictionary_enabled=False,
            column_dictionary_enabled={column.name: True for column in source_columns_of_image()},
            max_row_group_size=_ROWS_A_GROUP,
            created_by="hstmap",
            key_value_metadata=dict(metadata),
        )
    finally:
        # The writer would make a bare Exception of it.
        if sources.error is not None:
            raise sources.error
    sort_metadata(file, metadata)


def _completed(batch: RecordBatch, schema: Schema) -> RecordBatch:
    """Put columns in their order, and append the one that only the summary has."""
    (column,) = SUMMARY_COLUMNS
    index = healpix_29(batch["ra"].to_numpy(), batch["dec"].to_numpy())
    of_parts = batch.select([column.name for column in SOURCE_COLUMNS])
    return of_parts.append_column(column.name, Array.from_numpy(index)).with_schema(schema)


def _in_groups(batches: Iterable[RecordBatch]) -> Iterator[RecordBatch]:
    """Join and cut batches into whole row groups, however they come; the rest comes last."""
    waiting: list[RecordBatch] = []
    n_waiting = 0
    for batch in batches:
        waiting.append(batch)
        n_waiting += batch.num_rows
        while n_waiting >= _ROWS_A_GROUP:
            together = _joined(waiting)
            yield together.slice(0, _ROWS_A_GROUP)
            waiting = [together.slice(_ROWS_A_GROUP)]
            n_waiting -= _ROWS_A_GROUP
    if n_waiting:
        yield _joined(waiting)


def _joined(batches: Sequence[RecordBatch]) -> RecordBatch:
    if len(batches) == 1:
        return batches[0]
    (batch,) = Table.from_batches(batches).combine_chunks().to_batches()
    return batch


class _Parts:
    """The sources of parts: the next ones are under way, the last few stay in memory."""

    def __init__(self, store: Store, slices: Sequence[Slice], pool: ThreadPoolExecutor) -> None:
        self.slices = slices
        self._store = store
        self._pool = pool
        self._tables: OrderedDict[str, Future[Table]] = OrderedDict()
        self._n_uses = Counter(item.part for item in slices)

    def begin(self, part: str) -> None:
        """See to it that a part will be there soon."""
        if part not in self._tables:
            self._tables[part] = self._pool.submit(self._read, part)
        self._tables.move_to_end(part)
        while len(self._tables) > _PARTS_IN_MEMORY:
            self._tables.popitem(last=False)

    def rows(self, i: int) -> list[RecordBatch]:
        """Give the rows of a slice; a part that no further one wants is let go."""
        wanted = self.slices[i]
        for item in reversed(self.slices[i : i + 1 + _N_AHEAD]):
            self.begin(item.part)
        table = self._tables[wanted.part].result()
        self._n_uses[wanted.part] -= 1
        if not self._n_uses[wanted.part]:
            del self._tables[wanted.part]
        if table.num_rows < wanted.stop:
            raise ConservationError(
                f"{self._store.url}/{wanted.part} says that it holds {wanted.stop} sources and "
                f"holds {table.num_rows}: delete it and run the same map again"
            )
        return table.slice(wanted.start, wanted.n_sources).to_batches()

    def _read(self, part: str) -> Table:
        return read_parquet(self._store.get(part), batch_size=_ROWS_A_GROUP).read_all()
