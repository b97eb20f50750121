"""The hallway where the rooms meet: a manifest becomes batches, batches become parts.

A run lives under one URL::

    run.json            parameters and versions: a run goes on only with the same
    manifest.parquet    the images, in the order of the summary
    plan.json           what was about to be done, before it was
    parts/*.parquet     one a task: its sources, and the rows of its images
    catalogs/*.fits     one an image, or one a task with a table an image
    sources.parquet     the summary: every source, of a large run in files of a folder, sources/
    images.parquet      the summary: every image, and which files have the sources
    reduce/*.parquet    files of sources that wait for the others

The parts are the truth. Going on is a set difference: images of the manifest that no part holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from hstmap.bag.engine import Attempt, Engine, Stage, Task
from hstmap.batch import (
    CATALOGS,
    Batch,
    Catalogs,
    ImageKey,
    RunParameters,
    do_batch,
    image_row,
    part_key,
)
from hstmap.errors import UsageError
from hstmap.run_record import begin_run, check_same_run, delete_run, done_images
from hstmap.storage import StorageOptions, Store, open_store
from hstmap.tally import MapResult, Tally
from hstmap.wfc3.schema import FAILED_OUTCOMES

if TYPE_CHECKING:
    from hstmap.archive.manifest import Manifest

__all__ = [
    "BATCH_MODULES",
    "MapResult",
    "RunOptions",
    "RunPlan",
    "plan_run",
    "run_map",
]

#: What doing batches imports: engines for them had best preload it.
BATCH_MODULES: Final = ("hstmap.worker", "arro3.core", "arro3.io")

_LARGEST_BATCH: Final = 100
_BATCHES_A_WORKER: Final = 8


@dataclass(frozen=True)
class RunOptions:
    """How a run is made; nothing here changes a number of its catalogues.

    Attributes
    ----------
    batch_size : int, optional
        Images a task; by default so many that each worker gets several tasks, 100 at most.
    n_workers : int, optional
        Tasks that run at a time, where the engine lets that be chosen.
    catalogs : {"image", "batch", "none"}
        Whether each image gets a FITS file, each task one with a table for each of its images, or
        none do. A file an image is what most programs expect; on S3 its PUT costs more than
        measuring the image.
    overwrite : bool
        Whether to start afresh, and delete what an earlier run left.
    retry_failed : bool
        Whether to do images again that failed, were missing or forbidden.
    debug : bool
        Whether tracebacks go into the notes of images that failed.
    rows_a_file : int, optional
        About how many sources a file of the summary may have.
    source_options, out_options : StorageOptions
        How to reach images and results.
    """

    batch_size: int | None = None
    n_workers: int | None = None
    catalogs: Catalogs = "image"
    overwrite: bool = False
    retry_failed: bool = False
    debug: bool = False
    rows_a_file: int | None = None
    source_options: StorageOptions = field(default_factory=StorageOptions)
    out_options: StorageOptions = field(default_factory=StorageOptions)

    def __post_init__(self) -> None:
        if self.catalogs not in CATALOGS:
            raise UsageError(f"catalogs is {self.catalogs!r}; give one of {', '.join(CATALOGS)}")


@dataclass(frozen=True)
class RunPlan:
    """What a run is about to do.

    Attributes
    ----------
    out : str
        URL of the run.
    parameters : RunParameters
        How sources are found.
    batches : tuple of Batch
        What is still to be done.
    unused : tuple of dict
        Rows of images that the manifest says not to use.
    n_images, n_done : int
        Images of the manifest; those that parts of an earlier call hold.
    nbytes : int
        Bytes of the files that are still to be read, as far as the manifest knows.
    n_get, n_put : int
        Requests that will be made, at the least.
    """

    out: str
    parameters: RunParameters
    batches: tuple[Batch, ...]
    unused: tuple[dict[str, Any], ...]
    n_images: int
    n_done: int
    nbytes: int
    n_get: int
    n_put: int

    @property
    def n_todo(self) -> int:
        """Number of images that batches will do."""
        return sum(len(batch.images) for batch in self.batches)

    def as_dict(self) -> dict[str, Any]:
        """Describe it, without the images' names.

        Returns
        -------
        dict
        """
        return {
            "out": self.out,
            "n_images": self.n_images,
            "n_done": self.n_done,
            "n_todo": self.n_todo,
            "n_unused": len(self.unused),
            "n_batches": len(self.batches),
            "largest_batch": max((len(batch.images) for batch in self.batches), default=0),
            "nbytes": self.nbytes,
            "n_get": self.n_get,
            "n_put": self.n_put,
        }


def plan_run(
    manifest: Manifest, out: str, parameters: RunParameters, options: RunOptions
) -> RunPlan:
    """Find out what is to be done. Writes and deletes nothing.

    Parameters
    ----------
    manifest : Manifest
    out : str
        Folder or ``s3://bucket/prefix`` of the run.
    parameters : RunParameters
    options : RunOptions

    Returns
    -------
    RunPlan

    Raises
    ------
    RunMismatchError
        If `out` holds a run with other parameters, of another version, or of other images.
    """
    store = open_store(out, options.out_options)
    done: dict[str, str] = {}
    if not options.overwrite:
        check_same_run(store, parameters, options.catalogs, manifest)
        done = done_images(store)
    if options.retry_failed:
        done = {name: outcome for name, outcome in done.items() if outcome not in FAILED_OUTCOMES}
    todo: list[ImageKey] = []
    unused: list[dict[str, Any]] = []
    nbytes = 0
    for image, use, size in _manifest_images(manifest):
        if image.rootname in done:
            continue
        if use:
            unused.append(image_row(image, "rejected", reason="manifest", message=use))
        else:
            todo.append(image)
            nbytes += size
    batch = Batch(
        images=(),
        out=store.url,
        parameters=parameters,
        catalogs=options.catalogs,
        source_options=options.source_options,
        out_options=options.out_options,
        debug=options.debug,
    )
    size = options.batch_size or _batch_size(len(todo), options.n_workers)
    batches = tuple(replace(batch, images=images) for images in _slices(todo, size))
    return RunPlan(
        out=store.url,
        parameters=parameters,
        batches=batches,
        unused=tuple(unused),
        n_images=len(manifest),
        n_done=len(done),
        nbytes=nbytes,
        n_get=len(todo),
        n_put=sum(batch.n_files for batch in batches),
    )


def run_map(
    plan: RunPlan,
    manifest: Manifest,
    engine: Engine,
    options: RunOptions,
    on_batch: Callable[[dict[str, int]], None] = lambda _outcomes: None,
    expected: Mapping[str, Any] | None = None,
) -> MapResult:
    """Do what is planned. Finished parts stay, whatever happens afterwards.

    A batch whose worker was lost, again and again, is done image by image, so that one image
    which no worker survives costs itself only: it ends as ``failed``. Where the engine's gate
    forbids further calls, images are left that have no outcome; the next map goes on with them.

    Parameters
    ----------
    plan : RunPlan
        From `plan_run`.
    manifest : Manifest
        The same.
    engine : Engine
        What the batches run on.
    options : RunOptions
        The same.
    on_batch : callable
        Told the outcomes of a batch when it has ended.
    expected : mapping, optional
        What it is expected to take, kept with the plan.

    Returns
    -------
    MapResult

    Raises
    ------
    StorageError
        If nothing can be written to the run's place.
    """
    store = open_store(plan.out, options.out_options)
    if options.overwrite:
        delete_run(store)
    begin_run(
        store,
        plan.parameters,
        options.catalogs,
        manifest,
        {**plan.as_dict(), "options": asdict(options), **(expected or {})},
    )
    tally = Tally(on_batch)
    if plan.unused:
        _write_rows(store, plan, options, list(plan.unused))
        tally.add({"rejected": len(plan.unused)})
    lost = _run_stage("map", engine, plan.batches, tally)
    alone = [
        (replace(batch, images=(image,)), attempt)
        for batch, attempt in lost
        for image in batch.images
    ]
    if any(len(batch.images) > 1 for batch, _ in lost):
        alone = _run_stage("map-one-by-one", engine, [batch for batch, _ in alone], tally)
    for batch, attempt in alone:
        _write_rows(store, plan, options, [_lost_row(batch.images[0], attempt)])
        tally.add({"failed": 1})
    return tally.result()


def _run_stage(
    name: str, engine: Engine, batches: Sequence[Batch], tally: Tally
) -> list[tuple[Batch, Attempt]]:
    """Run batches as one stage.

    Returns
    -------
    list of (Batch, Attempt)
        Those that no attempt finished, with the last one.
    """
    open_batches = {part_key(batch): batch for batch in batches}
    tasks = [Task(key, batch) for key, batch in open_batches.items()]
    lost = []
    for attempt in engine.run(Stage(name, do_batch, tasks)):
        tally.n_attempts += 1
        if not attempt.final:
            continue
        batch = open_batches.pop(attempt.task_key)
        if attempt.status == "ok":
            tally.add_report(attempt.value)
        else:
            lost.append((batch, attempt))
    tally.n_left += sum(len(batch.images) for batch in open_batches.values())
    return lost


def _lost_row(image: ImageKey, attempt: Attempt) -> dict[str, Any]:
    """Make the row of an image that no worker survived."""
    error = attempt.error
    what = f"{error.type_name}: {error.message}" if error else attempt.status
    message = " ".join(f"the worker did not finish it in {attempt.number} attempts: {what}".split())
    return image_row(image, "failed", reason=f"worker_{attempt.status}", message=message)


def _write_rows(
    store: Store, plan: RunPlan, options: RunOptions, rows: list[dict[str, Any]]
) -> None:
    """Write the part of images that no worker has a result of."""
    # Late: who only plans and sends needs neither astropy nor SEP.
    from hstmap.wfc3.catalog import parquet_part
    from hstmap.wfc3.measure import empty_sources

    images = tuple(ImageKey(row["rootname"], row["key"]) for row in rows)
    key = part_key(Batch(images, plan.out, catalogs=options.catalogs))
    store.put(key, parquet_part(empty_sources(), [row | {"part": key} for row in rows]))


def _manifest_images(manifest: Manifest) -> Iterator[tuple[ImageKey, str, int]]:
    """Yield the images of a manifest, why not to use them, and the size of their files."""

    def column(name: str, default: Any) -> list[Any]:
        known = name in manifest.column_names
        return manifest.values(name) if known else [default] * len(manifest)

    for rootname, url, weight, use, size in zip(
        column("rootname", ""),
        manifest.urls,
        manifest.companion_urls,
        column("use", ""),
        column("nbytes", 0),
        strict=True,
    ):
        yield ImageKey(rootname, url, weight or ""), use or "", size or 0


def _batch_size(n_images: int, n_workers: int | None) -> int:
    """Choose batches small enough that all workers stay busy until the end."""
    workers = n_workers or os.cpu_count() or 1
    return max(1, min(_LARGEST_BATCH, n_images // (workers * _BATCHES_A_WORKER)))


def _slices(images: Iterable[ImageKey], size: int) -> Iterator[tuple[ImageKey, ...]]:
    """Cut images into runs of one size."""
    iterator = iter(images)
    while batch := tuple(islice(iterator, size)):
        yield batch
