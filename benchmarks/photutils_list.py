"""photutils on an image of ours, set to what hstmap does.

Background on the same mesh by SExtractor's estimator, noise from the scaled ERR, the same kernel,
threshold, least area, deblending levels and contrast, Kron factor and least radius. photutils has
no CLEAN, and divides the levels of deblending otherwise.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from hstmap.wfc3.detect import gaussian_kernel, subtract_background
from hstmap.wfc3.photometry import aperture_radii

if TYPE_CHECKING:
    from hstmap.batch import RunParameters
    from hstmap.wfc3.image import Image


COLUMNS = ("x", "y", "flux_auto", "mag_auto", "flux_aper_2", "snr")


def run_photutils(image: Image, parameters: RunParameters) -> dict[str, Any]:
    """Run photutils on an image.

    Parameters
    ----------
    image : Image
        As read; its planes stay as they are.
    parameters : RunParameters
        What hstmap would do with it.

    Returns
    -------
    dict of str to numpy.ndarray
        Columns x and y (from 0), flux_auto, mag_auto, flux_aper_2, snr.
    """
    from photutils.segmentation import SourceCatalog, deblend_sources, detect_sources

    detection = parameters.detection
    err = None if image.err is None else image.err.copy()
    copy = dataclasses.replace(image, data=image.data.copy(), err=err)
    err = subtract_background(copy, detection).err
    data = np.where(image.mask, 0, image.data - _background(image, parameters))
    convolved = _convolved(data, parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        segments = detect_sources(
            convolved, detection.threshold * err, detection.min_pixels, mask=image.mask
        )
        if segments is None:
            return {name: [] for name in COLUMNS}
        segments = deblend_sources(
            convolved, segments, detection.min_pixels,
            n_levels=detection.deblend_n_thresholds, contrast=detection.deblend_contrast,
            progress_bar=False,
        )  # fmt: skip
        catalog = SourceCatalog(
            data, segments, convolved_data=convolved, error=err, mask=image.mask,
            aperture_mask_method="none",
            kron_params=(parameters.measure.kron_factor, 1e-6, parameters.measure.min_kron_radius),
        )  # fmt: skip
        aperture, _ = catalog.circular_photometry(aperture_radii(image.info)[1])
        flux, flux_err = np.asarray(catalog.kron_flux), np.asarray(catalog.kron_flux_err)
        zero_point = image.info.zero_point_ab or 0.0
        return {
            "x": np.asarray(catalog.x_centroid),
            "y": np.asarray(catalog.y_centroid),
            "flux_auto": flux,
            "mag_auto": zero_point - 2.5 * np.log10(np.where(flux > 0, flux, np.nan)),
            "flux_aper_2": np.asarray(aperture),
            "snr": flux / flux_err,
        }


def _background(image: Image, parameters: RunParameters) -> np.ndarray:
    from photutils.background import Background2D, SExtractorBackground

    model = Background2D(
        image.data,
        parameters.detection.mesh,
        mask=image.mask,
        filter_size=parameters.detection.mesh_filter,
        bkg_estimator=SExtractorBackground(),
        # Of a quarter of a frame without data, a box may have few pixels.
        exclude_percentile=90.0,
    )
    return np.asarray(model.background)


def _convolved(data: np.ndarray, parameters: RunParameters) -> np.ndarray:
    from scipy.ndimage import convolve

    kernel = gaussian_kernel(parameters.detection.kernel_fwhm, parameters.detection.kernel_size)
    return data if kernel is None else convolve(data, kernel, mode="constant")
