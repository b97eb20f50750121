"""Billed GB-seconds an image on the loopback AWS, by memory, batch size, cold and warm, catalogues.

Each point is a run of ``hstmap map`` on a loopback AWS which holds the CPU share of the configured
size and bills as Lambda does. Its S3 is on this machine, so reading is shorter than at Lambda's
75 MB/s or so: the figures are those of the arithmetic. The answer is checked before the time: the
sources of all runs must be equal. At last, what ``--memory auto`` would choose, by the profile of
one of the runs, is held against the best of the sweep.
"""

from __future__ import annotations

import argparse
import io
import statistics
from pathlib import Path
from typing import Any

from pyarrow import parquet

from benchmarks.loopback import Loopback, LoopbackRun, deployed_loopback, loopback_images
from hstmap.account.choose import Sweep, choose
from hstmap.account.run_assumptions import RunShape
from hstmap.account.run_measured import profile_of_run
from hstmap.account.run_profile import Profile
from hstmap.aws.price_table import load_prices
from hstmap.batch import CATALOGS

MEMORIES_MB = (512, 885, 1024, 1280, 1536, 1769, 2048, 3008)
MEMORIES_SHORT_MB = (885, 1769)
BATCH_SIZES = (4, 16)
#: One call at a time: the servers of the loopback AWS need a core of their own.
N_WORKERS = 1
#: What ``auto`` learns from is a run at the memory that users start with.
LEARNT_AT_MB = 1769
#: GB-s an image that the function of 2018 was billed: 1.1 s of 1 GB.
OF_2018_GB_S = 1.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("frames", nargs="*", type=Path, help="FLT files (default: simulated)")
    parser.add_argument("--images", type=int, default=32, help="images a run")
    parser.add_argument("--repeats", type=int, default=3, help="warm runs a point")
    parser.add_argument("--memories", type=int, nargs="+", metavar="MB")
    parser.add_argument("--batch-sizes", type=int, nargs="+", metavar="N")
    parser.add_argument("--catalogs", choices=CATALOGS, nargs="+")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Sweep, print and return the figures."""
    n_images = 4 if arguments.short else arguments.images
    n_repeats = 1 if arguments.short else arguments.repeats
    batch_sizes = arguments.batch_sizes or ((2,) if arguments.short else BATCH_SIZES)
    kinds = arguments.catalogs or (("none",) if arguments.short else CATALOGS)
    memories = arguments.memories or (MEMORIES_SHORT_MB if arguments.short else MEMORIES_MB)
    rows: list[dict[str, Any]] = []
    sweeps: list[tuple[LoopbackRun, list[dict[str, Any]]]] = []
    with deployed_loopback(N_WORKERS) as loopback:
        source = loopback.put_images(loopback_images(arguments.frames, n_images))
        expected = _sources(loopback, loopback.map(source, memories[0], *_words(2, "none")))
        print(f"images    {n_images}; 1 cold and {n_repeats} warm runs a point: median and range")
        print(f"{'MB':>6s}{'batch':>7s}{'catalogues':>12s}{'cold':>9s}{'warm':>9s}  GB-s an image")
        for batch_size in batch_sizes:
            for catalogs in kinds:
                words = _words(batch_size, catalogs)
                points: list[dict[str, Any]] = []
                learnt: dict[int, LoopbackRun] = {}
                for memory_mb in memories:
                    runs = _runs(loopback, source, memory_mb, n_repeats, words)
                    for each in runs:
                        if _sources(loopback, each) != expected:
                            raise RuntimeError(f"{each.out} has other sources than the first run")
                    points.append(_row(runs, n_images, memory_mb, batch_size, catalogs))
                    _print(points[-1])
                    learnt[memory_mb] = runs[-1]
                rows += points
                nearest_mb = min(learnt, key=lambda memory_mb: abs(memory_mb - LEARNT_AT_MB))
                sweeps.append((learnt[nearest_mb], points))
        autos = [
            _auto(profile_of_run(loopback.store(source_of)), n_images, points)
            for source_of, points in sweeps
        ]
    best = min(rows, key=lambda row: row["warm_gb_s"])
    print(
        f"least     {best['warm_gb_s']:.3f} GB-s an image, at {best['memory_mb']} MB; "
        f"2018: {OF_2018_GB_S}"
    )
    return {"n_images": n_images, "points": rows, "least_gb_s": best["warm_gb_s"], "auto": autos}


def _words(batch_size: int, catalogs: str) -> tuple[str, ...]:
    return ("--batch-size", str(batch_size), "--catalogs", catalogs)


def _runs(
    loopback: Loopback, source: str, memory_mb: int, n_repeats: int, words: tuple[str, ...]
) -> list[LoopbackRun]:
    """Run once with new environments, then with the same ones."""
    loopback.end_environments()
    return [loopback.map(source, memory_mb, *words) for _ in range(1 + n_repeats)]


def _sources(loopback: Loopback, run: LoopbackRun) -> Any:
    """Read the sources of a run."""
    return parquet.read_table(io.BytesIO(loopback.store(run).get("sources.parquet")))


def _row(
    runs: list[LoopbackRun], n_images: int, memory_mb: int, batch_size: int, catalogs: str
) -> dict[str, Any]:
    cold, *warm = runs
    warm_gb_s = [each.gb_s / n_images for each in warm]
    return {
        "memory_mb": memory_mb,
        "batch_size": batch_size,
        "catalogs": catalogs,
        "cold_gb_s": cold.gb_s / n_images,
        "n_cold": cold.n_cold,
        "warm_gb_s": statistics.median(warm_gb_s),
        "warm_low_gb_s": min(warm_gb_s),
        "warm_high_gb_s": max(warm_gb_s),
        "n_cold_of_warm": sum(each.n_cold for each in warm),
    }


def _auto(profile: Profile, n_images: int, points: list[dict[str, Any]]) -> dict[str, Any]:
    """Choose the memory of one sweep by simulation, and look up what it measured there."""
    batch_size, catalogs = points[0]["batch_size"], points[0]["catalogs"]
    shape = RunShape(n_images, N_WORKERS, batch_size, catalogs=catalogs, n_warm=N_WORKERS)
    sweep = Sweep(tuple(point["memory_mb"] for point in points), (batch_size,))
    chosen = choose(shape, profile, load_prices(), "x86_64", sweep).chosen.memory_mb
    best = min(points, key=lambda point: point["warm_gb_s"])
    (auto,) = (point for point in points if point["memory_mb"] == chosen)
    excess = auto["warm_gb_s"] / best["warm_gb_s"] - 1
    print(
        f"auto      {chosen} MB for batches of {batch_size}, catalogues {catalogs}: "
        f"{excess:+.1%} of the best, which is {best['memory_mb']} MB"
    )
    return {"chosen_mb": chosen, "best_mb": best["memory_mb"], "excess": excess}


def _print(row: dict[str, Any]) -> None:
    print(
        f"{row['memory_mb']:6d}{row['batch_size']:7d}{row['catalogs']:>12s}"
        f"{row['cold_gb_s']:9.3f}{row['warm_gb_s']:9.3f}"
        f"  ({row['warm_low_gb_s']:.3f} to {row['warm_high_gb_s']:.3f})"
    )
