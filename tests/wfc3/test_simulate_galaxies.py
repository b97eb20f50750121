"""Simulated galaxies: light, size, shape and angle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hstmap.wfc3.encircled_energy import encircled_energy
from hstmap.wfc3.simulate_galaxies import (
    GalaxyShape,
    GaussianMixture,
    draw_galaxy,
    psf_mixture,
    sersic_mixture,
)

# x to the west and y to the north, 0.1 arcsec a pixel.
TO_PIXELS = np.array([[-10.0, 0.0], [0.0, 10.0]])
DETECTOR_TO_PIXELS = np.array([[-1 / 0.13543, 0.0], [0.0, 1 / 0.12096]])
BLUR_ARCSEC = 0.06
BLUR = GaussianMixture(np.array([1.0]), np.array([BLUR_ARCSEC]))


@pytest.mark.parametrize("index", [0.5, 1.0, 1.5, 2.0, 3.0, 4.0])
def test_half_of_the_light_is_inside_the_half_light_radius(index: float) -> None:
    mixture = sersic_mixture(index)
    assert mixture.growth(1.0)[0] == pytest.approx(0.5, abs=1e-4)
    assert mixture.weights.sum() == pytest.approx(1.0)
    assert np.all(mixture.weights > 0)


# Fractions of light inside 0.5, 2 and 4 half-light radii: Graham & Driver 2005 (PASA 22, 118),
# incomplete gamma functions, of the light inside 10 half-light radii.
@pytest.mark.parametrize(
    ("index", "fractions"),
    [(1.0, (0.205, 0.848, 0.991)), (4.0, (0.326, 0.715, 0.889))],
)
def test_growth_is_that_of_the_sersic_profile(index: float, fractions: tuple[float, ...]) -> None:
    assert sersic_mixture(index).growth([0.5, 2.0, 4.0]) == pytest.approx(fractions, abs=0.03)


def test_the_blur_of_galaxies_follows_the_encircled_energy() -> None:
    radius = np.array([0.15, 0.3, 0.4, 0.6, 1.0, 2.0])
    for wavelength_nm in (1055.0, 1250.0, 1537.0):
        assert psf_mixture(wavelength_nm).growth(radius) == pytest.approx(
            encircled_energy(wavelength_nm, radius), abs=0.03
        )


shapes = st.builds(
    GalaxyShape,
    st.floats(0.1, 0.6),
    st.sampled_from([1.0, 2.0]),
    st.floats(0.3, 1.0),
    st.floats(0.0, 180.0),
)


def _moments(image: np.ndarray) -> tuple[float, float, np.ndarray]:
    y, x = np.indices(image.shape) - (len(image) - 1) / 2
    total = image.sum()
    mean_x, mean_y = (image * x).sum() / total, (image * y).sum() / total
    x, y = x - mean_x, y - mean_y
    covariance = np.array(
        [[(image * x * x).sum(), (image * x * y).sum()], [0.0, (image * y * y).sum()]]
    )
    covariance[1, 0] = covariance[0, 1]
    return mean_x, mean_y, covariance / total


@given(shapes, st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
@settings(max_examples=40, deadline=None)
def test_light_and_centre_are_kept(shape: GalaxyShape, dx: float, dy: float) -> None:
    image = draw_galaxy(shape, psf_mixture(1537.0), TO_PIXELS, (dx, dy), 110)
    assert image.sum() == pytest.approx(1.0, abs=0.01)
    assert image.min() >= 0
    mean_x, mean_y, _ = _moments(image)
    assert (mean_x, mean_y) == pytest.approx((dx, dy), abs=0.02)


@given(st.floats(0.06, 0.5), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
@settings(max_examples=40, deadline=None)
def test_the_smallest_galaxies_keep_their_light_on_the_detectors_pixels(
    half_light_radius: float, dx: float, dy: float
) -> None:
    shape = GalaxyShape(half_light_radius, 1.0, 0.25, 30.0)
    image = draw_galaxy(shape, psf_mixture(1055.0), DETECTOR_TO_PIXELS, (dx, dy), 70)
    assert image.sum() == pytest.approx(1.0, abs=0.015)


@given(shapes.filter(lambda shape: shape.axis_ratio < 0.9))
@settings(max_examples=30, deadline=None)
def test_axis_ratio_and_position_angle_come_out(shape: GalaxyShape) -> None:
    image = draw_galaxy(shape, BLUR, TO_PIXELS, (0.0, 0.0), 110)
    *_, covariance = _moments(image)
    # Take off the square that a pixel integrates over, and the blur.
    values, vectors = np.linalg.eigh(covariance - np.eye(2) * (1 / 12 + (10 * BLUR_ARCSEC) ** 2))
    assert np.sqrt(values[0] / values[1]) == pytest.approx(shape.axis_ratio, abs=0.02)
    east, north = -vectors[0, 1], vectors[1, 1]
    angle = np.degrees(np.arctan2(east, north))
    assert (angle - shape.position_angle + 90) % 180 - 90 == pytest.approx(0, abs=1.0)


def test_a_round_galaxy_has_half_of_its_light_inside_the_radius_in_pixels() -> None:
    image = draw_galaxy(GalaxyShape(1.5, 1.0, 1.0, 0.0), BLUR, TO_PIXELS, (0.0, 0.0), 150)
    y, x = np.indices(image.shape) - 150
    assert image[np.hypot(x, y) < 15.0].sum() == pytest.approx(0.5, abs=0.01)
