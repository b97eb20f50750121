"""A Lambda function, kept as the configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import hstmap
from hstmap.aws.event import python_version
from hstmap.aws.package import HANDLER
from hstmap.aws.settings import AwsSettings
from hstmap.config import WORKER_ENVIRONMENT

__all__ = [
    "VERSION_TAGS",
    "concurrency_quota",
    "configuration_changes",
    "event_policy_changes",
    "find_function",
    "function_request",
    "keep_as_configured",
    "worker_environment",
]

#: Tags that say what a function's package holds: the facts of `~hstmap.aws.event.runtime_facts`.
VERSION_TAGS: Final = {"hstmap": "hstmap-version", "python": "hstmap-python"}
#: The engine sends lost events again itself, and accounts for it; what Lambda repeats would be
#: billed and counted by nobody.
_EVENT_POLICY: Final = {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 900}


def worker_environment(settings: AwsSettings) -> dict[str, str]:
    """Return the variables of the workers."""
    return {**WORKER_ENVIRONMENT, **settings.environment}


def _configuration(settings: AwsSettings) -> dict[str, Any]:
    """Return what can be changed in a function that is there."""
    return {
        "Role": settings.role,
        "Handler": HANDLER,
        "Runtime": settings.python,
        "Timeout": settings.timeout_s,
        "MemorySize": settings.memory_mb,
        "EphemeralStorage": {"Size": settings.ephemeral_mb},
        "Environment": {"Variables": worker_environment(settings)},
        "LoggingConfig": {
            "LogFormat": "JSON",
            "ApplicationLogLevel": "INFO",
            "SystemLogLevel": "INFO",
            "LogGroup": settings.log_group,
        },
    }


def function_request(settings: AwsSettings, code: Mapping[str, str]) -> dict[str, Any]:
    """Write the request that makes the function.

    Parameters
    ----------
    settings : AwsSettings
    code : mapping
        Lambda's ``Code``: bucket and key of a package, or the URI of an image.

    Returns
    -------
    dict
        Arguments for ``create_function``.
    """
    request = _without_runtime(_configuration(settings), code)
    return request | {
        "FunctionName": settings.function,
        "Code": dict(code),
        "PackageType": "Image" if "ImageUri" in code else "Zip",
        "Architectures": [settings.architecture],
        "Description": f"hstmap {hstmap.__version__}: catalogues of Hubble images",
        "Tags": version_tags() | dict(settings.tags),
    }


def version_tags() -> dict[str, str]:
    """Return the tags of a function that holds this version."""
    return {
        VERSION_TAGS["hstmap"]: hstmap.__version__,
        VERSION_TAGS["python"]: python_version(),
    }


def _without_runtime(request: dict[str, Any], code: Mapping[str, str]) -> dict[str, Any]:
    if "ImageUri" not in code:
        return request
    return {name: value for name, value in request.items() if name not in ("Handler", "Runtime")}


def find_function(client: Any, name: str) -> dict[str, Any] | None:
    """Return what Lambda says of a function; None if there is none.

    Parameters
    ----------
    client : object
        boto3's, of Lambda.
    name : str
    """
    try:
        found: dict[str, Any] = client.get_function(FunctionName=name)
    except client.exceptions.ResourceNotFoundException:
        return None
    return found


def concurrency_quota(client: Any) -> int:
    """Return how many invocations the account allows at a time.

    Parameters
    ----------
    client : object
        boto3's, of Lambda.
    """
    limits = client.get_account_settings()["AccountLimit"]
    return int(limits["UnreservedConcurrentExecutions"])


def configuration_changes(settings: AwsSettings, current: Mapping[str, Any]) -> dict[str, Any]:
    """Compare a function with the configuration.

    Parameters
    ----------
    settings : AwsSettings
    current : mapping
        Its ``Configuration``, as Lambda says.

    Returns
    -------
    dict
        What to change, as arguments for ``update_function_configuration``.
    """
    wanted = _configuration(settings)
    if current.get("PackageType") == "Image":
        wanted = _without_runtime(wanted, {"ImageUri": ""})
    return {name: value for name, value in wanted.items() if current.get(name) != value}


def event_policy_changes(client: Any, settings: AwsSettings) -> dict[str, int]:
    """Compare how Lambda treats events with how it should.

    Returns
    -------
    dict
        Arguments for ``put_function_event_invoke_config``; empty if nothing is to change.
    """
    try:
        current = client.get_function_event_invoke_config(FunctionName=settings.function)
    except client.exceptions.ResourceNotFoundException:
        current = {}
    is_right = all(current.get(name) == value for name, value in _EVENT_POLICY.items())
    return {} if is_right else dict(_EVENT_POLICY)


def keep_as_configured(
    client: Any, settings: AwsSettings, found: Mapping[str, Any], *, dry_run: bool = False
) -> list[str]:
    """Change what differs from the configuration: settings, tags, the treatment of events.

    Parameters
    ----------
    client : object
        boto3's, of Lambda.
    settings : AwsSettings
    found : mapping
        From `find_function`.
    dry_run : bool
        Whether only to say what would change.

    Returns
    -------
    list of str
        What changed, a line each.
    """
    current = found["Configuration"]
    done = []
    changes = configuration_changes(settings, current)
    if changes:
        done += [_change(name, current.get(name), value) for name, value in changes.items()]
        if not dry_run:
            client.update_function_configuration(FunctionName=settings.function, **changes)
            client.get_waiter("function_updated_v2").wait(FunctionName=settings.function)
    tags = {n: v for n, v in settings.tags.items() if found.get("Tags", {}).get(n) != v}
    if tags:
        done.append(f"tags {', '.join(f'{name}={value}' for name, value in tags.items())}")
        if not dry_run:
            client.tag_resource(Resource=settings.function_arn, Tags=tags)
    policy = event_policy_changes(client, settings)
    if policy:
        done.append(", ".join(f"{name} {value}" for name, value in policy.items()))
        if not dry_run:
            client.put_function_event_invoke_config(FunctionName=settings.function, **policy)
    return done


def _change(name: str, current: Any, wanted: Any) -> str:
    if isinstance(wanted, dict) and isinstance(current, dict):
        parts = [
            _change(f"{name}.{part}", current.get(part), value)
            for part, value in wanted.items()
            if current.get(part) != value
        ]
        # What is only there, and not wanted, changes as well.
        return ", ".join(parts) or f"{name} without {', '.join(current.keys() - wanted.keys())}"
    return f"{name} {current} -> {wanted}"
