"""What the configuration says of AWS, complete and checked."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hstmap.errors import UsageError

__all__ = ["SECTION", "AwsSettings", "aws_settings", "default_bucket", "own_role_name"]

SECTION: Final = "aws_lambda"
_STORAGE: Final = "aws_s3"
_KEYS: Final = ("access_key_id", "secret_access_key", "session_token")
#: Defaults: a whole CPU (https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html).
_DEFAULTS: Final[Mapping[str, Any]] = {
    "runtime": "hstmap",
    "runtime_memory": 1769,
    "runtime_timeout": 600,
    "architecture": "x86_64",
    "ephemeral_storage": 512,
    "max_workers": 1000,
    "log_retention_days": 30,
}
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
_LIMITS: Final[Mapping[str, tuple[int, int]]] = {
    "runtime_memory": (128, 10240),
    "runtime_timeout": (1, 900),
    "ephemeral_storage": (512, 10240),
    "max_workers": (1, 1_000_000),
}
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
_LONGEST_ROLE: Final = 64


@dataclass(frozen=True)
class AwsSettings:
    """Where functions run, and how they are set up.

    Parameters
    ----------
    account_id, region : str
    function : str
        Name of the function; Lithops' ``runtime``.
    memory_mb, timeout_s, ephemeral_mb : int
    architecture : {"x86_64", "arm64"}
    role : str
        ARN of the role that the function runs as.
    bucket : str
        Where packages and Lithops' objects go.
    max_workers : int
        Invocations at a time.
    retention_days : int
        How long logs are kept.
    buckets : tuple of str
        What workers may read and write beside `bucket`; public ones need not be named.
    environment, tags : mapping of str to str
    """

    account_id: str
    region: str
    function: str
    memory_mb: int
    timeout_s: int
    ephemeral_mb: int
    architecture: str
    role: str
    bucket: str
    max_workers: int
    retention_days: int
    buckets: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def log_group(self) -> str:
        """Where Lambda writes the function's logs."""
        return f"/aws/lambda/{self.function}"

    @property
    def role_name(self) -> str:
        """The last part of the role's ARN."""
        return self.role.rpartition("/")[2]

    @property
    def owns_role(self) -> bool:
        """Whether the role is the one that a deployment makes."""
        return self.role_name == own_role_name(self.function, self.region)

    @property
    def repository(self) -> str:
        """Name of the function's repository of images; ECR's have no capitals."""
        return self.function.lower()

    @property
    def function_arn(self) -> str:
        """ARN of the function."""
        return f"arn:aws:lambda:{self.region}:{self.account_id}:function:{self.function}"

    @property
    def python(self) -> str:
        """Lambda's name of the Python that runs here, and must run there."""
        return f"python{sys.version_info.major}.{sys.version_info.minor}"


def own_role_name(function: str, region: str) -> str:
    """Return the name of the role that is made for a function; roles are of all regions."""
    return f"{function}-worker-{region}"


def aws_settings(config: Mapping[str, Any], account_id: str) -> AwsSettings:
    """Read Lithops' sections ``aws``, ``aws_lambda`` and ``aws_s3``.

    Parameters
    ----------
    config : mapping
        Sections of names and values.
    account_id : str
        Of the account that the credentials belong to.

    Returns
    -------
    AwsSettings

    Raises
    ------
    UsageError
        If something cannot be, or keys are in the file.
    """
    sections = {name: dict(config.get(name) or {}) for name in ("aws", SECTION, _STORAGE)}
    for name, section in sections.items():
        if found := [key for key in _KEYS if key in section]:
            raise UsageError(
                f"the configuration has {', '.join(found)} under '{name}': leave keys out; "
                "credentials are taken from the environment or from ~/.aws"
            )
    values = {**_DEFAULTS, **sections["aws"], **sections[SECTION]}
    region = values.get("region") or values.get("region_name")
    if not region:
        raise UsageError(
            "the configuration has no region: set 'region' under 'aws' in lithops_config.yaml, or "
            "name a file that has one with --config"
        )
    for name, (least, most) in _LIMITS.items():
        value = values[name]
        if not isinstance(value, int) or not least <= value <= most:
            raise UsageError(f"{name} is {value!r}; give a whole number from {least} to {most}")
    function = str(values["runtime"])
    n_too_many = len(own_role_name(function, region)) - _LONGEST_ROLE
    if n_too_many > 0:
        raise UsageError(
            f"the name of the function, {function!r}, is {n_too_many} characters too long for the "
            "role that is named after it: set another 'runtime'"
        )
    own_role = f"arn:aws:iam::{account_id}:role/{own_role_name(function, region)}"
    return AwsSettings(
        account_id=account_id,
        region=region,
        function=function,
        memory_mb=values["runtime_memory"],
        timeout_s=values["runtime_timeout"],
        ephemeral_mb=values["ephemeral_storage"],
        architecture=values["architecture"],
        role=values.get("execution_role") or own_role,
        bucket=sections[_STORAGE].get("storage_bucket") or default_bucket(account_id, region),
        max_workers=values["max_workers"],
        retention_days=values["log_retention_days"],
        buckets=tuple(values.get("buckets") or ()),
        environment=_environment(values.get("env_vars")),
        tags={str(name): str(value) for name, value in (values.get("user_tags") or {}).items()},
    )


def default_bucket(account_id: str, region: str) -> str:
    """Return the bucket that is made where none is named; bucket names are the whole world's."""
    return f"hstmap-{account_id}-{region}"


def _environment(given: Any) -> dict[str, str]:
    """Read Lithops' list of names and values, or a plain mapping."""
    pairs = (
        given.items()
        if isinstance(given, Mapping)
        else ((v["name"], v["value"]) for v in given or ())
    )
    return {str(name): str(value) for name, value in pairs}
