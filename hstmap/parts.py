"""Reading parts: what tasks wrote, on its way into the summary."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from hstmap.errors import StorageError
from hstmap.ranged import RangedFile
from hstmap.storage import ObjectInfo, Store
from hstmap.wfc3.schema import IMAGES_KEY

__all__ = ["PART_PREFIX", "PlacedImage", "listed_parts", "part_images", "placed_images"]

PART_PREFIX: Final = "parts/"
_N_CONNECTIONS: Final = 32
#: Where several parts hold an image, the better outcome counts: what is final before what another
#: attempt may better.
_OUTCOME_RANK: Final = {
    "ok": 0, "empty": 0, "rejected": 0, "failed": 1, "forbidden": 2, "missing": 2,
}  # fmt: skip


@dataclass(frozen=True)
class PlacedImage:
    """An image's row, and which rows of which part are its sources.

    Attributes
    ----------
    row : dict
        Columns of `~hstmap.wfc3.schema.IMAGE_COLUMNS`.
    part : str
        Key of the part.
    start, stop : int
        Its rows there.
    """

    row: dict[str, Any]
    part: str
    start: int
    stop: int


def listed_parts(store: Store) -> list[ObjectInfo]:
    """List the parts of a run, in the order of their keys.

    Parameters
    ----------
    store : Store
        The run's.

    Returns
    -------
    list of ObjectInfo
    """
    parts = (info for info in store.list(PART_PREFIX) if info.key.endswith(".parquet"))
    return sorted(parts, key=lambda info: info.key)


def part_images(
    store: Store, parts: Iterable[str | ObjectInfo]
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Read the rows of the images of parts; their sources stay where they are.

    Parameters
    ----------
    store : Store
        The run's.
    parts : iterable of str or ObjectInfo
        Their keys, or as they were listed: that saves a request for each.

    Yields
    ------
    str, list of dict
        A part's key and its rows, in the order of the parts.

    Raises
    ------
    StorageError
        If an object is not a part.
    """

    def read(part: str | ObjectInfo) -> tuple[str, list[dict[str, Any]]]:
        if isinstance(part, ObjectInfo):
            # A twin may have written it again since it was listed.
            with suppress(StorageError), store.open_listed(part) as file:
                return part.key, _rows(file)
            part = part.key
        with store.open_ranged(part, 1) as file:
            return part, _rows(file)

    with ThreadPoolExecutor(_N_CONNECTIONS) as pool:
        yield from pool.map(read, parts)


def _rows(file: RangedFile) -> list[dict[str, Any]]:
    """Read the rows of the images of a part."""
    # Late: who begins a run has none to read.
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(file).metadata
        rows: list[dict[str, Any]] = json.loads(metadata[IMAGES_KEY.encode()])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise StorageError(
            file.name,
            f"not a part of a run ({error}); delete it and run the same command again",
        ) from error
    return rows


def placed_images(store: Store) -> dict[str, PlacedImage]:
    """Find for each image its row and the rows of its sources, in the best part that has it.

    Parameters
    ----------
    store : Store
        The run's.

    Returns
    -------
    dict of str to PlacedImage
        By rootname.

    Raises
    ------
    StorageError
        If an object is not a part.
    """
    placed: dict[str, PlacedImage] = {}
    for part, rows in part_images(store, listed_parts(store)):
        start = 0
        for row in rows:
            stop = start + row["n_sources"]
            before = placed.get(row["rootname"])
            if before is None or _rank(row) < _rank(before.row):
                placed[row["rootname"]] = PlacedImage(row, part, start, stop)
            start = stop
    return placed


def _rank(row: dict[str, Any]) -> int:
    return _OUTCOME_RANK[row["outcome"]]
