"""Clients of AWS's services, and whose they are."""

from __future__ import annotations

import difflib
from typing import Any, Final

from hstmap.errors import UsageError

__all__ = ["AwsSession", "in_brief"]

_SHOWN_NBYTES: Final = 60
_TOLD_LENGTH: Final = 500
_HTML: Final = (b"<!doctype html", b"<html")
#: What answers begin with, by protocol: one in the protocol "query" is never empty, and one of S3
#: (rest-xml) may be anything.
_BEGINNINGS: Final = {"query": b"<", "json": b"{", "rest-json": b"{"}


class AwsSession:
    """A boto3 session; endpoints and credentials are those of the environment or ``~/.aws``.

    Parameters
    ----------
    region : str
    n_attempts : int
        How often a request is tried that was throttled or met a failure of the service.

    Raises
    ------
    UsageError
        If the environment names a profile that is not there.
    """

    def __init__(self, region: str, n_attempts: int = 5) -> None:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        self.region = region
        try:
            self._session: Any = boto3.Session(region_name=region)
        except BotoCoreError as error:
            raise UsageError(
                f"{str(error).rstrip('.')}: set AWS_PROFILE to one of ~/.aws/config, or unset it"
            ) from error
        self._config = Config(
            retries={"mode": "standard", "total_max_attempts": n_attempts},
            max_pool_connections=64,
        )

    def client(self, service: str) -> Any:
        """Make a client of a service, such as ``"lambda"``.

        Its calls raise UsageError if what answers them is not AWS, but a proxy or a web server.
        """
        client = self._session.client(service, config=self._config)

        def check(operation_model: Any, response_dict: Any, **_further: Any) -> None:
            _check_answer(client.meta.endpoint_url, operation_model, response_dict)

        client.meta.events.register_first("before-parse", check)
        return client

    def check_region(self) -> None:
        """Refuse a region that does not exist, as far as botocore knows.

        Raises
        ------
        UsageError
            With the regions that it may have been meant for.
        """
        partitions = self._session.get_available_partitions()
        known = {
            region
            for partition in partitions
            for region in self._session.get_available_regions("lambda", partition)
        }
        if self.region not in known:
            alike = difflib.get_close_matches(self.region, sorted(known))
            meant = f"; did you mean {' or '.join(alike)}?" if alike else ""
            raise UsageError(
                f"the region is {self.region!r}, which this version of boto3 does not know{meant}"
            )

    def account_id(self) -> str:
        """Return the account that the credentials belong to.

        Raises
        ------
        UsageError
            If there are none, or AWS does not take them.
        """
        return str(self.identity()["Account"])

    def identity(self) -> dict[str, Any]:
        """Return who the credentials are, as STS says; see `account_id`."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer: dict[str, Any] = self.client("sts").get_caller_identity()
        except (BotoCoreError, ClientError) as error:
            raise UsageError(
                f"AWS does not know you: {in_brief(error)}; run aws configure (or aws sso "
                "login), or set AWS_PROFILE"
            ) from error
        return answer


def in_brief(error: Exception) -> str:
    """Say in one line what botocore says of an error.

    Parameters
    ----------
    error : Exception
        Of AWS, or of a proxy on the way, which may have sent a whole page.

    Returns
    -------
    str
    """
    told = " ".join(str(error).split())
    return told[:_TOLD_LENGTH] + "..." if len(told) > _TOLD_LENGTH else told.rstrip(".")


def _check_answer(url: str, operation: Any, answer: Any) -> None:
    """Refuse an answer that cannot be of AWS: botocore would fail to read it."""
    body, status = answer["body"], answer["status_code"]
    if not isinstance(body, bytes):
        return
    text, protocol = body.strip(), operation.service_model.resolved_protocol
    is_page = text.lower().startswith(_HTML)
    if status >= 500:
        # A failure of what stands before AWS, which is tried again: but not all pages can be read.
        answer["body"] = b"" if is_page else body
        return
    is_sound = text.startswith(_BEGINNINGS.get(protocol, b"")) or (not text and protocol != "query")
    if is_sound and not is_page:
        return
    shown = text[:_SHOWN_NBYTES].decode(errors="replace").replace("\n", " ")
    got = repr(shown + "..." * (len(text) > _SHOWN_NBYTES)) if text else "nothing"
    raise UsageError(
        f"{url} is not AWS: asked for {operation.service_model.service_name} {operation.name}, it "
        f"answered {got} (HTTP status {status}). Check AWS_ENDPOINT_URL, endpoint_url in "
        "~/.aws/config, and what stands between (HTTPS_PROXY, a network that wants a login)"
    )
