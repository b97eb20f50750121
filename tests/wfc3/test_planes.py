"""From HDUs to planes: types, units, masks, arrays of one value."""

from __future__ import annotations

import io

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from hstmap.errors import BrokenImageError, RejectedImageError
from hstmap.wfc3.image import read_image
from hstmap.wfc3.parameters import ReadParameters


def read_bytes(content, name="iaaa01abq_flt.fits", **parameters):
    return read_image(io.BytesIO(content), name, ReadParameters(**parameters))


def test_values_that_are_not_finite_become_0_and_are_masked(make_flt):
    sci, err = np.ones((64, 64)), np.full((64, 64), 0.1)
    sci[1, 1], sci[2, 2], sci[3, 3] = np.nan, np.inf, -np.inf
    err[4, 4], err[5, 5], err[6, 6], err[7, 7] = np.nan, np.inf, 0, -1
    image = read_bytes(make_flt(sci=sci, err=err))
    expected = np.zeros((64, 64), dtype=bool)
    expected[range(1, 8), range(1, 8)] = True
    np.testing.assert_array_equal(image.mask, expected)
    assert image.data[1, 1] == image.data[2, 2] == image.data[3, 3] == 0
    assert (image.data[~expected] == 1).all()
    assert np.isfinite(image.err).all()


def test_saturated_pixels_are_counted_and_stay(make_flt):
    dq = np.zeros((64, 64))
    dq[10, 10:13] = 256
    dq[20, 20] = 256 + 4
    image = read_bytes(make_flt(dq=dq))
    assert not image.mask[10, 10:13].any()
    assert image.mask[20, 20]
    assert (image.info.n_saturated, image.info.n_masked) == (4, 1)


def test_errors_of_no_use_are_left_out_with_a_note(make_flt):
    image = read_bytes(make_flt(err=np.zeros((64, 64))))
    assert (image.err, image.info.err_kind, image.info.n_masked) == (None, "none", 0)
    assert any("ERR" in note for note in image.info.notes)


def replace_by_constant(hdus, name, value, shape=(64, 64)):
    """As the archive writes an array of one value: a header alone."""
    header = fits.Header({"NPIX1": shape[1], "NPIX2": shape[0], "PIXVALUE": value})
    dtype = hdus[name].data.dtype
    constant = fits.ImageHDU(header=header, name=name)
    hdus[hdus.index_of(name)] = constant
    constant.header["BITPIX"] = {"f": -32, "i": 16}[dtype.kind]


def test_planes_of_one_value_are_filled(make_flt):
    hdus = fits.open(io.BytesIO(make_flt()))
    replace_by_constant(hdus, "ERR", 0.25)
    replace_by_constant(hdus, "DQ", 32)
    buffer = io.BytesIO()
    hdus.writeto(buffer, output_verify="ignore")
    image = read_bytes(buffer.getvalue())
    assert (image.err == 0.25).all()
    assert (image.dq == 32).all()
    assert image.err.shape == image.dq.shape == (64, 64)


def test_a_plane_of_one_value_that_claims_another_shape_is_not_filled(make_flt):
    hdus = fits.open(io.BytesIO(make_flt()))
    replace_by_constant(hdus, "DQ", 0, shape=(777_777_701, 777_777_701))
    buffer = io.BytesIO()
    hdus.writeto(buffer, output_verify="ignore")
    with pytest.raises(BrokenImageError, match="777777701"):
        read_bytes(buffer.getvalue())


def test_planes_of_different_shapes_are_broken(make_flt):
    with pytest.raises(BrokenImageError) as caught:
        read_bytes(make_flt(dq=np.zeros((64, 65))))
    assert caught.value.reason == "shape"


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float64"])
def test_any_fits_type_of_pixels_becomes_float32(dtype):
    pixels = (np.arange(64 * 64).reshape(64, 64) % 100 + 1).astype(dtype)
    buffer = io.BytesIO()
    fits.PrimaryHDU(pixels).writeto(buffer)
    image = read_bytes(buffer.getvalue(), "cutout.fits")
    assert image.data.dtype == np.float32
    np.testing.assert_array_equal(image.data, pixels)


def test_electrons_become_electrons_per_second(make_flt):
    rate = read_bytes(make_flt())
    counts = read_bytes(
        make_flt(sci=rate.data * 302.9, err=rate.err * 302.9, cards={"BUNIT": "ELECTRONS"})
    )
    np.testing.assert_allclose(counts.data, rate.data, rtol=1e-6)
    np.testing.assert_allclose(counts.err, rate.err, rtol=1e-6)
    assert any("divided by EXPTIME" in note for note in counts.info.notes)


@pytest.mark.parametrize("bunit", ["ELECTRONS/S", "electron / s", "Electrons/s ", None])
def test_ways_to_write_the_unit(make_flt, bunit):
    expected = read_bytes(make_flt())
    np.testing.assert_array_equal(read_bytes(make_flt(cards={"BUNIT": bunit})).data, expected.data)


@pytest.mark.parametrize("row", [0, 63, 64, 199])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_bad_value_is_found_in_whichever_block_of_rows_it_is(make_flt, row, value):
    sci, err = np.ones((200, 40)), np.full((200, 40), 0.1)
    sci[row, 5], err[row, 6] = value, value
    image = read_bytes(make_flt(sci=sci, err=err, dq=np.zeros((200, 40))))
    np.testing.assert_array_equal(np.argwhere(image.mask), [[row, 5], [row, 6]])
    assert image.data[row, 5] == image.err[row, 6] == 0


@pytest.mark.parametrize("shape", [(63, 40), (64, 40), (65, 40), (129, 33)])
def test_planes_that_end_within_a_block_of_rows_are_whole(make_flt, shape):
    rng = np.random.default_rng(3)
    sci, dq = rng.normal(size=shape).astype(np.float32), rng.choice([0, 4, 64, 16], size=shape)
    err = rng.uniform(0.5, 1, size=shape).astype(np.float32)
    image = read_bytes(make_flt(sci=sci, err=err, dq=dq))
    np.testing.assert_array_equal(image.data, sci)
    np.testing.assert_array_equal(image.err, err)
    np.testing.assert_array_equal(image.dq, dq)
    np.testing.assert_array_equal(image.mask, (dq & (4 + 16)) != 0)
    assert image.dq.dtype.isnative
    assert image.data.flags.c_contiguous


def test_zeros_and_one_nan_are_all_zero(make_flt):
    sci = np.zeros((64, 64))
    with pytest.raises(RejectedImageError) as caught:
        read_bytes(make_flt(sci=sci))
    assert caught.value.reason == "all_zero"
    sci[3, 4] = np.nan
    with pytest.raises(RejectedImageError) as caught:
        read_bytes(make_flt(sci=sci))
    assert caught.value.reason == "all_zero"


def test_values_that_cancel_are_not_all_zero(make_flt):
    sci = np.ones((64, 64))
    sci[::2] = -1
    assert read_bytes(make_flt(sci=sci)).info.n_masked == 0


# ---- Any planes, by the plain formula

ODD = [0.0, -0.0, 1e-45, -1e-45, 1e-38, 1e30, -1e30, 3.4028235e38, 1.0, -1.0]
ODD += [np.nan, np.inf, -np.inf]
BITS = ReadParameters().mask_bits


def spoiled(rng, shape, values, share):
    """A plane of good pixels, some of which have odd values."""
    plane = rng.uniform(0.5, 2, shape)
    odd = rng.random(shape) < share
    plane[odd] = rng.choice(values, odd.sum())
    return plane.astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(32, 150), st.integers(32, 70)),
    st.lists(st.sampled_from(ODD), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.001, 0.3, 1.0]),
    st.sampled_from(["f4", "f8"]),
)
def test_any_planes_are_masked_as_the_plain_formula_has_it(
    make_flt, seed, shape, values, share, of
):
    rng = np.random.default_rng(seed)
    sci, err = (spoiled(rng, shape, values, share) for _ in range(2))
    dq = rng.choice([0, 4, 16, 256, 8192], shape, p=[0.9, 0.025, 0.025, 0.025, 0.025])
    content = make_flt(sci=sci.astype(of), err=err.astype(of), dq=dq)
    bad_sci, bad_err = ~np.isfinite(sci), ~(np.isfinite(err) & (err > 0))
    is_used = not bad_err.all()
    expected = ((dq & BITS) != 0) | bad_sci | (bad_err & is_used)
    if expected.all() or not np.where(bad_sci, 0, sci).any():
        with pytest.raises(RejectedImageError):
            read_bytes(content)
        return
    image = read_bytes(content)
    np.testing.assert_array_equal(image.mask, expected)
    np.testing.assert_array_equal(image.data, np.where(bad_sci, 0, sci))
    if is_used:
        np.testing.assert_array_equal(image.err, np.where(bad_err, 0, err))
    else:
        assert image.err is None
    np.testing.assert_array_equal(image.dq, dq)
    assert image.info.n_saturated == np.count_nonzero(dq & 256)
    assert image.info.n_masked == np.count_nonzero(expected)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(32, 200),
    st.sampled_from(["uint8", "int16", "int32", "int64"]),
    st.lists(st.sampled_from([1, 4, 16, 64, 128, 256, 8192, -32768]), max_size=4),
)
def test_any_bits_of_any_type_of_dq(make_flt, seed, ny, dtype, bits):
    rng = np.random.default_rng(seed)
    allowed = [bit for bit in bits if np.iinfo(dtype).min <= bit <= np.iinfo(dtype).max]
    dq = rng.choice([0, *allowed], (ny, 40)).astype(dtype)
    dq[0, 0] = 0
    with fits.open(io.BytesIO(make_flt(sci=np.ones((ny, 40)), err=np.ones((ny, 40))))) as hdus:
        hdus["DQ"] = fits.ImageHDU(dq, name="DQ")
        buffer = io.BytesIO()
        hdus.writeto(buffer)
    image = read_bytes(buffer.getvalue())
    np.testing.assert_array_equal(image.dq, dq)
    np.testing.assert_array_equal(image.mask, (dq.astype(np.int64) & BITS) != 0)
    assert image.info.n_saturated == np.count_nonzero(dq.astype(np.int64) & 256)
    assert image.dq.dtype in (np.dtype(np.int16), np.dtype(np.int32))
    assert image.dq.dtype.isnative
