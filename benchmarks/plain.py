"""A catalogue as one writes it with astropy and SEP alone: one function, one file, no hstmap.

It makes the same measurements as hstmap's default, by the same calls of SEP, with its columns. It
leaves out what a script would: magnitudes of point sources behind masked pixels, the bits of data
quality around sources, and the depth by empty apertures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import sep
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

APERTURES_ARCSEC = (0.15, 0.45)
PIXEL_ARCSEC = 0.128
#: The pixel-area map of WFC3/IR is 1 there; from 0.
REFERENCE_PIXEL = (556.0, 556.0)
ZERO_POINT_OF_FLAM = -2.408


def plain_catalog(path: str, out: str, settings: dict[str, Any]) -> int:
    """Make the catalogue of an FLT file.

    Parameters
    ----------
    path : str
        The file.
    out : str
        Folder for the catalogue, a FITS table.
    settings : dict
        hstmap's parameters, flat: ``{"detection.threshold": 1.5, ...}``.

    Returns
    -------
    int
        Number of sources.
    """
    table = make_table(path, settings)
    name = Path(path).name.partition("_")[0]
    table.write(Path(out, f"{name}_cat.fits"), format="fits", overwrite=True)
    return len(table)


def make_table(path: str, settings: dict[str, Any]) -> Table:
    """Measure the sources of an FLT file.

    Parameters
    ----------
    path : str
    settings : dict
        As of `plain_catalog`.

    Returns
    -------
    astropy.table.Table
        One row a source; positions count from 0.
    """
    with fits.open(path) as hdus:
        primary, science = hdus[0].header, hdus["SCI"].header
        data = hdus["SCI"].data.astype(np.float32)
        err = hdus["ERR"].data.astype(np.float32)
        mask = (hdus["DQ"].data & settings["read.mask_bits"]) != 0
        mask |= ~np.isfinite(data) | ~(err > 0)
        wcs = WCS(science, hdus)
    data[mask] = 0
    data, err = _flat(data, err, mask, settings)
    objects = _extract(data, err, mask, settings)
    table = Table(objects)
    _measure(table, (data, err, mask), settings)
    _calibrate(table, wcs, primary)
    return table


def _flat(
    data: np.ndarray, err: np.ndarray, mask: np.ndarray, settings: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Take the background off, and scale the errors to the noise that is there."""
    mesh, size = settings["detection.mesh"], settings["detection.mesh_filter"]
    background = sep.Background(data, mask=mask, bw=mesh, bh=mesh, fw=size, fh=size)
    data = data - background.back()
    data[mask] = 0
    sample = (slice(None, None, 8),) * 2
    used = ~mask[sample]
    return data, err * np.median(background.rms()[sample][used] / err[sample][used])


def _extract(
    data: np.ndarray, err: np.ndarray, mask: np.ndarray, settings: dict[str, Any]
) -> np.ndarray:
    """Find the sources."""
    size = settings["detection.kernel_size"]
    offset = np.arange(size) - size // 2
    sigma = settings["detection.kernel_fwhm"] / 2.3548200450309493
    profile = np.exp(-0.5 * (offset / sigma) ** 2)
    kernel = np.outer(profile, profile)
    return sep.extract(
        data,
        settings["detection.threshold"],
        err=err,
        mask=mask,
        minarea=settings["detection.min_pixels"],
        filter_kernel=(kernel / kernel.sum()).astype(np.float32),
        filter_type=settings["detection.filter_type"],
        deblend_nthresh=settings["detection.deblend_n_thresholds"],
        deblend_cont=settings["detection.deblend_contrast"],
        clean_param=settings["detection.clean"],
    )


def _measure(table: Table, planes: tuple[np.ndarray, ...], settings: dict[str, Any]) -> None:
    """Add positions, fluxes and radii."""
    data, err, mask = planes
    x, y, a, b = (np.asarray(table[name]) for name in ("x", "y", "a", "b"))
    theta = np.clip(table["theta"], -np.pi / 2, np.pi / 2)
    xwin, ywin, _ = sep.winpos(data, x, y, np.full(len(x), 1.3), mask=mask, subpix=1)
    ran_away = ~(np.hypot(xwin - x, ywin - y) <= 1.5)
    table["x_win"], table["y_win"] = np.where(ran_away, x, xwin), np.where(ran_away, y, ywin)
    kron, flag = sep.kron_radius(data, x, y, a, b, theta, 6.0, mask=mask)
    scale, least = settings["measure.kron_factor"] * kron, settings["measure.min_kron_radius"]
    small = ~(scale * np.sqrt(a * b) >= least)
    flux, flux_err, _ = sep.sum_ellipse(
        data, x, y, a, b, theta, np.where(small, 1.0, scale), err=err, mask=mask, subpix=5
    )
    flux[small], flux_err[small], _ = sep.sum_circle(
        data, x[small], y[small], least, err=err, mask=mask, subpix=5
    )
    reach = np.where(small, least, scale * a)
    half = _half_light_radii((data, mask), (x, y), flux, reach)
    columns = {"kron_radius": kron, "flux_auto": flux, "flux_auto_err": flux_err}
    columns |= {"half_light_radius": half, "kron_flag": flag}
    for i, radius in enumerate(APERTURES_ARCSEC, start=1):
        flux, flux_err, _ = sep.sum_circle(
            data, table["x_win"], table["y_win"], radius / PIXEL_ARCSEC, err=err, mask=mask,
            subpix=5,
        )  # fmt: skip
        columns |= {f"flux_aper_{i}": flux, f"flux_aper_{i}_err": flux_err}
    for name, values in columns.items():
        table[name] = values


def _half_light_radii(
    planes: tuple[np.ndarray, np.ndarray],
    places: tuple[np.ndarray, np.ndarray],
    flux: np.ndarray,
    reach: np.ndarray,
) -> np.ndarray:
    """Look for half of the light near the middle first, and not as closely far from it."""
    half = np.full(len(flux), np.nan)
    todo = flux > 0
    for window in (reach / 2, reach):
        for some, n_samples in ((todo & (window < 5), 5), (todo & (window >= 5), 3)):
            half[some], _ = sep.flux_radius(
                planes[0], *(place[some] for place in places), window[some], 0.5,
                normflux=flux[some], mask=planes[1], subpix=n_samples,
            )  # fmt: skip
        todo &= half >= window
    return half


def _calibrate(table: Table, wcs: WCS, primary: fits.Header) -> None:
    """Add places on the sky, correct fluxes for the pixels' areas, and add magnitudes."""
    x, y = np.asarray(table["x_win"]), np.asarray(table["y_win"])
    table["ra"], table["dec"] = wcs.all_pix2world(x, y, 0)
    table["pixel_area"] = _area(wcs, x, y) / _area(wcs, *REFERENCE_PIXEL)
    zero_point = (
        -2.5 * np.log10(primary["PHOTFLAM"])
        - 5 * np.log10(primary["PHOTPLAM"])
        + ZERO_POINT_OF_FLAM
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        for name in ("auto", "aper_1", "aper_2"):
            flux = table[f"flux_{name}"]
            table[f"mag_{name}_err"] = 2.5 / np.log(10) * table[f"flux_{name}_err"] / flux
            table[f"flux_{name}"] = flux * table["pixel_area"]
            table[f"mag_{name}"] = zero_point - 2.5 * np.log10(table[f"flux_{name}"])


def _area(wcs: WCS, x: Any, y: Any) -> Any:
    """Give the areas of pixels on the sky, square degrees."""
    east, north = (
        np.subtract(wcs.all_pix2world(x + dx, y + dy, 0), wcs.all_pix2world(x - dx, y - dy, 0))
        for dx, dy in ((0.5, 0.0), (0.0, 0.5))
    )
    _, dec = wcs.all_pix2world(x, y, 0)
    return np.abs(east[0] * north[1] - east[1] * north[0]) * np.cos(np.radians(dec))
