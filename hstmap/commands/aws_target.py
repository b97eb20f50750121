"""What the commands about AWS share: which account and settings, and the lines they print."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from hstmap.errors import EngineError

if TYPE_CHECKING:
    from hstmap.aws.session import AwsSession
    from hstmap.aws.settings import AwsSettings
    from hstmap.aws.step import Step
    from hstmap.cli import Console

__all__ = [
    "add_target_arguments",
    "aws_errors",
    "open_target",
    "show_steps",
    "step_line",
    "with_config",
]

#: Commands that read the configuration, as advice names them.
_CONFIGURED: Final = re.compile(r"python -m hstmap (?:deploy|doctor)|runtime/build --image --push")


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
    session.check_region()
    return session, aws_settings(sections, session.account_id())


def with_config(advice: str, config: str | None) -> str:
    """Name the configuration in the commands of an advice: without it they would be for another.

    Parameters
    ----------
    advice : str
    config : str, optional
        As it was given on the command line.

    Returns
    -------
    str
    """
    if config is None:
        return advice
    return _CONFIGURED.sub(lambda found: f"{found[0]} --config {shlex.quote(config)}", advice)


@contextmanager
def aws_errors() -> Iterator[None]:
    """Say what AWS refuses as the user's business.

    Raises
    ------
    EngineError
        In the place of boto3's errors.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    from hstmap.aws.session import in_brief

    try:
        yield
    except ClientError as error:
        raise EngineError(
            f"AWS does not do it: {in_brief(error)}; python -m hstmap deploy --policies prints the "
            "rights that are needed"
        ) from error
    except (Boto3Error, BotoCoreError) as error:
        raise EngineError(
            f"AWS cannot be used: {in_brief(error)}; python -m hstmap doctor"
        ) from error


def show_steps(steps: Iterable[Step], console: Console, *, dry_run: bool) -> None:
    """Print what is done while it is done."""
    with aws_errors():
        for step in steps:
            console.say(step_line(step))
    if dry_run:
        console.say("dry run   nothing was changed")


def step_line(step: Step) -> str:
    """Write a step as a line."""
    return f"{step.what:10s}{step.action:9s}{step.detail}".rstrip()
