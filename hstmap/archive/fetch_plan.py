"""What a fetch will do, before it does: files, bytes, requests, and what egress would cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hstmap.archive.listing import ListingOptions, list_keys, places
from hstmap.archive.manifest import Manifest
from hstmap.errors import UsageError
from hstmap.storage import StorageOptions, join_url, open_store

__all__ = ["GIB", "FetchPlan", "Wanted", "plan_fetch"]

GIB: Final = 1024**3


@dataclass(frozen=True)
class Wanted:
    """One file to be brought.

    Parameters
    ----------
    root : str
        URL of its store.
    key : str
        Its key there.
    path : pathlib.Path
        Where it goes.
    nbytes : int or None
        Its size, where that is known.
    etag : str
        Its ETag, where that is known; else empty.
    """

    root: str
    key: str
    path: Path
    nbytes: int | None = None
    etag: str = ""

    @property
    def url(self) -> str:
        """Where it is."""
        return join_url(self.root, self.key)


@dataclass(frozen=True)
class FetchPlan:
    """What a fetch will do, before it does.

    Parameters
    ----------
    files : tuple of Wanted
        What will be asked for.
    n_there : int
        Files of the manifest that are at their place already.
    n_unused : int
        Rows of the manifest that are not for use, and so are left.
    n_listed : int
        Listing requests that the plan itself has cost.
    """

    files: tuple[Wanted, ...]
    n_there: int = 0
    n_unused: int = 0
    n_listed: int = 0

    @property
    def nbytes(self) -> int | None:
        """Bytes that will travel; None if the size of a file is not known."""
        sizes = [file.nbytes for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def n_requests(self, piece_nbytes: int) -> int | None:
        """Return how many GET requests that takes; None if the size of a file is not known."""
        sizes = [file.nbytes for file in self.files if file.nbytes is not None]
        if len(sizes) < len(self.files):
            return None
        return sum(max(1, -(-size // piece_nbytes)) for size in sizes)

    def egress_usd(self, usd_per_gib: float) -> float | None:
        """Return what the bytes cost at a price; None if the size of a file is not known.

        Parameters
        ----------
        usd_per_gib : float
            What leaving the bucket's region costs, in US dollars a GiB. Who pays it is another
            matter: for a public data set it is not the reader.
        """
        return None if self.nbytes is None else self.nbytes / GIB * usd_per_gib


def plan_fetch(
    manifest: Manifest,
    folder: Path,
    storage: StorageOptions | None = None,
    *,
    unused_too: bool = False,
    ask_sizes: bool = False,
) -> FetchPlan:
    """Return what there is to fetch.

    Parameters
    ----------
    manifest : Manifest
        The images; companion images come along.
    folder : pathlib.Path
        Where they go, all in one folder, under the last part of their keys.
    storage : StorageOptions, optional
        How to reach the store, for its sizes.
    unused_too : bool
        Fetch the rows that are not for use as well.
    ask_sizes : bool
        List the keys of which the manifest does not know the size: for a dry run.

    Raises
    ------
    UsageError
        If two images would have the same name there.
    """
    n_rows = len(manifest)
    known = {name: manifest.values(name) for name in manifest.column_names}
    use = known.get("use", [""] * n_rows)
    rows = [row for row in range(n_rows) if unused_too or not use[row]]
    sizes = known.get("nbytes", [None] * n_rows)
    etags = known.get("etag", [""] * n_rows)
    facts = [(known["key"][row], sizes[row], etags[row]) for row in rows]
    companions = known.get("companion_key", [""] * n_rows)
    facts += [(companions[row], None, "") for row in rows if companions[row]]
    wanted: dict[str, Wanted] = {}
    for name, nbytes, etag in facts:
        root, key = places(manifest.store, [name])[0]
        file = Wanted(root, key, folder / key.rpartition("/")[2], nbytes, etag)
        other = wanted.setdefault(file.path.name, file)
        if other.url != file.url:
            raise UsageError(
                f"{other.url} and {file.url} would both be {file.path}: fetch them into two folders"
            )
    n_listed = _ask_sizes(wanted, storage) if ask_sizes else 0
    missing = {name: file for name, file in wanted.items() if not _is_there(file)}
    return FetchPlan(
        files=tuple(missing.values()),
        n_there=len(wanted) - len(missing),
        n_unused=n_rows - len(rows),
        n_listed=n_listed,
    )


def _is_there(file: Wanted) -> bool:
    """Tell whether a file is at its place: names are given to whole files only."""
    try:
        found = file.path.stat().st_size
    except FileNotFoundError:
        return False
    return file.nbytes is None or found == file.nbytes


def _ask_sizes(wanted: dict[str, Wanted], storage: StorageOptions | None) -> int:
    """Learn the sizes that are not known from listings; return how many requests that took."""
    n_listed = 0
    for root in {file.root for file in wanted.values()}:
        unknown = {
            file.key: name
            for name, file in wanted.items()
            if file.root == root and file.nbytes is None
        }
        store = open_store(root, storage)
        found, _ = list_keys(store, unknown, ListingOptions())
        n_listed += store.counts.n_list
        for key, info in found.items():
            wanted[unknown[key]] = replace(wanted[unknown[key]], nbytes=info.nbytes)
    return n_listed
