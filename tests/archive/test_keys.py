"""Keys of the archive's bucket, from names and back."""

from __future__ import annotations

import string

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.archive.keys import PRODUCTS, KeyParts, derive_keys, is_association, key_of, parse_key
from hstmap.errors import UsageError

LETTERS_AND_DIGITS = string.ascii_lowercase + string.digits
rootnames = st.builds(
    lambda middle, last: f"i{middle}{last}",
    st.text(LETTERS_AND_DIGITS, min_size=7, max_size=7),
    st.sampled_from(LETTERS_AND_DIGITS),
)


def test_an_exposure():
    """The example of the Registry of Open Data."""
    assert key_of("ICWB1IU5Q", "flt") == "hst/public/icwb/icwb1iu5q/icwb1iu5q_flt.fits"


def test_a_further_product_of_an_association_lies_in_the_associations_folder():
    assert key_of("ibg705081", "drz") == "hst/public/ibg7/ibg705080/ibg705081_drz.fits"


def test_a_folder_can_be_given():
    expected = "hst/public/ib6o/ib6o23010/ib6o23rtq_drz.fits"
    assert key_of("ib6o23rtq", "drz", dataset="ib6o23010") == expected


def test_keys_of_real_frames_are_derived(data_dir):
    found = sorted((data_dir / "frames").rglob("*_flt.fits"))
    assert found
    for path in found:
        rootname = path.name.removesuffix("_flt.fits")
        assert key_of(rootname, "flt") == str(path.relative_to(data_dir / "frames"))


@pytest.mark.parametrize("name", ["", "ib6o23rt", "ib6o23rtqq", "ib6o23r.q", "../../etc"])
def test_what_is_no_rootname_is_refused(name):
    with pytest.raises(UsageError, match="nine letters and digits"):
        key_of(name, "flt")


def test_an_association_has_no_flt():
    with pytest.raises(UsageError, match="ask for its drz"):
        key_of("ib6o23010", "flt")


def test_an_unknown_product_is_refused():
    with pytest.raises(UsageError, match="flt, drz, ima"):
        key_of("ib6o23rtq", "raw")


@given(rootnames, st.sampled_from(PRODUCTS))
def test_a_key_says_what_it_was_made_of(rootname, product):
    if is_association(rootname) and product != "drz":
        return
    parts = parse_key(key_of(rootname, product))
    assert parts is not None
    assert (parts.rootname, parts.product) == (rootname, product)
    assert parts.dataset[:8] == rootname[:8]


@given(st.lists(rootnames, max_size=8))
def test_many_keys_at_once_are_the_same_keys(names):
    assert derive_keys(pa.array(names, pa.string()), "drz").to_pylist() == [
        key_of(name, "drz") for name in names
    ]


def test_a_key_in_a_copy_of_the_archive_is_read_too():
    key = "mirror/hst/public/ibg7/ibg705080/ibg705081_drz.fits"
    assert parse_key(key) == KeyParts("ibg705080", "ibg705081", "drz")


@pytest.mark.parametrize(
    "key",
    [
        "hst/public/icwb/icwb1iu5q/icwb1iu5q_flt.jpg",
        "hst/public/xxxx/icwb1iu5q/icwb1iu5q_flt.fits",
        "icwb1iu5q_flt.fits",
        "hst/public/icwb/icwb1iu5q/hst_11359_23_wfc3_ir_f140w_drz.fits",
    ],
)
def test_other_keys_say_nothing(key):
    assert parse_key(key) is None
