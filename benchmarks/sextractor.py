"""SExtractor itself on an image of ours, set to what hstmap does.

Where the two are configured alike, and where they cannot be:

- SExtractor models the background from the pixels as they are, with the masked ones told as bad,
  in a run of its own. The sources are found and measured in another, on the image less that.
- The noise is ERR, scaled as hstmap scales it, as an rms map. SExtractor convolves that as well,
  and leaves out whatever its kernel reaches from a bad pixel: a hole of 5 x 5 for each, which
  breaks stars into pieces. So the second run is not told of masked pixels: they hold 0 and the
  usual noise. That adds nothing to their neighbours, as in SEP; only that they themselves can
  belong to a source is SExtractor's own.
- hstmap sums a circle of a least radius where the Kron ellipse is smaller. That is PHOT_AUTOAPERS;
  the second number of PHOT_AUTOPARAMS is another thing, a least Kron radius in units of a and b.
- Masked pixels add nothing to SExtractor's sums; hstmap makes up for them. Fluxes can be compared
  where an aperture has none.
- SExtractor takes whole pixels into its ellipses, hstmap their shares.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

from hstmap.wfc3.detect import gaussian_kernel, subtract_background
from hstmap.wfc3.photometry import aperture_radii

if TYPE_CHECKING:
    from hstmap.batch import RunParameters
    from hstmap.wfc3.detect import Detection
    from hstmap.wfc3.image import Image

COLUMNS = (
    "NUMBER", "X_IMAGE", "Y_IMAGE", "A_IMAGE", "B_IMAGE", "THETA_IMAGE", "ISOAREA_IMAGE",
    "KRON_RADIUS", "FLUX_AUTO", "FLUXERR_AUTO", "MAG_AUTO", "MAGERR_AUTO", "FLUX_APER(2)",
    "FLUX_RADIUS", "BACKGROUND", "FLAGS",
)  # fmt: skip
BAD_RMS = 1e20


def find_sextractor() -> str | None:
    """Give the path of the program, under any of the names that it is installed by."""
    return next(filter(None, map(shutil.which, ("source-extractor", "sex", "sextractor"))), None)


def run_sextractor(image: Image, parameters: RunParameters, folder: Path) -> dict[str, Any]:
    """Run SExtractor on an image.

    Parameters
    ----------
    image : Image
        As read; its planes stay as they are.
    parameters : RunParameters
        What hstmap would do with it.
    folder : Path
        For files.

    Returns
    -------
    dict of str to numpy.ndarray
        SExtractor's columns by their names; positions count from 1.
    """
    program = find_sextractor()
    if program is None:
        raise FileNotFoundError("SExtractor is not installed: apt-get install source-extractor")
    flat = _flat(image, parameters)
    (folder / "columns.param").write_text("\n".join(COLUMNS) + "\n")
    (folder / "empty.sex").write_text("")
    _write_kernel(parameters, folder)
    rms = np.where(image.mask, np.float32(BAD_RMS), flat.err)
    _write_planes(image.data, rms, folder)
    background = {"CHECKIMAGE_TYPE": "BACKGROUND", "CHECKIMAGE_NAME": "background.fits"}
    options = _options(image, parameters)
    _run(program, folder, options | background | {"DETECT_THRESH": 1e4, "WEIGHT_THRESH": BAD_RMS})
    data = np.where(image.mask, 0, image.data - fits.getdata(folder / "background.fits"))
    usual = np.float32(np.median(flat.err[~image.mask]))
    _write_planes(data, np.where(image.mask, usual, flat.err), folder)
    _run(program, folder, options | {"BACK_TYPE": "MANUAL", "BACK_VALUE": 0.0})
    table = Table.read(folder / "out.cat", format="ascii.sextractor")
    return {name: np.asarray(table[name]) for name in table.colnames}


def prepare_sextractor(image: Image, parameters: RunParameters, folder: Path) -> None:
    """Write what a single run of SExtractor on an image needs, its command included.

    SExtractor models the background itself. Masked pixels hold hstmap's background and the usual
    noise, so that they hide nothing and add nothing.

    Parameters
    ----------
    image : Image
        As read; its planes stay as they are.
    parameters : RunParameters
    folder : Path
        The command, in ``command.json``, runs there; it still needs ``-CATALOG_NAME``.
    """
    program = find_sextractor()
    if program is None:
        raise FileNotFoundError("SExtractor is not installed: apt-get install source-extractor")
    flat = _flat(image, parameters)
    (folder / "columns.param").write_text("\n".join(COLUMNS) + "\n")
    (folder / "empty.sex").write_text("")
    _write_kernel(parameters, folder)
    usual = np.float32(np.median(flat.err[~image.mask]))
    _write_planes(
        np.where(image.mask, flat.background, image.data),
        np.where(image.mask, usual, flat.err),
        folder,
    )
    options = {k: v for k, v in _options(image, parameters).items() if k != "CATALOG_NAME"}
    (folder / "command.json").write_text(json.dumps(_command(program, options)))


def _flat(image: Image, parameters: RunParameters) -> Detection:
    """Let hstmap scale the errors, on a copy: it changes the planes in place."""
    err = None if image.err is None else image.err.copy()
    copy = dataclasses.replace(image, data=image.data.copy(), err=err)
    return subtract_background(copy, parameters.detection)


def _write_planes(data: np.ndarray, rms: np.ndarray, folder: Path) -> None:
    fits.writeto(folder / "image.fits", data.astype(np.float32), overwrite=True)
    fits.writeto(folder / "rms.fits", rms.astype(np.float32), overwrite=True)


def _write_kernel(parameters: RunParameters, folder: Path) -> None:
    kernel = gaussian_kernel(parameters.detection.kernel_fwhm, parameters.detection.kernel_size)
    lines = [] if kernel is None else [" ".join(f"{value:.9g}" for value in row) for row in kernel]
    (folder / "kernel.conv").write_text("CONV NORM\n" + "\n".join(lines) + "\n")


def _run(program: str, folder: Path, options: dict[str, Any]) -> None:
    subprocess.run(
        _command(program, options), cwd=folder, check=True, capture_output=True, text=True
    )


def _command(program: str, options: dict[str, Any]) -> list[str]:
    command = [program, "image.fits", "-c", "empty.sex"]
    for name, value in options.items():
        command += [f"-{name}", str(value)]
    return command


def _options(image: Image, parameters: RunParameters) -> dict[str, Any]:
    """Translate the parameters."""
    detection, measure = parameters.detection, parameters.measure
    diameters = ",".join(f"{2 * radius:.6f}" for radius in aperture_radii(image.info))
    return {
        "CATALOG_NAME": "out.cat",
        "CATALOG_TYPE": "ASCII_HEAD",
        "PARAMETERS_NAME": "columns.param",
        "DETECT_TYPE": "CCD",
        "DETECT_MINAREA": detection.min_pixels,
        "THRESH_TYPE": "RELATIVE",
        "DETECT_THRESH": detection.threshold,
        "ANALYSIS_THRESH": detection.threshold,
        "FILTER": "Y" if detection.kernel_fwhm else "N",
        "FILTER_NAME": "kernel.conv",
        "DEBLEND_NTHRESH": detection.deblend_n_thresholds,
        "DEBLEND_MINCONT": detection.deblend_contrast,
        "CLEAN": "Y" if detection.clean else "N",
        "CLEAN_PARAM": detection.clean or 1.0,
        "MASK_TYPE": "NONE",
        "WEIGHT_TYPE": "MAP_RMS",
        "WEIGHT_IMAGE": "rms.fits",
        "INTERP_TYPE": "NONE",
        "PHOT_APERTURES": diameters,
        "PHOT_AUTOPARAMS": f"{measure.kron_factor},0.0",
        "PHOT_AUTOAPERS": f"0.0,{2 * measure.min_kron_radius}",
        "PHOT_FLUXFRAC": 0.5,
        "SATUR_LEVEL": 1e12,
        "MAG_ZEROPOINT": image.info.zero_point_ab or 0.0,
        "GAIN": 0.0,
        "BACK_TYPE": "AUTO",
        "BACK_SIZE": detection.mesh,
        "BACK_FILTERSIZE": detection.mesh_filter,
        "BACKPHOTO_TYPE": "GLOBAL",
        "MEMORY_PIXSTACK": 1_500_000,
        "MEMORY_OBJSTACK": 20_000,
        "MEMORY_BUFSIZE": image.data.shape[0],
        "VERBOSE_TYPE": "QUIET",
    }
