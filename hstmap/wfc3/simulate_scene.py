"""What is in a simulated field: its parameters, the named scenes and the sources they draw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table

from hstmap.errors import UsageError
from hstmap.wfc3.simulate_instrument import (
    DETECTOR_SIZE,
    PIXEL_SIZE_ARCSEC,
    SUBARRAY_SIZES,
    Pointing,
    find_filter,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]

__all__ = ["SCENES", "SceneParameters", "make_sources", "make_star_grid", "scene"]

_FRAME_AREA_ARCSEC2 = DETECTOR_SIZE**2 * PIXEL_SIZE_ARCSEC[0] * PIXEL_SIZE_ARCSEC[1]
_FIELD_SIDE_ARCSEC = 200.0  # A frame's diagonal and the dithers around it.
_SERSIC_INDICES = np.array([1.0, 1.0, 1.0, 1.5, 1.5, 2.0, 2.5, 3.0, 4.0])


@dataclass(frozen=True)
class SceneParameters:
    """All that a simulated exposure depends on, besides its rootname.

    Two exposures with equal parameters but for `dither_arcsec`, `filter_name`, `exposure_s` or
    `subarray` see the same sky. The rootname seeds the noise.

    Attributes
    ----------
    name : str
        Name of the scene; it becomes TARGNAME.
    filter_name : str
        One of F098M, F105W, F110W, F125W, F140W, F160W.
    exposure_s : float
        Exposure time in seconds.
    n_samples : int
        Reads up the ramp (NSAMP), 2 to 16: more reads, less read noise.
    ra, dec : float
        ICRS centre of the field in degrees.
    orientation_deg : float
        Position angle of the detector's y axis, east of north.
    dither_arcsec : (float, float)
        How far the sky is moved along the detector's x and y axes (POSTARG1, POSTARG2).
    subarray : int or None
        Side of a centred subarray (64, 128, 256 or 512); None for a full frame.
    seed : int
        Seeds the sky, and with the rootname the noise.
    n_stars, n_galaxies, n_members : int
        Mean numbers in a full frame of stars, of field galaxies, and of galaxies of a cluster at
        the centre.
    star_magnitudes, galaxy_magnitudes : (float, float)
        Brightest and faintest AB magnitude.
    star_slope, galaxy_slope : float
        Slope of the decimal logarithm of the number by magnitude.
    separation_arcsec : float
        Least distance between two sources; 0 lets them fall anywhere.
    sky_e_s : float or None
        Background in e-/s/pixel; None for the filter's usual one.
    sky_gradient : float
        Relative rise of the background from the lower left to the upper right corner.
    cosmic_ray_rate : float
        Cosmic-ray hits a second on a full frame. Some 15 reproduce the number of flagged pixels
        of real frames.
    cosmic_ray_residue : float
        Share of the hits that the ramp fit misses: they stay in the frame, and no DQ bit tells.
    bad_pixels, blobs, noise : bool
        Whether the frame has the detector's bad pixels, blobs, and any noise at all. A frame
        without noise has no cosmic rays either.
    """

    name: str = "normal"
    filter_name: str = "F140W"
    exposure_s: float = 500.0
    n_samples: int = 12
    ra: float = 53.12
    dec: float = -27.80
    orientation_deg: float = 35.0
    dither_arcsec: tuple[float, float] = (0.0, 0.0)
    subarray: int | None = None
    seed: int = 1
    n_stars: int = 60
    n_galaxies: int = 900
    n_members: int = 0
    star_magnitudes: tuple[float, float] = (17.5, 26.0)
    galaxy_magnitudes: tuple[float, float] = (19.0, 27.0)
    star_slope: float = 0.12
    galaxy_slope: float = 0.30
    separation_arcsec: float = 0.0
    sky_e_s: float | None = None
    sky_gradient: float = 0.02
    cosmic_ray_rate: float = 15.0
    cosmic_ray_residue: float = 2e-4
    bad_pixels: bool = True
    blobs: bool = True
    noise: bool = True

    def __post_init__(self) -> None:
        find_filter(self.filter_name)
        _require(self.exposure_s > 0, f"exposure of {self.exposure_s} s", "more than 0 s")
        _require(2 <= self.n_samples <= 16, f"{self.n_samples} samples", "2 to 16")
        _require(abs(self.dec) <= 90, f"declination {self.dec}", "-90 to 90")
        _require(
            self.subarray is None or self.subarray in SUBARRAY_SIZES,
            f"subarray {self.subarray}",
            f"one of {', '.join(map(str, SUBARRAY_SIZES))}, or none for a full frame",
        )
        counts = (self.n_stars, self.n_galaxies, self.n_members)
        _require(min(counts) >= 0, f"numbers of sources {counts}", "0 or more")
        for bright, faint in (self.star_magnitudes, self.galaxy_magnitudes):
            _require(bright < faint, f"magnitudes {bright} to {faint}", "brightest first")
        _require(
            self.cosmic_ray_rate >= 0 and 0 <= self.cosmic_ray_residue <= 1,
            f"cosmic-ray rate {self.cosmic_ray_rate} and residue {self.cosmic_ray_residue}",
            "a rate of 0 or more and a residue of 0 to 1",
        )
        _require(self.sky_e_s is None or self.sky_e_s >= 0, f"sky {self.sky_e_s}", "0 e-/s or more")

    @property
    def size(self) -> int:
        """Pixels on a side of the frame."""
        return self.subarray or DETECTOR_SIZE

    @property
    def field(self) -> Pointing:
        """Where the undithered frame points."""
        return Pointing(self.ra, self.dec, self.orientation_deg)

    @property
    def pointing(self) -> Pointing:
        """Where the frame points, its dither included."""
        return self.field.moved(*self.dither_arcsec)

    @property
    def background_e_s(self) -> float:
        """Background in e-/s/pixel."""
        return find_filter(self.filter_name).sky_e_s if self.sky_e_s is None else self.sky_e_s


def _require(fits: bool, got: str, expected: str) -> None:
    if not fits:
        raise UsageError(f"a scene cannot have {got}; expected {expected}")


SCENES = {
    each.name: each
    for each in (
        SceneParameters(
            name="sparse",
            filter_name="F160W",
            exposure_s=300.0,
            n_stars=220,
            n_galaxies=120,
            star_magnitudes=(17.0, 26.0),
            galaxy_magnitudes=(19.5, 25.5),
            separation_arcsec=3.0,
        ),
        SceneParameters(),
        SceneParameters(
            name="crowded",
            filter_name="F160W",
            exposure_s=300.0,
            n_stars=10_000,
            n_galaxies=30,
            star_magnitudes=(16.0, 26.0),
            star_slope=0.25,
            galaxy_magnitudes=(20.0, 26.0),
            ra=6.022,
            dec=-72.081,
        ),
        SceneParameters(
            name="cluster",
            filter_name="F105W",
            exposure_s=1000.0,
            n_stars=40,
            n_galaxies=700,
            n_members=180,
            ra=3.586,
            dec=-30.400,
        ),
    )
}
"""The named scenes: a sparse field, a deep field, a star cluster's edge, a cluster of galaxies."""


def scene(name: str) -> SceneParameters:
    """Return the parameters of a named scene.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    try:
        return SCENES[name]
    except KeyError:
        raise UsageError(f"no scene is called {name!r}; give one of {', '.join(SCENES)}") from None


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
        "half_light_radius": np.zeros(n_stars),
        "sersic_index": np.zeros(n_stars),
        "axis_ratio": np.ones(n_stars),
        "position_angle": np.zeros(n_stars),
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


def make_star_grid(parameters: SceneParameters, n_side: int, mag_ab: float) -> Table:
    """Make equally bright stars on a square grid over the field, for tests of photometry.

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
        As of `make_sources`.
    """
    steps = (np.arange(n_side) + 0.5) / n_side - 0.5
    x, y = (axis.ravel() for axis in np.meshgrid(steps * 130.0, steps * 116.0))
    angle = math.radians(parameters.orientation_deg)
    east = -x * math.cos(angle) + y * math.sin(angle)
    north = x * math.sin(angle) + y * math.cos(angle)
    ra, dec = _sky_positions(parameters.ra, parameters.dec, east, north)
    n = len(ra)
    return Table(
        {
            "kind": np.full(n, "star"),
            "ra": ra,
            "dec": dec,
            "mag_ab": np.full(n, mag_ab),
            "half_light_radius": np.zeros(n),
            "sersic_index": np.zeros(n),
            "axis_ratio": np.ones(n),
            "position_angle": np.zeros(n),
        }
    )


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
    ends = 10.0 ** (slope * np.array([0.0, faint - bright]))
    magnitudes: FloatArray = bright + np.log10(ends[0] + uniform * (ends[1] - ends[0])) / slope
    return magnitudes


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
