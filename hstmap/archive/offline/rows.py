"""Made rows of a Hubble archive, in the shapes that MAST answers with.

No row is a real observation. The shapes - column names, capitals, padding, dates as text,
nulls - are those of recorded answers of MAST's search service (``sci_*`` columns) and of its
portal (CAOM columns).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

__all__ = ["MadeArchive", "Rows"]

Rows = dict[str, list[Any]]

_BASE_36 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_N_PER_VISIT = 12
_N_PER_ASSOCIATION = 4
_N_VISITS = 30
_FILTERS = ("F160W", "F140W", "F125W", "F110W", "F105W", "F098M", "F127M", "G141", "G102", "BLANK")
_FILTER_SHARES = (0.31, 0.17, 0.15, 0.10, 0.08, 0.04, 0.02, 0.07, 0.03, 0.03)
_EPOCH = np.datetime64("2009-07-01T00:00:00", "us")
_NOW = np.datetime64("2026-01-01T00:00:00", "us")
_MJD_EPOCH = np.datetime64("1858-11-17T00:00:00", "us")


def _base_36(number: int, width: int) -> str:
    digits = ""
    for _ in range(width):
        number, digit = divmod(number, 36)
        digits = _BASE_36[digit] + digits
    return digits


def _text(times: np.ndarray[Any, Any]) -> list[str]:
    return [str(time) for time in np.datetime_as_string(times, unit="us")]


@dataclass(frozen=True)
class MadeArchive:
    """An archive of made WFC3 observations, the same for the same arguments.

    Parameters
    ----------
    n_exposures : int
        Exposures of the infrared channel. One in fifty of them has a UVIS exposure beside it,
        which a query for WFC3/IR must not bring.
    seed : int
        Seed of everything that is drawn.
    """

    n_exposures: int = 1000
    seed: int = 2018

    @cached_property
    def exposures(self) -> Rows:
        """Columns of MAST's search service, sorted by ``sci_data_set_name``.

        Programmes of 360 exposures, visits of 12, associations of 4; every third association
        is left apart, so that its exposures stand alone.
        """
        n = self.n_exposures
        rng = np.random.default_rng(self.seed)
        number = np.arange(n)
        in_visit = number % _N_PER_VISIT
        visit = number // _N_PER_VISIT
        group = number // _N_PER_ASSOCIATION
        programme = visit // _N_VISITS
        n_groups = n // _N_PER_ASSOCIATION + 1
        filters = rng.choice(_FILTERS, n_groups, p=_FILTER_SHARES)[group]
        stems = [
            f"I{_base_36(12960 + int(p), 3)}{int(v) % _N_VISITS + 1:02d}"
            for p, v in zip(programme, visit, strict=True)
        ]
        rows: Rows = {
            "sci_data_set_name": [
                f"{stem}{_base_36(900 + int(k), 2)}Q"
                for stem, k in zip(stems, in_visit, strict=True)
            ],
            "sci_asn_id": [
                "NONE" if int(g) % 3 == 2 else f"{stem}0{int(k) // _N_PER_ASSOCIATION + 1}0"
                for stem, k, g in zip(stems, in_visit, group, strict=True)
            ],
            "sci_spec_1234": filters.tolist(),
            "sci_pep_id": (11000 + programme).tolist(),
        }
        rows |= self._pointing(rng, programme, visit)
        rows |= self._exposing(rng, filters, visit, in_visit)
        rows["sci_targname"] = [
            "DARK" if name == "BLANK" else f"FIELD-{int(p)}"
            for name, p in zip(filters, programme, strict=True)
        ]
        return self._with_uvis(rows)

    def _pointing(
        self, rng: np.random.Generator, programme: np.ndarray[Any, Any], visit: np.ndarray[Any, Any]
    ) -> Rows:
        n_programmes, n_visits = int(programme[-1]) + 1, int(visit[-1]) + 1
        ra = rng.uniform(0, 360, n_programmes)[programme] + rng.normal(0, 0.2, n_visits)[visit]
        dec = np.degrees(np.arcsin(rng.uniform(-0.98, 0.98, n_programmes)))[programme]
        dec += rng.normal(0, 0.2, n_visits)[visit]
        n = len(programme)
        known = rng.random(n) >= 0.002
        return {
            "sci_ra": [
                value if k else None for value, k in zip((ra % 360).tolist(), known, strict=True)
            ],
            "sci_dec": [value if k else None for value, k in zip(dec.tolist(), known, strict=True)],
            "sci_mtflag": np.where(rng.random(n) < 0.01, "T", "F").tolist(),
            "sci_fgslock": np.where(rng.random(n) < 0.02, "GYROS", "FINE").tolist(),
        }

    def _exposing(
        self,
        rng: np.random.Generator,
        filters: np.ndarray[Any, Any],
        visit: np.ndarray[Any, Any],
        in_visit: np.ndarray[Any, Any],
    ) -> Rows:
        n, n_visits = len(visit), int(visit[-1]) + 1
        day_us = 86_400_000_000
        span_us = int((_NOW - _EPOCH) / np.timedelta64(1, "us"))
        begun = np.sort(rng.integers(0, span_us, n_visits))[visit] + in_visit * 1_500_000_000
        start = _EPOCH + begun.astype("timedelta64[us]")
        calibration = (filters == "BLANK") | (rng.random(n_visits) < 0.03)[visit]
        release = start + np.where(calibration, 0, 365 * day_us).astype("timedelta64[us]")
        generated = start + rng.integers(1, 5 * day_us, n).astype("timedelta64[us]")
        grism = np.char.startswith(filters, "G")
        seconds = np.round(rng.choice([27.7, 102.9, 402.9, 602.9, 1402.9], n), 3)
        seconds[rng.random(n) < 0.001] = 0.0
        odd = rng.random(n)
        scan = np.full(n, None, dtype=object)
        scan[grism & (rng.random(n) < 0.1)] = "C"
        return {
            "sci_start_time": _text(start),
            "sci_release_date": _text(release),
            "sci_generation_date": _text(generated),
            "sci_actual_duration": seconds.tolist(),
            "sci_aec": np.where(calibration, "C", "S").tolist(),
            "sci_obs_type": np.where(grism, "SPECTRUM", "IMAGE").tolist(),
            "sci_operating_mode": ["MULTIACCUM"] * n,
            "sci_aper_1234": np.where(odd < 0.03, "IRSUB256", "IR").tolist(),
            "sci_expflag": np.where(odd > 0.995, "INTERRUPTED", "NORMAL").tolist(),
            "sci_status": np.where(release > _NOW, "PROPRIETARY", "PUBLIC").tolist(),
            "scp_scan_type": scan.tolist(),
            "sci_instrume": ["WFC3  "] * n,
            "sci_instrument_config": ["WFC3/IR"] * n,
        }

    def _with_uvis(self, rows: Rows) -> Rows:
        for row in range(0, self.n_exposures, 50):
            for values in rows.values():
                values.append(values[row])
            rows["sci_data_set_name"][-1] = rows["sci_data_set_name"][row][:-1] + "V"
            rows["sci_instrument_config"][-1] = "WFC3/UVIS"
            rows["sci_spec_1234"][-1] = "F606W"
            rows["sci_asn_id"][-1] = "NONE"
        order = np.argsort(np.array(rows["sci_data_set_name"]), kind="stable").tolist()
        return {name: [values[row] for row in order] for name, values in rows.items()}

    @cached_property
    def observations(self) -> Rows:
        """Columns of the portal's CAOM service: associations and the exposures that stand alone."""
        made = self.exposures
        members = self.members
        kinds = {"IMAGE": "image", "SPECTRUM": "spectrum"}
        intents = {"S": "science", "C": "calibration"}
        rights = {"PUBLIC": "PUBLIC", "PROPRIETARY": "EXCLUSIVE_ACCESS"}
        rows: Rows = {name: [] for name in _CAOM_COLUMNS}
        for n, (obs_id, numbers) in enumerate(members.items()):
            first = numbers[0]
            start = np.datetime64(made["sci_start_time"][first])
            t_min = float((start - _MJD_EPOCH) / np.timedelta64(1, "D"))
            release = np.datetime64(made["sci_release_date"][first])
            seconds = float(sum(made["sci_actual_duration"][k] for k in numbers))
            ra, dec = made["sci_ra"][first], made["sci_dec"][first]
            values = {
                "dataproduct_type": kinds[made["sci_obs_type"][first]],
                "intentType": intents[made["sci_aec"][first]],
                "obs_collection": "HST",
                "project": "HST",
                "instrument_name": made["sci_instrument_config"][first],
                "filters": made["sci_spec_1234"][first],
                "target_name": made["sci_targname"][first],
                "obs_id": obs_id.lower(),
                "s_ra": ra,
                "s_dec": dec,
                "proposal_id": str(made["sci_pep_id"][first]),
                "calib_level": 3 if len(numbers) > 1 else 2,
                "t_min": t_min,
                "t_max": t_min + seconds / 86400,
                "t_exptime": seconds,
                "t_obs_release": float((release - _MJD_EPOCH) / np.timedelta64(1, "D")),
                "s_region": _polygon(ra, dec),
                "mtFlag": made["sci_mtflag"][first] == "T",
                "dataRights": rights[made["sci_status"][first]],
                "obsid": 24_000_000 + n,
                "_selected_": None,
            }
            for name in _CAOM_COLUMNS:
                rows[name].append(values[name])
        return rows

    @cached_property
    def members(self) -> dict[str, list[int]]:
        """Row numbers of `exposures` of each association, or of the exposure itself."""
        members: dict[str, list[int]] = {}
        made = self.exposures
        for row, (name, association) in enumerate(
            zip(made["sci_data_set_name"], made["sci_asn_id"], strict=True)
        ):
            members.setdefault(name if association == "NONE" else association, []).append(row)
        return members


_CAOM_COLUMNS = (
    "dataproduct_type",
    "intentType",
    "obs_collection",
    "project",
    "instrument_name",
    "filters",
    "target_name",
    "obs_id",
    "s_ra",
    "s_dec",
    "proposal_id",
    "calib_level",
    "t_min",
    "t_max",
    "t_exptime",
    "t_obs_release",
    "s_region",
    "mtFlag",
    "dataRights",
    "obsid",
    "_selected_",
)


def _polygon(ra: float | None, dec: float | None) -> str | None:
    """Return the outline of a frame of 136 by 123 arcseconds with north up."""
    if ra is None or dec is None:
        return None
    half_width = 0.0189 / np.cos(np.radians(dec))
    half_height = 0.0171
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]
    text = " ".join(f"{ra + x * half_width:.8f} {dec + y * half_height:.8f}" for x, y in corners)
    return f"POLYGON ICRS {text}"
