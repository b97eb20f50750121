"""What the reduce is to do: how many files sources fill, and which rows of which parts each has.

The plan follows from the images and their parts alone, so that whoever makes it makes the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from hstmap.archive.manifest import Manifest
from hstmap.errors import ConservationError, UsageError
from hstmap.merge import STAGED_PREFIX, Slice, SourcesFile, staged_key
from hstmap.parquet_metadata import table_metadata
from hstmap.parts import PlacedImage, placed_images
from hstmap.run_record import MANIFEST_KEY, read_run_record
from hstmap.storage import StorageOptions, Store, open_store
from hstmap.summary_files import (
    SOURCES_FILE,
    SOURCES_PREFIX,
    StoredSources,
    files_of_sources,
    n_files_of,
    open_images,
    sources_key,
)
from hstmap.wfc3.schema import SOURCE_COLUMNS, SUMMARY_COLUMNS, Column

__all__ = [
    "ReducePlan",
    "plan_reduce",
    "slices_of_files",
    "text_lengths",
]

_NAMED_IN_MESSAGES: Final = 3


@dataclass(frozen=True)
class ReducePlan:
    """What a reduce is about to do.

    Attributes
    ----------
    store : Store
        The run's.
    images : tuple of PlacedImage
        In the manifest's order.
    files : tuple of SourcesFile
        All of the summary; a single one is written by the client.
    kept : mapping of str to StoredSources
        Files that an earlier reduce has left in their place, by the key under which a task would
        write them.
    todo : tuple of SourcesFile
        What tasks have to write: files that are neither there nor were written by a reduce that
        did not come to its end.
    """

    store: Store
    images: tuple[PlacedImage, ...]
    files: tuple[SourcesFile, ...]
    kept: Mapping[str, StoredSources]
    todo: tuple[SourcesFile, ...]

    @property
    def n_sources(self) -> int:
        """Rows of the summary."""
        return sum(file.n_sources for file in self.files)

    @property
    def is_folder(self) -> bool:
        """Whether the sources become several files."""
        return len(self.files) > 1


def plan_reduce(
    out: str, options: StorageOptions | None = None, rows_a_file: int | None = None
) -> ReducePlan:
    """Find out what is to be merged, and what of that is done. Writes and deletes nothing.

    Parameters
    ----------
    out : str
        URL of the run.
    options : StorageOptions, optional
        How to reach it.
    rows_a_file : int, optional
        About how many sources a file may have; with more, there are several. By default, see
        `hstmap.summary_files.n_files_of`.

    Returns
    -------
    ReducePlan

    Raises
    ------
    UsageError
        If there is no run at `out`.
    ConservationError
        If an image of the manifest has no outcome, or a part says other numbers of sources than
        its images; the message names the difference.
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
    images = tuple(placed[name] for name in names)
    columns = (*SOURCE_COLUMNS, *SUMMARY_COLUMNS)
    metadata = table_metadata(columns, text_lengths(columns, images))
    n_sources = sum(image.row["n_sources"] for image in images)
    slices = slices_of_files(images, n_files_of(n_sources, rows_a_file))
    options = options or StorageOptions()
    if len(slices) == 1:
        file = SourcesFile(store.url, SOURCES_FILE, slices[0], metadata, options)
        return ReducePlan(store, images, (file,), {}, ())
    files = tuple(
        SourcesFile(store.url, staged_key(each, metadata), each, metadata, options)
        for each in slices
    )
    kept = _kept(store, files)
    staged = {info.key for info in store.list(STAGED_PREFIX)}
    todo = tuple(file for file in files if file.key not in staged | kept.keys())
    return ReducePlan(store, images, files, kept, todo)


def _manifest_rootnames(store: Store) -> list[str]:
    """Read which images the run is of."""
    if read_run_record(store) is None:
        raise UsageError(
            f"there is no run at {store.url}; "
            "name the folder or prefix that was given to map as --out"
        )
    manifest = Manifest.read(f"{store.url}/{MANIFEST_KEY}")
    return manifest.values("rootname")


def _kept(store: Store, files: Sequence[SourcesFile]) -> dict[str, StoredSources]:
    """Find the files that are in their place already, as the last reduce left them."""
    try:
        with open_images(store) as images:
            told = files_of_sources(store, images)
    except UsageError:  # it has no summary, or none that says so
        return {}
    sizes = {info.key: info.nbytes for info in store.list(SOURCES_PREFIX)}
    there = {item.key: item for item in told if sizes.get(item.key) == item.nbytes}
    wanted = {sources_key(number): file.key for number, file in enumerate(files, start=1)}
    return {
        made_of: there[key]
        for key, made_of in wanted.items()
        if key in there and there[key].made_of == made_of
    }


def slices_of_files(images: Sequence[PlacedImage], n_files: int) -> list[tuple[Slice, ...]]:
    """Deal images out to files of about as many sources, in their order.

    Parameters
    ----------
    images : sequence of PlacedImage
    n_files : int
        As many as there should be; there are fewer where single images fill more than one's share.

    Returns
    -------
    list of tuple of Slice
        Of each file, 1 or more. All sources of an image are in one file, which has less than a
        whole image more than its share. Only if no image has sources, a file is empty.
    """
    n_sources = sum(image.stop - image.start for image in images)
    files: dict[int, list[PlacedImage]] = {}
    n_before = 0
    for image in images:
        if image.stop > image.start:
            files.setdefault(n_before * n_files // n_sources, []).append(image)
            n_before += image.stop - image.start
    return [_joined(members) for members in files.values()] or [()]


def _joined(images: Iterable[PlacedImage]) -> tuple[Slice, ...]:
    """Join the rows of images of one part that follow each other."""
    slices: list[Slice] = []
    for part, group in groupby(images, lambda image: image.part):
        for image in group:
            before = slices[-1] if slices else None
            if before is not None and (before.part, before.stop) == (part, image.start):
                slices[-1] = Slice(part, before.start, image.stop)
            else:
                slices.append(Slice(part, image.start, image.stop))
    return tuple(slices)


def text_lengths(columns: Iterable[Column], images: Iterable[PlacedImage]) -> dict[str, int]:
    """Find the longest text of each column of texts, which all are those of images.

    Parameters
    ----------
    columns : iterable of Column
    images : iterable of PlacedImage

    Returns
    -------
    dict of str to int
        Bytes, by name.
    """
    names = [column.name for column in columns if column.dtype == "str"]
    rows = [image.row for image in images]
    return {name: max((len(row[name].encode()) for row in rows), default=0) for name in names}
