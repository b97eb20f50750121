"""Fixtures that every part of the suite shares."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says something of the machine, not of the code.
settings.register_profile("hstmap", deadline=None)
settings.load_profile("hstmap")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real frames beside the repository; skips where it is not there."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real frames are not at {folder}")
    return folder


@dataclass(frozen=True)
class MotoServer:
    """A loopback AWS by moto, in a process of its own so that forks and the GIL do not matter."""

    url: str
    log: Path

    def requests(self) -> list[tuple[str, str]]:
        """Method and path of every request so far, as the server's own log has them."""
        return re.findall(
            r'"(?:\x1b\[[0-9;]*m)*(GET|PUT|HEAD|POST|DELETE) (\S+) HTTP', self.log.read_text()
        )


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServer]:
    """S3, STS, IAM, Logs and so on over real HTTP on a free port of 127.0.0.1."""
    pytest.importorskip("moto.server", reason="moto[server] is not installed")
    log = tmp_path_factory.mktemp("moto") / "server.log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as sink, subprocess.Popen(command, stdout=sink, stderr=sink) as process:
        try:
            yield _when_it_answers(process, MotoServer(f"http://127.0.0.1:{port}", log))
        finally:
            process.terminate()


def _when_it_answers(process: subprocess.Popen[bytes], server: MotoServer) -> MotoServer:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{server.url}/moto-api/", timeout=5):
                return server
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"moto's server did not start:\n{server.log.read_text()}")


@pytest.fixture
def s3_bucket(moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new, empty bucket, with an environment in which every AWS tool reaches it."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": moto_server.url,
        "NO_PROXY": "127.0.0.1,localhost",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    request = urllib.request.Request(f"{moto_server.url}/{bucket}", data=b"", method="PUT")
    with urllib.request.urlopen(request, timeout=30):
        return f"s3://{bucket}"
