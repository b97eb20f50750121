"""Exposures from MAST's search service, page by page, through `astroquery.mast.MastMissions`.

astroquery sends the question; its answers are turned into Arrow columns at once. Its own tables
go through a Python object a value and are several times as slow and as large.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hstmap.archive.pages import Page
from hstmap.archive.patience import Patience, TroubleError, patiently, teach_patience
from hstmap.archive.query import ArchiveQuery
from hstmap.errors import ArchiveError, UsageError

if TYPE_CHECKING:
    from astroquery.mast import MastClass, MastMissionsClass
    from requests import Response

__all__ = [
    "EXPOSURE_SCHEMA",
    "MJD_EPOCH",
    "ExposureQuery",
    "PerThread",
    "asked",
    "numbers",
    "portal",
    "resolve",
    "texts",
    "times_mjd",
]

T = TypeVar("T")

EXPOSURE_SCHEMA: Final = pa.schema(
    {
        "rootname": pa.string(),
        "association": pa.string(),
        "filter": pa.string(),
        "target": pa.string(),
        "ra": pa.float64(),
        "dec": pa.float64(),
        "footprint": pa.string(),
        "exposure_s": pa.float64(),
        "start_mjd": pa.float64(),
        "program_id": pa.int64(),
        "aperture": pa.string(),
        "intent": pa.string(),
        "obs_type": pa.string(),
        "exposure_flag": pa.string(),
        "moving_target": pa.bool_(),
        "scan": pa.string(),
        "guiding": pa.string(),
        "release_mjd": pa.float64(),
        "generated_mjd": pa.float64(),
    }
)
"""What is known of an exposure, whoever says it; null where it is not known."""

_PAGE_SIZE: Final = 5000
"""Rows of a page: the most that astroquery documents for the service."""

_COLUMNS: Final = (
    "sci_data_set_name",
    "sci_asn_id",
    "sci_spec_1234",
    "sci_targname",
    "sci_ra",
    "sci_dec",
    "sci_actual_duration",
    "sci_start_time",
    "sci_pep_id",
    "sci_aper_1234",
    "sci_aec",
    "sci_obs_type",
    "sci_expflag",
    "sci_mtflag",
    "scp_scan_type",
    "sci_fgslock",
    "sci_release_date",
    "sci_generation_date",
)

_CRITERIA: Final = ("sci_instrume", "sci_instrument_config")
_OBS_TYPES: Final = {"imaging": "IMAGE", "spectroscopic": "SPECTRUM"}
_INTENTS: Final = {"S": "science", "C": "calibration"}
MJD_EPOCH: Final = np.datetime64("1858-11-17T00:00:00", "us")


class ExposureQuery:
    """The exposures of a query, by pages sorted by name. Threads may share it.

    Parameters
    ----------
    query : ArchiveQuery
        What to ask.
    centre : tuple of float, optional
        Right ascension and declination of the query's target, in degrees; see `resolve`.
    patience : Patience
        Its time limits are used.
    generated_after : str, optional
        Only exposures whose products were made after this ISO date.
    """

    what = "exposures"

    def __init__(
        self,
        query: ArchiveQuery,
        centre: tuple[float, float] | None,
        patience: Patience,
        generated_after: str | None = None,
    ) -> None:
        self.page_size = min(_PAGE_SIZE, query.limit or _PAGE_SIZE)
        self._client = PerThread(lambda: _searcher(patience))
        self._criteria: dict[str, Any] = {
            "sci_instrume": "WFC3",
            "sci_instrument_config": "WFC3/IR",
        }
        if query.filters:
            self._criteria["sci_spec_1234"] = list(query.filters)
        if query.programs:
            self._criteria["sci_pep_id"] = list(query.programs)
        if query.mode in _OBS_TYPES:
            self._criteria["sci_obs_type"] = _OBS_TYPES[query.mode]
        if query.since:
            self._criteria["sci_start_time"] = f">{query.since.isoformat()}"
        if generated_after:
            self._criteria["sci_generation_date"] = f">{generated_after}"
        if centre:
            from astropy.coordinates import SkyCoord

            self._criteria["coordinates"] = SkyCoord(*centre, unit="deg")
            # A bare number is taken as arcminutes.
            self._criteria["radius"] = query.radius_arcmin

    def page(self, number: int) -> Page:
        """Ask once for a page, counted from 0."""
        answer = asked(
            lambda: self._client().query_criteria_async(
                limit=self.page_size,
                offset=number * self.page_size,
                sort_by=["sci_data_set_name"],
                # astroquery adds the name of the data set by itself.
                select_cols=list(_COLUMNS[1:]),
                **self._criteria,
            )
        )
        try:
            n_total, rows = int(answer["totalResults"]), answer["results"]
            table = _exposures(rows)
        except (KeyError, TypeError) as error:
            raise TroubleError(f"the answer is not one of a search: {error!r}") from error
        return Page(n_total, table["rootname"].to_pylist(), table)


class PerThread(Generic[T]):
    """One of something for each thread: the sessions of `requests` are not meant to be shared.

    Parameters
    ----------
    make : callable
        Makes one.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._local = threading.local()

    def __call__(self) -> T:
        """Return this thread's."""
        if not hasattr(self._local, "made"):
            self._local.made = self._make()
        made: T = self._local.made
        return made


def resolve(target: str, patience: Patience) -> tuple[float, float]:
    """Return a target's right ascension and declination in degrees.

    Parameters
    ----------
    target : str
        A name, which MAST is asked for, or two numbers: ``'53.16 -27.79'``.
    patience : Patience
        What to do about faults.

    Raises
    ------
    UsageError
        If nobody knows the name, or the numbers are not on the sky.
    """
    try:
        ra, dec = (float(text) for text in target.replace(",", " ").split())
    except ValueError:
        return _look_up(target, patience)
    if not (0 <= ra < 360 and -90 <= dec <= 90):
        raise UsageError(
            f"target {target!r}: right ascension must be in 0..360, declination in -90..90 degrees"
        )
    return ra, dec


def _look_up(name: str, patience: Patience) -> tuple[float, float]:
    client = portal(patience)
    answer = patiently(
        lambda: asked(
            lambda: client.service_request_async(
                "Mast.Name.Lookup", {"input": name, "format": "json"}
            )[0]
        ),
        patience,
        f"position of {name}",
    )
    found = answer.get("resolvedCoordinate") or []
    if not found:
        raise UsageError(
            f"target {name!r}: MAST knows no such name; give a position instead, such as "
            "--target '53.16 -27.79'"
        )
    return float(found[0]["ra"]), float(found[0]["decl"])


def _searcher(patience: Patience) -> MastMissionsClass:
    from astropy.table import Table
    from astroquery.mast import MastMissionsClass

    client = MastMissionsClass(mission="hst")
    teach_patience(client._session, patience)
    # Else astroquery fetches the list of columns first, a request that has no time limit.
    client.columns["hst"] = Table({"name": [*_COLUMNS, *_CRITERIA]})
    return client


def portal(patience: Patience) -> MastClass:
    """Return a client of MAST's portal that keeps to time limits."""
    from astroquery.mast import MastClass

    client = MastClass()
    teach_patience(client._session, patience)
    return client


def asked(ask: Callable[[], Response]) -> dict[str, Any]:
    """Return the JSON object that a question brings, with astroquery's errors made ours."""
    from astroquery.exceptions import InvalidQueryError
    from astroquery.exceptions import TimeoutError as TooSlowError

    try:
        answer = ask().json()
    except InvalidQueryError as error:
        raise ArchiveError(f"MAST refused the query: {error}") from error
    except TooSlowError as error:
        raise TroubleError(str(error)) from error
    if not isinstance(answer, dict):
        raise TroubleError(f"a JSON object was expected, {type(answer).__name__} came")
    return answer


def _exposures(rows: Sequence[dict[str, Any]]) -> pa.Table:
    columns = {name: [row[name] for row in rows] for name in _COLUMNS}
    association = pc.utf8_lower(texts(columns["sci_asn_id"]))
    mtflag = pc.utf8_upper(texts(columns["sci_mtflag"]))
    arrays = {
        "rootname": pc.utf8_lower(texts(columns["sci_data_set_name"])),
        "association": pc.if_else(pc.equal(association, "none"), None, association),
        "filter": pc.utf8_upper(texts(columns["sci_spec_1234"])),
        "target": texts(columns["sci_targname"]),
        "ra": numbers(columns["sci_ra"]),
        "dec": numbers(columns["sci_dec"]),
        "footprint": pa.nulls(len(rows), pa.string()),
        "exposure_s": numbers(columns["sci_actual_duration"]),
        "start_mjd": times_mjd(columns["sci_start_time"]),
        "program_id": numbers(columns["sci_pep_id"]).cast(pa.int64()),
        "aperture": pc.utf8_upper(texts(columns["sci_aper_1234"])),
        "intent": pa.array([_INTENTS.get(str(v).strip()) for v in columns["sci_aec"]], pa.string()),
        "obs_type": pc.utf8_upper(texts(columns["sci_obs_type"])),
        "exposure_flag": pc.utf8_upper(texts(columns["sci_expflag"])),
        "moving_target": pc.equal(mtflag, "T"),
        "scan": pc.utf8_upper(texts(columns["scp_scan_type"])),
        "guiding": pc.utf8_upper(texts(columns["sci_fgslock"])),
        "release_mjd": times_mjd(columns["sci_release_date"]),
        "generated_mjd": times_mjd(columns["sci_generation_date"]),
    }
    return pa.table([arrays[name] for name in EXPOSURE_SCHEMA.names], schema=EXPOSURE_SCHEMA)


def texts(values: Sequence[Any]) -> pa.Array:
    """Return texts without the blanks that the archive's databases pad them with; null if empty."""
    array = pc.utf8_trim_whitespace(pa.array(values, pa.string()))
    return pc.if_else(pc.equal(array, ""), None, array)


def numbers(values: Sequence[Any]) -> pa.Array:
    """Return numbers as float64, also those that come as text; null where there is none."""
    return pa.array([None if v is None or v == "" else float(v) for v in values], pa.float64())


def times_mjd(values: Sequence[Any]) -> pa.Array:
    """Return ISO 8601 times as modified Julian days (UTC); null where there is none."""
    times = np.array([v or "NaT" for v in values], dtype="datetime64[us]")
    days = (times - MJD_EPOCH) / np.timedelta64(1, "D")
    return pa.array(days, pa.float64(), from_pandas=True)
