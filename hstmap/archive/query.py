"""What is asked of the archive, whichever way it is asked."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import date
from typing import Final

from hstmap.archive.keys import PRODUCTS
from hstmap.errors import UsageError

__all__ = ["MODES", "SOURCES", "ArchiveQuery"]

SOURCES: Final = ("missions", "caom", "listing")
MODES: Final = ("all", "imaging", "spectroscopic")


@dataclass(frozen=True)
class ArchiveQuery:
    """Which WFC3/IR images a manifest lists.

    Parameters
    ----------
    source : str
        ``'missions'``: MAST's search service, one row an exposure. ``'caom'``: MAST's portal,
        with footprints. ``'listing'``: the bucket itself, with sizes and ETags but no pointings.
    product : str
        ``'flt'``, ``'ima'`` (one an exposure) or ``'drz'`` (one an association).
    filters : tuple of str
        Only these, such as ``('F160W',)``; empty for all, grisms included.
    target : str, optional
        A name that MAST can resolve, or ``'RA DEC'`` in degrees.
    radius_arcmin : float
        Around the target, in arcminutes.
    programs : tuple of int
        Proposal numbers; empty for all.
    since : datetime.date, optional
        Only exposures that began on this day (UTC) or later.
    mode : str
        ``'all'``, ``'imaging'`` or ``'spectroscopic'`` (grism).
    limit : int, optional
        So many rows at most, the first by name.

    Raises
    ------
    UsageError
        If a value is none of those, or cannot be asked of the source.
    """

    source: str = "missions"
    product: str = "flt"
    filters: tuple[str, ...] = ()
    target: str | None = None
    radius_arcmin: float = 3.0
    programs: tuple[int, ...] = ()
    since: date | None = None
    mode: str = "all"
    limit: int | None = None

    def __post_init__(self) -> None:
        for name, choices in (("source", SOURCES), ("product", PRODUCTS), ("mode", MODES)):
            if getattr(self, name) not in choices:
                raise UsageError(
                    f"{name} is {getattr(self, name)!r}: give one of {', '.join(choices)}"
                )
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"limit is {self.limit}: give a number of rows from 1 on")
        if not self.radius_arcmin > 0:
            raise UsageError(f"radius is {self.radius_arcmin} arcmin: give one above 0")
        asked = self.filters or self.target or self.programs or self.since or self.mode != "all"
        if self.source == "listing" and asked:
            raise UsageError(
                "a listing shows names alone: filter, target, program, date and mode need "
                "--source missions or caom"
            )

    def as_text(self) -> str:
        """Return the query as JSON, without what is as by default, for a manifest's metadata."""
        usual = ArchiveQuery()
        values = {n: v for n, v in asdict(self).items() if v != getattr(usual, n)}
        values |= {"source": self.source, "product": self.product}
        if self.since:
            values["since"] = self.since.isoformat()
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> ArchiveQuery:
        """Return the query that `as_text` wrote.

        Raises
        ------
        UsageError
            If it is none: the manifest was not made by a query.
        """
        try:
            values = json.loads(text)
            if values.get("since"):
                values["since"] = date.fromisoformat(values["since"])
            for name in ("filters", "programs"):
                values[name] = tuple(values.get(name, ()))
            return cls(**values)
        except (ValueError, TypeError, AttributeError) as error:
            raise UsageError(
                f"the manifest does not say by which query it was made, but {text[:80]!r}: make a "
                "new one with hstmap manifest"
            ) from error
