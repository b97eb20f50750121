"""Say what a run on Lambda would take and cost, line by line, before anything is spent.

SOURCE is what `map` takes; instead, --images tells how many there are. All figures are simulated:
what images take is drawn from a measured profile, the rest is assumed. --profile takes an earlier
run's folder, or a file that `python -m benchmarks profile` made; --pilot does a sample of the
images first, as a part of the run at --out, which `map` with the same options goes on with.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hstmap.account.costs import LambdaShape
    from hstmap.account.run_profile import Profile
    from hstmap.archive.manifest import Manifest
    from hstmap.cli import Console
    from hstmap.commands.planning import Foreseen

HELP = "say what a run on Lambda would take and cost"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from hstmap.commands.choice_options import add_choice_arguments
    from hstmap.commands.numbers import positive
    from hstmap.commands.run_options import add_catalogs_arguments, add_detection_arguments

    parser.add_argument("sources", metavar="SOURCE", nargs="*", help="images, as for `map`")
    parser.add_argument("--images", type=positive, metavar="N", help="so many, instead of a SOURCE")
    parser.add_argument("--limit", type=positive, metavar="N", help="the first N only")
    parser.add_argument("--workers", type=positive, metavar="N", help="calls at a time: 1000")
    add_catalogs_arguments(parser)
    add_choice_arguments(parser, "of a worker: 1769; auto: as for --batch-size")
    parser.add_argument(
        "--budget", type=float, metavar="USD", help="for auto: the fastest that costs no more"
    )
    parser.add_argument(
        "--architecture", choices=("arm64", "x86_64"), help="default: arm64, or the pilot's"
    )
    parser.add_argument("--prices", metavar="NAME_OR_FILE", help="another table of prices")
    parser.add_argument("--json", metavar="FILE", help="keep the figures")
    pilot = parser.add_argument_group("how the pilot runs, as for `map`")
    pilot.add_argument("-o", "--out", metavar="DIR_OR_S3_PREFIX", help="where its results stay")
    pilot.add_argument("--config", metavar="FILE", help="another lithops_config.yaml")
    pilot.add_argument("--engine", choices=("lithops", "inprocess"))
    pilot.add_argument("--ima", action="store_true", help="do IMA files too: their last read")
    pilot.add_argument("--filter", metavar="NAME", help="of this filter only, such as F160W")
    add_detection_arguments(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Simulate and print."""
    import json
    from pathlib import Path

    from hstmap.commands.map import find_images
    from hstmap.commands.money import choice_lines, estimate_lines
    from hstmap.commands.planning import read_profile

    _check(arguments)
    manifest = find_images(arguments, console) if arguments.sources else None
    if manifest is not None and not _n_used(manifest)[0]:
        console.say("plan      no images to do")
        return 0
    profile, n_done = read_profile(arguments.profile), 0
    if arguments.pilot is not None and manifest is not None:
        profile, n_done = _pilot(manifest, arguments, console)
    n_images, nbytes = (arguments.images, 0) if manifest is None else _n_used(manifest)
    n_images -= n_done
    if n_done and n_images <= 0:
        console.say("plan      the pilot has done all images")
        return 0
    foreseen = _foreseen(n_images, profile, arguments)
    size = f", {nbytes / 1e6:,.0f} MB" if nbytes else ""
    of_rest = f" beyond the pilot's {n_done:,}" if n_done else ""
    console.give(f"images    {n_images:,}{of_rest}{size}; read, simulated: "
                 f"{n_images * profile.mean_nbytes_read / 1e6:,.0f} MB")  # fmt: skip
    lines = choice_lines(foreseen.choice) if foreseen.choice else []
    for line in lines + estimate_lines(foreseen.estimate):
        console.give(line)
    if arguments.json:
        record = foreseen.estimate.as_dict()
        record["choice"] = None if foreseen.choice is None else foreseen.choice.as_dict()
        Path(arguments.json).write_text(json.dumps(record, indent=1) + "\n")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what does not go together."""
    from hstmap.commands.choice_options import check_choice
    from hstmap.errors import UsageError

    check_choice(arguments, local=False)
    if bool(arguments.sources) == (arguments.images is not None):
        raise UsageError("give a SOURCE, or --images with their number")
    if arguments.images is not None and arguments.limit is not None:
        raise UsageError("--limit is for a SOURCE; give --images that number")
    if (arguments.pilot is None) != (arguments.out is None):
        raise UsageError("give --pilot and --out together: a pilot is a part of the run there")
    if arguments.pilot is not None and arguments.profile is not None:
        raise UsageError("--pilot measures a profile: give no --profile with it")
    if arguments.pilot is not None and arguments.images is not None:
        raise UsageError("--pilot does some of the images: give a SOURCE, not their number")


def _n_used(manifest: Manifest) -> tuple[int, int]:
    """Count the images that the manifest says to use, and their bytes."""
    names, n = manifest.column_names, len(manifest)
    why_not = manifest.values("use") if "use" in names else [""] * n
    sizes = manifest.values("nbytes") if "nbytes" in names else [0] * n
    used = [size or 0 for size, reason in zip(sizes, why_not, strict=True) if not reason]
    return len(used), sum(used)


def _foreseen(n_images: int, profile: Profile, arguments: argparse.Namespace) -> Foreseen:
    """Simulate the run, and choose what is to be chosen."""
    from hstmap.account.choose import Goal
    from hstmap.account.run_assumptions import RunShape
    from hstmap.aws.price_table import DEFAULT_PRICES, load_prices
    from hstmap.commands.choice_options import chosen_or_none
    from hstmap.commands.planning import Wish, foresee

    function = _function(arguments)
    shape = RunShape(
        n_images=n_images,
        n_workers=arguments.workers or RunShape.n_workers,
        batch_size=chosen_or_none(arguments.batch_size),
        memory_mb=function.memory_mb,
        catalogs=arguments.catalogs,
    )
    goal = Goal(arguments.budget, arguments.deadline)
    wish = Wish(arguments.memory, arguments.batch_size, goal)
    prices = load_prices(arguments.prices or DEFAULT_PRICES)
    return foresee(shape, profile, prices, function.architecture, wish)


def _function(arguments: argparse.Namespace) -> LambdaShape:
    """Say which function is planned for: after a pilot, the one that it ran on."""
    from dataclasses import replace

    from hstmap.account.costs import LambdaShape
    from hstmap.commands.choice_options import chosen_or_none
    from hstmap.commands.spending import function_shape
    from hstmap.config import load_settings

    memory_mb = chosen_or_none(arguments.memory)
    function = LambdaShape()
    if arguments.pilot is not None:
        function = function_shape(load_settings(arguments.config))
    if memory_mb is not None:
        function = replace(function, memory_mb=memory_mb)
    if arguments.architecture is not None:
        function = replace(function, architecture=arguments.architecture)
    return function


def _pilot(
    manifest: Manifest, arguments: argparse.Namespace, console: Console
) -> tuple[Profile, int]:
    """Do a pilot; say what it measured, and how many images of the run are done then."""
    from hstmap.account.requests_made import RequestLog
    from hstmap.commands.choice_options import chosen_or_none, without_choice
    from hstmap.commands.map import map_batches
    from hstmap.commands.planning import Intent, measured_by_pilot, pilot_of, prepare, read_profile
    from hstmap.commands.run_options import check_workers_reach, run_parameters
    from hstmap.config import load_settings
    from hstmap.pipeline import RunOptions, plan_run

    settings = load_settings(arguments.config).with_options(
        engine=arguments.engine,
        n_workers=arguments.workers,
        batch_size=chosen_or_none(arguments.batch_size),
        memory_mb=chosen_or_none(arguments.memory),
    )
    if not settings.is_local:
        check_workers_reach([arguments.out], "--out")
        check_workers_reach(manifest.urls, "SOURCE")
    options = RunOptions(
        settings.batch_size, settings.n_workers, arguments.catalogs, debug=arguments.debug
    )
    with RequestLog("map") as requests:
        plan = plan_run(manifest, arguments.out, run_parameters(arguments), options)
        pilot = Intent(plan, manifest, settings, options)
        if plan.n_todo:
            pilot = pilot_of(pilot, arguments.pilot)
            pilot, _ = prepare(pilot, read_profile(None), without_choice(arguments), requests)
            map_batches(pilot, arguments, console, requests)
    return measured_by_pilot(pilot), plan.n_done + pilot.plan.n_todo
