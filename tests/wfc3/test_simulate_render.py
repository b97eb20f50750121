"""Drawn sources: their light, where it falls, and the signal-to-noise that is expected of it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from astropy.table import Table, vstack
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from hstmap.wfc3.encircled_energy import encircled_energy
from hstmap.wfc3.simulate_instrument import DARK_E_S, FILTERS, detector_wcs, ramp_read_noise_e
from hstmap.wfc3.simulate_render import expected_snr, pixel_noise_e_s, render
from hstmap.wfc3.simulate_scene import SceneParameters
from hstmap.wfc3.simulate_sky import make_stars

SIZE = 128
SCENE = SceneParameters(subarray=SIZE, filter_name="F160W", exposure_s=300.0)
WCS_OF_SCENE = WCS(detector_wcs(SCENE.pointing, SIZE))
WAVELENGTH_NM = FILTERS["F160W"].photplam / 10


def sources(flux: list[float], **shape: float) -> Table:
    """Stars, or galaxies of a shape; where they are is said elsewhere."""
    table = make_stars(np.zeros(len(flux)), np.zeros(len(flux)), 20.0)
    table["flux"] = np.array(flux, dtype=float)
    if shape:
        table["kind"] = ["galaxy"] * len(flux)
        for name, value in shape.items():
            table[name] = value
    return table


GALAXY = {"half_light_radius": 0.4, "sersic_index": 1.0, "axis_ratio": 0.6, "position_angle": 30.0}


def drawn(table: Table, x: list[float], y: list[float], **changes: float) -> np.ndarray:
    parameters = dataclasses.replace(SCENE, **changes)
    return render(table, (np.array(x), np.array(y)), WCS_OF_SCENE, parameters)


@settings(max_examples=12)
@given(flux=st.floats(0.5, 1e5), x=st.floats(55, 72), y=st.floats(55, 72))
def test_a_star_gives_nearly_all_of_its_light(flux: float, x: float, y: float) -> None:
    image = drawn(sources([flux]), [x], [y])
    missing = flux - image.sum()
    assert 0 <= missing < 0.12 * flux
    # And what a stamp cuts off is lost in the noise of every pixel where it would be.
    largest = drawn(sources([1e9]), [x], [y]) * (flux / 1e9)
    left_out = np.where(image == 0, largest, 0)
    assert left_out.max() < 0.1 * pixel_noise_e_s(SCENE)
    # Its centre of light is where it was put.
    lines, columns = np.mgrid[:SIZE, :SIZE]
    assert (image * columns).sum() / image.sum() == pytest.approx(x, abs=0.05)
    assert (image * lines).sum() / image.sum() == pytest.approx(y, abs=0.05)


@settings(max_examples=12)
@given(
    places=st.lists(
        st.tuples(st.floats(-20, SIZE + 20), st.floats(-20, SIZE + 20), st.floats(0.1, 1e4)),
        min_size=1,
        max_size=5,
    ),
    is_galaxy=st.booleans(),
)
def test_light_adds_up_in_any_order(
    places: list[tuple[float, float, float]], is_galaxy: bool
) -> None:
    x, y, flux = (list(values) for values in zip(*places, strict=True))
    shape = GALAXY if is_galaxy else {}
    together = drawn(sources(flux, **shape), x, y)
    alone = [drawn(sources([f], **shape), [a], [b]) for a, b, f in places]
    np.testing.assert_allclose(together, sum(alone), atol=1e-9)
    backwards = drawn(sources(flux[::-1], **shape), x[::-1], y[::-1])
    np.testing.assert_allclose(together, backwards, atol=1e-9)


@settings(max_examples=20)
@given(x=st.floats(-60, 10), y=st.floats(10, 110), flux=st.floats(1, 1e6), is_galaxy=st.booleans())
def test_what_lies_beyond_the_edge_reaches_in_as_it_would_anywhere(
    x: float, y: float, flux: float, is_galaxy: bool
) -> None:
    table = sources([flux], **(GALAXY if is_galaxy else {}))
    near_edge = drawn(table, [x], [y])
    # The same, a whole number of pixels further in: the detector's pixels are all alike here.
    shift = 40
    further = drawn(table, [x + shift], [y])
    np.testing.assert_allclose(near_edge[:, : SIZE - shift], further[:, shift:], atol=1e-9)


def test_what_is_far_away_is_not_drawn() -> None:
    for x, y in ((-60.0, 64.0), (SIZE + 60.0, 64.0), (64.0, -60.0), (64.0, SIZE + 60.0)):
        assert drawn(sources([1e9]), [x], [y]).max() == 0
    assert drawn(sources([]), [], []).tolist() == np.zeros((SIZE, SIZE)).tolist()


def test_stars_and_galaxies_are_drawn_side_by_side() -> None:
    table = vstack([sources([100.0]), sources([100.0], **GALAXY)])
    image = drawn(table, [32.0, 96.0], [64.0, 64.0])
    star, galaxy = image[:, :64], image[:, 64:]
    assert star.sum() == pytest.approx(galaxy.sum(), rel=0.1)
    assert star.max() > 2 * galaxy.max()


# -- noise -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(("exposure_s", "n_samples"), [(100.0, 5), (1200.0, 16)])
def test_the_noise_of_the_sky_is_that_of_its_electrons_and_reads(
    name: str, exposure_s: float, n_samples: int
) -> None:
    parameters = dataclasses.replace(
        SCENE, filter_name=name, exposure_s=exposure_s, n_samples=n_samples
    )
    # Poisson's: the variance of electrons is their number.
    variance = (FILTERS[name].sky_e_s + DARK_E_S) * exposure_s + ramp_read_noise_e(n_samples) ** 2
    assert pixel_noise_e_s(parameters) == pytest.approx(math.sqrt(variance) / exposure_s)
    given_sky = dataclasses.replace(parameters, sky_e_s=0.0)
    assert pixel_noise_e_s(given_sky) < pixel_noise_e_s(parameters)


@given(
    flux=st.lists(st.floats(1e-3, 1e6), min_size=2, max_size=6),
    exposure_s=st.floats(10, 2000),
    is_galaxy=st.booleans(),
)
def test_more_light_and_more_time_are_seen_better(
    flux: list[float], exposure_s: float, is_galaxy: bool
) -> None:
    table = sources(sorted(flux), **(GALAXY if is_galaxy else {}))
    shallow, deep = (
        expected_snr(table, dataclasses.replace(SCENE, exposure_s=time))
        for time in (exposure_s, 2 * exposure_s)
    )
    assert (np.diff(shallow) >= 0).all()
    # At most twice: reads are the only noise that does not grow with time.
    assert (deep >= math.sqrt(2) * shallow * (1 - 1e-12)).all()
    assert (deep <= 2 * shallow * (1 + 1e-12)).all()


def test_bright_stars_are_limited_by_their_own_light_and_faint_ones_by_the_sky() -> None:
    share = float(encircled_energy(WAVELENGTH_NM, np.array([0.4]))[0])
    bright, faint, fainter = expected_snr(sources([1e7, 1e-3, 1e-4]), SCENE)
    assert bright == pytest.approx(math.sqrt(share * 1e7 * 300.0), rel=1e-3)
    assert faint == pytest.approx(10 * fainter, rel=1e-3)


def test_the_same_light_spread_out_is_seen_less() -> None:
    star = expected_snr(sources([2.0]), SCENE)
    sizes = [
        expected_snr(sources([2.0], **(GALAXY | {"half_light_radius": size})), SCENE)
        for size in (0.05, 0.2, 0.5, 1.0, 2.0)
    ]
    snr = [float(value[0]) for value in (star, *sizes)]
    assert snr == sorted(snr, reverse=True)
