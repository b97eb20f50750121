"""What a task costs beyond its own work: hstmap beside what else could run it.

1,000 empty tasks and 200 tasks of 100 ms, on two workers, with the start of the workers and
without. Each contestant runs in an interpreter of its own, several times, in turn; the median
counts. Every answer is checked before its time is taken.

``python -m benchmarks bag_overhead [--repeat 3] [--json FILE]``
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

N_WORKERS = 2
WORKLOADS = {"1,000 empty tasks": (1000, 0.0), "200 tasks of 100 ms": (200, 0.1)}

Runner = Callable[[float, int], int]
"""Runs n tasks that take so many seconds each, and returns the sum of their numbers."""


def work(order: tuple[float, int]) -> int:
    """Take the time that was asked for, and return the number."""
    seconds, number = order
    if seconds:
        time.sleep(seconds)
    return number


@contextmanager
def hstmap_engine() -> Any:
    from hstmap.bag.engine import EngineOptions, Stage, Task, make_engine

    with make_engine("lithops", EngineOptions(n_workers=N_WORKERS)) as engine:

        def run(seconds: float, n: int) -> int:
            tasks = [Task(str(number), (seconds, number)) for number in range(n)]
            return sum(attempt.value for attempt in engine.run(Stage("work", work, tasks)))

        yield run


@contextmanager
def concurrent_futures() -> Any:
    from concurrent.futures import ProcessPoolExecutor, as_completed

    with ProcessPoolExecutor(N_WORKERS) as pool:

        def run(seconds: float, n: int) -> int:
            futures = [pool.submit(work, (seconds, number)) for number in range(n)]
            return sum(future.result() for future in as_completed(futures))

        yield run


@contextmanager
def bare_lithops() -> Any:
    import lithops

    # Version 1 of the localhost backend is the faster one: it forks, version 2 (the default) starts
    # an interpreter for each task.

    config = {
        "lithops": {"backend": "localhost", "storage": "localhost", "data_cleaner": False},
        "localhost": {"version": 1, "runtime": sys.executable, "worker_processes": N_WORKERS},
    }
    executor = lithops.FunctionExecutor(config=config, log_level=None)

    def run(seconds: float, n: int) -> int:
        futures = executor.map(work, [((seconds, number),) for number in range(n)])
        return sum(executor.get_result(futures, show_progressbar=False))

    yield run


@contextmanager
def dask_bag() -> Any:
    import dask
    import dask.bag

    with dask.config.set(scheduler="processes", num_workers=N_WORKERS):

        def run(seconds: float, n: int) -> int:
            orders = [(seconds, number) for number in range(n)]
            return int(dask.bag.from_sequence(orders, partition_size=1).map(work).sum().compute())

        yield run


CONTESTANTS: dict[str, Callable[[], AbstractContextManager[Runner]]] = {
    "hstmap": hstmap_engine,
    "concurrent.futures": concurrent_futures,
    "dask.bag, processes": dask_bag,
    "Lithops map": bare_lithops,
}


def measure(contestant: str, workload: str) -> dict[str, float]:
    """Time one contestant in this interpreter, from before its first import.

    Returns
    -------
    dict
        ``with_start_s`` and ``started_s``, wall time in seconds.
    """
    n, seconds = WORKLOADS[workload]
    begun = time.perf_counter()
    with CONTESTANTS[contestant]() as run:
        check(run(seconds, n), n)
        with_start_s = time.perf_counter() - begun
        begun = time.perf_counter()
        check(run(seconds, n), n)
        return {"with_start_s": with_start_s, "started_s": time.perf_counter() - begun}


def check(answer: int, n: int) -> None:
    if answer != n * (n - 1) // 2:
        raise RuntimeError(f"the sum is {answer}, not {n * (n - 1) // 2}")


def measure_apart(contestant: str, workload: str) -> dict[str, float]:
    """Run `measure` in a fresh interpreter, with a folder for temporary files of its own."""
    root = str(Path(__file__).parents[1])
    with tempfile.TemporaryDirectory() as folder:
        told = subprocess.run(
            [sys.executable, "-m", "benchmarks.bag_overhead", "--one", contestant, workload],
            check=True,
            capture_output=True,
            text=True,
            cwd=root,
            env=os.environ | {"TMPDIR": folder},
        )
    measured: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
    return measured


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--repeat", type=int, default=3, help="times that each is run")
    parser.add_argument("--only", nargs="*", choices=tuple(CONTESTANTS), help="some contestants")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print and return the figures."""
    names = arguments.only or (["hstmap"] if arguments.short else list(CONTESTANTS))
    runs: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(1 if arguments.short else arguments.repeat):
        for workload in WORKLOADS:
            for name in names:
                runs.setdefault((workload, name), []).append(measure_apart(name, workload))
    figures = [
        {
            "workload": workload,
            "contestant": name,
            **{
                how: statistics.median(run[how] for run in times)
                for how in ("with_start_s", "started_s")
            },
            "runs": times,
        }
        for (workload, name), times in runs.items()
    ]
    print_table(figures)
    return {"figures": figures}


def print_table(figures: Sequence[dict[str, Any]]) -> None:
    print(f"{N_WORKERS} workers, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    for workload, (n, seconds) in WORKLOADS.items():
        ideal_s = n * seconds / N_WORKERS
        print(f"\n{workload}  (the work itself: {ideal_s:.1f} s)")
        print(f"{'':22}{'with start':>12}{'started':>12}{'ms a task over the work':>26}")
        for figure in figures:
            if figure["workload"] == workload:
                over_ms = 1000 * (figure["started_s"] - ideal_s) / n
                print(
                    f"{figure['contestant']:22}{figure['with_start_s']:>10.2f} s"
                    f"{figure['started_s']:>10.2f} s{over_ms:>26.3f}"
                )


if __name__ == "__main__":
    # One contestant in an interpreter of its own: see measure_apart.
    print(json.dumps(measure(*sys.argv[2:])))
