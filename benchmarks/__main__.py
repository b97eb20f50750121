"""Run a benchmark: ``python -m benchmarks NAME [--short] [--json FILE]``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import benchmarks
from benchmarks.measuring import machine_lines


def _benchmarks() -> dict[str, ModuleType]:
    """Find the modules that have a `run`."""
    modules = (
        importlib.import_module(f"benchmarks.{found.name}")
        for found in pkgutil.iter_modules(benchmarks.__path__)
        if not found.name.startswith("_")
    )
    return {module.__name__.rpartition(".")[2]: module for module in modules if _can_run(module)}


def _can_run(module: ModuleType) -> bool:
    return hasattr(module, "run") and hasattr(module, "add_arguments")


def main(argv: Sequence[str] | None = None) -> int:
    """List the benchmarks, or run one."""
    modules = _benchmarks()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    subparsers = parser.add_subparsers(dest="name", metavar="NAME")
    for name, module in modules.items():
        first, *_ = (module.__doc__ or "").splitlines()
        subparser = subparsers.add_parser(name, help=first, description=module.__doc__)
        subparser.add_argument("--short", action="store_true", help="as CI runs it")
        subparser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures")
        module.add_arguments(subparser)
    arguments = parser.parse_args(argv)
    if arguments.name is None:
        for name, module in modules.items():
            print(f"{name:16s} {(module.__doc__ or '').splitlines()[0]}")
        return 0
    machine = machine_lines()
    load = round(os.getloadavg()[0] / (os.cpu_count() or 1), 2)
    for line in machine.values():
        print(line)
    print(f"load      {load:.2f} a core in the minute before")
    figures = modules[arguments.name].run(arguments)
    if arguments.json:
        record = {"benchmark": arguments.name, "machine": machine, "load": load}
        record["figures"] = figures
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")
    return int("failed" in figures)


if __name__ == "__main__":
    sys.exit(main())
