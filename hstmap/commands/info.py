"""Tell what FITS files hold, from their headers alone: one row for each HDU, in Parquet.

SOURCE is what `map` takes. With --keyword, values of header cards become columns.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hstmap.cli import Console

HELP = "tell what FITS files hold, from their headers"

_DEFAULT_OUT = "hstmap-info"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from hstmap.commands.numbers import positive

    parser.add_argument("sources", metavar="SOURCE", nargs="+", help="files, as for `map`")
    parser.add_argument(
        "-o", "--out", default=_DEFAULT_OUT, metavar="DIR_OR_S3_PREFIX", help="default: %(default)s"
    )
    parser.add_argument("--keyword", action="append", metavar="NAME", help="may be repeated")
    parser.add_argument("--limit", type=positive, metavar="N", help="the first N only")
    parser.add_argument("--batch-size", type=positive, metavar="N", help="files a task")
    parser.add_argument("--config", metavar="FILE", help="another lithops_config.yaml")
    parser.add_argument("--engine", choices=("lithops", "inprocess"))
    parser.add_argument("--workers", type=positive, metavar="N", help="tasks at a time")
    parser.add_argument("--overwrite", action="store_true", help="read all files again")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Read the headers."""
    from hstmap.archive.sources import resolve_sources
    from hstmap.bag.engine import make_engine
    from hstmap.bag.progress import Progress
    from hstmap.commands.engines import engine_options
    from hstmap.commands.reports import open_line
    from hstmap.config import load_settings
    from hstmap.fits_info import InfoOptions, run_info

    settings = load_settings(arguments.config).with_options(
        engine=arguments.engine, n_workers=arguments.workers, batch_size=arguments.batch_size
    )
    manifest = resolve_sources(arguments.sources)
    for note in manifest.notes:
        console.say(f"note      {note}")
    if arguments.limit:
        manifest = manifest.head(arguments.limit)
    batch_size = settings.batch_size or InfoOptions.batch_size
    with (
        Progress(len(manifest), unit="file", stream=console.stderr, quiet=arguments.quiet) as bar,
        make_engine(settings.engine, engine_options(settings)) as engine,
    ):
        options = InfoOptions(
            keywords=tuple(name.upper() for name in arguments.keyword or ()),
            overwrite=arguments.overwrite,
            on_batch=lambda n_files, _n_rows: bar.advance(n_files),
            batch_size=batch_size,
        )
        result = run_info(manifest, arguments.out, engine, options)
    nbytes_read = result.requests.nbytes_read
    share = nbytes_read / result.nbytes_files if result.nbytes_files else 0.0
    console.say(f"files     {result.n_files:,} ({result.n_read:,} read now)")
    errors = f"{result.n_errors:,} rows tell of an error, in their column error"
    console.say(f"HDUs      {result.n_rows:,}; {errors if result.n_errors else 'no error'}")
    console.say(f"bytes     {nbytes_read / 1e6:,.1f} MB read, {share:.1%} of theirs")
    console.say(f"results   {result.url}")
    console.say(open_line(result.url))
    return int(result.n_errors > 0)
