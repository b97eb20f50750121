"""Say what a run cost, line by line, and save that with it as bill.json.

OUT is a run, or the bill.json of one: that is priced again, under any table of prices. The bill
is simulated from the run's ledger: as if each attempt had been a call of Lambda.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hstmap.cli import Console

HELP = "say what a run cost, line by line"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("out", metavar="OUT", help="folder or s3://bucket/prefix of the run")
    parser.add_argument(
        "--prices", metavar="NAME_OR_FILE", help="table of prices, such as us-east-1-2018"
    )
    parser.add_argument("--memory", type=int, metavar="MB", help="of the function (default: 1769)")
    parser.add_argument("--architecture", choices=("arm64", "x86_64"), help="default: arm64")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Make the bill, save it and print it."""
    from dataclasses import replace

    from hstmap.aws.price_table import DEFAULT_PRICES, load_prices
    from hstmap.commands.money import bill_lines
    from hstmap.costs import BILL_KEY, LambdaShape, bill_from_record, bill_run, is_run_bill
    from hstmap.errors import UsageError
    from hstmap.run_profile import load_profile
    from hstmap.storage import open_store, split_url

    prices = load_prices(arguments.prices or DEFAULT_PRICES)
    given = {"memory_mb": arguments.memory, "architecture": arguments.architecture}
    shape = {name: value for name, value in given.items() if value is not None}
    if is_run_bill(arguments.out):
        if arguments.memory is not None:
            raise UsageError("a saved bill has the memory it was made with; name its run instead")
        root, key = split_url(arguments.out)
        bill = bill_from_record(open_store(root).get(key))
        bill = replace(bill, shape=replace(bill.shape, **shape))
        saved = arguments.out
    else:
        store = open_store(arguments.out)
        bill = bill_run(store, LambdaShape(**shape), load_profile())
        store.put(BILL_KEY, bill.as_json(prices))
        saved = f"{store.url}/{BILL_KEY}"
    for line in bill_lines(bill, prices):
        console.give(line)
    console.say(f"saved     {saved}")
    return 0
