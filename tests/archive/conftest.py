"""A MAST on the loopback interface, with faults that happen by a script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from hstmap.archive.offline.faults import Fault, Script
from hstmap.archive.offline.redirect import astroquery_pointed_at
from hstmap.archive.offline.rows import MadeArchive
from hstmap.archive.offline.server import MastServer
from hstmap.archive.patience import Patience


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
