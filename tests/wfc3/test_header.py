"""What a header says: zero point, rootname, and values that are not what they should be."""

from __future__ import annotations

import io

import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from hstmap.wfc3.cards import Cards
from hstmap.wfc3.header import Headers, product_of_name, rootname_of
from hstmap.wfc3.image import read_image
from hstmap.wfc3.parameters import ReadParameters


def read_bytes(content, name="iaaa01abq_flt.fits", **parameters):
    return read_image(io.BytesIO(content), name, ReadParameters(**parameters))


@pytest.mark.parametrize(
    ("cards", "zero_point", "n_notes"),
    [
        ({}, 25.946, 0),
        ({"PHOTFLAM": None}, 25.946, 0),
        ({"PHOTPLAM": "n/a"}, 25.946, 0),
        ({"PHOTFLAM": 0.0}, 25.946, 0),
        ({"PHOTFNU": None}, 25.946, 0),
        ({"PHOTFNU": 1e-7}, 25.946, 1),
        ({"PHOTFLAM": None, "PHOTFNU": None}, None, 1),
        ({"PHOTFLAM": -1.0, "PHOTFNU": 0}, None, 1),
    ],
)
def test_zero_point(make_flt, cards, zero_point, n_notes):
    info = read_bytes(make_flt(cards=cards)).info
    assert info.zero_point_ab == (zero_point and pytest.approx(zero_point, abs=2e-3))
    assert len(info.notes) == n_notes


@pytest.mark.parametrize(
    ("name", "in_header", "rootname", "n_notes"),
    [
        ("hst/public/icwb/icwb1iu5q/icwb1iu5q_flt.fits", "icwb1iu5q", "icwb1iu5q", 0),
        ("ICWB1IU5Q_FLT.FITS", "ICWB1IU5Q", "icwb1iu5q", 0),
        ("icwb1iu5q_flt.fits", None, "icwb1iu5q", 0),
        ("icwb1iu5q_flt.fits", "icwb1iu6q", "icwb1iu5q", 1),
        ("renamed.fits", "icwb1iu5q", "icwb1iu5q", 1),
        ("my_field.fits.gz", None, "my_field", 0),
        ("my_field.fits", "a mosaic of mine", "my_field", 0),
    ],
)
def test_rootname(make_flt, name, in_header, rootname, n_notes):
    info = read_bytes(make_flt(cards={"ROOTNAME": in_header}), name).info
    assert info.rootname == rootname
    assert len(info.notes) == n_notes


@pytest.mark.parametrize(
    ("name", "product"),
    [
        ("hst/public/icwb/icwb1iu5q/icwb1iu5q_flt.fits", "flt"),
        ("ICWB1IU5Q_FLT.FITS", "flt"),
        ("ib6o23010_drz.fits.gz", "drz"),
        ("iccz11q4q_ima.fits", "ima"),
        ("ia1d23dmq_flt_hlet.fits", ""),
        ("mosaic.fits", ""),
        ("", ""),
    ],
)
def test_product_of_a_name(name, product):
    assert product_of_name(name) == product


@given(
    st.lists(st.text("ab_.%", min_size=1, max_size=8).filter(lambda part: part != "."), max_size=4),
    st.sampled_from(["", "/", "s3://bucket/"]),
    st.sampled_from(["ib6o23rtq_flt.fits", "ib6o23010_drz.fits.gz", "mine.fit", "x_ima.fits"]),
)
def test_folders_say_nothing_of_an_image(folders, root, name):
    path = root + "/".join([*folders, name])
    assert product_of_name(path) == product_of_name(name)
    assert rootname_of(path, "", []) == rootname_of(name, "", [])


def test_a_card_of_the_primary_header_that_cannot_be_read_leaves_that_of_the_science_header():
    broken = Cards([b"FILTER  = 'no end".ljust(80)])
    science = Cards([b"FILTER  = 'F140W'".ljust(80)])
    assert Headers(broken, science).text("FILTER") == "F140W"
    assert Headers(science, broken).text("FILTER") == "F140W"
    assert Headers(broken, broken).value("FILTER") is None


def test_values_that_are_not_what_they_should_be_are_none():
    header = fits.Header(
        [
            ("TARGNAME", " a b "),
            ("APERTURE", "  "),
            ("SUBARRAY", True),
            ("PROPOSID", 7),
            ("EXPTIME", "1.5"),
        ]
    )
    header.append(fits.Card.fromstring("FGSLOCK = 'no end of the text"), end=True)
    headers = Headers(header, fits.Header([("MTFLAG", "T"), ("TARGNAME", "hidden")]))
    assert headers.text("TARGNAME") == "a b"
    assert headers.text("APERTURE") == headers.text("FILTER") == headers.text("FGSLOCK") == ""
    assert (
        headers.number("TARGNAME") is headers.number("SUBARRAY") is headers.number("FILTER") is None
    )
    assert (headers.number("PROPOSID"), headers.integer("PROPOSID"), headers.number("EXPTIME")) == (
        7,
        7,
        1.5,
    )
    assert headers.is_true("SUBARRAY")
    assert headers.is_true("MTFLAG")
    assert not headers.is_true("PROPOSID")
    assert not headers.is_true("FILTER")


def test_a_card_that_is_read_must_be_among_those_that_are_parsed():
    with pytest.raises(KeyError, match="add it there"):
        Headers(fits.Header(), fits.Header()).value("HISTORY")
