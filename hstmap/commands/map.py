"""Extract the sources of images: a catalogue for each, and a Parquet summary of all.

SOURCE is a manifest (.parquet, .csv, .ecsv), a list of keys (.txt), a folder, a glob,
an s3://bucket/prefix, or single files. Without one, a few simulated images are made and done.

The same command run again does only what is missing.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hstmap.account.requests_made import RequestLog
    from hstmap.account.run_profile import Profile
    from hstmap.archive.manifest import Manifest
    from hstmap.bag.engine import Attempt
    from hstmap.cli import Console
    from hstmap.commands.planning import Intent
    from hstmap.config import Settings
    from hstmap.pipeline import MapResult, RunOptions, RunPlan

HELP = "extract the sources of images"

_DEFAULT_OUT = "hstmap-out"
_WORTH_SAYING_USD = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from hstmap.commands.choice_options import add_choice_arguments
    from hstmap.commands.numbers import positive
    from hstmap.commands.reducing import add_rows_argument
    from hstmap.commands.run_options import add_catalogs_arguments, add_detection_arguments

    parser.add_argument("sources", metavar="SOURCE", nargs="*", help="images, see above")
    parser.add_argument(
        "-o", "--out", default=_DEFAULT_OUT, metavar="DIR_OR_S3_PREFIX",
        help="where the results go (default: %(default)s)",
    )  # fmt: skip
    images = parser.add_argument_group("which images")
    images.add_argument("--limit", type=positive, metavar="N", help="the first N only")
    images.add_argument("--filter", metavar="NAME", help="of this filter only, such as F160W")
    images.add_argument("--ima", action="store_true", help="do IMA files too: their last read")
    add_detection_arguments(parser)
    running = parser.add_argument_group("how it runs")
    running.add_argument("--config", metavar="FILE", help="another lithops_config.yaml")
    running.add_argument("--engine", choices=("lithops", "inprocess"))
    running.add_argument("--workers", type=positive, metavar="N", help="tasks at a time")
    add_choice_arguments(running, "of a worker, on AWS; auto: as for --batch-size")
    running.add_argument("--timeout", type=float, metavar="SECONDS", help="longest attempt; 0: any")
    running.add_argument("--retries", type=int, metavar="N", help="further attempts of a task")
    running.add_argument(
        "--budget", type=float, metavar="USD",
        help="what the run may cost, all its maps together: nothing is sent that could pass it",
    )  # fmt: skip
    running.add_argument(
        "--prices", metavar="NAME_OR_FILE", help="the table that costs are reckoned with"
    )
    add_catalogs_arguments(running)
    add_rows_argument(running)
    running.add_argument("--no-reduce", action="store_true", help="leave the summary to `reduce`")
    running.add_argument("--overwrite", action="store_true", help="start afresh")
    running.add_argument(
        "--retry-failed", action="store_true", help="do failed and missing images again"
    )
    running.add_argument("--dry-run", action="store_true", help="print the plan and stop")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Plan, map and reduce."""
    from hstmap.account.requests_made import RequestLog

    with RequestLog("map") as requests:
        return _run(arguments, console, requests)


def _run(arguments: argparse.Namespace, console: Console, requests: RequestLog) -> int:
    """Plan, map and reduce, with all requests heard."""
    from hstmap.commands.money import estimate_line
    from hstmap.commands.planning import read_profile

    intent = _intent(arguments, console, requests)
    for line in _plan_lines(intent.plan, intent.options):
        console.say(line)
    profile = read_profile(arguments.profile)
    started = time.perf_counter()
    done: MapResult | None = None
    if arguments.pilot and intent.plan.n_todo and not arguments.dry_run:
        intent, profile, done = _pilot(intent, profile, arguments, console, requests)
    if done is None or not done.n_left:
        intent = _prepared(intent, profile, arguments, console, requests)
        if arguments.dry_run:
            if intent.spending is not None:
                console.say(estimate_line(intent.spending.estimate))
            return 0
        rest = map_batches(intent, arguments, console, requests)
        done = rest if done is None else done + rest
    if done.n_left and intent.spending is not None:
        for line in intent.spending.stop_lines(done, arguments.words):
            console.warn(line)
        return 1
    return _report(intent, done, time.perf_counter() - started, arguments, console)


def _intent(arguments: argparse.Namespace, console: Console, requests: RequestLog) -> Intent:
    """Say what is to be done, by options, configuration and what is done already."""
    from hstmap.commands.choice_options import check_choice, chosen_or_none
    from hstmap.commands.planning import Intent
    from hstmap.commands.run_options import check_workers_reach, run_parameters
    from hstmap.config import load_settings
    from hstmap.pipeline import plan_run

    settings = load_settings(arguments.config).with_options(
        engine=arguments.engine,
        n_workers=arguments.workers,
        batch_size=chosen_or_none(arguments.batch_size),
        retries=arguments.retries,
        timeout_s=arguments.timeout,
        memory_mb=chosen_or_none(arguments.memory),
        budget_usd=arguments.budget,
        prices=arguments.prices,
    )
    check_choice(arguments, local=settings.is_local)
    options = _options(arguments, settings)
    if not settings.is_local:
        check_workers_reach([arguments.out], "--out")
    with requests.of("sources"):
        manifest = find_images(arguments, console)
    if not settings.is_local:
        check_workers_reach(manifest.urls, "SOURCE")
    plan = plan_run(manifest, arguments.out, run_parameters(arguments), options)
    return Intent(plan, manifest, settings, options)


def _prepared(
    intent: Intent,
    profile: Profile,
    arguments: argparse.Namespace,
    console: Console,
    requests: RequestLog,
) -> Intent:
    """Foresee the map, choose what is to be chosen, and hold it against its budget."""
    from hstmap.commands.money import choice_lines
    from hstmap.commands.planning import prepare

    if not intent.plan.n_todo:
        return intent
    intent, foreseen = prepare(intent, profile, arguments, requests)
    for line in choice_lines(foreseen.choice) if foreseen.choice else ():
        console.say(line)
    if intent.spending is not None and intent.settings.budget_usd is not None:
        console.say(intent.spending.plan_line())
        intent.spending.check()
    limit = None if intent.spending is None else intent.spending.limit_line()
    if limit is not None:
        console.say(limit)
    return intent


def _pilot(
    intent: Intent,
    profile: Profile,
    arguments: argparse.Namespace,
    console: Console,
    requests: RequestLog,
) -> tuple[Intent, Profile, MapResult]:
    """Do a sample of the images, and go on from there with what it measured."""
    from dataclasses import replace

    from hstmap.commands.choice_options import without_choice
    from hstmap.commands.planning import measured_by_pilot, pilot_of
    from hstmap.pipeline import plan_run

    pilot = pilot_of(intent, arguments.pilot)
    console.say(f"pilot     {_todo(pilot.plan)}")
    pilot = _prepared(pilot, profile, without_choice(arguments), console, requests)
    result = map_batches(pilot, arguments, console, requests)
    if result.n_left:
        return pilot, profile, result
    profile = measured_by_pilot(pilot)
    console.say(f"profile   {profile.origin}")
    options = replace(intent.options, overwrite=False)
    plan = plan_run(intent.manifest, arguments.out, intent.plan.parameters, options)
    rest = replace(intent, plan=plan, options=options, pilot=pilot)
    return rest, profile, result


def _options(arguments: argparse.Namespace, settings: Settings) -> RunOptions:
    """Collect how the run is made."""
    from hstmap.pipeline import RunOptions

    return RunOptions(
        batch_size=settings.batch_size,
        n_workers=settings.n_workers,
        catalogs=arguments.catalogs,
        overwrite=arguments.overwrite,
        retry_failed=arguments.retry_failed,
        debug=arguments.debug,
        rows_a_file=arguments.rows_a_file,
    )


def find_images(arguments: argparse.Namespace, console: Console) -> Manifest:
    """Find the images that were named, or make some.

    Parameters
    ----------
    arguments : argparse.Namespace
        With sources, filter, limit; of `map` also out and dry_run.
    console : Console

    Returns
    -------
    Manifest
    """
    from hstmap.archive.sources import resolve_sources

    sources = arguments.sources
    if not sources:
        from hstmap.sample import make_sample_files

        console.say(
            "no SOURCE given: running on simulated images. "
            "For real ones: python -m hstmap map FOLDER, FILES or s3://stpubdata/hst/public/ib6o"
        )
        sources = make_sample_files(arguments.out, dry_run=arguments.dry_run)
    manifest = resolve_sources(sources)
    for note in manifest.notes:
        console.say(f"note      {note}")
    if arguments.filter and _knows_filters(manifest):
        manifest = manifest.filter(filter=arguments.filter.upper())
    if arguments.limit:
        manifest = manifest.head(arguments.limit)
    return manifest


def _knows_filters(manifest: Manifest) -> bool:
    """Tell whether the manifest can choose; if not, workers do it by the headers."""
    return "filter" in manifest.column_names and "" not in manifest.values("filter")


def _plan_lines(plan: RunPlan, options: RunOptions) -> list[str]:
    """Say what is about to happen."""
    from hstmap.bag.render import count

    todo = _todo(plan)
    if plan.n_done:
        todo += f" ({plan.n_done:,} of {plan.n_images:,} are done)"
    if plan.unused:
        todo += f" ({len(plan.unused):,} that the manifest says not to use)"
    size = f", {plan.nbytes / 1e6:,.0f} MB" if plan.nbytes else ""
    lines = [
        f"plan      {todo}{size}; at least {count(plan.n_get, 'read')} and "
        f"{count(plan.n_put, 'write')}",
        f"out       {plan.out}",
    ]
    if options.catalogs == "image" and plan.out.startswith("s3://"):
        lines += _cheaper_catalogs(plan)
    return lines


def _todo(plan: RunPlan) -> str:
    """Say how much a plan is."""
    from hstmap.bag.render import count

    return f"{count(plan.n_todo, 'image')} in {count(len(plan.batches), 'batch', 'es')}"


def _cheaper_catalogs(plan: RunPlan) -> list[str]:
    """Say of a large run what its many small files cost."""
    from hstmap.aws.price_table import load_prices

    usd_a_put = load_prices().s3_put_usd
    usd, bundled_usd = (n * usd_a_put for n in (plan.n_todo, len(plan.batches)))
    if usd - bundled_usd < _WORTH_SAYING_USD:
        return []
    return [
        f"note      a FITS file for each image is {usd:.2f} USD of S3 requests; --catalogs batch "
        f"keeps the same tables in {len(plan.batches):,} files for {bundled_usd:.2f} USD"
    ]


def map_batches(
    intent: Intent, arguments: argparse.Namespace, console: Console, requests: RequestLog
) -> MapResult:
    """Run the batches under a progress bar, as far as their budget goes.

    Parameters
    ----------
    intent : Intent
    arguments : argparse.Namespace
    console : Console
    requests : RequestLog

    Returns
    -------
    MapResult
    """
    from hstmap.account.budget import ACCOUNT_EVENT, account_record
    from hstmap.bag.engine import make_engine
    from hstmap.bag.ledger import Ledger
    from hstmap.bag.progress import Progress
    from hstmap.commands.engines import engine_options, where_it_runs
    from hstmap.pipeline import BATCH_MODULES, run_map
    from hstmap.storage import open_store
    from hstmap.wfc3.schema import FAILED_OUTCOMES

    plan, options, spending = intent.plan, intent.options, intent.spending
    settings = intent.settings if spending is None else spending.settings
    account = None if spending is None else spending.account
    first_timeout_s = None if spending is None else spending.first_timeout_s
    store = open_store(plan.out, options.out_options)
    n_images = plan.n_todo + len(plan.unused)
    with (
        Ledger(store, detail=_ledger_detail, about=where_it_runs(settings)) as ledger,
        requests.written_to(ledger),
        Progress(n_images, unit="image", stream=console.stderr, quiet=arguments.quiet) as progress,
        make_engine(
            settings.engine,
            engine_options(settings, first_timeout_s=first_timeout_s, preload=BATCH_MODULES),
            [ledger, requests],
            account,
        ) as engine,
    ):
        requests.watch(engine)
        if account is not None:
            ledger.note(ACCOUNT_EVENT, account_record(account))

        def on_batch(outcomes: dict[str, int]) -> None:
            failed = sum(n for name, n in outcomes.items() if name in FAILED_OUTCOMES)
            progress.note(spending.so_far if spending else "")
            progress.advance(sum(outcomes.values()), n_failed=failed)

        return run_map(plan, intent.manifest, engine, options, on_batch, intent.expected)


def _ledger_detail(attempt: Attempt) -> dict[str, Any]:
    """Keep in the ledger what a worker said of a batch: outcomes, requests, time."""
    from dataclasses import asdict

    return asdict(attempt.value)


def _report(
    intent: Intent,
    result: MapResult,
    elapsed_s: float,
    arguments: argparse.Namespace,
    console: Console,
) -> int:
    """Reduce if that is wanted, and say what came of it."""
    from hstmap.bag.render import count
    from hstmap.commands.reports import exit_status, outcomes_line, summary_lines

    n_done = sum(result.outcomes.values())
    speed = f", {n_done / elapsed_s:.1f} images/s" if n_done else ""
    console.say(
        f"map       {count(n_done, 'image')} in {elapsed_s:.1f} s{speed}; "
        f"{result.requests.nbytes_read / 1e6:,.0f} MB read"
    )
    if arguments.no_reduce:
        if result.outcomes:
            console.say(f"images    {outcomes_line(result.outcomes)}")
        console.say(f"summary   not made yet: python -m hstmap reduce {intent.plan.out}")
        return exit_status(result.outcomes)
    from hstmap.commands.reducing import reduce_parts

    started = time.perf_counter()
    rows = intent.options.rows_a_file
    summary = reduce_parts(intent.plan.out, intent.settings, rows, console)
    console.say(f"reduce    {time.perf_counter() - started:.1f} s")
    for line in summary_lines(summary):
        console.say(line)
    return exit_status(summary.outcomes)
