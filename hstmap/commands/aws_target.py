"""What the commands about AWS share: which account and settings, and the lines they print."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hstmap.aws.session import AwsSession
    from hstmap.aws.settings import AwsSettings
    from hstmap.aws.step import Step

__all__ = ["add_target_arguments", "open_target", "step_line"]


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how the account and the settings are chosen."""
    parser.add_argument("--config", metavar="FILE", help="another lithops_config.yaml")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")


def open_target(config: str | None) -> tuple[AwsSession, AwsSettings]:
    """Read the configuration, and find out whose account it is.

    Raises
    ------
    UsageError
        If the configuration will not do, or AWS does not take the credentials.
    """
    from hstmap.aws.session import AwsSession
    from hstmap.aws.settings import aws_settings
    from hstmap.config import load_settings

    sections = load_settings(config).lithops_config()
    session = AwsSession(aws_settings(sections, "").region)
    return session, aws_settings(sections, session.account_id())


def step_line(step: Step) -> str:
    """Write a step as a line."""
    return f"{step.what:10s}{step.action:9s}{step.detail}".rstrip()
