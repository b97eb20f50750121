"""Say what a run on Lambda would take and cost, line by line, before anything is spent.

SOURCE is what `map` takes; instead, --images tells how many there are. All figures are simulated:
what images take is drawn from a measured profile, the rest is assumed. --profile takes an earlier
run's folder, or a file that `python -m benchmarks profile` made.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hstmap.cli import Console
    from hstmap.run_profile import Profile

HELP = "say what a run on Lambda would take and cost"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("sources", metavar="SOURCE", nargs="*", help="images, as for `map`")
    parser.add_argument("--images", type=int, metavar="N", help="so many, instead of a SOURCE")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N only")
    parser.add_argument(
        "--workers", type=int, default=1000, metavar="N", help="calls at a time: %(default)s"
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="images a call")
    parser.add_argument(
        "--catalogs", choices=("image", "batch", "none"), default="image", help="as for `map`"
    )
    parser.add_argument(
        "--no-catalogs", dest="catalogs", action="store_const", const="none",
        help="as --catalogs none",
    )  # fmt: skip
    parser.add_argument("--memory", type=int, default=1769, metavar="MB", help="%(default)s")
    parser.add_argument("--architecture", choices=("arm64", "x86_64"), default="arm64")
    parser.add_argument("--prices", metavar="NAME_OR_FILE", help="another table of prices")
    parser.add_argument(
        "--profile", metavar="RUN_OR_FILE", help="what images were measured to take"
    )
    parser.add_argument("--json", metavar="FILE", help="keep the figures")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Simulate and print."""
    import json
    from pathlib import Path

    from hstmap.aws.price_table import DEFAULT_PRICES, load_prices
    from hstmap.commands.money import estimate_lines
    from hstmap.errors import UsageError
    from hstmap.estimate import estimate_run
    from hstmap.run_assumptions import RunShape

    if bool(arguments.sources) == (arguments.images is not None):
        raise UsageError("give a SOURCE, or --images with their number")
    if arguments.images is not None and arguments.limit is not None:
        raise UsageError("--limit is for a SOURCE; give --images that number")
    n_images, nbytes = arguments.images, 0
    if arguments.sources:
        n_images, nbytes = _images(arguments)
        if n_images == 0:
            console.say("plan      no images to do")
            return 0
    shape = RunShape(
        n_images=n_images,
        n_workers=arguments.workers,
        batch_size=arguments.batch_size,
        memory_mb=arguments.memory,
        catalogs=arguments.catalogs,
    )
    profile = _profile(arguments.profile)
    prices = load_prices(arguments.prices or DEFAULT_PRICES)
    estimate = estimate_run(shape, profile, prices, arguments.architecture)
    size = f", {nbytes / 1e6:,.0f} MB" if nbytes else ""
    console.give(f"images    {n_images:,}{size}; read, simulated: "
                 f"{n_images * profile.mean_nbytes_read / 1e6:,.0f} MB")  # fmt: skip
    for line in estimate_lines(estimate):
        console.give(line)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(estimate.as_dict(), indent=1) + "\n")
    return 0


def _images(arguments: argparse.Namespace) -> tuple[int, int]:
    """Count the images that were named and that the manifest says to use, and their bytes."""
    from hstmap.archive.sources import resolve_sources

    manifest = resolve_sources(arguments.sources)
    if arguments.limit:
        manifest = manifest.head(arguments.limit)
    table = manifest.table
    n = len(manifest)
    why_not = table["use"].to_pylist() if "use" in table.column_names else [""] * n
    sizes = table["nbytes"].to_pylist() if "nbytes" in table.column_names else [0] * n
    used = [size or 0 for size, reason in zip(sizes, why_not, strict=True) if not reason]
    return len(used), sum(used)


def _profile(name: str | None) -> Profile:
    """Read a profile, or make one of an earlier run."""
    from hstmap.run_measured import profile_of_run
    from hstmap.run_profile import load_profile
    from hstmap.run_record import read_run_record
    from hstmap.storage import open_store

    if name is None:
        return load_profile()
    if not name.endswith(".json"):
        store = open_store(name)
        if read_run_record(store) is not None:
            return profile_of_run(store)
    return load_profile(name)
