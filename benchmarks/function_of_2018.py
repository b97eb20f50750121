"""What the function of 2018 did for one image, written afresh from its description.

github.com/spacetelescope/astropy-sep-lambda: one call an image; a DRZ file with its weights, opened
by astropy; SEP with a mesh of 32 pixels, 2 sigma, 8 pixels and a kernel of 7 x 7 pixels; Kron
magnitudes, a FITS table written by astropy, and a picture of the image with its sources. Here the
file is local, so that neither download nor upload counts, and positions on the sky are right.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import sep
from astropy import units
from astropy.convolution import Gaussian2DKernel
from astropy.io import fits
from astropy.stats import gaussian_fwhm_to_sigma
from astropy.table import Table
from astropy.wcs import WCS

KRON_FACTOR, LEAST_KRON_RADIUS = 2.5, 3.5


def write_drz(flt: Path, path: Path, mask_bits: int) -> None:
    """Turn an FLT file into what the function takes: SCI, and weights instead of errors.

    Parameters
    ----------
    flt, path : Path
        What to read and to write.
    mask_bits : int
        Bits of data quality that make a weight 0.
    """
    with fits.open(flt) as hdus, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        err = hdus["ERR"].data.astype(np.float32)
        good = ((hdus["DQ"].data & mask_bits) == 0) & (err > 0)
        weight = np.where(good, 1 / np.where(good, err, 1) ** 2, 0).astype(np.float32)
        science = fits.ImageHDU(np.where(good, hdus["SCI"].data, 0), hdus["SCI"].header, name="SCI")
        # The distortion's tables of an FLT are not part of a drizzled image.
        for card in [name for name in science.header if name.startswith(("D2IM", "CPDIS", "DP"))]:
            del science.header[card]
        made = fits.HDUList([hdus[0].copy(), science, fits.ImageHDU(weight, name="WHT")])
        made.writeto(path, overwrite=True)


def process_image(path: str, out: str, picture: bool = True) -> int:
    """Make catalogue and picture of one image.

    Parameters
    ----------
    path : str
        A DRZ file.
    out : str
        Folder.
    picture : bool
        Whether to draw one.

    Returns
    -------
    int
        Number of sources.
    """
    with fits.open(path) as hdus, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wcs = WCS(hdus[1].header, relax=True)
        pixels = hdus[1].data.astype(np.float32)
        weight = hdus[2].data.astype(np.float32)
        primary = hdus[0].header
        zero_point = (
            -2.5 * np.log10(primary["PHOTFLAM"]) - 5 * np.log10(primary["PHOTPLAM"]) - 2.408
        )
        with np.errstate(divide="ignore"):
            err = 1 / np.sqrt(weight)
        err[~np.isfinite(err)] = 0
        catalog = _catalog(pixels, err, wcs, zero_point)
    root = Path(path).name.partition("_")[0]
    if picture:
        _draw(pixels, catalog, Path(out, f"{root}.png"))
    catalog.write(Path(out, f"{root}.catalog.fits"), format="fits", overwrite=True)
    return len(catalog)


def _catalog(pixels: np.ndarray, err: np.ndarray, wcs: WCS, zero_point: float) -> Table:
    mask = err == 0
    background = sep.Background(pixels, mask=mask, bw=32, bh=32, fw=3, fh=3)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = background.rms() / err
    err = err * np.median(ratio[~mask & np.isfinite(ratio)])
    sigma = 2.0 * gaussian_fwhm_to_sigma
    kernel = Gaussian2DKernel(sigma, x_size=7, y_size=7)
    kernel.normalize()
    data = pixels - background.back()
    catalog = Table(
        sep.extract(
            data, 2.0, err=err, mask=mask, minarea=8, filter_kernel=kernel.array,
            filter_type="conv", deblend_nthresh=32, deblend_cont=0.005, clean=True, clean_param=1.0,
        )
    )  # fmt: skip
    catalog["number"] = np.arange(len(catalog), dtype=np.int32) + 1
    catalog["theta"] = np.clip(catalog["theta"], -np.pi / 2, np.pi / 2)
    for name in ("a", "b", "x", "y", "theta"):
        catalog = catalog[np.isfinite(catalog[name])]
    catalog["ra"], catalog["dec"] = wcs.all_pix2world(catalog["x"], catalog["y"], 0)
    catalog["ra"].unit = catalog["dec"].unit = units.deg
    shape = [np.asarray(catalog[name]) for name in ("x", "y", "a", "b", "theta")]
    radius, flag = sep.kron_radius(data, *shape, 6.0)
    radius = radius * KRON_FACTOR
    radius[~np.isfinite(radius)] = LEAST_KRON_RADIUS
    radius = np.maximum(radius, LEAST_KRON_RADIUS)
    flux, flux_err, flux_flag = sep.sum_ellipse(data, *shape, radius, subpix=5, err=err)
    with np.errstate(divide="ignore", invalid="ignore"):
        catalog["mag_auto"] = zero_point - 2.5 * np.log10(flux)
        catalog["magerr_auto"] = 2.5 / np.log(10) * flux_err / flux
    catalog["kron_radius"] = radius * units.pixel
    catalog["kron_flag"], catalog["kron_flux_flag"] = flag, flux_flag
    return catalog


def _draw(pixels: np.ndarray, catalog: Table, path: Path) -> None:
    low, high = np.percentile(np.nan_to_num(pixels), (1, 99))
    scaled = np.uint8((np.clip(np.nan_to_num(pixels), low, high) - low) / (high - low) * 255)
    figure, axes = plt.subplots(figsize=(12, 12))
    axes.imshow(scaled, cmap="Greys", clim=(0, 255), origin="lower")
    axes.plot(
        catalog["x"], catalog["y"], "o", markeredgewidth=1, markeredgecolor="red",
        markerfacecolor="None",
    )  # fmt: skip
    figure.savefig(path)
    plt.close(figure)
