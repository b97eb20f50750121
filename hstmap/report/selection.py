"""Rows of a run's tables: those of some images, of a cone, or all.

Sources of named images come from their parts, so that a run need not be reduced for them. Sources
of a cone come from the summary, of which no more is read than the row groups of images that the
cone touches: sources lie in the order of ``images.parquet``, in one file or in several.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hstmap.report.cone import Cone
from hstmap.report.results import no_such_image
from hstmap.sky import healpix_29
from hstmap.summary_files import StoredSources, files_of_sources, open_images, open_sources
from hstmap.wfc3.schema import IMAGE_COLUMNS, SOURCE_COLUMNS, SUMMARY_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

    from hstmap.report.results import RunResults
    from hstmap.storage import Store

__all__ = ["PIXEL_SCALE", "images", "sources_of_images", "sources_of_summary"]

Values = dict[str, np.ndarray]

#: A column of the images that is given with their sources, too, to those who ask for it.
PIXEL_SCALE: Final = "pixel_scale"
#: How far sources may lie outside of the polygon of their image's corners: the edges of a WFC3/IR
#: frame bow out of it by 0.2 arcsec.
_MARGIN_ARCSEC: Final = 5.0
_HEALPIX: Final = SUMMARY_COLUMNS[0].name
_DTYPES: Final = {
    column.name: object if column.dtype == "str" else column.dtype
    for column in (*IMAGE_COLUMNS, *SOURCE_COLUMNS, *SUMMARY_COLUMNS)
}


def sources_of_images(
    results: RunResults, rootnames: Sequence[str], names: Sequence[str]
) -> Values:
    """Read the sources of images, one image after another.

    Parameters
    ----------
    results : RunResults
    rootnames : sequence of str
    names : sequence of str
        Of `~hstmap.wfc3.schema.SOURCE_COLUMNS`, `~hstmap.wfc3.schema.SUMMARY_COLUMNS` and
        `PIXEL_SCALE`.

    Returns
    -------
    dict of str to ndarray, shape (n,)
        By name, in that order.

    Raises
    ------
    UsageError
        If the run has no such image, or it has no sources for a reason.
    """
    rows = [results.image(rootname) for rootname in rootnames]
    stored = _stored(names)
    pieces = []
    for row in rows:
        frame = results.sources_of(row)
        scale = np.nan if row[PIXEL_SCALE] is None else row[PIXEL_SCALE]
        piece = {name: frame[name].to_numpy() for name in stored}
        pieces.append(piece | {PIXEL_SCALE: np.full(len(frame), scale)})
    return _completed(pieces, names)


def sources_of_summary(store: Store, names: Sequence[str], cone: Cone | None = None) -> Values:
    """Read the sources of a cone, or all of them.

    Parameters
    ----------
    store : Store
        The run's.
    names : sequence of str
        As for `sources_of_images`.
    cone : Cone, optional
        By default the whole sky, and the sources that have no place there.

    Returns
    -------
    dict of str to ndarray, shape (n,)
        By name, in the order of the summary.

    Raises
    ------
    UsageError
        If the run has no summary, or one whose two tables are not of one reduce.
    """
    pieces: list[Values] = []
    with open_images(store) as images_file:
        rows = images_file.read(["n_sources", "footprint", PIXEL_SCALE])
        wanted = np.ones(len(rows), dtype=np.bool_)
        if cone is not None:
            wanted = cone.touches(rows["footprint"].to_pylist(), _MARGIN_ARCSEC)
        stops = np.cumsum(rows["n_sources"].to_numpy(), dtype=np.int64)
        scales = rows[PIXEL_SCALE].to_numpy()
        for told, first_row in _files(files_of_sources(store, images_file), stops, wanted):
            with open_sources(store, told) as file:
                for group, image_of_row in _groups(file, first_row, stops, wanted):
                    candidates = np.flatnonzero(wanted[image_of_row])
                    chosen = candidates if cone is None else _within(file, group, candidates, cone)
                    if len(chosen):
                        table = file.read_row_group(group, _stored(names)).take(chosen)
                        piece = {name: _as_array(table[name]) for name in table.column_names}
                        pieces.append(piece | {PIXEL_SCALE: scales[image_of_row[chosen]]})
    return _completed(pieces, names)


def _files(
    files: Sequence[StoredSources], stops: np.ndarray, wanted: np.ndarray
) -> Iterator[tuple[StoredSources, int]]:
    """Yield the files that may hold wanted images, with the number of their first row."""
    start = 0
    for told in files:
        first, last = np.searchsorted(stops, [start, start + told.n_sources - 1], side="right")
        if wanted[first : last + 1].any():
            yield told, start
        start += told.n_sources


def _groups(
    file: Any, start: int, stops: np.ndarray, wanted: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the row groups that hold wanted images, with the number of each row's image."""
    for group in range(file.metadata.num_row_groups):
        stop = start + file.metadata.row_group(group).num_rows
        first, last = np.searchsorted(stops, [start, stop - 1], side="right")
        if wanted[first : last + 1].any():
            rows = np.arange(start, stop)
            yield group, first + np.searchsorted(stops[first : last + 1], rows, side="right")
        start = stop


def _within(file: Any, group: int, candidates: np.ndarray, cone: Cone) -> np.ndarray:
    """Keep those rows of a group that a cone holds."""
    place = file.read_row_group(group, ["ra", "dec"]).take(candidates)
    return candidates[cone.contains(place["ra"].to_numpy(), place["dec"].to_numpy())]


def images(store: Store, names: Sequence[str], which: Sequence[str] | Cone | None = None) -> Values:
    """Read the rows of images, whatever became of them.

    Parameters
    ----------
    store : Store
        The run's.
    names : sequence of str
        Of `~hstmap.wfc3.schema.IMAGE_COLUMNS`.
    which : sequence of str or Cone, optional
        Rootnames, or what their outlines touch; by default all.

    Returns
    -------
    dict of str to ndarray, shape (n,)
        By name, in the order of the rootnames or of the summary.

    Raises
    ------
    UsageError
        If the run has no summary, or no such image.
    """
    rows = _read_images(store, list(dict.fromkeys([*names, "rootname", "footprint"])))
    if isinstance(which, Cone):
        rows = rows.filter(which.touches(rows["footprint"].to_pylist()))
    elif which is not None:
        number = {name: i for i, name in enumerate(rows["rootname"].to_pylist())}
        for rootname in which:
            if rootname not in number:
                raise no_such_image(store.url, rootname, number)
        rows = rows.take([number[rootname] for rootname in which])
    return {name: _as_array(rows[name]) for name in names}


def _read_images(store: Store, names: list[str]) -> pa.Table:
    with open_images(store) as file:
        return file.read(names)


def _stored(names: Sequence[str]) -> list[str]:
    """Say which columns must be read for some."""
    stored = [name for name in names if name not in (_HEALPIX, PIXEL_SCALE)]
    needed = ("ra", "dec") if _HEALPIX in names else ()
    return [*stored, *(name for name in needed if name not in stored)]


def _as_array(column: Any) -> np.ndarray:
    array: np.ndarray = column.to_numpy(zero_copy_only=False)
    return array


def _completed(pieces: Sequence[Values], names: Sequence[str]) -> Values:
    """Put pieces one after another, and add what parts do not have."""
    columns = {
        name: np.concatenate([np.empty(0, _DTYPES[name]), *(piece[name] for piece in pieces)])
        .astype(_DTYPES[name], copy=False)
        for name in (*_stored(names), PIXEL_SCALE)
    }  # fmt: skip
    if _HEALPIX in names:
        columns[_HEALPIX] = healpix_29(columns["ra"], columns["dec"])
    return {name: columns[name] for name in names}
