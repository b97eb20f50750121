"""From an empty account to a function that works, and back; each step only if it is needed."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hstmap.aws.event import check_versions, runtime_facts
from hstmap.aws.function import (
    find_function,
    function_request,
    keep_as_configured,
    version_tags,
)
from hstmap.aws.package import TOO_OLD, TOO_OLD_PYTHONS
from hstmap.aws.policy import LAMBDA_TRUST, worker_policy
from hstmap.aws.session import AwsSession
from hstmap.aws.settings import AwsSettings
from hstmap.errors import EngineError, UsageError

__all__ = ["OWN_TAG", "Step", "deploy"]

#: What `deploy` made bears it, and `undeploy` removes nothing else.
OWN_TAG: Final = ("made-by", "hstmap")
POLICY_NAME: Final = "hstmap-worker"
PACKAGE_PREFIX: Final = "hstmap-packages/"
_ROLE_WAIT_S: Final = 60.0
#: A call that ends after its run, and a run that is killed, leave some small objects.
_LEFTOVERS_EXPIRE: Final = {
    "ID": "hstmap-leftovers",
    "Filter": {"Prefix": "lithops.jobs/"},
    "Status": "Enabled",
    "Expiration": {"Days": 7},
}


@dataclass(frozen=True)
class Step:
    """One thing that was, or with a dry run would be, done.

    Parameters
    ----------
    what : str
        Which resource.
    action : {"made", "changed", "kept", "removed", "checked", "absent"}
    detail : str
    """

    what: str
    action: str
    detail: str


def deploy(
    session: AwsSession, settings: AwsSettings, source: Path | str, *, dry_run: bool = False
) -> Iterator[Step]:
    """Make, or bring up to date, all that a run needs.

    Parameters
    ----------
    session : AwsSession
    settings : AwsSettings
    source : Path or str
        The worker: a zipped package, or the URI of an image.
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
    client = session.client("lambda")
    if isinstance(source, Path):
        check_python(client, settings)
        digest = hashlib.sha256(source.read_bytes())
        key = f"{PACKAGE_PREFIX}{digest.hexdigest()}.zip"
        yield _package(session, settings, source, key, dry_run)
        code = {"S3Bucket": settings.bucket, "S3Key": key}
        mark = base64.b64encode(digest.digest()).decode("ascii")
    else:
        code, mark = {"ImageUri": source}, source
    found = find_function(client, settings.function)
    if found is None:
        if not dry_run:
            _create_function(client, settings, code)
        yield Step("function", "made", f"{settings.function}, {settings.memory_mb} MB")
    else:
        yield _code(client, settings, found, (code, mark), dry_run)
    if dry_run and found is None:
        return
    found = find_function(client, settings.function) or {}
    changed = keep_as_configured(client, settings, found, dry_run=dry_run)
    yield Step("settings", "changed" if changed else "kept", "; ".join(changed))
    if not dry_run:
        yield _checked(client, settings)


def check_python(client: Any, settings: AwsSettings) -> None:
    """Refuse a package for a Python of Lambda's in which it cannot be imported.

    Parameters
    ----------
    client : object
        boto3's, of Lambda.
    settings : AwsSettings

    Raises
    ------
    UsageError
        If it is AWS's Lambda, and Python 3.11. A loopback AWS has this machine's.
    """
    is_aws = "amazonaws.com" in client.meta.endpoint_url
    if is_aws and settings.python.removeprefix("python") in TOO_OLD_PYTHONS:
        raise UsageError(TOO_OLD.format(python=settings.python))


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
        client.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [_own_tag()]})
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


def _own_tag() -> dict[str, str]:
    return dict(zip(("Key", "Value"), OWN_TAG, strict=True))


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
                Tags=[_own_tag()],
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
            client.create_log_group(logGroupName=settings.log_group)
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


def _package(
    session: AwsSession, settings: AwsSettings, package: Path, key: str, dry_run: bool
) -> Step:
    client = session.client("s3")
    detail = f"s3://{settings.bucket}/{key}, {package.stat().st_size / 1e6:.1f} MB"
    there = client.list_objects_v2(Bucket=settings.bucket, Prefix=key) if not dry_run else {}
    if there.get("KeyCount"):
        return Step("package", "kept", detail)
    if not dry_run:
        client.upload_file(str(package), settings.bucket, key)
    return Step("package", "made", detail)


def _create_function(client: Any, settings: AwsSettings, code: Mapping[str, str]) -> None:
    request = function_request(settings, code)
    request["Tags"] |= dict([OWN_TAG])
    deadline = time.monotonic() + _ROLE_WAIT_S
    while True:
        try:
            client.create_function(**request)
            break
        except client.exceptions.InvalidParameterValueException as error:
            # A role takes some seconds until all of AWS knows it.
            if "role" not in str(error).lower() or time.monotonic() > deadline:
                raise EngineError(f"Lambda refuses the function: {error}") from error
            time.sleep(2.0)
    client.get_waiter("function_active_v2").wait(FunctionName=settings.function)


def _code(
    client: Any,
    settings: AwsSettings,
    found: Mapping[str, Any],
    wanted: tuple[Mapping[str, str], str],
    dry_run: bool,
) -> Step:
    """Bring the code up to date, and with it the architecture and the tags of the version."""
    code, mark = wanted
    current = found["Configuration"]
    is_same = (
        mark in (current.get("CodeSha256"), found["Code"].get("ImageUri"))
        and current.get("Architectures", ["x86_64"]) == [settings.architecture]
        and found.get("Tags", {}).items() >= version_tags().items()
    )
    if is_same:
        return Step("function", "kept", settings.function)
    if not dry_run:
        client.update_function_code(
            FunctionName=settings.function, Architectures=[settings.architecture], **code
        )
        client.get_waiter("function_updated_v2").wait(FunctionName=settings.function)
        client.tag_resource(Resource=settings.function_arn, Tags=version_tags())
    return Step("function", "changed", f"{settings.function}, new code")


def _checked(client: Any, settings: AwsSettings) -> Step:
    """Start the function once, and see that it is what was meant."""
    answer = client.invoke(FunctionName=settings.function, Payload=b'{"runtime": true}')
    told = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise EngineError(
            f"the function {settings.function!r} does not start: {told.get('errorMessage', told)}; "
            f"its log is {settings.log_group}"
        )
    check_versions(runtime_facts(), told)
    return Step("worker", "checked", f"hstmap {told['hstmap']} on Python {told['python']}")
