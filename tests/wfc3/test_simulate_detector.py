"""The simulated detector: noise as ERR says, and defects that DQ tells of."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hstmap.wfc3.dq import DQ_BITS
from hstmap.wfc3.simulate_detector import DQ, Exposure, defects, expose
from hstmap.wfc3.simulate_instrument import DARK_E_S, FULL_WELL_E, ramp_read_noise_e
from hstmap.wfc3.simulate_scene import SceneParameters

CLEAN = SceneParameters(
    exposure_s=300.0, n_samples=12, bad_pixels=False, blobs=False, cosmic_ray_rate=0.0
)
DEFECT_BITS = (DQ.DEAD, DQ.HOT, DQ.UNSTABLE, DQ.WARM, DQ.BAD_REFERENCE)


def _expose(light: np.ndarray | float, parameters: SceneParameters, seed: int = 3) -> Exposure:
    plane = np.full((parameters.size, parameters.size), light) if np.isscalar(light) else light
    return expose(np.asarray(plane, dtype=float), parameters, np.random.default_rng(seed))


@pytest.mark.parametrize(("light", "exposure_s"), [(0.1, 100.0), (0.7, 300.0), (50.0, 900.0)])
def test_noise_scatters_as_err_says(light: float, exposure_s: float) -> None:
    exposure = _expose(light, dataclasses.replace(CLEAN, exposure_s=exposure_s))
    pulls = (exposure.sci - light) / exposure.err
    assert pulls.std() == pytest.approx(1.0, abs=0.01)
    assert exposure.sci.mean() == pytest.approx(light, rel=1e-3)


def test_err_is_the_error_budget() -> None:
    exposure = _expose(0.7, CLEAN)
    electrons = (0.7 + DARK_E_S) * 300.0
    expected = np.sqrt(electrons + ramp_read_noise_e(12) ** 2) / 300.0
    assert np.median(exposure.err) == pytest.approx(expected, rel=0.005)


def test_err_counts_the_light_of_sources() -> None:
    light = np.full((1014, 1014), 0.7)
    light[500:600, 500:600] = 20.0
    err = _expose(light, CLEAN).err
    assert np.median(err[500:600, 500:600]) == pytest.approx(np.sqrt(20.7 / 300), rel=0.05)


def test_planes_have_the_types_of_the_files() -> None:
    exposure = _expose(0.7, CLEAN)
    assert exposure.sci.dtype == exposure.err.dtype == np.float32
    assert exposure.dq.dtype == np.int16
    assert not exposure.dq.any()


def test_a_frame_without_noise_is_the_light() -> None:
    parameters = dataclasses.replace(CLEAN, noise=False, cosmic_ray_rate=50.0)
    exposure = _expose(0.7, parameters)
    assert exposure.sci == pytest.approx(0.7, rel=1e-6)
    assert not exposure.dq.any()


def test_bits_mean_what_the_reader_takes_them_for() -> None:
    named = {bit.name: bit.value for bit in DQ_BITS}
    assert (
        named["bad_detector"],
        named["hot"],
        named["unstable"],
        named["warm"],
        named["bad_reference"],
        named["saturated"],
        named["bad_flat"],
        named["zero_read_signal"],
        named["cosmic_ray_dithers"],
        named["cosmic_ray_ramp"],
    ) == (
        DQ.DEAD,
        DQ.HOT,
        DQ.UNSTABLE,
        DQ.WARM,
        DQ.BAD_REFERENCE,
        DQ.SATURATED,
        DQ.BLOB,
        DQ.ZERO_READ_SIGNAL,
        DQ.COSMIC_RAY_DRIZZLE,
        DQ.COSMIC_RAY_RAMP,
    )


def test_pixels_that_fill_keep_the_rate_of_the_reads_before() -> None:
    light = np.full((1014, 1014), 0.7)
    full = 2.0 * FULL_WELL_E / 300.0
    light[100:110, 100:110] = full
    exposure = _expose(light, CLEAN)
    assert not (exposure.dq & DQ.SATURATED).any()
    core = exposure.sci[100:110, 100:110]
    assert core.mean() == pytest.approx(full, rel=0.01)
    # Half of the exposure counts, so the error is that of one full well in 150 s.
    assert exposure.err[100:110, 100:110].mean() == pytest.approx(
        np.sqrt(FULL_WELL_E) / 150.0, rel=0.01
    )
    assert (exposure.dq[105, 105] & DQ.ZERO_READ_SIGNAL) != 0
    assert (exposure.dq[300, 300] & DQ.ZERO_READ_SIGNAL) == 0


def test_no_pixel_shows_more_than_a_well_filled_by_the_first_read() -> None:
    light = np.full((1014, 1014), 0.7)
    light[500:504, 500:504] = 1e6
    exposure = _expose(light, CLEAN)
    assert exposure.sci.max() < 1.05 * FULL_WELL_E / 5.864
    saturated = (exposure.dq & DQ.SATURATED) != 0
    assert saturated.sum() == 16
    assert saturated[500:504, 500:504].all()


def test_defects_are_the_detectors_own_and_cannot_be_changed() -> None:
    made = defects(True, True)
    assert made is defects(True, True)
    for bit in (*DEFECT_BITS, DQ.BLOB):
        assert (made.dq & bit).any(), bit
    # As in real frames: 1 to 2 % dead, 1 to 2 % hot.
    for bit in (DQ.DEAD, DQ.HOT):
        assert 0.008 < ((made.dq & bit) != 0).mean() < 0.022
    with pytest.raises(ValueError, match="read-only"):
        made.dq[0, 0] = 1


def test_without_defects_the_detector_is_even() -> None:
    made = defects(False, False)
    assert not made.dq.any()
    assert np.all(made.response == 1.0)
    assert np.all(made.dark_e_s == DARK_E_S)


def test_a_subarray_has_the_defects_of_its_place() -> None:
    whole, part = defects(True, True), defects(True, True).cut(256)
    assert np.array_equal(part.dq, whole.dq[379:635, 379:635])
    assert np.array_equal(part.response, whole.response[379:635, 379:635])


def test_blobs_dim_what_lies_under_them_and_nothing_else_does() -> None:
    made = defects(False, True)
    blob = (made.dq & DQ.BLOB) != 0
    assert 0.8 < made.response.min() < 0.98
    assert made.response[blob].mean() < 0.99
    assert made.response[~blob].min() > 0.95
    exposure = _expose(10.0, dataclasses.replace(CLEAN, blobs=True, noise=False))
    assert exposure.sci[blob].mean() < 0.99 * exposure.sci[~blob].mean()


def test_masked_pixels_hold_wild_values_and_clean_ones_do_not() -> None:
    exposure = _expose(0.7, dataclasses.replace(CLEAN, bad_pixels=True))
    hot = (exposure.dq & DQ.HOT) != 0
    assert np.median(exposure.sci[hot]) > 3.0
    assert exposure.sci[hot].max() > 50.0
    usual = exposure.dq == 0
    assert np.abs(exposure.sci[usual] - 0.7).max() < 6.0 * exposure.err[usual].max()
    dead = (exposure.dq & (DQ.DEAD | DQ.HOT)) == DQ.DEAD
    assert np.abs(np.percentile(exposure.sci[dead], 20)) < 0.3


def test_warm_pixels_are_noisier_and_err_says_so() -> None:
    exposure = _expose(0.7, dataclasses.replace(CLEAN, bad_pixels=True))
    warm = exposure.dq == DQ.WARM
    assert exposure.err[warm].mean() > 1.05 * exposure.err[exposure.dq == 0].mean()
    pulls = (exposure.sci[warm] - 0.7) / exposure.err[warm]
    assert pulls.std() == pytest.approx(1.0, abs=0.03)


def test_unstable_pixels_scatter_more_than_err_says() -> None:
    exposure = _expose(0.7, dataclasses.replace(CLEAN, bad_pixels=True))
    pulls = (exposure.sci - 0.7) / exposure.err
    assert pulls[exposure.dq == DQ.UNSTABLE].std() > 1.1


def test_cosmic_rays_come_at_their_rate_and_most_leave_the_pixel_usable() -> None:
    parameters = dataclasses.replace(CLEAN, cosmic_ray_rate=15.0, cosmic_ray_residue=0.0)
    exposure = _expose(0.7, parameters)
    ramp = (exposure.dq & DQ.COSMIC_RAY_RAMP) != 0
    spoiled = (exposure.dq & DQ.COSMIC_RAY_DRIZZLE) != 0
    # 4,500 hits of 2.7 pixels on average, one in eight of them spoiling its pixels.
    assert ramp.sum() == pytest.approx(15.0 * 300.0 * 2.67, rel=0.08)
    assert spoiled.sum() == pytest.approx(ramp.sum() / 8.0, rel=0.2)
    usable = ramp & ~spoiled
    pulls = (exposure.sci[usable] - 0.7) / exposure.err[usable]
    assert pulls.std() == pytest.approx(1.0, abs=0.04)
    assert exposure.err[usable].mean() > 1.15 * exposure.err[~ramp].mean()
    assert np.median(exposure.sci[spoiled]) > 1.5


def test_the_residue_of_cosmic_rays_is_in_the_frame_and_unflagged() -> None:
    parameters = dataclasses.replace(CLEAN, cosmic_ray_rate=10.0, cosmic_ray_residue=1.0)
    exposure = _expose(0.7, parameters)
    assert not exposure.dq.any()
    struck = exposure.sci > 0.7 + 8 * np.median(exposure.err)
    assert 3000 < struck.sum() < 9000


def test_a_subarray_is_hit_in_proportion_to_its_area() -> None:
    parameters = dataclasses.replace(CLEAN, cosmic_ray_rate=200.0, subarray=256)
    hit = (_expose(0.7, parameters).dq & DQ.COSMIC_RAY_RAMP) != 0
    # Tracks cross each other on so crowded a frame: somewhat fewer pixels than hits imply.
    assert hit.sum() == pytest.approx(200 * 300 * (256 / 1014) ** 2 * 2.67 * 0.9, rel=0.05)
