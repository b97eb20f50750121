from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from astropy.table import MaskedColumn, Table

from hstmap.errors import UsageError
from hstmap.wfc3.detect import detect
from hstmap.wfc3.measure import measure
from hstmap.wfc3.parameters import PRESETS, MeasureParameters
from hstmap.wfc3.simulate import make_stars, scene, simulate_flt
from hstmap.wfc3.source_list import make_source_list
from support.images import make_image, make_wcs


def test_sextractor_counts_pixels_from_one():
    found = make_source_list({"NUMBER": [1], "X_IMAGE": [10.5], "Y_IMAGE": [1.0]})
    assert (found.x[0], found.y[0]) == (9.5, 0.0)


@pytest.mark.parametrize("x", ["x", "xcentroid", "x_centroid", "X"])
def test_python_counts_pixels_from_zero(x):
    found = make_source_list({x: [10.5], x.replace("x", "y").replace("X", "Y"): [1.0]})
    assert (found.x[0], found.y[0]) == (10.5, 1.0)
    assert not found.has_sky


@pytest.mark.parametrize(
    "names",
    [("ra", "dec"), ("ALPHA_J2000", "DELTA_J2000"), ("RAJ2000", "DEJ2000"), ("X_WORLD", "Y_WORLD")],
)
def test_sky_positions_are_found_by_their_usual_names(names):
    found = make_source_list({names[0]: [150.1], names[1]: [2.2]})
    assert (found.ra[0], found.dec[0]) == (150.1, 2.2)
    assert found.has_sky
    assert not found.has_pixels


def test_our_own_catalogue_and_truth_are_understood():
    image = make_image([(40.0, 40.0)], flux=100.0)
    sources = measure(image, detect(image, PRESETS["default"]), MeasureParameters())
    ours = make_source_list(sources)
    for name, column in {
        "x": "x", "ra": "ra", "mag": "mag_auto", "mag_err": "mag_auto_err", "flux": "flux_auto",
        "flux_err": "flux_auto_err", "snr": "snr",
    }.items():  # fmt: skip
        assert ours.origin[name] == column
        np.testing.assert_array_equal(getattr(ours, name), sources[column].astype(np.float64))
    point = make_source_list(sources, "mag_point")
    assert point.origin["flux_err"] == "flux_point_err"
    stars = make_stars([53.12], [-27.8], [20.0])
    truth = simulate_flt(scene("normal"), "isim01a1q", stars).truth
    true = make_source_list(truth)
    assert true.kind.tolist() == ["star"]
    assert true.origin["flux"] == "flux"
    assert true.mag[0] == pytest.approx(20.0)


def test_a_magnitude_brings_its_own_flux_and_errors():
    columns = {
        "x": [1.0], "y": [1.0], "MAG_AUTO": [20.0], "MAGERR_AUTO": [0.1], "FLUX_AUTO": [5.0],
        "FLUXERR_AUTO": [0.5], "MAG_ISO": [21.0], "MAGERR_ISO": [0.2],
    }  # fmt: skip
    auto, iso = make_source_list(columns), make_source_list(columns, "MAG_ISO")
    assert (auto.mag[0], auto.mag_err[0], auto.flux[0], auto.flux_err[0]) == (20.0, 0.1, 5.0, 0.5)
    assert auto.snr[0] == 10.0
    assert (iso.mag[0], iso.mag_err[0]) == (21.0, 0.2)
    assert np.isnan(iso.flux[0])
    odd = make_source_list({"x": [1.0], "y": [1.0], "MAGERR_F1392": [0.1], "MAG_F1392": [23.0]})
    assert odd.origin["mag"] == "MAG_F1392"


def test_a_limit_is_no_magnitude():
    columns = {"x": [1, 2], "y": [1, 2], "mag_auto": [27.0, 22.0], "flux_auto": [-1.0, 3.0]}
    assert np.isnan(make_source_list(columns).mag).tolist() == [True, False]


def test_missing_and_saturated_values_do_not_count():
    table = Table({"x": [1.0, 2.0], "y": [1.0, 2.0], "saturated": [True, False]})
    table["mag"] = MaskedColumn([20.0, 21.0], mask=[True, False])
    found = make_source_list(table)
    assert np.isnan(found.mag).tolist() == [True, False]
    assert found.usable.tolist() == [False, True]
    as_text = make_source_list({"x": [1, 2], "y": [1, 2], "saturated": ["True", "False"]})
    assert as_text.usable.tolist() == [False, True]


def test_of_several_apertures_the_first_counts():
    columns = {"x": [1.0], "y": [1.0], "MAG_APER": np.array([[20.0, 19.0]])}
    assert make_source_list(columns).mag.tolist() == [20.0]


def test_any_kind_of_table_will_do():
    columns = {"x": [1.0, 2.0], "y": [3.0, 4.0], "mag": [20.0, 21.0]}
    for table in (columns, Table(columns), pd.DataFrame(columns)):
        found = make_source_list(table)
        assert len(found) == 2
        assert found.take(np.array([False, True])).mag.tolist() == [21.0]


def test_positions_on_the_sky_become_pixels():
    wcs = make_wcs()
    ra, dec = wcs.all_pix2world([10.25, 63.5], [20.5, 63.5], 0)
    found = make_source_list({"ra": ra, "dec": dec}).with_pixels(wcs)
    np.testing.assert_allclose(found.x, [10.25, 63.5], atol=1e-6)
    np.testing.assert_allclose(found.y, [20.5, 63.5], atol=1e-6)
    assert found.has_pixels


@pytest.mark.parametrize(
    ("columns", "mag", "message"),
    [
        ({"name": ["a"], "x": [1.0]}, "", "name, x; expected x and y, X_IMAGE"),
        ({"x": [1.0], "y": [1.0], "mag_auto": [1.0]}, "mag_best", "mag_auto"),
        ({"x": [1.0], "y": [1.0]}, "mag_best", "none"),
    ],
)
def test_what_cannot_be_understood_is_refused(columns, mag, message):
    with pytest.raises(UsageError, match=message):
        make_source_list(columns, mag, "a list")
