"""An image with its sources drawn over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from hstmap.wfc3.image import Image

__all__ = ["STRETCHES", "draw_overlay"]

STRETCHES: Final = ("zscale", "asinh")

_FIGURE_INCHES: Final = (10.0, 10.6)
_SOURCE_COLOUR: Final = "#ffb000"
_FLAGGED_COLOUR: Final = "#ff4f6d"
#: SExtractor draws its ellipses at this many rms along each axis where there is no Kron radius.
_RMS_RADII: Final = 3.0
#: A masked pixel somewhere in the aperture: most sources of an FLT have one.
_HARMLESS_FLAGS: Final = 32
#: Percentiles that the asinh stretch spans.
_ASINH_PERCENTILES: Final = (1.0, 99.7)


def draw_overlay(
    image: Image,
    sources: pd.DataFrame,
    *,
    title: str,
    kron_factor: float = 2.5,
    stretch: str = "zscale",
) -> Figure:
    """Draw an image and the Kron ellipses of its sources.

    Parameters
    ----------
    image : Image
        As it was read, background included.
    sources : pandas.DataFrame
        Its sources: columns x, y, a, b (pix), theta (deg), kron_radius, flags.
    title : str
        Above the picture.
    kron_factor : float
        Kron radii that the ellipses reach: those of the run's apertures.
    stretch : {"zscale", "asinh"}
        How brightness becomes grey: astropy's ZScale interval, or asinh between percentiles.

    Returns
    -------
    matplotlib.figure.Figure
        With axes in right ascension and declination where the image has a WCS, else in pixels.
    """
    from matplotlib.collections import EllipseCollection
    from matplotlib.figure import Figure

    figure = Figure(figsize=_FIGURE_INCHES, layout="constrained")
    axes = figure.add_subplot(projection=image.wcs) if image.wcs else figure.add_subplot()
    shown = np.where(image.mask, np.nan, image.data)
    axes.imshow(
        shown, origin="lower", cmap=_grey(), norm=_norm(shown, stretch), interpolation="nearest"
    )
    radii = np.where(sources["kron_radius"] > 0, kron_factor * sources["kron_radius"], _RMS_RADII)
    flagged = (sources["flags"].to_numpy() & ~_HARMLESS_FLAGS) != 0
    for which, colour, label in (
        (~flagged, _SOURCE_COLOUR, "sources"),
        (flagged, _FLAGGED_COLOUR, "flagged: blended, cut off or without light"),
    ):
        some = sources[which]
        axes.add_collection(
            EllipseCollection(
                2 * radii[which] * some["a"].to_numpy(),
                2 * radii[which] * some["b"].to_numpy(),
                some["theta"].to_numpy(),
                units="xy",
                offsets=some[["x", "y"]].to_numpy(),
                offset_transform=axes.transData,
                facecolors="none",
                edgecolors=colour,
                linewidths=0.8,
            )
        )
        axes.plot([], [], "o", mfc="none", mec=colour, label=f"{len(some):,} {label}")
    _label(axes, image)
    axes.set_title(title, fontsize=11)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def _grey() -> Any:
    """Make a map of grey in which masked pixels show as blue."""
    import matplotlib

    return matplotlib.colormaps["gray"].with_extremes(bad="#24344d")


def _norm(shown: np.ndarray, stretch: str) -> Any:
    """Choose which values are black and white, and what lies between."""
    from astropy.visualization import (
        AsinhStretch,
        AsymmetricPercentileInterval,
        ImageNormalize,
        LinearStretch,
        ZScaleInterval,
    )

    values = shown[np.isfinite(shown)]
    if len(values) == 0:
        return None
    if stretch == "asinh":
        interval = AsymmetricPercentileInterval(*_ASINH_PERCENTILES)
        return ImageNormalize(values, interval=interval, stretch=AsinhStretch())
    return ImageNormalize(values, interval=ZScaleInterval(), stretch=LinearStretch())


def _label(axes: Any, image: Image) -> None:
    """Name the axes."""
    if image.wcs is None:
        axes.set_xlabel("x (pixel)")
        axes.set_ylabel("y (pixel)")
        return
    axes.coords[0].set_axislabel("right ascension (ICRS)")
    axes.coords[1].set_axislabel("declination (ICRS)")
    axes.coords.grid(color="white", alpha=0.15, linestyle="dotted")
