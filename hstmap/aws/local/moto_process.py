"""Moto's server as a process that ends with its parent.

Run as a program of its own: it prints the free port that it took, serves, and ends when its
standard input does - which the kernel sees to, however the parent ends.
"""

from __future__ import annotations

import os
import sys
import threading

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


class _Handler(WSGIRequestHandler):
    # Clients that keep their connection save a handshake for each of many small requests.
    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", _size: int | str = "-") -> None:
        """Log service, method, path and status, for tests that count requests."""
        # AWS4-HMAC-SHA256 Credential=<key>/<date>/<region>/<service>/aws4_request, ...
        scope = self.headers.get("Authorization", "").split(",")[0].split("/")
        service = scope[3] if len(scope) == 5 else "unsigned"
        sys.stderr.write(f"{service} {self.command} {self.path} {int(code)}\n")


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _main() -> None:
    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Handler)
    # Moto puts its own port into some answers.
    os.environ["MOTO_PORT"] = str(server.server_port)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    _main()
