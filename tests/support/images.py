"""Small images made on the spot: flat noise with stars of known flux."""

from __future__ import annotations

import dataclasses

import numpy as np
from astropy.wcs import WCS

from hstmap.wfc3.image import Image, ImageInfo

PIXEL_SCALE = 0.128
SIGMA = 0.9


def make_info(**changes):
    values = {field.name: None for field in dataclasses.fields(ImageInfo)}
    values |= {
        "rootname": "itest01aq", "product": "flt", "filter": "F160W", "target": "TEST",
        "aperture": "IR", "subarray": False, "samp_seq": "", "fgs_lock": "FINE",
        "exposure_s": 300.0, "exposure_start_mjd": 55000.0, "zero_point_ab": 25.94,
        "bunit": "ELECTRONS/S", "cal_ver": "3.5", "wcs_name": "TEST", "ltv1": 0.0, "ltv2": 0.0,
        "pixel_scale_arcsec": PIXEL_SCALE, "nx": 128, "ny": 128, "n_masked": 0,
        "n_saturated": 0, "err_kind": "error", "notes": (), "program_id": 11359,
    }  # fmt: skip
    return ImageInfo(**(values | changes))


def make_wcs(ra=53.1, dec=-27.8, centre=63.5):
    wcs = WCS(naxis=2)
    wcs.wcs.crpix = [centre + 1, centre + 1]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.cdelt = [-PIXEL_SCALE / 3600, PIXEL_SCALE / 3600]
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    return wcs


def make_image(stars=(), *, flux=50.0, noise=0.1, shape=(128, 128), seed=0, **info):
    """Gaussian stars of `SIGMA` pixels and one flux, in noise of one sigma a pixel."""
    rng = np.random.default_rng(seed)
    data = rng.normal(0.5, noise, shape) if noise else np.full(shape, 0.5)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for x0, y0 in stars:
        r2 = (x - x0) ** 2 + (y - y0) ** 2
        data += flux / (2 * np.pi * SIGMA**2) * np.exp(-r2 / 2 / SIGMA**2)
    return Image(
        data=data.astype(np.float32),
        err=np.full(shape, noise or 1.0, dtype=np.float32),
        mask=np.zeros(shape, dtype=bool),
        dq=np.zeros(shape, dtype=np.int16),
        info=make_info(nx=shape[1], ny=shape[0], **info),
        wcs=make_wcs(),
    )
