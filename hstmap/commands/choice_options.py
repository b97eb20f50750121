"""Options that say what of a run is to be chosen, and by what."""

from __future__ import annotations

import argparse
from typing import Any, Final

from hstmap.commands.numbers import positive

__all__ = [
    "AUTO",
    "add_choice_arguments",
    "check_choice",
    "chosen_or_none",
    "number_or_auto",
    "without_choice",
]

AUTO: Final = "auto"


def number_or_auto(text: str) -> int | str:
    """Parse a whole number of 1 or more, or ``auto``.

    Parameters
    ----------
    text : str

    Returns
    -------
    int or str
    """
    if text == AUTO:
        return text
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of 1 or more nor {AUTO!r}")
    return int(text)


def chosen_or_none(value: int | str | None) -> int | None:
    """Give a number that somebody gave; None for ``auto`` and for nothing."""
    return value if isinstance(value, int) else None


def without_choice(arguments: argparse.Namespace) -> argparse.Namespace:
    """Give the arguments as if nothing was to be chosen.

    Parameters
    ----------
    arguments : argparse.Namespace

    Returns
    -------
    argparse.Namespace
    """
    sizes = {"memory": None, "batch_size": None, "deadline": None}
    return argparse.Namespace(**{**vars(arguments), **sizes})


def add_choice_arguments(group: Any, memory_help: str) -> None:
    """Declare memory, batch size, what they are chosen for, and the pilot.

    Parameters
    ----------
    group : argparse group or parser
    memory_help : str
    """
    group.add_argument("--memory", type=number_or_auto, metavar="MB", help=memory_help)
    group.add_argument(
        "--batch-size", "--batch", type=number_or_auto, metavar="N",
        help="images a call; auto: the cheapest, or by --deadline and --budget",
    )  # fmt: skip
    group.add_argument(
        "--deadline", type=float, metavar="SECONDS",
        help="for auto: the cheapest that is expected to take no longer",
    )  # fmt: skip
    group.add_argument(
        "--profile", metavar="RUN_OR_FILE",
        help="plan by what images took in an earlier run, or by a file of `benchmarks profile`",
    )  # fmt: skip
    group.add_argument(
        "--pilot", type=positive, metavar="N",
        help="do a sample of N images first, and plan the rest by what they took",
    )  # fmt: skip


def check_choice(arguments: argparse.Namespace, *, local: bool) -> None:
    """Refuse a deadline where there is nothing to choose.

    Parameters
    ----------
    arguments : argparse.Namespace
    local : bool
        Whether the run is on this machine.

    Raises
    ------
    UsageError
    """
    from hstmap.errors import UsageError

    is_auto = AUTO in (arguments.memory, arguments.batch_size)
    if arguments.deadline is not None and (local or not is_auto):
        raise UsageError(
            "--deadline is for runs on Lambda with --memory auto or --batch-size auto; on this "
            "machine the fastest is chosen anyway"
        )
