"""The manifest: what is refused, what is kept, and that its hash is that of its rows."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from hstmap.archive.manifest import MANIFEST_COLUMNS, Manifest
from hstmap.errors import StorageError, UsageError
from hstmap.storage import open_store

FORMATS = ["parquet", "csv", "ecsv"]

ROWS = [
    {
        "rootname": "ib6o23rtq",
        "key": "hst/public/ib6o/ib6o23rtq/ib6o23rtq_flt.fits",
        "product": "flt",
        "filter": "F140W",
        "target": "GOODS-SOUTH, field 3",
        "ra": 53.1,
        "dec": -27.8,
        "exposure_s": 802.9,
        "start_mjd": 55123.25,
        "program_id": 11359,
        "nbytes": 16505280,
        "use": "",
    },
    {
        "rootname": "ib6o23rsq",
        "key": "hst/public/ib6o/ib6o23rsq/ib6o23rsq_flt.fits",
        "product": "flt",
        "filter": "G141",
        "program_id": 11359,
        "use": "grism",
    },
]


def manifest(rows: list[dict[str, object]] | None = None, **more: object) -> Manifest:
    return Manifest.from_rows(ROWS if rows is None else rows, store="s3://stpubdata", **more)


def named(*names: str) -> list[dict[str, object]]:
    return [{"rootname": name, "key": f"{name}_flt.fits"} for name in names]


def test_unknown_text_is_empty_and_unknown_numbers_are_null() -> None:
    second = manifest().table.to_pylist()[1]
    assert second["target"] == ""
    assert second["ra"] is None
    assert second["nbytes"] is None
    assert len(manifest()) == 2


def test_urls_are_those_of_the_store() -> None:
    rows = [row | {"companion_key": ""} for row in ROWS]
    rows[0]["companion_key"] = "x/wht.fits"
    made = manifest(rows)
    assert made.urls == [f"s3://stpubdata/{row['key']}" for row in ROWS]
    assert made.companion_urls == ["s3://stpubdata/x/wht.fits", ""]
    assert manifest().companion_urls == ["", ""]
    assert Manifest.from_rows(named("a"), store="/").urls == ["/a_flt.fits"]


def test_paths_are_those_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keys = ["x.fits", "/data/y.fits", "s3://bucket/z.fits"]
    made = Manifest.from_columns({"rootname": ["x", "y", "z"], "key": keys})
    assert made.urls == [str(tmp_path / "x.fits"), *keys[1:]]
    assert made.table["key"].to_pylist() == keys


def test_it_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        manifest().store = "elsewhere"  # type: ignore[misc]


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_written_is_read(tmp_path: Path, suffix: str) -> None:
    made = manifest(query="filter=F140W")
    made.write(str(tmp_path / f"m.{suffix}"))
    read = Manifest.read(str(tmp_path / f"m.{suffix}"))
    assert read.table.equals(made.table)
    assert (read.store, read.query, read.created) == (made.store, made.query, made.created)
    assert read.metadata == made.metadata


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_manifest_lies_on_s3_as_well(s3_bucket: str, suffix: str) -> None:
    url = f"{s3_bucket}/some/run/manifest.{suffix}"
    manifest().write(url)
    assert Manifest.read(url).content_hash == manifest().content_hash


def test_people_find_units_and_values_in_the_files(tmp_path: Path) -> None:
    import pandas as pd
    import pyarrow.parquet as pq

    for suffix in FORMATS:
        manifest().write(str(tmp_path / f"m.{suffix}"))
    assert Table.read(tmp_path / "m.ecsv", format="ascii.ecsv")["exposure_s"].unit == "s"
    assert pq.read_schema(tmp_path / "m.parquet").field("ra").metadata[b"unit"] == b"deg"
    frame = pd.read_csv(tmp_path / "m.csv", comment="#", keep_default_na=False)
    assert frame["target"][0] == "GOODS-SOUTH, field 3"
    assert pd.read_parquet(tmp_path / "m.parquet")["program_id"].tolist() == [11359, 11359]


texts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=12)
names = st.text("abcdefghij0123456789_-. ", min_size=1, max_size=12).filter(
    lambda name: not name.startswith(".") and name.strip() == name
)
numbers = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))
rows = st.fixed_dictionaries(
    {"rootname": names, "key": texts.filter(lambda text: text and text == text.strip())},
    optional={
        "target": texts,
        "filter": st.sampled_from(["F160W", "F105W", "nan", "NULL", "--", "None"]),
        "ra": st.one_of(st.none(), st.floats(0, 360)),
        "dec": st.one_of(st.none(), st.floats(-90, 90)),
        "start_mjd": numbers,
        "program_id": st.one_of(st.none(), st.integers(0, 99999)),
        "nbytes": st.one_of(st.none(), st.integers(0, 2**62)),
        "own_text": texts,
        "own_number": numbers,
        "own_count": st.one_of(st.none(), st.integers(-(2**62), 2**62)),
        "own_switch": st.one_of(st.none(), st.booleans()),
    },
)


@given(rows=st.lists(rows, min_size=1, max_size=6, unique_by=lambda row: row["rootname"]))
def test_every_format_keeps_every_value(rows: list[dict[str, object]]) -> None:
    made = Manifest.from_rows(rows, store="s3://bucket/prefix")
    for suffix in FORMATS:
        url = f"memory://manifests/m.{suffix}"
        made.write(url)
        read = Manifest.read(url)
        assert read.content_hash == made.content_hash
        assert read.urls == made.urls
        for name in made.table.column_names:
            assert read.table[name].to_pylist() == made.table[name].to_pylist()


def test_spaces_around_a_key_are_its_own() -> None:
    made = Manifest.from_rows([{"rootname": "a", "key": " x ", "target": " M 31 "}])
    assert made.table.to_pylist() == [{"rootname": "a", "key": " x ", "target": "M 31"}]
    for suffix in ("parquet", "csv"):
        made.write(f"memory://spaces/m.{suffix}")
        assert Manifest.read(f"memory://spaces/m.{suffix}").table["key"].to_pylist() == [" x "]
    with pytest.raises(UsageError, match="ECSV loses the spaces around key ' x '"):
        made.write("memory://spaces/m.ecsv")


# The content hash


def test_the_hash_depends_on_rows_their_order_and_the_store() -> None:
    first = manifest().content_hash
    assert len(first) == 64
    assert manifest().content_hash == first
    assert manifest(ROWS[::-1]).content_hash != first
    assert manifest(ROWS[:1]).content_hash != first
    assert Manifest.from_rows(ROWS, store="s3://elsewhere").content_hash != first
    for name in ("rootname", "key", "filter", "use"):
        changed = [row | {name: f"{row[name]}x"} for row in ROWS]
        assert manifest(changed).content_hash != first
    assert manifest([row | {"ra": 53.100000000000001} for row in ROWS]).content_hash != first


def test_the_hash_does_not_depend_on_how_the_rows_are_held() -> None:
    made = manifest(query="one")
    other = [
        dict(reversed(list(row.items()))) | {"aperture": "", "dec": row.get("dec")} for row in ROWS
    ]
    assert manifest(other, query="another").content_hash == made.content_hash
    table = made.table
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    assert chunked["key"].num_chunks == 2
    again = Manifest.from_table(chunked, store=made.store, created="1999")
    assert again.content_hash == made.content_hash
    typed = table.set_column(0, "rootname", table["rootname"].cast(pa.large_string()))
    typed = typed.set_column(3, "filter", table["filter"].dictionary_encode())
    assert Manifest.from_table(typed, store=made.store).content_hash == made.content_hash


def test_neighbouring_values_do_not_run_together_in_the_hash() -> None:
    one = Manifest.from_rows([{"rootname": "a", "key": "bc"}, {"rootname": "d", "key": "e"}])
    two = Manifest.from_rows([{"rootname": "a", "key": "b"}, {"rootname": "d", "key": "ce"}])
    assert one.content_hash != two.content_hash
    unknown = Manifest.from_rows([{"rootname": "a", "key": "b", "nbytes": None, "x": 1}])
    zero = Manifest.from_rows([{"rootname": "a", "key": "b", "nbytes": 0, "x": 1}])
    assert unknown.content_hash != zero.content_hash


def test_a_slice_hashes_as_its_own_rows() -> None:
    assert manifest().head(1).content_hash == manifest(ROWS[:1]).content_hash


# What is refused


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "no column rootname and no column key"),
        ([{"key": "x"}], "no column rootname: it has key. A manifest needs rootname and key"),
        ([{"rootname": "x", "url": "y"}], "no column key: it has rootname, url"),
        ([{"rootname": "x", "key": "y"}, {"rootname": "z"}], "row 2 of the manifest has no key"),
        ([*named("a", "b"), {"rootname": "", "key": "y"}], "row 3 of the manifest has no rootname"),
        ([*named("a", "b", "c"), {"rootname": "b", "key": "y"}],
         r"two rows with rootname b: rows 2 and 4 \(b_flt.fits and y\)"),
        ([{"rootname": "a/b", "key": "y"}], "row 1 of the manifest: rootname 'a/b' cannot name"),
        ([{"rootname": ".a", "key": "y"}], "leave out '/'"),
        ([{"rootname": "a" * 200, "key": "y"}], "keep to 128 characters"),
        ([{"rootname": "a", "key": "y", "ra": "12h"}], "must hold numbers: row 1 holds '12h'"),
        ([{"rootname": "a", "key": "y", "ra": 361.0}], "row 1 of the manifest: ra 361.0 is out"),
        ([{"rootname": "a", "key": "y", "dec": -91}], "dec -91.0 is out of range"),
        ([{"rootname": "a", "key": "y", "nbytes": -1}], "nbytes -1 is out of range"),
        ([{"rootname": "a", "key": "y", "nbytes": 1.5}], "nbytes of the manifest must hold whole"),
        ([{"rootname": "a", "key": "y", "x": 1}, {"rootname": "b", "key": "z", "x": "t"}],
         "column x .* several kinds .int in row 1, str in row 2"),
        ([{"rootname": "a", "key": ["y"]}], "key of the manifest must hold text"),
        ([{"rootname": "a", "key": "y", "x": {"deep": 1}}], "x of the manifest must hold text"),
    ],
)  # fmt: skip
def test_malformed_rows_are_refused_with_row_and_column(
    rows: list[dict[str, object]], words: str
) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        Manifest.from_rows(rows)
    assert "\n" not in str(raised.value)


def test_columns_must_go_together() -> None:
    with pytest.raises(UsageError, match="differ in length"):
        Manifest.from_columns({"rootname": ["a", "b"], "key": ["x"]})
    twice = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["rootname", "key", "key"])
    with pytest.raises(UsageError, match="column key twice"):
        Manifest.from_table(twice)
    with pytest.raises(UsageError, match="no rows"):
        Manifest.from_columns(
            {"rootname": pa.array([], pa.string()), "key": pa.array([], pa.string())}
        )


GOOD_CSV = b"rootname,key\na,x.fits\nb,y.fits\n"


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("m.csv", b"", "is empty"),
        ("m.csv", b"rootname,key\n", "no rows"),
        ("m.csv", b"a,x.fits\nb,y.fits\n", "no column rootname"),
        ("m.csv", b"rootname,key\na\n", "not readable as CSV"),
        ("m.csv", b"rootname,key,ra\na,x,1.5\nb,y,abc\n", "Row #3.*invalid value 'abc'"),
        ("m.csv", b"rootname,key\na,\xff\xfe\xfa\n", "not readable as CSV"),
        ("m.csv", b"# hstmap_manifest {broken\nrootname,key\na,x\n", "not readable as CSV"),
        ("m.csv", GOOD_CSV + b"a,z.fits\n", r"m.csv: two rows with rootname a: rows 1 and 3"),
        ("m.parquet", b"", "is empty"),
        ("m.parquet", b"PAR1 and then nothing", "not readable as Parquet"),
        ("m.parquet", GOOD_CSV, "not readable as Parquet"),
        ("m.ecsv", GOOD_CSV, "not readable as ECSV"),
        ("m.ecsv", b"\xff\xfe\x00", "not readable as ECSV"),
        ("m.txt", GOOD_CSV, "no name for a manifest: end it with .parquet, .csv, .ecsv"),
    ],
)
def test_malformed_files_are_refused_in_one_line(
    tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UsageError, match=words) as raised:
        Manifest.read(str(path))
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_truncated_parquet_is_refused(tmp_path: Path) -> None:
    manifest().write(str(tmp_path / "m.parquet"))
    data = (tmp_path / "m.parquet").read_bytes()
    for share in (0.3, 0.6, 0.99):
        (tmp_path / "m.parquet").write_bytes(data[: int(len(data) * share)])
        with pytest.raises(UsageError, match="not readable as Parquet"):
            Manifest.read(str(tmp_path / "m.parquet"))


def test_a_missing_manifest_is_bad_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the manifest .*none.csv.*check the name"):
        Manifest.read(str(tmp_path / "none.csv"))


def test_an_unwritable_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        manifest().write(str(tmp_path / "file" / "m.csv"))


def test_a_csv_by_hand_will_do(tmp_path: Path) -> None:
    path = tmp_path / "mine.CSV"
    path.write_text(
        "# made by hand\n"
        "key,rootname,ra,note,program_id,seeing\n"
        "/data/x.fits,00123,,first,,1\n"
        '/data/y.fits,00124,nan,"a, ""quoted"" note",11359,2.5\n',
        encoding="utf-8-sig",
    )
    read = Manifest.read(str(path))
    assert read.store is None
    assert read.urls == ["/data/x.fits", "/data/y.fits"]
    first, second = read.table.to_pylist()
    assert first["rootname"] == "00123"
    assert (first["ra"], second["ra"], first["program_id"]) == (None, None, None)
    assert second["note"] == 'a, "quoted" note'
    assert [first["seeing"], second["seeing"]] == [1.0, 2.5]


# Choosing rows


def test_rows_are_chosen_by_value_whatever_the_case() -> None:
    made = manifest()
    assert made.filter(filter="f140w").table["rootname"].to_pylist() == ["ib6o23rtq"]
    assert len(made.filter(product="FLT", program_id=11359)) == 2
    assert made.filter(filter="F140W").store == made.store
    assert made.filter(filter="F140W").metadata["query"] == made.query


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"filter": "F999W"}, "no image of the manifest has filter F999W: there are F140W, G141"),
        ({"target": "x"}, "1 of 2 rows of the manifest do not say theirs"),
        ({"ra": 1.0}, "1 of 2 rows"),
        ({"colour": "red"}, "cannot choose by colour: the manifest has the columns rootname, key"),
    ],
)
def test_no_row_is_dropped_because_nothing_is_known_of_it(
    choice: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        manifest().filter(**choice)


def test_head_is_the_first_rows() -> None:
    assert manifest().head(1).table["rootname"].to_pylist() == ["ib6o23rtq"]
    assert len(manifest().head(100)) == 2
    with pytest.raises(UsageError, match="above 0"):
        manifest().head(0)


def test_a_large_manifest_is_found_out_by_its_one_bad_row() -> None:
    n = 130_000
    columns = {
        "rootname": [f"i{i:08d}" for i in range(n)],
        "key": [f"hst/public/i{i:08d}_flt.fits" for i in range(n)],
    }
    assert len(Manifest.from_columns(columns)) == n
    columns["rootname"][99_999] = columns["rootname"][3]
    with pytest.raises(UsageError, match="rows 4 and 100000"):
        Manifest.from_columns(columns)


def test_notes_travel_with_the_file() -> None:
    made = Manifest.from_table(manifest().table, provenance={"notes": ["3 left aside"]})
    for suffix in FORMATS:
        made.write(f"memory://notes/m.{suffix}")
        assert Manifest.read(f"memory://notes/m.{suffix}").notes == ("3 left aside",)
    assert manifest().notes == ()


def test_columns_have_units_that_astropy_knows() -> None:
    from astropy import units

    for _, unit in MANIFEST_COLUMNS.values():
        units.Unit(unit)


def test_naming_the_manifest_imports_no_arrow() -> None:
    script = (
        "import sys; import hstmap.archive.manifest, hstmap.archive.sources; "
        "print(sorted({'pyarrow', 'numpy', 'astropy', 'pandas', 'boto3'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_writing_leaves_one_file(tmp_path: Path) -> None:
    manifest().write(str(tmp_path / "m.parquet"))
    manifest(ROWS[:1]).write(str(tmp_path / "m.parquet"))
    assert [info.key for info in open_store(str(tmp_path)).list()] == ["m.parquet"]
    assert len(Manifest.read(str(tmp_path / "m.parquet"))) == 1
