"""One side of a comparison: the hstmap of a tree, asked for the CPU time of a small map.

``PYTHONPATH=TREE python -P compare_probe.py TREE FOLDER``: warms up, and then answers each line on
its standard input with a line of JSON. It uses the command line only, which lasts longer than what
is behind it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path


def measure(folder: str, n_times: int) -> dict[str, float]:
    """Map the images of a folder in this process, a few times.

    Returns
    -------
    dict
        ``cpu_s``, the least of them, and ``n_sources``.
    """
    import pyarrow.parquet as pq

    from hstmap.cli import main

    times_s, n_sources = [], 0
    for _ in range(n_times):
        out = Path(tempfile.mkdtemp())
        command = ["map", folder, "--out", str(out / "run"), "--engine", "inprocess"]
        with contextlib.redirect_stdout(sys.stderr):
            begun_s = time.process_time()
            status = main([*command, "--no-reduce", "--quiet"])
            times_s.append(time.process_time() - begun_s)
        if status:
            raise SystemExit(f"hstmap map ended with {status}")
        parts = (out / "run" / "parts").glob("*.parquet")
        n_sources = sum(pq.read_metadata(part).num_rows for part in parts)
        shutil.rmtree(out)
    return {"cpu_s": min(times_s), "n_sources": n_sources}


def serve(tree: str, folder: str) -> None:
    """Answer until standard input ends."""
    import hstmap

    if not Path(hstmap.__file__).resolve().is_relative_to(Path(tree).resolve()):
        raise SystemExit(f"hstmap came from {hstmap.__file__}, not from {tree}")
    measure(folder, 1)
    for line in sys.stdin:
        print(json.dumps(measure(folder, int(line))), flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
