"""From an empty account to a function that works, and back; each step only if it is needed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from hstmap.aws.function import find_function, keep_as_configured
from hstmap.aws.function_code import (
    check_python,
    check_worker,
    create_function,
    is_own_image,
    keep_code,
    offer_image,
    offer_package,
    remove_old_packages,
)
from hstmap.aws.policy import LAMBDA_TRUST, worker_policy
from hstmap.aws.repository import keep_repository
from hstmap.aws.session import AwsSession
from hstmap.aws.settings import AwsSettings
from hstmap.aws.step import OWN_TAG, Step, own_tag
from hstmap.errors import EngineError

__all__ = ["bucket_region", "deploy", "find_log_group"]

POLICY_NAME: Final = "hstmap-worker"
#: A call that ends after its run, and a run that is killed, leave some small objects.
_LEFTOVERS_EXPIRE: Final = {
    "ID": "hstmap-leftovers",
    "Filter": {"Prefix": "lithops.jobs/"},
    "Status": "Enabled",
    "Expiration": {"Days": 7},
}


def deploy(
    session: AwsSession, settings: AwsSettings, source: Path | str, *, dry_run: bool = False
) -> Iterator[Step]:
    """Make, or bring up to date, all that a run needs.

    Parameters
    ----------
    session : AwsSession
    settings : AwsSettings
    source : Path or str
        The worker: a zipped package, or the URI of an image; empty: this version's image in the
        function's own repository.
    dry_run : bool
        Whether only to look.

    Yields
    ------
    Step
        As it is done.

    Raises
    ------
    EngineError
        If the function does not come up.
    StaleRuntimeError
        If the package holds another version than the one that deploys it.
    """
    yield _bucket(session, settings, dry_run)
    if settings.owns_role:
        yield _role(session.client("iam"), settings, dry_run)
    else:
        yield Step("role", "kept", f"{settings.role} is the configuration's")
    yield _log_group(session.client("logs"), settings, dry_run)
    yield from _function(session, settings, source, dry_run)


def _function(
    session: AwsSession, settings: AwsSettings, source: Path | str, dry_run: bool
) -> Iterator[Step]:
    client = session.client("lambda")
    if isinstance(source, Path):
        check_python(client, settings)
        code, step = offer_package(session, settings, source, dry_run=dry_run)
        yield step
    else:
        if is_own_image(settings, source):
            yield keep_repository(session.client("ecr"), settings, dry_run=dry_run)
        code, step = offer_image(session, settings, source, dry_run=dry_run)
        yield step
    found = find_function(client, settings.function)
    if found is None:
        if not dry_run:
            create_function(client, settings, code)
        yield Step("function", "made", f"{settings.function}, {settings.memory_mb} MB")
    else:
        yield keep_code(client, settings, found, code, dry_run=dry_run)
    if dry_run and found is None:
        return
    found = find_function(client, settings.function) or {}
    changed = keep_as_configured(client, settings, found, dry_run=dry_run)
    yield Step("settings", "changed" if changed else "kept", "; ".join(changed))
    if not dry_run:
        yield check_worker(client, settings)
    yield from remove_old_packages(session, settings, code, dry_run=dry_run)


def _bucket(session: AwsSession, settings: AwsSettings, dry_run: bool) -> Step:
    client, bucket = session.client("s3"), settings.bucket
    if bucket_region(client, bucket) is not None:
        return Step("bucket", "kept", bucket)
    if not dry_run:
        # us-east-1 is the one region that must not be named.
        where = {"CreateBucketConfiguration": {"LocationConstraint": settings.region}}
        client.create_bucket(Bucket=bucket, **(where if settings.region != "us-east-1" else {}))
        client.put_public_access_block(
            Bucket=bucket,
            PublicAccessBlockConfiguration={
                "BlockPublicAcls": True,
                "IgnorePublicAcls": True,
                "BlockPublicPolicy": True,
                "RestrictPublicBuckets": True,
            },
        )
        client.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [own_tag()]})
        client.put_bucket_lifecycle_configuration(
            Bucket=bucket, LifecycleConfiguration={"Rules": [_LEFTOVERS_EXPIRE]}
        )
    return Step("bucket", "made", bucket)


def bucket_region(client: Any, bucket: str) -> str | None:
    """Return where a bucket is; None if there is none.

    Parameters
    ----------
    client : object
        boto3's, of S3.
    bucket : str

    Raises
    ------
    EngineError
        If it is somebody else's.
    """
    from botocore.exceptions import ClientError

    try:
        answer = client.head_bucket(Bucket=bucket)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == 404:
            return None
        raise EngineError(
            f"the bucket {bucket!r} answers {status}: it is somebody else's, or you have no right "
            "to it; name another as 'storage_bucket' under 'aws_s3'"
        ) from error
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    return str(headers.get("x-amz-bucket-region") or client.meta.region_name)


def _role(client: Any, settings: AwsSettings, dry_run: bool) -> Step:
    name, policy = settings.role_name, worker_policy(settings)
    request = {"RoleName": name, "PolicyName": POLICY_NAME}
    try:
        client.get_role(RoleName=name)
        action = "kept"
    except client.exceptions.NoSuchEntityException:
        action = "made"
    current = None
    if action == "kept":
        with contextlib.suppress(client.exceptions.NoSuchEntityException):
            current = client.get_role_policy(**request)["PolicyDocument"]
        if current != policy:
            action = "changed"
    if not dry_run:
        if action == "made":
            client.create_role(
                RoleName=name,
                AssumeRolePolicyDocument=json.dumps(LAMBDA_TRUST),
                Description="What hstmap's workers may do",
                Tags=[own_tag()],
            )
        if action != "kept":
            client.put_role_policy(**request, PolicyDocument=json.dumps(policy))
    return Step("role", action, settings.role)


def _log_group(client: Any, settings: AwsSettings, dry_run: bool) -> Step:
    group = find_log_group(client, settings)
    action = "made" if group is None else "kept"
    if group is not None and group.get("retentionInDays") != settings.retention_days:
        action = "changed"
    if not dry_run:
        if group is None:
            client.create_log_group(logGroupName=settings.log_group, tags=dict([OWN_TAG]))
        if action != "kept":
            client.put_retention_policy(
                logGroupName=settings.log_group, retentionInDays=settings.retention_days
            )
    return Step("logs", action, f"{settings.log_group}, kept {settings.retention_days} days")


def find_log_group(client: Any, settings: AwsSettings) -> dict[str, Any] | None:
    """Return what CloudWatch says of the function's log group; None if there is none."""
    answer = client.describe_log_groups(logGroupNamePrefix=settings.log_group)
    groups = {group["logGroupName"]: group for group in answer["logGroups"]}
    found: dict[str, Any] | None = groups.get(settings.log_group)
    return found
