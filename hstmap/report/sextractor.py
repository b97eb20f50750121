"""A catalogue as SExtractor would have written it: its names, and what they mean there.

A name promises a meaning. Scripts that are made for SExtractor's catalogues count pixels from 1,
take ``KRON_RADIUS`` times ``A_IMAGE`` for the size of the aperture, and cut at ``FLAGS``; where
hstmap's columns mean something else, they are translated.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from hstmap.report.export import ExportTable

if TYPE_CHECKING:
    from hstmap.wfc3.schema import Column

__all__ = ["SEXTRACTOR_FLAGS", "as_sextractor"]

#: What SExtractor's ``FLAGS`` (its manual, "Flagging") say of `~hstmap.wfc3.schema.FLAGS`: 1 bad
#: pixels or neighbours in the aperture, 2 deblended, 4 saturated, 8 cut off by the edge, 16 an
#: aperture that is incomplete or corrupted, 64 deblending gave up. A flux that is not positive
#: makes a magnitude of 99 there and an upper limit here, so that it must not pass as clean.
SEXTRACTOR_FLAGS: Final = MappingProxyType(
    {1: 2, 2: 8, 4: 64, 8: 0, 16: 16, 32: 1, 64: 16, 128: 16, 256: 16, 512: 4}
)


def as_sextractor(table: ExportTable, kron_factor: float) -> ExportTable:
    """Give a table of sources SExtractor's names, and what these stand for.

    Parameters
    ----------
    table : ExportTable
        Of sources.
    kron_factor : float
        Of the run: SExtractor's Kron radius is that of the aperture, so many times the moment.

    Returns
    -------
    ExportTable
        Columns that SExtractor does not have keep their names.
    """
    columns, values = [], {}
    for column in table.columns:
        renamed, converted = _translated(column, table.values[column.name], kron_factor)
        columns.append(renamed)
        values[renamed.name] = converted
    return replace(table, columns=tuple(columns), values=values)


def _translated(
    column: Column, values: np.ndarray, kron_factor: float
) -> tuple[Column, np.ndarray]:
    """Translate one column."""
    if not column.sextractor:
        return column, values
    description = column.description
    if column.ucd.startswith("pos.cartesian"):
        values = values + 1
        description = f"{description.partition(',')[0]}, the centre of the first pixel is 1"
    elif column.sextractor == "KRON_RADIUS":
        values = values * kron_factor
        description = f"Size of the Kron ellipse in units of a and b: {kron_factor:g} Kron radii"
    elif column.sextractor == "FLAGS":
        values = _flags(values)
        description = "SExtractor's flags of extraction and photometry, or-ed"
    renamed = replace(column, name=column.sextractor, sextractor="", description=description)
    return renamed, values


def _flags(ours: np.ndarray) -> np.ndarray:
    """Translate flags bit by bit."""
    theirs = np.zeros_like(ours)
    for bit, meaning in SEXTRACTOR_FLAGS.items():
        theirs[(ours & bit) != 0] |= meaning
    return theirs
