"""Scenes and the skies they draw."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hstmap.errors import UsageError
from hstmap.wfc3.simulate_scene import SCENES, SceneParameters, scene
from hstmap.wfc3.simulate_sky import SOURCE_COLUMNS, make_sources, make_star_grid, make_stars


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"filter_name": "F814W"}, "F814W"),
        ({"exposure_s": 0.0}, "exposure of 0"),
        ({"n_samples": 1}, "1 samples"),
        ({"n_samples": 17}, "2 to 16"),
        ({"dec": 91.0}, "declination 91"),
        ({"subarray": 100}, "subarray 100"),
        ({"n_stars": -1}, "-1"),
        ({"star_magnitudes": (26.0, 17.0)}, "brightest first"),
        ({"cosmic_ray_rate": -1.0}, "cosmic-ray rate -1"),
        ({"cosmic_ray_residue": 2.0}, "residue 2"),
        ({"sky_e_s": -0.1}, "sky -0.1"),
    ],
)
def test_what_no_frame_can_have_is_refused_by_name(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        SceneParameters(**changes)


def test_scenes_are_found_by_their_names() -> None:
    assert set(SCENES) == {"sparse", "normal", "crowded", "cluster"}
    assert all(scene(name).name == name for name in SCENES)
    assert scene("sparse").filter_name == "F160W"
    assert scene("sparse").exposure_s == 300.0
    assert scene("crowded").n_stars == 10_000
    with pytest.raises(UsageError, match=r"'empty'.*sparse"):
        scene("empty")


def test_a_scene_has_its_filters_background_unless_told_otherwise() -> None:
    assert scene("sparse").background_e_s == 0.65
    assert dataclasses.replace(scene("sparse"), sky_e_s=0.1).background_e_s == 0.1


def test_the_sky_is_the_seeds() -> None:
    first, again = make_sources(scene("normal")), make_sources(scene("normal"))
    other = make_sources(dataclasses.replace(scene("normal"), seed=2))
    assert tuple(first.colnames) == SOURCE_COLUMNS
    assert all(np.array_equal(first[name], again[name]) for name in first.colnames)
    assert not np.array_equal(first["ra"], other["ra"])


@pytest.mark.parametrize(
    "changes",
    [
        {"filter_name": "F105W"},
        {"exposure_s": 50.0},
        {"dither_arcsec": (5.0, 1.0)},
        {"subarray": 64},
    ],
)
def test_the_sky_does_not_depend_on_how_it_is_looked_at(changes: dict[str, Any]) -> None:
    parameters = scene("normal")
    seen = make_sources(dataclasses.replace(parameters, **changes))
    assert np.array_equal(seen["ra"], make_sources(parameters)["ra"])


@given(
    st.integers(0, 400),
    st.integers(0, 400),
    st.integers(0, 2**31),
    st.floats(-0.4, 0.6) | st.sampled_from([2e-16, -1e-12, 5e-324, 1e-5]),
)
@settings(max_examples=30, deadline=None)
def test_sources_are_within_the_limits_they_are_drawn_from(
    n_stars: int, n_galaxies: int, seed: int, slope: float
) -> None:
    parameters = SceneParameters(
        n_stars=n_stars,
        n_galaxies=n_galaxies,
        seed=seed,
        star_slope=slope,
        star_magnitudes=(18.0, 24.0),
        galaxy_magnitudes=(20.0, 25.0),
    )
    sources = make_sources(parameters)
    stars = sources[sources["kind"] == "star"]
    galaxies = sources[sources["kind"] == "galaxy"]
    assert len(stars) + len(galaxies) == len(sources)
    assert np.all((stars["mag_ab"] >= 18) & (stars["mag_ab"] <= 24))
    assert np.all((galaxies["mag_ab"] >= 20) & (galaxies["mag_ab"] <= 25))
    assert np.all(stars["half_light_radius"] == 0)
    assert np.all(galaxies["half_light_radius"] > 0.05)
    assert np.all((galaxies["sersic_index"] >= 1) & (galaxies["sersic_index"] <= 4))
    assert np.all((galaxies["axis_ratio"] > 0.2) & (galaxies["axis_ratio"] <= 1))
    separation = np.hypot(
        (sources["ra"] - parameters.ra) * np.cos(np.radians(parameters.dec)),
        sources["dec"] - parameters.dec,
    )
    assert np.all(separation * 3600 < 145)


def test_faint_sources_outnumber_bright_ones_as_the_slope_says() -> None:
    parameters = SceneParameters(n_stars=40_000, n_galaxies=0, star_slope=0.3)
    mag = make_sources(parameters)["mag_ab"]
    bright = ((mag > 22.0) & (mag < 23.0)).sum()
    faint = ((mag > 24.0) & (mag < 25.0)).sum()
    assert np.log10(faint / bright) == pytest.approx(0.6, abs=0.03)


@given(st.integers(1, 500), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_no_two_sources_of_a_sparse_field_are_closer_than_asked(n_stars: int, seed: int) -> None:
    parameters = SceneParameters(n_stars=n_stars, n_galaxies=5, seed=seed, separation_arcsec=3.0)
    sources = make_sources(parameters)
    east = (sources["ra"] - parameters.ra) * np.cos(np.radians(parameters.dec)) * 3600
    north = (sources["dec"] - parameters.dec) * 3600
    distance = np.hypot(east[:, None] - east, north[:, None] - north)
    np.fill_diagonal(distance, np.inf)
    assert distance.min() > 2.99


def test_too_many_sources_for_their_separation_are_refused() -> None:
    with pytest.raises(UsageError, match="cannot all be 10"):
        make_sources(SceneParameters(separation_arcsec=10.0))


def test_a_cluster_gathers_around_its_giant() -> None:
    parameters = scene("cluster")
    sources = make_sources(parameters)
    distance = 3600 * np.hypot(
        (sources["ra"] - parameters.ra) * np.cos(np.radians(parameters.dec)),
        sources["dec"] - parameters.dec,
    )
    brightest = np.argmin(np.where(sources["kind"] == "galaxy", sources["mag_ab"], 99))
    assert distance[brightest] < 1e-6
    inner = (distance < 20).sum() / 20**2
    outer = ((distance > 60) & (distance < 80)).sum() / (80**2 - 60**2)
    assert inner > 2 * outer


def test_positions_cross_the_meridian_and_the_pole() -> None:
    for ra, dec in ((0.0, 10.0), (359.999, -60.0), (120.0, 89.999)):
        sources = make_sources(SceneParameters(ra=ra, dec=dec))
        assert np.all((sources["ra"] >= 0) & (sources["ra"] < 360))
        assert np.all(np.abs(sources["dec"]) <= 90)


def test_stars_to_inject_take_one_magnitude_or_many() -> None:
    stars = make_stars([10.0, 10.1], [1.0, 1.1], 20.0)
    assert tuple(stars.colnames) == SOURCE_COLUMNS
    assert list(stars["mag_ab"]) == [20.0, 20.0]
    assert set(stars["kind"]) == {"star"}
    grid = make_star_grid(SceneParameters(), 4, 21.0)
    assert len(grid) == 16
    assert len(np.unique(np.round(grid["ra"], 6))) == 16


@pytest.mark.parametrize("slope", [-0.4, -1e-14, 0.0, 1e-300, 1e-14, 1e-4, 0.3, 0.6])
def test_magnitudes_are_distributed_as_the_slope_says(slope: float) -> None:
    parameters = SceneParameters(
        n_stars=4000, n_galaxies=0, star_slope=slope, star_magnitudes=(18.0, 24.0)
    )
    magnitudes = np.asarray(make_sources(parameters)["mag_ab"])
    # Numbers rise as 10^(slope m): its integral, normalised, is the share up to a magnitude.
    rise = slope * np.log(10.0)

    def share(magnitude: np.ndarray) -> np.ndarray:
        if abs(rise) < 1e-10:
            return (magnitude - 18.0) / 6.0
        return np.expm1(rise * (magnitude - 18.0)) / np.expm1(rise * 6.0)

    assert stats.kstest(magnitudes, share).pvalue > 1e-3


@given(
    ra=st.floats(0, 359.9), dec=st.floats(-89, 89), angle=st.floats(-180, 180),
    n_side=st.integers(1, 5),
)  # fmt: skip
@settings(max_examples=30)
def test_a_grid_of_stars_is_even_in_the_tangent_plane(
    ra: float, dec: float, angle: float, n_side: int
) -> None:
    parameters = SceneParameters(ra=ra, dec=dec, orientation_deg=angle)
    stars = make_star_grid(parameters, n_side, 20.0)
    plane = WCS(naxis=2)
    plane.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    plane.wcs.crval = [ra, dec]
    plane.wcs.crpix = [1.0, 1.0]
    sine, cosine = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    plane.wcs.cd = np.array([[-cosine, sine], [sine, cosine]]) / 3600  # arcsec along x and y
    x, y = plane.all_world2pix(stars["ra"], stars["dec"], 0)
    steps = (np.arange(n_side) + 0.5) / n_side - 0.5
    np.testing.assert_allclose(
        x.reshape(n_side, n_side), np.tile(130 * steps, (n_side, 1)), atol=1e-5
    )
    np.testing.assert_allclose(
        y.reshape(n_side, n_side), np.tile(116 * steps, (n_side, 1)).T, atol=1e-5
    )


@pytest.mark.parametrize("n_members", [1, 2, 3, 50])
def test_a_cluster_has_its_giant_at_the_centre_however_few_it_has(n_members: int) -> None:
    parameters = SceneParameters(n_stars=0, n_galaxies=0, n_members=n_members)
    members = make_sources(parameters)
    assert len(members) == n_members
    assert members["mag_ab"][0] == 16.6
    assert members["mag_ab"][0] == members["mag_ab"].min()
    assert members["ra"][0] == pytest.approx(parameters.ra)
    assert members["dec"][0] == pytest.approx(parameters.dec)
    if n_members > 1:  # its halo
        assert members["half_light_radius"][1] == members["half_light_radius"].max() == 9.0
    assert set(members["kind"]) == {"galaxy"}


FIELD = SceneParameters(n_stars=0, n_galaxies=0, dec=0.0, ra=180.0)


def east_north(sources: Any) -> tuple[np.ndarray, np.ndarray]:
    """Places about the centre of `FIELD`, which lies on the equator, arcsec."""
    return 3600 * (np.asarray(sources["ra"]) - 180.0), 3600 * np.asarray(sources["dec"])


@pytest.mark.parametrize(("n_stars", "n_galaxies"), [(100, 0), (0, 100), (1000, 300)])
def test_a_frame_has_as_many_sources_as_were_asked_for(n_stars: int, n_galaxies: int) -> None:
    parameters = dataclasses.replace(FIELD, n_stars=n_stars, n_galaxies=n_galaxies)
    sources = make_sources(parameters)
    # The frame is 1014 pixels of 0.135 by 0.121 arcsec, and the field is a square of 200.
    share = 1014**2 * 0.1354 * 0.1209 / 200**2
    for kind, n in (("star", n_stars), ("galaxy", n_galaxies)):
        assert (sources["kind"] == kind).sum() * share == pytest.approx(n, abs=0.02 * n + 1)


@pytest.mark.parametrize("separation", [0.0, 1.5])
def test_sources_fill_the_field_evenly(separation: float) -> None:
    parameters = dataclasses.replace(FIELD, n_stars=1500, separation_arcsec=separation)
    for places in east_north(make_sources(parameters)):
        assert np.abs(places).max() <= 100.01
        assert stats.kstest(places, stats.uniform(-100, 200).cdf).pvalue > 1e-3


def test_one_source_that_keeps_its_distance_is_in_the_field() -> None:
    parameters = dataclasses.replace(FIELD, n_stars=1, separation_arcsec=3.0)
    east, north = east_north(make_sources(parameters))
    assert len(east) == 2  # in a field of twice the area
    assert np.hypot(east[0] - east[1], north[0] - north[1]) >= 3.0
    nothing = dataclasses.replace(FIELD, separation_arcsec=3.0)
    assert len(make_sources(nothing)) == 0


def test_galaxies_point_anywhere_and_faint_ones_are_smaller() -> None:
    galaxies = make_sources(dataclasses.replace(FIELD, n_galaxies=3000))
    angles = np.asarray(galaxies["position_angle"])
    assert stats.kstest(angles, stats.uniform(0, 180).cdf).pvalue > 1e-3
    size, magnitude = np.asarray(galaxies["half_light_radius"]), np.asarray(galaxies["mag_ab"])
    around_22 = np.abs(magnitude - 22) < 0.5
    assert np.median(size[around_22]) == pytest.approx(0.35, rel=0.15)
    # 0.09 dex a magnitude, about a scatter of 0.2 dex.
    line = stats.linregress(magnitude, np.log10(size))
    assert line.slope == pytest.approx(-0.09, abs=0.015)
    assert np.std(np.log10(size) - line.intercept - line.slope * magnitude) == pytest.approx(
        0.2, abs=0.02
    )


def test_members_of_a_cluster_lie_all_around_it() -> None:
    members = make_sources(dataclasses.replace(FIELD, n_members=2000))
    east, north = (places[2:] for places in east_north(members))
    angle = np.degrees(np.arctan2(east, north)) % 360
    assert stats.kstest(angle, stats.uniform(0, 360).cdf).pvalue > 1e-3
    assert stats.kstest(np.hypot(east, north), stats.expon(scale=25).cdf).pvalue > 1e-3
    assert np.asarray(members["axis_ratio"][2:]).min() >= 0.55
    assert np.asarray(members["axis_ratio"][2:]).max() <= 1
    assert set(np.asarray(members["sersic_index"][2:])) == {2.0, 3.0, 4.0}
