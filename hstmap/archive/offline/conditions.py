"""The conditions of a query, applied to made rows as MAST applies them to its own.

Search service (``{"sci_spec_1234": "F160W,F140W"}``): alternatives by commas, ``<`` and ``>``,
ranges with ``..``, ``*`` for anything, ``!`` for not.
Portal (``{"paramName": "filters", "values": [...]}``): lists of values, or a minimum and maximum.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hstmap.archive.offline.rows import Rows

__all__ = ["SkyPoint", "matching_observations", "matching_rows", "within"]

Test = Callable[[Any], bool]


class SkyPoint(NamedTuple):
    """A position in degrees."""

    ra: float
    dec: float


def matching_rows(rows: Rows, conditions: Sequence[dict[str, Any]]) -> list[int]:
    """Return the numbers of the rows that meet every condition of the search service."""
    chosen = list(range(len(next(iter(rows.values())))))
    for condition in conditions:
        for name, wanted in condition.items():
            test = _any_of([_search_test(text.strip()) for text in str(wanted).split(",")])
            values = rows[name]
            chosen = [row for row in chosen if values[row] is not None and test(values[row])]
    return chosen


def matching_observations(rows: Rows, filters: Sequence[dict[str, Any]]) -> list[int]:
    """Return the numbers of the rows that meet every filter of the portal."""
    chosen = list(range(len(next(iter(rows.values())))))
    for item in filters:
        values = rows[item["paramName"]]
        test = _any_of([_portal_test(wanted) for wanted in item["values"]])
        chosen = [row for row in chosen if values[row] is not None and test(values[row])]
    return chosen


def within(ra: float | None, dec: float | None, centre: SkyPoint, radius_deg: float) -> bool:
    """Tell whether a position lies in a cone; one that is not known does not."""
    if ra is None or dec is None:
        return False
    ra_1, dec_1, ra_2, dec_2 = map(math.radians, (ra, dec, *centre))
    half_chord_squared = (
        math.sin((dec_2 - dec_1) / 2) ** 2
        + math.cos(dec_1) * math.cos(dec_2) * math.sin((ra_2 - ra_1) / 2) ** 2
    )
    return 2 * math.asin(min(1.0, math.sqrt(half_chord_squared))) <= math.radians(radius_deg)


def _any_of(tests: list[Test]) -> Test:
    return lambda value: any(test(value) for test in tests)


def _comparable(value: Any, text: str) -> Any:
    return float(text) if isinstance(value, int | float) else text


def _search_test(text: str) -> Test:
    if text.startswith("!"):
        unwanted = _search_test(text[1:])
        return lambda value: not unwanted(value)
    if text.startswith(">"):
        return lambda value: bool(value > _comparable(value, text[1:].strip()))
    if text.startswith("<"):
        return lambda value: bool(value < _comparable(value, text[1:].strip()))
    if ".." in text:
        low, high = text.split("..")
        return lambda value: bool(_comparable(value, low) <= value <= _comparable(value, high))
    return lambda value: fnmatch.fnmatchcase(str(value).strip().upper(), text.upper())


def _portal_test(wanted: Any) -> Test:
    if isinstance(wanted, dict):
        return lambda value: bool(wanted["min"] <= value <= wanted["max"])
    return lambda value: str(value).upper() == str(wanted).upper()
