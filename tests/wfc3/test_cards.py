"""Cards that are parsed without astropy have astropy's values, and the others are astropy's."""

from __future__ import annotations

import warnings

import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from hstmap.wfc3.cards import CARD_NBYTES, Cards, astropy_header

# As the archive writes them, and what is legal, or nearly so, beside it.
FIELDS = [
    "'ICRS    '           / reference frame",
    "'ELECTRONS/S'",
    "''                   / empty",
    "'        '",
    "'  in the middle  '",
    "'O''Neill'            / a quote in it",
    "'no end of the text",
    "'goes on in the next&'",
    "'axis.1: 2.5'",
    "'12:30:00'",
    "                   T / logical",
    "                   F",
    "                1014 / integer",
    "                  -7",
    "                  +7",
    "                 007",
    "-0",
    "12345678901234567890",
    "       1.4737148E-20 / real",
    "           13922.907",
    "                 60. / no digit after the point",
    "                  .5",
    "                -0.0",
    "               00.25",
    "                1E-5",
    "              1.5D+3",
    "              1.5e+3",
    "               1E999",
    "             1.0E999",
    "                 NaN",
    "          (1.0, 2.0)",
    "                     / no value at all",
    "",
    "7 and then some",
    "7/no blank before it",
    "7 / \x07",
    "'\t'",
]


def card(keyword: str, field: str) -> bytes:
    return f"{keyword:8s}= {field}"[:CARD_NBYTES].ljust(CARD_NBYTES).encode("latin-1")


def value_or_error(header, keyword):
    """Return a value with its type, or the type of what was raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = header[keyword]
        except (KeyError, ValueError, fits.VerifyError) as error:
            return type(error)
    return type(value), repr(value)


def check_as_astropy(cards):
    header = fits.Header.fromstring(b"".join(cards))
    mine = Cards(cards)
    for keyword in {line[:8].rstrip().decode("latin-1") for line in cards}:
        assert value_or_error(mine, keyword) == value_or_error(header, keyword)


@pytest.mark.parametrize("field", FIELDS)
def test_a_value_is_astropys(field):
    check_as_astropy([card("TARGNAME", field)])


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=70))
def test_any_text_after_the_keyword_is_astropys(field):
    check_as_astropy([card("EXPTIME", field)])


@given(
    st.one_of(
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.booleans(),
        st.text("abc'/ &:.1", max_size=60),
    ),
    st.text("abc /'", max_size=20),
)
def test_what_astropy_writes_is_read_again(value, comment):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = fits.Card("PHOTFLAM", value, comment)
        check_as_astropy([str(written)[:CARD_NBYTES].encode("ascii")])


@given(
    st.lists(
        st.sampled_from(
            [card(k, f) for k in ("A_0_2", "CRVAL1") for f in FIELDS[:20] if ": " not in f]
        )
    )
)
def test_of_several_cards_with_one_keyword_the_first_counts(cards):
    check_as_astropy(cards)


def test_it_is_a_mapping_in_the_order_of_the_cards():
    cards = Cards([card("NAXIS", "2"), card("CRPIX1", "557.0"), card("CTYPE1", "'RA---TAN'")])
    assert list(cards) == ["NAXIS", "CRPIX1", "CTYPE1"]
    assert len(cards) == 3
    assert dict(cards) == {"NAXIS": 2, "CRPIX1": 557.0, "CTYPE1": "RA---TAN"}
    assert "CRPIX1" in cards
    assert "CRPIX2" not in cards
    assert cards.get("CRPIX2", 1.0) == 1.0
    with pytest.raises(KeyError):
        cards["CRPIX2"]


@pytest.mark.parametrize("field", FIELDS)
def test_a_value_or_a_default_is_astropys(field):
    line = card("TARGNAME", field)
    header, mine = fits.Header.fromstring(line), Cards([line])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword in ("TARGNAME", "FILTER"):
            try:
                expected = header.get(keyword, "else")
            except (ValueError, fits.VerifyError) as error:
                with pytest.raises(type(error)):
                    mine.get(keyword, "else")
            else:
                assert repr(mine.get(keyword, "else")) == repr(expected)


def test_cards_by_their_keywords_are_the_same_cards():
    lines = {"NAXIS": card("NAXIS", "2"), "CRPIX1": card("CRPIX1", "557.0")}
    assert dict(Cards(lines)) == dict(Cards(list(lines.values())))
    assert astropy_header(Cards(lines)) == astropy_header(Cards(list(lines.values())))


def test_some_of_the_cards():
    cards = Cards([card("NAXIS", "2"), card("CRPIX1", "557.0"), card("CRPIX2", "1.")])
    some = cards.select(["CRPIX2", "NAXIS"])
    assert dict(some) == {"CRPIX2": 1.0, "NAXIS": 2}
    with pytest.raises(KeyError):
        some["CRPIX1"]


def test_a_card_that_astropy_cannot_parse_does_not_spoil_the_others():
    cards = Cards([card("FGSLOCK", "'no end"), card("EXPTIME", "1.5")])
    assert cards["EXPTIME"] == 1.5
    with pytest.raises(fits.VerifyError):
        cards["FGSLOCK"]


def test_astropys_header_of_them():
    lines = [card("NAXIS", "2 / axes"), card("FILTER", "'F140W'")]
    header = astropy_header(Cards(lines))
    assert isinstance(header, fits.Header)
    assert (header["NAXIS"], header.comments["NAXIS"], header["FILTER"]) == (2, "axes", "F140W")
    assert astropy_header(header) is header


def test_every_card_of_the_real_frames_is_astropys(data_dir):
    for path in sorted((data_dir / "frames").rglob("*.fits")):
        with fits.open(path) as hdus:
            for hdu in hdus[:4]:
                raw = hdu.header.tostring().encode("ascii")
                lines = [raw[i : i + CARD_NBYTES] for i in range(0, len(raw), CARD_NBYTES)]
                check_as_astropy([line for line in lines if line[8:10] == b"= "])
