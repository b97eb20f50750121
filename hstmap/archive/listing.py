"""Images from a listing of the bucket: what is there, with sizes and ETags, but no pointings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import product as pairs
from typing import Final

import pyarrow as pa

from hstmap.archive.keys import WFC3_PREFIX, parse_key
from hstmap.archive.pages import Progress
from hstmap.errors import ForbiddenObjectError
from hstmap.storage import ObjectInfo, Store, split_url

__all__ = ["ListingOptions", "list_images", "list_keys", "places", "wfc3_prefixes"]

_CHARACTERS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class ListingOptions:
    """How to list.

    Parameters
    ----------
    n_threads : int
        Prefixes that are listed at the same time.
    on_progress : callable, optional
        Called with a `~hstmap.archive.pages.Progress` after every prefix.
    """

    n_threads: int = 16
    on_progress: Callable[[Progress], None] | None = None


def wfc3_prefixes(store: Store) -> list[str]:
    """Return prefixes that together hold every WFC3 key and can be listed side by side.

    On S3 one for each beginning of a programme's letters, 1,296 of them: an empty one costs a
    request, a full one shortens the listing of the others. A folder is listed in one go.
    """
    if store.local_path("any") is not None:
        return [WFC3_PREFIX]
    return [f"{WFC3_PREFIX}{first}{second}" for first, second in pairs(_CHARACTERS, repeat=2)]


def list_images(store: Store, product: str, options: ListingOptions) -> pa.Table:
    """Return the images of one product of the infrared channel, whatever MAST says of them.

    A dataset is of that channel if it holds an IMA, which only IR exposures have; an association,
    if it holds a DRZ but no DRC, which UVIS associations have beside it.

    Parameters
    ----------
    store : Store
        The archive's bucket, or a copy that is laid out like it.
    product : str
        ``'flt'``, ``'ima'`` or ``'drz'``.
    options : ListingOptions
        How to list.

    Returns
    -------
    pyarrow.Table
        rootname, key, product, association, nbytes, etag; sorted by key.

    Raises
    ------
    ForbiddenObjectError
        If the bucket may not be listed.
    """
    found: list[tuple[str, str, str, int, str]] = []

    def keep(infos: Iterable[ObjectInfo]) -> int:
        n_seen = 0
        chosen = []
        beside: dict[str, set[str]] = {}
        for info in infos:
            n_seen += 1
            parts = parse_key(info.key)
            if parts is None or not parts.rootname.startswith("i"):
                continue
            beside.setdefault(parts.dataset, set()).add(parts.product)
            if parts.product == product:
                chosen.append((parts, info))
        found.extend(
            (parts.rootname, info.key, parts.dataset, info.nbytes, info.etag or "")
            for parts, info in chosen
            if _is_infrared(beside[parts.dataset], product)
        )
        return n_seen

    _for_each_prefix(store, wfc3_prefixes(store), keep, options)
    found.sort(key=lambda row: row[1])
    names, keys, datasets, sizes, etags = zip(*found, strict=True) if found else ((),) * 5
    return pa.table(
        {
            "rootname": pa.array(names, pa.string()),
            "key": pa.array(keys, pa.string()),
            "product": pa.array([product] * len(found), pa.string()),
            "association": pa.array([d if d[-1:].isdigit() else "" for d in datasets], pa.string()),
            "nbytes": pa.array(sizes, pa.int64()),
            "etag": pa.array(etags, pa.string()),
        }
    )


def list_keys(
    store: Store, wanted: Collection[str], options: ListingOptions
) -> tuple[Mapping[str, ObjectInfo], set[str]]:
    """Return the facts of those of the keys that are there, and the keys that may not be listed.

    Parameters
    ----------
    store : Store
        Where the keys should be.
    wanted : collection of str
        The keys. Each folder of a programme is listed once, however many of its keys are wanted;
        where that would be more listings than the whole takes, the whole is listed.
    options : ListingOptions
        How to list.

    Returns
    -------
    found : dict
        Facts by key. A key that is in neither is not there.
    forbidden : set of str
    """
    wanted = set(wanted)
    prefixes = sorted({_programme(key) for key in wanted})
    whole = wfc3_prefixes(store)
    # On S3 every prefix costs a request; folders are listed without.
    if len(prefixes) > len(whole) > 1 and all(key.startswith(WFC3_PREFIX) for key in wanted):
        prefixes = whole
    found: dict[str, ObjectInfo] = {}

    def keep(infos: Iterable[ObjectInfo]) -> int:
        n_seen = 0
        for info in infos:
            n_seen += 1
            if info.key in wanted:
                found[info.key] = info
        return n_seen

    closed = tuple(_for_each_prefix(store, prefixes, keep, options, allow_forbidden=True))
    forbidden = {key for key in wanted if closed and key.startswith(closed)} - found.keys()
    return found, forbidden


def places(store: str | None, keys: Iterable[str]) -> list[tuple[str, str]]:
    """Return the store of each key of a manifest, and the key there.

    Parameters
    ----------
    store : str or None
        What the keys are relative to; None if each is a URL or path of its own.
    keys : iterable of str
        The keys.
    """
    return [(store, key) if store else split_url(key) for key in keys]


def _is_infrared(products: set[str], product: str) -> bool:
    return "drc" not in products if product == "drz" else "ima" in products


def _programme(key: str) -> str:
    """Return the folder of a key's programme; of a key that is laid out otherwise, its folder."""
    depth = 2 if parse_key(key) else 1
    folder = key.rsplit("/", depth)[0] if key.count("/") >= depth else ""
    return f"{folder}/" if folder else ""


def _for_each_prefix(
    store: Store,
    prefixes: Sequence[str],
    keep: Callable[[Iterable[ObjectInfo]], int],
    options: ListingOptions,
    allow_forbidden: bool = False,
) -> list[str]:
    """Hand the objects of every prefix to `keep`; return the prefixes that may not be listed."""
    forbidden = []
    n_objects = n_done = 0
    pool = ThreadPoolExecutor(options.n_threads)
    try:
        listed = {pool.submit(keep, store.list(prefix)): prefix for prefix in prefixes}
        for done in as_completed(listed):
            try:
                n_objects += done.result()
            except ForbiddenObjectError:
                if not allow_forbidden:
                    raise
                forbidden.append(listed[done])
            n_done += 1
            if options.on_progress:
                options.on_progress(Progress("prefixes", n_done, len(prefixes), n_objects))
    finally:
        pool.shutdown(cancel_futures=True)
    return forbidden
