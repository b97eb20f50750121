"""astroquery, pointed at another server than MAST."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hstmap.archive.offline.rows import MadeArchive
from hstmap.archive.offline.server import MastServer

__all__ = ["astroquery_pointed_at", "offline_mast"]


@contextmanager
def astroquery_pointed_at(url: str) -> Iterator[None]:
    """Send astroquery's questions for MAST to another server.

    Parameters
    ----------
    url : str
        The server, without a path. astroquery reads its configuration at import, so that a
        change afterwards has to be made in the classes that copied it.
    """
    from astroquery.mast import conf
    from astroquery.mast.discovery_portal import PortalAPI
    from astroquery.mast.services import ServiceAPI

    new = {
        (ServiceAPI, "SERVICE_URL"): url,
        (PortalAPI, "MAST_REQUEST_URL"): f"{url}/api/v0/invoke",
        (PortalAPI, "COLUMNS_CONFIG_URL"): f"{url}/portal/Mashup/Mashup.asmx/columnsconfig",
    }
    old = {(owner, name): getattr(owner, name) for owner, name in new}
    with conf.set_temp("server", url):
        try:
            for (owner, name), value in new.items():
                setattr(owner, name, value)
            yield
        finally:
            for (owner, name), value in old.items():
                setattr(owner, name, value)


@contextmanager
def offline_mast(n_exposures: int = 1000) -> Iterator[MastServer]:
    """Serve a made archive and point astroquery at it.

    Parameters
    ----------
    n_exposures : int
        Exposures of the infrared channel in it.

    Yields
    ------
    MastServer
        The server, listening.
    """
    with MastServer(MadeArchive(n_exposures)) as server, astroquery_pointed_at(server.url):
        yield server
