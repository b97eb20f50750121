"""Every column of the catalogues, once: name, dtype, unit, UCD, description, SExtractor's name.

Two tables are described: *sources*, one row a source, and *images*, one row an image. Units are
astropy unit strings, UCDs are words of the `UCD1+ vocabulary
<https://www.ivoa.net/documents/UCD1+/>`_. A float without a value is NaN, a text without a value
is empty: readers that know no nulls (FITS) and readers that do (Parquet) then agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = [
    "APERTURE_RADII_ARCSEC",
    "FAILED_OUTCOMES",
    "FLAGS",
    "IMAGES_KEY",
    "IMAGE_COLUMNS",
    "OUTCOMES",
    "POINT_LIKE_MAG",
    "POINT_LIKE_SIGMA",
    "SOURCE_COLUMNS",
    "SUMMARY_COLUMNS",
    "TIMED_STEPS",
    "UPPER_LIMIT_SIGMA",
    "Column",
    "catalog_columns",
    "source_columns_of_image",
]

#: Radii of the two circular apertures, as the Hubble Advanced Products use for WFC3/IR
#: (DrizzlePac handbook, "HAP point source catalogs"), in arcsec.
APERTURE_RADII_ARCSEC: Final = (0.15, 0.45)

#: Where a flux is not positive, its magnitude is that of so many of its errors.
UPPER_LIMIT_SIGMA: Final = 3.0

#: A source is point-like if its concentration lies within this of a star's, mag, or within
#: `POINT_LIKE_SIGMA` of its errors. Stars scatter so much because the pixels undersample them.
POINT_LIKE_MAG: Final = 0.15
POINT_LIKE_SIGMA: Final = 2.0

#: Key in a part's metadata that holds the rows of its images, as JSON.
IMAGES_KEY: Final = "hstmap.images"

#: How a row of the manifest can end.
OUTCOMES: Final = ("ok", "empty", "rejected", "failed", "missing", "forbidden")

#: Those of images that were wanted and not had, which another attempt may better.
FAILED_OUTCOMES: Final = ("failed", "missing", "forbidden")

#: Bits of the column ``flags``. Those up to 128 are SEP's own (its ``OBJ_*`` and ``APER_*``);
#: what is said of the Kron ellipse holds for the circle that takes its place where it is small.
FLAGS: Final = MappingProxyType(
    {
        1: "blended: deblended from a neighbour",
        2: "truncated by the edge of the image",
        4: "deblending gave up: too many sub-objects",
        8: "singular shape: the second moments are degenerate",
        16: "the Kron ellipse is truncated by the edge of the image",
        32: "the Kron ellipse holds masked pixels; the flux makes up for their area",
        64: "the Kron ellipse is masked altogether",
        128: "the Kron radius is undefined: the flux inside is not positive",
        256: "mag_auto is an upper limit: flux_auto is not positive",
        512: "saturated: a pixel within 0.45 arcsec has the saturation bit",
    }
)


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    name : str
        Its name in every table that hstmap writes.
    dtype : str
        Numpy's short name, ``"f4"``, ``"f8"``, ``"i2"``, ``"i4"`` or ``"i8"``, or ``"str"``.
    unit : str
        An astropy unit string, empty where there is none.
    ucd : str
        Unified content descriptor (UCD1+).
    description : str
        One sentence.
    sextractor : str
        The name that SExtractor gives this quantity, empty where it has none.
    of_image : bool
        The value is the same for all sources of an image, so that a catalogue of one image
        keeps it in its header instead.
    """

    name: str
    dtype: str
    unit: str
    ucd: str
    description: str
    sextractor: str = ""
    of_image: bool = False


def _flux(name: str, what: str, sextractor: str) -> tuple[Column, ...]:
    """Describe a flux, its magnitude and the errors of both."""
    error_alias, magnitude_alias, magnitude_error_alias = (
        sextractor.replace("FLUX", word) for word in ("FLUXERR", "MAG", "MAGERR")
    )
    return (
        Column(f"flux_{name}", "f4", "1 / s", "phot.flux;em.IR",
               f"Flux {what}, electrons a second, background subtracted", sextractor),
        Column(f"flux_{name}_err", "f4", "1 / s", "stat.error;phot.flux;em.IR",
               f"One sigma error of flux_{name}", error_alias),
        Column(f"mag_{name}", "f4", "mag", "phot.mag;em.IR",
               f"AB magnitude of flux_{name}, or the upper limit of 3 sigma where that is not "
               "positive; NaN where the image has no zero point", magnitude_alias),
        Column(f"mag_{name}_err", "f4", "mag", "stat.error;phot.mag;em.IR",
               f"One sigma error of mag_{name}; NaN where that is an upper limit",
               magnitude_error_alias),
    )  # fmt: skip


SOURCE_COLUMNS: Final[tuple[Column, ...]] = (
    Column("rootname", "str", "", "meta.id;obs.image", "Rootname of the image", of_image=True),
    Column("number", "i4", "", "meta.id;meta.main", "Number of the source in its image, from 1",
           "NUMBER"),
    Column("filter", "str", "", "instr.bandpass", "Filter of the image", of_image=True),
    Column("exposure_start_mjd", "f8", "d", "time.start;obs.exposure",
           "Start of the exposure, modified Julian date (UTC)", of_image=True),
    Column("exposure_s", "f4", "s", "time.duration;obs.exposure", "Exposure time", of_image=True),
    Column("x", "f8", "pix", "pos.cartesian.x;instr.det",
           "Windowed position along x, the centre of the first pixel is 0 (FITS counts from 1)",
           "XWIN_IMAGE"),
    Column("y", "f8", "pix", "pos.cartesian.y;instr.det",
           "Windowed position along y, the centre of the first pixel is 0 (FITS counts from 1)",
           "YWIN_IMAGE"),
    Column("x_barycentre", "f8", "pix", "pos.cartesian.x;pos.barycenter",
           "Barycentre of its pixels along x, counted from 0", "X_IMAGE"),
    Column("y_barycentre", "f8", "pix", "pos.cartesian.y;pos.barycenter",
           "Barycentre of its pixels along y, counted from 0", "Y_IMAGE"),
    Column("ra", "f8", "deg", "pos.eq.ra;meta.main",
           "Right ascension (ICRS); NaN where the image has no usable WCS", "ALPHA_J2000"),
    Column("dec", "f8", "deg", "pos.eq.dec;meta.main",
           "Declination (ICRS); NaN where the image has no usable WCS", "DELTA_J2000"),
    Column("x_min", "i2", "pix", "pos.cartesian.x;stat.min", "Smallest x of its pixels",
           "XMIN_IMAGE"),
    Column("x_max", "i2", "pix", "pos.cartesian.x;stat.max", "Largest x of its pixels",
           "XMAX_IMAGE"),
    Column("y_min", "i2", "pix", "pos.cartesian.y;stat.min", "Smallest y of its pixels",
           "YMIN_IMAGE"),
    Column("y_max", "i2", "pix", "pos.cartesian.y;stat.max", "Largest y of its pixels",
           "YMAX_IMAGE"),
    Column("n_pixels", "i4", "", "phys.area;instr.pixel", "Number of pixels above the threshold",
           "ISOAREA_IMAGE"),
    Column("a", "f4", "pix", "phys.angSize.smajAxis", "Semi-major axis: rms along it", "A_IMAGE"),
    Column("b", "f4", "pix", "phys.angSize.sminAxis", "Semi-minor axis: rms along it", "B_IMAGE"),
    Column("theta", "f4", "deg", "pos.posAng",
           "Angle of the major axis, from +x towards +y, from -90 to 90", "THETA_IMAGE"),
    Column("position_angle", "f4", "deg", "pos.posAng;pos.eq",
           "Angle of the major axis on the sky, from north towards east, 0 to 180",
           "THETA_J2000"),
    Column("kron_radius", "f4", "", "stat.weight;phys.angSize",
           "Kron radius in units of a and b", "KRON_RADIUS"),
    *_flux("auto", "in the Kron ellipse", "FLUX_AUTO"),
    *_flux("aper_1", f"in a circle of {APERTURE_RADII_ARCSEC[0]} arcsec radius", "FLUX_APER"),
    *_flux("aper_2", f"in a circle of {APERTURE_RADII_ARCSEC[1]} arcsec radius", "FLUX_APER_1"),
    *_flux("point", "of a point source: what flux_aper_2 saw over its share of a star's light",
           "FLUX_POINT"),
    Column("masked_share", "f4", "", "arith.factor;phot.flux",
           "Share of a point source's light within 0.45 arcsec that fell on masked pixels, which "
           "flux_point makes up for; flux_point is NaN if that is more than 0.7"),
    Column("half_light_radius", "f4", "pix", "phys.angSize;src",
           "Radius that holds half of flux_auto; NaN where that is not positive", "FLUX_RADIUS"),
    Column("concentration", "f4", "mag", "src.morph.param",
           "Concentration index: mag_aper_1 less mag_aper_2; NaN where a flux is not positive"),
    Column("point_like", "i2", "", "src.class.starGalaxy",
           f"Is 1 if the concentration is a star's within {POINT_LIKE_MAG} mag or "
           f"{POINT_LIKE_SIGMA:g} sigma, 0 if not, -1 if that cannot be told"),
    Column("pixel_area", "f4", "", "arith.factor;instr.pixel",
           "Area of the pixel on the sky over that of the reference pixel, by which all fluxes "
           "are multiplied; 1 in drizzled images"),
    Column("peak", "f4", "1 / s", "phot.flux;stat.max",
           "Brightest pixel as it is, background subtracted", "FLUX_MAX"),
    Column("background", "f4", "1 / s", "instr.background",
           "Background subtracted at the source, a pixel", "BACKGROUND"),
    Column("snr", "f4", "", "stat.snr", "flux_auto divided by its error"),
    Column("dq", "i4", "", "meta.code.qual",
           "Data quality bits of the pixels within 0.45 arcsec, or-ed", "IMAFLAGS_ISO"),
    Column("flags", "i2", "", "meta.code.qual;src",
           "Flags of extraction and photometry, or-ed", "FLAGS"),
)  # fmt: skip

#: What only the summary has, because it is made from the others when parts are merged.
SUMMARY_COLUMNS: Final = (
    Column("_healpix_29", "i8", "", "pos.healpix",
           "HEALPix index of the position, nested, order 29; -1 where there is none"),
)  # fmt: skip

#: What a worker times for every image, in the order in which it happens.
TIMED_STEPS: Final = ("read", "background", "extract", "measure", "write")

IMAGE_COLUMNS: Final[tuple[Column, ...]] = (
    Column("rootname", "str", "", "meta.id;meta.main", "Rootname of the image"),
    Column("key", "str", "", "meta.ref.url", "Where the image was read from"),
    Column("outcome", "str", "", "meta.code.status", "One of: " + ", ".join(OUTCOMES)),
    Column("reason", "str", "", "meta.code", "Why the image has no sources, in one word"),
    Column("message", "str", "", "meta.note", "The same in one line"),
    Column("n_sources", "i4", "", "meta.number;src", "Number of its sources"),
    Column("product", "str", "", "meta.id;obs.image", "Kind of product: flt, drz, ima or image"),
    Column("filter", "str", "", "instr.bandpass", "Filter"),
    Column("target", "str", "", "meta.id;src", "Target's name, the proposer's"),
    Column("program_id", "i4", "", "meta.id;obs.proposal", "Number of the programme, 0 if unknown"),
    Column("aperture", "str", "", "meta.id;instr", "Aperture's name"),
    Column("exposure_start_mjd", "f8", "d", "time.start;obs.exposure",
           "Start of the exposure, modified Julian date (UTC)"),
    Column("exposure_s", "f4", "s", "time.duration;obs.exposure", "Exposure time"),
    Column("ra", "f8", "deg", "pos.eq.ra", "Right ascension of the image's centre (ICRS)"),
    Column("dec", "f8", "deg", "pos.eq.dec", "Declination of the image's centre (ICRS)"),
    Column("nx", "i4", "pix", "pos.cartesian.x;instr.det", "Width of the image"),
    Column("ny", "i4", "pix", "pos.cartesian.y;instr.det", "Height of the image"),
    Column("pixel_scale", "f4", "arcsec / pix", "instr.scale", "Pixel scale at the centre"),
    Column("n_masked", "i4", "", "meta.number;instr.pixel", "Number of masked pixels"),
    Column("background", "f4", "1 / s", "instr.background", "Background, a pixel"),
    Column("background_rms", "f4", "1 / s", "stat.stdev;instr.background",
           "Its rms, a pixel"),
    Column("error_scale", "f4", "", "arith.factor",
           "Factor that brought the image's errors to the measured rms"),
    Column("zero_point", "f4", "mag", "phot.mag;arith.zp",
           "AB magnitude of 1 electron/s; NaN without photometry keywords"),
    Column("depth_5sigma", "f4", "mag", "phot.mag;stat.min",
           "AB magnitude of 5 times the scatter of empty 0.45 arcsec apertures"),
    Column("noise_ratio", "f4", "", "arith.factor;instr.det.noise",
           "That scatter over what single pixels' errors make of it: above 1, noise is "
           "correlated and errors of fluxes are that much too small"),
    Column("err_kind", "str", "", "meta.note",
           "What errors come from: error (ERR, with the sources' own noise), weight or none"),
    Column("aperture_share_1", "f4", "", "arith.factor;phot.flux",
           f"Share of a point source's light within {APERTURE_RADII_ARCSEC[0]} arcsec"),
    Column("aperture_share_2", "f4", "", "arith.factor;phot.flux",
           f"Share of a point source's light within {APERTURE_RADII_ARCSEC[1]} arcsec"),
    Column("n_saturated", "i4", "", "meta.number;instr.pixel",
           "Number of pixels with the saturation bit"),
    Column("footprint", "str", "", "pos.outline;obs.field",
           "Outline on the sky: POLYGON ICRS and right ascension and declination (deg) of corners"),
    Column("wcs_name", "str", "", "pos.wcs", "Name of the astrometric solution"),
    Column("cal_ver", "str", "", "meta.version;meta.software", "Version of the calibration"),
    Column("notes", "str", "", "meta.note", "What was odd about the image, and what was done"),
    Column("catalog", "str", "", "meta.ref",
           "Key of the FITS file that has its catalogue, if one was written"),
    Column("catalog_hdu", "str", "", "meta.id;meta.table",
           "Name of the extension of that file which is its table"),
    Column("catalog_start", "i8", "byte", "meta.number", "Where in that file the extension begins"),
    Column("catalog_nbytes", "i8", "byte", "meta.number", "Size of the extension"),
    Column("part", "str", "", "meta.ref", "Key of the part that holds its sources"),
    Column("etag", "str", "", "meta.id", "The store's tag of the version that was read"),
    Column("nbytes", "i8", "byte", "meta.number", "Size of the image's file"),
    Column("nbytes_read", "i8", "byte", "meta.number", "Bytes of it that were read"),
    *(Column(f"{step}_s", "f4", "s", "time.duration", f"Time of the step: {step}")
      for step in TIMED_STEPS),
)  # fmt: skip


def source_columns_of_image() -> tuple[Column, ...]:
    """Columns of the sources that have one value an image.

    Returns
    -------
    tuple of Column
    """
    return tuple(column for column in SOURCE_COLUMNS if column.of_image)


def catalog_columns() -> tuple[Column, ...]:
    """Columns of the catalogue of one image: all that differ from source to source.

    Returns
    -------
    tuple of Column
    """
    return tuple(column for column in SOURCE_COLUMNS if not column.of_image)
