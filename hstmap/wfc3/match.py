"""Which points of two lists are the same, in pixels or on the sky.

A grid of cells as large as the radius finds all pairs within it. scipy's k-d tree would, too, and
astropy's own search is built on that tree: it is left out because nothing else of hstmap needs
scipy, which weighs more than all that this module does.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from hstmap.errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]
    IndexArray = npt.NDArray[np.intp]

__all__ = ["Pairs", "match_nearest", "pairs_within", "sky_points"]

#: Odd numbers far from each other's multiples: cells that collide cost time, never a pair.
_CELL_MULTIPLIERS: Final = np.array([73_856_093, 19_349_663, 83_492_791], dtype=np.int64)


class Pairs(NamedTuple):
    """Pairs of points of two lists.

    Attributes
    ----------
    first, second : ndarray of intp, shape (n,)
        Row in each list.
    distance : ndarray of float64, shape (n,)
        Between the two, in the units of the points.
    """

    first: IndexArray
    second: IndexArray
    distance: FloatArray


def sky_points(ra: npt.ArrayLike, dec: npt.ArrayLike) -> FloatArray:
    """Put sky positions on a sphere with a radius of one radian, in arcsec.

    Distances between points are chords, which equal the angles to 1e-12 for angles of 1 arcsec.

    Parameters
    ----------
    ra, dec : array_like, shape (n,)
        Degrees.

    Returns
    -------
    ndarray of float64, shape (n, 3)
    """
    alpha, delta = np.radians(np.asarray(ra, np.float64)), np.radians(np.asarray(dec, np.float64))
    unit = np.stack(
        [np.cos(delta) * np.cos(alpha), np.cos(delta) * np.sin(alpha), np.sin(delta)], axis=-1
    )
    points: FloatArray = unit * np.degrees(3600.0)
    return points


def pairs_within(first: FloatArray, second: FloatArray, radius: float) -> Pairs:
    """Find all pairs of points that are no further apart than a radius.

    Parameters
    ----------
    first, second : ndarray of float64, shapes (n, d) and (m, d)
        Points in two or three dimensions; a point with a NaN is near nothing.
    radius : float
        In the same units, more than 0.

    Returns
    -------
    Pairs
        In no particular order.

    Raises
    ------
    UsageError
        If the radius is not positive.
    """
    if not radius > 0:
        raise UsageError(f"a radius of {radius!r} matches nothing; give one of more than 0")
    usable = [np.flatnonzero(np.isfinite(points).all(axis=1)) for points in (first, second)]
    a, b = first[usable[0]], second[usable[1]]
    cell_a, cell_b = (np.floor(points / radius).astype(np.int64) for points in (a, b))
    n_axes = first.shape[1]
    multipliers = _CELL_MULTIPLIERS[:n_axes]
    hash_b = cell_b @ multipliers
    order = np.argsort(hash_b, kind="stable")
    sorted_hash = hash_b[order]
    found: list[tuple[IndexArray, IndexArray, FloatArray]] = []
    for step in itertools.product((-1, 0, 1), repeat=n_axes):
        hash_a = (cell_a + np.array(step)) @ multipliers
        start = np.searchsorted(sorted_hash, hash_a, side="left")
        n_there = np.searchsorted(sorted_hash, hash_a, side="right") - start
        i = np.repeat(np.arange(len(a)), n_there)
        nth = np.arange(len(i)) - np.repeat(np.cumsum(n_there) - n_there, n_there)
        j = order[np.repeat(start, n_there) + nth]
        distance = np.sqrt(((a[i] - b[j]) ** 2).sum(axis=1))
        # Another cell of the same hash would give its pairs more than once.
        near = (distance <= radius) & (cell_b[j] == cell_a[i] + np.array(step)).all(axis=1)
        found.append((usable[0][i[near]], usable[1][j[near]], distance[near]))
    return Pairs(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def match_nearest(pairs: Pairs) -> Pairs:
    """Choose pairs one to one: the closest pair first, then the closest of what is left.

    Parameters
    ----------
    pairs : Pairs
        All pairs that could be.

    Returns
    -------
    Pairs
        Those that are, by their row in the first list; no row occurs twice. Of equal distances
        the lower rows come first.
    """
    order = np.lexsort((pairs.second, pairs.first, pairs.distance))
    first, second = pairs.first[order], pairs.second[order]
    chosen: list[IndexArray] = []
    left = np.arange(len(order))
    while len(left):
        # A pair that comes first for both its rows is one that no other pair can break up.
        leads = np.zeros(len(left), dtype=np.int8)
        for rows in (first[left], second[left]):
            leads[np.unique(rows, return_index=True)[1]] += 1
        best = left[leads == 2]
        chosen.append(best)
        taken = np.isin(first[left], first[best]) | np.isin(second[left], second[best])
        left = left[~taken]
    best = np.concatenate([*chosen, np.empty(0, dtype=np.intp)]).astype(np.intp)
    best = best[np.argsort(first[best])]
    return Pairs(first[best], second[best], pairs.distance[order][best])
