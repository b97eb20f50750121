"""A gate in front of a service of AWS: requests pass, or meet what a test has written down."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Self
from urllib.parse import urlsplit

#: What a gate does with a request: let it through, turn it away with a status and an error's
#: name, or let it through and lose the answer.
Fate = tuple[int, str] | str
PASS: Fate = "pass"
LOSE: Fate = "lose"


class Gate:
    """Forwards requests to an endpoint.

    Parameters
    ----------
    endpoint : str
    fates : list of Fate
        Of the next requests that `concerns` says yes to; when it is empty they pass.
    concerns : callable
        Told the path and the ``X-Amz-Target`` of a request.
    """

    def __init__(
        self,
        endpoint: str,
        fates: list[Fate] | None = None,
        concerns: Callable[[str, str], bool] = lambda _path, _target: True,
    ) -> None:
        gate, target = self, urlsplit(endpoint)
        self.fates = fates or []
        self.n_requests = 0
        self._lock = Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                fate = gate.fate(concerns(self.path, self.headers.get("X-Amz-Target", "")))
                if isinstance(fate, tuple):
                    self.refuse(*fate)
                    return
                there = http.client.HTTPConnection(target.netloc, timeout=60)
                there.request(self.command, self.path, body, dict(self.headers))
                answer = there.getresponse()
                content = answer.read()
                there.close()
                if fate == LOSE:
                    self.close_connection = True
                    self.connection.close()
                    return
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = forward  # noqa: N815 - the names of http.server

            def refuse(self, status: int, name: str) -> None:
                content = f'{{"__type": "{name}", "message": "by the gate"}}'.encode()
                self.send_response(status)
                self.send_header("x-amzn-ErrorType", name)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_arguments: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def fate(self, concerned: bool) -> Fate:
        with self._lock:
            self.n_requests += concerned
            return self.fates.pop(0) if concerned and self.fates else PASS

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
