"""Where an image is on the sky: centre, scale, footprint."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_area
from hypothesis import given
from hypothesis import strategies as st

from hstmap.wfc3.wcs import build_wcs, centre_and_scale, footprint, to_icrs

NX, NY = 1014, 900
RA = st.floats(0, 359.999)
DEC = st.floats(-89.9, 89.9)
ROTATION = st.floats(0, 360)


def tangent_wcs(ra, dec, rotation=0.0, parity=1, scale_arcsec=0.128):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [(NX + 1) / 2, (NY + 1) / 2]
    sine, cosine = np.sin(np.radians(rotation)), np.cos(np.radians(rotation))
    turn = np.array([[cosine, -sine], [sine, cosine]])
    wcs.wcs.cd = turn @ np.diag([-scale_arcsec * parity, scale_arcsec]) / 3600
    return wcs


@given(RA, DEC, ROTATION)
def test_centre_and_scale(ra, dec, rotation):
    wcs = tangent_wcs(ra, dec, rotation)
    *centre, scale = centre_and_scale(wcs, NX, NY)
    found = SkyCoord(*centre, unit="deg")
    assert found.separation(SkyCoord(ra, dec, unit="deg")) < 1e-6 * u.arcsec
    assert scale == pytest.approx(0.128, rel=1e-5)


@given(RA, DEC, ROTATION, st.integers(1, 2000), st.integers(1, 2000))
def test_centre_and_scale_are_those_of_positions_asked_for_alone(ra, dec, rotation, nx, ny):
    wcs = tangent_wcs(ra, dec, rotation)
    x, y = (nx - 1) / 2, (ny - 1) / 2
    found = centre_and_scale(wcs, nx, ny)
    assert found[:2] == tuple(float(value) for value in wcs.all_pix2world(x, y, 0))
    left, right, below, above = (
        np.array(wcs.all_pix2world(*position, 0))
        for position in ((x - 0.5, y), (x + 0.5, y), (x, y - 0.5), (x, y + 0.5))
    )
    steps = np.array([right - left, above - below])
    steps[:, 0] = (steps[:, 0] + 180) % 360 - 180
    steps[:, 0] *= np.cos(np.radians((left + right + below + above)[1] / 4))
    assert found[2] == pytest.approx(3600 * np.sqrt(abs(np.linalg.det(steps))), rel=1e-6)


@pytest.mark.parametrize("at", [(0.0, 0.0), (359.999, 40.0), (10.0, -89.99)])
def test_scale_next_to_where_right_ascension_starts_again(at):
    assert centre_and_scale(tangent_wcs(*at), NX, NY)[2] == pytest.approx(0.128, rel=1e-3)


@given(
    st.dictionaries(
        st.tuples(st.sampled_from("AB"), st.integers(0, 4), st.integers(0, 4)),
        st.floats(-1e-6, 1e-6),
    )
)
def test_distortion_has_the_coefficients_of_its_cards_and_no_others(coefficients):
    header = tangent_wcs(10, 20).to_header()
    for i in (1, 2):
        for j in (1, 2):
            header[f"CD{i}_{j}"] = header.get(f"PC{i}_{j}", 0.0)
            header.remove(f"PC{i}_{j}", ignore_missing=True)
        header.remove(f"CDELT{i}")
        header[f"CTYPE{i}"] += "-SIP"
    header.remove("LATPOLE"), header.remove("LONPOLE"), header.remove("MJDREF")
    header["A_ORDER"] = header["B_ORDER"] = 4
    for (letter, p, q), value in coefficients.items():
        header[f"{letter}_{p}_{q}"] = value
    wcs = build_wcs(header, NX, NY, [])
    for letter, found in (("A", wcs.sip.a), ("B", wcs.sip.b)):
        expected = np.zeros((5, 5))
        for (of, p, q), value in coefficients.items():
            if of == letter and p + q <= 4:
                expected[p, q] = value
        np.testing.assert_array_equal(found, expected)


@given(RA, DEC, ROTATION, st.sampled_from([1, -1]))
def test_footprint_is_closed_holds_the_image_and_turns_one_way(ra, dec, rotation, parity):
    wcs = tangent_wcs(ra, dec, rotation, parity)
    polygon = footprint(wcs, NX, NY)
    assert polygon.shape == (5, 2)
    np.testing.assert_array_equal(polygon[0], polygon[-1])
    assert ((polygon[:, 0] >= 0) & (polygon[:, 0] < 360)).all()
    # Seen from the middle of the image, each corner is to the left of the one before.
    centre = SkyCoord(ra, dec, unit="deg")
    corners = SkyCoord(polygon[:, 0], polygon[:, 1], unit="deg")
    angles = centre.position_angle(corners).deg
    steps = (np.diff(angles) + 180) % 360 - 180
    assert (steps > 0).all()
    assert steps.sum() == pytest.approx(360)
    # Corners of pixels, not their centres: the diagonal is NX by NY pixels.
    diagonal = corners[0].separation(corners[2]).arcsec
    assert diagonal == pytest.approx(0.128 * np.hypot(NX, NY), rel=1e-5)


def test_scale_of_a_real_frame(data_dir):
    path = data_dir / "frames/hst/public/ib6o/ib6o23rtq/ib6o23rtq_flt.fits"
    wcs = WCS(fits.getheader(path, "SCI"))
    # Without distortion, at CRPIX; the middle of the frame is half a pixel off.
    expected = np.sqrt(proj_plane_pixel_area(wcs)) * 3600
    assert centre_and_scale(wcs, 1014, 1014)[2] == pytest.approx(expected, rel=1e-4)


# ---- The system of reference


def wcs_of_system(radesys=None, equinox=None, at=(10, 20), notes=None):
    header = tangent_wcs(*at).to_header()
    for keyword, value in {"RADESYS": radesys, "EQUINOX": equinox}.items():
        header.remove(keyword, ignore_missing=True)
        if value:
            header[keyword] = value
    wcs = build_wcs(header, NX, NY, [] if notes is None else notes)
    assert wcs is not None
    return wcs


FK5 = {"frame": "fk5", "unit": "deg"}
#: What the FITS standard (4.0, section 8.3) makes of RADESYS and EQUINOX.
IS_FK5_OF_2000 = {
    ("FK5", None): True,
    ("FK5", 2000.0): True,
    (None, 2000.0): True,
    ("ICRS", 2000.0): False,
    (None, None): False,
}


@pytest.mark.parametrize(("radesys", "equinox"), IS_FK5_OF_2000)
def test_coordinates_are_brought_to_the_icrs(radesys, equinox):
    notes: list[str] = []
    wcs = wcs_of_system(radesys, equinox, notes=notes)
    x, y = np.array([[0.0, 500, 1013], [3, 400, 899]])
    given = wcs.all_pix2world(x, y, 0)
    frame = "fk5" if IS_FK5_OF_2000[radesys, equinox] else "icrs"
    expected = SkyCoord(*given, frame=frame, unit="deg").icrs
    found = SkyCoord(*to_icrs(wcs, *given), unit="deg")
    assert found.separation(expected).to_value("uas").max() < 1
    assert notes == []


@given(RA | st.just(0.0), st.floats(-90, 90))
def test_the_rotation_is_that_of_astropy(ra, dec):
    found = SkyCoord(*to_icrs(wcs_of_system("FK5"), [ra], [dec]), unit="deg")
    assert ((found.ra.deg >= 0) & (found.ra.deg < 360)).all()
    moved = SkyCoord([ra], [dec], **FK5)
    assert found.separation(moved.icrs).to_value("uas").max() < 1
    # A rotation moves nothing by more than its angle: the root of 19.9^2 + 9.1^2 + 22.9^2.
    assert found.separation(SkyCoord([ra], [dec], unit="deg")).to_value("mas").max() < 32


@given(RA, st.floats(-89, 89))
def test_centre_and_footprint_of_an_fk5_image_are_icrs(ra, dec):
    wcs = wcs_of_system("FK5", 2000.0, at=(ra, dec))
    centre = SkyCoord(*centre_and_scale(wcs, NX, NY)[:2], unit="deg")
    assert centre.separation(SkyCoord(ra, dec, **FK5).icrs).to_value("uas") < 1
    icrs = footprint(wcs_of_system("ICRS", at=(ra, dec)), NX, NY)
    expected = SkyCoord(*icrs.T, **FK5).icrs  # the same numbers, in the other system
    assert SkyCoord(*footprint(wcs, NX, NY).T, unit="deg").separation(expected).uas.max() < 1


@pytest.mark.parametrize(
    ("radesys", "equinox", "said"),
    [("FK4", None, "FK4, equinox 1950"), ("FK5", 1975.0, "FK5, equinox 1975"), (None, 1950.0, "4")],
)
def test_another_system_is_noted(radesys, equinox, said):
    notes: list[str] = []
    wcs = wcs_of_system(radesys, equinox, notes=notes)
    (note,) = notes
    assert said in note
    assert "taken as ICRS" in note
    np.testing.assert_array_equal(to_icrs(wcs, [1.0], [2.0]), [[1.0], [2.0]])


def test_scales_as_cdelt_with_pc_or_as_cd_are_the_same_wcs():
    cd = tangent_wcs(10, 20, rotation=30)
    pc = WCS(naxis=2)
    pc.wcs.ctype, pc.wcs.crval, pc.wcs.crpix = cd.wcs.ctype, cd.wcs.crval, cd.wcs.crpix
    pc.wcs.cdelt = [-0.128 / 3600, 0.128 / 3600]
    pc.wcs.pc = cd.wcs.cd / pc.wcs.cdelt[:, np.newaxis]
    cd_header = fits.Header({f"CD{i + 1}_{j + 1}": cd.wcs.cd[i, j] for i in (0, 1) for j in (0, 1)})
    cd_header.extend(card for card in cd.to_header().cards if card.keyword[:2] not in ("PC", "CD"))
    for keyword in ("CDELT1", "CDELT2"):
        cd_header.remove(keyword, ignore_missing=True)
    x, y = np.array([[0.0, 500, 1013], [3, 400, 899]])
    expected = cd.all_pix2world(x, y, 0)
    for header in (pc.to_header(), cd_header):
        notes: list[str] = []
        wcs = build_wcs(header, NX, NY, notes)
        np.testing.assert_allclose(wcs.all_pix2world(x, y, 0), expected, rtol=0, atol=1e-11)
        assert notes == []
