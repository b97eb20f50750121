"""Where sources and images lie on the sphere: HEALPix indices and the coverage of a run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np

__all__ = ["HEALPIX_ORDER", "MOC_ORDER", "coverage_moc", "healpix_29"]

#: The order that HATS catalogues are sorted by; its cells are 0.4 milliarcsec wide.
HEALPIX_ORDER: Final = 29
#: Cells of 13 arcsec: a WFC3/IR image is ten across.
MOC_ORDER: Final = 14
_POLYGON: Final = "POLYGON ICRS "
#: The time of a call grows faster than their number: 40,000 at a time took 24 s, in pieces 3 s.
_POLYGONS_A_TIME: Final = 2000


def healpix_29(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Index positions on the sphere.

    Parameters
    ----------
    ra, dec : numpy.ndarray
        ICRS, deg, float64, shape (n,); NaN where there is no position.

    Returns
    -------
    numpy.ndarray
        int64, shape (n,): nested HEALPix index of order 29, -1 without a position.
    """
    from astropy.coordinates import Latitude, Longitude
    from cdshealpix.nested import lonlat_to_healpix

    index = np.full(len(ra), -1, dtype=np.int64)
    known = np.isfinite(ra) & np.isfinite(dec)
    if known.any():
        index[known] = lonlat_to_healpix(
            Longitude(ra[known], unit="deg"), Latitude(dec[known], unit="deg"), HEALPIX_ORDER
        ).astype(np.int64)
    return index


def coverage_moc(footprints: Iterable[str]) -> bytes | None:
    """Unite the outlines of images.

    Parameters
    ----------
    footprints : iterable of str
        ``POLYGON ICRS`` and right ascension and declination of corners, deg.

    Returns
    -------
    bytes or None
        A FITS file with a multi-order coverage map (IVOA MOC 2.0) of order `MOC_ORDER`; None if
        there are no footprints.
    """
    from mocpy import MOC

    polygons: list[np.ndarray] = []
    for outline in set(footprints):
        corners = np.array(outline.removeprefix(_POLYGON).split(), dtype=np.float64)
        polygons += [corners[0::2], corners[1::2]]
    if not polygons:
        return None
    mocs = [
        moc
        for i in range(0, len(polygons), 2 * _POLYGONS_A_TIME)
        for moc in MOC.from_polygons(polygons[i : i + 2 * _POLYGONS_A_TIME], max_depth=MOC_ORDER)
    ]
    moc = mocs[0] if len(mocs) == 1 else mocs[0].union(*mocs[1:])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "coverage.fits")
        moc.save(path, format="fits")
        return path.read_bytes()
