"""Reading images: golden against plain astropy, on real frames and on small files made here."""

from __future__ import annotations

import gzip
import io
import math
import pickle
from dataclasses import asdict

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from hstmap.errors import BrokenImageError, ImageError, UsageError
from hstmap.storage import open_store
from hstmap.wfc3.dq import DEFAULT_MASK_BITS
from hstmap.wfc3.image import first_nbytes, read_image
from hstmap.wfc3.parameters import ReadParameters

RTQ = "ib6o/ib6o23rtq/ib6o23rtq_flt.fits"
RWQ = "ib6o/ib6o23rwq/ib6o23rwq_flt.fits"
QUARTER = "ib6o/ib6o04uwq/ib6o04uwq_flt.fits"


@pytest.fixture(scope="module")
def archive(data_dir):
    return data_dir / "frames/hst/public"


def read_path(path, **parameters):
    with path.open("rb") as file:
        return read_image(file, path.name, ReadParameters(**parameters))


def read_bytes(content, name="iaaa01abq_flt.fits", **parameters):
    return read_image(io.BytesIO(content), name, ReadParameters(**parameters))


# ---- Real frames


@pytest.mark.parametrize("key", [RTQ, RWQ, QUARTER])
def test_planes_are_the_files_own_to_the_last_bit(archive, key):
    image = read_path(archive / key)
    for plane, extension in ((image.data, "SCI"), (image.err, "ERR"), (image.dq, "DQ")):
        expected = fits.getdata(archive / key, extension)
        assert plane.dtype == expected.dtype.newbyteorder("=")
        assert plane.dtype.isnative
        assert plane.flags.c_contiguous
        assert plane.flags.writeable
        np.testing.assert_array_equal(plane, expected)


def test_mask_is_what_dq_says(archive):
    dq = fits.getdata(archive / RTQ, "DQ").astype(int)
    image = read_path(archive / RTQ)
    np.testing.assert_array_equal(image.mask, (dq & DEFAULT_MASK_BITS) != 0)
    assert image.mask.dtype == np.bool_
    assert image.info.n_masked == np.count_nonzero(dq & DEFAULT_MASK_BITS)
    only_cosmic_rays = read_path(archive / RTQ, mask_bits=4096)
    np.testing.assert_array_equal(only_cosmic_rays.mask, (dq & 4096) != 0)


def test_a_quarter_without_data_is_masked(archive):
    image = read_path(archive / QUARTER)
    dq = fits.getdata(archive / QUARTER, "DQ").astype(int)
    assert image.mask[(dq & 2) != 0].all()
    assert 0.2 < image.mask.mean() < 0.25
    assert np.isfinite(image.data).all()
    assert np.isfinite(image.err).all()


def test_header_facts_of_a_real_frame(archive):
    info = read_path(archive / RTQ).info
    assert (info.rootname, info.product, info.filter) == ("ib6o23rtq", "flt", "F140W")
    assert (info.target, info.program_id, info.aperture) == ("WFC3-ERSII-G01", 11359, "IR")
    assert (info.exposure_s, info.exposure_start_mjd) == (202.93, 55107.62701701)
    assert (info.nx, info.ny, info.subarray) == (1014, 1014, False)
    assert (info.ra_target, info.dec_target) == (53.07083333333, -27.71111111111)
    assert (info.wcs_name, info.cal_ver) == ("DRZWCS", "3.3(28-Jan-2016)")
    assert (info.bunit, info.err_kind, info.fgs_lock) == ("ELECTRONS/S", "error", "FINE/GYRO")
    assert info.orientation_deg == pytest.approx(163.7148972949)
    assert info.zero_point_ab == pytest.approx(26.452, abs=5e-4)
    assert info.notes == ()


def test_both_ways_to_the_zero_point_agree(archive, make_flt):
    header = fits.getheader(archive / RTQ)
    from_fnu = 8.90 - 2.5 * math.log10(header["PHOTFNU"])
    assert read_path(archive / RTQ).info.zero_point_ab == pytest.approx(from_fnu, abs=1e-3)


def test_info_is_plain_values_and_travels(archive):
    info = read_path(archive / RTQ).info
    assert pickle.loads(pickle.dumps(info)) == info
    for name, value in asdict(info).items():
        assert type(value) in (str, int, float, bool, tuple, type(None)), name


@pytest.mark.parametrize("key", [RTQ, RWQ, QUARTER])
def test_wcs_is_that_of_the_whole_header(archive, key):
    header = fits.getheader(archive / key, "SCI")
    image = read_path(archive / key)
    rng = np.random.default_rng(3)
    x, y = rng.uniform(-0.5, 1013.5, (2, 500))
    expected = WCS(header).all_pix2world(x, y, 0)
    np.testing.assert_allclose(image.wcs.all_pix2world(x, y, 0), expected, rtol=0, atol=1e-12)
    centre = WCS(header).all_pix2world(506.5, 506.5, 0)
    assert (image.info.ra_ref, image.info.dec_ref) == (centre[0], centre[1])
    assert image.info.pixel_scale_arcsec == pytest.approx(0.128, abs=2e-4)


@pytest.mark.parametrize(
    "path",
    [
        "reject/ib4606cpq_sample_ipppssoot_flt.fits",
        "reject/ib3y01c6q_flt_11x11.fits",
        "other-ir/hudf_stamp_1002_f160w_sci.fits",
        "other-ir/abell_2744_cd_galaxy_f105w.fits.gz",
    ],
)
def test_wcs_of_long_headers_with_other_solutions_in_them(data_dir, path):
    with fits.open(data_dir / path) as hdus:
        header = hdus["SCI" if len(hdus) > 1 else 0].header
    image = read_path(data_dir / path, min_side=5)
    x, y = np.random.default_rng(4).uniform(0, image.info.nx, (2, 100))
    expected = WCS(header).all_pix2world(x, y, 0)
    np.testing.assert_allclose(image.wcs.all_pix2world(x, y, 0), expected, rtol=0, atol=1e-12)


def test_one_request_of_a_full_frame_is_enough(archive):
    store = open_store(str(archive))
    with store.open_ranged(RTQ, first_nbytes("flt")) as file:
        image = read_image(file, RTQ)
        assert image.info.rootname == "ib6o23rtq"
        assert store.counts.n_get == 1
        assert file.nbytes_read <= 10_600_000


def test_nothing_behind_dq_is_read(archive):
    """The file ends where DQ does: SAMP and TIME are not even looked for."""
    content = (archive / RTQ).read_bytes()[:10_324_800]
    np.testing.assert_array_equal(read_bytes(content, RTQ).data, read_path(archive / RTQ).data)


def test_first_request_has_room_for_longer_headers():
    planes = 1014 * 1014 * 10
    assert planes + 100_000 < first_nbytes("flt") < 10_600_000
    assert first_nbytes("ima") > 1024 * 1024 * 10 + 100_000
    assert first_nbytes("drz") > first_nbytes("flt")
    assert first_nbytes("") > 0


def test_no_warning_leaks_of_any_real_file(data_dir, recwarn, capfd):
    for path in sorted((data_dir / "other-ir").iterdir()):
        if "stamp_1002_f160w_wht" not in path.name:
            assert read_path(path, ima=True).info.nx >= 64
    assert list(recwarn) == []
    assert capfd.readouterr() == ("", "")


# ---- Products


def test_a_single_array_drizzle_in_gzip(data_dir):
    path = data_dir / "other-ir/abell_2744_cd_galaxy_f105w.fits.gz"
    image = read_path(path)
    np.testing.assert_array_equal(image.data, fits.getdata(path).astype(np.float32))
    info = image.info
    assert (info.product, info.err_kind, image.err, image.dq) == ("image", "none", None, None)
    assert (info.rootname, info.filter) == ("abell_2744_cd_galaxy_f105w", "F105W")
    assert info.pixel_scale_arcsec == pytest.approx(0.06, abs=1e-6)
    assert info.zero_point_ab == pytest.approx(26.269, abs=1e-3)
    # FK5, and brought to the ICRS.
    fk5 = WCS(fits.getheader(path)).pixel_to_world((info.nx - 1) / 2, (info.ny - 1) / 2)
    assert fk5.frame.name == "fk5"
    assert fk5.separation(SkyCoord(info.ra_ref, info.dec_ref, unit="deg")).to_value("uas") < 1
    assert not any("RADESYS" in note for note in info.notes)


def test_a_bare_drizzle_with_its_weight_map(data_dir):
    folder = data_dir / "other-ir"
    with (
        (folder / "hudf_f160w_sci.fits").open("rb") as file,
        (folder / "hudf_f160w_wht.fits").open("rb") as weight_file,
    ):
        image = read_image(file, "hudf_f160w_sci.fits", weight_file=weight_file)
    weights = fits.getdata(folder / "hudf_f160w_wht.fits")
    np.testing.assert_allclose(image.err, 1 / np.sqrt(weights), rtol=1e-6)
    assert (image.info.err_kind, image.wcs, image.info.zero_point_ab) == ("weight", None, None)
    assert image.info.ra_ref is image.info.pixel_scale_arcsec is image.info.exposure_s is None
    notes = " ".join(image.info.notes)
    assert "sky coordinates are null" in notes
    assert "magnitudes are null" in notes


def test_a_weight_map_of_another_shape_is_refused(data_dir):
    folder = data_dir / "other-ir"
    with (
        (folder / "hudf_f160w_sci.fits").open("rb") as file,
        (folder / "hudf_stamp_1002_f160w_sci.fits").open("rb") as weight_file,
        pytest.raises(BrokenImageError, match=r"\(100, 100\).*\(500, 500\)"),
    ):
        read_image(file, "hudf_f160w_sci.fits", weight_file=weight_file)


def test_a_lower_case_filter_is_read_in_upper_case(data_dir):
    assert read_path(data_dir / "other-ir/hudf_stamp_1002_f160w_sci.fits").info.filter == "F160W"


def test_the_last_read_of_an_ima_without_its_reference_pixels(data_dir):
    path = data_dir / "other-ir/iccz11q4q_ima.fits"
    image = read_path(path, ima=True)
    inner = (slice(5, -5), slice(5, -5))
    with fits.open(path) as hdus:
        np.testing.assert_array_equal(image.data, hdus["SCI", 1].data[inner])
        np.testing.assert_array_equal(image.err, hdus["ERR", 1].data[inner])
        np.testing.assert_array_equal(image.dq, hdus["DQ", 1].data[inner])
        expected = WCS(hdus["SCI", 1].header).all_pix2world([5, 100], [5, 200], 0)
    assert (image.info.product, image.info.nx, image.info.ny) == ("ima", 256, 256)
    # As in the FLT of such a subarray, whose LTV is -379.
    assert (image.info.ltv1, image.info.ltv2) == (-379.0, -379.0)
    found = image.wcs.all_pix2world([0, 95], [0, 195], 0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert any("no distortion" in note for note in image.info.notes)


def drz_bytes(sci, wht):
    primary = fits.PrimaryHDU()
    cards = {"TELESCOP": "HST", "INSTRUME": "WFC3", "DETECTOR": "IR", "FILTER": "F160W"}
    primary.header.update(cards)
    science = fits.ImageHDU(np.asarray(sci, dtype=np.float32), name="SCI")
    science.header["BUNIT"] = "ELECTRONS/S"
    weight = fits.ImageHDU(np.asarray(wht, dtype=np.float32), name="WHT")
    context = fits.ImageHDU(np.ones((64, 64), dtype=np.int32), name="CTX")
    buffer = io.BytesIO()
    fits.HDUList([primary, science, weight, context]).writeto(buffer)
    return buffer.getvalue()


def test_a_drizzle_has_errors_from_its_weights_and_none_where_there_is_no_data():
    rng = np.random.default_rng(5)
    sci, wht = rng.normal(size=(64, 64)), rng.uniform(1, 100, (64, 64))
    wht[:10], wht[20, 20], sci[:5], sci[30, 30] = 0, np.nan, np.nan, np.inf
    image = read_bytes(drz_bytes(sci, wht), "ib6o23010_drz.fits")
    expected_mask = ~(wht > 0) | ~np.isfinite(sci)
    np.testing.assert_array_equal(image.mask, expected_mask)
    np.testing.assert_allclose(image.err[~image.mask], 1 / np.sqrt(wht[~image.mask]), rtol=1e-6)
    np.testing.assert_array_equal(image.data[~image.mask], sci[~image.mask].astype(np.float32))
    assert np.isfinite(image.data).all()
    assert np.isfinite(image.err).all()
    assert (image.info.rootname, image.info.product) == ("ib6o23010", "drz")
    assert (image.info.err_kind, image.dq) == ("weight", None)


def test_a_drizzle_of_no_weight_anywhere_is_all_masked():
    with pytest.raises(ImageError, match="masked"):
        read_bytes(drz_bytes(np.ones((64, 64)), np.zeros((64, 64))), "ib6o23010_drz.fits")


def test_products_are_known_by_their_planes_where_the_name_does_not_say(make_flt):
    named_otherwise = {"FILENAME": None}
    assert read_bytes(make_flt(cards=named_otherwise), "cutout.fits").info.product == "flt"
    drizzle = drz_bytes(np.ones((64, 64)), np.ones((64, 64)))
    assert read_bytes(drizzle, "mosaic.fits").info.product == "drz"


def test_a_gzipped_flt_is_the_same_image(make_flt):
    content = make_flt()
    plain, zipped = read_bytes(content), read_bytes(gzip.compress(content), "iaaa01abq_flt.fits.gz")
    np.testing.assert_array_equal(plain.data, zipped.data)
    np.testing.assert_array_equal(plain.dq, zipped.dq)
    assert plain.info == zipped.info


def test_a_subarray_keeps_its_place_on_the_detector(make_flt):
    info = read_bytes(make_flt()).info
    assert (info.ltv1, info.ltv2, info.subarray, info.aperture) == (-475.0, -475.0, True, "IRSUB64")


# ---- WCS


@pytest.mark.parametrize(
    "cards",
    [
        {"CTYPE1": None},
        {"CRVAL1": None},
        {"CRVAL2": "unknown"},
        {"CD1_1": None},
        {"CD1_1": 0.0, "CD1_2": 0.0},
        {"CTYPE1": "RA---XYZ", "CTYPE2": "DEC--XYZ"},
        {"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"},
        {"B_ORDER": None},
        {"A_ORDER": 10**12, "B_ORDER": 10**12},
        {"A_ORDER": -1},
        {"A_ORDER": -1, "B_ORDER": -1},
        {"CTYPE1": True},
        {"CD1_1": 1e300, "CD2_2": 1e300},
        {"A_1_1": "?"},
    ],
)
def test_without_a_usable_wcs_the_image_is_kept(make_flt, cards, recwarn, capfd):
    image = read_bytes(make_flt(cards=cards))
    assert image.wcs is None
    assert image.info.ra_ref is image.info.dec_ref is image.info.pixel_scale_arcsec is None
    assert any("sky coordinates are null" in note for note in image.info.notes)
    assert list(recwarn) == []
    assert capfd.readouterr() == ("", "")


def test_sip_without_its_suffix_is_not_used(make_flt, capfd):
    image = read_bytes(make_flt(cards={"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}))
    assert image.wcs.sip is None
    assert any("-SIP" in note for note in image.info.notes)
    assert capfd.readouterr() == ("", "")


def test_bits_beyond_the_plane_are_a_bad_option():
    with pytest.raises(UsageError, match="32767"):
        ReadParameters(mask_bits=1 << 15)
    assert ReadParameters(mask_bits=4).good_bits == 32767 - 4
