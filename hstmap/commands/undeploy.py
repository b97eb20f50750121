"""Remove what `deploy` made: function, role, logs, packages, and the bucket if it is empty then.

Results stay, and so does what was not made by hstmap.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hstmap.cli import Console

HELP = "remove from AWS what `deploy` made"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from hstmap.commands.aws_target import add_target_arguments

    add_target_arguments(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Undeploy."""
    from hstmap.aws.undeploy import undeploy
    from hstmap.commands.aws_target import open_target, show_steps

    session, settings = open_target(arguments.config)
    steps = undeploy(session, settings, dry_run=arguments.dry_run)
    show_steps(steps, console, dry_run=arguments.dry_run)
    return 0
