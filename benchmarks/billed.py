"""Billed GB-seconds an image on the loopback AWS, by memory, batch size, cold and warm, catalogues.

Each point is a run of ``hstmap map`` on a loopback AWS which holds the CPU share of the configured
size and bills as Lambda does. Its S3 is on this machine, so reading is shorter than at Lambda's
75 MB/s or so: the figures are those of the arithmetic. The answer is checked before the time: the
sources of all runs must be equal.

Each memory has a function of its own, whose environment stays warm, so that points take turns:
first all of them cold, then in each round all of them warm, every other round backwards. At last,
what ``--memory auto`` would choose, by the profile of one of the runs, is held against the best of
the sweep, round by round (`benchmarks.ranking`).
"""

from __future__ import annotations

import argparse
import io
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyarrow import parquet

from benchmarks.loopback import Loopback, LoopbackRun, deployed_loopback, loopback_images
from benchmarks.ranking import excess_of
from hstmap.account.choose import Sweep, choose
from hstmap.account.run_assumptions import RunShape
from hstmap.account.run_measured import profile_of_run
from hstmap.account.run_profile import Profile
from hstmap.aws.price_table import load_prices
from hstmap.batch import CATALOGS, Catalogs

MEMORIES_MB = (512, 885, 1024, 1280, 1536, 1769, 2048, 3008)
MEMORIES_SHORT_MB = (885, 1769)
BATCH_SIZES = (4, 16)
#: One call at a time: the servers of the loopback AWS need a core of their own.
N_WORKERS = 1
#: What ``auto`` learns from is a run at the memory that users start with.
LEARNT_AT_MB = 1769
#: GB-s an image that the function of 2018 was billed: 1.1 s of 1 GB.
OF_2018_GB_S = 1.1
#: What the chosen memory may be billed more than the best of the sweep.
LIMIT = 0.03
#: ``auto`` is asked for a run in which such calls are what is paid for. In one as small as those
#: that are made here the client's looks cost more than its calls.
_N_WORKERS_OF_AUTO, _N_CALLS_A_WORKER = 20, 40


@dataclass
class Point:
    """One way to make the run, and its runs."""

    memory_mb: int
    batch_size: int
    catalogs: Catalogs
    n_images: int
    cold: list[LoopbackRun] = field(default_factory=list)
    warm: list[LoopbackRun] = field(default_factory=list)

    def warm_gb_s(self) -> list[float]:
        """Give billed GB-seconds an image by round."""
        return [each.gb_s / self.n_images for each in self.warm]

    def typical(self) -> LoopbackRun:
        """Give the warm run of the median bill."""
        return sorted(self.warm, key=lambda each: each.gb_s)[len(self.warm) // 2]

    def as_dict(self) -> dict[str, Any]:
        """Describe it for JSON."""
        gb_s = self.warm_gb_s()
        return {
            "memory_mb": self.memory_mb,
            "batch_size": self.batch_size,
            "catalogs": self.catalogs,
            "cold_gb_s": statistics.median(each.gb_s for each in self.cold) / self.n_images,
            "n_cold": sum(each.n_cold for each in self.cold),
            "warm_gb_s": statistics.median(gb_s),
            "warm_low_gb_s": min(gb_s),
            "warm_high_gb_s": max(gb_s),
            "warm_gb_s_by_round": gb_s,
            "n_cold_of_warm": sum(each.n_cold for each in self.warm),
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("frames", nargs="*", type=Path, help="FLT files (default: simulated)")
    parser.add_argument("--images", type=int, default=32, help="images a run")
    parser.add_argument("--repeats", type=int, default=7, help="rounds, of a warm run a point")
    parser.add_argument("--memories", type=int, nargs="+", metavar="MB")
    parser.add_argument("--batch-sizes", type=int, nargs="+", metavar="N")
    parser.add_argument("--catalogs", choices=CATALOGS, nargs="+")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Sweep, print and return the figures."""
    n_images = 4 if arguments.short else arguments.images
    n_rounds = 1 if arguments.short else arguments.repeats
    batch_sizes = arguments.batch_sizes or ((2,) if arguments.short else BATCH_SIZES)
    kinds = arguments.catalogs or (("none",) if arguments.short else CATALOGS)
    memories = arguments.memories or (MEMORIES_SHORT_MB if arguments.short else MEMORIES_MB)
    series = [
        [Point(memory_mb, batch_size, kind, n_images) for memory_mb in memories]
        for batch_size in batch_sizes
        for kind in kinds
    ]
    points = [point for sweep in series for point in sweep]
    with deployed_loopback(N_WORKERS) as loopback:
        source = loopback.put_images(loopback_images(arguments.frames, n_images))
        functions = {memory_mb: loopback.beside(memory_mb) for memory_mb in memories}
        take_turns(functions, source, points, n_rounds)
        print(f"images    {n_images}; 1 cold and {n_rounds} warm runs a point: median and range")
        print(f"{'MB':>6s}{'batch':>7s}{'catalogues':>12s}{'cold':>9s}{'warm':>9s}  GB-s an image")
        rows = [point.as_dict() for point in points]
        for row in rows:
            _print(row)
        profiles = [
            profile_of_run(loopback.store(_nearest(sweep, LEARNT_AT_MB).typical()))
            for sweep in series
        ]
    autos = [auto(profile, sweep) for profile, sweep in zip(profiles, series, strict=True)]
    best = min(rows, key=lambda row: row["warm_gb_s"])
    print(
        f"least     {best['warm_gb_s']:.3f} GB-s an image, at {best['memory_mb']} MB; "
        f"2018: {OF_2018_GB_S}"
    )
    return {"n_images": n_images, "points": rows, "least_gb_s": best["warm_gb_s"], "auto": autos}


def take_turns(
    functions: Mapping[int, Loopback], source: str, points: list[Point], n_rounds: int
) -> None:
    """Run all points with new environments, then in each round all of them with the same ones.

    Parameters
    ----------
    functions : mapping of int to Loopback
        By memory, MB.
    source : str
        URL of the images.
    points : list of Point
        Get their runs.
    n_rounds : int

    Raises
    ------
    RuntimeError
        If a run has no sources, or others than the first one.
    """
    expected = None

    def make(point: Point) -> LoopbackRun:
        nonlocal expected
        function = functions[point.memory_mb]
        words = ("--batch-size", str(point.batch_size), "--catalogs", point.catalogs)
        made = function.map(source, point.memory_mb, *words)
        sources = parquet.read_table(io.BytesIO(function.store(made).get("sources.parquet")))
        expected = expected or sources
        if not len(sources) or sources != expected:
            raise RuntimeError(
                f"{made.out} has {len(sources):,} sources, not those {len(expected):,} of the first"
            )
        return made

    for point in points:
        functions[point.memory_mb].end_environments()
        point.cold.append(make(point))
    for number in range(n_rounds):
        for point in points[:: -1 if number % 2 else 1]:
            point.warm.append(make(point))


def auto(profile: Profile, sweep: list[Point]) -> dict[str, Any]:
    """Choose the memory of one sweep by simulation, and hold it against the best that was measured.

    Parameters
    ----------
    profile : Profile
    sweep : list of Point
        Of one batch size and kind of catalogues.

    Returns
    -------
    dict
    """
    batch_size, catalogs = sweep[0].batch_size, sweep[0].catalogs
    n_images = _N_WORKERS_OF_AUTO * _N_CALLS_A_WORKER * batch_size
    shape = RunShape(n_images, _N_WORKERS_OF_AUTO, batch_size, catalogs=catalogs)
    offered = Sweep(tuple(point.memory_mb for point in sweep), (batch_size,))
    chosen_mb = choose(shape, profile, load_prices(), "x86_64", offered).chosen.memory_mb
    billed = {point.memory_mb: point.warm_gb_s() for point in sweep}
    n_rounds = len(billed[chosen_mb])
    rounds = [{mb: gb_s[number] for mb, gb_s in billed.items()} for number in range(n_rounds)]
    excess = excess_of(chosen_mb, rounds)
    print(
        f"auto      {chosen_mb} MB for batches of {batch_size}, catalogues {catalogs}: "
        f"{excess.excess:+.1%} of the best, which is {excess.best} MB "
        f"(95 %: {excess.low:+.1%} to {excess.high:+.1%}; {excess.held_out:+.1%} of the best of "
        f"other rounds); within {LIMIT:.0%}: {excess.verdict(LIMIT)}; a round's ratio spreads by "
        f"{excess.spread:.1%}, {excess.rounds_needed(LIMIT)} rounds of {n_rounds} are needed"
    )
    told = {"batch_size": batch_size, "catalogs": catalogs, "chosen_mb": chosen_mb}
    return told | {"best_mb": excess.best} | excess.as_dict(LIMIT)


def _nearest(sweep: list[Point], memory_mb: int) -> Point:
    return min(sweep, key=lambda point: abs(point.memory_mb - memory_mb))


def _print(row: dict[str, Any]) -> None:
    print(
        f"{row['memory_mb']:6d}{row['batch_size']:7d}{row['catalogs']:>12s}"
        f"{row['cold_gb_s']:9.3f}{row['warm_gb_s']:9.3f}"
        f"  ({row['warm_low_gb_s']:.3f} to {row['warm_high_gb_s']:.3f})"
    )
