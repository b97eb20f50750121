"""Clients of AWS's services, and whose they are."""

from __future__ import annotations

import difflib
from typing import Any

from hstmap.errors import UsageError

__all__ = ["AwsSession"]


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
        """Make a client of a service, such as ``"lambda"``."""
        return self._session.client(service, config=self._config)

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
                f"AWS does not know you: {str(error).rstrip('.')}; run aws configure (or aws sso "
                "login), or set AWS_PROFILE"
            ) from error
        return answer
