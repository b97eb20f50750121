"""Putting simulated exposures on one grid without distortion, as a drizzled product has it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from hstmap.wfc3.simulate_detector import DQ
from hstmap.wfc3.simulate_instrument import (
    PIXEL_SCALE_ARCSEC,
    PIXEL_SIZE_ARCSEC,
    reference_pixel_area_arcsec2,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from hstmap.wfc3.simulate_detector import Exposure
    from hstmap.wfc3.simulate_scene import SceneParameters

    FloatArray = npt.NDArray[np.float64]

__all__ = ["Rectifier"]

_REJECTED = DQ.DEAD | DQ.HOT | DQ.BAD_REFERENCE | DQ.SATURATED | DQ.COSMIC_RAY_DRIZZLE
_LEAST_SHARE = 0.25  # Of good input that an output pixel needs.
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
        """Add an exposure.

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
        x, y = self._positions(wcs)
        column, line = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
        x_part, y_part = x - column, y - line
        size = len(exposure.sci)
        value, share = np.zeros_like(x), np.zeros_like(x)
        for step_y, step_x in ((0, 0), (0, 1), (1, 0), (1, 1)):
            i, j = column + step_x, line + step_y
            inside = (i >= 0) & (i < size) & (j >= 0) & (j < size)
            i, j = np.where(inside, i, 0), np.where(inside, j, 0)
            part = np.where(step_x, x_part, 1.0 - x_part) * np.where(step_y, y_part, 1.0 - y_part)
            part *= inside & good[j, i]
            value += part * (exposure.sci[j, i] - background)
            share += part
        used = share > _LEAST_SHARE
        # A flat-fielded pixel holds the light of the reference pixel's area, whatever its own is.
        scale = PIXEL_SCALE_ARCSEC**2 / reference_pixel_area_arcsec2()
        self._sum[used] += value[used] * scale * exposure_s
        self._weight[used] += share[used] * exposure_s
        self._context[used] |= 1 << self._n_exposures
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

    def _positions(self, wcs: WCS) -> tuple[FloatArray, FloatArray]:
        """Return where in an exposure the centre of every output pixel lies."""
        n_y, n_x = self._sum.shape
        nodes_x = np.arange(0, n_x + _GRID_STEP, _GRID_STEP)
        nodes_y = np.arange(0, n_y + _GRID_STEP, _GRID_STEP)
        grid_x, grid_y = np.meshgrid(nodes_x, nodes_y)
        sky = WCS(self.header).wcs_pix2world(grid_x.ravel(), grid_y.ravel(), 0)
        at = wcs.all_world2pix(*sky, 0, tolerance=1e-5, quiet=True)
        along_x = _linear_weights(n_x, len(nodes_x))
        along_y = _linear_weights(n_y, len(nodes_y))
        x, y = (along_y @ axis.reshape(grid_x.shape) @ along_x.T for axis in at)
        return x, y


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
