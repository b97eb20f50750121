"""The simulated instrument against real headers and published numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from hstmap.errors import UsageError
from hstmap.wfc3.simulate_instrument import (
    DETECTOR_SIZE,
    FILTERS,
    SUBARRAY_SIZES,
    Pointing,
    detector_wcs,
    find_filter,
    pixel_area_map,
    ramp_read_noise_e,
    reference_pixel_area_arcsec2,
    subarray_offset,
)

REAL_F140W = "frames/hst/public/ib6o/ib6o23rtq/ib6o23rtq_flt.fits"
CORNERS = np.array([[0, 1013, 0, 1013, 506], [0, 0, 1013, 1013, 506]], dtype=float)

pointings = st.builds(
    Pointing,
    st.floats(0.0, 359.99),
    st.floats(-85.0, 85.0),
    st.floats(-180.0, 180.0),
)


@pytest.fixture(scope="module")
def real_header(data_dir: Path) -> fits.Header:
    return fits.getheader(data_dir / REAL_F140W, "SCI")


def test_the_wcs_puts_pixels_where_a_real_frame_of_that_pointing_has_them(
    real_header: fits.Header,
) -> None:
    pointing = Pointing(real_header["CRVAL1"], real_header["CRVAL2"], real_header["ORIENTAT"])
    real = np.array(WCS(real_header).all_pix2world(*CORNERS, 0))
    made = np.array(WCS(detector_wcs(pointing)).all_pix2world(*CORNERS, 0))
    assert np.abs(made - real).max() * 3600 < 0.005


def test_filters_have_the_photometry_of_real_headers(data_dir: Path) -> None:
    header = fits.getheader(data_dir / REAL_F140W)
    band = find_filter("F140W")
    for keyword in ("PHOTFLAM", "PHOTPLAM", "PHOTBW", "PHOTFNU"):
        assert getattr(band, keyword.lower()) == pytest.approx(header[keyword], rel=1e-7)


# The zero points that STScI published with that calibration (WFC3 IR zero points, March 2012).
@pytest.mark.parametrize(
    ("name", "zero_point"),
    [
        ("F098M", 25.6674),
        ("F105W", 26.2687),
        ("F110W", 26.8223),
        ("F125W", 26.2303),
        ("F140W", 26.4524),
        ("F160W", 25.9463),
    ],
)
def test_zero_points_are_the_published_ones(name: str, zero_point: float) -> None:
    assert FILTERS[name].zero_point_ab == pytest.approx(zero_point, abs=3e-4)


def test_both_photometry_keywords_give_one_zero_point() -> None:
    for band in FILTERS.values():
        assert band.zero_point_ab == pytest.approx(8.90 - 2.5 * np.log10(band.photfnu), abs=2e-3)


def test_an_unknown_filter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"G141.*F160W"):
        find_filter("G141")
    assert find_filter("f160w") is FILTERS["F160W"]


def test_more_reads_leave_less_read_noise() -> None:
    noise = [ramp_read_noise_e(n) for n in range(2, 17)]
    assert noise == sorted(noise, reverse=True)
    assert noise[0] == pytest.approx(20.0)
    assert noise[-1] == pytest.approx(12.0, abs=0.6)  # The handbook's figure for 16 reads.


def test_pixel_areas_are_those_that_the_wcs_spans() -> None:
    wcs = WCS(detector_wcs(Pointing(10.0, 0.0, 20.0)))
    x = np.array([5, 200, 556, 700, 1000])
    y = np.array([990, 300, 556, 20, 1005])

    def corner(dx: float, dy: float) -> np.ndarray:
        return np.array(wcs.all_pix2world(x + dx, y + dy, 0)) * 3600

    along_x = corner(0.5, 0) - corner(-0.5, 0)
    along_y = corner(0, 0.5) - corner(0, -0.5)
    area = np.abs(along_x[0] * along_y[1] - along_x[1] * along_y[0])
    assert area / area[2] == pytest.approx(pixel_area_map()[y, x], abs=2e-5)
    assert area[2] == pytest.approx(reference_pixel_area_arcsec2(), rel=1e-4)


def test_pixel_areas_range_over_eight_to_nine_per_cent_and_are_one_at_the_reference() -> None:
    areas = pixel_area_map()
    assert areas.shape == (1014, 1014)
    assert 0.08 < areas.max() - areas.min() < 0.09
    assert areas[556, 556] == 1.0


@pytest.mark.parametrize("size", SUBARRAY_SIZES)
def test_a_subarray_is_a_cut_of_the_full_frame(size: int) -> None:
    pointing = Pointing(150.0, 2.2, 77.0)
    first = subarray_offset(size)
    areas = pixel_area_map()[first : first + size, first : first + size]
    assert np.array_equal(pixel_area_map(size), areas)
    header = detector_wcs(pointing, size)
    assert header["LTV1"] == header["LTV2"] == -(DETECTOR_SIZE - size) / 2
    full, part = WCS(detector_wcs(pointing)), WCS(header)
    seen = np.array(part.all_pix2world(3.0, size - 9.0, 0))
    same = np.array(full.all_pix2world(3.0 + first, size - 9.0 + first, 0))
    assert seen == pytest.approx(same, abs=1e-11)


def test_subarray_offsets_are_those_of_real_files() -> None:
    # LTV of real IRSUB256 and IRSUB64 exposures.
    assert detector_wcs(Pointing(0, 0, 0), 256)["LTV1"] == -379.0
    assert detector_wcs(Pointing(0, 0, 0), 64)["LTV1"] == -475.0


@given(pointings, st.floats(-30.0, 30.0), st.floats(-30.0, 30.0))
@settings(max_examples=25, deadline=None)
def test_a_dither_moves_the_sky_along_the_detector_axes(
    pointing: Pointing, x_arcsec: float, y_arcsec: float
) -> None:
    moved = WCS(detector_wcs(pointing.moved(x_arcsec, y_arcsec)))
    x, y = moved.all_world2pix(pointing.ra, pointing.dec, 1)
    # First-order terms only: the distortion bends the way by up to a few per cent.
    assert (x - 507.0) * 0.13543 == pytest.approx(
        x_arcsec, abs=0.02 + 0.02 * abs(x_arcsec) + 0.01 * abs(y_arcsec)
    )
    assert (y - 507.0) * 0.12096 == pytest.approx(
        y_arcsec, abs=0.02 + 0.02 * abs(y_arcsec) + 0.01 * abs(x_arcsec)
    )


@given(pointings, st.floats(0, 1013), st.floats(0, 1013))
@settings(max_examples=25, deadline=None)
def test_the_wcs_inverts_at_every_pointing(pointing: Pointing, x: float, y: float) -> None:
    wcs = WCS(detector_wcs(pointing))
    sky = wcs.all_pix2world(x, y, 0)
    assert wcs.all_world2pix(*sky, 0, tolerance=1e-6) == pytest.approx([x, y], abs=1e-4)


@given(pointings)
@settings(max_examples=25, deadline=None)
def test_orientat_is_the_position_angle_of_the_y_axis(pointing: Pointing) -> None:
    header = detector_wcs(pointing)
    angle = np.degrees(np.arctan2(header["CD1_2"], header["CD2_2"]))
    assert (angle - pointing.orientation_deg + 180) % 360 - 180 == pytest.approx(0, abs=1e-9)
    assert header["CD1_1"] * header["CD2_2"] - header["CD1_2"] * header["CD2_1"] < 0
