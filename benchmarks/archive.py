"""The whole archive on Lambda, simulated: time and money by line, beside the figures of 2018.

Nothing here ran on Lambda: what images take is drawn from a measured profile, the rest is assumed,
and all assumptions are printed. S3's rates are those of a partition of keys. How many partitions
the archive's keys lie in is not published, so runs are simulated with reads from one of them and
from several; what is written goes to one, as a new bucket has.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from typing import Any

from hstmap.account.run_assumptions import Assumptions, RunShape
from hstmap.account.run_measured import profile_of_run
from hstmap.account.run_model import ModelResult, simulate_run
from hstmap.account.run_profile import DEFAULT_PROFILE, Profile, load_profile
from hstmap.aws.bill import LINES, Bill, price
from hstmap.aws.price_table import PriceTable, load_prices
from hstmap.aws.reports import parse_report
from hstmap.aws.usage import LOG_NBYTES_A_CALL, Call, Usage
from hstmap.batch import CATALOGS
from hstmap.storage import open_store

N_ARCHIVE = 122_078  # images of the run of 2018
#: Where reading an image takes about as long as the arithmetic does.
MEMORY_MB = 1024
PARTITIONS = (1, 16)
_ALL_IN_ONE = 10**12  # sources
#: Its log's line, github.com/spacetelescope/astropy-sep-lambda; one image a call.
LINE_OF_2018 = (
    "REPORT RequestId: 2018\tDuration: 1060.45 ms\tBilled Duration: 1100 ms\t"
    "Memory Size: 1024 MB\tMax Memory Used: 164 MB\n"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--images", type=int, nargs="*", default=[N_ARCHIVE, 1_000_000])
    parser.add_argument("--workers", type=int, nargs="*", default=[1000, 10_000])
    parser.add_argument("--seeds", type=int, default=5, help="simulated runs of each case")
    parser.add_argument("--profile", default=DEFAULT_PROFILE, help="a profile, or a run's folder")
    parser.add_argument("--architecture", default="arm64")
    parser.add_argument("--memory", type=int, nargs="+", default=[MEMORY_MB], metavar="MB")
    parser.add_argument("--batch-size", type=int, nargs="+", metavar="N", help="images a call")
    parser.add_argument(
        "--partitions", type=int, nargs="+", default=PARTITIONS, metavar="N", help="of the archive"
    )
    parser.add_argument(
        "--catalogs", nargs="+", choices=CATALOGS, default=("none", "batch", "image")
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Simulate, print and return the figures."""
    profile, prices = _profile(arguments.profile), load_prices()
    print("simulated: no figure below was measured on Lambda")
    print(f"profile   {profile.origin}; {profile.machine}; {profile.date[:10]}")
    mean_ms, mean_mb = profile.mean_compute_s * 1e3, profile.mean_nbytes_read / 1e6
    print(f"          {mean_ms:.0f} ms and {mean_mb:.1f} MB an image, of {len(profile.images)}; "
          f"a worker held {profile.peak_memory_nbytes / 1e6:.0f} MB at most")  # fmt: skip
    for name, value in asdict(Assumptions()).items():
        print(f"assumed   {name:20s} {value:g}")
    then = _print_2018(prices)
    scenarios = []
    for shape, n_partitions in _cases(arguments):
        get_rate = Assumptions.get_rate * n_partitions
        assumptions = replace(Assumptions(), get_rate=get_rate)
        n_seeds = 2 if arguments.short else arguments.seeds
        results = [simulate_run(shape, profile, assumptions, i) for i in range(n_seeds)]
        single = replace(shape, rows_a_file=_ALL_IN_ONE)
        by_client = simulate_run(single, profile, assumptions)
        _print_header(shape, n_partitions, n_seeds, arguments.architecture)
        figures = _print_case(shape, results, prices, arguments.architecture)
        print(f"  the reduce is {results[-1].n_reduce_calls} calls; in one file, which the client "
              f"writes, it would take {by_client.reduce_s:.1f} s")  # fmt: skip
        scenarios.append(figures | {"n_partitions": n_partitions})
    _print_table(scenarios)
    return {"of_2018": then, "assumptions": asdict(Assumptions()), "scenarios": scenarios}


def _cases(arguments: argparse.Namespace) -> Iterator[tuple[RunShape, int]]:
    """Say what is simulated."""
    sizes, widths, kinds = arguments.images, arguments.workers, arguments.catalogs
    if arguments.short:
        sizes, widths, kinds = [2000], [100], ["none"]
    batch_sizes, partitions = arguments.batch_size or [None], arguments.partitions
    for n_images, n_workers, memory_mb, batch_size, catalogs, n_partitions in product(
        sizes, widths, arguments.memory, batch_sizes, kinds, partitions
    ):
        yield RunShape(n_images, n_workers, batch_size, memory_mb, catalogs), n_partitions


def _profile(name: str) -> Profile:
    if name == DEFAULT_PROFILE or name.endswith(".json"):
        return load_profile(name)
    return profile_of_run(open_store(name))


def _print_2018(prices: PriceTable) -> dict[str, float]:
    """Print the figures of 2018, then and now, and what they leave out."""
    report = parse_report(LINE_OF_2018)
    assert report is not None
    calls = (Call.from_report(report, n=N_ARCHIVE),)
    told = price(Usage(calls=calls), load_prices("us-east-1-2018"), "x86_64")
    all_of_it = Usage(
        calls=calls, n_get=N_ARCHIVE, n_put=N_ARCHIVE, log_nbytes=LOG_NBYTES_A_CALL * N_ARCHIVE
    )
    now = price(all_of_it, prices, "x86_64")
    usd, all_s = told.line("compute").list_usd, N_ARCHIVE * report.billed_duration_ms / 1e6
    print(f"\n2018      {N_ARCHIVE:,} images, one a call, 1,024 MB: ${usd:.2f} compute")
    print("          leaves out INIT (free then), requests, S3's requests, logs, storage, what a")
    print("          framework writes for each call, retries, and any merging; it took "
          f"{all_s:.0f} s if 1,000 calls always ran")  # fmt: skip
    lines = ", ".join(f"{x.name} {x.list_usd:.2f}" for x in now.lines if x.list_usd > 0.005)
    print(f"          at today's prices ${now.list_usd:.2f}: {lines} (x86_64, no storage)")
    return {"compute_usd": usd, "today_usd": now.list_usd}


def _print_header(shape: RunShape, n_partitions: int, n_seeds: int, architecture: str) -> None:
    print(f"\nsimulated {shape.n_images:,} images, {shape.n_workers:,} at a time, "
          f"{shape.images_a_call} a call, {shape.memory_mb} MB, {architecture}, "
          f"catalogues: {shape.catalogs}; the archive in {n_partitions} partitions; "
          f"{n_seeds} runs: median (least to most)")  # fmt: skip


def _print_case(
    shape: RunShape, results: Sequence[ModelResult], prices: PriceTable, architecture: str
) -> dict[str, Any]:
    """Print one case with the distribution over its runs."""
    bills = [price(result.usage, prices, architecture) for result in results]

    def without_storage(bill: Bill) -> float:
        return bill.list_usd - bill.line("storage_month").list_usd

    last = results[-1]
    figures: dict[str, Any] = {
        "n_images": shape.n_images,
        "n_workers": shape.n_workers,
        "memory_mb": shape.memory_mb,
        "batch_size": shape.images_a_call,
        "catalogs": shape.catalogs,
        "n_done": round(statistics.median(sum(item.n_times_done) for item in results)),
    }
    for label, value in {
        "map_s": lambda item: item.map_s,
        "reduce_s": lambda item: item.reduce_s,
        "total_s": lambda item: item.total_s,
    }.items():
        figures |= _print_spread(label, [value(item) for item in results], "s")
    print(f"  {last.n_cold:,} cold starts, {last.n_throttled:,} GETs waited for S3, "
          f"{sum(result.n_times_done.count(0) for result in results):,} images failed")  # fmt: skip
    for name in LINES:
        values = [bill.line(name).list_usd for bill in bills]
        if max(values) > 0:
            figures |= _print_spread(name, values, "USD")
    for purpose in ("retry", "twin", "waste"):
        values = [bill.compute_usd[purpose] for bill in bills]
        figures |= _print_spread(f"of which {purpose}", values, "USD")
    all_in = [without_storage(bill) for bill in bills]
    _print_spread("all in, no storage", all_in, "USD")
    _print_spread("after free tier", _values(bills, lambda bill: bill.net_usd), "USD")
    totals = {"low_usd": min(all_in), "median_usd": statistics.median(all_in)}
    return figures | totals | {"high_usd": max(all_in)}


def _values(bills: Sequence[Bill], value: Callable[[Bill], float]) -> list[float]:
    return [value(bill) for bill in bills]


def _print_spread(label: str, values: Sequence[float], unit: str) -> dict[str, float]:
    digits = 1 if unit == "s" else 4
    middle = statistics.median(values)
    print(f"  {label:20s} {middle:10,.{digits}f} {unit:4s}"
          f"({min(values):,.{digits}f} to {max(values):,.{digits}f})")  # fmt: skip
    return {label: middle}


def _print_table(scenarios: Sequence[Mapping[str, Any]]) -> None:
    """Print what decides of all cases, as a table of Markdown."""
    names = {
        "n_images": "images", "n_workers": "calls at a time", "memory_mb": "MB",
        "batch_size": "images a call", "catalogs": "catalogues", "n_partitions": "partitions read",
        "map_s": "map, s", "reduce_s": "merge, s", "median_usd": "USD", "compute": "compute",
        "s3_put": "PUT",
    }  # fmt: skip
    print(f"\n| {' | '.join(names.values())} |\n|{' --- |' * len(names)}")
    for row in scenarios:
        cells = [row.get(name, 0.0) for name in names]
        shown = (
            cell if isinstance(cell, str) else f"{cell:,}" if isinstance(cell, int)
            else f"{cell:.0f}" if name.endswith("_s") else f"{cell:.2f}"
            for name, cell in zip(names, cells, strict=True)
        )  # fmt: skip
        print(f"| {' | '.join(shown)} |")
