"""Simulated files: structure, geometry, truth, and the sample."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from hstmap.errors import UsageError
from hstmap.wfc3.simulate import (
    SceneParameters,
    SimulatedImage,
    make_sample,
    make_sources,
    make_stars,
    sample_rootname,
    sample_scenes,
    scene,
    simulate_dithers,
    simulate_drz,
    simulate_flt,
)

SMALL = SceneParameters(subarray=256, n_stars=2000, n_galaxies=2000)
# fmt: off
PRIMARY_KEYWORDS = (
    "TELESCOP", "INSTRUME", "DETECTOR", "FILTER", "OBSTYPE", "OBSMODE", "IMAGETYP", "TARGNAME",
    "RA_TARG", "DEC_TARG", "PROPOSID", "EXPTIME", "EXPSTART", "EXPEND", "EXPFLAG", "MTFLAG",
    "FGSLOCK", "SCAN_TYP", "SUBARRAY", "SUBTYPE", "APERTURE", "SAMP_SEQ", "NSAMP", "PHOTMODE",
    "PHOTFLAM", "PHOTFNU", "PHOTPLAM", "PHOTBW", "PHOTZPT", "CAL_VER", "ROOTNAME", "FILENAME",
    "CCDGAIN", "READNSEA", "READNSEB", "READNSEC", "READNSED", "UNITCORR", "FLATCORR", "DRIZCORR",
    "PA_V3", "POSTARG1", "ASN_ID", "DATE-OBS", "TIME-OBS", "NGOODPIX", "SAMPTIME", "RADESYS",
)
SCIENCE_KEYWORDS = (
    "CRPIX1", "CRVAL1", "CTYPE1", "CD1_1", "CD2_2", "LTV1", "LTM1_1", "ORIENTAT", "A_ORDER",
    "A_1_1", "B_0_2", "BUNIT", "EXTNAME", "EXTVER", "WCSNAME", "VAFACTOR", "IDCSCALE",
)
# fmt: on
REAL_F140W = "frames/hst/public/ib6o/ib6o23rtq/ib6o23rtq_flt.fits"


def _open(image: SimulatedImage) -> fits.HDUList:
    return fits.open(io.BytesIO(image.content))


@pytest.fixture(scope="module")
def full() -> SimulatedImage:
    return simulate_flt(scene("normal"), "isim01a1q")


@pytest.fixture(scope="module")
def small() -> SimulatedImage:
    return simulate_flt(SMALL, "isim01a2q")


# --- structure ---------------------------------------------------------------------------------


def test_an_flt_has_the_planes_of_the_archives(full: SimulatedImage) -> None:
    with _open(full) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SCI", "ERR", "DQ", "SAMP", "TIME"]
        assert hdus[0].data is None
        types = {hdu.name: hdu.data.dtype.str for hdu in hdus[1:]}
        assert types == {"SCI": ">f4", "ERR": ">f4", "DQ": ">i2", "SAMP": ">i2", "TIME": ">f4"}
        assert {hdu.data.shape for hdu in hdus[1:]} == {(1014, 1014)}
        assert hdus["SCI"].header["BUNIT"] == hdus["ERR"].header["BUNIT"] == "ELECTRONS/S"
        assert np.all(hdus["SAMP"].data == scene("normal").n_samples - 1)
        assert np.all(hdus["TIME"].data == scene("normal").exposure_s)
        assert np.all(np.isfinite(hdus["SCI"].data))
        assert hdus["ERR"].data.min() > 0


def test_the_header_says_what_was_simulated(full: SimulatedImage) -> None:
    with _open(full) as hdus:
        header = hdus[0].header
    expected = {
        "ORIGIN": "hstmap simulate",
        "TELESCOP": "HST",
        "INSTRUME": "WFC3",
        "DETECTOR": "IR",
        "FILTER": "F140W",
        "OBSTYPE": "IMAGING",
        "IMAGETYP": "EXT",
        "ROOTNAME": "isim01a1q",
        "FILENAME": "isim01a1q_flt.fits",
        "EXPTIME": 500.0,
        "EXPFLAG": "NORMAL",
        "SCAN_TYP": "N",
        "MTFLAG": "",
        "SUBARRAY": False,
        "APERTURE": "IR",
        "UNITCORR": "COMPLETE",
        "FLATCORR": "COMPLETE",
        "PHOTFLAM": 1.4737148e-20,
        "PHOTPLAM": 13922.907,
        "PHOTFNU": 9.5291154e-08,
        "CCDGAIN": 2.5,
        "FGSLOCK": "FINE",
        "NSAMP": 12,
        "TARGNAME": "SIM-NORMAL-1",
    }
    assert {key: header[key] for key in expected} == expected
    assert (header["EXPEND"] - header["EXPSTART"]) * 86400 == pytest.approx(500.0, abs=0.01)
    assert re.fullmatch(r"20[012]\d-\d\d-\d\d", header["DATE-OBS"])


def test_headers_have_the_keywords_of_a_real_frame(full: SimulatedImage, data_dir: Path) -> None:
    with fits.open(data_dir / REAL_F140W) as real, _open(full) as made:
        for number, keywords in ((0, PRIMARY_KEYWORDS), (1, SCIENCE_KEYWORDS)):
            for keyword in keywords:
                # That real file has the science header's readout keywords in its primary one.
                own = 1 if keyword in ("NGOODPIX", "SAMPTIME", "RADESYS") else number
                assert keyword in made[own].header, keyword
                kinds = type(real[number].header[keyword]), type(made[own].header[keyword])
                assert kinds[0] is kinds[1], keyword


def test_subarrays_are_smaller_and_say_so(small: SimulatedImage) -> None:
    with _open(small) as hdus:
        assert hdus["SCI"].data.shape == hdus["DQ"].data.shape == (256, 256)
        assert hdus["SCI"].header["LTV1"] == hdus["SCI"].header["LTV2"] == -379.0
        assert hdus[0].header["SUBARRAY"] is True
        assert hdus[0].header["APERTURE"] == "IRSUB256"
        assert hdus[0].header["SUBTYPE"] == "SQ256SUB"


@pytest.mark.parametrize("size", [64, 128, 512])
def test_every_subarray_size_can_be_made(size: int) -> None:
    image = simulate_flt(dataclasses.replace(SMALL, subarray=size, n_galaxies=10), "isim01a3q")
    with _open(image) as hdus:
        assert hdus["SCI"].data.shape == (size, size)


# --- geometry and truth ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["full", "small"])
def test_truth_positions_follow_the_written_wcs(kind: str, request: pytest.FixtureRequest) -> None:
    image: SimulatedImage = request.getfixturevalue(kind)
    with _open(image) as hdus:
        wcs = WCS(hdus["SCI"].header, hdus)
        n_y, n_x = hdus["SCI"].data.shape
    truth = image.truth
    x, y = wcs.all_world2pix(truth["ra"], truth["dec"], 0)
    assert np.abs(x - truth["x"]).max() < 1e-3
    assert np.abs(y - truth["y"]).max() < 1e-3
    ra, dec = wcs.all_pix2world(truth["x"], truth["y"], 0)
    seen, true = SkyCoord(ra, dec, unit="deg"), SkyCoord(truth["ra"], truth["dec"], unit="deg")
    assert seen.separation(true).arcsec.max() < 1e-4
    assert truth["x"].min() >= -0.5
    assert truth["y"].max() <= n_y - 0.5
    assert truth["x"].max() <= n_x - 0.5


def test_truth_says_what_each_source_is(full: SimulatedImage) -> None:
    truth = full.truth
    assert truth.colnames == [
        "id", "kind", "x", "y", "ra", "dec", "mag_ab", "flux", "snr", "half_light_radius",
        "sersic_index", "axis_ratio", "position_angle", "saturated", "dq",
    ]  # fmt: skip
    assert set(truth["kind"]) == {"star", "galaxy"}
    assert len(np.unique(truth["id"])) == len(truth)
    assert str(truth["flux"].unit) == "1 / s"
    assert all(truth[name].description for name in truth.colnames)
    zero_point = truth["mag_ab"] + 2.5 * np.log10(truth["flux"])
    assert zero_point == pytest.approx(26.4523, abs=1e-3)
    assert np.all(truth["snr"] > 0)
    assert np.all(truth["half_light_radius"][truth["kind"] == "star"] == 0)


@pytest.mark.parametrize("file_format", ["ascii.ecsv", "fits"])
def test_truth_can_be_written_and_read(
    small: SimulatedImage, tmp_path: Path, file_format: str
) -> None:
    path = tmp_path / "truth"
    small.truth.write(path, format=file_format)
    again = Table.read(path, format=file_format)
    assert np.array_equal(again["flux"], small.truth["flux"])
    assert again["flux"].unit == small.truth["flux"].unit


def test_truth_dq_is_what_the_dq_plane_has_around_a_source(full: SimulatedImage) -> None:
    with _open(full) as hdus:
        dq = hdus["DQ"].data
    inner = full.truth[
        (np.abs(full.truth["x"] - 506) < 500) & (np.abs(full.truth["y"] - 506) < 500)
    ]
    for row in inner[:100]:
        x, y = int(np.floor(row["x"] + 0.5)), int(np.floor(row["y"] + 0.5))
        assert row["dq"] == np.bitwise_or.reduce(dq[y - 1 : y + 2, x - 1 : x + 2], axis=None)
    assert np.array_equal(full.truth["saturated"], (full.truth["dq"] & 256) != 0)


def test_bright_stars_saturate_and_faint_ones_do_not() -> None:
    parameters = dataclasses.replace(SMALL, exposure_s=300.0, bad_pixels=False)
    stars = make_stars([SMALL.ra, SMALL.ra], [SMALL.dec, SMALL.dec + 0.002], [13.0, 18.0])
    truth = simulate_flt(parameters, "isim01a4q", stars).truth
    assert list(truth["saturated"]) == [True, False]


def test_every_dq_bit_that_the_detector_has_is_there(full: SimulatedImage) -> None:
    parameters = scene("sparse")
    bright = make_stars(parameters.ra, parameters.dec, 12.0)
    with _open(simulate_flt(parameters, "isim01a5q", bright)) as hdus:
        for bit in (4, 16, 32, 64, 128, 256, 512, 2048, 4096, 8192):
            assert (hdus["DQ"].data & bit).any(), bit
    with _open(full) as hdus:
        bad = (hdus["DQ"].data & (1 | 2 | 4 | 8 | 16 | 128 | 256 | 1024 | 4096)) != 0
    assert 0.01 < bad.mean() < 0.04


# --- determinism, dithers, subarrays -----------------------------------------------------------


def test_the_same_seed_and_rootname_give_the_same_bytes(small: SimulatedImage) -> None:
    assert simulate_flt(SMALL, "isim01a2q").content == small.content


def test_another_rootname_gives_other_noise_on_the_same_sky(small: SimulatedImage) -> None:
    other = simulate_flt(SMALL, "isim01a3q")
    assert np.array_equal(other.truth["x"], small.truth["x"])
    with _open(other) as hdus, _open(small) as same:
        difference = hdus["SCI"].data - same["SCI"].data
        usable = (hdus["DQ"].data | same["DQ"].data) == 0
        expected = np.hypot(hdus["ERR"].data, same["ERR"].data)[usable]
    assert (difference[usable] / expected).std() == pytest.approx(1.0, abs=0.03)


def test_another_seed_gives_another_sky(small: SimulatedImage) -> None:
    other = simulate_flt(dataclasses.replace(SMALL, seed=2), "isim01a2q")
    assert len(other.truth) != len(small.truth) or not np.array_equal(
        other.truth["x"], small.truth["x"]
    )


def test_dithers_show_one_sky_in_other_pixels() -> None:
    first, second = simulate_dithers(SMALL, ((0.0, 0.0), (5.0, -3.0)), ("isim02a1q", "isim02a2q"))
    by_id = {row["id"]: row for row in second.truth}
    pairs = [(row, by_id[row["id"]]) for row in first.truth if row["id"] in by_id]
    assert len(pairs) > 100
    for name in ("ra", "dec", "mag_ab", "kind"):
        assert all(one[name] == two[name] for one, two in pairs)
    shift_x = np.array([two["x"] - one["x"] for one, two in pairs]) * 0.13543
    shift_y = np.array([two["y"] - one["y"] for one, two in pairs]) * 0.12096
    assert np.median(shift_x) == pytest.approx(5.0, abs=0.1)
    assert np.median(shift_y) == pytest.approx(-3.0, abs=0.1)
    with _open(second) as hdus:
        assert (hdus[0].header["POSTARG1"], hdus[0].header["POSTARG2"]) == (5.0, -3.0)


def test_a_subarray_is_the_middle_of_the_full_frame() -> None:
    parameters = dataclasses.replace(scene("normal"), noise=False)
    whole = simulate_flt(parameters, "isim01a1q")
    part = simulate_flt(
        dataclasses.replace(parameters, subarray=256, sky_gradient=0.0), "isim01a1q"
    )
    flat = simulate_flt(dataclasses.replace(parameters, sky_gradient=0.0), "isim01a1q")
    with _open(flat) as full_hdus, _open(part) as part_hdus:
        cut = full_hdus["SCI"].data[379:635, 379:635]
        assert part_hdus["SCI"].data == pytest.approx(cut, abs=1e-6)
        assert np.array_equal(part_hdus["DQ"].data, full_hdus["DQ"].data[379:635, 379:635])
    by_id = {row["id"]: row for row in whole.truth}
    for row in part.truth:
        assert row["x"] - (-379) == pytest.approx(by_id[row["id"]]["x"], abs=1e-6)
        assert row["y"] - (-379) == pytest.approx(by_id[row["id"]]["y"], abs=1e-6)


def test_a_dark_current_free_patch_shows_the_background() -> None:
    parameters = dataclasses.replace(SMALL, noise=False, bad_pixels=False, blobs=False)
    nothing = make_stars([], [], [])
    with _open(simulate_flt(parameters, "isim01a6q", nothing)) as hdus:
        sky = hdus["SCI"].data
    assert sky.mean() == pytest.approx(parameters.background_e_s, rel=1e-4)
    assert sky[-1, -1] / sky[0, 0] == pytest.approx(1.02, abs=1e-3)


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rootname", ["", "isim01a1", "jsim01a1q", "isim01a11", "isim01a1qq", "isim-1a1q"]
)
def test_an_exposure_needs_a_rootname_of_the_archives_form(rootname: str) -> None:
    with pytest.raises(UsageError, match="no rootname"):
        simulate_flt(SMALL, rootname)


def test_a_product_needs_a_rootname_that_ends_in_a_digit() -> None:
    with pytest.raises(UsageError, match="the last a digit"):
        simulate_drz(SMALL, "isim01a1q")
    with pytest.raises(UsageError, match="0 exposures"):
        simulate_drz(SMALL, "isim01010", ())


def test_sources_without_a_column_are_refused_with_its_name() -> None:
    sources = make_sources(SMALL)
    sources.remove_column("axis_ratio")
    with pytest.raises(UsageError, match="axis_ratio"):
        simulate_flt(SMALL, "isim01a1q", sources)


def test_sources_elsewhere_on_the_sky_are_not_in_the_frame() -> None:
    stars = make_stars([SMALL.ra + 180.0, SMALL.ra], [-SMALL.dec, SMALL.dec], 20.0)
    truth = simulate_flt(SMALL, "isim01a1q", stars).truth
    assert list(truth["id"]) == [2]


# --- the sample --------------------------------------------------------------------------------


def test_the_sample_is_a_mixed_handful() -> None:
    scenes = sample_scenes()
    assert len(scenes) == 6
    one, other = (parameters for _, parameters in scenes[:2])
    assert one.filter_name == other.filter_name == "F160W"
    assert dataclasses.replace(other, dither_arcsec=one.dither_arcsec) == one != other
    assert {parameters.filter_name for _, parameters in scenes} == {
        "F105W",
        "F125W",
        "F140W",
        "F160W",
    }
    assert sorted({parameters.size for _, parameters in scenes}) == [512, 1014]


def test_the_sample_is_made_of_its_scenes_one_at_a_time() -> None:
    images = make_sample(n_images=2)
    for image, (rootname, parameters) in zip(images, sample_scenes(2), strict=True):
        filename, content, truth = image
        assert filename == f"{rootname}_flt.fits"
        assert image.rootname == rootname
        assert len(truth) > 500
        with fits.open(io.BytesIO(content)) as hdus:
            assert hdus[0].header["FILENAME"] == filename
            assert hdus[0].header["FILTER"] == parameters.filter_name
            assert hdus["SCI"].data.shape == (1014, 1014)


def test_a_longer_sample_goes_on_with_new_fields() -> None:
    scenes = sample_scenes(n_images=40, seed=4)
    assert scenes[:6] == sample_scenes(n_images=6, seed=4)
    assert len({rootname for rootname, _ in scenes}) == 40
    assert len({parameters for _, parameters in scenes}) == 40
    assert not {parameters for _, parameters in scenes[:6]} & {
        parameters for _, parameters in sample_scenes(6, seed=5)
    }


def test_sample_rootnames_never_meet() -> None:
    names = [sample_rootname(number) for number in range(0, 23_166, 7)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"isim\d\d[a-z]\dq", name) for name in names)
    assert sample_rootname(0) == "isim01a1q"
    for number in (-1, 23_166):
        with pytest.raises(UsageError, match=str(number)):
            sample_rootname(number)
