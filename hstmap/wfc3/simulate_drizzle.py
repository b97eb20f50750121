"""Putting simulated exposures on one grid without distortion, as a drizzled product has it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from hstmap.wfc3.encircled_energy import PIXEL_SIZE_ARCSEC
from hstmap.wfc3.simulate_detector import DQ
from hstmap.wfc3.simulate_instrument import (
    PIXEL_SCALE_ARCSEC,
    reference_pixel_area_arcsec2,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from hstmap.wfc3.simulate_detector import Exposure
    from hstmap.wfc3.simulate_scene import SceneParameters

    FloatArray = npt.NDArray[np.float64]

__all__ = ["Rectifier"]

_REJECTED = DQ.DEAD | DQ.HOT | DQ.BAD_REFERENCE | DQ.SATURATED | DQ.COSMIC_RAY_DRIZZLE
_GRID_STEP = 16  # Positions are computed this far apart and interpolated: 0.002 pixels wrong.


class Rectifier:
    """An average of exposures on a grid without distortion.

    Parameters
    ----------
    parameters : SceneParameters
        Give the grid's centre, orientation and size.
    margin_arcsec : float
        What the grid has beyond the undithered frame on every side.
    """

    def __init__(self, parameters: SceneParameters, margin_arcsec: float = 0.0) -> None:
        # Three in a hundred for the distortion's bulge.
        n_x, n_y = (
            math.ceil((1.03 * parameters.size * size + 2.0 * margin_arcsec) / PIXEL_SCALE_ARCSEC)
            for size in PIXEL_SIZE_ARCSEC
        )
        self.header = _rectified_wcs(parameters, n_x, n_y)
        self._sum = np.zeros((n_y, n_x))
        self._weight = np.zeros((n_y, n_x))
        self._context = np.zeros((n_y, n_x), np.int32)
        self._n_exposures = 0
        self.background_e_s = 0.0

    def add(self, exposure: Exposure, wcs: WCS, exposure_s: float) -> None:
        """Drizzle an exposure onto the grid.

        Each good pixel drops its light on the output pixels that its square covers, by the area
        covered (Fruchter & Hook 2002, PASP 114, 144, with pixfrac 1); the small angle between the
        two grids is left out.

        Parameters
        ----------
        exposure : Exposure
            Its planes.
        wcs : astropy.wcs.WCS
            Of the exposure, with its distortion.
        exposure_s : float
            Its weight.
        """
        good = (exposure.dq & _REJECTED) == 0
        background = float(np.median(exposure.sci[good]))
        # A flat-fielded pixel holds the light of the reference pixel's area, whatever its own is.
        scale = PIXEL_SCALE_ARCSEC**2 / reference_pixel_area_arcsec2()
        light = (exposure.sci[good] - background).astype(np.float64) * scale
        x, y = self._positions(wcs, len(exposure.sci))
        columns = _overlaps(x, np.gradient(x, axis=1), good)
        lines = _overlaps(y, np.gradient(y, axis=0), good)
        n_y, n_x = self._weight.shape
        weight = np.zeros(n_y * n_x)
        for line, height in lines:
            for column, width in columns:
                inside = (column >= 0) & (column < n_x) & (line >= 0) & (line < n_y)
                pixel = (line * n_x + column)[inside]
                share = (height * width)[inside] * exposure_s
                weight += np.bincount(pixel, share, n_y * n_x)
                self._sum += np.bincount(pixel, share * light[inside], n_y * n_x).reshape(n_y, n_x)
        grid = weight.reshape(n_y, n_x)
        self._weight += grid
        self._context[grid > 0] |= 1 << self._n_exposures
        if self._n_exposures == 0:
            self.background_e_s = background
        self._n_exposures += 1

    def planes(self) -> dict[str, npt.NDArray[Any]]:
        """Return SCI, WHT and CTX."""
        filled = self._weight > 0
        sci = np.divide(self._sum, self._weight, out=np.zeros_like(self._sum), where=filled)
        return {
            "SCI": sci.astype(np.float32),
            "WHT": self._weight.astype(np.float32),
            "CTX": self._context,
        }

    def _positions(self, wcs: WCS, size: int) -> tuple[FloatArray, FloatArray]:
        """Return where on the grid the centre of every pixel of an exposure lies."""
        nodes = np.arange(0, size + _GRID_STEP, _GRID_STEP)
        node_x, node_y = np.meshgrid(nodes, nodes)
        sky = wcs.all_pix2world(node_x.ravel(), node_y.ravel(), 0)
        at = WCS(self.header).wcs_world2pix(*sky, 0)
        along = _linear_weights(size, len(nodes))
        x, y = (along @ axis.reshape(node_x.shape) @ along.T for axis in at)
        return x, y


def _overlaps(
    centre: FloatArray, width: FloatArray, good: npt.NDArray[np.bool_]
) -> list[tuple[npt.NDArray[np.int64], FloatArray]]:
    """Cells that intervals cover: for each of three neighbours its number and the length covered.

    The lengths are relative to the interval's, so that they add up to 1.
    """
    low, high = (centre - 0.5 * width)[good], (centre + 0.5 * width)[good]
    first = np.floor(low + 0.5).astype(np.int64)
    covered = []
    for step in range(3):
        cell = first + step
        length = np.minimum(high, cell + 0.5) - np.maximum(low, cell - 0.5)
        covered.append((cell, np.maximum(length, 0.0) / (high - low)))
    return covered


def _linear_weights(n: int, n_nodes: int) -> FloatArray:
    """Matrix that interpolates values at every _GRID_STEP-th pixel to all n pixels."""
    node, rest = np.divmod(np.arange(n), _GRID_STEP)
    weights = np.zeros((n, n_nodes))
    weights[np.arange(n), node] = 1.0 - rest / _GRID_STEP
    weights[np.arange(n), node + 1] = rest / _GRID_STEP
    return weights


def _rectified_wcs(parameters: SceneParameters, n_x: int, n_y: int) -> fits.Header:
    angle = math.radians(parameters.orientation_deg)
    scale = PIXEL_SCALE_ARCSEC / 3600.0
    header = fits.Header()
    header["WCSAXES"] = (2, "number of World Coordinate System axes")
    header["CRPIX1"] = ((n_x + 1) / 2.0, "x-coordinate of reference pixel")
    header["CRPIX2"] = ((n_y + 1) / 2.0, "y-coordinate of reference pixel")
    header["CRVAL1"] = (parameters.ra, "first axis value at reference pixel")
    header["CRVAL2"] = (parameters.dec, "second axis value at reference pixel")
    header["CTYPE1"] = ("RA---TAN", "the coordinate type for the first axis")
    header["CTYPE2"] = ("DEC--TAN", "the coordinate type for the second axis")
    header["CD1_1"] = (-scale * math.cos(angle), "partial of first axis coordinate w.r.t. x")
    header["CD1_2"] = (scale * math.sin(angle), "partial of first axis coordinate w.r.t. y")
    header["CD2_1"] = (scale * math.sin(angle), "partial of second axis coordinate w.r.t. x")
    header["CD2_2"] = (scale * math.cos(angle), "partial of second axis coordinate w.r.t. y")
    header["ORIENTAT"] = (
        parameters.orientation_deg,
        "position angle of image y axis (deg. e of n)",
    )
    header["RADESYS"] = "ICRS"
    return header
