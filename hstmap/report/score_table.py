"""A score as a table, and as lines to read."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, Final

from hstmap.errors import UsageError
from hstmap.wfc3.score import wilson_interval

if TYPE_CHECKING:
    from collections.abc import Iterator

    from astropy.table import Table

    from hstmap.wfc3.score import Score, ScoreBin

__all__ = ["TABLE_SUFFIXES", "score_lines", "score_table", "table_bytes"]

TABLE_SUFFIXES: Final = (".ecsv", ".csv", ".parquet")

_DESCRIPTIONS: Final = {
    "quantity": "What the bin is of: snr, mag or total",
    "low": "Lower edge of the bin, inclusive",
    "high": "Upper edge of the bin, exclusive",
    "n_reference": "Sources of the reference",
    "n_recovered": "Of those, how many the catalogue has",
    "completeness": "n_recovered / n_reference",
    "completeness_low": "Lower bound of completeness, 68 % confidence",
    "completeness_high": "Upper bound of completeness, 68 % confidence",
    "n_found": "Sources of the catalogue",
    "n_real": "Of those, how many the reference has",
    "reliability": "n_real / n_found",
    "reliability_low": "Lower bound of reliability, 68 % confidence",
    "reliability_high": "Upper bound of reliability, 68 % confidence",
    "distance": "Median distance of matched sources",
    "n_measured": "Matched sources whose magnitudes are compared",
    "mag_bias": "Median of the magnitudes' differences, catalogue minus reference",
    "mag_scatter": "Their scatter: 1.4826 times the median absolute deviation",
    "n_pulls": "Matched sources that have a pull",
    "pull_bias": "Median of the pulls: differences of flux over their errors",
    "pull_scatter": "Their scatter: 1.4826 times the median absolute deviation",
    "pull_std": "Their standard deviation, outliers included",
}
_UNITS: Final = {"mag_bias": "mag", "mag_scatter": "mag"}
_HEADER: Final = (
    "       {name:<10s} reference  complete   catalogue  reliable   {unit:>6s}   "
    "mag bias  scatter   pull bias  scatter"
)


def score_table(score: Score) -> Table:
    """Make a table of a score.

    Parameters
    ----------
    score : Score

    Returns
    -------
    astropy.table.Table
        A row a bin, of signal to noise first, then of magnitude, and one for everything; each
        column has its description and unit.
    """
    from astropy.table import Column, Table

    rows = [*_rows("total", (score.total,)), *_rows("snr", score.by_snr)]
    rows += _rows("mag", score.by_magnitude)
    units = _UNITS | {"distance": "pix" if score.unit == "pixel" else "arcsec"}
    table = Table(
        [
            Column([row[name] for row in rows], name=name, unit=units.get(name), description=text)
            for name, text in _DESCRIPTIONS.items()
        ]
    )
    names = ("x", "y") if score.unit == "pixel" else ("ra", "dec")
    for name, difference in zip(names, (score.x, score.y), strict=True):
        table.meta[f"{name}_bias"] = difference.bias
        table.meta[f"{name}_scatter"] = difference.scatter
    table.meta["n_images"] = score.n_images
    return table


def _rows(quantity: str, bins: tuple[ScoreBin, ...]) -> Iterator[dict[str, Any]]:
    for each in bins:
        complete = wilson_interval(each.n_recovered, each.n_reference)
        reliable = wilson_interval(each.n_real, each.n_found)
        yield {
            "quantity": quantity,
            "low": each.low,
            "high": each.high,
            "n_reference": each.n_reference,
            "n_recovered": each.n_recovered,
            "completeness": each.completeness,
            "completeness_low": complete[0],
            "completeness_high": complete[1],
            "n_found": each.n_found,
            "n_real": each.n_real,
            "reliability": each.reliability,
            "reliability_low": reliable[0],
            "reliability_high": reliable[1],
            "distance": each.distance,
            "n_measured": each.magnitude.n,
            "mag_bias": each.magnitude.bias,
            "mag_scatter": each.magnitude.scatter,
            "n_pulls": each.pull.n,
            "pull_bias": each.pull.bias,
            "pull_scatter": each.pull.scatter,
            "pull_std": each.pull.std,
        }


def table_bytes(table: Table, name: str) -> bytes:
    """Encode a table as its file's name says.

    Parameters
    ----------
    table : astropy.table.Table
    name : str
        Ending with one of `TABLE_SUFFIXES`.

    Returns
    -------
    bytes

    Raises
    ------
    UsageError
        If it ends otherwise.
    """
    if name.endswith(".parquet"):
        return _parquet_bytes(table)
    kinds = {".ecsv": "ascii.ecsv", ".csv": "ascii.csv"}
    for suffix, kind in kinds.items():
        if name.endswith(suffix):
            text = io.StringIO()
            table.write(text, format=kind)
            return text.getvalue().encode()
    raise UsageError(f"{name} is no name for a table: end it with {', '.join(TABLE_SUFFIXES)}")


def _parquet_bytes(table: Table) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = [pa.array(table[name].tolist()) for name in table.colnames]
    fields = [
        pa.field(
            name,
            array.type,
            metadata={"description": table[name].description}
            | ({"unit": str(table[name].unit)} if table[name].unit else {}),
        )
        for name, array in zip(table.colnames, arrays, strict=True)
    ]
    sink = io.BytesIO()
    pq.write_table(pa.table(arrays, schema=pa.schema(fields)), sink)
    return sink.getvalue()


def score_lines(score: Score) -> list[str]:
    """Say a score in lines.

    Parameters
    ----------
    score : Score

    Returns
    -------
    list of str
    """
    lines = []
    for name, bins in (("S/N", score.by_snr), ("magnitude", score.by_magnitude)):
        if bins:
            lines.append(_HEADER.format(name=name, unit=score.unit))
            lines += [_bin_line(each) for each in bins]
    total = score.total
    lines.append(_HEADER.format(name="all", unit=score.unit))
    lines.append(_bin_line(total))
    axes = ("x", "y") if score.unit == "pixel" else ("east", "north")
    offsets = ", ".join(
        f"{axis} {difference.bias:+.4f} (scatter {difference.scatter:.4f})"
        for axis, difference in zip(axes, (score.x, score.y), strict=True)
    )
    lines.append(f"positions differ by {offsets} {score.unit}, of {score.x.n:,} matched sources")
    if total.pull.n:
        lines.append(
            f"pulls of {total.pull.n:,} fluxes: median {total.pull.bias:+.2f}, scatter "
            f"{total.pull.scatter:.2f}, standard deviation with all outliers {total.pull.std:.2f}"
        )
    return lines


def _bin_line(each: ScoreBin) -> str:
    edges = "" if math.isinf(each.low) else f"{each.low:g} to {each.high:g}"
    return (
        f"  {edges:>15s} {each.n_reference:9,d} {_percent(each.completeness)} "
        f"{each.n_found:11,d} {_percent(each.reliability)}   {_number(each.distance, '6.3f')}   "
        f"{_number(each.magnitude.bias, '+8.4f')} {_number(each.magnitude.scatter, '8.4f')}   "
        f"{_number(each.pull.bias, '+9.2f')} {_number(each.pull.scatter, '8.2f')}"
    )


def _percent(share: float) -> str:
    return "        -" if math.isnan(share) else f"{share:9.1%}"


def _number(value: float, form: str) -> str:
    width = int(form.strip("+").partition(".")[0])
    return "-".rjust(width) if math.isnan(value) else f"{value:{form}}"
