"""A MAST and an object store on the loopback interface, with faults that happen by a script."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hstmap.archive.offline.faults import Fault, Script
from hstmap.archive.offline.redirect import astroquery_pointed_at
from hstmap.archive.offline.rows import MadeArchive
from hstmap.archive.offline.server import MastServer
from hstmap.archive.patience import Patience
from hstmap.storage import StorageOptions


@pytest.fixture
def naps() -> list[float]:
    """The waits that were asked for, in seconds; none of them was waited."""
    return []


@pytest.fixture
def patience(naps: list[float]) -> Patience:
    """Patience that does not sleep."""
    return Patience(n_attempts=4, connect_s=5, read_s=5, sleep=naps.append)


@pytest.fixture
def serve_mast() -> Iterator[Callable[..., MastServer]]:
    """Start a MAST with an archive and faults, and point astroquery at it."""
    with ExitStack() as stack:

        def serve(archive: MadeArchive, *faults: Fault) -> MastServer:
            server = stack.enter_context(MastServer(archive, Script(*faults)))
            stack.enter_context(astroquery_pointed_at(server.url))
            return server

        yield serve


class ObjectServer:
    """Objects of one bucket over HTTP: ranges, ETags, conditions, and connections that break.

    Attributes
    ----------
    objects : dict
        Bytes by key.
    asked : list of (key, start)
        Every request, with where its range began.
    n_dropped : int
        Answers that were broken off.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.asked: list[tuple[str, int]] = []
        self.drop_every = 0
        self.n_dropped = 0
        self.on_request: Callable[[str, int], None] = lambda key, start: None
        self.forbidden: set[str] = set()
        self._lock = threading.Lock()

    def options(self, **more: object) -> StorageOptions:
        """How a store reaches this server, and asks once only: repeats are what is tested."""
        return StorageOptions(
            **{"unsigned": True, "endpoint_url": self.url, "max_retries": 0} | more  # type: ignore[arg-type]
        )

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        key = handler.path.split("?")[0].removeprefix("/bucket/")
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range") or "")
        start = int(wanted[1]) if wanted else 0
        self.on_request(key, start)
        with self._lock:
            self.asked.append((key, start))
            dropped = self.drop_every and len(self.asked) % self.drop_every == 0
            self.n_dropped += bool(dropped)
        data = self.objects.get(key)
        if key in self.forbidden or data is None:
            return self._send(handler, 403 if key in self.forbidden else 404, b"", 0)
        etag = self.etags.get(key, hashlib.md5(data).hexdigest())
        if (handler.headers.get("If-Match") or f'"{etag}"') != f'"{etag}"':
            return self._send(handler, 412, b"", 0)
        if wanted and start >= len(data):
            return self._send(handler, 416, b"", 0)
        end = min(len(data), int(wanted[2]) + 1) if wanted else len(data)
        n_sent = (end - start) // 2 if dropped else end - start
        headers = {"ETag": f'"{etag}"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        body = data[start : start + n_sent]
        return self._send(handler, 206 if wanted else 200, body, end - start, headers)

    def _send(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        announced: int,
        headers: dict[str, str] | None = None,
    ) -> None:
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(announced))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)
        handler.close_connection = len(body) != announced


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    """A bucket on the loopback interface, at ``s3://bucket``."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ObjectServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            server.answer(self)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    http.shutdown()
    http.server_close()
    thread.join()
