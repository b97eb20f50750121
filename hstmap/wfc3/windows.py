"""The pixels around sources: squares of them, gathered from any plane of an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Windows", "windows_around"]


@dataclass(frozen=True, eq=False)
class Windows:
    """Squares of pixels, one a source; arrays of shape (n, side, side).

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
            Shape (n, side, side).
        """
        values: np.ndarray = plane.ravel().take(self.index)
        return values


def windows_around(x: np.ndarray, y: np.ndarray, reach: int, shape: tuple[int, int]) -> Windows:
    """Lay windows around positions.

    Parameters
    ----------
    x, y : numpy.ndarray
        Pixels from 0, shape (n,).
    reach : int
        Pixels on each side of the one that a position lies on.
    shape : (int, int)
        Of the image: (ny, nx).

    Returns
    -------
    Windows
    """
    ny, nx = shape
    offsets = np.arange(-reach, reach + 1)
    column = np.rint(x).astype(np.intp)[:, None] + offsets
    row = np.rint(y).astype(np.intp)[:, None] + offsets
    column_in, row_in = column.clip(0, nx - 1), row.clip(0, ny - 1)
    dx2, dy2 = (column - x[:, None]) ** 2, (row - y[:, None]) ** 2
    return Windows(
        index=(row_in * nx)[:, :, None] + column_in[:, None, :],
        is_outside=(row != row_in)[:, :, None] | (column != column_in)[:, None, :],
        distance2=dx2[:, None, :] + dy2[:, :, None],
    )
