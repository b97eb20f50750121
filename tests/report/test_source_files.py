from __future__ import annotations

import gzip
import warnings

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from hypothesis import given, settings
from hypothesis import strategies as st

from hstmap.errors import UsageError
from hstmap.report.source_files import LIST_SUFFIXES, read_source_file
from hstmap.storage import open_store
from hstmap.wfc3.source_list import make_source_list

X, MAG = [10.5, 20.25], [20.125, 21.0]


@pytest.fixture
def table():
    made = Table({"x": X, "y": [1.0, 2.0], "mag": MaskedColumn([*MAG], mask=[False, True])})
    made["kind"] = ["star", "galaxy"]
    return made


def write_ldac(path, table):
    head = fits.BinTableHDU(Table({"Field Header Card": ["SIMPLE"]}), name="LDAC_IMHEAD")
    objects = fits.BinTableHDU(table.filled(np.nan), name="LDAC_OBJECTS")
    fits.HDUList([fits.PrimaryHDU(), head, objects]).writeto(path)


WRITERS = {
    "list.ecsv": lambda path, table: table.write(path),
    "list.csv": lambda path, table: table.write(path, format="ascii.csv"),
    "list.fits": lambda path, table: table.write(path),
    "list.ldac": write_ldac,
    "list.vot": lambda path, table: table.write(path, format="votable"),
    "list.parquet": lambda path, table: table.to_pandas().to_parquet(path),
    "list.fits.gz": lambda path, table: table.write(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_columns(name, table, tmp_path):
    assert name.endswith(LIST_SUFFIXES)
    WRITERS[name](tmp_path / name, table)
    columns = read_source_file(str(tmp_path / name))
    assert columns["x"].tolist() == X
    assert columns["mag"][0] == MAG[0]
    assert np.isnan(columns["mag"][1])
    found = make_source_list(columns)
    assert found.kind.tolist() == ["star", "galaxy"]


def test_the_content_decides_not_the_name(table, tmp_path):
    path = tmp_path / "list.txt"
    table.write(path, format="ascii.ecsv")
    assert read_source_file(str(path))["x"].tolist() == X
    packed = tmp_path / "list.dat"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_source_file(str(packed))["x"].tolist() == X


def test_comments_before_a_csv_are_skipped(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("# from somewhere\nx,y,mag\n1.5,2.5,20\n")
    assert read_source_file(str(path))["x"].tolist() == [1.5]


def test_sextractors_lists_are_read(data_dir):
    deep = read_source_file(str(data_dir / "sextractor" / "ib6o23rtq_flt_1.cat"))
    assert len(deep["X_IMAGE"]) == 365
    found = make_source_list(deep)
    assert found.x[0] == pytest.approx(843.1637 - 1)
    assert found.origin["mag"] == "MAG_F1392"
    other = make_source_list(
        read_source_file(str(data_dir / "sextractor" / "image.cat")), name="image.cat"
    )
    assert other.flux[0] == pytest.approx(7544.724)


def test_lists_of_a_store_are_read(s3_bucket, table, tmp_path):
    table.write(tmp_path / "list.ecsv")
    open_store(s3_bucket).put("a/list.ecsv", (tmp_path / "list.ecsv").read_bytes())
    assert read_source_file(f"{s3_bucket}/a/list.ecsv")["x"].tolist() == X


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\x00\x01\x02\x03" * 100, "begins like none"),
        (b"PAR1 and no more", "Parquet, FITS"),
        (b"SIMPLE  =  no header", "Parquet, FITS"),
        (b"\x1f\x8bnot gzip", "Parquet, FITS"),
        (b"# %ECSV 1.0\n# ---\n# nonsense: [", "Parquet, FITS"),
    ],
)
def test_what_is_no_list_is_refused(content, message, tmp_path):
    path = tmp_path / "list.cat"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_source_file(str(path))
    assert "\n" not in str(caught.value)


def test_an_image_is_no_list(tmp_path):
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(tmp_path / "image.fits")
    with pytest.raises(UsageError, match="no table"):
        read_source_file(str(tmp_path / "image.fits"))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.csv"):
        read_source_file(str(tmp_path / "nowhere.csv"))


def test_integers_and_flags_keep_their_values(tmp_path):
    frame = pd.DataFrame({"x": [1, 2], "y": [3, 4], "saturated": [True, False]})
    frame.to_parquet(tmp_path / "list.parquet")
    found = make_source_list(read_source_file(str(tmp_path / "list.parquet")))
    assert found.usable.tolist() == [False, True]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A whole file of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    table = Table({"x": X, "y": [1.0, 2.0], "mag": MAG, "kind": ["star", "galaxy"]})
    for name, write in WRITERS.items():
        write(folder / name, table)
    (folder / "list.cat").write_text("#   1 NUMBER   Running\n#   2 X_IMAGE  x\n1 2.0\n2 3.0\n")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=40)
@given(data=st.data())
@pytest.mark.parametrize("name", [*WRITERS, "list.cat"])
def test_a_damaged_list_is_read_or_refused(name, written, tmp_path_factory, data):
    content = bytearray(written[name])
    if data.draw(st.booleans(), "cut off"):
        del content[data.draw(st.integers(0, len(content) - 1), "length") :]
    changes = st.dictionaries(st.integers(0, 1 << 20), st.integers(0, 255), max_size=8)
    for place, value in data.draw(changes, "bytes changed").items():
        if content:
            content[place % len(content)] = value
    path = tmp_path_factory.getbasetemp() / f"damaged-{name}"
    path.write_bytes(content)
    try:
        with warnings.catch_warnings(action="ignore"):
            columns = read_source_file(str(path))
    except UsageError as error:
        refusal = str(error)
        assert str(path) in refusal
        assert "\n" not in refusal
    else:
        assert len({len(values) for values in columns.values()}) <= 1


@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")
@pytest.mark.parametrize("card", [b"TFORM1  =", b"TTYPE2  =", b"TFIELDS ="])
def test_a_table_with_a_damaged_header_is_refused(card, written, tmp_path):
    place = written["list.fits"].index(card)
    content = bytearray(written["list.fits"])
    content[place + 9 : place + 30] = b"\x18 \x7f)(" + b"=" * 16
    (tmp_path / "list.fits").write_bytes(content)
    with pytest.raises(UsageError, match="is no list of sources that can be read"):
        read_source_file(str(tmp_path / "list.fits"))
