"""What a person names becomes a manifest: folders, lists, patterns, prefixes and files."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.archive.image_names import name_of
from hstmap.archive.manifest import Manifest
from hstmap.archive.sources import resolve_sources
from hstmap.errors import UsageError
from hstmap.storage import StorageOptions, Store, open_store


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def rows(manifest: Manifest, *columns: str) -> list[tuple[object, ...]]:
    return list(zip(*(manifest.table[name].to_pylist() for name in columns), strict=True))


def rootnames(manifest: Manifest) -> list[str]:
    return manifest.table["rootname"].to_pylist()


# Names


@pytest.mark.parametrize(
    ("name", "rootname", "product"),
    [
        ("ib6o23rtq_flt.fits", "ib6o23rtq", "flt"),
        ("ib6o23rtq_flt.fits.gz", "ib6o23rtq", "flt"),
        ("IB6O23RTQ_FLT.FITS", "ib6o23rtq", "flt"),
        ("ib6o23rtq_ima.fit", "ib6o23rtq", "ima"),
        ("ibg705081_drz.fits", "ibg705081", "drz"),
        ("iebc16u5q_flc.fits", "iebc16u5q", "flc"),
        ("hudf_f160w_sci.fits", "hudf_f160w_sci", "image"),
        ("abell_2744_cd_galaxy_f105w.fits.gz", "abell_2744_cd_galaxy_f105w", "image"),
        ("ib3y01c6q_flt_11x11.fits", "ib3y01c6q_flt_11x11", "image"),
        ("ib6o23rtq.fits", "ib6o23rtq", "image"),
        ("short_flt.fits", "short_flt", "image"),
        ("My Image.v2.fits", "My Image.v2", "image"),
        ("notes", "notes", "image"),
    ],
)
def test_a_name_says_rootname_and_product(name: str, rootname: str, product: str) -> None:
    for url in (name, f"/data/x_y.fits/{name}", f"s3://bucket/a/{name}"):
        named = name_of(url)
        assert (named.url, named.rootname, named.product) == (url, rootname, product)


# Folders


def test_a_folder_is_searched_for_images(folder: Path) -> None:
    make(folder, "d/b/ib6o23rtq_flt.fits", "d/a.fit", "d/c.FITS.gz", "d/._c.fits", "d/notes.txt")
    manifest = resolve_sources(["d"])
    assert rows(manifest, "rootname", "key", "product", "nbytes") == [
        ("a", "a.fit", "image", 7),
        ("ib6o23rtq", "b/ib6o23rtq_flt.fits", "flt", 22),
        ("c", "c.FITS.gz", "image", 11),
    ]
    assert manifest.store == str(folder / "d")
    assert manifest.notes == ()
    for url in manifest.urls:
        assert Path(url).is_file()


RUN = (
    "run.json", "manifest.parquet", "coverage.moc.fits", "catalogs/isim01a1q_cat.fits",
    "catalogs/0123_cat.fits",
)  # fmt: skip


@pytest.mark.parametrize("out", ["", "hstmap-out/", "deep/er/out/"])
def test_results_of_runs_are_no_images(folder: Path, out: str) -> None:
    make(folder, "isim01a1q_flt.fits", "other/catalogs/isim02a1q_flt.fits")
    make(folder, *(f"{out}{name}" for name in RUN), f"{out}sample/isim03a1q_flt.fits")
    found = resolve_sources(["."])
    assert sorted(rootnames(found)) == ["isim01a1q", "isim02a1q", "isim03a1q"]
    assert found.notes == (".: 3 FITS files are results of runs, and no images",)
    # Who asks for them by a pattern, a name or their own folder gets them.
    named = [f"{out}coverage.moc.fits", f"{out}catalogs"]
    assert len(rootnames(resolve_sources(named))) == 3
    assert len(rootnames(resolve_sources([f"./{out}catalogs/*"]))) == 2


def test_a_run_alone_holds_no_image(folder: Path) -> None:
    make(folder, *(f"out/{name}" for name in RUN))
    with pytest.raises(UsageError, match="out holds no image: 3 FITS files are results of runs"):
        resolve_sources(["out"])


def test_results_of_runs_in_a_bucket_are_no_images(s3_bucket: str) -> None:
    store = open_store(f"{s3_bucket}/results-of-runs")
    for name in ("isim01a1q_flt.fits", *(f"out/{name}" for name in RUN)):
        store.put(name, name.encode())
    assert rootnames(resolve_sources([store.url])) == ["isim01a1q"]
    assert len(rootnames(resolve_sources([f"{store.url}/out/catalogs/"]))) == 2


def test_of_one_rootname_the_preferred_product_is_used_and_the_rest_is_said(folder: Path) -> None:
    make(
        folder,
        "d/ib6o23rtq_raw.fits",
        "d/ib6o23rtq_ima.fits",
        "d/ib6o23rtq_flt.fits",
        "d/ib6o23rtq_spt.fits",
        "d/ib6o23010_asn.fits",
        "d/ib6o23010_drz.fits",
        "d/ib6o23rsq_ima.fits",
    )
    manifest = resolve_sources(["d"])
    assert rows(manifest, "rootname", "product") == [
        ("ib6o23010", "drz"),
        ("ib6o23rsq", "ima"),
        ("ib6o23rtq", "flt"),
    ]
    assert len(manifest.notes) == 2
    assert "2 files left aside, they hold no image" in manifest.notes[0]
    assert "another is used: 1 ima, 1 raw" in manifest.notes[1]
    assert rows(resolve_sources(["d"], product="ima"), "rootname", "product") == [
        ("ib6o23rsq", "ima"),
        ("ib6o23rtq", "ima"),
    ]
    with pytest.raises(UsageError, match=r"holds no image to use: .*only drc was asked for"):
        resolve_sources(["d"], product="drc")


def test_what_is_named_by_itself_is_used_whatever_its_product(folder: Path) -> None:
    make(folder, "ib6o23rtq_raw.fits", "ib6o23rsq_flt.fits")
    manifest = resolve_sources(["ib6o23rtq_raw.fits", "ib6o23rsq_flt.fits"], product="flt")
    assert rows(manifest, "rootname", "product") == [("ib6o23rtq", "raw"), ("ib6o23rsq", "flt")]


@pytest.mark.parametrize("source", ["d", "d/*.fits", "d/**/*.fits", "s3://bucket", "memory://none"])
def test_a_place_without_images_is_bad_usage(folder: Path, source: str, s3_bucket: str) -> None:
    make(folder, "d/notes.txt", "d/catalog.cat")
    with pytest.raises(UsageError, match="holds no image"):
        resolve_sources([source.replace("s3://bucket", s3_bucket)])


def test_weights_and_errors_go_with_their_science_image(folder: Path) -> None:
    make(folder, "d/x_sci.fits", "d/x_wht.fits", "d/x_rms.fits", "d/y_sci.fits", "d/y_rms.fits.gz")
    make(folder, "d/z_wht.fits", "d/deep/x2_sci.fits", "e/x2_wht.fits")
    manifest = resolve_sources(["d", "e"])
    assert rows(manifest, "rootname", "companion_key") == [
        ("x2_sci", ""),
        ("x_sci", "d/x_wht.fits"),
        ("y_sci", "d/y_rms.fits.gz"),
        ("z_wht", ""),
        ("x2_wht", ""),
    ]
    assert manifest.companion_urls[1] == str(folder / "d" / "x_wht.fits")
    assert manifest.notes == ("3 weight and error images belong to science images",)
    assert rootnames(resolve_sources(["d/x_wht.fits", "d/x_sci.fits"])) == ["x_sci"]


def test_real_folders(data_dir: Path) -> None:
    frames = resolve_sources([str(data_dir / "frames")])
    assert rootnames(frames) == ["ib6o04uwq", "ib6o23rsq", "ib6o23rtq", "ib6o23rwq"]
    assert set(frames.table["nbytes"].to_pylist()) == {16505280}
    other = resolve_sources([str(data_dir / "other-ir"), str(data_dir / "reject")])
    assert len(other) == 4 + 11
    assert sum(map(bool, other.companion_urls)) == 2


# Patterns


def test_patterns(folder: Path) -> None:
    make(folder, "a/x1.fits", "a/x2.fits", "a/b/x3.fits.gz", "a/notes.txt", "a/odd[1].fits")
    assert rootnames(resolve_sources(["a/x?.fits"])) == ["x1", "x2"]
    assert rootnames(resolve_sources(["a/*"])) == ["odd[1]", "x1", "x2"]
    assert rootnames(resolve_sources([f"{folder}/**/x[13]*"])) == ["x3", "x1"]
    assert rootnames(resolve_sources(["a/odd[1].fits"])) == ["odd[1]"]


# Single files


@pytest.mark.parametrize(
    "name", ["nowhere.fits", "no/where_flt.fits.gz", "s3://bucket/a/nowhere.fits"]
)
def test_a_file_that_is_missing_is_a_row_for_the_run_to_account_for(
    folder: Path, name: str
) -> None:
    manifest = resolve_sources([name])
    assert manifest.urls == [name if "://" in name else str(folder / name)]
    assert rows(manifest, "nbytes", "etag") == [(None, "")]


def test_a_name_that_is_nothing_is_bad_usage(folder: Path) -> None:
    for name in ("nothing", "no/folder/", "typo.cat"):
        with pytest.raises(UsageError, match="is neither a file nor a folder: check the name"):
            resolve_sources([name])


def test_an_existing_file_of_any_name_is_an_image_to_try(folder: Path) -> None:
    make(folder, "image.dat")
    assert resolve_sources(["image.dat"]).urls == [str(folder / "image.dat")]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("ib6o23rtq", "hst/public/ib6o/ib6o23rtq/ib6o23rtq_flt.fits"),
        ("IB6O23RTQ", "hst/public/ib6o/ib6o23rtq/ib6o23rtq_flt.fits"),
        (
            "hst/public/ibg7/ibg705080/ibg705081_drz.fits",
            "hst/public/ibg7/ibg705080/ibg705081_drz.fits",
        ),
        ("mast:HST/product/ib6o23rtq_ima.fits", "hst/public/ib6o/ib6o23rtq/ib6o23rtq_ima.fits"),
        ("s3://stpubdata/hst/public/x/y_flt.fits", "hst/public/x/y_flt.fits"),
    ],
)
def test_names_of_the_archive_lie_in_its_bucket(folder: Path, name: str, key: str) -> None:
    for manifest in (resolve_sources([name]), resolve_sources(["-"], stdin=io.StringIO(name))):
        assert manifest.store == "s3://stpubdata"
        assert manifest.table["key"].to_pylist() == [key]


def test_a_local_copy_of_the_archive_comes_before_the_bucket(folder: Path) -> None:
    key = "hst/public/ib6o/ib6o23rtq/ib6o23rtq_flt.fits"
    make(folder, key)
    assert resolve_sources([key]).urls == [str(folder / key)]


def test_another_product_of_a_rootname() -> None:
    assert resolve_sources(["ib6o23rtq"], product="ima").urls[0].endswith("ib6o23rtq_ima.fits")
    assert resolve_sources(["ib6o23010"], product="drz").urls[0].endswith("ib6o23010_drz.fits")
    with pytest.raises(UsageError, match="association"):
        resolve_sources(["ib6o23010"])


# Lists


def test_a_list_has_one_image_a_line(folder: Path) -> None:
    (folder / "list.txt").write_text(
        "# my images\n\nib6o23rtq   # the first\n  data/x#1.fits\t\n"
        "s3://bucket/a b/y_flt.fits\nhst/public/ib6o/ib6o23rwq/ib6o23rwq_flt.fits\r\n",
        encoding="utf-8-sig",
    )
    manifest = resolve_sources(["list.txt"])
    assert manifest.urls == [
        "s3://stpubdata/hst/public/ib6o/ib6o23rtq/ib6o23rtq_flt.fits",
        str(folder / "data" / "x#1.fits"),
        "s3://bucket/a b/y_flt.fits",
        "s3://stpubdata/hst/public/ib6o/ib6o23rwq/ib6o23rwq_flt.fits",
    ]
    assert manifest.store is None
    (folder / "list.lst").write_text("ib6o23rtq\n")
    assert rootnames(resolve_sources(["list.lst"])) == ["ib6o23rtq"]


def test_a_list_on_s3(s3_bucket: str) -> None:
    open_store(s3_bucket).put("lists/list.txt", b"ib6o23rtq\n")
    assert rootnames(resolve_sources([f"{s3_bucket}/lists/list.txt"])) == ["ib6o23rtq"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "lists no image"),
        (b"# nothing\n\n", "lists no image"),
        (b"ib6o23rtq\nib6o23010\n", r"line 2 of list.txt: ib6o23010 is an association"),
        (b"gs://bucket/x.fits\n", r"line 1 of list.txt: cannot read from 'gs://bucket/x.fits'"),
        (b"\xff\xfe\x00SIMPLE", "not a text list: byte 0 is not UTF-8"),
        (
            b"ib6o23rtq\nib6o23rwq\nx/ib6o23rtq_flt.fits",
            r"rootname ib6o23rtq: rows 1 and 3 \(s3:.*x/",
        ),
    ],
)
def test_malformed_lists_are_refused(folder: Path, data: bytes, words: str) -> None:
    (folder / "list.txt").write_bytes(data)
    with pytest.raises(UsageError, match=words):
        resolve_sources(["list.txt"])


def test_a_list_that_is_not_there(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the list .*list.txt"):
        resolve_sources(["list.txt"])


# S3


@pytest.fixture
def bucket(s3_bucket: str) -> Store:
    store = open_store(s3_bucket)
    for name in ("ib6o23rsq", "ib6o23rtq", "ib6p01aaq"):
        for product in ("flt", "ima", "spt"):
            store.put(f"hst/public/{name[:4]}/{name}/{name}_{product}.fits", b"x")
    store.put("hst/public/readme.txt", b"x")
    store.counts.n_list = 0
    return store


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", ["ib6o23rsq", "ib6o23rtq", "ib6p01aaq"]),
        ("/", ["ib6o23rsq", "ib6o23rtq", "ib6p01aaq"]),
        ("/hst/public/ib6o", ["ib6o23rsq", "ib6o23rtq"]),
        ("/hst/public/ib6o/", ["ib6o23rsq", "ib6o23rtq"]),
        ("/hst/public/ib6o/ib6o23rt", ["ib6o23rtq"]),
        ("/hst/public/*/*q_flt.fits", ["ib6o23rsq", "ib6o23rtq", "ib6p01aaq"]),
        ("/hst/public/ib6[p]*", ["ib6p01aaq"]),
        ("/hst/public/ib6o/ib6o23rtq/ib6o23rtq_flt.fits", ["ib6o23rtq"]),
    ],
)
def test_prefixes_patterns_and_objects_of_a_bucket(
    bucket: Store, source: str, expected: list[str]
) -> None:
    manifest = resolve_sources([bucket.url + source])
    assert rootnames(manifest) == expected
    assert manifest.store == bucket.url
    assert set(manifest.table["product"].to_pylist()) == {"flt"}
    assert all(bucket.exists(key) for key in manifest.table["key"].to_pylist())


def test_listing_brings_sizes_and_etags(bucket: Store) -> None:
    manifest = resolve_sources([f"{bucket.url}/hst/public/ib6p"])
    info = bucket.head("hst/public/ib6p/ib6p01aaq/ib6p01aaq_flt.fits")
    assert rows(manifest, "nbytes", "etag") == [(info.nbytes, info.etag)]


def test_a_bucket_that_cannot_be_listed_is_bad_usage(s3_bucket: str) -> None:
    with pytest.raises(UsageError, match=r"cannot list .*there is no such bucket"):
        resolve_sources([f"{s3_bucket}-not-there/prefix"])
    nobody = StorageOptions(endpoint_url="http://127.0.0.1:1", max_retries=0)
    with pytest.raises(UsageError, match=r"cannot list .*check the network"):
        resolve_sources(["s3://bucket/prefix"], nobody)


# Manifests, and several sources


@pytest.mark.parametrize("suffix", ["parquet", "csv", "ecsv"])
def test_a_manifest_alone_is_itself(folder: Path, suffix: str) -> None:
    made = Manifest.from_rows(
        [{"rootname": "a", "key": "a.fits", "filter": "F160W", "own": 3}],
        store="s3://b/p",
        query="q",
    )
    made.write(f"m.{suffix}")
    read = resolve_sources([f"m.{suffix}"])
    assert read.content_hash == made.content_hash
    assert read.metadata == made.metadata


def test_sources_are_merged_in_their_order(folder: Path) -> None:
    make(folder, "d/b.fits", "d/a.fits", "c.fits")
    Manifest.from_rows(
        [{"rootname": "m", "key": "m.fits", "filter": "F160W", "use": "grism"}],
        store=str(folder / "elsewhere"),
    ).write("m.csv")
    manifest = resolve_sources(["m.csv", "c.fits", "d"])
    assert rows(manifest, "rootname", "key", "filter", "use") == [
        ("m", "elsewhere/m.fits", "F160W", "grism"),
        ("c", "c.fits", "", ""),
        ("a", "d/a.fits", "", ""),
        ("b", "d/b.fits", "", ""),
    ]
    assert manifest.store == str(folder)
    assert manifest.query == "m.csv c.fits d"


def test_relative_keys_of_a_manifest_are_those_of_the_current_folder(folder: Path) -> None:
    (folder / "m.csv").write_text("rootname,key\na,sub/a.fits\nb,b.fits\n")
    manifest = resolve_sources(["m.csv", "c.fits"])
    assert manifest.urls == [str(folder / name) for name in ("sub/a.fits", "b.fits", "c.fits")]


def test_local_and_remote_images_share_no_store(folder: Path) -> None:
    manifest = resolve_sources(["x.fits", "s3://bucket/y.fits"])
    assert manifest.store is None
    assert manifest.urls == [str(folder / "x.fits"), "s3://bucket/y.fits"]


def test_a_file_named_twice_is_one_image_with_its_size(folder: Path) -> None:
    make(folder, "d/a.fits")
    for sources in (["d/a.fits", "d"], ["d", "d/a.fits"], ["d", "d/../d/a.fits"]):
        manifest = resolve_sources(sources)
        assert rows(manifest, "rootname", "nbytes") == [("a", 8)]
        assert manifest.notes == ("1 names came more than once: each file is used once",)


def test_two_files_of_one_rootname_are_refused_with_both_names(folder: Path) -> None:
    make(folder, "d/ib6o23rtq_flt.fits", "e/ib6o23rtq_flt.fits")
    for sources in (["d", "e"], ["."], ["d", "e/ib6o23rtq_flt.fits"]):
        with pytest.raises(UsageError) as raised:
            resolve_sources(sources)
        for name in ("d", "e"):
            assert str(folder / name / "ib6o23rtq_flt.fits") in str(raised.value)


def test_manifests_that_do_not_go_together_are_refused(folder: Path) -> None:
    Manifest.from_rows([{"rootname": "a", "key": "x", "own": 1}]).write("m.parquet")
    Manifest.from_rows([{"rootname": "b", "key": "y", "own": "text"}]).write("n.parquet")
    with pytest.raises(UsageError, match="the manifests do not go together"):
        resolve_sources(["m.parquet", "n.parquet"])


def test_nothing_named_is_bad_usage() -> None:
    with pytest.raises(UsageError, match="no images were named"):
        resolve_sources([])


def test_other_schemes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"cannot read from 'gs://bucket/x.fits'"):
        resolve_sources(["gs://bucket/x.fits"])


segments = st.text("abxyz019_", min_size=1, max_size=4)
paths = st.lists(segments, min_size=1, max_size=3).map("/".join)


@given(
    places=st.lists(
        st.tuples(st.sampled_from(["/", "s3://one/", "s3://two/"]), paths),
        min_size=1,
        max_size=6,
        unique_by=lambda place: place[1].rpartition("/")[2],
    )
)
def test_keys_and_store_make_up_the_urls_that_were_given(places: list[tuple[str, str]]) -> None:
    urls = [f"{root}{path}.fits" for root, path in places]
    manifest = resolve_sources(["-"], stdin=io.StringIO("\n".join(urls)))
    assert manifest.urls == urls
    assert (manifest.store is None) == (len({root for root, _ in places}) > 1)


def test_a_hundred_thousand_names(folder: Path) -> None:
    names = [f"i{i:07d}q" for i in range(100_000)]
    manifest = resolve_sources(["-"], stdin=io.StringIO("\n".join(names)))
    assert rootnames(manifest) == names
    assert manifest.urls[-1].endswith("/i009/i0099999q/i0099999q_flt.fits")
