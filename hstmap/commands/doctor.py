"""Look at everything that a run on AWS needs, and say how to mend what is wrong.

Changes nothing. Exit status 1 if something must be mended before a run can work.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hstmap.cli import Console

HELP = "find out what a run on AWS lacks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--config", metavar="FILE", help="another lithops_config.yaml")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Examine."""
    from hstmap.aws.doctor import examine
    from hstmap.commands.aws_target import open_target, with_config

    session, settings = open_target(arguments.config)
    failed = False
    for finding in examine(session, settings):
        failed |= finding.status == "fail"
        detail, mend = (
            with_config(text, arguments.config) for text in (finding.detail, finding.mend)
        )
        console.give(f"{finding.status:5s}{finding.subject:13s}{detail}")
        if mend and finding.status != "ok":
            console.give(f"     {'':13s}-> {mend}")
    return 1 if failed else 0
