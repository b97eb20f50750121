"""How good a catalogue is, judged by the truth or by another list of the same sources.

Words, as they are used here:

*completeness*
    Share of the reference's sources that the catalogue has.
*reliability*
    Share of the catalogue's sources that the reference has. Only against a truth, or a list that
    is much deeper, does that say how many are real.
*bias, scatter*
    Median of the differences, catalogue minus reference, and 1.4826 times the median of the
    absolute deviations from it: the standard deviation if they are normally distributed, and
    hardly moved by the few that are not.
*pull*
    Difference of a flux divided by its error. Pulls have the median 0 and the scatter 1 if fluxes
    and errors are right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from hstmap.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from hstmap.wfc3.compare import Comparison, MatchParameters
    from hstmap.wfc3.source_list import SourceList

    FloatArray = npt.NDArray[np.float64]
    BoolArray = npt.NDArray[np.bool_]

__all__ = [
    "SNR_EDGES",
    "Difference",
    "Score",
    "ScoreBin",
    "describe",
    "score",
    "score_between",
    "wilson_interval",
]

SNR_EDGES: Final = tuple(round(10.0 ** (0.1 + 0.2 * step), 1) for step in range(1, 19))
"""Bins of signal to noise, five a decade; one of them, 7.9 to 12.6, lies around 10."""

_MAGNITUDE_STEP: Final = 0.5
#: Of a normal distribution, the standard deviation over the median absolute deviation.
_SIGMA_PER_MAD: Final = 1.4826


@dataclass(frozen=True)
class Difference:
    """How much something differs from what it should be.

    Attributes
    ----------
    n : int
        How many were compared.
    bias, scatter : float
        Median, and 1.4826 times the median absolute deviation from it; NaN for none.
    mean, std : float
        Mean and standard deviation, outliers included.
    """

    n: int
    bias: float
    scatter: float
    mean: float
    std: float


@dataclass(frozen=True)
class ScoreBin:
    """What is in one bin of magnitude or of signal to noise.

    Attributes
    ----------
    low, high : float
        Its edges; completeness, positions and fluxes go by the reference's value, reliability by
        the catalogue's.
    n_reference, n_recovered : int
        Sources of the reference, and how many of them the catalogue has.
    n_found, n_real : int
        Sources of the catalogue, and how many of them the reference has.
    distance : float
        Median distance of the pairs, pixels or arcsec.
    magnitude : Difference
        Of magnitudes.
    pull : Difference
        Of fluxes, in units of their errors.
    """

    low: float
    high: float
    n_reference: int
    n_recovered: int
    n_found: int
    n_real: int
    distance: float
    magnitude: Difference
    pull: Difference

    @property
    def completeness(self) -> float:
        """Share of the reference that was found, NaN of nothing."""
        return _share(self.n_recovered, self.n_reference)

    @property
    def reliability(self) -> float:
        """Share of what was found that the reference has, NaN of nothing."""
        return _share(self.n_real, self.n_found)


@dataclass(frozen=True)
class Score:
    """How good a catalogue is.

    Attributes
    ----------
    unit : str
        Of distances: ``"pixel"`` or ``"arcsec"``.
    n_images : int
        Over how many images.
    total : ScoreBin
        Everything, from the least to the largest signal to noise.
    by_snr, by_magnitude : tuple of ScoreBin
        Bin by bin; empty where a list has no such thing.
    x, y : Difference
        Of positions: along x and y, or to the east and north.
    pulls : ndarray of float64
        Every pull of the total.
    """

    unit: str
    n_images: int
    total: ScoreBin
    by_snr: tuple[ScoreBin, ...]
    by_magnitude: tuple[ScoreBin, ...]
    x: Difference
    y: Difference
    pulls: FloatArray

    def at_snr(self, snr: float) -> ScoreBin:
        """Give the bin that a signal to noise is in.

        Parameters
        ----------
        snr : float

        Returns
        -------
        ScoreBin

        Raises
        ------
        UsageError
            If there is none.
        """
        for each in self.by_snr:
            if each.low <= snr < each.high:
                return each
        raise UsageError(f"no bin of this score holds a signal to noise of {snr}")


def wilson_interval(n_good: int, n: int) -> tuple[float, float]:
    """Bound a share that was estimated by counting.

    Parameters
    ----------
    n_good, n : int
        How many of how many.

    Returns
    -------
    low, high : float
        68 % confidence (Wilson 1927, JASA 22, 209); NaN of nothing.
    """
    if n == 0:
        return math.nan, math.nan
    share = n_good / n
    centre = (share + 0.5 / n) / (1.0 + 1.0 / n)
    half = math.sqrt(share * (1.0 - share) / n + 0.25 / n**2) / (1.0 + 1.0 / n)
    return max(centre - half, 0.0), min(centre + half, 1.0)


@dataclass(frozen=True, eq=False)
class _Pooled:
    """What the statistics are taken of, over all images."""

    reference_value: FloatArray
    is_recovered: BoolArray
    found_value: FloatArray
    is_real: BoolArray
    pair_value: FloatArray
    distance: FloatArray
    magnitude: FloatArray
    pull: FloatArray


def _pool(comparisons: Sequence[Comparison], quantity: str) -> _Pooled:
    """Put the images together, each source with its signal to noise or magnitude."""
    parts: list[tuple[npt.NDArray[np.generic], ...]] = []
    for each in comparisons:
        recovered = np.zeros(len(each.reference), dtype=np.bool_)
        recovered[each.pairs.second] = True
        real = np.zeros(len(each.found), dtype=np.bool_)
        real[each.pairs.first] = True
        kept = each.measured
        found = each.found.take(each.pairs.first[kept])
        reference = each.reference.take(each.pairs.second[kept])
        parts.append(
            (
                getattr(each.reference, quantity)[each.asked],
                recovered[each.asked],
                getattr(each.found, quantity)[each.judged],
                real[each.judged],
                getattr(reference, quantity),
                np.hypot(each.dx, each.dy)[kept],
                found.mag - reference.mag,
                _pulls(each.found, found, reference),
            )
        )
    return _Pooled(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _pulls(catalog: SourceList, found: SourceList, reference: SourceList) -> FloatArray:
    """Give the pulls of matched sources, of fluxes if the catalogue has any."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if "flux" not in catalog.origin or "flux_err" not in catalog.origin:
            return np.asarray((found.mag - reference.mag) / found.mag_err)
        # The catalogue's own zero point turns the reference's magnitudes into its fluxes.
        zero_points = catalog.mag + 2.5 * np.log10(catalog.flux)
        zero_points = zero_points[np.isfinite(zero_points)]
        if not len(zero_points):
            return np.full(len(found), np.nan)
        true_flux = 10.0 ** (-0.4 * (reference.mag - np.median(zero_points)))
        return np.asarray((found.flux - true_flux) / found.flux_err)


def score(comparisons: Sequence[Comparison], parameters: MatchParameters) -> Score:
    """Judge a catalogue of one or more images.

    Parameters
    ----------
    comparisons : sequence of Comparison
        One an image, at least one.
    parameters : MatchParameters
        That they were made with.

    Returns
    -------
    Score
    """
    by_snr = _pool(comparisons, "snr")
    by_mag = _pool(comparisons, "mag")
    # A reference without signal to noise counts as a whole.
    counted = ~(by_snr.pair_value < parameters.least_measured_snr)
    dx, dy = (
        np.concatenate([getattr(each, axis)[each.measured] for each in comparisons])[counted]
        for axis in ("dx", "dy")
    )
    pulls = by_snr.pull[counted]
    return Score(
        unit=parameters.unit,
        n_images=len(comparisons),
        total=_total(by_snr, counted),
        by_snr=_bins(by_snr, np.array(SNR_EDGES)),
        by_magnitude=_bins(by_mag, _magnitude_edges(by_mag)),
        x=describe(dx),
        y=describe(dy),
        pulls=pulls[np.isfinite(pulls)],
    )


def score_between(
    comparisons: Sequence[Comparison], low: float, high: float, quantity: str = "snr"
) -> ScoreBin:
    """Judge one range of signal to noise, or of magnitudes, that is not among the usual bins.

    Parameters
    ----------
    comparisons : sequence of Comparison
        One an image, at least one.
    low, high : float
        From and below.
    quantity : {"snr", "mag"}

    Returns
    -------
    ScoreBin
    """
    return _bin_between(_pool(comparisons, quantity), low, high)


def _total(pooled: _Pooled, counted: BoolArray) -> ScoreBin:
    every = [np.ones(len(values), bool) for values in (pooled.reference_value, pooled.found_value)]
    return _bin(pooled, (-math.inf, math.inf), (*every, counted))


def _bins(pooled: _Pooled, edges: FloatArray) -> tuple[ScoreBin, ...]:
    """Cut into bins, without empty ones at the ends."""
    made = [_bin_between(pooled, float(low), float(high)) for low, high in pairwise(edges)]
    filled = [i for i, each in enumerate(made) if each.n_reference or each.n_found]
    return tuple(made[filled[0] : filled[-1] + 1]) if filled else ()


def _bin_between(pooled: _Pooled, low: float, high: float) -> ScoreBin:
    inside = tuple(
        (low <= values) & (values < high)
        for values in (pooled.reference_value, pooled.found_value, pooled.pair_value)
    )
    return _bin(pooled, (low, high), inside)


def _bin(pooled: _Pooled, edges: tuple[float, float], inside: tuple[BoolArray, ...]) -> ScoreBin:
    in_reference, in_found, in_pairs = inside
    distance = pooled.distance[in_pairs]
    return ScoreBin(
        low=edges[0],
        high=edges[1],
        n_reference=int(in_reference.sum()),
        n_recovered=int(pooled.is_recovered[in_reference].sum()),
        n_found=int(in_found.sum()),
        n_real=int(pooled.is_real[in_found].sum()),
        distance=float(np.median(distance)) if len(distance) else math.nan,
        magnitude=describe(pooled.magnitude[in_pairs]),
        pull=describe(pooled.pull[in_pairs]),
    )


def _magnitude_edges(pooled: _Pooled) -> FloatArray:
    values = np.concatenate([pooled.reference_value, pooled.found_value])
    values = values[np.isfinite(values)]
    if not len(values):
        return np.zeros(1)
    first, last = math.floor(values.min()), math.ceil(values.max())
    return np.arange(first, last + 2 * _MAGNITUDE_STEP, _MAGNITUDE_STEP)


def describe(values: FloatArray) -> Difference:
    """Sum up differences.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        Those that are not finite are left out.

    Returns
    -------
    Difference
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return Difference(0, math.nan, math.nan, math.nan, math.nan)
    median = float(np.median(values))
    scatter = _SIGMA_PER_MAD * float(np.median(np.abs(values - median)))
    return Difference(len(values), median, scatter, float(values.mean()), float(values.std()))


def _share(n_good: int, n: int) -> float:
    return n_good / n if n else math.nan
