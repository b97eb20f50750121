"""Plans held against bills, line by line: cold and warm runs on the loopback AWS, with retries.

A run with a pilot starts its environments; another goes on with them, and is planned by the first.
Some events are throttled and some workers killed meanwhile, which no plan foresees. The bill is
held against Lambda's own log before it is compared: to the millisecond, or the benchmark fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.loopback import Loopback, LoopbackRun, deployed_loopback
from benchmarks.validate import loopback_images
from hstmap.aws.local import Fault

N_WORKERS = 2
MEMORY_MB = 1700
#: Lines of less than this are not compared: they are a request or two.
LEAST_USD = 1e-7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("frames", nargs="*", type=Path, help="FLT files (default: simulated)")
    parser.add_argument("--images", type=int, default=400, help="images a run")
    parser.add_argument("--pilot", type=int, default=60, help="images of the pilot")
    parser.add_argument("--batch-size", type=int, default=5)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make both runs, print and return what was planned, billed, and the difference."""
    n_images, n_pilot = (24, 8) if arguments.short else (arguments.images, arguments.pilot)
    # A worker that dies without a word is noticed when its time is over.
    batch = ("--batch-size", str(arguments.batch_size), "--catalogs", "batch", "--timeout", "15")
    rows = {}
    with deployed_loopback(N_WORKERS) as loopback:
        source = loopback.put_images(loopback_images(arguments.frames, n_images))
        cold = _faulty(loopback, source, ("--pilot", str(n_pilot), *batch))
        rows["cold, by a pilot"] = _compare(loopback, cold)
        warm = _faulty(loopback, source, ("--profile", cold.out, *batch))
        rows["warm, by the run before"] = _compare(loopback, warm)
    for name, lines in rows.items():
        print(f"\n{n_images} images, {name}\n{'':16s}{'planned':>12s}{'billed':>12s}{'error':>8s}")
        for line, (planned, billed) in lines.items():
            error = f"{planned / billed - 1:+8.1%}" if billed >= LEAST_USD else f"{'':8s}"
            print(f"{line:16s}{planned:12.7f}{billed:12.7f}{error}")
    errors = {
        name: {
            line: planned / billed - 1
            for line, (planned, billed) in lines.items()
            if billed >= LEAST_USD
        }
        for name, lines in rows.items()
    }
    return {"n_images": n_images, "lines_usd": rows, "errors": errors}


def _faulty(loopback: Loopback, source: str, words: tuple[str, ...]) -> LoopbackRun:
    """Make a run of which some events are throttled and two workers die."""
    loopback.aws.faults.add(
        Fault("throttle", n_skip=5, n_times=3),
        Fault("kill-midway", n_skip=8, n_times=2, delay_s=0.1),
    )
    made = loopback.map(source, MEMORY_MB, *words)
    loopback.aws.faults.clear()
    return made


def _compare(loopback: Loopback, made: LoopbackRun) -> dict[str, tuple[float, float]]:
    """Bill a run, hold the bill against Lambda's log, and pair its lines with the plan's."""
    command = [sys.executable, "-m", "hstmap", "bill", made.out]
    subprocess.run(command, check=True, capture_output=True)
    bills = json.loads(loopback.store(made).get("bill.json"))["bills"]
    billed_ms = sum(call.report.billed_duration_ms for call in made.calls)
    if bills["report"]["billed_ms"] != billed_ms:
        raise RuntimeError(
            f"the bill has {bills['report']['billed_ms']} ms, Lambda's log {billed_ms} ms"
        )
    n_retried = sum(call.report.status == "error" for call in made.calls)
    print(f"answer    {billed_ms:,} ms billed in {len(made.calls)} calls, as Lambda's log has it; "
          f"{n_retried} of them died")  # fmt: skip
    planned, report = (
        {line["name"]: line["list_usd"] for line in bills[column]["lines"]}
        for column in ("planned", "report")
    )
    return {name: (planned[name], usd) for name, usd in report.items() if usd or planned[name]}
