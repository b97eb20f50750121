"""What a run costs, line by line: pure arithmetic over what was used and a table of prices.

`~hstmap.aws.usage.Usage` says what was used. `price` makes a bill of it under any `PriceTable`,
that of another year too. `reconcile` puts what was planned, what the workers said and what the
REPORT lines say side by side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from hstmap.aws.price_table import PriceTable
from hstmap.aws.usage import Call, Purpose, Usage
from hstmap.errors import UsageError

__all__ = [
    "LINES",
    "Bill",
    "BillLine",
    "Reconciled",
    "price",
    "reconcile",
]

#: Lines of a bill, in their order, with the unit of their quantity.
LINES: Final = {
    "compute": "GB-s",
    "init": "GB-s",
    "requests": "requests",
    "s3_get": "requests",
    "s3_put": "requests",
    "s3_list": "requests",
    "logs": "GB",
    "storage_month": "GB-month",
    "egress_regions": "GB",
    "egress_internet": "GB",
}

_GB: Final = 1e9
_MB_A_GB: Final = 1024  # of Lambda's memory; S3 and CloudWatch count in powers of ten here


@dataclass(frozen=True)
class BillLine:
    """One line of a bill.

    Attributes
    ----------
    name : str
        One of `LINES`.
    quantity : float
        In the unit of the line.
    list_usd, net_usd : float
        At list price, and after the month's free tier, if nothing else has used it.
    """

    name: str
    quantity: float
    list_usd: float
    net_usd: float


@dataclass(frozen=True)
class Bill:
    """What was used under one table of prices.

    Attributes
    ----------
    prices : str
        Name of the table.
    architecture : str
    lines : tuple of BillLine
        All of `LINES`.
    compute_usd : dict of str to float
        Compute and INIT at list price by what the calls were for.
    billed_ms : int
        Sum of all calls' billed durations.
    """

    prices: str
    architecture: str
    lines: tuple[BillLine, ...]
    compute_usd: dict[Purpose, float]
    billed_ms: int

    @property
    def list_usd(self) -> float:
        """Its total at list price."""
        return math.fsum(line.list_usd for line in self.lines)

    @property
    def net_usd(self) -> float:
        """Its total after the free tier."""
        return math.fsum(line.net_usd for line in self.lines)

    def line(self, name: str) -> BillLine:
        """Find a line.

        Parameters
        ----------
        name : str
            One of `LINES`.

        Returns
        -------
        BillLine
        """
        return next(line for line in self.lines if line.name == name)


def price(usage: Usage, prices: PriceTable, architecture: str) -> Bill:
    """Make the bill of what was used.

    Parameters
    ----------
    usage : Usage
    prices : PriceTable
    architecture : str
        One that the table has: ``x86_64`` or ``arm64``.

    Returns
    -------
    Bill

    Raises
    ------
    UsageError
        If the table has no such architecture.
    """
    if architecture not in prices.lambda_gb_s_usd:
        raise UsageError(
            f"the prices {prices.name} have no {architecture}: give --architecture "
            f"{' or '.join(sorted(prices.lambda_gb_s_usd))}, or other prices"
        )
    gb_s_usd = prices.lambda_gb_s_usd[architecture]
    compute, init, by_purpose, billed_ms = _gb_seconds(usage.calls, prices)
    n_requests = sum(call.n * call.n_requests for call in usage.calls)
    free_init_gb_s = max(0.0, prices.lambda_free_gb_s - compute)
    # Of each line: quantity, price of its unit, what of it is free each month.
    amounts = {
        "compute": (compute, gb_s_usd, prices.lambda_free_gb_s),
        "init": (init, gb_s_usd, free_init_gb_s),
        "requests": (n_requests, prices.lambda_request_usd, prices.lambda_free_requests),
        "s3_get": (usage.n_get, prices.s3_get_usd, 0.0),
        "s3_put": (usage.n_put, prices.s3_put_usd, 0.0),
        "s3_list": (usage.n_list, prices.s3_list_usd, 0.0),
        "logs": (usage.log_nbytes / _GB, prices.logs_gb_usd, prices.logs_free_gb),
        "storage_month": (usage.stored_nbytes / _GB, prices.s3_gb_month_usd, 0.0),
        "egress_regions": (usage.egress_regions_nbytes / _GB, prices.egress_regions_gb_usd, 0.0),
        "egress_internet": (
            usage.egress_internet_nbytes / _GB, prices.egress_internet_gb_usd, 0.0,
        ),
    }  # fmt: skip
    lines = tuple(
        BillLine(name, quantity, quantity * usd, max(0.0, quantity - free) * usd)
        for name, (quantity, usd, free) in amounts.items()
    )
    compute_usd = {purpose: gb_s * gb_s_usd for purpose, gb_s in by_purpose.items()}
    return Bill(prices.name, architecture, lines, compute_usd, billed_ms)


def _gb_seconds(
    calls: Iterable[Call], prices: PriceTable
) -> tuple[float, float, dict[Purpose, float], int]:
    """Add up compute, INIT, both by purpose (GB-s), and the billed durations (ms)."""
    # In whole MB-ms, so that the sums are exact whatever the number of calls.
    compute = init = billed_ms = 0
    by_purpose: dict[Purpose, int] = {"work": 0, "retry": 0, "twin": 0, "waste": 0}
    for call in calls:
        alone = prices.billed_ms(call.duration_ms)
        together = prices.billed_ms(call.duration_ms, call.init_ms)
        compute += alone * call.memory_mb * call.n
        init += (together - alone) * call.memory_mb * call.n
        by_purpose[call.purpose] += together * call.memory_mb * call.n
        billed_ms += together * call.n
    scale = 1000 * _MB_A_GB
    return (
        compute / scale,
        init / scale,
        {purpose: total / scale for purpose, total in by_purpose.items()},
        billed_ms,
    )


@dataclass(frozen=True)
class Reconciled:
    """Bills of one run by who says so.

    Attributes
    ----------
    planned, worker, report : Bill or None
        What the plan expected, what the workers said, what the REPORT lines say.
    unexplained_ms : int or None
        Billed durations of the REPORT lines less what the prices make of their durations; None
        where the calls carry none, or the prices are not those that they were billed at.
    """

    planned: Bill | None
    worker: Bill | None
    report: Bill | None
    unexplained_ms: int | None

    def remainder_usd(self, name: str) -> float | None:
        """Say what of a line the workers do not account for.

        Parameters
        ----------
        name : str
            One of `LINES`.

        Returns
        -------
        float or None
            REPORT less worker, US dollars at list price; None where one of them is missing.
        """
        if self.worker is None or self.report is None:
            return None
        return self.report.line(name).list_usd - self.worker.line(name).list_usd


def reconcile(
    usages: Mapping[Literal["planned", "worker", "report"], Usage],
    prices: PriceTable,
    architecture: str,
) -> Reconciled:
    """Put bills of one run side by side.

    Parameters
    ----------
    usages : mapping
        What was used, by who says so; what is not known is left out.
    prices : PriceTable
    architecture : str

    Returns
    -------
    Reconciled
    """
    bills = {name: price(usage, prices, architecture) for name, usage in usages.items()}
    report = usages.get("report")
    unexplained = None
    if report is not None and prices.lambda_init_billed and prices.lambda_granularity_ms == 1:
        reported = [call for call in report.calls if call.reported_ms is not None]
        if reported:
            unexplained = sum(
                ((call.reported_ms or 0) - prices.billed_ms(call.duration_ms, call.init_ms))
                * call.n
                for call in reported
            )
    return Reconciled(bills.get("planned"), bills.get("worker"), bills.get("report"), unexplained)
