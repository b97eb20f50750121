"""Requests to stores, counted by kind, and whoever listens to them being made.

What is counted is what S3 charges: each request once, whatever the answer, as S3 charges for a 404
too. 5xx answers are not charged, and what is repeated after one counts once. A request whose
connection broke off counts once too, though S3 may have served it: that is not known here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any

__all__ = ["CallRequests", "RequestCounts", "heard_by", "tell"]


@dataclass
class RequestCounts:
    """Requests by kind, and the bytes that they moved.

    Every request is counted when it is made, whatever the answer: S3 charges for a 404 too.
    What obstore repeats by itself (5xx answers, dropped connections) counts once. Local reads
    and writes count as the requests that they would be on S3.
    """

    n_get: int = 0
    n_put: int = 0
    n_list: int = 0
    n_head: int = 0
    n_delete: int = 0
    nbytes_read: int = 0
    nbytes_written: int = 0

    def __add__(self, other: RequestCounts) -> RequestCounts:
        mine, theirs = asdict(self), asdict(other)
        return RequestCounts(**{name: mine[name] + theirs[name] for name in mine})

    def __iadd__(self, other: RequestCounts) -> RequestCounts:
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))
        return self

    def __sub__(self, other: RequestCounts) -> RequestCounts:
        mine, theirs = asdict(self), asdict(other)
        return RequestCounts(**{name: mine[name] - theirs[name] for name in mine})

    @property
    def n_requests(self) -> int:
        """Number of requests of all kinds."""
        return self.n_get + self.n_put + self.n_list + self.n_head + self.n_delete


@dataclass(frozen=True)
class CallRequests:
    """The requests of one call of a function.

    Attributes
    ----------
    work : RequestCounts
        What the function asked for.
    engine : RequestCounts
        What it took to bring the function and its argument there, and its answer back.
    """

    work: RequestCounts = field(default_factory=RequestCounts)
    engine: RequestCounts = field(default_factory=RequestCounts)

    def __add__(self, other: CallRequests) -> CallRequests:
        return CallRequests(self.work + other.work, self.engine + other.engine)

    def as_dict(self) -> dict[str, dict[str, int]]:
        """Write it for JSON, without what is zero; `from_dict` reads it."""
        return {
            name: {kind: n for kind, n in asdict(counts).items() if n}
            for name, counts in vars(self).items()
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> CallRequests:
        """Read what `as_dict` wrote."""
        return cls(RequestCounts(**record["work"]), RequestCounts(**record["engine"]))


Listener = Callable[[RequestCounts], object]

_listeners: list[Listener] = []
# Stores of several threads tell of their requests at a time, and listeners add up.
_telling = threading.Lock()


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Tell someone of all requests that this process makes meanwhile, in whatever thread.

    Parameters
    ----------
    listener : callable
        Given each request, or several, before they are sent, and bytes after they moved. One call
        at a time; it must make no request itself.
    """
    with _telling:
        _listeners.append(listener)
    try:
        yield
    finally:
        with _telling:
            _listeners.remove(listener)


def tell(counts: RequestCounts) -> None:
    """Tell all who listen of requests that are made."""
    if not _listeners:
        return
    with _telling:
        for listener in _listeners:
            listener(counts)
