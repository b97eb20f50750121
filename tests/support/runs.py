"""A small run whose images lie at awkward places, made once."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from pathlib import Path

from astropy.io import fits

from hstmap.cli import main
from hstmap.wfc3.simulate import simulate_flt
from hstmap.wfc3.simulate_scene import scene

#: Right ascension and declination of subarrays of 16 arcsec, deg.
PLACES = {
    "isim01a1q": (53.12, -27.80),
    "isim01a2q": (53.1215, -27.8005),  # beside the first, and over its edge
    "isim02a1q": (0.0002, 12.0),  # on both sides of 0 h
    "isim03a1q": (200.0, 89.9995),  # with the pole in it
    "isim04a1q": (80.0, -89.9990),
}
WITHOUT_WCS = "isim05a1q"
REJECTED = "ibad01a1q"


def subarray(rootname: str, ra: float, dec: float) -> bytes:
    parameters = dataclasses.replace(
        scene("normal"),
        subarray=128,
        filter_name="F160W",
        n_stars=5000,
        seed=int(rootname[4:6]),
        ra=ra,
        dec=dec,
    )
    return simulate_flt(parameters, rootname).content


def without_wcs(content: bytes) -> bytes:
    with fits.open(io.BytesIO(content)) as hdus:
        for keyword in ("CTYPE1", "CTYPE2"):
            del hdus["SCI"].header[keyword]
        file = io.BytesIO()
        hdus.writeto(file)
    return file.getvalue()


def write_run(folder: Path) -> Path:
    """Map images at `PLACES`, one without a WCS and a grism's; return the run, not yet reduced."""
    images = folder / "images"
    images.mkdir(parents=True)
    for rootname, place in PLACES.items():
        (images / f"{rootname}_flt.fits").write_bytes(subarray(rootname, *place))
    good = subarray(WITHOUT_WCS, *PLACES["isim01a1q"])
    (images / f"{WITHOUT_WCS}_flt.fits").write_bytes(without_wcs(good))
    grism = good.replace(b"FILTER  = 'F160W", b"FILTER  = 'G141 ")
    assert grism != good
    (images / f"{REJECTED}_flt.fits").write_bytes(grism)
    out = folder / "out"
    arguments = ["map", str(images), "--out", str(out), "--engine", "inprocess", "--no-catalogs"]
    with contextlib.redirect_stderr(io.StringIO()):
        assert main([*arguments, "--batch-size", "3", "--no-reduce", "--quiet"]) == 0
    return out
