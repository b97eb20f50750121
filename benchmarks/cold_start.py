"""What a cold start of a worker costs: imports by part, and megabytes, before and after trimming.

Each figure is CPU time of an interpreter of its own that sees a package and the standard library
only, as Lambda's does; the median of several, in turn. Beside the worker's entry point: what boto3
and Lithops' own handler would cost in its place, from what is installed here.

``python -m benchmarks cold_start [--repeat 7] [--short] [--json FILE]``
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

#: By part: what is imported before the clock starts, and what is timed.
PARTS = {
    "numpy": ("", "import numpy"),
    "astropy.io.fits": ("import numpy", "import astropy.io.fits"),
    "astropy.wcs": ("import astropy.io.fits", "import astropy.wcs"),
    "sep": ("import numpy", "import sep"),
    "obstore": ("", "import obstore"),
    "arro3": ("", "import arro3.core, arro3.io"),
    "all of a worker": ("", "import hstmap.handler"),
}
OTHERS = {
    "pyarrow.parquet": "import pyarrow.parquet",
    "pandas": "import pandas",
    "boto3, S3 client": "import boto3; boto3.client('s3', region_name='us-east-1')",
    "Lithops' handler": "import lithops.serverless.backends.aws_lambda.entry_point",
}
TIMED = """
import sys, time
sys.path[:0] = sys.argv[1:]
{before}
begun = time.process_time()
{what}
print(time.process_time() - begun)
"""


def cpu_s(folder: Path, before: str, what: str) -> float:
    """Time imports in an interpreter of their own, s."""
    code = TIMED.format(before=before, what=what)
    command = [sys.executable, "-I", "-S", "-c", code, str(folder)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(answer.stdout)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeat", type=int, default=7, metavar="N", help="times of each")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    from hstmap.aws import package, package_files

    n = 2 if arguments.short else arguments.repeat
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        whole, trimmed = Path(scratch, "whole"), Path(scratch, "trimmed")
        whole.mkdir()
        package.copy_installed(whole)
        shutil.copytree(whole, trimmed)
        package_files.trim(trimmed)
        bare = package_files.sizes(trimmed)
        for folder in (whole, trimmed):
            package_files.compile_sources(folder)
        figures["nbytes"] = {
            "whole": package_files.sizes(whole), "trimmed": package_files.sizes(trimmed),
            "trimmed, not compiled": bare,
        }  # fmt: skip
        figures["zip_nbytes"] = zip_sizes(Path(scratch), {"whole": whole, "trimmed": trimmed})
        figures["init_cpu_s"] = time_parts(n, {"whole": whole, "trimmed": trimmed})
    for line in report_lines(figures):
        print(line)
    return figures


def zip_sizes(scratch: Path, folders: dict[str, Path]) -> dict[str, int]:
    from hstmap.aws.package_files import write_zip

    sizes = {}
    for name, folder in folders.items():
        file = scratch / f"{name}.zip"
        write_zip(folder, file)
        sizes[name] = file.stat().st_size
    return sizes


def time_parts(n: int, folders: dict[str, Path]) -> dict[str, dict[str, float]]:
    """Time every part in every folder, in turn, and take the medians."""
    installed = Path(sysconfig.get_paths()["purelib"])
    jobs = {
        (name, kind): (folder, *part)
        for name, part in PARTS.items()
        for kind, folder in folders.items()
    }
    jobs |= {(name, "installed"): (installed, "", what) for name, what in OTHERS.items()}
    times: dict[tuple[str, str], list[float]] = {key: [] for key in jobs}
    for _ in range(n):
        for key, (folder, before, what) in jobs.items():
            times[key].append(cpu_s(folder, before, what))
    medians: dict[str, dict[str, float]] = {}
    for (name, kind), values in times.items():
        medians.setdefault(name, {})[kind] = round(statistics.median(values), 4)
    return medians


def report_lines(figures: dict[str, Any]) -> list[str]:
    """Write both tables."""
    lines = [f"{'CPU of INIT, s':20s} {'whole':>9s} {'trimmed':>9s}"]
    for name, by_kind in figures["init_cpu_s"].items():
        cells = [by_kind.get("whole", by_kind.get("installed")), by_kind.get("trimmed")]
        shown = " ".join("         " if cell is None else f"{cell:9.3f}" for cell in cells)
        lines.append(f"{name:20s} {shown}")
    sizes = figures["nbytes"]
    lines += ["", f"{'MB':20s} {'whole':>9s} {'trimmed':>9s}"]
    names = [name for name, nbytes in sizes["whole"].items() if nbytes > 500_000]
    for name in names:
        lines.append(
            f"{name:20s} {sizes['whole'][name] / 1e6:9.1f} "
            f"{sizes['trimmed'].get(name, 0) / 1e6:9.1f}"
        )
    totals = [sum(sizes[kind].values()) / 1e6 for kind in ("whole", "trimmed")]
    lines.append(f"{'all':20s} {totals[0]:9.1f} {totals[1]:9.1f}")
    zips = figures["zip_nbytes"]
    lines.append(f"{'zipped':20s} {zips['whole'] / 1e6:9.1f} {zips['trimmed'] / 1e6:9.1f}")
    return lines
