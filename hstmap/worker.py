"""What a worker does: the images of a batch in, one part out.

The next images arrive while this one is measured, the catalogue of the last one leaves meanwhile.
A worker imports what is needed for that and nothing else.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from hstmap.batch import (
    Batch,
    BatchReport,
    ImageKey,
    RunParameters,
    image_row,
    part_key,
)
from hstmap.catalogs import CatalogFiles
from hstmap.errors import (
    ForbiddenObjectError,
    ImageError,
    MissingObjectError,
    RejectedImageError,
    StorageError,
)
from hstmap.image_files import ImageFiles, Stores, fetch, fetched_ahead
from hstmap.ranged import RangedFile
from hstmap.storage import open_store
from hstmap.wfc3.catalog import concatenate, parquet_part
from hstmap.wfc3.detect import Detection, extract, subtract_background
from hstmap.wfc3.image import Image, read_image
from hstmap.wfc3.measure import Sources, measure
from hstmap.wfc3.noise import EmptyApertures, measure_empty_apertures
from hstmap.wfc3.photometry import aperture_shares
from hstmap.wfc3.schema import TIMED_STEPS
from hstmap.wfc3.wcs import footprint

__all__ = ["Measured", "make_catalog", "measure_image", "run_batch"]


class _Stopwatch:
    """Times steps, by default those of one image."""

    def __init__(self, steps: Sequence[str] = TIMED_STEPS) -> None:
        self.times = dict.fromkeys((f"{step}_s" for step in steps), 0.0)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add what happens inside to a step."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.times[f"{name}_s"] += time.perf_counter() - started


def _waited_for(
    files: Iterator[tuple[ImageKey, ImageFiles]], watch: _Stopwatch
) -> Iterator[tuple[ImageKey, ImageFiles]]:
    """Time how long the next files take to be there."""
    while True:
        with watch.step("wait"):
            found = next(files, None)
        if found is None:
            return
        yield found


class Measured(NamedTuple):
    """An image, what was found on it, and what was measured.

    Attributes
    ----------
    image : Image
    detection : Detection
    sources : dict of str to numpy.ndarray
    empty : EmptyApertures
    """

    image: Image
    detection: Detection
    sources: Sources
    empty: EmptyApertures


def measure_image(
    fetched: tuple[RangedFile, RangedFile | None],
    name: str,
    parameters: RunParameters,
    stopwatch: _Stopwatch | None = None,
) -> Measured:
    """Read, detect and measure one image.

    Parameters
    ----------
    fetched : (file, file or None)
        The image and its weights, open; closed when they have been read.
    name : str
        Its key or path.
    parameters : RunParameters
    stopwatch : optional
        What the steps are timed with.

    Returns
    -------
    Measured

    Raises
    ------
    ImageError
        If the image cannot be used.
    """
    watch = stopwatch or _Stopwatch()
    file, weights = fetched
    with watch.step("read"):
        image = read_image(file, name, parameters.read, weights)
        # Their bytes take more memory than the image, which has all of them that it needs.
        file.close()
        if weights is not None:
            weights.close()
    with watch.step("background"):
        flat = subtract_background(image, parameters.detection)
    with watch.step("extract"):
        detection = extract(flat, parameters.detection)
    with watch.step("measure"):
        sources = measure(image, detection, parameters.measure)
        empty = measure_empty_apertures(image.info, detection)
    return Measured(image, detection, sources, empty)


def _facts(measured: Measured) -> dict[str, Any]:
    """Collect what the row of an image says of it."""
    image, detection, sources, empty = measured
    info = image.info
    share_1, share_2 = aperture_shares(info)
    notes = [*info.notes]
    if detection.relaxed:
        notes.append(f"extracted with {detection.relaxed}")
    return {
        "n_sources": len(sources["number"]),
        "product": info.product,
        "filter": info.filter,
        "target": info.target,
        "program_id": info.program_id or 0,
        "aperture": info.aperture,
        "exposure_start_mjd": info.exposure_start_mjd,
        "exposure_s": info.exposure_s,
        "ra": info.ra_ref,
        "dec": info.dec_ref,
        "nx": info.nx,
        "ny": info.ny,
        "pixel_scale": info.pixel_scale_arcsec,
        "n_masked": info.n_masked,
        "background": detection.background_level,
        "background_rms": detection.background_rms,
        "error_scale": detection.error_scale,
        "zero_point": info.zero_point_ab,
        "depth_5sigma": empty.depth_5sigma,
        "noise_ratio": empty.noise_ratio,
        "err_kind": info.err_kind,
        "aperture_share_1": share_1,
        "aperture_share_2": share_2,
        "n_saturated": info.n_saturated,
        "footprint": _footprint(image),
        "wcs_name": info.wcs_name,
        "cal_ver": info.cal_ver,
        "notes": "; ".join(notes),
    }


def _footprint(image: Image) -> str:
    """Write an image's outline as ObsCore's s_region does: five corners, the last the first."""
    if image.wcs is None:
        return ""
    corners = footprint(image.wcs, image.info.nx, image.info.ny)
    return "POLYGON ICRS " + " ".join(f"{value:.7f}" for value in corners[:-1].ravel())


def _failure(image: ImageKey, error: Exception, debug: bool) -> dict[str, Any]:
    """Make the row of an image that has no sources, from the reason."""
    notes = traceback.format_exc() if debug else ""
    match error:
        case MissingObjectError():
            outcome, reason = "missing", "missing"
        case ForbiddenObjectError():
            outcome, reason = "forbidden", "forbidden"
        case StorageError():
            outcome, reason = "failed", "storage"
        case RejectedImageError():
            outcome, reason = "rejected", error.reason
        case ImageError():
            outcome, reason = "failed", error.reason
        case _:
            outcome, reason = "failed", "unexpected"
            # It can tell of exceptions that cannot be made text, too.
            told = traceback.TracebackException(type(error), error, None)
            error = RuntimeError(f"{type(error).__name__}: {told} (--debug shows where)")
    message = " ".join(str(error).split())
    return image_row(image, outcome, reason=reason, message=message, notes=notes)


def _do_image(
    image: ImageKey, files: ImageFiles, batch: Batch, catalogs: CatalogFiles
) -> tuple[dict[str, Any], Sources | None]:
    """Do one image: its catalogue, row and sources. Never raises for what is in a file."""
    watch = _Stopwatch()
    sources: Sources | None = None
    try:
        if files.image is None:
            raise files.error or StorageError(image.url, "it was not fetched")
        measured = measure_image((files.image, files.weights), image.url, batch.parameters, watch)
        sources = measured.sources
        row = image_row(image, "ok" if len(sources["number"]) else "empty", **_facts(measured))
    # The worker's boundary: whatever one image does must not stop the others.
    except Exception as error:  # noqa: BLE001
        sources = None
        row = _failure(image, error, batch.debug)
    if files.image is not None:
        info = files.image.info
        row |= {
            "etag": info.etag or "",
            "nbytes": info.nbytes,
            "nbytes_read": files.image.nbytes_read,
        }
    if sources is not None:
        with watch.step("write"):
            row |= catalogs.add(row, sources)
    row |= {name: round(value, 6) for name, value in watch.times.items()}
    return row, sources


def make_catalog(image: ImageKey, batch: Batch) -> tuple[dict[str, Any], bytes | None]:
    """Do one image, and write nothing.

    Parameters
    ----------
    image : ImageKey
    batch : Batch
        How; its images are not looked at, and its catalogues are a file an image.

    Returns
    -------
    dict, bytes or None
        The row of the image, and its catalogue if its outcome is ``ok`` or ``empty``.
    """
    made: list[bytes] = []
    catalogs = CatalogFiles(replace(batch, catalogs="image"), lambda _, data: made.append(data))
    row, _ = _do_image(image, fetch(Stores(batch.source_options), image), batch, catalogs)
    return row, made[0] if made else None


def run_batch(batch: Batch) -> BatchReport:
    """Do a batch: read, detect and measure its images, write the part and the catalogues.

    Parameters
    ----------
    batch : Batch

    Returns
    -------
    BatchReport
        The rows of the sources are in the part, not here.

    Raises
    ------
    StorageError
        If the part or a catalogue could not be written: another attempt may do it.
    """
    started, cpu_started = time.perf_counter(), time.process_time()
    stores = Stores(batch.source_options)
    out = open_store(batch.out, batch.out_options)
    part = part_key(batch)
    rows: list[dict[str, Any]] = []
    tables: list[Sources] = []
    watch = _Stopwatch(("wait",))
    with ThreadPoolExecutor(1, thread_name_prefix="write") as writer:
        written: list[Future[bool]] = []
        catalogs = CatalogFiles(
            batch, lambda key, data: written.append(writer.submit(out.put, key, data))
        )
        for image, files in _waited_for(fetched_ahead(stores, batch.images), watch):
            row, sources = _do_image(image, files, batch, catalogs)
            rows.append(row | {"part": part})
            if sources is not None:
                tables.append(sources)
        catalogs.finish(n_measured=len(tables))
        sources = concatenate(tables)
        content = parquet_part(sources, rows)
        with watch.step("wait"):
            for future in written:
                future.result()
    # The part goes last: where it is, all that it names is there.
    with watch.step("wait"):
        out.put(part, content)
    return BatchReport(
        part=part,
        outcomes=dict(Counter(row["outcome"] for row in rows)),
        n_sources=len(sources["number"]),
        requests=stores.counts() + out.counts,
        elapsed_s=time.perf_counter() - started,
        waited_s=watch.times["wait_s"],
        cpu_s=time.process_time() - cpu_started,
    )
