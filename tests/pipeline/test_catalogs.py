"""Where the catalogues of images are: a file each, or a table each in their batch's file."""

from __future__ import annotations

import contextlib
import dataclasses
import io

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import QTable, Table

from hstmap.batch import CATALOGS, Batch, ImageKey, bundle_key, catalog_key, image_row, part_key
from hstmap.catalogs import CatalogFiles
from hstmap.cli import main
from hstmap.errors import ConservationError, RunMismatchError, UsageError
from hstmap.pipeline import RunOptions
from hstmap.report.catalogs import read_catalog
from hstmap.storage import open_store
from hstmap.wfc3.catalog import TABLE_NAME, fits_extension
from hstmap.wfc3.measure import empty_sources
from hstmap.wfc3.schema import catalog_columns
from hstmap.worker import make_catalog
from support.archive import write_archive, write_broken_files

BLOCK = 2880
#: Cards that differ from one way to the other, as they must.
OF_THE_FILE = {"EXTNAME"}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Give five images and four files that are none."""
    folder = tmp_path_factory.mktemp("catalogs") / "images"
    write_archive(folder)
    write_broken_files(folder)
    return folder


def hstmap_map(images, out, *options):
    arguments = ["map", str(images), "--out", str(out), "--engine", "inprocess", "--quiet"]
    with contextlib.redirect_stderr(io.StringIO()):
        return main([*arguments, "--batch-size", "4", *map(str, options)])


@pytest.fixture(scope="module")
def runs(images):
    """Do them all in each way."""
    places = {way: images.parent / way for way in CATALOGS}
    for way, out in places.items():
        assert hstmap_map(images, out, "--catalogs", way) == 1  # some files are broken
    return places


def rows_of(out):
    rows = pd.read_parquet(out / "images.parquet").set_index("rootname")
    return rows[rows["outcome"].isin(["ok", "empty"])]


def test_the_summary_is_the_same_however_catalogs_are_kept(runs):
    contents = {(out / "sources.parquet").read_bytes() for out in runs.values()}
    assert len(contents) == 1


def test_what_is_written_is_what_was_asked_for(runs):
    n_parts = {way: len(list((out / "parts").iterdir())) for way, out in runs.items()}
    files = {way: sorted(out.glob("catalogs/*")) for way, out in runs.items()}
    assert [path.name for path in files["image"]] == [
        f"{name}_cat.fits" for name in sorted(rows_of(runs["image"]).index)
    ]
    # Broken files lie together: a batch of them has no catalogue, and no file of none.
    assert 1 < len(files["batch"]) <= n_parts["batch"]
    digests = {path.stem for path in (runs["batch"] / "parts").iterdir()}
    assert {path.name.removesuffix("_cat.fits") for path in files["batch"]} <= digests
    assert not files["none"]
    assert (rows_of(runs["none"])[["catalog", "catalog_hdu"]] == "").all(axis=None)


@pytest.mark.parametrize("way", ["image", "batch"])
def test_a_row_says_how_to_open_its_table(runs, way):
    out = runs[way]
    sources = pd.read_parquet(out / "sources.parquet")
    rows = rows_of(out)
    assert set(rows["catalog_hdu"]) == (set(rows.index) if way == "batch" else {TABLE_NAME})
    for rootname, row in rows.iterrows():
        table = Table.read(out / row["catalog"], hdu=row["catalog_hdu"])
        assert len(table) == row["n_sources"] > 0
        of_image = sources[sources["rootname"] == rootname]
        for column in catalog_columns():
            np.testing.assert_array_equal(table[column.name], of_image[column.name])
        # The byte range is the extension, whole, and nothing else.
        file = (out / row["catalog"]).read_bytes()
        start, nbytes = row["catalog_start"], row["catalog_nbytes"]
        assert start % BLOCK == nbytes % BLOCK == 0
        hdu = fits.BinTableHDU.fromstring(file[start : start + nbytes])
        hdu.verify("exception")
        assert hdu.name == row["catalog_hdu"]
        np.testing.assert_array_equal(Table.read(hdu)["flux_auto"], table["flux_auto"])


def test_the_tables_of_a_bundle_fill_it_without_gaps(runs):
    for key, rows in rows_of(runs["batch"]).groupby("catalog"):
        path = runs["batch"] / key
        with fits.open(path) as hdus:
            hdus.verify("exception")
            assert {hdu.name for hdu in hdus[1:]} == set(rows.index)
            assert len(hdus) == 1 + len(rows)
        ends = rows["catalog_start"] + rows["catalog_nbytes"]
        assert sorted(rows["catalog_start"])[1:] == sorted(ends)[:-1]
        assert (rows["catalog_start"].min(), ends.max()) == (BLOCK, path.stat().st_size)


def test_both_ways_keep_the_same_cards_and_tables(runs):
    for rootname in rows_of(runs["image"]).index:
        one, other = (read_catalog(str(runs[way]), rootname) for way in ("image", "batch"))
        assert one.meta["ROOTNAME"] == rootname
        same = one.meta.keys() - OF_THE_FILE
        assert same == other.meta.keys() - OF_THE_FILE
        assert {name: one.meta[name] for name in same} == {name: other.meta[name] for name in same}
        assert one.colnames == other.colnames
        for name in one.colnames:
            np.testing.assert_array_equal(one[name], other[name])
            assert getattr(one[name], "unit", None) == getattr(other[name], "unit", None)


@pytest.mark.parametrize("way", ["image", "batch"])
def test_a_catalog_takes_one_request_of_its_own_bytes(runs, way, s3_bucket, monkeypatch):
    store = open_store(f"{s3_bucket}/{way}")
    for path in (*runs[way].glob("catalogs/*"), runs[way] / "images.parquet"):
        store.put(str(path.relative_to(runs[way])), path.read_bytes())
    asked = []
    real = type(store).get_range

    def spy(self, key, start, end, *args):
        asked.append((key, end - start))
        return real(self, key, start, end, *args)

    monkeypatch.setattr(type(store), "get_range", spy)
    rootname, row = next(rows_of(runs[way]).iloc[[1]].iterrows())
    table = read_catalog(store.url, rootname)
    assert isinstance(table, QTable)
    assert len(table) == row["n_sources"]
    ((key, nbytes),) = (item for item in asked if item[0].startswith("catalogs/"))
    assert key == row["catalog"]
    assert nbytes - row["catalog_nbytes"] in (0, row["catalog_start"])


def test_a_catalog_that_is_not_there_is_said_to_be_so(runs):
    with pytest.raises(UsageError, match=r"is ok and has no FITS catalogue .*hstmap export"):
        read_catalog(str(runs["none"]), rows_of(runs["none"]).index[0])
    rows = pd.read_parquet(runs["image"] / "images.parquet").set_index("rootname")
    with pytest.raises(UsageError, match="is failed and has no FITS catalogue"):
        read_catalog(str(runs["image"]), rows.index[rows["outcome"] == "failed"][0])
    with pytest.raises(UsageError, match="no image 'inone01aq'"):
        read_catalog(str(runs["image"]), "inone01aq")


def test_export_reads_an_image_of_every_run(runs, tmp_path):
    rootname = rows_of(runs["image"]).index[0]
    tables = []
    for way, out in runs.items():
        file = tmp_path / f"{way}.fits"
        assert main(["export", str(out), "--image", rootname, "-o", str(file), "--quiet"]) == 0
        tables.append(Table.read(file))
    assert len(tables[0]) == rows_of(runs["image"]).loc[rootname, "n_sources"]
    for table in tables[1:]:
        np.testing.assert_array_equal(table["flux_auto"], tables[0]["flux_auto"])


def test_a_run_goes_on_only_in_its_own_way(images, runs, capsys):
    for way, other in (("image", "batch"), ("batch", "none"), ("none", "image")):
        assert hstmap_map(images, runs[way], "--catalogs", other) == 2
    with pytest.raises(UsageError, match="catalogs is True; give one of image, batch, none"):
        RunOptions(catalogs=True)
    assert issubclass(RunMismatchError, UsageError)


def test_an_image_done_again_is_found_in_the_later_file(images, tmp_path):
    files = tmp_path / "images"
    files.mkdir()
    first, second, *_ = sorted(images.glob("isim*"))
    (files / first.name).write_bytes(first.read_bytes())
    manifest = tmp_path / "list.txt"
    manifest.write_text(f"{files / first.name}\n{files / second.name}\n")
    out = tmp_path / "out"
    assert hstmap_map(manifest, out, "--catalogs", "batch") == 1
    (files / second.name).write_bytes(second.read_bytes())
    assert hstmap_map(manifest, out, "--catalogs", "batch", "--retry-failed") == 0
    rows = rows_of(out)
    assert rows["catalog"].nunique() == 2
    for rootname, row in rows.iterrows():
        assert len(read_catalog(str(out), rootname)) == row["n_sources"]


# -- a batch's files by themselves ----------------------------------------------------------------


BATCH = Batch((ImageKey("i1", "/x/i1_flt.fits"), ImageKey("i2", "/x/i2_flt.fits")), "/out")


def row_of(image):
    return image_row(image, "empty")


def test_the_names_of_files_follow_from_what_goes_into_them():
    bundled = dataclasses.replace(BATCH, catalogs="batch")
    assert bundle_key(bundled).removesuffix("_cat.fits").partition("/")[2] in part_key(bundled)
    assert bundle_key(bundled) != bundle_key(BATCH)
    assert bundle_key(dataclasses.replace(bundled, out="s3://elsewhere")) == bundle_key(bundled)
    assert catalog_key("i1") == "catalogs/i1_cat.fits"


def test_a_bundle_is_put_once_and_not_at_all_if_it_is_empty():
    put = []
    bundled = dataclasses.replace(BATCH, catalogs="batch")
    files = CatalogFiles(bundled, lambda key, data: put.append((key, data)))
    files.finish(0)
    assert put == []
    places = [files.add(row_of(image), empty_sources()) for image in bundled.images]
    assert put == []
    files.finish(2)
    ((key, data),) = put
    assert key == bundle_key(bundled) == places[0]["catalog"] == places[1]["catalog"]
    assert fits.getheader(io.BytesIO(data), "i2")["INPUT"] == "/x/i2_flt.fits"
    assert fits.getheader(io.BytesIO(data))["ORIGIN"] == f"hstmap {bundled.version}"


def test_a_bundle_that_lacks_an_image_is_not_written():
    put = []
    files = CatalogFiles(
        dataclasses.replace(BATCH, catalogs="batch"), lambda key, data: put.append(key)
    )
    files.add(row_of(BATCH.images[0]), empty_sources())
    with pytest.raises(
        ConservationError, match=r"2 images of the batch were measured and .* has 1"
    ):
        files.finish(2)
    assert put == []


def test_the_same_image_gives_the_same_extension_twice():
    cards = [("INPUT", "s3://" + "long/" * 40, "")]
    once, again = (fits_extension(empty_sources(), cards, "i1") for _ in range(2))
    assert once == again
    assert fits.BinTableHDU.fromstring(once).header["INPUT"] == cards[0][1]


@pytest.mark.parametrize("way", CATALOGS)
def test_one_image_alone_gets_a_whole_file_whatever_the_batch_says(images, way):
    path = next(images.glob("isim*"))
    batch = dataclasses.replace(BATCH, catalogs=way)
    row, content = make_catalog(ImageKey(path.name[:9], str(path)), batch)
    assert row["outcome"] == "ok"
    assert len(Table.read(io.BytesIO(content), format="fits")) == row["n_sources"]
    assert make_catalog(ImageKey("igone", "/gone_flt.fits"), batch)[1] is None
