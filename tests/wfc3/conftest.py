"""Small FITS files with the structure of WFC3/IR products, made on the spot."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

PRIMARY_CARDS = {
    "TELESCOP": "HST",
    "INSTRUME": "WFC3",
    "DETECTOR": "IR",
    "ROOTNAME": "iaaa01abq",
    "FILENAME": "iaaa01abq_flt.fits",
    "FILETYPE": "SCI",
    "OBSTYPE": "IMAGING",
    "IMAGETYP": "EXT",
    "TARGNAME": "FIELD-1",
    "RA_TARG": 53.1,
    "DEC_TARG": -27.8,
    "PROPOSID": 11359,
    "FILTER": "F160W",
    "APERTURE": "IRSUB64",
    "SAMP_SEQ": "SPARS25",
    "SUBARRAY": True,
    "SCAN_TYP": "N",
    "MTFLAG": " ",
    "FGSLOCK": "FINE",
    "EXPFLAG": "NORMAL",
    "EXPSTART": 55107.5,
    "EXPEND": 55107.6,
    "EXPTIME": 302.9,
    "UNITCORR": "COMPLETE",
    "CAL_VER": "3.7.1",
    "PHOTFLAM": 1.9275602e-20,
    "PHOTPLAM": 15369.176,
    "PHOTFNU": 1.5187624e-07,
    "NEXTEND": 5,
}
SCIENCE_CARDS = {
    "BUNIT": "ELECTRONS/S",
    "LTV1": -475.0,
    "LTV2": -475.0,
    "WCSAXES": 2,
    "CRPIX1": 32.0,
    "CRPIX2": 32.0,
    "CRVAL1": 53.07,
    "CRVAL2": -27.71,
    "CTYPE1": "RA---TAN-SIP",
    "CTYPE2": "DEC--TAN-SIP",
    "CUNIT1": "deg",
    "CUNIT2": "deg",
    "CD1_1": 3.61463870307918e-05,
    "CD1_2": 9.42240787708118e-06,
    "CD2_1": 1.04281468758741e-05,
    "CD2_2": -3.2253250026097e-05,
    "RADESYS": "ICRS",
    "WCSNAME": "IDC_w3m18525i",
    "ORIENTAT": 163.71,
    "A_ORDER": 2,
    "A_1_1": 2.44176437155426e-05,
    "A_2_0": -2.0701735553551e-07,
    "A_0_2": 2.77482030873749e-08,
    "B_ORDER": 2,
    "B_1_1": -2.8538202053351e-07,
    "B_2_0": 6.92276069494587e-06,
    "B_0_2": 2.98815054868485e-05,
}


@dataclass
class FltRecipe:
    """What to put into a small FLT; `cards` replace the usual ones, None deletes one."""

    sci: Any = None
    err: Any = None
    dq: Any = None
    cards: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, int] = (64, 64)


def flt_hdus(recipe: FltRecipe) -> fits.HDUList:
    """Make the HDUs of an FLT: PRIMARY, SCI, ERR, DQ, SAMP, TIME."""
    rng = np.random.default_rng(1)
    default_sci = rng.normal(1.0, 0.1, recipe.shape)
    sci = np.asarray(default_sci if recipe.sci is None else recipe.sci, dtype=np.float32)
    err = np.full(sci.shape, 0.1) if recipe.err is None else recipe.err
    dq = np.zeros(sci.shape) if recipe.dq is None else recipe.dq
    hdus = fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.ImageHDU(sci, name="SCI"),
            fits.ImageHDU(np.asarray(err, dtype=np.float32), name="ERR"),
            fits.ImageHDU(np.asarray(dq, dtype=np.int16), name="DQ"),
            fits.ImageHDU(np.full(sci.shape, 11, dtype=np.int16), name="SAMP"),
            fits.ImageHDU(np.full(sci.shape, 302.9, dtype=np.float32), name="TIME"),
        ]
    )
    cards = (PRIMARY_CARDS | SCIENCE_CARDS) | recipe.cards
    for keyword, value in cards.items():
        is_primary = keyword in PRIMARY_CARDS or keyword not in SCIENCE_CARDS
        if value is not None:
            hdus[0 if is_primary else 1].header[keyword] = value
    return hdus


def to_bytes(hdus: fits.HDUList) -> bytes:
    """Return the file of some HDUs."""
    buffer = io.BytesIO()
    hdus.writeto(buffer)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def make_flt() -> Callable[..., bytes]:
    """A maker of small FLT files: ``make_flt(sci=..., cards={"FILTER": "G141"})``."""
    return lambda **recipe: to_bytes(flt_hdus(FltRecipe(**recipe)))
