"""Images and keys from a listing, of a folder and of an object store."""

from __future__ import annotations

import threading

import pytest

from hstmap.archive.build import BuildOptions, build_manifest
from hstmap.archive.keys import key_of
from hstmap.archive.listing import ListingOptions, list_images, list_keys, wfc3_prefixes
from hstmap.archive.offline.rows import MadeArchive
from hstmap.archive.query import ArchiveQuery
from hstmap.errors import ForbiddenObjectError, UsageError
from hstmap.storage import open_store

ARCHIVE = MadeArchive(96)
OTHERS = [
    "hst/public/j8cw/j8cw54orq/j8cw54orq_flt.fits",
    "hst/public/icwb/icwb1iu5q/icwb1iu5q_flt.jpg",
    "hst/public/ia00/ia0001010/hst_11000_01_wfc3_ir_f160w_drz.fits",
    "hst/public/ia00/readme.txt",
    "mast/hlsp/ia0001p0q_flt.fits",
]


def layout(archive):
    """Keys of a bucket that holds an archive: what is in the folders of both channels."""
    made = archive.exposures
    for association, rows in archive.members.items():
        infrared = made["sci_instrument_config"][rows[0]] == "WFC3/IR"
        for row in rows:
            name = made["sci_data_set_name"][row].lower()
            for product in ("flt", "ima") if infrared else ("flt", "flc"):
                yield f"hst/public/{name[:4]}/{name}/{name}_{product}.fits"
        name = association.lower()
        for product in ("drz",) if infrared else ("drz", "drc"):
            yield f"hst/public/{name[:4]}/{name}/{name}_{product}.fits"


@pytest.fixture(params=["folder", "object store"])
def store(request, tmp_path):
    url = str(tmp_path) if request.param == "folder" else f"memory://{tmp_path.name}"
    store = open_store(url)
    for number, key in enumerate([*layout(ARCHIVE), *OTHERS]):
        store.put(key, b"x" * (number % 7))
    return store


class TestListImages:
    @pytest.mark.parametrize("product", ["flt", "ima", "drz"])
    def test_it_finds_the_images_that_the_search_service_knows(
        self, store, product, serve_mast, patience
    ):
        serve_mast(ARCHIVE)
        known = build_manifest(ArchiveQuery(product=product)).table
        table = list_images(store, product, ListingOptions())
        assert sorted(table["key"].to_pylist()) == sorted(known["key"].to_pylist())
        assert sorted(table["rootname"].to_pylist()) == sorted(known["rootname"].to_pylist())

    def test_sizes_and_etags_are_those_of_the_objects(self, store):
        row = list_images(store, "flt", ListingOptions()).slice(20, 1).to_pylist()[0]
        info = store.head(row["key"])
        assert (row["nbytes"], row["etag"]) == (info.nbytes, info.etag)

    def test_further_products_of_an_association_are_found(self, store):
        key = key_of("ia0001011", "drz")
        store.put(key, b"")
        rows = list_images(store, "drz", ListingOptions()).to_pylist()
        row = next(row for row in rows if row["rootname"] == "ia0001011")
        assert (row["key"], row["association"]) == (key, "ia0001010")

    def test_the_order_is_that_of_the_keys_however_many_list(self, store):
        alone = list_images(store, "flt", ListingOptions(n_threads=1))
        together = list_images(store, "flt", ListingOptions(n_threads=32))
        assert together.equals(alone)
        assert alone["key"].to_pylist() == sorted(alone["key"].to_pylist())

    def test_progress_counts_every_prefix(self, store):
        seen = []
        list_images(store, "flt", ListingOptions(on_progress=seen.append))
        n_prefixes = len(wfc3_prefixes(store))
        assert [p.n_done for p in seen] == list(range(1, n_prefixes + 1))
        assert seen[-1].n_units == n_prefixes
        assert seen[-1].n_rows >= len(list(layout(ARCHIVE)))

    def test_prefixes_hold_every_wfc3_key_once(self, store):
        prefixes = wfc3_prefixes(store)
        for key in layout(ARCHIVE):
            assert sum(key.startswith(prefix) for prefix in prefixes) == 1

    def test_a_manifest_of_a_listing(self, store):
        query = ArchiveQuery(source="listing")
        manifest = build_manifest(query, BuildOptions(store=store.url))
        assert len(manifest) == 96
        assert manifest.provenance["n_received"] == 96
        names = manifest.table["rootname"].to_pylist()
        assert names == sorted(names)

    def test_limit(self, store):
        query = ArchiveQuery(source="listing", limit=5)
        assert len(build_manifest(query, BuildOptions(store=store.url))) == 5

    def test_an_empty_place_says_so(self, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(UsageError, match="holds no flt"):
            build_manifest(
                ArchiveQuery(source="listing"), BuildOptions(store=str(tmp_path / "empty"))
            )


class TestListKeys:
    def test_what_is_there_and_what_is_not(self, store):
        wanted = [*layout(ARCHIVE)][:40]
        absent = "hst/public/ia00/ia0001zzq/ia0001zzq_flt.fits"
        found, forbidden = list_keys(store, [*wanted, absent], ListingOptions())
        assert found.keys() == set(wanted)
        assert not forbidden

    def test_only_the_programmes_that_are_asked_for_are_listed(self, store):
        wanted = [key for key in layout(ARCHIVE) if key.startswith("hst/public/ia00/")]
        before = store.counts.n_list
        list_keys(store, wanted, ListingOptions())
        assert store.counts.n_list - before == -(-(len(wanted) + 3) // 1000)

    def test_keys_in_any_layout(self, store):
        store.put("mine/a_flt.fits", b"1")
        store.put("b_flt.fits", b"1")
        found, _ = list_keys(store, ["mine/a_flt.fits", "b_flt.fits", "c.fits"], ListingOptions())
        assert sorted(found) == ["b_flt.fits", "mine/a_flt.fits"]


class ClosedStore:
    """A store of which one programme may not be listed."""

    def __init__(self, store, closed):
        self._store, self._closed = store, closed

    def local_path(self, key):
        return self._store.local_path(key)

    def list(self, prefix="", start_after=""):
        if self._closed.startswith(prefix) or prefix.startswith(self._closed):
            raise ForbiddenObjectError(prefix, "may not be listed")
        yield from self._store.list(prefix, start_after)


def test_keys_that_may_not_be_listed_are_told_from_missing_ones(store):
    other = "hst/public/ib6o/ib6o23rtq/ib6o23rtq_flt.fits"
    store.put(other, b"")
    closed = ClosedStore(store, "hst/public/ia00/")
    wanted = [*layout(ARCHIVE)][:3]
    found, forbidden = list_keys(closed, [*wanted, other], ListingOptions())
    assert forbidden == set(wanted)
    assert found.keys() == {other}


def test_a_listing_for_a_manifest_that_is_refused_is_an_error(store):
    with pytest.raises(ForbiddenObjectError):
        list_images(ClosedStore(store, "hst/public/ia"), "flt", ListingOptions())


def test_an_error_in_one_prefix_does_not_wait_for_the_others(store):
    started = threading.Event()

    class Failing(ClosedStore):
        def list(self, prefix="", start_after=""):
            started.set()
            raise ForbiddenObjectError(prefix, "may not be listed")
            yield

    with pytest.raises(ForbiddenObjectError):
        list_images(Failing(store, ""), "flt", ListingOptions(n_threads=2))
    assert started.is_set()
