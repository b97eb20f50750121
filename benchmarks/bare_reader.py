"""The least that it takes to have objects of an S3 in memory: sockets, and the same memory anew."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["BareReader", "Objects"]

_LONGEST_HEAD = 65_536


@dataclass(frozen=True)
class Objects:
    """What is to be read.

    Attributes
    ----------
    endpoint_url : str
        Of a server that speaks plain HTTP, and closes no connection between requests.
    paths : tuple of str
        With the bucket: ``"/bucket/key"``.
    nbytes : int
        How much of the beginning of each.
    """

    endpoint_url: str
    paths: tuple[str, ...]
    nbytes: int


class BareReader:
    """Reads the beginnings of objects, each on the next free one of some connections.

    A connection has one piece of memory, which the system fills without a further copy and without
    a thread of Python's that wakes for each packet: no program has bytes in memory for less.

    Parameters
    ----------
    objects : Objects
    n_connections : int
    """

    def __init__(self, objects: Objects, n_connections: int) -> None:
        self._objects = objects
        self._pool = ThreadPoolExecutor(n_connections, thread_name_prefix="bare")
        self._own = threading.local()

    def start(self, number: int) -> Future[int]:
        """Begin to read an object, of those that there are again and again.

        Returns
        -------
        Future of int
            Its bytes that came. Raises OSError if not all came.
        """
        paths = self._objects.paths
        return self._pool.submit(self._read, paths[number % len(paths)])

    def close(self) -> None:
        """Wait for what was begun; connections close with their threads."""
        self._pool.shutdown()

    def _read(self, path: str) -> int:
        if not hasattr(self._own, "connection"):
            url = urlsplit(self._objects.endpoint_url)
            self._own.connection = socket.create_connection((url.hostname or "", url.port or 80))
            self._own.memory = memoryview(bytearray(self._objects.nbytes + _LONGEST_HEAD))
        connection, memory = self._own.connection, self._own.memory
        last = self._objects.nbytes - 1
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nhost: s3\r\nrange: bytes=0-{last}\r\n\r\n".encode()
        )
        n_come, head = 0, b""
        while b"\r\n\r\n" not in head:
            n_come += _some(connection.recv_into(memory[n_come:_LONGEST_HEAD]), path)
            head = bytes(memory[:n_come])
        head = head.partition(b"\r\n\r\n")[0]
        length = _length(head, path)
        end = len(head) + len(b"\r\n\r\n") + length
        while n_come < end:
            rest = memory[n_come:end]
            n_come += _some(connection.recv_into(rest, len(rest), socket.MSG_WAITALL), path)
        return length


def _some(n_come: int, path: str) -> int:
    if n_come == 0:
        raise OSError(f"{path}: the connection ended before the answer did")
    return n_come


def _length(head: bytes, path: str) -> int:
    """Read how long the answer is, if it is the object."""
    first, *lines = head.decode("latin-1").split("\r\n")
    if first.split(" ")[1:2] not in (["200"], ["206"]):
        raise OSError(f"{path}: asked for its bytes, got {first!r}")
    headers = {name.lower(): value for name, _, value in (x.partition(":") for x in lines)}
    return int(headers["content-length"])
