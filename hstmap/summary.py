"""The reduce: parts become the summary, and every row is accounted for.

``sources.parquet`` holds every source, ``images.parquet`` one row for each image of the manifest,
``coverage.moc.fits`` the sky that they cover. Of a large run, the sources are a folder of files,
``sources/000001.parquet`` and so on, each made by a task: a reduce is a map, and no row passes
through the client. The tables are in the manifest's order whatever the order in which the parts
were written, so that two runs over the same images give the same bytes of sources.

Tasks write files where no reader looks, under names made of what goes into them. When all are
there and whole, they are brought to their place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from hstmap.archive.arrow_values import array_of
from hstmap.bag.engine import Attempt, Engine, InProcessEngine, Stage, Task
from hstmap.errors import ConservationError, EngineError, StoppedError, StorageError
from hstmap.merge import STAGED_PREFIX, SourcesFile, merge, staged_key
from hstmap.parquet_metadata import arrow_schema
from hstmap.parts import PlacedImage
from hstmap.reduce_plan import ReducePlan, plan_reduce, text_lengths
from hstmap.sky import coverage_moc
from hstmap.storage import ObjectInfo, StorageOptions, Store
from hstmap.storage_move import move, remove_empty_folder
from hstmap.summary_files import (
    COVERAGE_FILE,
    IMAGES_FILE,
    INCOMPLETE_FILE,
    SOURCES_FILE,
    SOURCES_PREFIX,
    StoredSources,
    sources_key,
    sources_metadata,
)
from hstmap.wfc3.schema import IMAGE_COLUMNS

__all__ = ["REDUCE_MODULES", "Summary", "reduce_run", "run_reduce"]

#: What tasks of a reduce import: engines for them had best preload it.
REDUCE_MODULES: Final = ("hstmap.merge", "astropy.coordinates", "cdshealpix.nested")

_INCOMPLETE: Final = b"The files of this folder are not all there: run hstmap reduce again.\n"

#: Each waits while S3 copies a file.
_N_CONNECTIONS: Final = 64


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
        Where the tables are; that of the sources is a folder if they are several files.
    n_files : int
        How many files have the sources.
    """

    n_images: int
    n_sources: int
    outcomes: dict[str, int]
    reasons: dict[tuple[str, str], int]
    sources_url: str
    images_url: str
    n_files: int


def reduce_run(
    out: str, options: StorageOptions | None = None, rows_a_file: int | None = None
) -> Summary:
    """Merge the parts of a run into its summary, here.

    Parameters
    ----------
    out : str
        URL of the run.
    options : StorageOptions, optional
        How to reach it.
    rows_a_file : int, optional
        As for `plan_reduce`.

    Returns
    -------
    Summary

    Raises
    ------
    UsageError, ConservationError
        As `plan_reduce` and `run_reduce` do.
    """
    with InProcessEngine() as engine:
        return run_reduce(plan_reduce(out, options, rows_a_file), engine)


def run_reduce(plan: ReducePlan, engine: Engine) -> Summary:
    """Do what is planned: afterwards the summary is whole, or there is none and an error.

    Parameters
    ----------
    plan : ReducePlan
        From `plan_reduce`.
    engine : Engine
        What tasks run on, if there are any.

    Returns
    -------
    Summary

    Raises
    ------
    ConservationError
        If rows of sources went missing; the message names the difference.
    StoppedError
        If the engine may send no more calls. What is written is kept for the next reduce.
    EngineError
        If a task failed for good. What others have written is kept.
    """
    images, store = plan.images, plan.store
    # Nothing of what the images say waits for the files: it is made while tasks write them.
    with ThreadPoolExecutor(1, thread_name_prefix="images") as pool:
        coverage = pool.submit(_coverage, images)
        table = pool.submit(_images_table, images)
        if plan.is_folder:
            _run_stage(plan, engine)
            files = _bring_files(plan)
        else:
            files = _write_single(plan)
        if content := coverage.result():
            store.put(COVERAGE_FILE, content)
        _write_images(store, table.result(), files)
    _delete(store, store.list(STAGED_PREFIX))
    remove_empty_folder(store, STAGED_PREFIX)
    outcomes = Counter(image.row["outcome"] for image in images)
    reasons = Counter(
        (image.row["outcome"], image.row["reason"]) for image in images if image.row["reason"]
    )
    place = SOURCES_PREFIX.rstrip("/") if plan.is_folder else SOURCES_FILE
    return Summary(
        n_images=len(images),
        n_sources=sum(file.n_sources for file in files),
        outcomes=dict(outcomes),
        reasons=dict(reasons),
        sources_url=f"{store.url}/{place}",
        images_url=f"{store.url}/{IMAGES_FILE}",
        n_files=len(files),
    )


def _write_single(plan: ReducePlan) -> list[StoredSources]:
    """Write the one file of sources; a reader sees the old one until the new one is whole."""
    (wanted,) = plan.files
    report = merge(wanted)
    _check_rows(wanted.key, wanted.n_sources, report.n_sources)
    if leftovers := list(plan.store.list(SOURCES_PREFIX)):
        plan.store.delete(IMAGES_FILE)
        _delete(plan.store, leftovers)
        remove_empty_folder(plan.store, SOURCES_PREFIX)
    made_of = staged_key(wanted.slices, wanted.metadata)
    return [StoredSources(wanted.key, made_of, report.n_sources, report.nbytes)]


def _run_stage(plan: ReducePlan, engine: Engine) -> None:
    """Let tasks write the files that are still to be written."""
    left = {file.key: file for file in plan.todo}
    failed: list[Attempt] = []
    if not left:
        return
    tasks = [Task(file.key, file) for file in plan.todo]
    for attempt in engine.run(Stage("reduce", merge, tasks)):
        if not attempt.final:
            continue
        wanted = left.pop(attempt.task_key)
        if attempt.status == "ok":
            _check_rows(wanted.key, wanted.n_sources, attempt.value.n_sources)
        else:
            failed.append(attempt)
    kept = f"what is written is kept: run `hstmap reduce {plan.store.url}` again to go on"
    if failed:
        raise _failure(failed, len(plan.todo), kept)
    if left:
        raise StoppedError(
            f"{len(left)} of {len(plan.files)} files of sources are left, and no more calls may "
            f"be sent; {kept}"
        )


def _failure(failed: Sequence[Attempt], n_files: int, kept: str) -> Exception:
    """Make the error that says which files could not be written, and why."""
    error = failed[0].error
    what = failed[0].status if error is None else f"{error.type_name}: {error.message}"
    if error is not None and error.type_name.endswith(ConservationError.__name__):
        return ConservationError(error.message)
    return EngineError(
        f"{len(failed)} of {n_files} files of sources could not be written, for example "
        f"{failed[0].task_key} in {failed[0].number} attempts: {what}; {kept}"
    )


def _bring_files(plan: ReducePlan) -> list[StoredSources]:
    """Bring files to their place when all are whole, and delete what was in it."""
    store, staged = plan.store, {info.key: info for info in plan.store.list(STAGED_PREFIX)}

    def checked(file: SourcesFile) -> int:
        if file.key in plan.kept:
            return plan.kept[file.key].nbytes
        info = staged[file.key]
        _check_rows(file.key, file.n_sources, _n_rows(store, info))
        return info.nbytes

    with ThreadPoolExecutor(_N_CONNECTIONS) as pool:
        sizes = list(pool.map(checked, plan.files))
        files = [
            StoredSources(sources_key(number), file.key, file.n_sources, nbytes)
            for number, (file, nbytes) in enumerate(zip(plan.files, sizes, strict=True), start=1)
        ]
        arriving = [file for file in files if file.made_of not in plan.kept]
        staying = {file.key for file in files} - {file.key for file in arriving} | {INCOMPLETE_FILE}
        # From here until the table of images is written there is no summary.
        store.put(INCOMPLETE_FILE, _INCOMPLETE)
        store.delete(IMAGES_FILE)
        store.delete(SOURCES_FILE)
        _delete(store, (x for x in store.list(SOURCES_PREFIX) if x.key not in staying))
        for _ in pool.map(lambda file: move(store, file.made_of, file.key), arriving):
            pass
        store.delete(INCOMPLETE_FILE)
    return files


def _n_rows(store: Store, info: ObjectInfo) -> int:
    """Read from a file's own end how many rows it has."""
    with store.open_listed(info) as file:
        try:
            n_rows: int = pq.read_metadata(file).num_rows
        except (OSError, pa.ArrowException) as error:
            raise StorageError(
                file.name, f"not a Parquet file ({error}); delete it and reduce again"
            ) from error
    return n_rows


def _check_rows(key: str, expected: int, found: int) -> None:
    if found != expected:
        raise ConservationError(f"the images count {expected} sources, {key} has {found}")


def _delete(store: Store, objects: Iterable[ObjectInfo]) -> None:
    for info in list(objects):
        store.delete(info.key)


def _coverage(images: Iterable[PlacedImage]) -> bytes | None:
    """Unite the outlines of images."""
    return coverage_moc(image.row["footprint"] for image in images if image.row["footprint"])


def _images_table(images: Sequence[PlacedImage]) -> pa.Table:
    """Make the table of images."""
    schema = arrow_schema(IMAGE_COLUMNS, text_lengths(IMAGE_COLUMNS, images))
    columns = []
    for column in IMAGE_COLUMNS:
        values = [image.row[column.name] for image in images]
        if column.dtype in ("f4", "f8"):
            values = [float("nan") if value is None else value for value in values]
        columns.append(array_of(values).cast(schema.field(column.name).type))
    return pa.Table.from_arrays(columns, schema=schema)


def _write_images(store: Store, table: pa.Table, files: list[StoredSources]) -> None:
    """Write the table of images, which says where the sources are."""
    told = table.replace_schema_metadata({**table.schema.metadata, **sources_metadata(files)})
    with store.writer(IMAGES_FILE) as file:
        pq.write_table(told, file, compression="zstd")
