"""Removes what a deployment made, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hstmap.aws.deploy import bucket_region, find_log_group
from hstmap.aws.function import find_function
from hstmap.aws.function_code import PACKAGE_PREFIX
from hstmap.aws.repository import remove_repository
from hstmap.aws.session import AwsSession
from hstmap.aws.settings import AwsSettings
from hstmap.aws.step import OWN_TAG, Step, has_own_tag

__all__ = ["LITHOPS_PREFIXES", "undeploy"]

#: What Lithops writes into its bucket.
LITHOPS_PREFIXES = ("lithops.jobs/", "lithops.runtimes/")


def undeploy(
    session: AwsSession, settings: AwsSettings, *, dry_run: bool = False
) -> Iterator[Step]:
    """Remove function, role, logs, images, packages, and the bucket if nothing else is in it.

    Parameters
    ----------
    session : AwsSession
    settings : AwsSettings
    dry_run : bool
        Whether only to look.

    Yields
    ------
    Step
        As it is done.
    """
    yield _function(session.client("lambda"), settings, dry_run)
    if settings.owns_role:
        yield _role(session.client("iam"), settings, dry_run)
    else:
        yield Step("role", "kept", f"{settings.role} is the configuration's")
    yield _log_group(session.client("logs"), settings, dry_run)
    yield remove_repository(session.client("ecr"), settings, dry_run=dry_run)
    yield from _bucket(session.client("s3"), settings, dry_run)


def _function(client: Any, settings: AwsSettings, dry_run: bool) -> Step:
    found = find_function(client, settings.function)
    if found is None:
        return Step("function", "absent", settings.function)
    if found.get("Tags", {}).get(OWN_TAG[0]) != OWN_TAG[1]:
        return Step("function", "kept", f"{settings.function} was not made by hstmap")
    if not dry_run:
        client.delete_function(FunctionName=settings.function)
    return Step("function", "removed", settings.function)


def _role(client: Any, settings: AwsSettings, dry_run: bool) -> Step:
    name = settings.role_name
    try:
        role = client.get_role(RoleName=name)["Role"]
    except client.exceptions.NoSuchEntityException:
        return Step("role", "absent", settings.role)
    if not has_own_tag(role.get("Tags", [])):
        return Step("role", "kept", f"{settings.role} was not made by hstmap")
    if not dry_run:
        for policy in client.list_role_policies(RoleName=name)["PolicyNames"]:
            client.delete_role_policy(RoleName=name, PolicyName=policy)
        client.delete_role(RoleName=name)
    return Step("role", "removed", settings.role)


def _log_group(client: Any, settings: AwsSettings, dry_run: bool) -> Step:
    found = find_log_group(client, settings)
    if found is None:
        return Step("logs", "absent", settings.log_group)
    arn = found["arn"].removesuffix(":*")
    tags = client.list_tags_for_resource(resourceArn=arn)["tags"]
    if tags.get(OWN_TAG[0]) != OWN_TAG[1]:
        return Step("logs", "kept", f"{settings.log_group} was not made by hstmap")
    if not dry_run:
        client.delete_log_group(logGroupName=settings.log_group)
    return Step("logs", "removed", settings.log_group)


def _bucket(client: Any, settings: AwsSettings, dry_run: bool) -> Iterator[Step]:
    bucket = settings.bucket
    if bucket_region(client, bucket) is None:
        yield Step("bucket", "absent", bucket)
        return
    for prefix in (PACKAGE_PREFIX, *LITHOPS_PREFIXES):
        n = _remove_objects(client, bucket, prefix, dry_run)
        if n:
            yield Step("objects", "removed", f"{n} under s3://{bucket}/{prefix}")
    if not _is_ours(client, bucket):
        yield Step("bucket", "kept", f"{bucket} was not made by hstmap")
    elif client.list_objects_v2(Bucket=bucket, MaxKeys=1).get("KeyCount") and not dry_run:
        yield Step("bucket", "kept", f"{bucket} has other objects in it, such as results")
    else:
        if not dry_run:
            client.delete_bucket(Bucket=bucket)
        yield Step("bucket", "removed", f"{bucket}{' if nothing else is in it' * dry_run}")


def _remove_objects(client: Any, bucket: str, prefix: str, dry_run: bool) -> int:
    n = 0
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        keys = [{"Key": item["Key"]} for item in page.get("Contents", ())]
        n += len(keys)
        if keys and not dry_run:
            client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
    return n


def _is_ours(client: Any, bucket: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        tags = client.get_bucket_tagging(Bucket=bucket)["TagSet"]
    except ClientError:
        return False  # it has none
    return has_own_tag(tags)
