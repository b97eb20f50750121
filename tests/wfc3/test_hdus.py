"""Damaged files: whatever is cut off, left out or overwritten ends in an image or an ImageError."""

from __future__ import annotations

import gzip
import io
import warnings

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from hstmap.errors import BrokenImageError, ImageError, StorageError
from hstmap.wfc3.hdus import FitsFile
from hstmap.wfc3.image import Image, read_image

NAME = "iaaa01abq_flt.fits"
BLOCK = 2880
# Without these astropy does not write a file.
STRUCTURE = [
    "SIMPLE",
    "EXTEND",
    "XTENSION",
    "BITPIX",
    "NAXIS",
    "NAXIS1",
    "NAXIS2",
    "PCOUNT",
    "GCOUNT",
]


class SmallFlt:
    """The bytes of a small FLT, with a short repr for hypothesis to print."""

    def __init__(self, content):
        self.content = content
        with fits.open(io.BytesIO(content)) as hdus:
            # The first byte that no image needs: after DQ's pixels, without their padding.
            self.end_of_dq = hdus["DQ"].fileinfo()["datLoc"] + 64 * 64 * 2
        self.cards = [n for n in range(0, len(content), 80) if content[n + 8 : n + 10] == b"= "]

    def __repr__(self):
        return "SmallFlt"


@pytest.fixture(scope="module")
def flt(make_flt):
    return SmallFlt(make_flt())


def read(data: bytes) -> Image:
    return read_image(io.BytesIO(data), NAME)


def read_or_refuse(data: bytes) -> Image | ImageError:
    """Return the image or what was wrong with it; any other exception fails the test."""
    try:
        return read(data)
    except ImageError as error:
        return error


def check_outcome(outcome: Image | ImageError) -> None:
    if isinstance(outcome, ImageError):
        assert outcome.reason
        assert "\n" not in str(outcome)
    else:
        assert outcome.data.shape == outcome.mask.shape
        assert np.isfinite(outcome.data).all()


def reason_of(data: bytes) -> str:
    with pytest.raises(BrokenImageError) as caught:
        read(data)
    assert "\n" not in str(caught.value)
    return caught.value.reason


@given(data=st.data())
def test_a_truncated_file_is_broken_unless_all_that_is_needed_is_there(data, flt):
    length = data.draw(st.integers(0, len(flt.content)))
    if length < flt.end_of_dq:
        assert reason_of(flt.content[:length])
    else:
        assert read(flt.content[:length]).dq is not None


def test_a_file_that_ends_with_a_block_is_broken_too(flt):
    """Where a header or an array ends, nothing but what is missing shows the cut."""
    for length in range(0, flt.end_of_dq, BLOCK):
        assert reason_of(flt.content[:length])


@given(data=st.data())
def test_a_truncated_gzip_is_broken_unless_all_that_is_needed_is_there(data, flt):
    zipped = gzip.compress(flt.content)
    length = data.draw(st.integers(0, len(zipped)))
    outcome = read_or_refuse(zipped[:length])
    if isinstance(outcome, Image):
        np.testing.assert_array_equal(outcome.data, read(flt.content).data)
    else:
        assert isinstance(outcome, BrokenImageError)


@given(data=st.data())
@settings(max_examples=200)
def test_a_header_without_some_of_its_cards_never_crashes(data, flt):
    hdus = fits.open(io.BytesIO(flt.content))
    for hdu in hdus[:4]:
        keywords = [keyword for keyword in hdu.header if keyword not in STRUCTURE]
        for keyword in data.draw(st.sets(st.sampled_from(keywords), max_size=10)):
            del hdu.header[keyword]
    buffer = io.BytesIO()
    hdus.writeto(buffer)
    check_outcome(read_or_refuse(buffer.getvalue()))


@given(data=st.data())
@settings(max_examples=300)
def test_cards_that_are_overwritten_never_crash(data, flt):
    damaged = bytearray(flt.content)
    for start in data.draw(st.lists(st.sampled_from(flt.cards), min_size=1, max_size=4)):
        value = data.draw(
            st.one_of(
                st.sampled_from([b"''", b"T", b"F", b"-1", b"0", b"1e999", b"NaN", b"(1,2)", b""]),
                st.integers(-(10**18), 10**18).map(lambda n: str(n).encode()),
                st.binary(max_size=70),
            )
        )
        damaged[start + 10 : start + 80] = value[:70].ljust(70)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcome = read_or_refuse(bytes(damaged))
    check_outcome(outcome)


@given(position=st.integers(0, 40_000), damage=st.binary(min_size=1, max_size=200))
@settings(max_examples=200)
def test_bytes_that_are_overwritten_never_crash(flt, position, damage):
    damaged = bytearray(flt.content)
    damaged[position : position + len(damage)] = damage
    check_outcome(read_or_refuse(bytes(damaged)))


@given(st.binary(max_size=6000))
def test_anything_else_is_not_fits(data):
    assert reason_of(data) in ("empty", "not_fits", "no_end", "bad_header")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\x00" * 5760, "not_fits"),
        (b"<html>404</html>", "not_fits"),
        (b"\x1f\x8b not really gzip", "not_fits"),
        (gzip.compress(b"no FITS inside"), "not_fits"),
        (b"SIMPLE  =                    T".ljust(2880), "no_end"),
        (b"SIMPLE  =                    T", "bad_header"),
    ],
)
def test_reasons_of_what_is_no_fits_file(data, reason):
    assert reason_of(data) == reason


def test_a_header_that_lies_about_its_size_allocates_nothing(flt):
    """The real oddity claims 777,777,701 columns; here they are of SCI, with rows."""
    card = b"NAXIS1  =                   64"
    damaged = bytearray(flt.content)
    start = flt.content.index(card, flt.content.index(b"XTENSION"))
    damaged[start : start + len(card)] = b"NAXIS1  =            777777701"
    assert reason_of(bytes(damaged)) == "truncated"


@pytest.mark.parametrize("keyword", [b"NAXIS   ", b"TFIELDS "])
def test_more_axes_than_fits_allows_are_not_gone_through(flt, keyword):
    """astropy alone would loop until the worker's time is up."""
    damaged = bytearray(flt.content)
    start = flt.content.index(b"NAXIS   ", flt.content.index(b"XTENSION"))
    damaged[start : start + 30] = keyword + b"= " + b"999999999999999999".rjust(20)
    assert reason_of(bytes(damaged)) == "bad_header"


def test_an_flt_without_its_err_or_dq_is_broken(make_flt):
    for name in ("ERR", "DQ"):
        hdus = fits.open(io.BytesIO(make_flt()))
        del hdus[name]
        buffer = io.BytesIO()
        hdus.writeto(buffer)
        with pytest.raises(BrokenImageError, match=name):
            read(buffer.getvalue())


def test_the_file_is_not_closed_and_can_be_anywhere(flt):
    file = io.BytesIO(flt.content)
    file.seek(1234)
    first = read_image(file, NAME)
    assert not file.closed
    np.testing.assert_array_equal(first.data, read_image(file, NAME).data)


def test_errors_of_the_store_pass_through(flt):
    """A lost connection is no fault of the image."""

    class LostConnection(io.BytesIO):
        def read(self, size=-1, /):
            if self.tell() > 30_000:
                raise StorageError("key", "connection lost: try again")
            return super().read(size)

    with pytest.raises(StorageError, match="connection lost"):
        read_image(LostConnection(flt.content), NAME)


def test_headers_are_parsed_only_as_far_as_needed(flt):
    """Two HDUs at most are known after opening, however many the file has."""

    class Watched(io.BytesIO):
        furthest = 0

        def read(self, size=-1, /):
            data = super().read(size)
            self.furthest = max(self.furthest, self.tell())
            return data

    file = Watched(flt.content)
    fits_file = FitsFile(file)
    assert fits_file.find_science() == 1
    assert file.furthest <= flt.content.index(b"XTENSION") + 2 * BLOCK


# ---- Which cards of a header are kept

KEYWORDS = ["FILTER", "EXPTIME", "CRVAL1", "A_1_1", "PV2_10"]
OTHERS = ["HISTORY", "COMMENT", "", "CRVAL1A", "FILTER2", "END1", "XCRVAL1"]
ENDS = "END" + " " * 77


@given(
    st.lists(
        st.tuples(st.sampled_from(KEYWORDS + OTHERS), st.integers(0, 9), st.integers(0, 40)),
        max_size=120,
    )
)
def test_of_a_header_the_used_cards_are_kept_and_the_first_of_each(chosen):
    """Whichever block of the header they are in, and where END ends it."""
    lines = ["SIMPLE  =                    T", "BITPIX  =                    8"]
    lines += ["NAXIS   =                    0"]
    lines += [f"{name:8s}= {value:>20d} / {' ' * gap}END" for name, value, gap in chosen]
    text = "".join(line[:80].ljust(80) for line in lines) + ENDS
    content = text.ljust(-(-len(text) // BLOCK) * BLOCK).encode("ascii")
    file = FitsFile(io.BytesIO(content))
    expected = {}
    for name, value, _ in chosen:
        if name in KEYWORDS:
            expected.setdefault(name, value)
    found = dict(file.primary.header)
    assert (found.pop("SIMPLE"), found.pop("BITPIX"), found.pop("NAXIS")) == (True, 8, 0)
    assert found == expected
    assert list(found) == list(expected)
    assert file.primary.data_start == len(content)


@pytest.mark.parametrize("shift", range(-3, 4))
def test_an_end_that_does_not_begin_a_card_ends_nothing(shift):
    """Blanks after END in the middle of cards look like an END card of its own."""
    cards = ["SIMPLE  =                    T", "BITPIX  =                    8"]
    cards += ["NAXIS   =                    0", " " * (40 + shift) + "END", "", "EXPTIME =  2.5"]
    text = "".join(card.ljust(80) for card in cards) + ENDS
    file = FitsFile(io.BytesIO(text.ljust(BLOCK).encode("ascii")))
    assert file.primary.header["EXPTIME"] == 2.5
