"""The commands, one a module: its arguments, and what it does with them.

What a command needs is imported when it runs, so that ``hstmap --help`` answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

from hstmap.commands import (
    bill,
    deploy,
    doctor,
    export,
    fetch,
    info,
    local_aws,
    manifest,
    overlay,
    plan,
    prices,
    reduce,
    score,
    simulate,
    undeploy,
)
from hstmap.commands import map as map_command

if TYPE_CHECKING:
    from hstmap.cli import Console

__all__ = ["COMMANDS", "Command"]


class Command(Protocol):
    """What a module of this package has."""

    HELP: str
    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""

    def run(self, arguments: argparse.Namespace, console: Console) -> int:
        """Do it, and return the exit status."""


COMMANDS: Final[Mapping[str, Command]] = MappingProxyType(
    {
        "manifest": manifest,
        "plan": plan,
        "map": map_command,
        "reduce": reduce,
        "bill": bill,
        "prices": prices,
        "overlay": overlay,
        "export": export,
        "fetch": fetch,
        "info": info,
        "simulate": simulate,
        "score": score,
        "doctor": doctor,
        "deploy": deploy,
        "undeploy": undeploy,
        "local-aws": local_aws,
    }
)
