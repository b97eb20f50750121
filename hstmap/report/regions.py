"""Region files for DS9: the Kron ellipses of sources, the outlines of images.

Format: https://ds9.si.edu/doc/ref/region.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Final

import numpy as np

from hstmap.report.selection import PIXEL_SCALE

if TYPE_CHECKING:
    from hstmap.wfc3.parameters import MeasureParameters

__all__ = ["IMAGE_NAMES", "SOURCE_NAMES", "image_regions", "source_regions"]

#: What regions are made from.
SOURCE_NAMES: Final = (
    "rootname", "number", "x", "y", "ra", "dec", "a", "b", "theta", "position_angle",
    "kron_radius", PIXEL_SCALE,
)  # fmt: skip
IMAGE_NAMES: Final = ("rootname", "outcome", "footprint")

_HEAD: Final = "# Region file format: DS9 version 4.1\nglobal color=green width=1\n"
_POLYGON: Final = "POLYGON ICRS "


def source_regions(values: Mapping[str, np.ndarray], parameters: MeasureParameters) -> bytes:
    """Draw the ellipses, or circles, that the fluxes ``flux_auto`` were summed in.

    Parameters
    ----------
    values : mapping of str to ndarray, shape (n,)
        `SOURCE_NAMES` of sources.
    parameters : MeasureParameters
        Of the run: how large the ellipses are.

    Returns
    -------
    bytes
        A region a source, in ICRS with axes in arcsec; where a source has no place on the sky, in
        pixels of its image, which DS9 counts from 1. Tags are the image's rootname, and that with
        the source's number. Axes are converted with the pixel scale of the image's middle, and
        square pixels: those of WFC3/IR frames are 0.135 by 0.121 arcsec, so that an ellipse on
        the sky may be off by 6 %.
    """
    major, minor = _kron_axes(values, parameters)
    on_sky = np.isfinite(values["ra"]) & np.isfinite(values["dec"])
    on_sky &= np.isfinite(values["position_angle"]) & np.isfinite(values[PIXEL_SCALE])
    # DS9 counts angles from the first axis, which points west; position angles from north.
    sky_angle = (values["position_angle"].astype(np.float64) + 90.0) % 180.0
    scale = values[PIXEL_SCALE].astype(np.float64)

    def shape(i: int) -> str:
        if on_sky[i]:
            where = f"{values['ra'][i]:.8f},{values['dec'][i]:.8f}"
            return f'{where},{major[i] * scale[i]:.4f}",{minor[i] * scale[i]:.4f}",' + (
                f"{sky_angle[i]:.3f}"
            )
        where = f"{values['x'][i] + 1:.4f},{values['y'][i] + 1:.4f}"
        return f"{where},{major[i]:.4f},{minor[i]:.4f},{values['theta'][i]:.3f}"

    lines = (
        ("icrs" if on_sky[i] else "image", f"ellipse({shape(i)}) # {_tags(values, i)}")
        for i in range(len(on_sky))
    )
    return _with_systems(lines)


def _tags(values: Mapping[str, np.ndarray], i: int) -> str:
    rootname = values["rootname"][i]
    return f"tag={{{rootname}}} tag={{{rootname} {values['number'][i]}}}"


def _kron_axes(
    values: Mapping[str, np.ndarray], parameters: MeasureParameters
) -> tuple[np.ndarray, np.ndarray]:
    """Say how large the apertures were, pixels: `hstmap.wfc3.photometry.kron_fluxes` decides so."""
    a, b = (values[name].astype(np.float64) for name in ("a", "b"))
    size = parameters.kron_factor * values["kron_radius"]
    small = ~(size * np.sqrt(a * b) >= parameters.min_kron_radius)
    major, minor = (
        np.where(small, parameters.min_kron_radius, size * axis) for axis in (a, b)
    )  # fmt: skip
    return major, minor


def image_regions(values: Mapping[str, np.ndarray]) -> bytes:
    """Draw the outlines of images.

    Parameters
    ----------
    values : mapping of str to ndarray, shape (n,)
        `IMAGE_NAMES` of images.

    Returns
    -------
    bytes
        A polygon in ICRS for each image that has a place on the sky, with its rootname as text
        and its outcome as a tag.
    """
    rows = zip(*(values[name] for name in IMAGE_NAMES), strict=True)
    return _with_systems(
        (
            "icrs",
            f"polygon({','.join(outline.removeprefix(_POLYGON).split())}) "
            f"# text={{{rootname}}} tag={{{outcome}}}",
        )
        for rootname, outcome, outline in rows
        if outline
    )


def _with_systems(shapes: Iterable[tuple[str, str]]) -> bytes:
    """Name the system of coordinates where it changes."""
    lines = [_HEAD]
    for system, group in groupby(shapes, key=lambda shape: shape[0]):
        lines.append(f"{system}\n")
        lines += [f"{line}\n" for _, line in group]
    return "".join(lines).encode()
