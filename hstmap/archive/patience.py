"""Questions to a server over an unsteady network: time limits, repeats, back-off with jitter."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from hstmap.errors import ArchiveError

__all__ = ["Patience", "TroubleError", "patiently", "teach_patience"]

T = TypeVar("T")

_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that may differ the next time (RFC 9110, RFC 6585)."""


@dataclass(frozen=True)
class Patience:
    """How long and how often to try.

    Parameters
    ----------
    n_attempts : int
        Tries of one question in all.
    first_delay_s : float
        Wait before the first repeat; it doubles with each further one.
    longest_delay_s : float
        Bound of a wait, the server's own ``Retry-After`` included.
    connect_s, read_s : float
        Limits for a connection to open, and for its next byte to come.
    sleep : callable
        Called with the seconds to wait. Tests hand in one that returns at once.
    """

    n_attempts: int = 6
    first_delay_s: float = 1.0
    longest_delay_s: float = 120.0
    connect_s: float = 20.0
    read_s: float = 120.0
    sleep: Callable[[float], None] = time.sleep

    def delay_s(self, n_failed: int, retry_after_s: float | None = None) -> float:
        """Return the wait after `n_failed` tries, in seconds.

        Half of it is drawn, so that clients that failed together do not return together. A
        server that said when to come back is not asked before that.
        """
        drawn = self.first_delay_s * 2.0 ** (n_failed - 1) * random.uniform(0.5, 1.0)
        return min(self.longest_delay_s, max(drawn, retry_after_s or 0.0))


class TroubleError(requests.RequestException):
    """A passing fault: the same question may be answered the next time.

    Parameters
    ----------
    message : str
        What happened.
    retry_after_s : float, optional
        When the server wants to be asked again.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def patiently(
    ask: Callable[[], T],
    patience: Patience,
    what: str,
    on_trouble: Callable[[str], None] | None = None,
) -> T:
    """Return what `ask` returns, asking again after passing faults.

    Parameters
    ----------
    ask : callable
        Raises a `requests.RequestException` for what may pass, `requests.HTTPError` (which
        `TroubleError` is not) or anything else for what will not.
    patience : Patience
        How often, and how long to wait between.
    what : str
        What is asked for, for messages: "page 3 of the exposures".
    on_trouble : callable, optional
        Told of every fault that is about to be retried.

    Raises
    ------
    ArchiveError
        If the last try failed too, or the answer is one that no repeat will change.
    """
    for n_failed in range(1, patience.n_attempts + 1):
        try:
            return ask()
        except requests.HTTPError as error:
            raise ArchiveError(f"{what}: {error}. Asking again would not change that.") from error
        except requests.RequestException as error:
            trouble: requests.RequestException = error
        if n_failed < patience.n_attempts:
            delay_s = patience.delay_s(n_failed, getattr(trouble, "retry_after_s", None))
            if on_trouble:
                on_trouble(f"{what}: {trouble}; asking again in {delay_s:.1f} s")
            patience.sleep(delay_s)
    raise ArchiveError(
        f"{what}: no usable answer in {patience.n_attempts} tries. The last: {trouble}. "
        "Try again later."
    ) from trouble


def teach_patience(session: requests.Session, patience: Patience) -> None:
    """Give a session time limits, and let it raise `TroubleError` for answers that may pass.

    astroquery waits without a limit, and reports a server's 500 as if the query were at fault.

    Parameters
    ----------
    session : requests.Session
        Changed in place.
    patience : Patience
        Its time limits are used; repeats are the caller's, who knows the page.
    """
    adapter = _PatientAdapter(patience)
    session.mount("https://", adapter)
    session.mount("http://", adapter)


class _PatientAdapter(HTTPAdapter):
    def __init__(self, patience: Patience) -> None:
        super().__init__(pool_maxsize=16)
        self._limits = (patience.connect_s, patience.read_s)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        kwargs["timeout"] = self._limits
        response = super().send(request, **kwargs)
        if response.status_code in _TRANSIENT_STATUS:
            said = f"{response.status_code} {response.reason} {response.text[:200]}".strip()
            after_s = _retry_after_s(response.headers.get("Retry-After"))
            raise TroubleError(f"the server answered {said}", after_s)
        return response


def _retry_after_s(header: str | None) -> float | None:
    """Return the seconds of a ``Retry-After`` header, which holds a number or a date."""
    if header is None:
        return None
    try:
        return float(Retry().parse_retry_after(header))
    except (InvalidHeader, ValueError):
        return None
