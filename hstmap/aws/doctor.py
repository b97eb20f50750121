"""Looks at everything that a run on AWS needs, and says how to mend what is wrong."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from hstmap.aws.deploy import POLICY_NAME, bucket_region, find_log_group
from hstmap.aws.event import check_versions, runtime_facts
from hstmap.aws.function import (
    VERSION_TAGS,
    concurrency_quota,
    configuration_changes,
    event_policy_changes,
    find_function,
)
from hstmap.aws.function_code import is_own_image
from hstmap.aws.policy import worker_policy
from hstmap.aws.repository import (
    PUSH,
    FoundImage,
    find_image,
    find_repository,
    is_own_repository,
    own_image,
    repository_changes,
    scan_counts,
)
from hstmap.aws.session import AwsSession, in_brief
from hstmap.aws.settings import AwsSettings
from hstmap.aws.undeploy import LITHOPS_PREFIXES
from hstmap.errors import EngineError, StaleRuntimeError, UsageError

__all__ = ["Finding", "examine"]

DEPLOY: Final = "python -m hstmap deploy"
#: Where the archive's public bucket is (Registry of Open Data on AWS, ``mast-hst``).
_ARCHIVE_REGION: Final = "us-east-1"
#: The images of 2018, and what each takes at the least, s: reading 10.4 MB of it at 75 MB/s, which
#: a worker is assumed to get.
_N_IMAGES, _IMAGE_S = 122_078, 0.14
#: AWS refuses signatures that are off by more (https://docs.aws.amazon.com/IAM/latest/UserGuide).
_MOST_SKEW_S: Final = 300.0
_SKEW_TO_TELL_S: Final = 30.0
#: Of the severities of ECR's scans, those that are worth a new image at once.
_GRAVE: Final = ("CRITICAL", "HIGH")


@dataclass(frozen=True)
class Finding:
    """What one look found.

    Parameters
    ----------
    subject : str
    status : {"ok", "warn", "fail"}
    detail : str
        What is there.
    mend : str
        What to do about it; empty if nothing.
    """

    subject: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    mend: str = ""


def examine(session: AwsSession, settings: AwsSettings) -> Iterator[Finding]:
    """Look at one thing after another; nothing is changed.

    Parameters
    ----------
    session : AwsSession
        Whose credentials are known to be good.
    settings : AwsSettings

    Yields
    ------
    Finding
    """
    from botocore.exceptions import BotoCoreError, ClientError

    looks: tuple[tuple[str, Callable[[AwsSession, AwsSettings], Iterator[Finding]]], ...] = (
        ("credentials", _credentials),
        ("region", _region),
        ("bucket", _bucket),
        ("concurrency", _concurrency),
        ("role", _role),
        ("function", _function),
        ("image", _image),
        ("logs", _logs),
        ("leftovers", _leftovers),
    )
    for subject, look in looks:
        try:
            yield from look(session, settings)
        except (BotoCoreError, ClientError, EngineError) as error:
            yield Finding(
                subject,
                "fail",
                in_brief(error),
                "see to the rights: python -m hstmap deploy --policies",
            )


def _credentials(session: AwsSession, _settings: AwsSettings) -> Iterator[Finding]:
    identity = session.identity()
    yield Finding("credentials", "ok", str(identity["Arn"]))
    date = identity["ResponseMetadata"]["HTTPHeaders"].get("date")
    if not date:
        return
    skew_s = time.time() - email.utils.parsedate_to_datetime(date).timestamp()
    status: Literal["ok", "warn", "fail"] = "ok"
    if abs(skew_s) > _SKEW_TO_TELL_S:
        status = "warn" if abs(skew_s) < _MOST_SKEW_S else "fail"
    mend = "" if status == "ok" else "set this machine's clock; AWS refuses 5 minutes"
    yield Finding("clock", status, f"{abs(skew_s):.0f} s from AWS's", mend)


def _region(_session: AwsSession, settings: AwsSettings) -> Iterator[Finding]:
    if settings.region == _ARCHIVE_REGION:
        yield Finding("region", "ok", f"{settings.region}, where the archive's bucket is")
    else:
        yield Finding(
            "region",
            "warn",
            f"{settings.region}, and the archive's bucket is in {_ARCHIVE_REGION}: reading it is "
            "slow from there, and its data leaves its region",
            f"set region: {_ARCHIVE_REGION} under 'aws'",
        )


def _bucket(session: AwsSession, settings: AwsSettings) -> Iterator[Finding]:
    region = bucket_region(session.client("s3"), settings.bucket)
    if region is None:
        yield Finding("bucket", "warn", f"{settings.bucket} is not there", DEPLOY)
    elif region != settings.region:
        yield Finding(
            "bucket",
            "fail",
            f"{settings.bucket} is in {region}, the function in {settings.region}",
            "name a bucket of the same region as 'storage_bucket' under 'aws_s3'",
        )
    else:
        yield Finding("bucket", "ok", f"{settings.bucket} in {region}")


def _concurrency(session: AwsSession, settings: AwsSettings) -> Iterator[Finding]:
    quota = concurrency_quota(session.client("lambda"))
    n = min(quota, settings.max_workers)
    minutes = _N_IMAGES * _IMAGE_S / n / 60
    at_a_time = f"{n} at a time" + (f" of {quota}" if n < quota else "")
    detail = f"{at_a_time}; the {_N_IMAGES:,} images of 2018 take {minutes:,.1f} min at least"
    if quota < settings.max_workers:
        yield Finding(
            "concurrency",
            "warn",
            f"{detail}; max_workers is {settings.max_workers}, of which {quota} are used",
            "ask for more, if time matters: https://console.aws.amazon.com/"
            "servicequotas/home/services/lambda/quotas/L-B99A9384",
        )
    else:
        yield Finding("concurrency", "ok", detail)


def _role(session: AwsSession, settings: AwsSettings) -> Iterator[Finding]:
    client = session.client("iam")
    try:
        role = client.get_role(RoleName=settings.role_name)["Role"]
    except client.exceptions.NoSuchEntityException:
        yield Finding(
            "role",
            "warn" if settings.owns_role else "fail",
            f"{settings.role} is not there",
            DEPLOY if settings.owns_role else "set another execution_role, or none",
        )
        return
    if "lambda.amazonaws.com" not in str(role["AssumeRolePolicyDocument"]):
        yield Finding(
            "role", "fail", f"{settings.role} does not trust Lambda", "let it: --policies shows how"
        )
        return
    denied = _denied(client, settings)
    if denied is None:
        yield _by_its_policy(client, settings)
    elif denied:
        mend = DEPLOY if settings.owns_role else "python -m hstmap deploy --policies shows what"
        yield Finding("role", "fail", f"{settings.role} may not {', '.join(denied)}", mend)
    else:
        yield Finding("role", "ok", f"{settings.role} may do what it must")


def _by_its_policy(client: Any, settings: AwsSettings) -> Finding:
    """Compare a role's policy with the generated one, where AWS does not simulate."""
    try:
        answer = client.get_role_policy(RoleName=settings.role_name, PolicyName=POLICY_NAME)
    except client.exceptions.NoSuchEntityException:
        answer = {}
    if answer.get("PolicyDocument") == worker_policy(settings):
        return Finding("role", "ok", f"{settings.role} has the policy that is generated")
    detail = f"what {settings.role} may do cannot be simulated, and its policy is another"
    return Finding("role", "warn", detail, f"see {DEPLOY} --policies")


def _denied(client: Any, settings: AwsSettings) -> list[str] | None:
    """Return which of a worker's actions its role may not do; None where AWS does not say."""
    from botocore.exceptions import ClientError
    from botocore.parsers import ResponseParserError

    denied = []
    for statement in worker_policy(settings)["Statement"]:
        try:
            answer = client.simulate_principal_policy(
                PolicySourceArn=settings.role,
                ActionNames=statement["Action"],
                ResourceArns=statement["Resource"],
            )
        except (ClientError, ResponseParserError, UsageError):  # no right to ask, no such service
            return None
        denied += [
            result["EvalActionName"]
            for result in answer["EvaluationResults"]
            if result["EvalDecision"] != "allowed"
        ]
    return denied


def _function(session: AwsSession, settings: AwsSettings) -> Iterator[Finding]:
    client = session.client("lambda")
    found = find_function(client, settings.function)
    if found is None:
        yield Finding("function", "fail", f"{settings.function} is not deployed", DEPLOY)
        return
    yield _version(settings, found)
    current = found["Configuration"]
    changes = sorted(configuration_changes(settings, current))
    if settings.architecture not in current.get("Architectures", ["x86_64"]):
        yield Finding(
            "function", "fail", f"it is not for {settings.architecture}", f"{DEPLOY} --package FILE"
        )
    if changes:
        yield Finding(
            "settings", "warn", f"{', '.join(changes)} differ", "the next run, or deploy, sets them"
        )
    else:
        yield Finding("settings", "ok", f"{settings.memory_mb} MB, {settings.timeout_s} s")
    if event_policy_changes(client, settings):
        yield Finding("events", "warn", "Lambda would repeat failed events itself", DEPLOY)
    else:
        yield Finding("events", "ok", "Lambda repeats none itself")


def _version(settings: AwsSettings, found: Mapping[str, Any]) -> Finding:
    tags = found.get("Tags", {})
    deployed = {name: tags.get(tag, "") for name, tag in VERSION_TAGS.items()}
    try:
        check_versions(runtime_facts(), deployed)
    except StaleRuntimeError as error:
        return Finding("function", "fail", str(error), DEPLOY)
    facts = f"hstmap {deployed['hstmap']} on Python {deployed['python']}"
    return Finding("function", "ok", f"{settings.function}: {facts}")


def _image(session: AwsSession, settings: AwsSettings) -> Iterator[Finding]:
    """Look at ECR, if the function is of an image."""
    found = find_function(session.client("lambda"), settings.function)
    if found is None or found["Configuration"].get("PackageType") != "Image":
        return
    client = session.client("ecr")
    deployed = found["Code"].get("ResolvedImageUri") or found["Code"]["ImageUri"]
    image = find_image(client, deployed)
    if image is None:
        yield Finding(
            "image",
            "fail",
            f"{deployed} is gone, and workers cannot start for long without it",
            f"{PUSH}, then {DEPLOY} --image",
        )
        return
    if is_own_image(settings, deployed):
        yield from _own_repository(client, settings, image)
    else:
        yield Finding("image", "ok", f"{image.uri}, {image.nbytes / 1e6:.1f} MB")
    counts = scan_counts(client, image)
    grave = {name: n for name, n in (counts or {}).items() if name in _GRAVE and n}
    if grave:
        told = ", ".join(f"{n} {name.lower()}" for name, n in sorted(grave.items()))
        yield Finding(
            "image scan",
            "warn",
            f"ECR found weaknesses in it: {told}",
            f"build it again on the newest base: {PUSH}, then {DEPLOY} --image",
        )
    elif counts is not None:
        yield Finding("image scan", "ok", "nothing grave was found")


def _own_repository(client: Any, settings: AwsSettings, image: FoundImage) -> Iterator[Finding]:
    """Compare a function's image with the newest of its version, and the repository's settings."""
    newest = find_image(client, own_image(settings))
    if newest is None:
        yield Finding(
            "image",
            "warn",
            f"{image.uri} is deployed, and {own_image(settings)} was never pushed",
            f"{PUSH}, then {DEPLOY} --image",
        )
    elif newest.digest != image.digest:
        yield Finding(
            "image",
            "warn",
            f"{image.digest} is deployed, and {newest.digest} was pushed since",
            f"{DEPLOY} --image",
        )
    else:
        yield Finding("image", "ok", f"{image.uri}, {image.nbytes / 1e6:.1f} MB")
    repository = find_repository(client, settings)
    changes = (
        repository
        and is_own_repository(client, repository)
        and repository_changes(client, settings, repository)
    )
    if changes:
        yield Finding("registry", "warn", f"{', '.join(changes)} differ", f"{DEPLOY} --image")


def _logs(session: AwsSession, settings: AwsSettings) -> Iterator[Finding]:
    group = find_log_group(session.client("logs"), settings)
    days = None if group is None else group.get("retentionInDays")
    if group is None:
        yield Finding("logs", "warn", f"{settings.log_group} is not there", DEPLOY)
    elif days is None:
        yield Finding("logs", "warn", f"{settings.log_group} is kept, and paid, for ever", DEPLOY)
    else:
        yield Finding("logs", "ok", f"{settings.log_group}, kept {days} days")


def _leftovers(session: AwsSession, settings: AwsSettings) -> Iterator[Finding]:
    client = session.client("s3")
    if bucket_region(client, settings.bucket) is None:
        return
    n = 0
    for prefix in LITHOPS_PREFIXES:
        n += client.list_objects_v2(Bucket=settings.bucket, Prefix=prefix)["KeyCount"]
    if n:
        where = f"s3://{settings.bucket}/{LITHOPS_PREFIXES[0]}"
        yield Finding(
            "leftovers",
            "warn",
            f"{n} objects of runs that were killed, or are under way, in {where}",
            f"if no run is under way: aws s3 rm --recursive {where}",
        )
    else:
        yield Finding("leftovers", "ok", "none of old runs")
