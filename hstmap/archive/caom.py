"""Observations from MAST's portal (CAOM), with footprints, through `astroquery.mast.Mast`.

An observation there is an association or an exposure that stands alone. What is drizzled is one
an observation; for the exposures of an association the portal must be asked again, for the
products of a few hundred observations at a time. That answer is long - some 20 products an
exposure, without a choice of columns - so that the search service (`hstmap.archive.mast`) is the
better source for exposures.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hstmap.archive.mast import EXPOSURE_SCHEMA, MJD_EPOCH, PerThread, asked, numbers, portal, texts
from hstmap.archive.pages import Page, PagingOptions
from hstmap.archive.patience import Patience, TroubleError, patiently
from hstmap.archive.query import ArchiveQuery

if TYPE_CHECKING:
    from astroquery.mast import MastClass

__all__ = ["ObservationQuery", "with_members"]

_PAGE_SIZE: Final = 10_000
"""Rows of a page: a fifth of astroquery's, so that a broken one is soon here again."""

_N_OBSERVATIONS: Final = 100
"""Observations whose products are asked for in one question."""

_MAX_PRODUCTS: Final = 50_000
_LAST_MJD: Final = 99_999.0

_COLUMNS: Final = (
    "obsid",
    "obs_id",
    "filters",
    "target_name",
    "s_ra",
    "s_dec",
    "s_region",
    "t_exptime",
    "t_min",
    "proposal_id",
    "intentType",
    "dataproduct_type",
    "mtFlag",
    "t_obs_release",
)
_TYPES: Final = {"imaging": "image", "spectroscopic": "spectrum"}
_OBS_TYPES: Final = {"image": "IMAGE", "spectrum": "SPECTRUM"}


class ObservationQuery:
    """The observations of a query, by pages. Threads may share it.

    Parameters
    ----------
    query : ArchiveQuery
        What to ask.
    centre : tuple of float, optional
        Right ascension and declination of the query's target, in degrees.
    patience : Patience
        Its time limits are used.
    """

    what = "observations"

    def __init__(
        self, query: ArchiveQuery, centre: tuple[float, float] | None, patience: Patience
    ) -> None:
        self.page_size = _PAGE_SIZE
        self._client = PerThread(lambda: portal(patience))
        wanted: dict[str, list[Any]] = {
            "obs_collection": ["HST"],
            "project": ["HST"],
            "instrument_name": ["WFC3/IR"],
            "filters": list(query.filters),
            "proposal_id": [str(program) for program in query.programs],
            "dataproduct_type": [_TYPES[query.mode]] if query.mode in _TYPES else [],
        }
        if query.since:
            since = (np.datetime64(query.since) - MJD_EPOCH) / np.timedelta64(1, "D")
            wanted["t_min"] = [{"min": float(since), "max": _LAST_MJD}]
        self._params: dict[str, Any] = {
            "columns": ",".join(_COLUMNS),
            "filters": [{"paramName": k, "values": v} for k, v in wanted.items() if v],
        }
        self._service = "Mast.Caom.Filtered"
        if centre:
            self._service = "Mast.Caom.Filtered.Position"
            self._params["position"] = f"{centre[0]}, {centre[1]}, {query.radius_arcmin / 60}"

    def page(self, number: int) -> Page:
        """Ask once for a page, counted from 0."""
        n_total, rows = _asked(
            self._client(), self._service, self._params, (self.page_size, number + 1)
        )
        try:
            table = _exposures(rows)
        except KeyError as error:
            raise TroubleError(f"the answer lacks the column {error}") from error
        return Page(n_total, table["obsid"].to_pylist(), table)


def with_members(observations: pa.Table, product: str, options: PagingOptions) -> pa.Table:
    """Return the exposures of observations, asking for the members of the associations.

    Parameters
    ----------
    observations : pyarrow.Table
        Pages of an `ObservationQuery`.
    product : str
        ``'flt'`` or ``'ima'``: an exposure that has none is not listed.
    options : PagingOptions
        Threads and patience.

    Returns
    -------
    pyarrow.Table
        Columns of `~hstmap.archive.mast.EXPOSURE_SCHEMA`. A member has what the portal says of
        its association, but no exposure time and no start, which are those of the whole. An
        association without members stays, as itself.
    """
    together = pc.is_valid(observations["association"])
    associations = observations.filter(together)
    obsids = associations["obsid"].to_pylist()
    chunks = [obsids[k : k + _N_OBSERVATIONS] for k in range(0, len(obsids), _N_OBSERVATIONS)]
    client = PerThread(lambda: portal(options.patience))

    def ask(chunk: Sequence[str]) -> list[tuple[str, str]]:
        return patiently(
            lambda: _members(client(), chunk, product),
            options.patience,
            f"products of {len(chunk)} associations",
            options.on_trouble,
        )

    with ThreadPoolExecutor(options.n_threads) as pool:
        found = [pair for pairs in pool.map(ask, chunks) for pair in pairs]
    row_of = {obsid: row for row, obsid in enumerate(obsids)}
    # A shared exposure is listed with the first of its associations.
    first = {name: row_of[obsid] for obsid, name in reversed(found)}
    first = dict(sorted(first.items(), key=lambda item: (item[1], item[0])))
    members = associations.take(pa.array(first.values(), pa.int64()))
    columns = {name: members[name] for name in EXPOSURE_SCHEMA.names}
    columns["rootname"] = pa.array(first, pa.string())
    columns["exposure_s"] = columns["start_mjd"] = pa.nulls(len(first), pa.float64())
    childless = [row for row, obsid in enumerate(obsids) if obsid not in {o for o, _ in found}]
    apart = observations.filter(pc.invert(together))
    return pa.concat_tables(
        [
            apart.select(EXPOSURE_SCHEMA.names),
            pa.table(columns),
            associations.take(pa.array(childless, pa.int64())).select(EXPOSURE_SCHEMA.names),
        ]
    )


def _members(client: MastClass, obsids: Sequence[str], product: str) -> list[tuple[str, str]]:
    """Return pairs of an observation and the rootname of an exposure in it."""
    params = {"obsid": ",".join(obsids)}
    n_total, rows = _asked(client, "Mast.Caom.Products", params, (_MAX_PRODUCTS, 1))
    if len(rows) != n_total:
        raise TroubleError(f"{len(rows)} products came, {n_total} were expected")
    ending = f"_{product}.fits"
    try:
        names = [(str(row["obsID"]), str(row["productFilename"]).lower()) for row in rows]
    except KeyError as error:
        raise TroubleError(f"the answer lacks the column {error}") from error
    return [(obsid, name.removesuffix(ending)) for obsid, name in names if name.endswith(ending)]


def _asked(
    client: MastClass, service: str, params: dict[str, Any], page: tuple[int, int]
) -> tuple[int, list[dict[str, Any]]]:
    """Ask the portal once; return the number of rows of all pages and the rows of this one."""
    answer = asked(
        lambda: client.service_request_async(service, params, pagesize=page[0], page=page[1])[0]
    )
    if answer.get("status") != "COMPLETE":
        raise TroubleError(f"the portal says {answer.get('status')!r}: {answer.get('msg')}")
    try:
        return int(answer["paging"]["rowsFiltered"]), answer["data"]
    except (KeyError, TypeError) as error:
        raise TroubleError(f"the answer is not a table: it lacks {error}") from error


def _exposures(rows: Sequence[dict[str, Any]]) -> pa.Table:
    columns = {name: [row[name] for row in rows] for name in _COLUMNS}
    names = pc.utf8_lower(texts(columns["obs_id"]))
    kinds = [_OBS_TYPES.get(str(kind)) for kind in columns["dataproduct_type"]]
    unknown = {name: pa.nulls(len(rows), EXPOSURE_SCHEMA.field(name).type) for name in _UNKNOWN}
    arrays = {
        "rootname": names,
        "association": pc.if_else(pc.match_substring_regex(names, "[0-9]$"), names, None),
        "filter": pc.utf8_upper(texts(columns["filters"])),
        "target": texts(columns["target_name"]),
        "ra": numbers(columns["s_ra"]),
        "dec": numbers(columns["s_dec"]),
        "footprint": texts(columns["s_region"]),
        "exposure_s": numbers(columns["t_exptime"]),
        "start_mjd": numbers(columns["t_min"]),
        "program_id": numbers(columns["proposal_id"]).cast(pa.int64()),
        "intent": texts(columns["intentType"]),
        "obs_type": pa.array(kinds, pa.string()),
        "moving_target": pa.array(columns["mtFlag"], pa.bool_()),
        "release_mjd": numbers(columns["t_obs_release"]),
        **unknown,
    }
    table = pa.table([arrays[name] for name in EXPOSURE_SCHEMA.names], schema=EXPOSURE_SCHEMA)
    return table.append_column("obsid", pa.array([str(v) for v in columns["obsid"]], pa.string()))


_UNKNOWN: Final = ("aperture", "exposure_flag", "scan", "guiding", "generated_mjd")
