"""What FITS files hold, from their headers alone."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pytest
from astropy.io import fits

from hstmap.storage import open_store
from hstmap.wfc3.info import FIRST_NBYTES, INFO_COLUMNS, error_row, hdu_rows


def image_file(**cards):
    header = fits.Header(list(cards.items()))
    science = fits.ImageHDU(
        np.zeros((20, 30), "f4"), fits.Header([("BUNIT", "ELECTRONS/S")]), "SCI"
    )
    table = fits.BinTableHDU.from_columns(
        [fits.Column("A", "1J", array=[1, 2]), fits.Column("B", "4A", array=["a", "b"])], name="T"
    )
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(header=header), science, table]).writeto(file)
    return file


def as_astropy_prints(path):
    with fits.open(path, disable_image_compression=True) as hdus:
        return [tuple(map(str, row[:7])) for row in hdus.info(output=False)]


def as_ours(rows):
    names = ("hdu", "name", "version", "type", "n_cards", "dimensions", "format")
    return [tuple(str(row[name]) for name in names) for row in rows]


def test_real_frames_are_as_astropy_prints_them(data_dir):
    paths = sorted((data_dir / "frames").rglob("*.fits"))
    assert paths
    for path in paths:
        with path.open("rb") as file:
            assert as_ours(hdu_rows(file, path.name)) == as_astropy_prints(path)


def test_less_than_a_twentieth_of_the_frames_is_read(data_dir):
    nbytes_read = nbytes = 0
    for path in sorted((data_dir / "frames").rglob("*.fits")):
        store = open_store(str(path.parent))
        with store.open_ranged(path.name, FIRST_NBYTES) as file:
            hdu_rows(file, path.name, ("FILTER", "EXPTIME"))
            nbytes_read += file.nbytes_read
            nbytes += file.info.nbytes
        assert store.counts.n_get <= 6
    assert 0 < nbytes_read < 0.05 * nbytes


def test_every_file_of_the_samples_has_rows(data_dir):
    """Odd, broken and foreign files: none of them is passed over, none raises."""
    for path in sorted(data_dir.rglob("*")):
        if path.name.endswith((".fits", ".fits.gz")):
            with path.open("rb") as file:
                rows = hdu_rows(file, path.name)
            assert rows
            assert all(set(row) == {*INFO_COLUMNS, "keywords"} for row in rows)
            assert [row["hdu"] for row in rows] in ([-1], list(range(len(rows))))


def test_images_and_tables():
    rows = hdu_rows(image_file(), "x.fits")
    assert [row["type"] for row in rows] == ["PrimaryHDU", "ImageHDU", "BinTableHDU"]
    assert [row["dimensions"] for row in rows] == ["()", "(30, 20)", "2R x 2C"]
    assert [row["format"] for row in rows] == ["", "float32", "[1J, 4A]"]
    assert {row["file"] for row in rows} == {"x.fits"}
    assert not any(row["error"] for row in rows)


def test_offsets_lead_to_headers_and_data():
    file = image_file()
    for row in hdu_rows(file, "x.fits"):
        file.seek(row["header_start"])
        assert file.read(8) in (b"SIMPLE  ", b"XTENSION")
        assert row["data_start"] % 2880 == row["data_nbytes"] % 2880 == 0


def test_keywords_come_in_the_order_asked_for():
    rows = hdu_rows(image_file(FILTER="F140W", EXPTIME=202.9, NSAMP=12, MTFLAG=False), "x", (
        "EXPTIME", "FILTER", "BUNIT", "NSAMP", "MTFLAG", "ABSENT"
    ))  # fmt: skip
    assert rows[0]["keywords"] == [202.9, "F140W", None, 12, False, None]
    assert rows[1]["keywords"] == [None, None, "ELECTRONS/S", None, None, None]


def test_keywords_without_a_value_and_of_several_lines():
    file = io.BytesIO()
    primary = fits.PrimaryHDU()
    primary.header["NOTHING"] = None
    primary.header["HISTORY"] = "one"
    primary.header["HISTORY"] = "two"
    primary.writeto(file)
    assert hdu_rows(file, "x", ("NOTHING", "HISTORY"))[0]["keywords"] == [None, "one\ntwo"]


def test_a_gzipped_file():
    plain = image_file()
    packed = io.BytesIO(gzip.compress(plain.getvalue()))
    assert hdu_rows(packed, "x") == hdu_rows(plain, "x")


@pytest.mark.parametrize("content", [b"", b"no fits", b"SIMPLE  =                    T"])
def test_what_is_not_fits_is_one_row_that_says_so(content):
    rows = hdu_rows(io.BytesIO(content), "x", ("FILTER",))
    assert len(rows) == 1
    assert rows[0]["hdu"] == -1
    assert rows[0]["error"]
    assert rows[0]["keywords"] == [None]


def test_a_file_that_was_cut_short_says_so_in_its_last_row():
    content = image_file().getvalue()
    rows = hdu_rows(io.BytesIO(content[:7000]), "x")
    assert [row["name"] for row in rows] == ["PRIMARY", "SCI"]
    assert rows[0]["error"] == ""
    assert "the file ends at 7,000" in rows[1]["error"]


def test_the_row_of_a_file_that_could_not_be_had():
    row = error_row("x", "access denied", 2)
    assert (row["file"], row["hdu"], row["error"]) == ("x", -1, "access denied")
    assert row["keywords"] == [None, None]
