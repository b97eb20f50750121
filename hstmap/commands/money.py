"""Lines that tell of money."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hstmap.account.choose import Choice
    from hstmap.account.costs import RunBill
    from hstmap.account.estimate import Estimate, Range
    from hstmap.aws.bill import Bill, Reconciled
    from hstmap.aws.price_table import PriceTable

__all__ = ["assumption_lines", "bill_lines", "choice_lines", "estimate_line", "estimate_lines"]

_WIDTH = 100
#: Runs of a few images are told apart by these.
_DIGITS = {"GB-s": 3, "requests": 0, "GB": 6, "GB-month": 6}


def assumption_lines(notes: Iterable[str], label: str = "assumed") -> list[str]:
    """Say what is taken for granted, or to be known.

    Parameters
    ----------
    notes : iterable of str
    label : str
        What the lines begin with.

    Returns
    -------
    list of str
    """
    return [
        line
        for note in notes
        for line in textwrap.wrap(
            note, _WIDTH, initial_indent=f"{label:10s}", subsequent_indent=" " * 10
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
    kind = (
        "simulated from the ledger: no REPORT lines were read"
        if bill.simulated
        else "of the REPORT lines"
    )
    report_name = "simulated" if bill.simulated else "REPORT"
    shape = bill.shape
    lines = [
        f"bill      {kind}; {shape.memory_mb} MB, {shape.architecture}, prices {prices.name}",
        f"{'US dollars':16s}{'quantity':>16s} {'':9s}{'planned':>12s}{'worker':>12s}"
        f"{report_name:>12s}{'remainder':>12s}{'net':>12s}",
        *_table(result),
        f"columns   {report_name} is what is charged at list price, net after the month's free "
        f"tier; remainder is",
        f"          {report_name} less worker: what the workers do not account for",
    ]
    if result.report is not None:
        lines += _call_lines(bill, result.report, result.unexplained_ms)
    if made := ", ".join(f"{name} {n:,}" for name, n in bill.requests.items() if n):
        lines += assumption_lines([f"requests by who made them: {made}"], "s3")
    if bill.missing:
        how = ", ".join(f"{n:,} {status}" for status, n in bill.missing.items())
        lines.append(
            f"missing   {sum(bill.missing.values()):,} calls have no REPORT line ({how}): Lambda "
            "dropped them, or has not written it yet"
        )
    return lines + assumption_lines(bill.notes, "assumed" if bill.simulated else "note")


def _call_lines(bill: RunBill, report: Bill, unexplained_ms: int | None) -> list[str]:
    """Say what calls were for, and whether their sum is what Lambda says."""
    counts: Counter[str] = Counter()
    for call in bill.usages["report"].calls:
        counts[call.purpose] += call.n
    apart = ", ".join(
        f"{counts[purpose]:,} {purpose} ${usd:.6f}" for purpose, usd in report.compute_usd.items()
    )
    lines = [f"calls     {apart}"]
    if unexplained_ms is not None:
        lines.append(
            f"billed    {report.billed_ms:,} ms in {sum(counts.values()):,} REPORT lines, of which "
            f"{unexplained_ms:,} ms are unexplained"
        )
    return lines


def choice_lines(choice: Choice) -> list[str]:
    """Print what memory and batch size were chosen from: the curves through the chosen point.

    Parameters
    ----------
    choice : Choice

    Returns
    -------
    list of str
        All that have the chosen memory or the chosen batch size.
    """
    chosen = choice.chosen
    n_simulated = sum(point.simulated for point in choice.points)
    lines = [
        f"choice    {choice.goal} of {len(choice.points)}, of which {n_simulated} were simulated "
        f"event by event (*); workers need {choice.least_memory_mb:,} MB",
        f"{'':10s}{'memory':>8s}{'batch':>7s}{'low, s':>10s}{'expected':>10s}{'high':>10s}"
        f"{'low, USD':>12s}{'expected':>12s}{'high':>12s}",
    ]
    for point in choice.points:
        if chosen.memory_mb != point.memory_mb and chosen.batch_size != point.batch_size:
            continue
        seconds, usd = point.total_s, point.list_usd
        lines.append(
            f"{'  chosen' if point == chosen else '':9s}{'*' if point.simulated else '':1s}"
            f"{point.memory_mb:8,}{point.batch_size:7,}"
            f"{seconds.low:10,.1f}{seconds.expected:10,.1f}{seconds.high:10,.1f}"
            f"{usd.low:12,.4f}{usd.expected:12,.4f}{usd.high:12,.4f}"
        )
    return lines


def estimate_line(estimate: Estimate) -> str:
    """Sum an estimate up in one line.

    Parameters
    ----------
    estimate : Estimate

    Returns
    -------
    str
    """
    usd, seconds = estimate.list_usd, estimate.total_s
    return (
        f"estimate  simulated, on Lambda: ${usd.expected:.4f} ({usd.low:.4f} to {usd.high:.4f}), "
        f"{seconds.expected:.1f} s ({seconds.low:.1f} to {seconds.high:.1f})"
    )


def estimate_lines(estimate: Estimate) -> list[str]:
    """Print an estimate line by line.

    Parameters
    ----------
    estimate : Estimate

    Returns
    -------
    list of str
    """
    from hstmap.account.run_assumptions import EXPECTED, HIGH, LOW
    from hstmap.bag.render import count

    shape = estimate.shape
    lines = [
        f"calls     {estimate.n_calls:,} of {count(shape.images_a_call, 'image')}, "
        f"{shape.n_workers:,} at a time, {shape.memory_mb} MB, {estimate.architecture}",
        f"profile   {estimate.profile}",
        f"{f'simulated, of {estimate.n_runs} runs':28s}{'low':>12s}{'expected':>12s}{'high':>12s}",
        *(_range_line(f"{name}, s", value, 1) for name, value in (
            ("map", estimate.map_s), ("reduce", estimate.reduce_s), ("all", estimate.total_s),
        )),
        *(_range_line(f"{name}, USD", value, 6) for name, value in estimate.lines.items()),
        _range_line("list price, USD", estimate.list_usd, 6),
        _range_line("after the free tier, USD", estimate.net_usd, 6),
    ]  # fmt: skip
    sets = (vars(LOW), vars(EXPECTED), vars(HIGH))
    notes = [
        f"{name} {value:g}" if low == value == high else f"{name} {low:g}, {value:g}, {high:g}"
        for name, (low, value, high) in {
            name: tuple(values[name] for values in sets) for name in sets[0]
        }.items()
    ]
    return lines + assumption_lines(["; ".join(notes), f"prices {estimate.prices}"])


def _range_line(label: str, value: Range, digits: int) -> str:
    numbers = (value.low, value.expected, value.high)
    return f"{label:28s}" + "".join(f"{number:12,.{digits}f}" for number in numbers)


def _table(result: Reconciled) -> list[str]:
    """Print the lines of the bills beside each other, US dollars at list price."""
    from hstmap.aws.bill import LINES

    bills = [result.planned, result.worker, result.report]
    last = result.report or result.worker or result.planned
    if last is None:
        return []
    rows = []
    for name, unit in LINES.items():
        if not any(bill.line(name).quantity for bill in bills if bill):
            continue
        cells = [_usd(bill.line(name).list_usd if bill else None) for bill in bills]
        line = last.line(name)
        rows.append(
            f"{name:16s}{line.quantity:16,.{_DIGITS[unit]}f} {unit:9s}{''.join(cells)}"
            f"{_usd(result.remainder_usd(name))}{_usd(line.net_usd)}"
        )
    totals = [_usd(bill.list_usd if bill else None) for bill in bills]
    remainder = _total_remainder(result.worker, result.report)
    rows.append(f"{'total':42s}{''.join(totals)}{_usd(remainder)}{_usd(last.net_usd)}")
    return rows


def _total_remainder(worker: Bill | None, report: Bill | None) -> float | None:
    return None if worker is None or report is None else report.list_usd - worker.list_usd


def _usd(value: float | None) -> str:
    """Format US dollars to the ten-thousandth of a cent: runs of a few images cost no more."""
    return f"{'-':>12s}" if value is None else f"{value:12.6f}"
