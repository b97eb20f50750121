"""What a simulated exposure is of: its parameters and the named scenes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hstmap.errors import UsageError
from hstmap.wfc3.simulate_instrument import (
    DETECTOR_SIZE,
    SUBARRAY_SIZES,
    Pointing,
    find_filter,
)

__all__ = ["SCENES", "SceneParameters", "scene"]


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
        for what, value in (("right ascension", self.ra), ("orientation", self.orientation_deg)):
            _require(math.isfinite(value), f"{what} {value}", "a number of degrees")
        _require(
            0 < self.exposure_s < math.inf, f"exposure of {self.exposure_s} s", "more than 0 s"
        )
        _require(
            all(map(math.isfinite, self.dither_arcsec)),
            f"dither {self.dither_arcsec}",
            "two numbers of arcsec",
        )
        _require(self.seed >= 0, f"seed {self.seed}", "0 or more")
        _require(
            0 <= self.separation_arcsec < math.inf,
            f"separation {self.separation_arcsec}",
            "0 arcsec or more",
        )
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
            0 <= self.cosmic_ray_rate < math.inf and 0 <= self.cosmic_ray_residue <= 1,
            f"cosmic-ray rate {self.cosmic_ray_rate} and residue {self.cosmic_ray_residue}",
            "a rate of 0 or more and a residue of 0 to 1",
        )
        _require(
            self.sky_e_s is None or 0 <= self.sky_e_s < math.inf,
            f"sky {self.sky_e_s}",
            "0 e-/s or more",
        )

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
            star_magnitudes=(14.0, 26.0),
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
