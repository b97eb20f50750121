"""Merge the parts of a run into its summary: its sources and images.parquet.

`map` does this by itself, unless it is told not to with --no-reduce. The sources are one file,
sources.parquet, or of a large run a folder of files, sources/, which tasks write where the
configuration says, as `map` does its batches.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hstmap.cli import Console

HELP = "merge the parts of a run into its summary"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from hstmap.commands.numbers import positive
    from hstmap.commands.reducing import add_rows_argument

    parser.add_argument("out", metavar="OUT", help="folder or s3://bucket/prefix of the run")
    add_rows_argument(parser)
    running = parser.add_argument_group("how tasks run, if there are any")
    running.add_argument("--config", metavar="FILE", help="another lithops_config.yaml")
    running.add_argument("--engine", choices=("lithops", "inprocess"))
    running.add_argument("--workers", type=positive, metavar="N", help="tasks at a time")
    running.add_argument("--timeout", type=float, metavar="SECONDS", help="longest attempt")
    running.add_argument("--retries", type=int, metavar="N", help="further attempts of a task")
    running.add_argument(
        "--budget", type=float, metavar="USD", help="what the run may cost, its maps included"
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Reduce the run."""
    from hstmap.commands.reducing import reduce_parts
    from hstmap.commands.reports import exit_status, summary_lines
    from hstmap.config import load_settings

    settings = load_settings(arguments.config).with_options(
        engine=arguments.engine,
        n_workers=arguments.workers,
        timeout_s=arguments.timeout,
        retries=arguments.retries,
        budget_usd=arguments.budget,
    )
    summary = reduce_parts(arguments.out, settings, arguments.rows_a_file, console)
    for line in summary_lines(summary):
        console.say(line)
    return exit_status(summary.outcomes)
