"""Clients of AWS's services, and whose they are."""

from __future__ import annotations

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
    """

    def __init__(self, region: str, n_attempts: int = 5) -> None:
        import boto3
        from botocore.config import Config

        self.region = region
        self._session: Any = boto3.Session(region_name=region)
        self._config = Config(
            retries={"mode": "standard", "total_max_attempts": n_attempts},
            max_pool_connections=64,
        )

    def client(self, service: str) -> Any:
        """Make a client of a service, such as ``"lambda"``."""
        return self._session.client(service, config=self._config)

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
                f"AWS does not know you: {error} Run aws configure (or aws sso login), or set "
                "AWS_PROFILE"
            ) from error
        return answer
