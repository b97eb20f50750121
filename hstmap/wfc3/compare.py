"""Two lists of the sources of one image: which of them are the same, and where they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from hstmap.errors import UsageError
from hstmap.wfc3.match import Pairs, match_nearest, pairs_within, sky_points

if TYPE_CHECKING:
    import numpy.typing as npt

    from hstmap.wfc3.source_list import SourceList

    FloatArray = npt.NDArray[np.float64]
    BoolArray = npt.NDArray[np.bool_]

__all__ = ["Comparison", "MatchParameters", "compare"]

#: A neighbour this much fainter, in magnitudes, adds 1 % to a flux at most.
_HARMLESS_MAGNITUDES: Final = 5.0


@dataclass(frozen=True)
class MatchParameters:
    """When two sources are the same, and which of them count.

    Attributes
    ----------
    by : {"pixel", "sky"}
        Where they are compared.
    radius : float
        Largest distance, in pixels or arcsec.
    least_snr : float
        Sources of the reference with less signal to noise than this do not take part: so many of
        them are nowhere near being found that each detection would have one beside it by chance.
    kind : str
        Only sources of the reference of this kind, ``"star"`` or ``"galaxy"``, are asked for; a
        detection of another kind is still real. Empty for all.
    isolation : float
        Positions and fluxes are compared only where the reference has no other source within
        this distance that is bright enough to matter; 0 for all.
    least_measured_snr : float
        Positions and fluxes are compared, and pulls taken, in total from this signal to noise of
        the reference on: of fainter sources those are found that noise made brighter.
    margin : float
        Sources closer than this to the edge of the image, in pixels, do not count: what shines in
        from beyond is real, but no list of the image has it.
    """

    by: str = "pixel"
    radius: float = 2.0
    least_snr: float = 2.0
    kind: str = ""
    isolation: float = 0.0
    least_measured_snr: float = 10.0
    margin: float = 5.0

    def __post_init__(self) -> None:
        if self.by not in ("pixel", "sky"):
            raise UsageError(f"sources are matched by {self.by!r}; give 'pixel' or 'sky'")
        if not self.radius > 0:
            raise UsageError(f"radius is {self.radius!r}; it must be more than 0")

    @property
    def unit(self) -> str:
        """What distances are in."""
        return "pixel" if self.by == "pixel" else "arcsec"


@dataclass(frozen=True, eq=False)
class Comparison:
    """A catalogue and a reference of one image, and which of their sources are the same.

    Attributes
    ----------
    found, reference : SourceList
        The two; of the reference only what takes part.
    pairs : Pairs
        Rows of `found` and of `reference`, one to one.
    dx, dy : ndarray of float64, shape of the pairs
        Catalogue minus reference, pixels or arcsec (east and north).
    asked : ndarray of bool, shape of the reference
        Which sources of the reference count for completeness.
    judged : ndarray of bool, shape of the catalogue
        Which sources of the catalogue count for reliability.
    measured : ndarray of bool, shape of the pairs
        Which pairs count for positions and fluxes.
    """

    found: SourceList
    reference: SourceList
    pairs: Pairs
    dx: FloatArray
    dy: FloatArray
    asked: BoolArray
    judged: BoolArray
    measured: BoolArray


def compare(
    found: SourceList,
    reference: SourceList,
    parameters: MatchParameters,
    shape: tuple[int, int] | None = None,
) -> Comparison:
    """Find out which sources of two lists are the same.

    Parameters
    ----------
    found : SourceList
        What is to be judged.
    reference : SourceList
        What it is judged by. Sources beyond the image can be matched, but do not count.
    parameters : MatchParameters
    shape : (int, int), optional
        Height and width of the image. Without it, or without positions in pixels, there is no
        margin, and all of both lists counts.

    Returns
    -------
    Comparison

    Raises
    ------
    UsageError
        If one of the lists has no positions of the kind that is asked for.
    """
    reference = reference.take(~(reference.snr < parameters.least_snr))
    found_points = _points(found, parameters, "the catalogue")
    reference_points = _points(reference, parameters, "the reference")
    pairs = match_nearest(pairs_within(found_points, reference_points, parameters.radius))
    dx, dy = _offsets(found.take(pairs.first), reference.take(pairs.second), parameters)
    asked = _inside(reference, shape, parameters.margin)
    if parameters.kind:
        asked &= reference.kind == parameters.kind
    clean = asked & reference.usable & _isolated(reference_points, reference.mag, parameters)
    judged = _inside(found, shape, parameters.margin)
    return Comparison(found, reference, pairs, dx, dy, asked, judged, clean[pairs.second])


def _inside(sources: SourceList, shape: tuple[int, int] | None, margin: float) -> BoolArray:
    """Tell which sources lie in the image and not at its edge."""
    if shape is None or not sources.has_pixels:
        return np.ones(len(sources), dtype=np.bool_)
    n_y, n_x = shape
    # The first pixel reaches from -0.5 to 0.5.
    from_edge = np.min(
        [sources.x + 0.5, sources.y + 0.5, n_x - 0.5 - sources.x, n_y - 0.5 - sources.y], axis=0
    )
    return np.asarray(from_edge >= margin)


def _points(sources: SourceList, parameters: MatchParameters, name: str) -> FloatArray:
    if parameters.by == "sky":
        if not sources.has_sky:
            raise UsageError(f"{name} has no positions on the sky; match by pixel")
        return sky_points(sources.ra, sources.dec)
    if not sources.has_pixels:
        raise UsageError(f"{name} has no positions in pixels; match by sky")
    return np.stack([sources.x, sources.y], axis=1)


def _offsets(
    found: SourceList, reference: SourceList, parameters: MatchParameters
) -> tuple[FloatArray, FloatArray]:
    """Subtract the positions of pairs."""
    if parameters.by == "pixel":
        return found.x - reference.x, found.y - reference.y
    east = (found.ra - reference.ra + 180.0) % 360.0 - 180.0
    return (
        3600.0 * east * np.cos(np.radians(reference.dec)),
        3600.0 * (found.dec - reference.dec),
    )


def _isolated(points: FloatArray, mag: FloatArray, parameters: MatchParameters) -> BoolArray:
    """Tell which sources have no neighbour that would add to their light."""
    alone = np.ones(len(points), dtype=np.bool_)
    if parameters.isolation > 0 and len(points):
        near = pairs_within(points, points, parameters.isolation)
        # Without magnitudes any neighbour counts.
        disturbs = ~(mag[near.second] > mag[near.first] + _HARMLESS_MAGNITUDES)
        alone[near.first[disturbs & (near.first != near.second)]] = False
    return alone
