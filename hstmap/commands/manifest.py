"""List the WFC3/IR images of the archive, and why some are not for use.

Asks MAST (or lists the bucket) for whole answers only: a manifest that is written is complete.
Without a network, --offline rehearses on a made archive.
"""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hstmap.archive.build import BuildOptions
    from hstmap.archive.pages import Progress as PagesProgress
    from hstmap.archive.query import ArchiveQuery
    from hstmap.cli import Console

HELP = "list the images of the archive"

_DEFAULT_OUT = "manifest.parquet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "-o", "--output", metavar="FILE",
        help=f".parquet, .csv or .ecsv (default: {_DEFAULT_OUT}, or the manifest that is updated)",
    )  # fmt: skip
    which = parser.add_argument_group("which images")
    which.add_argument("--filter", action="append", metavar="NAME", help="may be repeated")
    which.add_argument("--product", choices=("flt", "drz", "ima"), default="flt")
    which.add_argument("--target", metavar="NAME", help="a name, or 'RA DEC' in degrees")
    which.add_argument(
        "--radius", type=float, default=3.0, metavar="ARCMIN",
        help="around the target (default: %(default)s)",
    )  # fmt: skip
    which.add_argument("--program", action="append", type=int, metavar="ID", help="repeatable")
    which.add_argument("--since", type=date.fromisoformat, metavar="DATE", help="2024-01-31")
    which.add_argument(
        "--instrument-mode", choices=("all", "imaging", "spectroscopic"), default="all"
    )
    which.add_argument("--limit", type=int, metavar="N", help="N rows at most")
    how = parser.add_argument_group("how")
    how.add_argument("--source", choices=("missions", "caom", "listing"), default="missions")
    how.add_argument("--store", metavar="URL", help="a copy of the archive's bucket")
    how.add_argument("--update", metavar="MANIFEST", help="ask only for what is newer")
    how.add_argument("--verify", metavar="MANIFEST", help="mark keys that are absent or forbidden")
    how.add_argument("--offline", action="store_true", help="a made archive, no network")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Make, update or verify a manifest."""
    from hstmap.archive.build import build_manifest, update_manifest, verify_manifest
    from hstmap.archive.describe import manifest_lines, update_lines
    from hstmap.archive.manifest import Manifest
    from hstmap.bag.progress import Progress

    _check(arguments)
    with (
        Progress(0, unit="page", stream=console.stderr, quiet=arguments.quiet) as progress,
        _archive(arguments),
    ):
        options = _build_options(arguments, _Pages(progress).show, console)
        if arguments.update:
            update = update_manifest(Manifest.read(arguments.update), options)
            manifest = update.manifest
            lines = update_lines(update)
        elif arguments.verify:
            manifest = verify_manifest(Manifest.read(arguments.verify), options)
            lines = []
        else:
            manifest = build_manifest(_query(arguments), options)
            lines = []
    output = arguments.output or arguments.update or arguments.verify or _DEFAULT_OUT
    manifest.write(output)
    for line in (*lines, *manifest_lines(manifest), output):
        console.say(line)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what contradicts itself, and a file that could not be written in the end."""
    from hstmap.archive.manifest_files import MANIFEST_SUFFIXES
    from hstmap.errors import UsageError

    if arguments.update and arguments.verify:
        raise UsageError("--update and --verify are two steps: give one of them")
    output = arguments.output
    if output and not output.lower().endswith(MANIFEST_SUFFIXES):
        raise UsageError(
            f"{output!r} is not a manifest's name: end it in {', '.join(MANIFEST_SUFFIXES)}"
        )


class _Pages:
    """Turns what is told of pages into a progress bar."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._n_units = 0
        self._n_done = 0

    def show(self, pages: PagesProgress) -> None:
        """Show how far it is."""
        if pages.n_units > self._n_units:
            self._progress.expect(pages.n_units - self._n_units)
            self._n_units = pages.n_units
        self._progress.note(f"{pages.n_rows:,} rows")
        if pages.n_done > self._n_done:
            self._progress.advance(pages.n_done - self._n_done)
            self._n_done = pages.n_done


def _archive(arguments: argparse.Namespace) -> AbstractContextManager[Any]:
    """Enter the made archive if there is to be no network."""
    if not arguments.offline:
        return nullcontext()
    from hstmap.archive.offline.redirect import offline_mast

    return offline_mast()


def _build_options(arguments: argparse.Namespace, show: Any, console: Console) -> BuildOptions:
    """Collect how to ask."""
    from hstmap.archive.build import BuildOptions
    from hstmap.archive.listing import ListingOptions
    from hstmap.archive.pages import PagingOptions

    store = {"store": arguments.store} if arguments.store else {}
    return BuildOptions(
        paging=PagingOptions(on_progress=show, on_trouble=console.warn),
        listing=ListingOptions(on_progress=show),
        **store,
    )


def _query(arguments: argparse.Namespace) -> ArchiveQuery:
    """Collect what to ask."""
    from hstmap.archive.query import ArchiveQuery

    return ArchiveQuery(
        source=arguments.source,
        product=arguments.product,
        filters=tuple(name.upper() for name in arguments.filter or ()),
        target=arguments.target,
        radius_arcmin=arguments.radius,
        programs=tuple(arguments.program or ()),
        since=arguments.since,
        mode=arguments.instrument_mode,
        limit=arguments.limit,
    )
