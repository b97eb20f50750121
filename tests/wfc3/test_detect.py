from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import sep
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hstmap.errors import ExtractionError, RejectedImageError, UsageError
from hstmap.wfc3 import detect as detect_module
from hstmap.wfc3.detect import detect, gaussian_kernel
from hstmap.wfc3.parameters import PRESETS, DetectionParameters
from support.images import make_image

STARS = [(20.3, 30.7), (64.0, 64.0), (99.6, 21.2), (40.1, 101.9)]


@pytest.mark.parametrize("preset", PRESETS)
def test_finds_isolated_stars_where_they_are(preset):
    image = make_image(stars=STARS, flux=60.0)
    objects = detect(image, PRESETS[preset]).objects
    found = np.column_stack([objects["x"], objects["y"]])
    distance = np.linalg.norm(found[None] - np.array(STARS)[:, None], axis=2)
    assert (distance.min(axis=1) < 0.15).all()


def test_noise_alone_gives_next_to_nothing():
    found = [len(detect(make_image(seed=seed), PRESETS["default"]).objects) for seed in range(10)]
    # Ten frames of 128 x 128 pixels: 164,000 pixels of noise.
    assert sum(found) < 60


@settings(max_examples=20, deadline=None)
@given(factor=st.floats(0.05, 20), level=st.floats(-5, 50))
def test_threshold_means_the_same_whatever_the_errors_claim(factor, level):
    """Errors are brought to the noise that is there, a pedestal is background."""
    honest = make_image(stars=STARS, flux=40.0)
    lying = make_image(stars=STARS, flux=40.0)
    lying = dataclasses.replace(
        lying,
        data=lying.data + np.float32(level),
        err=(lying.err * factor).astype(np.float32),
    )
    a, b = detect(honest, PRESETS["default"]), detect(lying, PRESETS["default"])
    assert b.error_scale == pytest.approx(a.error_scale / factor, rel=0.02)
    assert b.background_level == pytest.approx(a.background_level + level, abs=0.02)
    brightest_a, brightest_b = (np.sort(d.objects[d.objects["flux"] > 10]["x"]) for d in (a, b))
    np.testing.assert_allclose(brightest_a, brightest_b, atol=0.05)


def test_without_errors_the_rms_takes_their_place():
    image = dataclasses.replace(make_image(stars=STARS, flux=60.0), err=None)
    detection = detect(image, PRESETS["default"])
    assert detection.error_scale == 1.0
    assert np.median(detection.err) == pytest.approx(detection.background_rms, rel=0.05)
    assert len(detection.objects) >= len(STARS)


@pytest.mark.parametrize("corner", [(0, 0), (0, 60), (127, 60), (60, 0), (60, 127)])
def test_what_lies_under_the_mask_never_shows(corner):
    """Wild values under the mask, on the edges too, where SEP smooths before it masks."""
    clean = make_image(stars=STARS, flux=60.0)
    spiked = make_image(stars=STARS, flux=60.0)
    row, column = corner
    rows, columns = slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2)
    for image in (clean, spiked):
        image.mask[rows, columns] = True
    spiked.data[rows, columns] = 1e5
    a = detect(clean, PRESETS["default"]).objects
    b = detect(spiked, PRESETS["default"]).objects
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9])
def test_the_background_is_seps_own_with_the_mask(share):
    """To the last bit, whatever lies under the mask, and where meshes have too few pixels."""
    image = make_image(stars=STARS, flux=60.0)
    rng = np.random.default_rng(8)
    image.mask[:] = rng.random(image.mask.shape) < share
    image.mask[:70, :70] = share > 0
    image.data[image.mask] = rng.choice([-1e6, 0.0, 1e6], image.mask.sum())
    expected = sep.Background(image.data.copy(), mask=image.mask, bw=64, bh=64)
    detection = detect(image, PRESETS["default"])
    np.testing.assert_array_equal(detection.background, expected.back())
    assert detection.background_level == expected.globalback
    assert detection.background_rms == expected.globalrms


@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        st.integers(1, 300),
        elements=st.floats(width=32) | st.sampled_from([0.0, 1.0, 1e-42, 3e38, np.nan]),
    )
)
def test_the_median_is_numpys_to_the_last_bit(values):
    with warnings.catch_warnings():  # the mean of two infinities, or of what is too large
        warnings.simplefilter("ignore")
        expected, found = np.median(values), detect_module._median(values.copy())
    np.testing.assert_array_equal(found, float(expected))


@pytest.mark.parametrize("size", [2, 15_818, 15_819])
def test_the_median_of_as_many_as_a_frame_has(size):
    values = np.random.default_rng(size).lognormal(size=size).astype(np.float32)
    assert detect_module._median(values) == float(np.median(values))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95, "all of the sample"])
def test_errors_are_scaled_by_the_median_ratio_of_every_eighth_pixel(share):
    image = make_image(stars=STARS, flux=60.0)
    rng = np.random.default_rng(5)
    image.err[:] = rng.uniform(0.05, 0.3, image.err.shape)
    image.mask[:] = False if isinstance(share, str) else rng.random(image.mask.shape) < share
    every = (slice(None, None, 8),) * 2
    if isinstance(share, str):
        image.mask[every] = True
    err, used = image.err.copy(), ~image.mask[every]
    rms = sep.Background(image.data.copy(), mask=image.mask, bw=64, bh=64).rms()[every]
    used |= not used.any()
    detection = detect(image, PRESETS["default"])
    assert detection.error_scale == float(np.median(rms[used] / err[every][used]))
    np.testing.assert_array_equal(detection.err, err * np.float32(detection.error_scale))


def test_kernel_is_a_normalized_gaussian_of_its_width():
    kernel = gaussian_kernel(2.0, 7)
    assert kernel.sum() == pytest.approx(1.0)
    assert kernel[3, 3] == kernel.max()
    # One pixel from the centre is the half maximum of a width of two.
    assert kernel[3, 4] / kernel[3, 3] == pytest.approx(0.5)
    np.testing.assert_array_equal(kernel, kernel.T)
    assert gaussian_kernel(0, 5) is None


def test_deblends_two_stars_that_touch():
    image = make_image(stars=[(60.0, 60.0), (65.0, 60.0)], flux=200.0)
    objects = detect(image, PRESETS["default"]).objects
    near = np.hypot(objects["x"] - 62.5, objects["y"] - 60.0) < 5
    assert near.sum() == 2


def test_an_image_without_noise_is_rejected():
    image = make_image(noise=0.0)
    with pytest.raises(RejectedImageError, match="no scatter") as caught:
        detect(image, PRESETS["default"])
    assert caught.value.reason == "no_noise"


@pytest.mark.parametrize(
    ("message", "n_failures", "expected"),
    [
        ("internal pixel buffer full: The limit of 300000 active object pixels", 2, "levels"),
        ("object deblending overflow: limit of 1024 sub-objects", 3, "8 deblending levels"),
        ("object deblending overflow: limit of 1024 sub-objects", 4, "no deblending"),
        ("internal pixel buffer full", 6, "threshold x 4"),
    ],
)
def test_overflow_climbs_the_ladder(monkeypatch, message, n_failures, expected):
    calls = []

    def extract(*args, **options):
        calls.append(options)
        if len(calls) <= n_failures:
            raise Exception(message)
        return real(*args, **options)

    real = sep.extract
    monkeypatch.setattr(detect_module.sep, "extract", extract)
    detection = detect(make_image(stars=STARS, flux=60.0), PRESETS["default"])
    assert len(calls) == n_failures + 1
    assert expected in detection.relaxed
    assert sep.get_extract_pixstack() == 300_000
    assert sep.get_sub_object_limit() == 1024


@pytest.mark.parametrize("n_failures", [0, 1])
def test_a_stack_of_seps_own_size_is_not_made_at_once(monkeypatch, n_failures):
    """What overflows the smaller one has the same sources from SEP's own, and no note of it."""
    stacks = []

    def extract(*args, **options):
        stacks.append(sep.get_extract_pixstack())
        if len(stacks) <= n_failures:
            raise Exception("internal pixel buffer full: The limit of 50000 active object pixels")
        return real(*args, **options)

    expected = detect(make_image(stars=STARS, flux=60.0), PRESETS["default"])
    real = sep.extract
    monkeypatch.setattr(detect_module.sep, "extract", extract)
    detection = detect(make_image(stars=STARS, flux=60.0), PRESETS["default"])
    assert stacks == [50_000, 300_000][: n_failures + 1]
    assert detection.relaxed == ""
    np.testing.assert_array_equal(detection.objects, expected.objects)


def test_a_full_smaller_stack_gives_the_sources_that_seps_own_does(monkeypatch):
    """One blob of more pixels than the smaller stack has places, and stars beside it."""
    y, x = np.mgrid[:600, :600]
    blob = 50.0 * np.exp(-((np.hypot(x - 300, y - 300) / 170.0) ** 8))

    def found():
        image = make_image(shape=(600, 600), stars=STARS)
        image.data[:] += blob.astype(np.float32)
        parameters = dataclasses.replace(PRESETS["default"], mesh=600, mesh_filter=1)
        return detect(image, parameters)

    ours = found()
    assert ours.objects["npix"].max() > 50_000
    assert ours.relaxed == ""
    monkeypatch.setattr(detect_module, "_SMALL_PIXEL_STACK", 300_000)
    np.testing.assert_array_equal(found().objects, ours.objects)


def test_background_and_noise_are_planes_of_their_own():
    image = dataclasses.replace(make_image(stars=STARS), err=None)
    model = sep.Background(image.data.copy(), mask=image.mask, bw=64, bh=64, fw=3, fh=3)
    detection = detect(image, dataclasses.replace(PRESETS["default"], mesh=64, mesh_filter=3))
    np.testing.assert_array_equal(detection.background, model.back())
    np.testing.assert_array_equal(detection.err, model.rms())
    assert detection.data is image.data


def test_the_ladder_ends_in_an_outcome(monkeypatch):
    def extract(*args, **options):
        raise Exception("internal pixel buffer full")

    monkeypatch.setattr(detect_module.sep, "extract", extract)
    with pytest.raises(ExtractionError, match="threshold x 8"):
        detect(make_image(), PRESETS["default"])


def test_other_errors_of_sep_are_not_taken_for_overflows(monkeypatch):
    def extract(*args, **options):
        raise ValueError("something else")

    monkeypatch.setattr(detect_module.sep, "extract", extract)
    with pytest.raises(ValueError, match="something else"):
        detect(make_image(), PRESETS["default"])


def test_a_real_overflow_is_survived():
    """Every pixel of a bad background stands above the threshold: more than SEP's stack holds."""
    rng = np.random.default_rng(1)
    image = make_image(shape=(700, 700))
    image.data[:] = rng.normal(0, 0.01, image.data.shape)
    image.data[::2] += 5.0
    parameters = dataclasses.replace(PRESETS["default"], kernel_fwhm=0, mesh=4, min_pixels=1)
    detection = detect(image, parameters)
    assert detection.relaxed or len(detection.objects)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold", 0.0), ("threshold", float("nan")), ("min_pixels", 0), ("kernel_fwhm", -1.0),
        ("kernel_size", 4), ("filter_type", "gauss"), ("deblend_n_thresholds", 0),
        ("deblend_contrast", 1.5), ("clean", -1.0), ("mesh", 1), ("mesh_filter", 0),
    ],
)  # fmt: skip
def test_impossible_parameters_are_refused_by_name(name, value):
    with pytest.raises(UsageError, match=f"^{name} is .*must be"):
        DetectionParameters(**{name: value})
