"""A cone on the sky: which sources lie in it, and which images it touches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hstmap.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Cone"]

_POLYGON: Final = "POLYGON ICRS "
_N_CORNERS: Final = 4
_ARCSEC: Final = math.pi / 180 / 3600


@dataclass(frozen=True)
class Cone:
    """All directions within a radius of one.

    Parameters
    ----------
    ra, dec : float
        Of its axis, ICRS, deg: 0 to 360 and -90 to 90.
    radius_arcsec : float
        More than 0, at most 648000, the whole sky.

    Raises
    ------
    UsageError
        If there is no such cone.
    """

    ra: float
    dec: float
    radius_arcsec: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.ra <= 360.0:
            problem = f"the right ascension is {self.ra:g}; it must be 0 to 360 degrees"
        elif not -90.0 <= self.dec <= 90.0:
            problem = f"the declination is {self.dec:g}; it must be -90 to 90 degrees"
        elif not 0.0 < self.radius_arcsec <= 648_000.0:
            problem = (
                f"the radius is {self.radius_arcsec:g}; it must be more than 0, "
                "and at most 648000 arcsec"
            )
        else:
            return
        raise UsageError(f"{problem}: a cone is RA DEC RADIUS, in degrees, degrees and arcsec")

    def __str__(self) -> str:
        return f"{self.radius_arcsec:.10g} arcsec of {self.ra:.10g} {self.dec:.10g}"

    def contains(self, ra: ArrayLike, dec: ArrayLike) -> NDArray[np.bool_]:
        """Tell which directions lie within it, its edge included.

        Parameters
        ----------
        ra, dec : array_like of float, shape (n,)
            ICRS, deg; NaN lies nowhere.

        Returns
        -------
        ndarray of bool, shape (n,)
        """
        from astropy.coordinates import angular_separation

        distance = angular_separation(
            math.radians(self.ra), math.radians(self.dec), np.radians(ra), np.radians(dec)
        )
        inside: NDArray[np.bool_] = distance <= self.radius_arcsec * _ARCSEC
        return inside

    def touches(self, footprints: Sequence[str], margin_arcsec: float = 0.0) -> NDArray[np.bool_]:
        """Tell which images have a point in common with it.

        Parameters
        ----------
        footprints : sequence of str, n of them
            As the column ``footprint`` has them: ``POLYGON ICRS`` and right ascension and
            declination of four corners, deg. What is empty is touched by nothing.
        margin_arcsec : float
            How much further than its radius the cone reaches.

        Returns
        -------
        ndarray of bool, shape (n,)
        """
        touched = np.array([bool(outline) for outline in footprints], dtype=np.bool_)
        words = " ".join(outline.removeprefix(_POLYGON) for outline in footprints).split()
        corners = np.array(words, dtype=np.float64).reshape(-1, _N_CORNERS, 2)
        ra, dec = np.radians(corners[..., 0]), np.radians(corners[..., 1])
        axis = _unit_vectors(np.radians(self.ra), np.radians(self.dec))
        near = _distance(axis, _unit_vectors(ra, dec))
        touched[touched] = near <= (self.radius_arcsec + margin_arcsec) * _ARCSEC
        return touched


def _unit_vectors(ra: Any, dec: Any) -> NDArray[np.float64]:
    """Give directions as vectors, along a new last axis."""
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def _distance(point: NDArray[np.float64], corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measure how far a point is from convex polygons whose edges are great circles.

    Parameters
    ----------
    point : ndarray, shape (3,)
    corners : ndarray, shape (n, k, 3)
        In their order, either way round.

    Returns
    -------
    ndarray of float64, shape (n,)
        rad; 0 inside.
    """
    following = np.roll(corners, -1, axis=1)
    poles = np.cross(corners, following)
    length = np.linalg.norm(poles, axis=-1, keepdims=True)
    poles = np.divide(poles, length, out=np.zeros_like(poles), where=length > 0)
    side = poles @ point
    # The point opposite on the sphere is on the same side of all edges, too.
    inside = (np.all(side >= 0, axis=1) | np.all(side <= 0, axis=1)) & (
        corners.sum(axis=1) @ point > 0
    )
    beside = (np.cross(poles, corners) @ point >= 0) & (np.cross(following, poles) @ point >= 0)
    to_edge = np.where(beside & (length[..., 0] > 0), np.arcsin(np.abs(side).clip(max=1)), np.inf)
    to_corner = 2 * np.arcsin((np.linalg.norm(corners - point, axis=-1) / 2).clip(max=1))
    distance: NDArray[np.float64] = np.minimum(to_edge, to_corner).min(axis=1)
    return np.where(inside, 0.0, distance)
