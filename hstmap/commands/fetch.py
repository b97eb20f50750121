"""Bring images to a folder: many at once, resumed where they broke, whole or not at all.

SOURCE is what `map` takes: a manifest, a list of keys, an s3://bucket/prefix, single files.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hstmap.cli import Console

HELP = "bring images to a folder"

_N_NAMED = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from hstmap.commands.numbers import positive

    parser.add_argument("sources", metavar="SOURCE", nargs="+", help="images, as for `map`")
    parser.add_argument("--to", required=True, type=Path, metavar="DIR", help="where they go")
    parser.add_argument("--product", choices=("flt", "drz", "ima"), help="of listed names")
    parser.add_argument("--filter", metavar="NAME", help="of this filter only")
    parser.add_argument("--limit", type=positive, metavar="N", help="the first N only")
    parser.add_argument("--unused-too", action="store_true", help="those not for use as well")
    parser.add_argument("--connections", type=positive, default=16, metavar="N")
    parser.add_argument("--always-md5", action="store_true", help="verify the MD5 of every file")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Plan and fetch."""
    from hstmap.archive.describe import fetch_lines, plan_lines, trouble_lines
    from hstmap.archive.fetch import FetchOptions, FetchProgress, fetch
    from hstmap.archive.fetch_plan import plan_fetch
    from hstmap.archive.sources import resolve_sources
    from hstmap.aws.price_table import load_prices
    from hstmap.bag.progress import Progress

    manifest = resolve_sources(arguments.sources, product=arguments.product)
    if arguments.filter:
        manifest = manifest.filter(filter=arguments.filter.upper())
    if arguments.limit:
        manifest = manifest.head(arguments.limit)
    plan = plan_fetch(
        manifest, arguments.to, unused_too=arguments.unused_too, ask_sizes=arguments.dry_run
    )
    egress = load_prices().egress_internet_gb_usd
    for line in plan_lines(plan, egress, FetchOptions()):
        console.say(line)
    if arguments.dry_run:
        return 0
    with Progress(
        len(plan.files), unit="file", stream=console.stderr, quiet=arguments.quiet
    ) as progress:

        def show(state: FetchProgress) -> None:
            progress.note(f"{state.nbytes / 1e6:,.0f} MB")
            progress.advance(state.n_done - progress.n_done)

        options = FetchOptions(
            n_connections=arguments.connections,
            md5="always" if arguments.always_md5 else "pieced",
            on_progress=show,
            on_trouble=console.warn,
        )
        report = fetch(plan, options)
    for line in trouble_lines(report)[:_N_NAMED]:
        console.warn(line)
    for line in (*fetch_lines(report), str(arguments.to)):
        console.say(line)
    return int(report.counts.get("fetched", 0) < len(report.outcomes))
