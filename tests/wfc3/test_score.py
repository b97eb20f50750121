from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from astropy.stats import binom_conf_interval
from hypothesis import given
from hypothesis import strategies as st

from hstmap.errors import UsageError
from hstmap.wfc3.compare import MatchParameters, compare
from hstmap.wfc3.score import SNR_EDGES, describe, score, score_between, wilson_interval
from hstmap.wfc3.source_list import make_source_list

SHAPE = (1000, 1000)
N = 4000


@pytest.fixture(scope="module")
def generator():
    return np.random.default_rng(11)


@pytest.fixture(scope="module")
def judged(generator):
    """A catalogue with known faults: what it lacks, what it invents, how far it is off."""
    x, y = generator.uniform(20, 980, (2, N))
    snr = 10 ** generator.uniform(0.5, 2.5, N)
    flux = snr * 0.1
    reference = make_source_list(
        {"x": x, "y": y, "snr": snr, "mag_ab": 25.0 - 2.5 * np.log10(flux), "flux": flux}
    )
    found = snr > 10**0.9
    found &= ~((snr < 10**1.1) & (np.arange(N) % 4 == 0))  # a quarter of those around 10 is lost
    n = int(found.sum())
    measured = flux[found] + 0.1 * generator.normal(0.5, 2.0, n)
    n_false = 200
    false = {
        "x": generator.uniform(20, 980, n_false), "y": np.full(n_false, 990.0),
        "flux_auto": np.full(n_false, 2.5), "snr": np.full(n_false, 25.0),
    }  # fmt: skip
    columns = {
        "x": np.append(x[found] + generator.normal(0.02, 0.1, n), false["x"]),
        "y": np.append(y[found] + generator.normal(-0.03, 0.1, n), false["y"]),
        "flux_auto": np.append(measured, false["flux_auto"]),
        "flux_auto_err": np.full(n + n_false, 0.1),
        "snr": np.append(snr[found], false["snr"]),
    }
    with np.errstate(invalid="ignore"):
        columns["mag_auto"] = 25.0 - 2.5 * np.log10(columns["flux_auto"])
    return make_source_list(columns), reference, n_false


@pytest.fixture(scope="module")
def scored(judged):
    found, reference, _ = judged
    parameters = MatchParameters(radius=0.6, isolation=5.0)
    comparisons = [compare(found, reference, parameters, SHAPE)]
    return score(comparisons, parameters), comparisons


def test_completeness_is_the_share_that_was_found(scored):
    result, _ = scored
    at_10 = result.at_snr(10.0)
    assert at_10.completeness == pytest.approx(0.75, abs=0.05)
    assert result.at_snr(5.5).completeness == 0.0
    assert result.at_snr(50.0).completeness > 0.98
    assert sum(each.n_reference for each in result.by_snr) == N


def test_reliability_is_the_share_that_is_real(judged, scored):
    found, _, n_false = judged
    result, _ = scored
    at_25 = result.at_snr(25.0)
    assert at_25.reliability == pytest.approx(1 - n_false / at_25.n_found, abs=0.02)
    assert result.at_snr(50.0).reliability > 0.99
    assert result.total.n_found == len(found)
    assert result.total.n_real == pytest.approx(len(found) - n_false, abs=10)


def test_positions_differ_by_what_they_were_moved(scored):
    result, _ = scored
    assert result.x.bias == pytest.approx(0.02, abs=0.01)
    assert result.y.bias == pytest.approx(-0.03, abs=0.01)
    assert result.x.scatter == pytest.approx(0.1, abs=0.01)
    # The median distance of a scatter of 0.1 on both axes.
    assert result.total.distance == pytest.approx(0.1 * math.sqrt(2 * math.log(2)), abs=0.02)


def test_pulls_tell_errors_that_are_too_small(scored):
    result, _ = scored
    assert result.total.pull.bias == pytest.approx(0.5, abs=0.15)
    assert result.total.pull.scatter == pytest.approx(2.0, abs=0.15)
    assert result.total.pull.std == pytest.approx(2.0, abs=0.15)
    assert len(result.pulls) == result.total.pull.n
    assert result.pulls.std() == pytest.approx(result.total.pull.std)


def test_magnitudes_differ_by_the_flux_that_was_added(scored):
    _, comparisons = scored
    bright = score_between(comparisons, 100.0, 316.0)
    # 0.05 of 20 on average: 0.0027 mag.
    assert bright.magnitude.bias == pytest.approx(-0.0027, abs=0.003)
    assert 0.005 < bright.magnitude.scatter < 0.03
    assert bright.magnitude.n > 100


def test_bins_cover_all_without_gaps_and_hold_what_is_between(scored):
    result, comparisons = scored
    for bins in (result.by_snr, result.by_magnitude):
        assert all(a.high == b.low for a, b in pairwise(bins))
        assert bins[0].n_reference + bins[0].n_found > 0
        assert bins[-1].n_reference + bins[-1].n_found > 0
    chosen = result.by_snr[3]
    assert score_between(comparisons, chosen.low, chosen.high) == chosen
    assert sum(each.n_recovered for each in result.by_magnitude) == result.total.n_recovered
    with pytest.raises(UsageError, match=r"noise of 0\.5"):
        result.at_snr(0.5)
    assert any(low < 10 < high for low, high in pairwise(SNR_EDGES))


def test_images_add_up(judged):
    found, reference, _ = judged
    parameters = MatchParameters(radius=0.6)
    half = np.arange(len(reference)) < N // 2
    one = compare(found, reference, parameters, SHAPE)
    parts = [compare(found, reference.take(rows), parameters, SHAPE) for rows in (half, ~half)]
    assert score(parts, parameters).n_images == 2
    whole, added = score([one], parameters).total, score(parts, parameters).total
    assert added.n_reference == whole.n_reference
    assert added.n_recovered == pytest.approx(whole.n_recovered, abs=5)
    assert added.n_found == 2 * whole.n_found


def test_a_reference_may_know_positions_only():
    reference = make_source_list({"x": [50.0, 60.0], "y": [50.0, 60.0]})
    found = make_source_list({"x": [50.1], "y": [50.0]})
    parameters = MatchParameters()
    result = score([compare(found, reference, parameters, SHAPE)], parameters)
    assert (result.by_snr, result.by_magnitude) == ((), ())
    assert result.total.completeness == 0.5
    assert result.total.reliability == 1.0
    assert result.total.distance == pytest.approx(0.1)
    assert result.total.magnitude.n == result.total.pull.n == len(result.pulls) == 0


def test_pulls_of_magnitudes_where_there_are_no_fluxes():
    columns = {"x": [50.0], "y": [50.0], "mag": [20.2], "mag_err": [0.1]}
    reference = make_source_list({"x": [50.0], "y": [50.0], "mag": [20.0]})
    parameters = MatchParameters()
    result = score([compare(make_source_list(columns), reference, parameters)], parameters)
    assert result.total.pull.bias == pytest.approx(2.0)


@given(n=st.integers(1, 500), share=st.floats(0, 1))
def test_shares_have_wilsons_interval(n, share):
    n_good = round(share * n)
    low, high = wilson_interval(n_good, n)
    expected = binom_conf_interval(n_good, n, 0.6826894921370859, "wilson")
    np.testing.assert_allclose([low, high], expected, atol=1e-9)
    assert low - 1e-12 <= n_good / n <= high + 1e-12


def test_nothing_has_no_share():
    assert all(map(math.isnan, wilson_interval(0, 0)))
    nothing = make_source_list({"x": np.empty(0), "y": np.empty(0)})
    parameters = MatchParameters()
    total = score([compare(nothing, nothing, parameters)], parameters).total
    assert math.isnan(total.completeness)
    assert math.isnan(total.reliability)
    assert math.isnan(total.distance)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(-100, 100))
def test_differences_move_with_what_they_are_of(values, shift):
    here, there = describe(np.array(values)), describe(np.array(values) + shift)
    assert there.bias == pytest.approx(here.bias + shift, abs=1e-6)
    assert there.scatter == pytest.approx(here.scatter, abs=1e-5)
    assert min(values) - 1e-9 <= here.bias <= max(values) + 1e-9
    assert here == describe(np.array([*values, np.nan, np.inf]))


def test_scatter_is_sigma_of_a_normal_distribution(generator):
    values = generator.normal(3.0, 2.0, 20_000)
    values[:200] = 1e5
    found = describe(values)
    assert found.scatter == pytest.approx(2.0, rel=0.04)
    assert found.std > 1000
