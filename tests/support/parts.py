"""Runs that are mapped and not reduced, of any sources in any parts, made without images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.reduce import draw_sources
from hstmap.archive.manifest import Manifest
from hstmap.batch import ImageKey, RunParameters, image_row
from hstmap.run_record import begin_run
from hstmap.storage import open_store
from hstmap.wfc3.catalog import concatenate, parquet_part
from hstmap.wfc3.measure import Sources


def sources_of(name: str, n: int) -> Sources:
    """Rows of an image that are its own and the same each time."""
    sources = draw_sources(np.random.default_rng(list(name.encode())), name, n)
    if n > 1:
        sources["ra"][0] = np.nan
    return sources


def part_of(counts: Mapping[str, int], outcome: str = "") -> bytes:
    """A part with the sources of images, by their number."""
    rows = [
        image_row(
            ImageKey(name, f"s3://none/{name}_flt.fits"),
            outcome or ("ok" if n else "empty"),
            n_sources=n,
        )
        for name, n in counts.items()
    ]
    return parquet_part(concatenate([sources_of(name, n) for name, n in counts.items()]), rows)


def write_mapped(
    out: Path | str, parts: Sequence[Mapping[str, int]], manifest: Sequence[str]
) -> None:
    """Write a run of parts, named so that they sort in their order."""
    store = open_store(str(out))
    keys = [f"s3://none/{name}_flt.fits" for name in manifest]
    table = Manifest.from_columns({"rootname": list(manifest), "key": keys})
    begin_run(store, RunParameters(), "none", table, {})
    for number, counts in enumerate(parts):
        store.put(f"parts/{number:04d}.parquet", part_of(counts))
