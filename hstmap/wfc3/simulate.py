"""Simulated WFC3/IR files with a table of the truth.

The files have the structure, the distortion, the noise and the defects of calibrated frames of the
archive, so that whatever reads those reads these; and since it is known what is in them, what is
measured on them can be judged.

Two properties of real frames that a test should know: a point source's counts in an FLT are its
flux divided by the pixel-area map, as flat-fielding leaves them (WFC3 ISR 2010-08), and its light
is spread as the WFC3 Instrument Handbook says and then integrated over pixels.
"""

from __future__ import annotations

import dataclasses
import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from astropy.table import Column, Table
from astropy.wcs import WCS

from hstmap.errors import UsageError
from hstmap.wfc3.simulate_detector import DQ, Exposure, expose
from hstmap.wfc3.simulate_drizzle import Rectifier
from hstmap.wfc3.simulate_instrument import detector_wcs, find_filter, pixel_area_map
from hstmap.wfc3.simulate_layout import drz_bytes, flt_bytes
from hstmap.wfc3.simulate_render import expected_snr, render
from hstmap.wfc3.simulate_scene import SCENES, SceneParameters, scene
from hstmap.wfc3.simulate_sky import SOURCE_COLUMNS, make_sources, make_star_grid, make_stars

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from astropy.io import fits

    FloatArray = npt.NDArray[np.float64]

__all__ = [
    "SCENES",
    "SceneParameters",
    "SimulatedImage",
    "make_sample",
    "make_sources",
    "make_star_grid",
    "make_stars",
    "sample_rootname",
    "sample_scenes",
    "scene",
    "simulate_dithers",
    "simulate_drz",
    "simulate_flt",
]

# Beyond it no exposure shares a pixel with the undithered frame.
_LARGEST_DITHER_ARCSEC = 200.0
# (name, unit, description) of the columns of a truth table.
_TRUTH_COLUMNS = (
    ("id", None, "Number of the source in its field: the same in every exposure of the field"),
    ("kind", None, "star or galaxy"),
    ("x", "pix", "Centre along the first axis, 0-based"),
    ("y", "pix", "Centre along the second axis, 0-based"),
    ("ra", "deg", "Right ascension (ICRS)"),
    ("dec", "deg", "Declination (ICRS)"),
    ("mag_ab", "mag", "AB magnitude"),
    ("flux", "1 / s", "Electrons a second in an infinite aperture, before the pixel-area effect"),
    ("snr", None, "Expected signal-to-noise ratio in a circle of 0.4 arcsec, wider for galaxies"),
    ("half_light_radius", "arcsec", "Semi-major axis of the ellipse with half of the light"),
    ("sersic_index", None, "Sersic index of a galaxy, 0 for a star"),
    ("axis_ratio", None, "Minor over major axis"),
    ("position_angle", "deg", "Of the major axis, east of north"),
    ("saturated", None, "Whether a pixel of the 3 x 3 around the centre is saturated"),
    (
        "dq",
        None,
        "OR of the DQ bits of the 3 x 3 pixels around the centre; in a DRZ, 2 for no data",
    ),
)


class SimulatedImage(NamedTuple):
    """One simulated file.

    Attributes
    ----------
    filename : str
        As the archive would name it.
    content : bytes
        The FITS file.
    truth : astropy.table.Table
        A row a source whose centre is in the frame: `id`, `kind`, `x`, `y`, `ra`, `dec`, `mag_ab`,
        `flux`, `snr`, `half_light_radius`, `sersic_index`, `axis_ratio`, `position_angle`,
        `saturated`, `dq`. Each column has its unit and a description.
    """

    filename: str
    content: bytes
    truth: Table

    @property
    def rootname(self) -> str:
        """The first nine characters of the file's name."""
        return self.filename.split("_", maxsplit=1)[0]


class _Frame(NamedTuple):
    header: fits.Header
    exposure: Exposure
    sources: Table
    xy: tuple[FloatArray, FloatArray]


def simulate_flt(
    parameters: SceneParameters, rootname: str, sources: Table | None = None
) -> SimulatedImage:
    """Simulate one calibrated exposure.

    Parameters
    ----------
    parameters : SceneParameters
        What is seen and how.
    rootname : str
        Nine characters, the first 'i', the last a letter, as of the archive's exposures. It seeds
        the noise: the same parameters and rootname give the same bytes.
    sources : astropy.table.Table, optional
        Sources to put there instead of those that the parameters draw; columns as of
        `make_sources`.

    Returns
    -------
    SimulatedImage

    Raises
    ------
    UsageError
        If the rootname is none.
    """
    rootname = _checked_rootname(rootname, ends_in_letter=True)
    frame = _make_frame(parameters, rootname, sources)
    content = flt_bytes(frame.exposure, frame.header, parameters, rootname)
    truth = _truth_table(frame.sources, frame.xy, frame.exposure.dq, parameters)
    return SimulatedImage(f"{rootname}_flt.fits", content, truth)


def simulate_dithers(
    parameters: SceneParameters,
    offsets_arcsec: Sequence[tuple[float, float]],
    rootnames: Sequence[str],
) -> list[SimulatedImage]:
    """Simulate exposures of one field, moved against each other.

    Parameters
    ----------
    parameters : SceneParameters
        Of all of them; its own dither is replaced.
    offsets_arcsec : sequence of (float, float)
        How far the sky is moved along the detector's x and y axes in each (POSTARG1, POSTARG2).
    rootnames : sequence of str
        One for each offset.

    Returns
    -------
    list of SimulatedImage
    """
    sources = make_sources(parameters)
    return [
        simulate_flt(dataclasses.replace(parameters, dither_arcsec=offset), rootname, sources)
        for offset, rootname in zip(offsets_arcsec, rootnames, strict=True)
    ]


def simulate_drz(
    parameters: SceneParameters,
    rootname: str,
    offsets_arcsec: Sequence[tuple[float, float]] = ((0.0, 0.0),),
    sources: Table | None = None,
) -> SimulatedImage:
    """Simulate a rectified product of one or several exposures.

    The exposures are those that `simulate_flt` makes; they are drizzled onto a grid without
    distortion, each pixel weighted with the exposure times of the good pixels that went into it.
    The background is subtracted, there is no pixel-area effect, and the noise of neighbouring
    pixels is correlated.

    Parameters
    ----------
    parameters : SceneParameters
        Of all exposures; its own dither is replaced.
    rootname : str
        Nine characters, the first 'i', the last a digit, as of the archive's products.
    offsets_arcsec : sequence of (float, float)
        Dither of each exposure; at most 31.
    sources : astropy.table.Table, optional
        As of `simulate_flt`.

    Returns
    -------
    SimulatedImage

    Raises
    ------
    UsageError
        If the rootname is none of a product, or there are too many exposures, or too far apart.
    """
    rootname = _checked_rootname(rootname, ends_in_letter=False)
    if not 1 <= len(offsets_arcsec) <= 31:
        raise UsageError(f"got {len(offsets_arcsec)} exposures for a product; expected 1 to 31")
    furthest = max(abs(shift) for pair in offsets_arcsec for shift in pair)
    if not furthest <= _LARGEST_DITHER_ARCSEC:
        raise UsageError(
            f"exposures of one product are moved by {furthest:g} arcsec; expected at most "
            f"{_LARGEST_DITHER_ARCSEC:g}, more than a frame"
        )
    sources = make_sources(parameters) if sources is None else sources
    rectifier = Rectifier(parameters, furthest)
    for number, offset in enumerate(offsets_arcsec):
        dithered = dataclasses.replace(parameters, dither_arcsec=offset)
        # No two may have one name: it seeds the noise. Those beyond z are no rootnames any more.
        frame = _make_frame(dithered, f"{rootname[:8]}{chr(ord('a') + number)}", sources)
        rectifier.add(frame.exposure, WCS(frame.header), parameters.exposure_s)
    content = drz_bytes(
        rectifier.planes(),
        rectifier.header,
        parameters,
        {
            "ROOTNAME": rootname,
            "EXPTIME": parameters.exposure_s * len(offsets_arcsec),
            "NDRIZIM": len(offsets_arcsec),
            "MDRIZSKY": rectifier.background_e_s,
        },
    )
    sources = _with_flux(sources, parameters)
    xy = WCS(rectifier.header).all_world2pix(sources["ra"], sources["dec"], 0)
    deeper = dataclasses.replace(parameters, exposure_s=parameters.exposure_s * len(offsets_arcsec))
    empty = np.where(rectifier.planes()["WHT"] > 0, 0, 2).astype(np.int16)
    truth = _truth_table(sources, (xy[0], xy[1]), empty, deeper)
    return SimulatedImage(f"{rootname}_drz.fits", content, truth)


def make_sample(n_images: int = 6, seed: int = 1) -> Iterator[SimulatedImage]:
    """Make the built-in sample: simulated frames of several kinds, one at a time.

    The first six are two dithers of a deep field in F160W, the same field in F140W, a cluster of
    galaxies in F105W, a sparse field in F125W and a 512 x 512 subarray in F140W; then the kinds
    come again with other fields.

    Parameters
    ----------
    n_images : int
        How many.
    seed : int
        Another seed gives other fields.

    Yields
    ------
    SimulatedImage
        ``filename, content, truth``; a frame takes some 0.6 s.
    """
    for rootname, parameters in sample_scenes(n_images, seed):
        yield simulate_flt(parameters, rootname)


def sample_scenes(n_images: int = 6, seed: int = 1) -> list[tuple[str, SceneParameters]]:
    """List what `make_sample` simulates, without simulating it.

    Parameters
    ----------
    n_images, seed : int
        As of `make_sample`.

    Returns
    -------
    list of (str, SceneParameters)
        Rootname and scene of each image.
    """
    deep = dataclasses.replace(scene("normal"), exposure_s=350.0)
    kinds = (
        dataclasses.replace(deep, filter_name="F160W"),
        dataclasses.replace(deep, filter_name="F160W", dither_arcsec=(6.2, -4.3)),
        dataclasses.replace(deep, filter_name="F140W"),
        dataclasses.replace(scene("cluster"), exposure_s=600.0),
        dataclasses.replace(scene("sparse"), filter_name="F125W"),
        dataclasses.replace(scene("sparse"), filter_name="F140W", subarray=512, exposure_s=120.0),
    )
    return [
        (
            sample_rootname(number),
            dataclasses.replace(kinds[number % len(kinds)], seed=seed + number // len(kinds)),
        )
        for number in range(n_images)
    ]


def sample_rootname(number: int) -> str:
    """Return the rootname of the sample's image of a number: ``isim01a1q``, ``isim01a2q``, ...

    Parameters
    ----------
    number : int
        0 to 23,165.
    """
    visit, exposure = divmod(number, 26 * 9)
    letter, digit = divmod(exposure, 9)
    if not 0 <= visit < 99:
        raise UsageError(f"there is no simulated image {number}; expected 0 to {99 * 234 - 1}")
    return f"isim{visit + 1:02d}{chr(ord('a') + letter)}{digit + 1}q"


def _checked_rootname(rootname: str, *, ends_in_letter: bool) -> str:
    rootname = rootname.lower()
    kind = "a letter" if ends_in_letter else "a digit"
    last_fits = rootname[-1:].isalpha() if ends_in_letter else rootname[-1:].isdigit()
    if len(rootname) == 9 and rootname.isalnum() and rootname[0] == "i" and last_fits:
        return rootname
    raise UsageError(
        f"{rootname!r} is no rootname of such a file; expected nine letters and digits, the first "
        f"'i', the last {kind}"
    )


def _make_frame(parameters: SceneParameters, rootname: str, sources: Table | None) -> _Frame:
    sources = _with_flux(make_sources(parameters) if sources is None else sources, parameters)
    header = detector_wcs(parameters.pointing, parameters.size)
    wcs = WCS(header)
    x, y = wcs.all_world2pix(sources["ra"], sources["dec"], 0, tolerance=1e-6, quiet=True)
    near = np.isfinite(x) & np.isfinite(y)
    sources, x, y = sources[near], x[near], y[near]
    light = render(sources, (x, y), wcs, parameters) / pixel_area_map(parameters.size)
    light += _background(parameters)
    seeds = np.random.SeedSequence([parameters.seed, zlib.crc32(rootname.encode())])
    exposure = expose(light, parameters, np.random.default_rng(seeds))
    return _Frame(header, exposure, sources, (x, y))


def _background(parameters: SceneParameters) -> FloatArray:
    ramp = (np.arange(parameters.size) + 0.5) / parameters.size - 0.5
    slope = 1.0 + 0.5 * parameters.sky_gradient * (ramp[:, None] + ramp[None, :])
    background: FloatArray = parameters.background_e_s * slope
    return background


def _with_flux(sources: Table, parameters: SceneParameters) -> Table:
    missing = [name for name in SOURCE_COLUMNS if name not in sources.colnames]
    if missing:
        raise UsageError(
            f"sources to simulate lack the columns {', '.join(missing)}; expected "
            f"{', '.join(SOURCE_COLUMNS)} (make_stars makes such a table)"
        )
    sources = sources.copy()
    zero_point = find_filter(parameters.filter_name).zero_point_ab
    sources["id"] = np.arange(1, len(sources) + 1, dtype=np.int32)
    sources["flux"] = 10.0 ** (-0.4 * (np.asarray(sources["mag_ab"]) - zero_point))
    return sources


def _truth_table(
    sources: Table,
    xy: tuple[FloatArray, FloatArray],
    dq: npt.NDArray[np.int16],
    parameters: SceneParameters,
) -> Table:
    """Keep the sources whose centres are in the frame, with what the frame made of them."""
    n_y, n_x = dq.shape
    column, line = (np.floor(axis + 0.5).astype(np.int64) for axis in xy)
    inside = (column >= 0) & (column < n_x) & (line >= 0) & (line < n_y)
    kept, column, line = sources[inside], column[inside], line[inside]
    padded = np.pad(dq, 1)
    core = np.zeros(len(kept), np.int16)
    for step_y in range(3):
        for step_x in range(3):
            core |= padded[line + step_y, column + step_x]
    values = {name: np.asarray(kept[name]) for name in kept.colnames}
    values["x"], values["y"] = xy[0][inside], xy[1][inside]
    values["snr"] = expected_snr(kept, parameters)
    values["saturated"] = (core & DQ.SATURATED) != 0
    values["dq"] = core
    truth = Table(
        [
            Column(values[name], name=name, unit=unit, description=description)
            for name, unit, description in _TRUTH_COLUMNS
        ]
    )
    truth.meta["FILTER"] = parameters.filter_name.upper()
    truth.meta["EXPTIME"] = parameters.exposure_s
    truth.meta["SEED"] = parameters.seed
    return truth
