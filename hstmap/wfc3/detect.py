"""Finding the sources of an image: background, noise, extraction by SEP.

SEP (Barbary 2016, JOSS 1, 58) is the C core of SExtractor (Bertin & Arnouts 1996, A&AS 117, 393).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sep

from hstmap.errors import ExtractionError, RejectedImageError

if TYPE_CHECKING:
    from hstmap.wfc3.image import Image
    from hstmap.wfc3.parameters import DetectionParameters

__all__ = ["Detection", "detect", "gaussian_kernel"]

#: SEP's own start values of its two limits.
_PIXEL_STACK: Final = 300_000
_SUB_OBJECT_LIMIT: Final = 1024
#: SEP touches all of its stack: 18 MB of its own size. Frames that were tried, real ones and a
#: simulated one of 3,700 sources, fill 1,100 to 15,100 places of it.
_SMALL_PIXEL_STACK: Final = 50_000
#: A stack entry takes some 60 bytes: this many stay below 100 MB, whatever the background.
_LARGEST_PIXEL_STACK: Final = 1_500_000
_PIXEL_STACK_MESSAGE: Final = "internal pixel buffer full"
_DEBLENDING_MESSAGE: Final = "object deblending overflow"
#: The noise is compared on every n-th pixel of both axes: 16,000 of them give its median to 1 %.
_NOISE_STRIDE: Final = 8
_FWHM_PER_SIGMA: Final = 2.0 * math.sqrt(2.0 * math.log(2.0))


@dataclass(frozen=True, eq=False)
class Detection:
    """Sources of an image, and the planes to measure them on.

    Attributes
    ----------
    objects : numpy.ndarray
        SEP's structured array, one row a source.
    data : numpy.ndarray
        float32, shape (ny, nx): the image less its background, electron/s.
    background : numpy.ndarray
        float32, shape (ny, nx): that background.
    err : numpy.ndarray
        float32, shape (ny, nx): one sigma of a pixel, brought to the measured rms.
    mask : numpy.ndarray
        bool, shape (ny, nx): True where a pixel is not used.
    background_level, background_rms : float
        Of the whole image, electron/s a pixel.
    error_scale : float
        What the image's own errors were multiplied by.
    relaxed : str
        Which milder settings it took, empty if none.
    """

    objects: Any
    data: np.ndarray
    background: np.ndarray
    err: np.ndarray
    mask: np.ndarray
    background_level: float
    background_rms: float
    error_scale: float
    relaxed: str


@lru_cache(maxsize=8)
def gaussian_kernel(fwhm: float, size: int) -> np.ndarray | None:
    """Sample a round Gaussian at the centres of pixels.

    Parameters
    ----------
    fwhm : float
        Full width at half maximum, pixels; 0 for no kernel.
    size : int
        Side of the kernel, an odd number of pixels.

    Returns
    -------
    numpy.ndarray or None
        float32, shape (size, size), of sum 1, read-only: it is made once.
    """
    if fwhm == 0:
        return None
    offset = np.arange(size, dtype=np.float64) - size // 2
    profile = np.exp(-0.5 * (offset * _FWHM_PER_SIGMA / fwhm) ** 2)
    kernel = np.outer(profile, profile)
    normalized: np.ndarray = (kernel / kernel.sum()).astype(np.float32)
    normalized.flags.writeable = False
    return normalized


def _median(values: np.ndarray) -> float:
    """Return the median of a row of floats, to the last bit that of `numpy.median`.

    It takes a third of the time: numpy partitions fast at one place, and its median asks for three.
    """
    middle = len(values) // 2
    ordered = np.partition(values, middle)
    # NaN comes last in the order.
    if np.isnan(ordered[middle:].max()):
        return math.nan
    if len(values) % 2:
        return float(ordered[middle])
    return float(np.mean([ordered[:middle].max(), ordered[middle]], dtype=values.dtype))


def subtract_background(image: Image, parameters: DetectionParameters) -> Detection:
    """Model and subtract the background, and bring the errors to the noise that is there.

    Parameters
    ----------
    image : Image
        Its data are changed in place: the background is taken off.
    parameters : DetectionParameters
        Of which the mesh is used.

    Returns
    -------
    Detection
        Still without objects.

    Raises
    ------
    RejectedImageError
        If the image has no noise at all, so that no threshold can be set.
    """
    size = parameters.mesh_filter
    model = sep.Background(
        image.data, mask=image.mask, bw=parameters.mesh, bh=parameters.mesh, fw=size, fh=size
    )
    rms = model.rms()
    sample = (slice(None, None, _NOISE_STRIDE), slice(None, None, _NOISE_STRIDE))
    noise = np.ascontiguousarray(rms[sample])
    # SEP's own global rms is set to 1 where there is none.
    if not (noise.max() > 0 or rms.max() > 0):
        raise RejectedImageError(
            "no_noise", "the pixels have no scatter at all: no threshold can be set"
        )
    scale, err = 1.0, rms
    if image.err is not None:
        used = ~image.mask[sample]
        if not used.any():
            used = np.ones_like(used)
        scale = _median(noise[used] / image.err[sample][used])
        err = np.multiply(image.err, np.float32(scale), out=image.err)
    del rms  # mostly: so that there is one plane less beside the background
    background = model.back()
    data = np.subtract(image.data, background, out=image.data)
    # SEP 1.4 smooths the first rows before it looks at the mask: what lies under it would leak.
    first = slice(0, 2 * parameters.kernel_size)
    data[first][image.mask[first]] = 0.0
    return Detection(
        objects=None,
        data=data,
        background=background,
        err=err,
        mask=image.mask,
        background_level=float(model.globalback),
        background_rms=float(model.globalrms),
        error_scale=scale,
        relaxed="",
    )


@contextmanager
def _sep_limits(pixel_stack: int, sub_object_limit: int) -> Iterator[None]:
    """Set SEP's limits, which are the whole process', for a while."""
    sep.set_extract_pixstack(pixel_stack)
    sep.set_sub_object_limit(sub_object_limit)
    try:
        yield
    finally:
        sep.set_extract_pixstack(_PIXEL_STACK)
        sep.set_sub_object_limit(_SUB_OBJECT_LIMIT)


@dataclass(frozen=True)
class _Rung:
    """One step of the ladder of ever milder settings."""

    pixel_stack: int = _PIXEL_STACK
    sub_object_limit: int = _SUB_OBJECT_LIMIT
    n_thresholds: int = 32
    contrast: float = 0.0
    threshold_factor: float = 1.0

    def described(self) -> str:
        """Say what was used, for the image's notes."""
        deblending = (
            "no deblending" if self.contrast == 1.0 else f"{self.n_thresholds} deblending levels"
        )
        return (
            f"{self.pixel_stack} pixels and {self.sub_object_limit} sub-objects at most, "
            f"{deblending}, threshold x {self.threshold_factor:g}"
        )


@lru_cache(maxsize=8)
def _ladder(parameters: DetectionParameters, n_pixels: int) -> tuple[_Rung, ...]:
    """List the settings to try: larger limits, coarser deblending, a higher threshold."""
    first = _Rung(
        n_thresholds=parameters.deblend_n_thresholds, contrast=parameters.deblend_contrast
    )
    # No image fills more of the stack than it has pixels.
    larger = replace(
        first,
        pixel_stack=max(_PIXEL_STACK, min(n_pixels + 1, _LARGEST_PIXEL_STACK)),
        sub_object_limit=4 * _SUB_OBJECT_LIMIT,
    )
    coarser = replace(larger, n_thresholds=min(8, first.n_thresholds))
    whole = replace(larger, n_thresholds=1, contrast=1.0)
    return (
        replace(first, pixel_stack=_SMALL_PIXEL_STACK),
        first,
        larger,
        coarser,
        whole,
        *(replace(whole, threshold_factor=factor) for factor in (2.0, 4.0, 8.0)),
    )


def extract(detection: Detection, parameters: DetectionParameters) -> Detection:
    """Extract the sources, with ever milder settings where SEP's limits are hit.

    Parameters
    ----------
    detection : Detection
        From `subtract_background`.
    parameters : DetectionParameters
        How to find sources.

    Returns
    -------
    Detection
        The same with its objects.

    Raises
    ------
    ExtractionError
        If the mildest settings hit a limit, too.
    """
    kernel = gaussian_kernel(parameters.kernel_fwhm, parameters.kernel_size)
    rungs = _ladder(parameters, detection.data.size)
    for i, rung in enumerate(rungs):
        try:
            with _sep_limits(rung.pixel_stack, rung.sub_object_limit):
                objects = sep.extract(
                    detection.data,
                    parameters.threshold * rung.threshold_factor,
                    err=detection.err,
                    mask=detection.mask,
                    minarea=parameters.min_pixels,
                    filter_kernel=kernel,
                    filter_type=parameters.filter_type,
                    deblend_nthresh=rung.n_thresholds,
                    deblend_cont=rung.contrast,
                    clean=parameters.clean > 0,
                    clean_param=parameters.clean or 1.0,
                )
        except Exception as error:  # SEP raises it for both overflows
            if not _is_overflow(error):
                raise
        else:
            return replace(detection, objects=objects, relaxed=rung.described() if i > 1 else "")
    raise ExtractionError(
        "too_many_pixels",
        f"SEP's limits were hit at {rungs[-1].described()} too: the background is not one",
    )


def _is_overflow(error: Exception) -> bool:
    """Tell SEP's two overflows, which have no type of their own, from anything else."""
    return any(text in str(error) for text in (_PIXEL_STACK_MESSAGE, _DEBLENDING_MESSAGE))


def detect(image: Image, parameters: DetectionParameters) -> Detection:
    """Find the sources of an image.

    Parameters
    ----------
    image : Image
        Its planes are used up: background and error scale are applied in place.
    parameters : DetectionParameters
        How to find sources.

    Returns
    -------
    Detection

    Raises
    ------
    RejectedImageError
        If the image has no noise.
    ExtractionError
        If SEP's limits are hit with the mildest settings, too.
    """
    return extract(subtract_background(image, parameters), parameters)
