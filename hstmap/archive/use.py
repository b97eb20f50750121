"""Which images are for source extraction, and why the others are not.

Nothing is dropped: an image that is not for use stays in the manifest with the reason. The words
are those by which images are turned away when they are read, so that the two can be compared.
What the archive does not say is no reason against an image: its header will decide.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["REASONS", "reasons"]

REASONS: Final[dict[str, str]] = {
    "association": "an association, which has no product of this kind",
    "grism": "dispersed by a grism",
    "spectroscopic": "not taken in imaging mode",
    "calibration": "a dark, a flat or another calibration exposure",
    "spatial_scan": "the telescope moved along the exposure",
    "moving_target": "the telescope followed a moving target",
    "expflag": "the exposure did not run as planned",
    "no_exposure": "the exposure time is not above 0",
    "proprietary": "not released to the public yet",
    "missing": "a listing of the bucket did not show the key",
    "forbidden": "the bucket may not be listed there",
}
"""In the order in which they are tried: the first that holds is the one that is given."""

_GRISMS: Final = pa.array(["G102", "G141"])
_CALIBRATION_TARGETS: Final = (
    "DARK|BIAS|TUNGSTEN|DEUTERIUM|EARTH-?_?CAL|BRIGHT-EARTH|INTFLAT|VISFLAT|UVFLAT"
)


def reasons(exposures: pa.Table, product: str, now_mjd: float) -> pa.Array:
    """Return why each exposure is not for use, null where it is.

    Parameters
    ----------
    exposures : pyarrow.Table
        With the columns of `~hstmap.archive.mast.EXPOSURE_SCHEMA`; nulls decide nothing.
    product : str
        The product that is wanted of them: ``'flt'``, ``'ima'`` or ``'drz'``.
    now_mjd : float
        When "public" is judged, as a modified Julian day.

    Returns
    -------
    pyarrow.Array of str
        Keys of `REASONS`.
    """
    column = exposures.column
    is_association = pc.match_substring_regex(column("rootname"), "[0-9]$")
    calibration = pc.or_kleene(
        pc.equal(column("intent"), "calibration"),
        pc.or_kleene(
            pc.equal(column("filter"), "BLANK"),
            pc.match_substring_regex(column("target"), f"^({_CALIBRATION_TARGETS})"),
        ),
    )
    flag = column("exposure_flag")
    holds = {
        "association": is_association if product != "drz" else pa.scalar(False),
        "grism": pc.is_in(column("filter"), value_set=_GRISMS),
        "spectroscopic": pc.not_equal(column("obs_type"), "IMAGE"),
        "calibration": calibration,
        "spatial_scan": pc.is_in(column("scan"), value_set=pa.array(["C", "D"])),
        "moving_target": column("moving_target"),
        "expflag": pc.not_equal(flag, "NORMAL"),
        "no_exposure": pc.less_equal(column("exposure_s"), 0.0),
        "proprietary": pc.greater(column("release_mjd"), now_mjd),
    }
    chosen = np.select(
        [_known(mask, exposures.num_rows) for mask in holds.values()], list(holds), default=""
    )
    return pc.if_else(pc.equal(pa.array(chosen), ""), None, pa.array(chosen))


def _known(mask: Any, n_rows: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return a mask as an array, False where it is not known."""
    if isinstance(mask, pa.Scalar):
        return np.full(n_rows, bool(mask.as_py()))
    values: np.ndarray[Any, np.dtype[np.bool_]] = pc.fill_null(mask, False).to_numpy()
    return values
