"""What travels to Lambda in an event: one call, and nothing that a worker has no use for."""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import hstmap
from hstmap.errors import StaleRuntimeError

__all__ = [
    "CALL_MARK",
    "EVENT_KEY",
    "CallEvent",
    "check_versions",
    "python_version",
    "runtime_facts",
    "without_secrets",
]

#: What marks an event as one of hstmap's.
EVENT_KEY: Final = "hstmap_call"
#: What marks Lithops' payload as that of one of hstmap's calls, among its variables.
CALL_MARK: Final = "HSTMAP_CALL"
_SECRETS: Final = frozenset({"access_key_id", "secret_access_key", "session_token"})


def python_version() -> str:
    """Return the minor version of the Python that runs, such as ``"3.11"``."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class CallEvent:
    """One call of a Lithops job.

    Parameters
    ----------
    version, python : str
        Of the client: pickles travel between equal versions only.
    executor_id, job_id, call_id : str
        Lithops' names of the call.
    bucket : str
        Lithops' bucket.
    function_key : str
        Where the function is, in the bucket.
    data : str
        Its pickled arguments in base 64; empty if they are in the bucket.
    data_key : str
        Where the arguments are then.
    data_range : tuple of int
        First and last byte of them there.
    timeout_s : float
        Longest time of the call.
    """

    version: str
    python: str
    executor_id: str
    job_id: str
    call_id: str
    bucket: str
    function_key: str
    data: str
    data_key: str
    data_range: tuple[int, int]
    timeout_s: float

    @property
    def prefix(self) -> str:
        """Where Lithops looks for what the call leaves, in the bucket."""
        return f"lithops.jobs/{self.executor_id}-{self.job_id}/{self.call_id}"

    def as_dict(self) -> dict[str, Any]:
        """Write it as an event."""
        return {EVENT_KEY: asdict(self)}

    @classmethod
    def from_dict(cls, event: Mapping[str, Any]) -> CallEvent:
        """Read an event.

        Parameters
        ----------
        event : mapping

        Returns
        -------
        CallEvent

        Raises
        ------
        StaleRuntimeError
            If the client that sent it writes events otherwise.
        """
        content = dict(event[EVENT_KEY])
        names = {item.name for item in fields(cls)}
        if content.keys() != names:
            raise StaleRuntimeError(
                _stale(f"the event is that of hstmap {content.get('version')}", hstmap.__version__)
            )
        content["data_range"] = tuple(content["data_range"])
        return cls(**content)

    @classmethod
    def from_lithops(cls, payload: Mapping[str, Any], bucket: str) -> CallEvent:
        """Take from Lithops' payload what its call needs: no configuration, no credentials.

        Parameters
        ----------
        payload : mapping
            Of one call.
        bucket : str
            Lithops' bucket.

        Returns
        -------
        CallEvent
        """
        (call_id,) = payload["call_ids"]
        ranges, texts = payload.get("data_byte_ranges"), payload.get("data_byte_strs")
        return cls(
            version=hstmap.__version__,
            python=python_version(),
            executor_id=payload["executor_id"],
            job_id=payload["job_id"],
            call_id=call_id,
            bucket=bucket,
            function_key=payload["func_key"],
            data=base64.b64encode(texts[0]).decode("ascii") if texts else "",
            data_key=payload.get("data_key") or "",
            data_range=tuple(ranges[0]) if ranges else (0, -1),
            timeout_s=float(payload["execution_timeout"]),
        )


def without_secrets(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Take the keys out of the configuration that Lithops sends along.

    Parameters
    ----------
    payload : mapping
        Of a call that was sent through Lithops itself.

    Returns
    -------
    dict
    """
    config = {
        name: {key: value for key, value in section.items() if key not in _SECRETS}
        if isinstance(section, Mapping)
        else section
        for name, section in payload["config"].items()
    }
    return {**payload, "config": config}


def runtime_facts() -> dict[str, str]:
    """Say what this runtime is; the answer to an event that asks."""
    return {"hstmap": hstmap.__version__, "python": python_version()}


def check_versions(client: Mapping[str, str], worker: Mapping[str, str]) -> None:
    """Refuse a worker that is not the client's equal.

    Parameters
    ----------
    client, worker : mapping
        Of `runtime_facts`.

    Raises
    ------
    StaleRuntimeError
        Naming the commands that mend it.
    """
    for name, mine in client.items():
        if worker.get(name) != mine:
            raise StaleRuntimeError(_stale(f"the client has {name} {mine}", worker.get(name)))


def _stale(client: str, worker: str | None) -> str:
    return (
        f"{client}, the deployed workers have {worker or 'none'}: build and deploy them again, by "
        "runtime/build --zip and python -m hstmap deploy"
    )
