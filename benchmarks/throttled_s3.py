"""A loopback S3 of which each connection is as slow as wanted, in a process of its own.

It serves the files below a folder as ``http://127.0.0.1:PORT/BUCKET/KEY``, unsigned, whole or a
range of bytes, and nothing else. The bytes go from the page cache to the socket in the kernel
(sendfile), a slice at a time at the pace of the rate, so that it takes little of the CPU that it
shares with what is measured; how much it took can be asked.

``python -m benchmarks.throttled_s3 FOLDER MB_S LATENCY_MS`` prints its port, and ends with its
standard input.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psutil

from hstmap.storage import StorageOptions

#: What S3 gives one connection, as AWS' guide to its performance has it: 85 to 90 MB/s at best.
MB_S = 75.0
_SLICE_NBYTES = 262_144
_LONGEST_HEAD = 65_536
_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")


@dataclass(frozen=True)
class Pace:
    """How slow a connection is.

    Attributes
    ----------
    nbytes_s : float
        Bytes a second.
    latency_s : float
        Time from a request to the first byte of its answer, s.
    """

    nbytes_s: float
    latency_s: float = 0.0


@dataclass(frozen=True)
class ThrottledS3:
    """A server that runs.

    Attributes
    ----------
    process : psutil.Process
    storage : StorageOptions
        How to reach it.
    bucket : str
        Any name: each shows the folder.
    """

    process: psutil.Process
    storage: StorageOptions
    bucket: str = "frames"

    @property
    def url(self) -> str:
        """Where the folder is."""
        return f"s3://{self.bucket}"

    def cpu_s(self) -> float:
        """Tell the CPU time that it has taken, s."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextlib.contextmanager
def throttled_s3(
    folder: Path, mb_s: float = MB_S, latency_ms: float = 0.0
) -> Iterator[ThrottledS3]:
    """Serve a folder for a while.

    Parameters
    ----------
    folder : Path
    mb_s : float
        MB/s of a connection.
    latency_ms : float
        Wait before each answer.

    Yields
    ------
    ThrottledS3
    """
    command = [sys.executable, "-m", "benchmarks.throttled_s3"]
    command += [str(folder), str(mb_s), str(latency_ms)]
    root = Path(__file__).resolve().parents[1]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=root) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        port = int(server.stdout.readline())
        options = StorageOptions(unsigned=True, endpoint_url=f"http://127.0.0.1:{port}")
        try:
            yield ThrottledS3(psutil.Process(server.pid), options)
        finally:
            server.stdin.close()


def serve(folder: Path, pace: Pace) -> tuple[socket.socket, int]:
    """Listen on a free port of this machine, and answer in threads.

    Parameters
    ----------
    folder : Path
    pace : Pace

    Returns
    -------
    socket, int
        To close, and its port.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def accept() -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = listener.accept()
                threading.Thread(
                    target=_converse, args=(connection, folder, pace), daemon=True
                ).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener, listener.getsockname()[1]


def _converse(connection: socket.socket, folder: Path, pace: Pace) -> None:
    """Answer the requests of a connection, one after another."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    waiting = b""
    with connection, contextlib.suppress(OSError):
        while True:
            while b"\r\n\r\n" not in waiting:
                news = connection.recv(_LONGEST_HEAD)
                if not news or len(waiting) > _LONGEST_HEAD:
                    return
                waiting += news
            head, _, waiting = waiting.partition(b"\r\n\r\n")
            _answer(connection, head.decode("latin-1"), folder, pace)


def _answer(connection: socket.socket, head: str, folder: Path, pace: Pace) -> None:
    """Send what is asked for, or why not."""
    time.sleep(pace.latency_s)
    first, *lines = head.split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    key = unquote(urlsplit(target).path).lstrip("/").partition("/")[2]
    path = folder / key
    if method not in ("GET", "HEAD"):
        _say(connection, "405 Method Not Allowed", {"content-length": "0"})
        return
    if ".." in key.split("/") or not path.is_file():
        body = b"<Error><Code>NoSuchKey</Code></Error>" if method == "GET" else b""
        _say(connection, "404 Not Found", {"content-length": str(len(body))}, body)
        return
    with path.open("rb") as file:
        facts = os.fstat(file.fileno())
        start, stop = _range(headers.get("range", ""), facts.st_size)
        if start >= stop > 0 or start > facts.st_size:
            _say(connection, "416 Range Not Satisfiable", {"content-length": "0"})
            return
        answer = {
            "content-length": str(stop - start),
            "etag": f'"{facts.st_mtime_ns:x}-{facts.st_size:x}"',
            "last-modified": formatdate(facts.st_mtime, usegmt=True),
            "accept-ranges": "bytes",
        }
        if "range" in headers:
            answer["content-range"] = f"bytes {start}-{stop - 1}/{facts.st_size}"
        _say(connection, "206 Partial Content" if "range" in headers else "200 OK", answer)
        if method == "GET":
            _send(connection, file.fileno(), (start, stop), pace.nbytes_s)


def _range(text: str, size: int) -> tuple[int, int]:
    """Read a range of bytes: start and stop, of which the last is not meant."""
    match = _RANGE.match(text)
    if match is None:
        return 0, size
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def _say(
    connection: socket.socket, status: str, headers: dict[str, str], body: bytes = b""
) -> None:
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items())]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)


def _send(connection: socket.socket, file: int, stretch: tuple[int, int], nbytes_s: float) -> None:
    """Send a stretch of a file, no faster than the rate."""
    start, stop = stretch
    begun, position = time.monotonic(), start
    while position < stop:
        ahead_s = (position - start) / nbytes_s - (time.monotonic() - begun)
        if ahead_s > 0:
            time.sleep(ahead_s)
        n = os.sendfile(connection.fileno(), file, position, min(_SLICE_NBYTES, stop - position))
        if n == 0:
            raise OSError("the file has become shorter")
        position += n
    # The last slice takes its time as well.
    time.sleep(max(0.0, (stop - start) / nbytes_s - (time.monotonic() - begun)))


def main(folder: str, mb_s: str, latency_ms: str) -> None:
    """Serve until standard input ends."""
    listener, port = serve(Path(folder), Pace(float(mb_s) * 1e6, float(latency_ms) / 1e3))
    print(port, flush=True)
    sys.stdin.read()
    listener.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
