from __future__ import annotations

import numpy as np
import pytest

from hstmap.errors import UsageError
from hstmap.wfc3.compare import MatchParameters, compare
from hstmap.wfc3.source_list import make_source_list

SHAPE = (100, 200)


def sources(x, y, **columns):
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    return make_source_list({"x": x, "y": y, **columns})


def test_differences_are_catalogue_minus_reference():
    found, reference = sources([50.3], [49.9]), sources([50.0], [50.0])
    compared = compare(found, reference, MatchParameters(), SHAPE)
    assert compared.dx[0] == pytest.approx(0.3)
    assert compared.dy[0] == pytest.approx(-0.1)


def test_differences_on_the_sky_are_arcsec_to_the_east_and_north():
    reference = make_source_list({"ra": [359.99998], "dec": [60.0]})
    found = make_source_list({"ra": [0.00002], "dec": [60.00001]})
    compared = compare(found, reference, MatchParameters(by="sky", radius=0.2))
    assert compared.dx[0] == pytest.approx(0.00004 * 3600 * 0.5, rel=1e-3)
    assert compared.dy[0] == pytest.approx(0.036, rel=1e-3)


def test_faint_sources_of_the_reference_take_no_part():
    found = sources([50.0], [50.0])
    reference = sources([50.1, 51.0], [50.0, 50.0], snr=[1.0, 30.0])
    compared = compare(found, reference, MatchParameters(least_snr=2.0), SHAPE)
    assert len(compared.reference) == 1
    assert compared.pairs.distance[0] == pytest.approx(1.0)
    unknown = sources([50.1], [50.0])
    assert len(compare(found, unknown, MatchParameters(), SHAPE).pairs.first) == 1


def test_edges_do_not_count_but_match():
    reference = sources([-0.3, 100.0, 198.0], [50.0, 50.0, 50.0])
    found = sources([0.1, 100.0, 198.0, 3.0], [50.0, 50.0, 50.0, 80.0])
    compared = compare(found, reference, MatchParameters(margin=5.0), SHAPE)
    assert len(compared.pairs.first) == 3
    assert compared.asked.tolist() == [False, True, False]
    assert compared.judged.tolist() == [False, True, False, False]
    # The first pixel begins at -0.5.
    whole = compare(found, reference, MatchParameters(margin=0.0), SHAPE)
    assert whole.asked.tolist() == [True, True, True]
    without_shape = compare(found, reference, MatchParameters(margin=5.0))
    assert without_shape.judged.all()


def test_the_other_kind_is_real_but_not_asked_for():
    reference = sources([50.0, 100.0], [50.0, 50.0], kind=["star", "galaxy"])
    compared = compare(reference, reference, MatchParameters(kind="star"), SHAPE)
    assert len(compared.pairs.first) == 2
    assert compared.asked.tolist() == [True, False]
    assert compared.measured.tolist() == [True, False]


def test_only_isolated_and_unsaturated_sources_are_measured():
    x, mag = [50.0, 54.0, 100.0, 104.0, 150.0], [20.0, 21.0, 20.0, 25.5, 20.0]
    reference = sources(x, [50.0] * 5, mag=mag, saturated=[False] * 4 + [True])
    compared = compare(reference, reference, MatchParameters(isolation=10.0), SHAPE)
    # A neighbour 5.5 magnitudes fainter disturbs nobody, and is disturbed.
    assert compared.measured.tolist() == [False, False, True, False, False]
    assert compared.asked.all()
    everything = compare(reference, reference, MatchParameters(), SHAPE)
    assert everything.measured.tolist() == [True, True, True, True, False]


def test_empty_lists_compare():
    nothing, something = sources([], []), sources([50.0], [50.0])
    for first, second in ((nothing, something), (something, nothing), (nothing, nothing)):
        compared = compare(first, second, MatchParameters(isolation=3.0), SHAPE)
        assert len(compared.pairs.first) == 0


@pytest.mark.parametrize(
    ("found", "reference", "by", "message"),
    [
        ({"x": [1.0], "y": [1.0]}, {"ra": [1.0], "dec": [1.0]}, "pixel", "the reference .* by sky"),
        ({"x": [1.0], "y": [1.0]}, {"ra": [1.0], "dec": [1.0]}, "sky", "the catalogue .* by pixel"),
    ],
)
def test_positions_of_another_kind_are_refused(found, reference, by, message):
    with pytest.raises(UsageError, match=message):
        compare(make_source_list(found), make_source_list(reference), MatchParameters(by=by))


@pytest.mark.parametrize(("name", "value"), [("by", "eye"), ("radius", 0.0)])
def test_impossible_parameters_are_refused(name, value):
    with pytest.raises(UsageError, match=str(value)):
        MatchParameters(**{name: value})
