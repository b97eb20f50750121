"""Manifests from the archive: made, brought up to date, held against the bucket."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hstmap.archive.images import images_of, sky_order
from hstmap.archive.keys import BUCKET_URL
from hstmap.archive.listing import ListingOptions, list_images, list_keys, places
from hstmap.archive.manifest import Manifest
from hstmap.archive.mast import MJD_EPOCH, ExposureQuery, resolve
from hstmap.archive.pages import Pages, PagingOptions, read_pages
from hstmap.archive.query import ArchiveQuery
from hstmap.errors import ConservationError, UsageError
from hstmap.storage import ObjectInfo, StorageOptions, open_store

__all__ = [
    "BuildOptions",
    "ManifestUpdate",
    "build_manifest",
    "update_manifest",
    "use_counts",
    "verify_manifest",
]

_OVERLAP_DAYS: Final = 2
"""Days before the newest known row from which an update asks again: data that was taken in late."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class BuildOptions:
    """How to make a manifest.

    Parameters
    ----------
    store : str
        URL that the keys are relative to: the archive's bucket, or a copy laid out like it.
    storage : StorageOptions, optional
        How to reach the store.
    paging : PagingOptions
        How to ask MAST; its limit is overridden by the query's.
    listing : ListingOptions
        How to list the store.
    now : callable
        The clock: when "public" is judged, and the time that the manifest bears.
    """

    store: str = BUCKET_URL
    storage: StorageOptions | None = None
    paging: PagingOptions = field(default_factory=PagingOptions)
    listing: ListingOptions = field(default_factory=ListingOptions)
    now: Callable[[], datetime] = _utc_now

    @property
    def now_mjd(self) -> float:
        """The clock's time as a modified Julian day."""
        now = np.datetime64(self.now().astimezone(UTC).replace(tzinfo=None), "us")
        return float((now - MJD_EPOCH) / np.timedelta64(1, "D"))


@dataclass(frozen=True)
class ManifestUpdate:
    """A manifest brought up to date, and what that changed.

    Parameters
    ----------
    manifest : Manifest
        The new one.
    added, removed : tuple of str
        Rootnames that it has and the old one had not, and the other way round.
    changed : dict
        Columns that differ, by rootname.
    n_asked : int
        Rows that the archive was asked for.
    """

    manifest: Manifest
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: dict[str, tuple[str, ...]]
    n_asked: int


def build_manifest(query: ArchiveQuery, options: BuildOptions | None = None) -> Manifest:
    """Return the manifest of all images that a query matches.

    No image is left out because it is not for use: the column ``use`` says why it is not. Keys
    are derived from the names, without a look-up. Rows are in the order of the sky, so that a
    stretch of them is a patch of it.

    Parameters
    ----------
    query : ArchiveQuery
        What to list.
    options : BuildOptions, optional
        How.

    Returns
    -------
    Manifest
        Its provenance says how many rows the archive counted and how many came.

    Raises
    ------
    ArchiveError
        If the archive's answer does not become whole.
    ConservationError
        If other rows came than the archive counts.
    UsageError
        If nothing matches.
    """
    options = options or BuildOptions()
    if query.source == "listing":
        store = open_store(options.store, options.storage)
        images = list_images(store, query.product, options.listing)
        provenance = {"n_counted": images.num_rows, "n_received": images.num_rows}
    else:
        pages = _answer(query, options)
        received = pa.concat_tables(pages.tables) if pages.tables else None
        n_received = received.num_rows if received else 0
        provenance = {"n_counted": pages.n_total, "n_received": n_received}
        n_expected = min(pages.n_total, _row_limit(query) or pages.n_total)
        if n_received != n_expected:
            raise ConservationError(
                f"the archive counts {pages.n_total} rows, of which {n_expected} were asked for, "
                f"and {n_received} came. Try again"
            )
        if received is None:
            raise UsageError(f"no image matches {query.as_text()}: ask for less")
        exposures = _exposures_of(query, received, options)
        images = images_of(exposures, query.product, options.now_mjd)
    if not images.num_rows:
        raise UsageError(f"{options.store} holds no {query.product} of WFC3/IR: check --store")
    if query.limit is not None:
        images = images.take(pc.sort_indices(images["rootname"])).slice(0, query.limit)
    return _finished(images, query, options, provenance)


def update_manifest(old: Manifest, options: BuildOptions | None = None) -> ManifestUpdate:
    """Bring a manifest up to date with the archive.

    Of exposures that MAST's search service listed, only those are asked for whose products were
    made since; what became public in the meantime is told by its release date. The archive's own
    count of the whole is then held against the result. Other manifests are asked for anew.

    Parameters
    ----------
    old : Manifest
        Made by `build_manifest`.
    options : BuildOptions, optional
        How to ask. Keys stay relative to the old manifest's store.

    Raises
    ------
    ConservationError
        If the archive counts other rows than the updated manifest has.
    UsageError
        If the old manifest does not say what was asked.
    """
    query = ArchiveQuery.from_text(old.query)
    options = replace(options or BuildOptions(), store=old.store or BUCKET_URL)
    newest = None
    if "generated_mjd" in old.table.column_names:
        newest = pc.max(old.table["generated_mjd"]).as_py()
    in_part = query.source == "missions" and query.product != "drz" and query.limit is None
    if not in_part or newest is None:
        new = build_manifest(query, options)
        return _compared(old, new, len(new))
    after = (
        (MJD_EPOCH + np.timedelta64(int(newest) - _OVERLAP_DAYS, "D"))
        .astype("datetime64[D]")
        .item()
    )
    return _updated_in_part(old, query, options, after)


def _updated_in_part(
    old: Manifest, query: ArchiveQuery, options: BuildOptions, after: date
) -> ManifestUpdate:
    centre = resolve(query.target, options.paging.patience) if query.target else None
    patience = options.paging.patience
    newer = ExposureQuery(query, centre, patience, generated_after=after.isoformat())
    pages = read_pages(newer, replace(options.paging, limit=None))
    table = old.table
    due = pc.and_(
        pc.equal(table["use"], "proprietary"),
        pc.less_equal(table["release_date"], options.now().date().isoformat()),
    )
    use = pc.if_else(due, "", table["use"])
    table = table.set_column(table.column_names.index("use"), "use", use)
    if pages.tables:
        images = images_of(pa.concat_tables(pages.tables), query.product, options.now_mjd)
        kept = pc.invert(pc.is_in(table["rootname"], value_set=images["rootname"].combine_chunks()))
        table = pa.concat_tables([table.filter(kept), images], promote_options="default")
    counting = ExposureQuery(replace(query, limit=1), centre, patience)
    n_counted = read_pages(counting, replace(options.paging, limit=1, on_progress=None)).n_total
    if n_counted != table.num_rows:
        raise ConservationError(
            f"the archive counts {n_counted} exposures, the updated manifest would have "
            f"{table.num_rows}: rows left the archive, or came in under an old date. Make the "
            "manifest anew, without --update"
        )
    provenance = {"n_counted": n_counted, "n_received": table.num_rows}
    provenance |= {"updated_from": old.content_hash}
    new = _finished(table, query, options, provenance)
    return _compared(old, new, pages.n_total)


def verify_manifest(manifest: Manifest, options: BuildOptions | None = None) -> Manifest:
    """Hold a manifest's keys against a listing of where they should be.

    Parameters
    ----------
    manifest : Manifest
        Any manifest; rows for use whose key is not there are no longer for use.
    options : BuildOptions, optional
        How to list.

    Returns
    -------
    Manifest
        With the columns ``nbytes``, ``etag`` and ``verified``: ``'found'``, ``'missing'`` or
        ``'forbidden'``.
    """
    options = options or BuildOptions()
    keys_of: dict[str, list[str]] = {}
    placed = places(manifest.store, manifest.table["key"].to_pylist())
    for root, key in placed:
        keys_of.setdefault(root, []).append(key)
    found: dict[tuple[str, str], ObjectInfo] = {}
    forbidden: set[tuple[str, str]] = set()
    for root, keys in keys_of.items():
        there, closed = list_keys(open_store(root, options.storage), keys, options.listing)
        found |= {(root, key): info for key, info in there.items()}
        forbidden |= {(root, key) for key in closed}
    infos = [found.get(place) for place in placed]
    states = [
        "found" if info else "forbidden" if place in forbidden else "missing"
        for place, info in zip(placed, infos, strict=True)
    ]
    columns: dict[str, Any] = {n: manifest.table[n] for n in manifest.table.column_names}
    columns["nbytes"] = pa.array([info.nbytes if info else None for info in infos], pa.int64())
    columns["etag"] = pa.array([info.etag if info else None for info in infos], pa.string())
    columns["verified"] = pa.array(states)
    use = columns["use"].to_pylist() if "use" in columns else [""] * len(states)
    columns["use"] = pa.array(
        [_verified_use(reason, state) for reason, state in zip(use, states, strict=True)]
    )
    counts = Counter(states)
    return Manifest.from_table(
        pa.table(columns),
        store=manifest.store,
        query=manifest.query,
        created=manifest.created,
        provenance={
            **manifest.provenance,
            "verified": options.now().astimezone(UTC).isoformat(timespec="seconds"),
            **{f"n_{state}": counts[state] for state in ("found", "missing", "forbidden")},
        },
    )


def use_counts(manifest: Manifest) -> dict[str, int]:
    """Return how many rows are for use (``''``) and how many are not, by reason.

    Returns
    -------
    dict
        The most frequent first; ``''`` before all others.
    """
    use = (
        manifest.table["use"].to_pylist()
        if "use" in manifest.table.column_names
        else [""] * len(manifest)
    )
    counts = Counter(use)
    return {"": counts.pop("", 0), **dict(counts.most_common())}


def _verified_use(reason: str, state: str) -> str:
    if reason in ("", "missing", "forbidden"):
        return "" if state == "found" else state
    return reason


def _row_limit(query: ArchiveQuery) -> int | None:
    """Return how many rows to ask for: what is drizzled is made of rows that are not counted."""
    return query.limit if query.source == "missions" and query.product != "drz" else None


def _answer(query: ArchiveQuery, options: BuildOptions) -> Pages:
    patience = options.paging.patience
    centre = resolve(query.target, patience) if query.target else None
    paging = replace(options.paging, limit=_row_limit(query))
    if query.source == "caom":
        from hstmap.archive.caom import ObservationQuery

        return read_pages(ObservationQuery(query, centre, patience), paging)
    asked = replace(query, limit=_row_limit(query))
    return read_pages(ExposureQuery(asked, centre, patience), paging)


def _exposures_of(query: ArchiveQuery, received: pa.Table, options: BuildOptions) -> pa.Table:
    if query.source == "caom" and query.product != "drz":
        from hstmap.archive.caom import with_members

        return with_members(received, query.product, options.paging)
    return received


def _finished(
    images: pa.Table, query: ArchiveQuery, options: BuildOptions, provenance: dict[str, Any]
) -> Manifest:
    return Manifest.from_table(
        images.take(sky_order(images)).combine_chunks(),
        store=options.store,
        query=query.as_text(),
        created=options.now().astimezone(UTC).isoformat(timespec="seconds"),
        provenance=provenance,
    )


def _compared(old: Manifest, new: Manifest, n_asked: int) -> ManifestUpdate:
    before = {name: row for row, name in enumerate(old.table["rootname"].to_pylist())}
    after = {name: row for row, name in enumerate(new.table["rootname"].to_pylist())}
    shared = [name for name in after if name in before]
    old_rows = pa.array([before[name] for name in shared], pa.int64())
    new_rows = pa.array([after[name] for name in shared], pa.int64())
    changed: dict[str, list[str]] = {}
    for column in new.table.column_names:
        if column not in old.table.column_names:
            continue
        was, now = old.table[column].take(old_rows), new.table[column].take(new_rows)
        same = pc.fill_null(pc.equal(was, now), False)
        both_unknown = pc.and_(pc.is_null(was), pc.is_null(now))
        differing = pc.indices_nonzero(pc.invert(pc.or_(same, both_unknown)))
        for row in differing.to_pylist():
            changed.setdefault(shared[row], []).append(column)
    return ManifestUpdate(
        manifest=new,
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed={name: tuple(columns) for name, columns in changed.items()},
        n_asked=n_asked,
    )
