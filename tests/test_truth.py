"""What the catalogues promise, judged by simulated truth: short forms of `benchmarks truth`.

The seeds are fixed, and none that the defaults were chosen on.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.truth import (
    compare_images,
    judge_crowded,
    judge_pixel_area,
    judge_sparse,
)
from hstmap.wfc3.compare import MatchParameters
from hstmap.wfc3.score import score_between
from hstmap.wfc3.simulate import simulate_dithers, simulate_drz
from hstmap.wfc3.simulate_scene import scene

SEEDS = (101, 102)


@pytest.fixture(scope="module")
def sparse():
    return judge_sparse(scene("sparse"), SEEDS)


def test_a_sparse_field_is_complete_and_reliable_at_a_signal_to_noise_of_10(sparse):
    assert sparse["n_reference_snr_10"] > 60
    assert sparse["completeness_snr_10"] >= 0.95
    assert sparse["reliability_snr_10"] >= 0.98
    assert sparse["completeness_from_snr_10"] >= 0.98
    assert sparse["reliability_from_snr_10"] >= 0.98


def test_magnitudes_of_isolated_stars_are_right_from_30_sigma_to_saturation(sparse):
    assert sparse["n_stars_from_snr_30"] > 150
    assert abs(sparse["mag_bias_from_snr_30"]) < 0.01
    assert sparse["mag_scatter_from_snr_30"] < 0.03


def test_positions_are_not_shifted(sparse):
    assert abs(sparse["x_bias"]) < 0.01
    assert abs(sparse["y_bias"]) < 0.01


def test_positions_are_good_at_50_sigma(sparse):
    assert sparse["distance_snr_50"] < 0.05


def test_errors_of_fluxes_are_right(sparse):
    assert 0.9 < sparse["pull_scatter"] < 1.15
    assert abs(sparse["pull_bias"]) < 0.5


def test_a_crowded_field_is_done_and_most_of_its_bright_stars_are_found():
    crowded = judge_crowded([101])
    assert crowded["n_reference"] > 9000
    assert crowded["n_found"] > 3000
    assert crowded["completeness_from_snr_100"] > 0.9
    assert crowded["reliability_snr_50"] > 0.98
    assert abs(crowded["mag_bias_from_snr_100"]) < 0.03


def test_a_star_has_one_flux_all_over_the_detector_with_the_pixel_area_and_not_without():
    moved = judge_pixel_area()
    assert moved["n_places"] > 60
    assert moved["flux_range_with"] < 0.01
    assert moved["flux_range_without"] > 0.06
    assert moved["zero_point_f140w"] == pytest.approx(26.452, abs=5e-4)
    assert moved["zero_point_f140w_by_fnu"] == pytest.approx(26.452, abs=5e-4)


def test_dithers_of_one_field_have_the_same_sources_on_the_sky():
    images = simulate_dithers(
        scene("sparse"), [(0.0, 0.0), (4.4, -3.1)], ["isim01a1q", "isim01a2q"]
    )
    match = MatchParameters(by="sky", radius=0.2, kind="star", least_measured_snr=30.0)
    for compared in compare_images(images, "mag_point", match):
        bright = compared.reference.snr[compared.pairs.second] > 50
        assert bright.sum() > 50
        assert abs(np.median(compared.dx[bright])) < 0.003  # arcsec
        assert abs(np.median(compared.dy[bright])) < 0.003


def test_a_drizzled_image_is_measured_as_well_as_its_exposures():
    drizzled = simulate_drz(scene("sparse"), "isim00010")
    match = MatchParameters(kind="star", margin=60.0)
    bright = score_between(compare_images([drizzled], "mag_point", match), 30.0, np.inf)
    assert bright.completeness > 0.98
    assert abs(bright.magnitude.bias) < 0.05
    assert bright.distance < 0.1
