"""Merge the parts of a run into its summary: sources.parquet and images.parquet.

`map` does this by itself, unless it is told not to with --no-reduce.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hstmap.cli import Console

HELP = "merge the parts of a run into its summary"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("out", metavar="OUT", help="folder or s3://bucket/prefix of the run")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Reduce the run."""
    from hstmap.account.requests_made import recorded
    from hstmap.commands.reports import exit_status, summary_lines
    from hstmap.storage import open_store
    from hstmap.summary import reduce_run

    with recorded("reduce", open_store(arguments.out)):
        summary = reduce_run(arguments.out)
    for line in summary_lines(summary):
        console.say(line)
    return exit_status(summary.outcomes)
