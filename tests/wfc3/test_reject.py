"""What is turned away, with which reason, and that it takes no pixel to find out."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from astropy.io import fits

from hstmap.errors import BrokenImageError, ImageError, RejectedImageError
from hstmap.wfc3.image import read_image
from hstmap.wfc3.parameters import ReadParameters
from hstmap.wfc3.reject import REASONS, check_shape

REAL_REJECTS = {
    "reject/j94f05bgq_flt.fits.gz": "not_wfc3",
    "reject/n4wl01xdq_raw.fits": "not_wfc3",
    "reject/j6gp01lzq_raw.fits": "not_wfc3",
    "reject/iebc16u5q_flc.fits": "uvis",
    "reject/icwz15e7q_uvis_g280_nodata.fits": "uvis",
    "reject/ibkp02a8q_g141_subarray_nodata.fits": "grism",
    "reject/ib4606cpq_sample_ipppssoot_flt.fits": "too_small",
    "reject/ib3y01c6q_flt_11x11.fits": "too_small",
    "reject/ia1d23dmq_flt_hlet.fits": "no_sci",
    "reject/wayne_simulated_hd209_flt.fits": "compressed",
    "frames/hst/public/ib6o/ib6o23rsq/ib6o23rsq_flt.fits": "grism",
    "other-ir/hudf_stamp_1002_f160w_wht.fits": "not_science",
    "other-ir/iccz11q4q_ima.fits": "ima",
    "sextractor/image.fits": "not_wfc3",
    "fits-oddities/tb.fits": "no_sci",
    "fits-oddities/table.fits": "no_sci",
    "fits-oddities/verify.fits": "no_sci",
    "fits-oddities/group_invalid.fits": "no_sci",
    "fits-oddities/zerowidth.fits": "no_sci",
    "fits-oddities/comp.fits": "compressed",
    "fits-oddities/checksum_false.fits": "not_wfc3",
    "fits-oddities/random_groups.fits": "not_wfc3",
    "fits-oddities/header_newlines.fits": "not_wfc3",
}


class CountingFile(io.BytesIO):
    """Bytes in memory that count how many are read."""

    nbytes_read = 0

    def read(self, size=-1, /):
        data = super().read(size)
        self.nbytes_read += len(data)
        return data


def reason_of(content: bytes, name: str = "iaaa01abq_flt.fits") -> str:
    with pytest.raises(ImageError) as caught:
        read_image(io.BytesIO(content), name)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, RejectedImageError) == (caught.value.reason in REASONS)
    return caught.value.reason


@pytest.mark.parametrize(("path", "reason"), REAL_REJECTS.items())
def test_real_files_are_turned_away_with_their_reason(data_dir, path, reason, capfd, recwarn):
    with (data_dir / path).open("rb") as file, pytest.raises(RejectedImageError) as caught:
        read_image(file, path)
    assert caught.value.reason == reason
    assert reason in REASONS
    assert str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(recwarn) == []
    assert capfd.readouterr() == ("", "")


def test_no_file_meant_to_be_turned_away_gets_in(data_dir):
    for folder in ("reject", "fits-oddities"):
        for path in (data_dir / folder).iterdir():
            with path.open("rb") as file, pytest.raises(ImageError) as caught:
                read_image(file, path.name)
            assert caught.value.reason, path.name


def test_a_truncated_file_is_broken_not_rejected(data_dir):
    path = data_dir / "reject/no_END_card.fits"
    with path.open("rb") as file, pytest.raises(BrokenImageError) as caught:
        read_image(file, path.name)
    assert caught.value.reason == "truncated"


@pytest.mark.parametrize(
    ("cards", "reason"),
    [
        ({"TELESCOP": "JWST"}, "not_wfc3"),
        ({"INSTRUME": "ACS"}, "not_wfc3"),
        ({"INSTRUME": "NICMOS"}, "not_wfc3"),
        ({"DETECTOR": "UVIS"}, "uvis"),
        ({"DETECTOR": "HRC"}, "not_wfc3"),
        ({"FILETYPE": "SPT"}, "not_science"),
        ({"FILTER": "G102"}, "grism"),
        ({"FILTER": "g141 "}, "grism"),
        ({"FILTER": "BLANK"}, "calibration"),
        ({"OBSTYPE": "SPECTROSCOPIC"}, "spectroscopic"),
        ({"IMAGETYP": "DARK"}, "calibration"),
        ({"IMAGETYP": "FLAT"}, "calibration"),
        ({"TARGNAME": "DARK"}, "calibration"),
        ({"TARGNAME": "BIAS"}, "calibration"),
        ({"TARGNAME": "TUNGSTEN"}, "calibration"),
        ({"TARGNAME": "EARTH-CALIB"}, "calibration"),
        ({"TARGNAME": "DARK-EARTH-CALIB"}, "calibration"),
        ({"SCAN_TYP": "C"}, "spatial_scan"),
        ({"SCAN_TYP": "D"}, "spatial_scan"),
        ({"MTFLAG": "T"}, "moving_target"),
        ({"MTFLAG": True}, "moving_target"),
        ({"EXPFLAG": "INTERRUPTED"}, "expflag"),
        ({"EXPTIME": 0.0}, "no_exposure"),
        ({"EXPTIME": -1}, "no_exposure"),
        ({"BUNIT": "COUNTS"}, "bunit"),
        ({"BUNIT": "COUNTS/S"}, "bunit"),
        ({"BUNIT": "Jy"}, "bunit"),
    ],
)
def test_headers_that_are_not_of_an_image_of_the_sky(make_flt, cards, reason):
    assert reason_of(make_flt(cards=cards)) == reason


@pytest.mark.parametrize(
    "cards",
    [
        {"TARGNAME": "DARK-CLOUD-7"},
        {"TARGNAME": "ANY"},
        {"MTFLAG": "F"},
        {"MTFLAG": False},
        {"SCAN_TYP": None, "MTFLAG": None, "EXPFLAG": None},
        {"TELESCOP": None, "INSTRUME": None, "DETECTOR": None, "FILETYPE": None},
        {"OBSTYPE": None, "IMAGETYP": None, "TARGNAME": None, "EXPTIME": None},
        {"FGSLOCK": "COARSE"},
        {"EXPTIME": "unknown"},
    ],
)
def test_headers_that_say_nothing_against_it_pass(make_flt, cards):
    assert read_image(io.BytesIO(make_flt(cards=cards)), "iaaa01abq_flt.fits").info.nx == 64


def test_the_header_alone_decides(make_flt):
    """No pixel is read of an image whose header turns it away."""
    file = CountingFile(make_flt(cards={"FILTER": "G141"}, shape=(512, 512)))
    with pytest.raises(RejectedImageError):
        read_image(file, "iaaa01abq_flt.fits")
    assert file.nbytes_read < 30_000


@pytest.mark.parametrize(
    ("sci", "reason"),
    [
        (np.full((64, 64), np.nan), "all_nan"),
        (np.full((64, 64), np.inf), "all_nan"),
        (np.zeros((64, 64)), "all_zero"),
        (np.where(np.eye(64), np.nan, 0), "all_zero"),
        (np.ones((31, 64)), "too_small"),
        (np.ones((4, 64, 64)), "not_2d"),
    ],
)
def test_pixels_of_no_use(make_flt, sci, reason):
    assert reason_of(make_flt(sci=sci)) == reason


def test_all_masked(make_flt):
    assert reason_of(make_flt(dq=np.full((64, 64), 4))) == "all_masked"
    # The same pixels are an image to whoever takes bit 4 for good.
    file = io.BytesIO(make_flt(dq=np.full((64, 64), 4)))
    assert read_image(file, "a", ReadParameters(mask_bits=16)).info.n_masked == 0


def test_too_many_pixels_are_refused_before_they_are_read(make_flt):
    file = CountingFile(make_flt(shape=(200, 200)))
    with pytest.raises(RejectedImageError) as caught:
        read_image(file, "a_flt.fits", ReadParameters(max_pixels=39_999))
    assert caught.value.reason == "too_large"
    assert file.nbytes_read < 30_000


def test_the_smallest_subarray_of_the_detector_passes():
    check_shape((64, 64), ReadParameters().min_side, ReadParameters().max_pixels)


@pytest.mark.parametrize(
    "hdus",
    [
        [fits.PrimaryHDU()],
        [fits.PrimaryHDU(), fits.ImageHDU(np.ones((64, 64)), name="OTHER")],
        [fits.PrimaryHDU(), fits.BinTableHDU(np.zeros(3, dtype=[("a", "i4")]), name="SCI")],
    ],
)
def test_files_without_a_science_image(hdus):
    buffer = io.BytesIO()
    fits.HDUList(hdus).writeto(buffer)
    assert reason_of(buffer.getvalue()) == "no_sci"


def test_a_tile_compressed_science_image():
    buffer = io.BytesIO()
    image = fits.CompImageHDU(np.ones((64, 64), dtype=np.float32), name="SCI")
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(buffer)
    assert reason_of(buffer.getvalue()) == "compressed"


def test_a_rejection_survives_the_way_back_from_a_worker(make_flt):
    with pytest.raises(RejectedImageError) as caught:
        read_image(io.BytesIO(make_flt(cards={"FILTER": "G141"})), "a_flt.fits")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.reason, str(copy)) == ("grism", str(caught.value))
