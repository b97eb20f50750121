"""Any catalogue as a list of sources: which of its columns say where they are and how bright.

Catalogues name the same things differently, and SExtractor counts pixels from 1. What a column
means is guessed from its name; who knows better says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hstmap.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]
    BoolArray = npt.NDArray[np.bool_]

__all__ = ["SourceList", "make_source_list"]

#: Names of columns in lower case, the likeliest first. Pixels of the first list count from 0 (as
#: hstmap's, photutils' and SEP's do), those of the second from 1 (SExtractor's).
_X_FROM_0: Final = ("x", "xcentroid", "x_centroid", "x_fit")
_X_FROM_1: Final = ("x_image", "xwin_image", "x_image_dbl", "xmodel_image", "xpsf_image")
_RA: Final = (
    "ra", "alpha_j2000", "alphawin_j2000", "ra_icrs", "_raj2000", "raj2000", "radeg",
    "alpha_sky", "ra_deg", "x_world",
)  # fmt: skip
_DEC: Final = (
    "dec", "delta_j2000", "deltawin_j2000", "de_icrs", "_dej2000", "dej2000", "dedeg",
    "delta_sky", "dec_deg", "y_world",
)  # fmt: skip
_MAGNITUDES: Final = (
    "mag_total", "mag_ab", "mag_auto", "mag_best", "mag", "magnitude", "kron_mag", "mag_iso",
)  # fmt: skip
_SNR: Final = ("snr", "snr_win", "s_n")
_NAMED_IN_MESSAGES: Final = 20


@dataclass(frozen=True, eq=False)
class SourceList:
    """Where sources are and how bright; NaN where that is not known.

    Attributes
    ----------
    x, y : ndarray of float64, shape (n,)
        Pixels, the centre of the first being 0.
    ra, dec : ndarray of float64, shape (n,)
        Degrees.
    mag, mag_err : ndarray of float64, shape (n,)
        Magnitudes and their errors.
    flux, flux_err : ndarray of float64, shape (n,)
        In the catalogue's own unit.
    snr : ndarray of float64, shape (n,)
        Signal to noise.
    kind : ndarray of str, shape (n,)
        ``"star"``, ``"galaxy"``, or empty.
    usable : ndarray of bool, shape (n,)
        Whether the list itself says nothing against its brightness, such as saturation.
    origin : dict of str to str
        Which column each quantity came from.
    """

    x: FloatArray
    y: FloatArray
    ra: FloatArray
    dec: FloatArray
    mag: FloatArray
    mag_err: FloatArray
    flux: FloatArray
    flux_err: FloatArray
    snr: FloatArray
    kind: npt.NDArray[np.str_]
    usable: BoolArray
    origin: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def has_pixels(self) -> bool:
        """Whether there are positions in pixels."""
        return "x" in self.origin

    @property
    def has_sky(self) -> bool:
        """Whether there are positions on the sky."""
        return "ra" in self.origin

    def take(self, rows: npt.NDArray[Any]) -> SourceList:
        """Keep some of the sources.

        Parameters
        ----------
        rows : ndarray of bool or of int
            Which.

        Returns
        -------
        SourceList
        """
        arrays = {name: value[rows] for name, value in vars(self).items() if name != "origin"}
        return SourceList(**arrays, origin=self.origin)

    def with_pixels(self, wcs: Any) -> SourceList:
        """Give the sources positions in the pixels of an image, from those on the sky.

        Parameters
        ----------
        wcs : astropy.wcs.WCS
            Of the image.

        Returns
        -------
        SourceList
            NaN for sources that the image's distortion cannot be inverted for: they are far off.
        """
        # An answer that has not converged lies outside, where the polynomial means nothing.
        x, y = wcs.all_world2pix(self.ra, self.dec, 0, quiet=True)
        changed = vars(self) | {"x": np.asarray(x), "y": np.asarray(y)}
        return SourceList(**changed | {"origin": self.origin | {"x": "ra", "y": "dec"}})


def make_source_list(
    columns: Mapping[str, npt.ArrayLike], mag: str = "", name: str = "the catalogue"
) -> SourceList:
    """Find out what the columns of a catalogue mean.

    Parameters
    ----------
    columns : mapping of str to array_like, shape (n,)
        Of one length, such as a dict, `astropy.table.Table` or `pandas.DataFrame`.
    mag : str
        Column of the magnitudes to use; guessed if empty. The fluxes that belong to it, such as
        ``flux_auto`` and ``flux_auto_err`` to ``mag_auto``, are used with it.
    name : str
        What to call the catalogue in errors.

    Returns
    -------
    SourceList

    Raises
    ------
    UsageError
        If no column says where the sources are, or `mag` is none of the columns.
    """
    # To go through a table of astropy's itself would give its rows.
    by_name = {str(column).lower(): str(column) for column in columns.keys()}  # noqa: SIM118
    if mag and mag.lower() not in by_name:
        known = ", ".join(by_name[each] for each in by_name if each.startswith("mag"))
        raise UsageError(f"{name} has no column {mag!r}; its magnitudes are {known or 'none'}")
    origin = _positions(by_name) | _brightness(by_name, mag.lower())
    if "x" not in origin and "ra" not in origin:
        some = [*by_name.values()][:_NAMED_IN_MESSAGES]
        raise UsageError(
            f"no column of {name} says where its sources are: it has {', '.join(some)};"
            f" expected x and y, X_IMAGE and Y_IMAGE, ra and dec, or ALPHA_J2000 and DELTA_J2000"
        )
    n = len(np.asarray(columns[next(iter(origin.values()))]))
    values = {
        each: _floats(columns[origin[each]]) if each in origin else np.full(n, np.nan)
        for each in ("x", "y", "ra", "dec", "mag", "mag_err", "flux", "flux_err", "snr")
    }
    if origin.get("x", "").lower() in _X_FROM_1:
        values["x"], values["y"] = values["x"] - 1.0, values["y"] - 1.0
    if "flux" in origin:
        # What some catalogues give then is a limit.
        values["mag"] = np.where(values["flux"] <= 0, np.nan, values["mag"])
    if "snr" not in origin and "flux_err" in origin:
        with np.errstate(divide="ignore", invalid="ignore"):
            values["snr"] = values["flux"] / values["flux_err"]
    return SourceList(
        **values,
        kind=_texts(columns, by_name.get("kind"), n),
        usable=_usable(columns, by_name, n),
        origin=origin,
    )


def _positions(by_name: Mapping[str, str]) -> dict[str, str]:
    origin: dict[str, str] = {}
    for quantities, pairs in (
        (("x", "y"), ((each, _of_y(each)) for each in (*_X_FROM_0, *_X_FROM_1))),
        (("ra", "dec"), zip(_RA, _DEC, strict=True)),
    ):
        for pair in pairs:
            if all(each in by_name for each in pair):
                origin |= {key: by_name[each] for key, each in zip(quantities, pair, strict=True)}
                break
    return origin


def _of_y(name_of_x: str) -> str:
    return "y" + name_of_x[1:]


def _brightness(by_name: Mapping[str, str], mag: str) -> dict[str, str]:
    """Choose a magnitude, and what goes with it."""
    if not mag:
        likely = [each for each in _MAGNITUDES if each in by_name]
        others = [each for each in by_name if each.startswith("mag") and "err" not in each]
        mag = next(iter([*likely, *others]), "")
    stem = mag.removeprefix("mag") if mag else "_auto"
    # A truth's flux is just that; it goes with mag_ab.
    flux = next((each for each in (f"flux{stem}", "flux") if each in by_name), "")
    wanted = {
        "mag": (mag,),
        "mag_err": (f"{mag}_err", f"magerr{stem}"),
        "flux": (flux,),
        "flux_err": (f"{flux}_err", f"fluxerr{flux.removeprefix('flux')}"),
        "snr": _SNR,
    }
    found = {key: [each for each in names if each in by_name] for key, names in wanted.items()}
    return {key: by_name[names[0]] for key, names in found.items() if names}


def _usable(columns: Mapping[str, npt.ArrayLike], by_name: Mapping[str, str], n: int) -> BoolArray:
    if "saturated" not in by_name:
        return np.ones(n, dtype=np.bool_)
    values = np.asarray(columns[by_name["saturated"]])
    if values.dtype.kind in "US":
        return ~np.isin(np.char.lower(values.astype(str)), ["true", "1", "t"])
    return ~values.astype(np.bool_)


def _floats(values: npt.ArrayLike) -> FloatArray:
    """Give numbers as float64, NaN for those that are masked; of several a row, the first."""
    numbers = np.asarray(np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan))
    return numbers if numbers.ndim == 1 else numbers.reshape(len(numbers), -1)[:, 0]


def _texts(columns: Mapping[str, npt.ArrayLike], name: str | None, n: int) -> npt.NDArray[np.str_]:
    if name is None:
        return np.full(n, "")
    return np.char.strip(np.asarray(columns[name]).astype(str))
