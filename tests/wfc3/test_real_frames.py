"""What the whole chain finds on real frames, held against lists and calls from outside."""

from __future__ import annotations

import numpy as np
import pytest
import sep
from astropy.coordinates import SkyCoord
from astropy.io import fits

from hstmap.batch import RunParameters
from hstmap.errors import ImageError, RejectedImageError
from hstmap.wfc3.detect import detect
from hstmap.wfc3.image import read_image
from hstmap.wfc3.measure import measure
from hstmap.wfc3.parameters import DetectionParameters, MeasureParameters, ReadParameters


@pytest.fixture(scope="module")
def frames(data_dir):
    return data_dir / "frames" / "hst" / "public" / "ib6o"


def open_frame(frames, rootname):
    return (frames / rootname / f"{rootname}_flt.fits").open("rb")


def sources_of(frames, rootname, parameters=None):
    parameters = parameters or RunParameters()
    with open_frame(frames, rootname) as file:
        image = read_image(file, f"{rootname}_flt.fits", parameters.read)
    return image, measure(image, detect(image, parameters.detection), parameters.measure)


@pytest.fixture(scope="module")
def rtq(frames):
    return sources_of(frames, "ib6o23rtq")


@pytest.fixture(scope="module")
def rwq(frames):
    return sources_of(frames, "ib6o23rwq")


def test_recovers_the_list_of_a_deeper_image(data_dir, rtq):
    reference = np.genfromtxt(data_dir / "sextractor" / "ib6o23rtq_flt_1.cat")
    x, y, mag = reference[:, 0] - 1, reference[:, 1] - 1, reference[:, 12]
    inside = (x >= 0) & (x <= 1013) & (y >= 0) & (y <= 1013) & (mag < 24)
    _, sources = rtq
    distance = np.hypot(
        sources["x"][None] - x[inside][:, None], sources["y"][None] - y[inside][:, None]
    )
    assert inside.sum() > 100
    assert (distance.min(axis=1) < 2).mean() >= 0.75


def test_two_dithers_agree_on_the_sky(rtq, rwq):
    first, second = (
        SkyCoord(s["ra"][bright], s["dec"][bright], unit="deg")
        for _, s in (rtq, rwq)
        for bright in [s["snr"] > 20]
    )
    nearest, separation, _ = first.match_to_catalog_sky(second)
    matched = separation.arcsec < 0.2
    assert matched.sum() > 50
    east, north = first[matched].spherical_offsets_to(second[nearest[matched]])
    assert abs(np.median(east.arcsec)) < 0.01
    assert abs(np.median(north.arcsec)) < 0.01


def test_no_source_sits_on_a_masked_pixel(frames, rtq):
    image, sources = rtq
    column, row = np.rint(sources["x"]).astype(int), np.rint(sources["y"]).astype(int)
    # A star may well have a bad pixel at its centre; a spike is nothing but its bad pixels.
    on_mask = image.mask[row, column]
    assert (sources["snr"][on_mask] > 4).all()
    assert on_mask.mean() < 0.1
    assert len(sources["x"]) < 1000
    # What a reader that ignores the data quality finds:
    blind = RunParameters(read=ReadParameters(mask_bits=0))
    _, spikes = sources_of(frames, "ib6o23rtq", blind)
    assert len(spikes["x"]) > 8_000


def test_grism_frame_is_rejected(frames):
    with (
        open_frame(frames, "ib6o23rsq") as file,
        pytest.raises(RejectedImageError, match="G141") as caught,
    ):
        read_image(file, "ib6o23rsq_flt.fits")
    assert caught.value.reason == "grism"


@pytest.mark.parametrize("folder", ["reject", "fits-oddities"])
def test_every_odd_file_is_turned_away_in_one_line(data_dir, folder, recwarn):
    files = sorted((data_dir / folder).iterdir())
    assert files
    for path in files:
        with path.open("rb") as file, pytest.raises(ImageError) as caught:
            read_image(file, path.name)
        assert caught.value.reason.isidentifier()
        assert "\n" not in str(caught.value)
    assert not recwarn.list


def test_equals_sep_called_directly(frames):
    """The same steps written as a script: equal to the last bit of float32."""
    with open_frame(frames, "ib6o23rwq") as file, fits.open(file) as hdus:
        sci = hdus["SCI"].data.astype(np.float32)
        err = hdus["ERR"].data.astype(np.float32)
        dq = hdus["DQ"].data
    plain = MeasureParameters(pixel_area=False, windowed_positions=False)
    uncorrected = RunParameters(measure=plain)
    image, sources = sources_of(frames, "ib6o23rwq", uncorrected)
    bad = (dq & (1 + 2 + 4 + 8 + 16 + 128 + 1024 + 4096)) != 0
    parameters = DetectionParameters()
    background = sep.Background(sci, mask=bad, bw=parameters.mesh, bh=parameters.mesh)
    data = np.where(bad, 0, sci - background.back())
    every = (slice(None, None, 8), slice(None, None, 8))
    scale = np.median((background.rms()[every] / err[every])[~bad[every]])
    err *= scale
    grid = np.arange(5) - 2
    profile = np.exp(-4 * np.log(2) * grid**2 / parameters.kernel_fwhm**2)
    kernel = np.outer(profile, profile)
    objects = sep.extract(
        data, parameters.threshold, err=err, mask=bad, minarea=parameters.min_pixels,
        filter_kernel=(kernel / kernel.sum()).astype(np.float32), filter_type="conv",
        deblend_nthresh=32, deblend_cont=parameters.deblend_contrast,
    )  # fmt: skip
    x, y, a, b, theta = (objects[name] for name in ("x", "y", "a", "b", "theta"))
    kron, kron_flag = sep.kron_radius(data, x, y, a, b, theta, 6.0, mask=bad)
    flux, _, flag = sep.sum_ellipse(
        data, x, y, a, b, theta, 2.5 * kron, err=err, mask=bad, subpix=5
    )
    circle, _, circle_flag = sep.sum_circle(data, x, y, 3.5, err=err, mask=bad, subpix=5)
    small = ~(2.5 * kron * np.sqrt(a * b) >= 3.5)
    radius = 0.45 / image.info.pixel_scale_arcsec
    aperture, _, _ = sep.sum_circle(data, x, y, radius, err=err, mask=bad, subpix=5)
    flags = objects["flag"] | (kron_flag & (64 | 128)) | np.where(small, circle_flag, flag)
    np.testing.assert_array_equal(sources["x"], x)
    np.testing.assert_array_equal(sources["y"], y)
    expected = np.where(small, circle, flux).astype(np.float32)
    np.testing.assert_array_equal(sources["flux_auto"], expected)
    np.testing.assert_array_equal(sources["flux_aper_2"], aperture.astype(np.float32))
    # Beyond 128 are the catalogue's own flags.
    np.testing.assert_array_equal(sources["flags"] & 255, flags)


def test_a_quarter_without_data_has_no_sources(frames):
    image, sources = sources_of(frames, "ib6o04uwq")
    assert image.mask.mean() > 0.2
    column, row = np.rint(sources["x"]).astype(int), np.rint(sources["y"]).astype(int)
    assert len(sources["x"]) > 200
    assert image.mask[row, column].mean() < 0.1


def test_magnitudes_match_the_deeper_list(data_dir, rtq):
    reference = np.genfromtxt(data_dir / "sextractor" / "ib6o23rtq_flt_1.cat")
    x, y, mag = reference[:, 0] - 1, reference[:, 1] - 1, reference[:, 12]
    _, sources = rtq
    distance = np.hypot(sources["x"][:, None] - x[None], sources["y"][:, None] - y[None])
    nearest = distance.argmin(axis=1)
    bright = (distance.min(axis=1) < 1) & (mag[nearest] > 19) & (mag[nearest] < 22)
    assert bright.sum() > 15
    # That list is isophotal, of another image: a tenth of a magnitude is as good as it gets.
    assert abs(np.median(sources["mag_auto"][bright] - mag[nearest][bright])) < 0.15
