"""The sky of a simulated field: which stars and galaxies are where."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table

from hstmap.errors import UsageError
from hstmap.wfc3.encircled_energy import PIXEL_SIZE_ARCSEC
from hstmap.wfc3.simulate_instrument import DETECTOR_SIZE

if TYPE_CHECKING:
    import numpy.typing as npt

    from hstmap.wfc3.simulate_scene import SceneParameters

    FloatArray = npt.NDArray[np.float64]

__all__ = ["SOURCE_COLUMNS", "make_sources", "make_star_grid", "make_stars"]

SOURCE_COLUMNS = (
    "kind",
    "ra",
    "dec",
    "mag_ab",
    "half_light_radius",
    "sersic_index",
    "axis_ratio",
    "position_angle",
)
"""Columns of a table of sources, before a frame sees them."""

_FRAME_AREA_ARCSEC2 = DETECTOR_SIZE**2 * PIXEL_SIZE_ARCSEC[0] * PIXEL_SIZE_ARCSEC[1]
_FIELD_SIDE_ARCSEC = 200.0  # A frame's diagonal and the dithers around it.
_SERSIC_INDICES = np.array([1.0, 1.0, 1.0, 1.5, 1.5, 2.0, 2.5, 3.0, 4.0])  # Most are discs.


def make_sources(parameters: SceneParameters) -> Table:
    """Draw the sources of a scene's sky.

    Parameters
    ----------
    parameters : SceneParameters
        The sky depends on `seed`, the centre, and the numbers, magnitudes and separation.

    Returns
    -------
    astropy.table.Table
        A row a source, over a field wider than a frame: `kind` ('star' or 'galaxy'), `ra`, `dec`
        (degrees), `mag_ab`, `half_light_radius` (arcsec, semi-major axis, 0 for a star),
        `sersic_index`, `axis_ratio`, `position_angle` (degrees east of north).
    """
    generator = np.random.default_rng(np.random.SeedSequence([parameters.seed, 0]))
    share = _FIELD_SIDE_ARCSEC**2 / _FRAME_AREA_ARCSEC2
    n_stars = round(parameters.n_stars * share)
    n_galaxies = round(parameters.n_galaxies * share)
    east, north = _scatter(n_stars + n_galaxies, parameters.separation_arcsec, generator)
    stars = {
        "mag_ab": _magnitudes(
            n_stars, parameters.star_magnitudes, parameters.star_slope, generator
        ),
        **_no_shape(n_stars),
    }
    galaxies = _galaxies(
        _magnitudes(n_galaxies, parameters.galaxy_magnitudes, parameters.galaxy_slope, generator),
        generator,
    )
    parts = [stars, galaxies]
    if parameters.n_members:
        member_east, member_north, members = _cluster(parameters.n_members, generator)
        east, north = np.append(east, member_east), np.append(north, member_north)
        parts.append(members)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in stars}
    ra, dec = _sky_positions(parameters.ra, parameters.dec, east, north)
    kinds = np.where(columns["half_light_radius"] > 0, "galaxy", "star")
    return Table({"kind": kinds, "ra": ra, "dec": dec, **columns})


def make_stars(ra: npt.ArrayLike, dec: npt.ArrayLike, mag_ab: npt.ArrayLike) -> Table:
    """Make a table of stars to inject.

    Parameters
    ----------
    ra, dec : array_like
        ICRS positions in degrees.
    mag_ab : array_like
        AB magnitudes, or one for all.

    Returns
    -------
    astropy.table.Table
        Columns as of `make_sources`.
    """
    ra, dec, mag_ab = np.broadcast_arrays(*np.atleast_1d(ra, dec, mag_ab))
    n = len(ra)
    return Table(
        {
            "kind": np.full(n, "star"),
            "ra": np.array(ra, dtype=np.float64),
            "dec": np.array(dec, dtype=np.float64),
            "mag_ab": np.array(mag_ab, dtype=np.float64),
            **_no_shape(n),
        }
    )


def make_star_grid(parameters: SceneParameters, n_side: int, mag_ab: float) -> Table:
    """Make equally bright stars on a square grid over a full frame, to test photometry with.

    Parameters
    ----------
    parameters : SceneParameters
        The field's centre and orientation.
    n_side : int
        Stars on a side.
    mag_ab : float
        Magnitude of each.

    Returns
    -------
    astropy.table.Table
        Columns as of `make_sources`.
    """
    steps = (np.arange(n_side) + 0.5) / n_side - 0.5
    x, y = (axis.ravel() for axis in np.meshgrid(steps * 130.0, steps * 116.0))
    angle = math.radians(parameters.orientation_deg)
    east = -x * math.cos(angle) + y * math.sin(angle)
    north = x * math.sin(angle) + y * math.cos(angle)
    return make_stars(*_sky_positions(parameters.ra, parameters.dec, east, north), mag_ab)


def _no_shape(n: int) -> dict[str, FloatArray]:
    """Return the shape columns of n stars."""
    return {
        "half_light_radius": np.zeros(n),
        "sersic_index": np.zeros(n),
        "axis_ratio": np.ones(n),
        "position_angle": np.zeros(n),
    }


def _scatter(
    n: int, separation: float, generator: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Draw positions in the field, east and north of its centre in arcsec."""
    if separation == 0 or n == 0:
        east, north = generator.uniform(-0.5, 0.5, (2, n)) * _FIELD_SIDE_ARCSEC
        return east, north
    # One source in each cell of a lattice, moved as far as the neighbours' cells allow.
    n_cells = math.ceil(math.sqrt(n))
    pitch = _FIELD_SIDE_ARCSEC / n_cells
    if pitch < separation:
        raise UsageError(
            f"{n} sources cannot all be {separation} arcsec apart in a field of "
            f"{_FIELD_SIDE_ARCSEC:.0f} arcsec; give fewer, or a separation below {pitch:.2f} arcsec"
        )
    row, column = np.divmod(generator.permutation(n_cells**2)[:n], n_cells)
    jitter = generator.uniform(-0.5, 0.5, (2, n)) * (pitch - separation)
    east = (column + 0.5) * pitch - 0.5 * _FIELD_SIDE_ARCSEC + jitter[0]
    north = (row + 0.5) * pitch - 0.5 * _FIELD_SIDE_ARCSEC + jitter[1]
    return east, north


def _magnitudes(
    n: int, limits: tuple[float, float], slope: float, generator: np.random.Generator
) -> FloatArray:
    """Draw magnitudes whose number rises as 10^(slope * magnitude)."""
    bright, faint = limits
    uniform = generator.uniform(0.0, 1.0, n)
    if slope == 0:
        return bright + uniform * (faint - bright)
    # Logarithms of what is near 1 would lose all digits where the slope is nearly none.
    steepness = slope * math.log(10.0)
    beyond_bright = np.log1p(uniform * math.expm1(steepness * (faint - bright))) / steepness
    return np.clip(bright + beyond_bright, bright, faint)


def _galaxies(mag_ab: FloatArray, generator: np.random.Generator) -> dict[str, FloatArray]:
    """Draw shapes of field galaxies: fainter ones are smaller, most are discs."""
    n = len(mag_ab)
    typical_arcsec = 0.35 * 10.0 ** (-0.09 * (mag_ab - 22.0))
    return {
        "mag_ab": mag_ab,
        "half_light_radius": np.clip(
            typical_arcsec * 10.0 ** generator.normal(0.0, 0.2, n), 0.06, 2.5
        ),
        "sersic_index": generator.choice(_SERSIC_INDICES, n),
        "axis_ratio": generator.uniform(0.25, 1.0, n),
        "position_angle": generator.uniform(0.0, 180.0, n),
    }


def _cluster(
    n: int, generator: np.random.Generator
) -> tuple[FloatArray, FloatArray, dict[str, FloatArray]]:
    """Draw a cluster: a giant elliptical with its halo, and members gathered around it."""
    distance = 25.0 * generator.exponential(1.0, n)
    angle = generator.uniform(0.0, 2.0 * math.pi, n)
    distance[:2] = 0.0
    members = _galaxies(_magnitudes(n, (18.5, 25.5), 0.22, generator), generator)
    members["sersic_index"] = generator.choice(np.array([2.0, 3.0, 4.0]), n)
    members["axis_ratio"] = generator.uniform(0.55, 1.0, n)
    members["mag_ab"][:2] = (16.6, 17.4)[: min(n, 2)]
    members["half_light_radius"][:2] = (2.2, 9.0)[: min(n, 2)]
    members["sersic_index"][:2] = (4.0, 1.0)[: min(n, 2)]
    members["position_angle"][:2] = 20.0
    return distance * np.sin(angle), distance * np.cos(angle), members


def _sky_positions(
    ra: float, dec: float, east_arcsec: FloatArray, north_arcsec: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Turn positions in the tangent plane into ICRS degrees (gnomonic deprojection)."""
    xi, eta = np.radians(east_arcsec / 3600.0), np.radians(north_arcsec / 3600.0)
    sine, cosine = math.sin(math.radians(dec)), math.cos(math.radians(dec))
    depth = cosine - eta * sine
    source_ra = ra + np.degrees(np.arctan2(xi, depth))
    source_dec = np.degrees(np.arctan2(sine + eta * cosine, np.hypot(xi, depth)))
    return source_ra % 360.0, source_dec
