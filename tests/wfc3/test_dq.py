"""The DQ bits: one registry, and the ways in which people write sets of bits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.errors import UsageError
from hstmap.wfc3.dq import (
    ALL_BITS,
    DEFAULT_GOOD_BITS,
    DEFAULT_MASK_BITS,
    DQ_BITS,
    describe_bits,
    mask_bits_from_good,
    parse_bits,
)

BIT_SETS = st.sets(st.sampled_from(DQ_BITS))


def test_every_bit_of_the_16_bit_plane_is_described_once():
    assert [bit.value for bit in DQ_BITS] == [1 << n for n in range(15)]
    assert len({bit.name for bit in DQ_BITS}) == len(DQ_BITS)
    for bit in DQ_BITS:
        assert bit.meaning
        assert bit.why


def test_defaults_mask_what_is_not_light_and_keep_what_bright_stars_carry():
    assert DEFAULT_MASK_BITS == 1 + 2 + 4 + 8 + 16 + 128 + 1024 + 4096
    # Saturated cores, signal in the zero read and hits removed up the ramp stay findable.
    assert DEFAULT_GOOD_BITS == 32 + 64 + 256 + 512 + 2048 + 8192 + 16384
    # What grizli keeps is kept here too.
    assert DEFAULT_GOOD_BITS & (32 + 64 + 512) == 32 + 64 + 512


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("64,512", 576),
        ("64+512", 576),
        ("64|512", 576),
        ("576", 576),
        (" 64 , 512 ", 576),
        ("64,576", 576),
        ("warm,bad_flat", 576),
        ("Warm,512", 576),
        ("0", 0),
        ("", 0),
        ("all", 32767),
        ("~4096", 32767 - 4096),
        ("~(4096,16)", 32767 - 4096 - 16),
        ("~4096,16", 32767 - 4096 - 16),
        ("~0", 32767),
        ("~all", 0),
    ],
)
def test_forms_of_a_set_of_bits(text, bits):
    assert parse_bits(text) == bits


@pytest.mark.parametrize("text", ["hott", "-1", "32768", "1.5", "64;512", "~~4", "64,~512", "²"])
def test_a_word_that_is_no_bit_is_refused_with_the_bits_that_there_are(text):
    with pytest.raises(UsageError, match=r"16 \(hot\)"):
        parse_bits(text)


@given(BIT_SETS, st.sampled_from([",", "+", "|"]))
def test_values_names_and_sum_mean_the_same(bits, separator):
    total = sum(bit.value for bit in bits)
    assert parse_bits(separator.join(str(bit.value) for bit in bits)) == total
    assert parse_bits(separator.join(bit.name for bit in bits)) == total
    assert parse_bits(str(total)) == total


@given(BIT_SETS)
def test_a_tilde_gives_the_other_bits(bits):
    total = sum(bit.value for bit in bits)
    assert parse_bits(f"~{total}") == ALL_BITS - total == mask_bits_from_good(total)


@given(BIT_SETS)
def test_a_description_reads_back(bits):
    total = sum(bit.value for bit in bits)
    assert parse_bits(describe_bits(total)) == total
