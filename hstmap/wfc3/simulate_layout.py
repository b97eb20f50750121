"""The files: FLT and DRZ as the archive lays them out, header keyword by header keyword."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.time import Time

from hstmap.wfc3.simulate_instrument import (
    CDS_READ_NOISE_E,
    DARK_E_S,
    PIXEL_SCALE_ARCSEC,
    find_filter,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from hstmap.wfc3.simulate_detector import Exposure
    from hstmap.wfc3.simulate_scene import SceneParameters

__all__ = ["drz_bytes", "flt_bytes"]

_EPOCH_MJD = 56000.0  # Simulated exposures start in the ten years after March 2012.
_REFERENCE_BORDER = 5  # Rows and columns of reference pixels that raw subarrays have around them.
_SERIOUS_FLAGS = 31743


def flt_bytes(
    exposure: Exposure, wcs_header: fits.Header, parameters: SceneParameters, rootname: str
) -> bytes:
    """Write a calibrated exposure.

    Parameters
    ----------
    exposure : Exposure
        The planes.
    wcs_header : astropy.io.fits.Header
        WCS keywords of the frame.
    parameters : SceneParameters
        The scene.
    rootname : str
        Nine characters.

    Returns
    -------
    bytes
        A FITS file of PRIMARY and SCI, ERR, DQ, SAMP, TIME.
    """
    shape = exposure.sci.shape
    primary = fits.PrimaryHDU(header=_primary_header(parameters, rootname, "flt"))
    primary.header["NEXTEND"] = 5
    wcs = wcs_header.copy()
    wcs["WCSNAME"] = "IDC_w3m18525i"
    hdus = [primary]
    for name, plane in (("SCI", exposure.sci), ("ERR", exposure.err), ("DQ", exposure.dq)):
        header = _extension_header(name, rootname)
        header["BUNIT"] = ("UNITLESS" if name == "DQ" else "ELECTRONS/S", "brightness units")
        header.update(wcs)
        if name == "SCI":
            header.update(_readout_cards(parameters))
            header.update(_statistics(exposure))
        hdus.append(fits.ImageHDU(plane, header))
    # calwf3 counts the reads after the zeroth one.
    samples = np.full(shape, parameters.n_samples - 1, np.int16)
    times = np.full(shape, parameters.exposure_s, np.float32)
    for name, plane in (("SAMP", samples), ("TIME", times)):
        header = _extension_header(name, rootname)
        header["BUNIT"] = ("SECONDS" if name == "TIME" else "UNITLESS", "brightness units")
        hdus.append(fits.ImageHDU(plane, header))
    return _to_bytes(hdus)


def drz_bytes(
    planes: Mapping[str, npt.NDArray[Any]],
    wcs_header: fits.Header,
    parameters: SceneParameters,
    identity: Mapping[str, Any],
) -> bytes:
    """Write a rectified product.

    Parameters
    ----------
    planes : mapping of str to ndarray
        'SCI' (float32, e-/s per pixel, background subtracted), 'WHT' (float32, seconds) and 'CTX'
        (int32, bits of the exposures), all of one shape.
    wcs_header : astropy.io.fits.Header
        WCS keywords of the rectified grid.
    parameters : SceneParameters
        The scene of the first exposure.
    identity : mapping of str to value
        ROOTNAME, EXPTIME (the sum), NDRIZIM and MDRIZSKY.

    Returns
    -------
    bytes
        A FITS file of PRIMARY and SCI, WHT, CTX.
    """
    rootname = str(identity["ROOTNAME"])
    primary = fits.PrimaryHDU(header=_primary_header(parameters, rootname, "drz"))
    header = primary.header
    header["NEXTEND"] = 3
    header["EXPTIME"] = identity["EXPTIME"]
    header["TEXPTIME"] = identity["EXPTIME"]
    header["NDRIZIM"] = (identity["NDRIZIM"], "number of exposures that were drizzled")
    header["ASN_MTYP"] = "PROD-DTH"
    header["D001SCAL"] = (PIXEL_SCALE_ARCSEC, "Drizzle, pixel size (arcsec)")
    header["D001WTSC"] = ("exptime", "Drizzle, weights are exposure times")
    header["D001KERN"] = ("square", "Drizzle, kernel")
    header["D001PIXF"] = (1.0, "Drizzle, pixfrac")
    header.add_comment("Neighbouring pixels share light: their noise is correlated, and the rms of")
    header.add_comment("single pixels is smaller than the noise of sums over many of them implies.")
    hdus = [primary]
    for name in ("SCI", "WHT", "CTX"):
        extension = _extension_header(name, rootname)
        extension["BUNIT"] = ("ELECTRONS/S" if name == "SCI" else "UNITLESS", "brightness units")
        extension.update(wcs_header)
        extension["WCSNAME"] = "DRZWCS"
        if name == "SCI":
            extension["MDRIZSKY"] = (identity["MDRIZSKY"], "Sky value that was subtracted")
        hdus.append(fits.ImageHDU(planes[name], extension))
    return _to_bytes(hdus)


def _to_bytes(hdus: list[fits.PrimaryHDU | fits.ImageHDU]) -> bytes:
    buffer = io.BytesIO()
    fits.HDUList(hdus).writeto(buffer)
    return buffer.getvalue()


def _extension_header(name: str, rootname: str) -> fits.Header:
    header = fits.Header()
    header["INHERIT"] = (True, "inherit the primary header")
    header["EXTNAME"] = (name, "extension name")
    header["EXTVER"] = (1, "extension version number")
    header["ROOTNAME"] = (rootname, "rootname of the observation set")
    header["EXPNAME"] = (rootname, "exposure identifier")
    return header


def _primary_header(parameters: SceneParameters, rootname: str, product: str) -> fits.Header:
    header = fits.Header()
    header["ORIGIN"] = ("hstmap simulate", "this is a simulation, not an observation")
    header["DATE"] = (Time(_EPOCH_MJD, format="mjd").isot[:10], "fixed, for files that compare")
    groups = (
        _file_cards(rootname, product),
        _target_cards(parameters),
        _exposure_cards(parameters, rootname),
        _instrument_cards(parameters),
        _calibration_cards(product),
        _photometry_cards(parameters),
        _amplifier_cards(),
    )
    for cards in groups:
        for keyword, (value, comment) in cards.items():
            header[keyword] = (value, comment)
    header.add_history(f"Simulated scene {parameters.name!r}, seed {parameters.seed}.")
    return header


_Cards = dict[str, tuple[Any, str]]


def _file_cards(rootname: str, product: str) -> _Cards:
    association = f"{rootname[:6]}010" if product == "flt" else rootname
    return {
        "FILENAME": (f"{rootname}_{product}.fits", "name of file"),
        "FILETYPE": ("SCI", "type of data found in data file"),
        "TELESCOP": ("HST", "telescope used to acquire data"),
        "INSTRUME": ("WFC3", "identifier for instrument used to acquire data"),
        "EQUINOX": (2000.0, "equinox of celestial coord. system"),
        "ROOTNAME": (rootname, "rootname of the observation set"),
        "IMAGETYP": ("EXT", "type of exposure identifier"),
        "PRIMESI": ("WFC3", "instrument designated as prime"),
        "ASN_ID": (association.upper(), "unique identifier assigned to association"),
        "ASN_TAB": (f"{association}_asn.fits", "name of the association table"),
        "ASN_MTYP": ("EXP-DTH", "Role of the Member in the Association"),
    }


def _target_cards(parameters: SceneParameters) -> _Cards:
    return {
        "TARGNAME": (f"SIM-{parameters.name.upper()}-{parameters.seed}", "proposer's target name"),
        "RA_TARG": (parameters.ra, "right ascension of the target (deg) (J2000)"),
        "DEC_TARG": (parameters.dec, "declination of the target (deg) (J2000)"),
        "PROPOSID": (99999, "PEP proposal identifier"),
        "LINENUM": ("01.001", "proposal logsheet line number"),
        "PR_INV_L": ("Simulated", "last name of principal investigator"),
        "SUNANGLE": (120.0, "angle between sun and V1 axis"),
        "MOONANGL": (80.0, "angle between moon and V1 axis"),
        "SUN_ALT": (-20.0, "altitude of the sun above Earth's limb"),
        "FGSLOCK": ("FINE", "commanded FGS lock (FINE,COARSE,GYROS,UNKNOWN)"),
        "GYROMODE": ("T", "number of gyros scheduled, T=3+OBAD"),
        "REFFRAME": ("ICRS", "guide star catalog version"),
        "MTFLAG": ("", "moving target flag; T if it is a moving target"),
        # The y axis of the detector lies at V3 + 45 degrees, nearly.
        "PA_V3": ((parameters.orientation_deg - 44.67) % 360.0, "position angle of V3-axis of HST"),
        "POSTARG1": (parameters.dither_arcsec[0], "POSTARG in axis 1 direction"),
        "POSTARG2": (parameters.dither_arcsec[1], "POSTARG in axis 2 direction"),
    }


def _exposure_cards(parameters: SceneParameters, rootname: str) -> _Cards:
    # Other rootnames start at other times: the last four characters choose one in ten years.
    start = _EPOCH_MJD + int.from_bytes(rootname[-4:].encode(), "big") % 365_000 / 100.0
    begin, end = Time([start, start + parameters.exposure_s / 86400.0], format="mjd")
    date, time = begin.isot.split("T")
    return {
        "DATE-OBS": (date, "UT date of start of observation (yyyy-mm-dd)"),
        "TIME-OBS": (time[:8], "UT time of start of observation (hh:mm:ss)"),
        "EXPSTART": (round(begin.mjd, 8), "exposure start time (Modified Julian Date)"),
        "EXPEND": (round(end.mjd, 8), "exposure end time (Modified Julian Date)"),
        "EXPTIME": (parameters.exposure_s, "exposure duration (seconds)--calculated"),
        "EXPFLAG": ("NORMAL", "Exposure interruption indicator"),
        "QUALITY": ("", ""),
    }


def _instrument_cards(parameters: SceneParameters) -> _Cards:
    size = parameters.subarray
    interval = parameters.exposure_s / (parameters.n_samples - 1)
    sequence = min((5, 10, 25, 50, 100, 200), key=lambda each: abs(each - interval))
    return {
        "OBSTYPE": ("IMAGING", "observation type - imaging or spectroscopic"),
        "OBSMODE": ("MULTIACCUM", "operating mode"),
        "SCLAMP": ("NONE", "lamp status, NONE or name of lamp which is on"),
        "NRPTEXP": (1, "number of repeat exposures in set: default 1"),
        "SUBARRAY": (size is not None, "data from a subarray (T) or full frame (F)"),
        "SUBTYPE": (f"SQ{size}SUB" if size else "FULLIMAG", "Size/type of IR subarray"),
        "DETECTOR": ("IR", "detector in use: UVIS or IR"),
        "FILTER": (parameters.filter_name.upper(), "element selected from filter wheel"),
        "SAMP_SEQ": (f"SPARS{sequence}", "MultiAccum exposure time sequence name"),
        "NSAMP": (parameters.n_samples, "number of MULTIACCUM samples"),
        "SAMPZERO": (2.911756, "sample time of the zeroth read (sec)"),
        "APERTURE": (f"IRSUB{size}" if size else "IR", "aperture name"),
        "PROPAPER": ("", "proposed aperture name"),
        "DIRIMAGE": ("NONE", "direct image for grism or prism exposure"),
        "SAA_TIME": (0, "seconds since last exit from SAA contour 23"),
        "SCAN_TYP": ("N", "C:bostrophidon; D:C with dwell; N:N/A"),
        "CSMID": ("IR", "Channel Select Mechanism ID"),
    }


def _calibration_cards(product: str) -> _Cards:
    steps = (
        "DQICORR",
        "ZSIGCORR",
        "ZOFFCORR",
        "DARKCORR",
        "BLEVCORR",
        "NLINCORR",
        "FLATCORR",
        "CRCORR",
        "UNITCORR",
        "PHOTCORR",
    )
    return {
        **dict.fromkeys(steps, ("COMPLETE", "calibration step")),
        "RPTCORR": ("OMIT", "combine individual repeat observations"),
        "DRIZCORR": ("COMPLETE" if product == "drz" else "PERFORM", "drizzle processing"),
        "BPIXTAB": ("N/A", "bad pixel table"),
        "DARKFILE": ("N/A", "dark image file name"),
        "PFLTFILE": ("N/A", "pixel to pixel flat field file name"),
        "IMPHTTAB": ("N/A", "Image Photometry Table"),
        "IDCTAB": ("N/A", "image distortion correction table"),
        "NPOLFILE": ("N/A", "non-polynomial offsets"),
        "D2IMFILE": ("N/A", "detector to image correction"),
        "CAL_VER": ("3.7.2 (simulated)", "CALWF3 code version"),
    }


def _photometry_cards(parameters: SceneParameters) -> _Cards:
    band = find_filter(parameters.filter_name)
    return {
        "PHOTMODE": (f"WFC3 IR {band.name}", "observation con"),
        "PHOTFLAM": (band.photflam, "inverse sensitivity, ergs/cm2/Ang/electron"),
        "PHOTFNU": (float(f"{band.photfnu:.7e}"), "inverse sensitivity, Jy*sec/electron"),
        "PHOTZPT": (-21.1, "ST magnitude zero point"),
        "PHOTPLAM": (band.photplam, "Pivot wavelength (Angstroms)"),
        "PHOTBW": (band.photbw, "RMS bandwidth of filter plus detector"),
    }


def _amplifier_cards() -> _Cards:
    cards: _Cards = {
        "CCDAMP": ("ABCD", "CCD Amplifier Readout Configuration"),
        "CCDGAIN": (2.5, "commanded gain of CCD"),
    }
    for letter in "ABCD":
        cards[f"ATODGN{letter}"] = (2.35, f"calibrated gain for amplifier {letter}")
    for letter in "ABCD":
        cards[f"READNSE{letter}"] = (
            CDS_READ_NOISE_E,
            f"calibrated read noise for amplifier {letter}",
        )
    return cards


def _readout_cards(parameters: SceneParameters) -> fits.Header:
    header = fits.Header()
    raw_size = parameters.size + 2 * _REFERENCE_BORDER
    for axis in (1, 2):
        header[f"CENTERA{axis}"] = (513, f"subarray axis{axis} center pt in unbinned dect. pix")
        header[f"SIZAXIS{axis}"] = (raw_size, f"subarray axis{axis} size in unbinned pixels")
        header[f"BINAXIS{axis}"] = (1, f"axis{axis} data bin size in unbinned detector pixels")
    header["SAMPNUM"] = (parameters.n_samples - 1, "MULTIACCUM sample number")
    header["SAMPTIME"] = (parameters.exposure_s, "total integration time (sec)")
    header["NCOMBINE"] = (1, "number of image sets combined")
    return header


def _statistics(exposure: Exposure) -> fits.Header:
    header = fits.Header()
    good = exposure.sci[(exposure.dq & _SERIOUS_FLAGS) == 0]
    header["NGOODPIX"] = (int(good.size), "number of good pixels")
    header["SDQFLAGS"] = (_SERIOUS_FLAGS, "serious data quality flags")
    header["GOODMIN"] = (float(good.min()), "minimum value of good pixels")
    header["GOODMAX"] = (float(good.max()), "maximum value of good pixels")
    header["GOODMEAN"] = (float(good.mean()), "mean value of good pixels")
    header["MEANDARK"] = (DARK_E_S, "average of the dark values subtracted")
    return header
