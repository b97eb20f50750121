"""What WFC3/IR is: its filters, its detector's noise, its distortion.

Constants only, and the few formulae that turn them into a WCS and a pixel-area map. They
describe the instrument to the simulation. Measuring takes everything from a file's own header and
has code of its own for it, so that a mistake on one side shows on the other.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from hstmap.errors import UsageError
from hstmap.wfc3.encircled_energy import PIXEL_SIZE_ARCSEC

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "DARK_E_S",
    "DETECTOR_SIZE",
    "FILTERS",
    "FULL_WELL_E",
    "PIXEL_SCALE_ARCSEC",
    "SUBARRAY_SIZES",
    "Filter",
    "Pointing",
    "detector_wcs",
    "find_filter",
    "pixel_area_map",
    "ramp_read_noise_e",
    "reference_pixel_area_arcsec2",
    "subarray_offset",
]

DETECTOR_SIZE = 1014
"""Light-sensitive pixels on a side of a calibrated full frame."""

SUBARRAY_SIZES = (64, 128, 256, 512)
"""Sizes of the subarrays, all centred on the detector (WFC3 Instrument Handbook, 5.6.2)."""

DARK_E_S = 0.048
"""Median dark current in e-/s/pixel (WFC3 Instrument Handbook, 5.7.2)."""

FULL_WELL_E = 77_900.0
"""Mean full well of a pixel in electrons (WFC3 Instrument Handbook, Table 5.1)."""

CDS_READ_NOISE_E = 20.0
"""Read noise of the difference of two reads in electrons (READNSEA to D of real headers)."""

PIXEL_SCALE_ARCSEC = 0.12825
"""Nominal scale of a rectified pixel (IDCTAB's IDCSCALE, the default of AstroDrizzle)."""


@dataclass(frozen=True)
class Filter:
    """One filter of the IR channel.

    Attributes
    ----------
    name : str
        Name as in the keyword FILTER.
    photflam : float
        Inverse sensitivity in erg / cm2 / Angstrom / electron (keyword PHOTFLAM).
    photplam, photbw : float
        Pivot wavelength and rms bandwidth in Angstrom (keywords PHOTPLAM, PHOTBW).
    sky_e_s : float
        A usual background of zodiacal light, airglow and telescope in e-/s/pixel.
    """

    name: str
    photflam: float
    photplam: float
    photbw: float
    sky_e_s: float

    @property
    def photfnu(self) -> float:
        """Inverse sensitivity in Jy s / electron (keyword PHOTFNU)."""
        speed_of_light_angstrom_s = 2.99792458e18
        return self.photflam * self.photplam**2 / speed_of_light_angstrom_s * 1e23

    @property
    def zero_point_ab(self) -> float:
        """AB magnitude of 1 e-/s in an infinite aperture (WFC3 Data Handbook, 9.1.1)."""
        return -2.5 * math.log10(self.photflam) - 5.0 * math.log10(self.photplam) - 2.408


# PHOTFLAM, PHOTPLAM and PHOTBW as headers calibrated with the IMPHTTAB of 2012
# (wbj1825ri_imp.fits) hold them, so that all filters are of one calibration.
FILTERS = {
    each.name: each
    for each in (
        Filter("F098M", 6.0501567e-20, 9864.7227, 500.84, 0.45),
        Filter("F105W", 3.0385782e-20, 10551.046, 845.61804, 0.75),
        Filter("F110W", 1.5274129e-20, 11534.459, 1428.4883, 1.25),
        Filter("F125W", 2.2483417e-20, 12486.06, 866.28125, 0.60),
        Filter("F140W", 1.4737148e-20, 13922.907, 1132.39, 0.75),
        Filter("F160W", 1.9275602e-20, 15369.176, 826.25085, 0.65),
    )
}


def find_filter(name: str) -> Filter:
    """Return the filter of a name.

    Raises
    ------
    UsageError
        If it is none that can be simulated.
    """
    try:
        return FILTERS[name.upper()]
    except KeyError:
        known = ", ".join(FILTERS)
        raise UsageError(f"filter {name!r} cannot be simulated; give one of {known}") from None


def ramp_read_noise_e(n_samples: int) -> float:
    """Read noise that a straight line through evenly spaced reads leaves.

    Parameters
    ----------
    n_samples : int
        Number of reads, at least 2.

    Returns
    -------
    float
        Electrons on the accumulated signal. About 20 for 2 reads and 12 for 16, as the WFC3
        Instrument Handbook (5.7.3) gives them. Formula: Garnett & Forrest 1993, SPIE 1946, 395.
    """
    single_read_variance = CDS_READ_NOISE_E**2 / 2.0
    return math.sqrt(12.0 * (n_samples - 1) / (n_samples * (n_samples + 1)) * single_read_variance)


# The published geometry of the channel: the polynomials of IDCTAB w3m18525i_idc.fits for F140W
# as archive headers write them, first-order terms in arcsec/pixel (OCX, OCY), the others as SIP
# about pixel (507, 507). One set serves all filters here.
_OCX10, _OCX11 = 0.000786257500294596, 0.1354287266731262
_OCY10, _OCY11 = 0.1209582984447479, -0.00042557646520435
REFERENCE_PIXEL = 507.0
AREA_REFERENCE_PIXEL = 557.0  # Where the published pixel-area map is 1 (WFC3 ISR 2010-08).
SIP_ORDER = 4
SIP_A = {
    (0, 2): 2.77482030873749e-08,
    (0, 3): 4.55691839657869e-11,
    (0, 4): -2.0083179974495e-13,
    (1, 1): 2.44176437155426e-05,
    (1, 2): 3.11477338242516e-11,
    (1, 3): 6.08832045645843e-13,
    (2, 0): -2.0701735553551e-07,
    (2, 1): 1.22255499299390e-10,
    (2, 2): 1.11275247848408e-13,
    (3, 0): -1.9851733613323e-10,
    (3, 1): 4.13947711822547e-13,
    (4, 0): -3.2156784473326e-13,
}
SIP_B = {
    (0, 2): 2.98815054868485e-05,
    (0, 3): -2.2777970488111e-10,
    (0, 4): 1.03978470894974e-12,
    (1, 1): -2.8538202053351e-07,
    (1, 2): 7.47270961118588e-11,
    (1, 3): 1.69983940010457e-13,
    (2, 0): 6.92276069494587e-06,
    (2, 1): -2.3836656728517e-10,
    (2, 2): 1.38557115814168e-13,
    (3, 0): 5.14014553890418e-11,
    (3, 1): 3.81044199963010e-13,
    (4, 0): -5.7352409055905e-13,
}


@dataclass(frozen=True)
class Pointing:
    """Where the detector's reference pixel points.

    Attributes
    ----------
    ra, dec : float
        ICRS position of pixel (507, 507), 1-based, of a full frame, in degrees.
    orientation_deg : float
        Position angle of the detector's y axis, east of north (keyword ORIENTAT).
    """

    ra: float
    dec: float
    orientation_deg: float

    def moved(self, x_arcsec: float, y_arcsec: float) -> Pointing:
        """Return the pointing after a move along the detector's axes (a POSTARG).

        A sky position that was at pixel (507, 507) is found `x_arcsec` and `y_arcsec` further
        along the detector's x and y axes.
        """
        header = fits.Header()
        _put_linear_terms(header, self)
        header.update(CRPIX1=0.0, CRPIX2=0.0)
        header.update(CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=self.ra, CRVAL2=self.dec)
        x_pixels = -x_arcsec / PIXEL_SIZE_ARCSEC[0]
        y_pixels = -y_arcsec / PIXEL_SIZE_ARCSEC[1]
        ra, dec = WCS(header).wcs_pix2world(x_pixels, y_pixels, 1)
        return Pointing(float(ra), float(dec), self.orientation_deg)


def _put_linear_terms(header: fits.Header, pointing: Pointing) -> None:
    """Write the CD matrix: IDCTAB's first-order terms turned to the orientation."""
    # V-frame axes (X, Y) of a step along y are (OCX10, OCY10); ORIENTAT is the angle of that step.
    angle = math.radians(pointing.orientation_deg) + math.atan2(_OCX10, _OCY10)
    cosine, sine = math.cos(angle), math.sin(angle)
    for axis, (x_term, y_term) in enumerate(((_OCX11, _OCY11), (_OCX10, _OCY10)), start=1):
        header[f"CD1_{axis}"] = (-x_term * cosine + y_term * sine) / 3600.0
        header[f"CD2_{axis}"] = (x_term * sine + y_term * cosine) / 3600.0


def subarray_offset(size: int) -> int:
    """Return how many full-frame pixels lie before a centred subarray of `size` pixels."""
    return (DETECTOR_SIZE - size) // 2


def detector_wcs(pointing: Pointing, size: int = DETECTOR_SIZE) -> fits.Header:
    """Make the WCS keywords of a calibrated frame.

    Parameters
    ----------
    pointing : Pointing
        Where the detector looks.
    size : int
        Pixels on a side; smaller than a full frame for a subarray.

    Returns
    -------
    astropy.io.fits.Header
        TAN-SIP keywords of order 4 with the LTV offsets of a subarray; a `WCS` can be made of it.
    """
    header = fits.Header()
    offset = subarray_offset(size)
    header["WCSAXES"] = (2, "number of World Coordinate System axes")
    header["CRPIX1"] = (REFERENCE_PIXEL - offset, "x-coordinate of reference pixel")
    header["CRPIX2"] = (REFERENCE_PIXEL - offset, "y-coordinate of reference pixel")
    header["CRVAL1"] = (pointing.ra, "first axis value at reference pixel")
    header["CRVAL2"] = (pointing.dec, "second axis value at reference pixel")
    header["CTYPE1"] = ("RA---TAN-SIP", "the coordinate type for the first axis")
    header["CTYPE2"] = ("DEC--TAN-SIP", "the coordinate type for the second axis")
    _put_linear_terms(header, pointing)
    header["LTV1"] = (-float(offset), "offset in X to subsection start")
    header["LTV2"] = (-float(offset), "offset in Y to subsection start")
    header["LTM1_1"] = (1.0, "reciprocal of sampling rate in X")
    header["LTM2_2"] = (1.0, "reciprocal of sampling rate in Y")
    header["ORIENTAT"] = (pointing.orientation_deg, "position angle of image y axis (deg. e of n)")
    header["RA_APER"] = (pointing.ra, "RA of aperture reference position")
    header["DEC_APER"] = (pointing.dec, "Declination of aperture reference position")
    header["PA_APER"] = (pointing.orientation_deg, "Position Angle of reference aperture center")
    header["VAFACTOR"] = (1.0, "velocity aberration plate scale factor")
    header["RADESYS"] = "ICRS"
    header["A_ORDER"] = SIP_ORDER
    header["B_ORDER"] = SIP_ORDER
    for letter, terms in (("A", SIP_A), ("B", SIP_B)):
        for (power_x, power_y), value in terms.items():
            header[f"{letter}_{power_x}_{power_y}"] = value
    header["OCX10"], header["OCX11"] = _OCX10, _OCX11
    header["OCY10"], header["OCY11"] = _OCY10, _OCY11
    header["IDCSCALE"] = PIXEL_SCALE_ARCSEC
    return header


def _sip_slopes(
    terms: dict[tuple[int, int], float],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the coefficient matrices of a SIP polynomial's slopes along x and along y."""
    along_x = np.zeros((SIP_ORDER, SIP_ORDER + 1))
    along_y = np.zeros((SIP_ORDER + 1, SIP_ORDER))
    for (power_x, power_y), value in terms.items():
        if power_x:
            along_x[power_x - 1, power_y] = power_x * value
        if power_y:
            along_y[power_x, power_y - 1] = power_y * value
    return along_x, along_y


@functools.lru_cache(maxsize=5)
def pixel_area_map(size: int = DETECTOR_SIZE) -> npt.NDArray[np.float64]:
    """Area of every pixel relative to that of pixel (557, 557) of a full frame.

    Flat-fielding makes the sky's surface brightness even, so that a point source's counts in a
    calibrated frame come out divided by the area of its pixels; multiplying by this map restores
    them (Kalirai et al. 2010, WFC3 ISR 2010-08).

    Parameters
    ----------
    size : int
        Pixels on a side; smaller than a full frame for a centred subarray.

    Returns
    -------
    ndarray of float64, shape (size, size)
        Read-only; kept for the next call.
    """
    first = subarray_offset(size) + 1 - REFERENCE_PIXEL
    steps = first + np.arange(size, dtype=np.float64)
    reference = np.array([AREA_REFERENCE_PIXEL - REFERENCE_PIXEL])
    area: npt.NDArray[np.float64] = _pixel_area(steps) / _pixel_area(reference)[0, 0]
    area.flags.writeable = False
    return area


def reference_pixel_area_arcsec2() -> float:
    """Area on the sky of the pixel where the pixel-area map is 1, in arcsec squared."""
    linear = abs(_OCX11 * _OCY10 - _OCX10 * _OCY11)
    reference = np.array([AREA_REFERENCE_PIXEL - REFERENCE_PIXEL])
    return float(linear * _pixel_area(reference)[0, 0])


def _pixel_area(steps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the Jacobian of the SIP distortion on the grid `steps` x `steps` as [y, x]."""
    polygrid = np.polynomial.polynomial.polygrid2d
    (a_x, a_y), (b_x, b_y) = _sip_slopes(SIP_A), _sip_slopes(SIP_B)
    area = (1.0 + polygrid(steps, steps, a_x)) * (1.0 + polygrid(steps, steps, b_y))
    area -= polygrid(steps, steps, a_y) * polygrid(steps, steps, b_x)
    return np.ascontiguousarray(area.T)
