"""From exposures to images: the product that is wanted of each, its key, its use, its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hstmap.archive.keys import derive_keys
from hstmap.archive.mast import MJD_EPOCH
from hstmap.archive.use import reasons

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["IMAGE_NAMES", "images_of", "sky_order"]

IMAGE_NAMES: Final = (
    "rootname",
    "key",
    "product",
    "filter",
    "target",
    "ra",
    "dec",
    "exposure_s",
    "start_mjd",
    "program_id",
    "aperture",
    "use",
    "release_date",
    "association",
    "footprint",
    "intent",
    "obs_type",
    "exposure_flag",
    "moving_target",
    "scan",
    "guiding",
    "generated_mjd",
)
"""Columns of a manifest that is made of exposures."""

_DEPTH: Final = 29
"""HEALPix order of the sort: cells of 0.4 milliarcseconds, the finest that 64 bits hold."""


def images_of(exposures: pa.Table, product: str, now_mjd: float) -> pa.Table:
    """Return one row for each image that the exposures make.

    Parameters
    ----------
    exposures : pyarrow.Table
        Columns of `~hstmap.archive.mast.EXPOSURE_SCHEMA`.
    product : str
        ``'flt'`` and ``'ima'`` are one an exposure. ``'drz'`` is one an association, or one an
        exposure that is in none; it has the facts of the first exposure, the earliest start and
        the sum of the exposure times, and it is for use if one of its exposures is.
    now_mjd : float
        When "public" is judged.

    Returns
    -------
    pyarrow.Table
        Columns `IMAGE_NAMES`.
    """
    table = exposures.append_column("use", reasons(exposures, product, now_mjd))
    if product == "drz":
        table = _drizzled(table)
    released = pc.cast(table["release_mjd"], pa.float64()).to_numpy(zero_copy_only=False)
    columns = {name: table[name] for name in table.column_names if name in IMAGE_NAMES}
    columns |= {
        "key": derive_keys(table["rootname"], product),
        "product": pa.array([product] * table.num_rows),
        "use": pc.fill_null(table["use"], ""),
        "release_date": _days(released),
    }
    return pa.table({name: columns[name] for name in IMAGE_NAMES})


def sky_order(table: pa.Table) -> pa.Array:
    """Return the row numbers in the order of the sky: neighbours there are neighbours here.

    By HEALPix cell (nested), then by name. Rows without a position come last, by name.

    Parameters
    ----------
    table : pyarrow.Table
        With ``rootname``, and ``ra`` and ``dec`` in degrees where they are known.
    """
    import astropy.units as u
    from astropy.coordinates import Latitude, Longitude
    from cdshealpix.nested import lonlat_to_healpix

    cells = np.full(table.num_rows, np.iinfo(np.int64).max)
    if {"ra", "dec"} <= set(table.column_names):
        ra, dec = (
            pc.cast(table[name], pa.float64()).to_numpy(zero_copy_only=False)
            for name in ("ra", "dec")
        )
        known = np.isfinite(ra) & np.isfinite(dec)
        lon, lat = Longitude(ra[known], u.deg), Latitude(dec[known], u.deg)
        cells[known] = lonlat_to_healpix(lon, lat, _DEPTH).astype(np.int64)
    keyed = pa.table({"cell": cells, "rootname": table["rootname"]})
    return pc.sort_indices(keyed, [("cell", "ascending"), ("rootname", "ascending")])


def _drizzled(exposures: pa.Table) -> pa.Table:
    """Return one row for each association and each exposure that stands alone."""
    names, associations = exposures["rootname"], exposures["association"]
    # Where the archive lists an association itself, that row has its facts.
    itself = pc.match_substring_regex(names, "[0-9]$")
    listed = exposures.filter(itself)
    members = exposures.filter(
        pc.invert(
            pc.or_(itself, pc.is_in(associations, value_set=listed["rootname"].combine_chunks()))
        )
    )
    root = pc.coalesce(members["association"], members["rootname"])
    members = members.drop(["rootname"]).append_column("rootname", root)
    members = members.append_column("usable", pc.is_null(members["use"]))
    how = [(name, "first") for name in exposures.column_names if name != "rootname"]
    how += [("exposure_s", "sum"), ("start_mjd", "min"), ("usable", "max")]
    # Threads would make "first" any of them.
    grouped = members.group_by("rootname", use_threads=False).aggregate(how)
    columns = {
        name: grouped["rootname" if name == "rootname" else f"{name}_first"]
        for name in exposures.column_names
    }
    columns["exposure_s"] = grouped["exposure_s_sum"]
    columns["start_mjd"] = grouped["start_mjd_min"]
    columns["use"] = pc.if_else(grouped["usable_max"], None, grouped["use_first"])
    return pa.concat_tables([listed, pa.table(columns).select(exposures.column_names)])


def _days(mjd: NDArray[np.float64]) -> pa.Array:
    """Return the days of modified Julian days, such as ``2010-07-01``; empty where unknown."""
    known = np.isfinite(mjd)
    whole = np.floor(np.where(known, mjd, 0)).astype("timedelta64[D]")
    text = np.datetime_as_string(MJD_EPOCH.astype("datetime64[D]") + whole)
    return pa.array(np.where(known, text, ""))
