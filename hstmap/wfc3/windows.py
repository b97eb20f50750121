"""The pixels around sources: squares of them, gathered from any plane of an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Windows", "windows_around"]


@dataclass(frozen=True, eq=False)
class Windows:
    """Squares of pixels, one a source; arrays of shape (side, side, n).

    Sources come last, so that arithmetic goes through long rows.

    Attributes
    ----------
    index : numpy.ndarray
        Places in a plane that is made flat. Beyond the edge, those of the nearest pixels.
    is_outside : numpy.ndarray
        Whether a place is beyond the edge.
    distance2 : numpy.ndarray
        Squared distances of the pixels' centres from the source, pixels^2.
    """

    index: np.ndarray
    is_outside: np.ndarray
    distance2: np.ndarray

    def gather(self, plane: np.ndarray) -> np.ndarray:
        """Return a plane's values in the windows.

        Parameters
        ----------
        plane : numpy.ndarray
            Shape (ny, nx), C-contiguous, of the image that the windows lie on.

        Returns
        -------
        numpy.ndarray
            Shape (side, side, n).
        """
        values: np.ndarray = plane.ravel().take(self.index)
        return values

    def gather_middles(self, plane: np.ndarray) -> np.ndarray:
        """Return a plane's values in the pixels that the sources lie on.

        Parameters
        ----------
        plane : numpy.ndarray
            As for `gather`.

        Returns
        -------
        numpy.ndarray
            Shape (n,).
        """
        middle = len(self.index) // 2
        values: np.ndarray = plane.ravel().take(self.index[middle, middle])
        return values


def windows_around(x: np.ndarray, y: np.ndarray, radius: float, shape: tuple[int, int]) -> Windows:
    """Lay windows around positions.

    Parameters
    ----------
    x, y : numpy.ndarray
        Pixels from 0, shape (n,).
    radius : float
        The windows hold all pixels whose centres lie within this and half a pixel.
    shape : (int, int)
        Of the image: (ny, nx).

    Returns
    -------
    Windows
    """
    ny, nx = shape
    # A position is up to half a pixel from the centre of the pixel that it lies on.
    reach = int(radius + 1.0)
    offsets = np.arange(-reach, reach + 1)[:, None]
    column = np.rint(x).astype(np.intp) + offsets
    row = np.rint(y).astype(np.intp) + offsets
    column_in, row_in = column.clip(0, nx - 1), row.clip(0, ny - 1)
    return Windows(
        index=(row_in * nx)[:, None] + column_in,
        is_outside=(row != row_in)[:, None] | (column != column_in),
        distance2=((column - x) ** 2) + ((row - y) ** 2)[:, None],
    )
