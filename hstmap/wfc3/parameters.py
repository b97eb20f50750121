"""How images are read, sources found and measured: all that decides what is in catalogues.

Apart from what does it, so that who plans a run needs neither astropy nor SEP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hstmap.errors import UsageError
from hstmap.wfc3.dq import ALL_BITS, DEFAULT_MASK_BITS

__all__ = [
    "MEASURE_PRESETS",
    "PRESETS",
    "DetectionParameters",
    "MeasureParameters",
    "ReadParameters",
]


@dataclass(frozen=True)
class ReadParameters:
    """How an image is read.

    Parameters
    ----------
    mask_bits : int
        DQ bits that hide a pixel; see `hstmap.wfc3.dq`.
    ima : bool
        Whether to read the last read of an IMA rather than reject it.
    min_side : int
        Images with a side shorter than this (pixels) are rejected.
    max_pixels : int
        Images with more pixels are rejected: SEP takes about 30 bytes for each.
    only_filter : str
        Images of another filter than this are rejected; empty: none is for that.
    """

    mask_bits: int = DEFAULT_MASK_BITS
    ima: bool = False
    min_side: int = 32
    max_pixels: int = 100_000_000
    only_filter: str = ""

    def __post_init__(self) -> None:
        if self.mask_bits & ~ALL_BITS:
            raise UsageError(
                f"mask_bits is {self.mask_bits}: give a sum of DQ bits, from 0 to {ALL_BITS}"
            )

    @property
    def good_bits(self) -> int:
        """The DQ bits that do not hide a pixel."""
        return ALL_BITS & ~self.mask_bits


@dataclass(frozen=True)
class DetectionParameters:
    """How sources are found.

    Attributes
    ----------
    threshold : float
        Detection threshold, in units of the noise of a pixel.
    min_pixels : int
        Least number of connected pixels above the threshold.
    kernel_fwhm : float
        Full width at half maximum of the Gaussian that the image is convolved with, in pixels;
        0 for none.
    kernel_size : int
        Side of the kernel, an odd number of pixels.
    filter_type : {"conv", "matched"}
        ``"conv"`` convolves the data alone, as SExtractor does. SEP's ``"matched"`` also weighs
        by the noise map, but then deblends nothing: its thresholds for deblending are fluxes,
        what it compares them to is a signal to noise.
    deblend_n_thresholds, deblend_contrast : int, float
        Number of levels and least share of the flux of a sub-object.
    clean : float
        SExtractor's CLEAN_PARAM; 0 to keep what is likely an artefact of a bright neighbour.
    mesh : int
        Side of the boxes of the background, in pixels.
    mesh_filter : int
        Side of the median filter over those boxes.
    """

    threshold: float = 1.5
    min_pixels: int = 4
    kernel_fwhm: float = 2.0
    kernel_size: int = 5
    filter_type: str = "conv"
    deblend_n_thresholds: int = 32
    deblend_contrast: float = 0.0005
    clean: float = 1.0
    mesh: int = 64
    mesh_filter: int = 3

    def __post_init__(self) -> None:
        bounds = {
            "threshold": (self.threshold > 0, "more than 0"),
            "min_pixels": (self.min_pixels >= 1, "1 or more"),
            "kernel_fwhm": (self.kernel_fwhm >= 0, "0 or more"),
            "kernel_size": (self.kernel_size >= 1 and self.kernel_size % 2 == 1, "an odd number"),
            "filter_type": (self.filter_type in {"conv", "matched"}, "'conv' or 'matched'"),
            "deblend_n_thresholds": (self.deblend_n_thresholds >= 1, "1 or more"),
            "deblend_contrast": (0 <= self.deblend_contrast <= 1, "between 0 and 1"),
            "clean": (self.clean >= 0, "0 or more"),
            "mesh": (self.mesh >= 4, "4 or more"),
            "mesh_filter": (self.mesh_filter >= 1, "1 or more"),
        }
        for name, (fits, expected) in bounds.items():
            if not fits:
                raise UsageError(f"{name} is {getattr(self, name)!r}; it must be {expected}")


#: Named sets of parameters. ``blog`` is what the function of 2018 used
#: (github.com/spacetelescope/astropy-sep-lambda).
PRESETS: Final = {
    "default": DetectionParameters(),
    "blog": DetectionParameters(
        threshold=2.0,
        min_pixels=8,
        kernel_fwhm=2.0,
        kernel_size=7,
        filter_type="matched",
        deblend_n_thresholds=32,
        deblend_contrast=0.005,
        mesh=32,
    ),
}


@dataclass(frozen=True)
class MeasureParameters:
    """How sources are measured.

    Attributes
    ----------
    kron_factor : float
        The Kron ellipse is this many Kron radii large.
    min_kron_radius : float
        Least size of that ellipse, in pixels: where ``kron_factor`` Kron radii of ``sqrt(a b)``
        are less, a circle of this radius takes its place.
    pixel_area : bool
        Whether fluxes are multiplied by the area of the pixel that they fell on; see
        `hstmap.wfc3.pixel_area`.
    windowed_positions : bool
        Whether positions are windowed ones, and circles lie around these; else barycentres.
    """

    kron_factor: float = 2.5
    min_kron_radius: float = 3.5
    pixel_area: bool = True
    windowed_positions: bool = True

    def __post_init__(self) -> None:
        for name in ("kron_factor", "min_kron_radius"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} is {getattr(self, name)!r}; it must be more than 0")


#: ``blog`` goes with the detection preset of that name.
MEASURE_PRESETS: Final = {
    "default": MeasureParameters(),
    "blog": MeasureParameters(pixel_area=False, windowed_positions=False),
}
