"""Say what a run cost, line by line, and save that with it as bill.json.

OUT is a run, or the bill.json of one: that is priced again, under any table of prices. Of a run on
Lambda the REPORT lines are read from CloudWatch Logs, and saved with it as reports.parquet. Of any
other run the bill is simulated from its ledger: as if each attempt had been a call of Lambda.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hstmap.account.costs import LambdaShape, RunBill
    from hstmap.account.lambda_reports import LambdaReports
    from hstmap.account.run_calls import RunCalls
    from hstmap.aws.price_table import PriceTable
    from hstmap.cli import Console
    from hstmap.storage import Store

HELP = "say what a run cost, line by line"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("out", metavar="OUT", help="folder or s3://bucket/prefix of the run")
    parser.add_argument(
        "--prices", metavar="NAME_OR_FILE", help="table of prices, such as us-east-1-2018"
    )
    parser.add_argument(
        "--wait", type=float, default=60.0, metavar="SECONDS",
        help="longest wait for REPORT lines that are not there yet (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--memory", type=int, metavar="MB", help="of the function, if simulated (default: 1769)"
    )
    parser.add_argument(
        "--architecture", choices=("arm64", "x86_64"),
        help="default: that of the function; arm64 if simulated",
    )  # fmt: skip


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Make the bill, save it and print it."""
    from hstmap.account.costs import is_run_bill
    from hstmap.aws.price_table import DEFAULT_PRICES, load_prices
    from hstmap.commands.money import bill_lines

    prices = load_prices(arguments.prices or DEFAULT_PRICES)
    make = _saved_bill if is_run_bill(arguments.out) else _new_bill
    bill, saved = make(arguments, prices, console)
    for line in bill_lines(bill, prices):
        console.give(line)
    console.say(f"saved     {saved}")
    return 0


def _saved_bill(
    arguments: argparse.Namespace,
    prices: PriceTable,  # noqa: ARG001 - nothing is saved again
    console: Console,  # noqa: ARG001
) -> tuple[RunBill, str]:
    """Read a bill that was saved."""
    from dataclasses import replace

    from hstmap.account.costs import bill_from_record
    from hstmap.errors import UsageError
    from hstmap.storage import open_store, split_url

    if arguments.memory is not None:
        raise UsageError("a saved bill has the memory it was made with; name its run instead")
    root, key = split_url(arguments.out)
    bill = bill_from_record(open_store(root).get(key))
    if arguments.architecture is not None:
        bill = replace(bill, shape=replace(bill.shape, architecture=arguments.architecture))
    return bill, arguments.out


def _new_bill(
    arguments: argparse.Namespace, prices: PriceTable, console: Console
) -> tuple[RunBill, str]:
    """Make the bill of a run, and save it."""
    from hstmap.account.costs import BILL_KEY
    from hstmap.account.report_rows import REPORTS_KEY, rows_as_parquet
    from hstmap.account.requests_made import recorded
    from hstmap.storage import open_store

    store = open_store(arguments.out)
    with recorded("bill", store):
        bill, reports = _make_bill(store, arguments, console)
        saved = f"{store.url}/{BILL_KEY}"
        if reports is not None:
            store.put(REPORTS_KEY, rows_as_parquet(reports.rows))
            saved += f" and {REPORTS_KEY}"
        store.put(BILL_KEY, bill.as_json(prices))
    return bill, saved


def _make_bill(
    store: Store, arguments: argparse.Namespace, console: Console
) -> tuple[RunBill, LambdaReports | None]:
    """Make the bill of a run, of its REPORT lines if there are any."""
    from hstmap.account.costs import bill_run
    from hstmap.account.run_calls import read_calls
    from hstmap.account.run_profile import load_profile
    from hstmap.errors import UsageError

    calls = read_calls(store)
    reports = _read_reports(store, calls, arguments, console) if calls.on_lambda else None
    if reports is not None and arguments.memory is not None:
        raise UsageError("the run was on Lambda: its REPORT lines tell the memory; omit --memory")
    shape = _shape(arguments, calls)
    return bill_run(store, calls, shape, load_profile(), reports), reports


def _read_reports(
    store: Store, calls: RunCalls, arguments: argparse.Namespace, console: Console
) -> LambdaReports | None:
    """Read the REPORT lines of a run on Lambda, unless its log is gone."""
    from hstmap.account.lambda_reports import LambdaReports, Waiting
    from hstmap.account.report_rows import read_rows
    from hstmap.errors import MissingObjectError

    waiting = Waiting(arguments.wait, console.say)
    reports = LambdaReports(calls, read_rows(store), waiting)
    try:
        reports.read()
    except MissingObjectError as error:
        console.warn(f"warning: {error}: its REPORT lines cannot be read, so this is simulated")
        return None
    if not reports.rows:
        console.warn(
            f"warning: none of {len(calls.calls):,} calls has a REPORT line, so this is simulated"
        )
        return None
    return reports


def _shape(arguments: argparse.Namespace, calls: RunCalls) -> LambdaShape:
    """Say which function it was, or is taken to be."""
    from hstmap.account.costs import LambdaShape

    shape = LambdaShape()
    if calls.on_lambda:
        _, place = calls.on_lambda[-1]
        shape = LambdaShape(place.memory_mb, place.architecture)
    return LambdaShape(
        arguments.memory or shape.memory_mb, arguments.architecture or shape.architecture
    )
