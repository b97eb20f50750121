"""The peers of a run, each in an interpreter of its own: ``python -m benchmarks.peer_runs ...``.

Each maps the same files twice, the second time with all started and warm, and leaves a list of
sources for each image. Standard output is one line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path
from typing import Any

Positions = Any
"""numpy.ndarray of shape (n, 2): x and y, pixels from 0."""


@dataclass(frozen=True)
class Job:
    """What is to be done.

    Attributes
    ----------
    inputs : tuple of str
        One path an image.
    out : str
        Folder for what is found, which is there.
    n_workers : int
    settings : dict
        hstmap's parameters, flat.
    """

    inputs: tuple[str, ...]
    out: str
    n_workers: int
    settings: dict[str, Any]


Runner = Callable[[Job], None]


# -- hstmap --------------------------------------------------------------------------------------


@contextmanager
def hstmap_run(job: Job) -> Iterator[Runner]:
    from hstmap.archive.manifest import Manifest
    from hstmap.bag.engine import EngineOptions, make_engine
    from hstmap.batch import RunParameters
    from hstmap.pipeline import BATCH_MODULES, RunOptions, plan_run, run_map

    how = EngineOptions(n_workers=job.n_workers, preload=BATCH_MODULES)
    with make_engine("lithops", how) as engine:

        def run(job: Job) -> None:
            rows = [{"rootname": root_of(path), "key": path} for path in job.inputs]
            manifest = Manifest.from_rows(rows)
            options = RunOptions(n_workers=job.n_workers)
            plan = plan_run(manifest, job.out, RunParameters(), options)
            result = run_map(plan, manifest, engine, options)
            if result.outcomes != {"ok": len(job.inputs)}:
                raise RuntimeError(f"not all images were done: {result.outcomes}")

        yield run


# -- the plain script under three maps -----------------------------------------------------------


def plain_of(order: tuple[str, str, dict[str, Any]]) -> int:
    """Do one image by the plain script; in a process that has not done one, import it."""
    from benchmarks.plain import plain_catalog

    return plain_catalog(*order)


def orders(job: Job) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, job.out, job.settings) for path in job.inputs]


@contextmanager
def bare_lithops(job: Job) -> Iterator[Runner]:
    import lithops

    # Version 1 of the localhost backend is the faster one: see benchmarks/bag_overhead.py.
    config = {
        "lithops": {"backend": "localhost", "storage": "localhost", "data_cleaner": False},
        "localhost": {"version": 1, "runtime": sys.executable, "worker_processes": job.n_workers},
    }
    executor = lithops.FunctionExecutor(config=config, log_level=None)

    def run(job: Job) -> None:
        futures = executor.map(plain_of, [(order,) for order in orders(job)])
        executor.get_result(futures, show_progressbar=False)

    yield run


@contextmanager
def dask_bag(job: Job) -> Iterator[Runner]:
    import dask
    import dask.bag

    with dask.config.set(scheduler="processes", num_workers=job.n_workers):

        def run(job: Job) -> None:
            dask.bag.from_sequence(orders(job), partition_size=1).map(plain_of).compute()

        yield run


@contextmanager
def pool_of_processes(job: Job) -> Iterator[Runner]:
    with Pool(job.n_workers) as pool:
        yield lambda job: list(pool.imap_unordered(plain_of, orders(job))) and None


# -- the function of 2018 ------------------------------------------------------------------------


def call_of_2018(order: tuple[str, str, bool]) -> int:
    """Do one image as a warm call did."""
    from benchmarks import function_of_2018

    path, out, picture = order
    return function_of_2018.process_image(path, out, picture=picture)


@contextmanager
def function_of_2018(job: Job, picture: bool = True) -> Iterator[Runner]:
    with Pool(job.n_workers) as pool:

        def run(job: Job) -> None:
            calls = [(path, job.out, picture) for path in job.inputs]
            list(pool.imap_unordered(call_of_2018, calls))

        yield run


@contextmanager
def function_of_2018_bare(job: Job) -> Iterator[Runner]:
    with function_of_2018(job, picture=False) as run:
        yield run


# -- other programs ------------------------------------------------------------------------------


@contextmanager
def sextractor(job: Job) -> Iterator[Runner]:
    # A process for each frame, on planes that were prepared: their making is not counted.
    def one(folder: str, out: str) -> None:
        command = json.loads(Path(folder, "command.json").read_text())
        list_file = Path(out, f"{Path(folder).name}.cat")
        subprocess.run(
            [*command, "-CATALOG_NAME", str(list_file)], cwd=folder, check=True, capture_output=True
        )

    with ThreadPoolExecutor(job.n_workers) as pool:
        yield lambda job: list(pool.map(one, job.inputs, [job.out] * len(job.inputs))) and None


def photutils_of(order: tuple[str, str]) -> int:
    """Do one image by photutils, the file read by hstmap."""
    import numpy as np

    from benchmarks.photutils_list import run_photutils
    from hstmap.batch import RunParameters
    from hstmap.wfc3.image import read_image

    path, out = order
    with Path(path).open("rb") as file:
        image = read_image(file, path)
    columns = run_photutils(image, RunParameters())
    np.savez(Path(out, f"{root_of(path)}.npz"), **columns)
    return len(columns["x"])


@contextmanager
def photutils(job: Job) -> Iterator[Runner]:
    with Pool(job.n_workers) as pool:

        def run(job: Job) -> None:
            list(pool.imap_unordered(photutils_of, [(path, job.out) for path in job.inputs]))

        yield run


# -- what they found -----------------------------------------------------------------------------


def root_of(path: str) -> str:
    return Path(path).name.partition("_")[0]


def from_parts(out: Path) -> dict[str, Positions]:
    import pyarrow.parquet as pq

    names = ["x_barycentre", "y_barycentre"]
    table = pq.read_table(out / "parts", columns=["rootname", *names]).to_pandas()
    return {root: rows[names].to_numpy() for root, rows in table.groupby("rootname")}


def from_tables(out: Path, ending: str) -> dict[str, Positions]:
    import numpy as np
    from astropy.table import Table

    tables = {path.name.removesuffix(ending): Table.read(path) for path in out.glob(f"*{ending}")}
    return {root: np.column_stack([table["x"], table["y"]]) for root, table in tables.items()}


def from_sextractor(out: Path) -> dict[str, Positions]:
    import numpy as np
    from astropy.table import Table

    found = {}
    for path in out.glob("*.cat"):
        table = Table.read(path, format="ascii.sextractor")
        found[path.stem] = np.column_stack([table["X_IMAGE"], table["Y_IMAGE"]]) - 1.0
    return found


def from_arrays(out: Path) -> dict[str, Positions]:
    import numpy as np

    found = {}
    for path in out.glob("*.npz"):
        with np.load(path) as arrays:
            found[path.stem] = np.column_stack([arrays["x"], arrays["y"]])
    return found


# -- contestants ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contestant:
    """One way to the sources of images.

    Attributes
    ----------
    make : callable
        Makes what runs a job.
    found : callable
        Reads what it left.
    measures : str
        What it measures, and what beside it does.
    kind : {"flt", "drz", "planes"}
        What its inputs are.
    slow : bool
        Whether it takes so long that fewer images must do.
    """

    make: Callable[[Job], AbstractContextManager[Runner]]
    found: Callable[[Path], dict[str, Positions]]
    measures: str
    kind: str = "flt"
    slow: bool = False


def _from_plain(out: Path) -> dict[str, Positions]:
    return from_tables(out, "_cat.fits")


def _from_2018(out: Path) -> dict[str, Positions]:
    return from_tables(out, ".catalog.fits")


_SAME = "hstmap's measurements but those behind masked pixels; a table an image by astropy"
_OF_2018 = "its own: another mesh, threshold and kernel, Kron magnitudes only"
CONTESTANTS: dict[str, Contestant] = {
    "hstmap": Contestant(hstmap_run, from_parts, "all; catalogues and parts"),
    "multiprocessing.Pool": Contestant(pool_of_processes, _from_plain, _SAME),
    "dask.bag, processes": Contestant(dask_bag, _from_plain, _SAME),
    "Lithops map": Contestant(bare_lithops, _from_plain, _SAME),
    "function of 2018": Contestant(
        function_of_2018, _from_2018, f"{_OF_2018}; a table and a picture", "drz", slow=True
    ),
    "the same, no picture": Contestant(
        function_of_2018_bare, _from_2018, f"{_OF_2018}; a table", "drz", slow=True
    ),
    "SExtractor": Contestant(
        sextractor, from_sextractor, "no windowed positions, no sky; a list as text", "planes"
    ),
    "photutils": Contestant(
        photutils, from_arrays, "centroids, Kron and one circle; arrays", slow=True
    ),
}  # fmt: skip


def run_twice(name: str, job: Job) -> dict[str, float]:
    """Do a job from a standing start, and again with all that has been started.

    Returns
    -------
    dict
        Seconds: ``first_s`` from before the first import, ``again_s``, and ``cpu_s``, the CPU time
        of this process and its descendants in the second pass.
    """
    import psutil

    begun = time.perf_counter()
    with CONTESTANTS[name].make(job) as run:
        run(in_folder(job, "first"))
        first_s = time.perf_counter() - begun
        before_s, begun = _cpu_s(psutil.Process()), time.perf_counter()
        run(in_folder(job, "again"))
        again_s = time.perf_counter() - begun
        return {
            "first_s": first_s,
            "again_s": again_s,
            "cpu_s": _cpu_s(psutil.Process()) - before_s,
        }


def in_folder(job: Job, name: str) -> Job:
    """Give the same job with a new folder of its own to write into."""
    folder = Path(job.out, name)
    folder.mkdir(parents=True)
    return Job(job.inputs, str(folder), job.n_workers, job.settings)


def _cpu_s(process: Any) -> float:
    """Add up the CPU time of processes that are alive, and of those that they waited for."""
    import psutil

    total_s = 0.0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            times = each.cpu_times()
            total_s += times.user + times.system + times.children_user + times.children_system
    return total_s


def main(arguments: Sequence[str]) -> None:
    """Run one contestant: its name, and a job as JSON."""
    name, described = arguments
    fields = json.loads(described)
    job = Job(tuple(fields["inputs"]), fields["out"], fields["n_workers"], fields["settings"])
    said = os.dup(1)
    os.dup2(2, 1)  # what libraries print is not the answer
    figures = run_twice(name, job)
    os.write(said, (json.dumps(figures) + "\n").encode())


if __name__ == "__main__":
    main(sys.argv[1:])
