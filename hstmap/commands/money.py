"""Lines that tell of money."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hstmap.aws.bill import Bill, Reconciled
    from hstmap.aws.price_table import PriceTable
    from hstmap.costs import RunBill

__all__ = ["assumption_lines", "bill_lines"]

_WIDTH = 100


def assumption_lines(notes: Iterable[str]) -> list[str]:
    """Say what is taken for granted.

    Parameters
    ----------
    notes : iterable of str

    Returns
    -------
    list of str
    """
    return [
        line
        for note in notes
        for line in textwrap.wrap(
            note, _WIDTH, initial_indent="assumed   ", subsequent_indent=" " * 10
        )
    ]


def bill_lines(bill: RunBill, prices: PriceTable) -> list[str]:
    """Print a bill under a table of prices.

    Parameters
    ----------
    bill : RunBill
    prices : PriceTable

    Returns
    -------
    list of str
    """
    result = bill.under(prices)
    kind = "simulated: the run was not on Lambda" if bill.simulated else "of the REPORT lines"
    report_name = "simulated" if bill.simulated else "REPORT"
    shape = bill.shape
    lines = [
        f"bill      {kind}; {shape.memory_mb} MB, {shape.architecture}, prices {prices.name}",
        f"{'':16s}{'quantity':>16s} {'':9s}{'planned':>12s}{'worker':>12s}{report_name:>12s}"
        f"{'net':>12s}{'remainder':>12s}",
    ]
    lines += _table(result)
    if result.report is not None:
        spent = result.report.compute_usd
        apart = ", ".join(f"{name} ${usd:.6f}" for name, usd in spent.items())
        lines.append(f"calls     {apart} ({report_name}, list price)")
    if result.unexplained_ms is not None:
        lines.append(f"remainder {result.unexplained_ms} ms of the REPORT lines are unexplained")
    if result.n_unreported:
        lines.append(f"missing   {result.n_unreported} calls have no REPORT line")
    return lines + assumption_lines(bill.notes)


def _table(result: Reconciled) -> list[str]:
    """Print the lines of the bills beside each other, US dollars at list price."""
    from hstmap.aws.bill import LINES

    bills = [result.planned, result.worker, result.report]
    last = result.report or result.worker or result.planned
    if last is None:
        return []
    rows = []
    for name, unit in LINES.items():
        cells = [_usd(bill.line(name).list_usd if bill else None) for bill in bills]
        line = last.line(name)
        rows.append(
            f"{name:16s}{line.quantity:16,.3f} {unit:9s}{''.join(cells)}"
            f"{_usd(line.net_usd)}{_usd(result.remainder_usd(name))}"
        )
    totals = [_usd(bill.list_usd if bill else None) for bill in bills]
    remainder = _total_remainder(result.worker, result.report)
    rows.append(f"{'total':42s}{''.join(totals)}{_usd(last.net_usd)}{_usd(remainder)}")
    return rows


def _total_remainder(worker: Bill | None, report: Bill | None) -> float | None:
    return None if worker is None or report is None else report.list_usd - worker.list_usd


def _usd(value: float | None) -> str:
    """Format US dollars to the ten-thousandth of a cent: runs of a few images cost no more."""
    return f"{'-':>12s}" if value is None else f"{value:12.6f}"
