"""The reduce: time for each image and for each source, and memory, over synthetic parts.

Parts are made by the worker's own writer, of random sources. Before a time counts, every value of
the summary is held against those of the parts, in the order of the manifest. What is fitted is CPU
time of all threads, which other processes of the machine do not change: what one core takes.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hstmap.archive.manifest import Manifest
from hstmap.batch import ImageKey, RunParameters, image_row
from hstmap.run_record import begin_run
from hstmap.storage import open_store
from hstmap.wfc3.catalog import concatenate, parquet_part
from hstmap.wfc3.measure import Sources
from hstmap.wfc3.schema import SOURCE_COLUMNS


@dataclass(frozen=True)
class Size:
    """How large a run is."""

    n_parts: int
    images_a_part: int
    sources_an_image: int

    @property
    def n_images(self) -> int:
        """Images of all parts."""
        return self.n_parts * self.images_a_part

    @property
    def n_sources(self) -> int:
        """Sources of all images."""
        return self.n_images * self.sources_an_image

    def __str__(self) -> str:
        return (
            f"{self.n_parts} parts of {self.images_a_part} images x {self.sources_an_image} sources"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--parts", type=int, default=400)
    parser.add_argument("--images", type=int, default=100, help="a part")
    parser.add_argument("--sources", type=int, default=300, help="an image")
    parser.add_argument("--folder", type=Path, help="where the parts are made (default: a new one)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure three sizes, print and return the figures."""
    size = Size(arguments.parts, arguments.images, arguments.sources)
    if arguments.short:
        size = Size(4, 10, 20)
    few_parts = Size(max(1, size.n_parts // 4), size.images_a_part, size.sources_an_image)
    few_sources = Size(size.n_parts, size.images_a_part, max(1, size.sources_an_image // 30))
    rows, (a_call, an_image, a_source) = measure((few_parts, few_sources, size), arguments.folder)
    print(f"fitted    {a_call:.2f} s, {an_image * 1e6:.1f} us an image, "
          f"{a_source * 1e6:.3f} us a source")  # fmt: skip
    return {
        "runs": rows, "start_s": a_call, "reduce_s_image": an_image, "reduce_s_source": a_source,
    }  # fmt: skip


def measure(
    sizes: Sequence[Size], folder: Path | None = None
) -> tuple[list[dict[str, Any]], tuple[float, float, float]]:
    """Make and reduce runs of three sizes; solve for a start, an image and a source, s."""
    rows = [_measure(size, folder) for size in sizes]
    return rows, _fit(rows)


def _measure(size: Size, folder: Path | None) -> dict[str, Any]:
    """Make a run, reduce it in a process of its own, judge, and say what it took."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        out = Path(name) / "out"
        write_run(size, out)
        nbytes = sum(path.stat().st_size for path in out.glob("parts/*"))
        code = "from benchmarks.reduce import reduce_here; import sys; reduce_here(sys.argv[1])"
        answer = subprocess.run(
            [sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE, text=True, check=True
        )
        figures: dict[str, Any] = json.loads(answer.stdout)
        judge(out, size)
    print(f"{size}: {figures['reduce_s']:.1f} s, {figures['cpu_s']:.1f} s of CPU, "
          f"{figures['peak_mb']:.0f} MB at most, {nbytes / 1e6:,.0f} MB of parts")  # fmt: skip
    return {
        "n_parts": size.n_parts, "n_images": size.n_images, "n_sources": size.n_sources,
        "nbytes": nbytes, **figures,
    }  # fmt: skip


def reduce_here(out: str) -> None:
    """Reduce a run and print what that took, as JSON."""
    from hstmap.summary import reduce_run

    started, cpu_started = time.perf_counter(), time.process_time()
    reduce_run(out)
    elapsed_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
    # Not of getrusage, which begins with what the process had that started this one.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    peak_mb = int(peak) / 1024
    print(json.dumps({"reduce_s": elapsed_s, "cpu_s": cpu_s, "peak_mb": peak_mb}))


def write_run(size: Size, out: Path) -> None:
    """Write a run that is mapped and not yet reduced."""
    random = np.random.default_rng(1)
    store = open_store(str(out))
    names = [f"i{i:07d}q" for i in range(size.n_images)]
    keys = [f"s3://none/{name}_flt.fits" for name in names]
    manifest = Manifest.from_columns({"rootname": names, "key": keys})
    begin_run(store, RunParameters(), "none", manifest, {})
    for i in range(size.n_parts):
        mine = names[i * size.images_a_part : (i + 1) * size.images_a_part]
        tables = [draw_sources(random, name, size.sources_an_image) for name in mine]
        rows = [_image_row(name, size.sources_an_image, f"parts/{i:06d}.parquet") for name in mine]
        store.put(f"parts/{i:06d}.parquet", parquet_part(concatenate(tables), rows))


def draw_sources(random: np.random.Generator, rootname: str, n: int) -> Sources:
    """Draw the sources of an image: values of the right types, anywhere on the sky."""
    sources: Sources = {}
    for column in SOURCE_COLUMNS:
        if column.dtype == "str":
            value = {"rootname": rootname, "filter": "F160W"}.get(column.name, "")
            sources[column.name] = np.full(n, value)
        elif column.dtype.startswith("i"):
            sources[column.name] = random.integers(0, 1000, n).astype(column.dtype)
        else:
            sources[column.name] = random.normal(0, 100, n).astype(column.dtype)
    sources["number"] = np.arange(1, n + 1, dtype=np.int32)
    sources["ra"], sources["dec"] = random.uniform(0, 360, n), random.uniform(-90, 90, n)
    return sources


def _image_row(rootname: str, n_sources: int, part: str) -> dict[str, Any]:
    """Make the row of an image somewhere on the sky."""
    place = int(rootname[1:8])
    ra, dec = place * 0.04 % 360, place * 0.011 % 160 - 80
    corners = [(-0.02, -0.02), (-0.02, 0.02), (0.02, 0.02), (0.02, -0.02)]
    outline = " ".join(f"{(ra + x) % 360:.7f} {dec + y:.7f}" for x, y in corners)
    image = ImageKey(rootname, f"s3://none/{rootname}_flt.fits")
    return image_row(
        image, "ok", n_sources=n_sources, part=part, footprint=f"POLYGON ICRS {outline}"
    )


def judge(out: Path, size: Size) -> None:
    """Compare every value of the summary with the parts.

    Raises
    ------
    RuntimeError
        If they differ.
    """
    paths = sorted(out.glob("sources/*.parquet")) or [out / "sources.parquet"]
    files = [pq.ParquetFile(path) for path in paths]
    n_rows = sum(file.metadata.num_rows for file in files)
    if n_rows != size.n_sources:
        raise RuntimeError(f"{n_rows} rows of {size.n_sources} sources")
    n_a_part = size.images_a_part * size.sources_an_image
    names = [column.name for column in SOURCE_COLUMNS]
    parts = sorted(out.glob("parts/*"))
    batches = chain.from_iterable(file.iter_batches(n_a_part, columns=names) for file in files)
    waiting: list[pa.RecordBatch] = []
    for part in parts:
        while sum(map(len, waiting)) < n_a_part:
            waiting.append(next(batches))
        merged = pa.Table.from_batches(waiting)
        expected = pq.read_table(part).select(names)
        if not merged.slice(0, n_a_part).cast(expected.schema).equals(expected):
            raise RuntimeError(f"{part.name} and the summary differ")
        waiting = merged.slice(n_a_part).to_batches()
    if pq.read_metadata(out / "images.parquet").num_rows != size.n_images:
        raise RuntimeError(f"the table of images does not have {size.n_images} rows")


def _fit(rows: Sequence[dict[str, Any]]) -> tuple[float, float, float]:
    """Solve for the CPU time of a reduce's start, of an image and of a source, s."""
    sizes = np.array([[1, row["n_images"], row["n_sources"]] for row in rows], dtype=float)
    times_s = np.array([row["cpu_s"] for row in rows])
    start_s, image_s, source_s = np.linalg.solve(sizes, times_s)
    return float(start_s), float(image_s), float(source_s)
