"""List the tables of prices, or make one of what AWS publishes now.

Without --region the tables that come with hstmap are listed. With it, the files of AWS's Price
List for that region are read, which takes no account, and become a table that `plan` and `bill`
take as --prices.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hstmap.cli import Console

HELP = "list the tables of prices, or fetch one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--region", metavar="NAME", help="fetch the prices of this region")
    parser.add_argument("-o", "--output", metavar="FILE", help="default: REGION-DATE.json")
    parser.add_argument("--url", help="of another Price List than AWS's own")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """List or fetch."""
    from pathlib import Path

    from hstmap.aws.price_list import PRICE_LIST_URL, fetch_prices, prices_as_json
    from hstmap.aws.price_table import load_prices, price_names
    from hstmap.errors import UsageError

    if arguments.region is None:
        if arguments.output or arguments.url:
            raise UsageError("--output and --url are for --region: give that, too")
        for name in price_names():
            console.give(f"{name:20s}{load_prices(name).date}  {load_prices(name).sources[0]}")
        return 0
    prices = fetch_prices(
        arguments.region,
        arguments.url or PRICE_LIST_URL,
        lambda url: console.say(f"fetch     {url}"),
    )
    file = Path(arguments.output or f"{prices.name}.json")
    file.write_text(prices_as_json(prices), encoding="utf-8")
    console.give(f"prices    {prices.region}, {prices.date}: {file}")
    return 0
