"""The command line: parsing and printing, nothing else."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Final, TextIO

import hstmap
from hstmap.commands import COMMANDS
from hstmap.errors import ConservationError, EngineError, HstmapError, TaskError

__all__ = ["Console", "build_parser", "main"]

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130

_DESCRIPTION: Final = """\
Source catalogues of Hubble WFC3/IR images, one for each and a Parquet summary of all:
on this machine, or on AWS Lambda with the same command.

Without images, `hstmap map` runs on a few simulated ones."""


class Console:
    """Where a command says things.

    Attributes
    ----------
    quiet : bool
        Whether only errors and what was asked for are printed.
    stderr : TextIO
        Where progress goes.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.stderr: TextIO = sys.stderr

    def say(self, text: str = "") -> None:
        """Print a line of the report, unless quiet."""
        if not self.quiet:
            print(text, flush=True)

    def give(self, text: str) -> None:
        """Print a line that was asked for, quiet or not."""
        print(text, flush=True)

    def warn(self, text: str) -> None:
        """Print a line to standard error."""
        print(text, file=self.stderr, flush=True)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands; the documentation is checked against it."""
    parser = argparse.ArgumentParser(
        prog="hstmap",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"hstmap {hstmap.__version__}")
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("printing")
    group.add_argument("--quiet", action="store_true", help="print errors only")
    group.add_argument("--debug", action="store_true", help="print tracebacks of errors")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(
            name,
            help=command.HELP,
            description=command.__doc__,
            parents=[common],
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(subparser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        By default the process' own arguments.

    Returns
    -------
    int
        0: all rows are accounted for and none failed; 1: some failed, what was done is kept;
        2: what was asked for cannot be done; 130: interrupted.
    """
    try:
        arguments = build_parser().parse_args(argv)
    except SystemExit as exit_:  # argparse's way to end: 0 after --help, 2 after a mistake
        return int(exit_.code or 0)
    arguments.words = tuple(sys.argv[1:] if argv is None else argv)
    console = Console(quiet=arguments.quiet)
    try:
        return COMMANDS[arguments.command].run(arguments, console)
    except HstmapError as error:
        if arguments.debug:
            traceback.print_exc()
        told = str(error)
        if isinstance(error, TaskError) and not arguments.debug:
            in_brief = told.partition("\n\n")[0]  # after that there is the worker's traceback
            told = f"{in_brief} (--debug shows where)"
        console.warn(f"hstmap {arguments.command}: error: {told}")
        failed_midway = isinstance(error, EngineError | ConservationError)
        return EXIT_FAILED if failed_midway else EXIT_USAGE
    except KeyboardInterrupt:
        if arguments.debug:
            traceback.print_exc()
        console.warn(
            "\ninterrupted: what was finished is kept; run the same command again to go on"
        )
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone, `head` for example: not worth a message.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as error:  # a folder of somebody else's, a disk that is full
        if arguments.debug:
            traceback.print_exc()
        where = f"{error.filename}: " if error.filename else ""
        console.warn(f"hstmap {arguments.command}: error: {where}{error.strerror or error}")
        return EXIT_USAGE
