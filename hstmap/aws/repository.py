"""The repository of a function's images in ECR: made, found, looked into, removed."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from typing import Any, Final

import hstmap
from hstmap.aws.package import Target
from hstmap.aws.settings import AwsSettings
from hstmap.aws.step import Step, has_own_tag, own_tag
from hstmap.errors import EngineError, UsageError

__all__ = [
    "PUSH",
    "FoundImage",
    "find_image",
    "find_repository",
    "is_own_repository",
    "keep_repository",
    "own_image",
    "own_repository",
    "registry_host",
    "remove_repository",
    "repository_changes",
    "scan_counts",
    "split_image",
]

#: The command that builds this version's image and sends it to the function's own repository.
PUSH: Final = "runtime/build --image --push"
#: Each push leaves the image before it without a tag; these few can still be gone back to.
_N_UNTAGGED: Final = 3
_LIFECYCLE: Final = {
    "rules": [
        {
            "rulePriority": 1,
            "description": f"all but the last {_N_UNTAGGED} images without a tag",
            "selection": {
                "tagStatus": "untagged",
                "countType": "imageCountMoreThan",
                "countNumber": _N_UNTAGGED,
            },
            "action": {"type": "expire"},
        }
    ]
}
_URI: Final = re.compile(
    r"(?P<name>(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/"
    r"(?P<repository>[^:@]+))(?:@(?P<digest>sha256:[0-9a-f]{64})|:(?P<tag>[\w.-]+))"
)


@dataclass(frozen=True)
class FoundImage:
    """An image that ECR has.

    Parameters
    ----------
    repository_uri : str
    digest : str
        ``sha256:`` and 64 hexadecimal digits.
    nbytes : int
        Compressed, as it is stored.
    """

    repository_uri: str
    digest: str
    nbytes: int

    @property
    def uri(self) -> str:
        """By its digest, which no later push changes."""
        return f"{self.repository_uri}@{self.digest}"


def registry_host(settings: AwsSettings) -> str:
    """Return the account's registry of the region."""
    return f"{settings.account_id}.dkr.ecr.{settings.region}.amazonaws.com"


def own_repository(settings: AwsSettings) -> str:
    """Return the whole name of the function's own repository, without a tag."""
    return f"{registry_host(settings)}/{settings.repository}"


def own_image(settings: AwsSettings) -> str:
    """Return the name that this version's image has in the function's own repository.

    Parameters
    ----------
    settings : AwsSettings

    Returns
    -------
    str
        Registry, repository and tag.
    """
    target = Target(architecture=settings.architecture)
    return f"{own_repository(settings)}:{hstmap.__version__}-{target.tag}"


def split_image(uri: str) -> dict[str, str]:
    """Take the URI of an image of ECR apart.

    Returns
    -------
    dict of str to str
        ``name`` (all but digest or tag), ``account``, ``region``, ``repository``, and ``digest``
        or ``tag``.

    Raises
    ------
    UsageError
        If it is none.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        raise UsageError(
            f"{uri!r} is no image of ECR; expected "
            "ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPOSITORY:TAG, or @sha256:... for the tag"
        )
    return {name: text for name, text in match.groupdict().items() if text is not None}


def find_repository(client: Any, settings: AwsSettings) -> dict[str, Any] | None:
    """Return what ECR says of the function's repository; None if there is none.

    Parameters
    ----------
    client : object
        boto3's, of ECR.
    settings : AwsSettings
    """
    try:
        answer = client.describe_repositories(repositoryNames=[settings.repository])
    except client.exceptions.RepositoryNotFoundException:
        return None
    found: dict[str, Any] = answer["repositories"][0]
    return found


def _lambda_may_read(settings: AwsSettings) -> dict[str, Any]:
    """Write the repository's policy: the one function may fetch images, and nobody else.

    https://docs.aws.amazon.com/lambda/latest/dg/images-create.html
    """
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "hstmap",
                "Effect": "Allow",
                "Principal": {"Service": "lambda.amazonaws.com"},
                "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                "Condition": {"StringEquals": {"aws:sourceArn": settings.function_arn}},
            }
        ],
    }


def keep_repository(client: Any, settings: AwsSettings, *, dry_run: bool = False) -> Step:
    """Make the function's repository, or bring one that was made so up to date.

    Parameters
    ----------
    client : object
        boto3's, of ECR.
    settings : AwsSettings
    dry_run : bool
        Whether only to look.

    Returns
    -------
    Step
    """
    name, found = settings.repository, find_repository(client, settings)
    if found is not None and not is_own_repository(client, found):
        return Step("registry", "kept", f"{name} was not made by hstmap")
    if found is None:
        if not dry_run:
            client.create_repository(
                repositoryName=name,
                imageScanningConfiguration={"scanOnPush": True},
                tags=[own_tag()],
            )
            _set_policies(client, settings, ["lifecycle", "policy"])
        return Step("registry", "made", name)
    changes = repository_changes(client, settings, found)
    if not dry_run:
        _set_policies(client, settings, changes)
    return Step("registry", "changed" if changes else "kept", ", ".join([name, *changes]))


def _set_policies(client: Any, settings: AwsSettings, changes: list[str]) -> None:
    where = {"repositoryName": settings.repository}
    if "scan" in changes:
        client.put_image_scanning_configuration(
            **where, imageScanningConfiguration={"scanOnPush": True}
        )
    if "lifecycle" in changes:
        client.put_lifecycle_policy(**where, lifecyclePolicyText=json.dumps(_LIFECYCLE))
    if "policy" in changes:
        text = json.dumps(_lambda_may_read(settings))
        client.set_repository_policy(**where, policyText=text)


def repository_changes(client: Any, settings: AwsSettings, found: dict[str, Any]) -> list[str]:
    """Compare a repository of ours with what it should be.

    Parameters
    ----------
    client : object
        boto3's, of ECR.
    settings : AwsSettings
    found : mapping
        From `find_repository`.

    Returns
    -------
    list of {"scan", "lifecycle", "policy"}
        What differs: the scan of what is pushed, when images expire, who may read them.
    """
    where = {"repositoryName": settings.repository}
    changes = []
    if not found.get("imageScanningConfiguration", {}).get("scanOnPush"):
        changes.append("scan")
    lifecycle, policy = None, None
    with contextlib.suppress(client.exceptions.LifecyclePolicyNotFoundException):
        lifecycle = json.loads(client.get_lifecycle_policy(**where)["lifecyclePolicyText"])
    with contextlib.suppress(client.exceptions.RepositoryPolicyNotFoundException):
        policy = json.loads(client.get_repository_policy(**where)["policyText"])
    if lifecycle != _LIFECYCLE:
        changes.append("lifecycle")
    if policy != _lambda_may_read(settings):
        changes.append("policy")
    return changes


def is_own_repository(client: Any, found: dict[str, Any]) -> bool:
    """Tell whether hstmap made a repository.

    Parameters
    ----------
    client : object
        boto3's, of ECR.
    found : mapping
        From `find_repository`.
    """
    return has_own_tag(client.list_tags_for_resource(resourceArn=found["repositoryArn"])["tags"])


def remove_repository(client: Any, settings: AwsSettings, *, dry_run: bool = False) -> Step:
    """Remove the function's repository with all images, if it is ours.

    Parameters
    ----------
    client : object
        boto3's, of ECR.
    settings : AwsSettings
    dry_run : bool
        Whether only to look.

    Returns
    -------
    Step
    """
    found = find_repository(client, settings)
    if found is None:
        return Step("registry", "absent", settings.repository)
    if not is_own_repository(client, found):
        return Step("registry", "kept", f"{settings.repository} was not made by hstmap")
    if not dry_run:
        client.delete_repository(repositoryName=settings.repository, force=True)
    return Step("registry", "removed", f"{settings.repository} with its images")


def find_image(client: Any, uri: str) -> FoundImage | None:
    """Find an image by tag or digest; None if there is none.

    Parameters
    ----------
    client : object
        boto3's, of ECR.
    uri : str
        Of an image of the client's region.

    Raises
    ------
    UsageError
        If it is no image of ECR, or one of another region.
    """
    parts = split_image(uri)
    if parts["region"] != client.meta.region_name:
        raise UsageError(
            f"the image {uri} is in {parts['region']}, and Lambda in {client.meta.region_name} "
            "takes images of its own region only: push it there"
        )
    name = {"imageDigest": parts["digest"]} if "digest" in parts else {"imageTag": parts["tag"]}
    missing = (
        client.exceptions.ImageNotFoundException,
        client.exceptions.RepositoryNotFoundException,
    )
    try:
        answer = client.describe_images(
            registryId=parts["account"], repositoryName=parts["repository"], imageIds=[name]
        )
    except missing:
        return None
    (detail,) = answer["imageDetails"]
    return FoundImage(parts["name"], detail["imageDigest"], detail.get("imageSizeInBytes", 0))


def scan_counts(client: Any, image: FoundImage) -> dict[str, int] | None:
    """Return how many weaknesses ECR's scan found, by severity; None if there was no scan.

    Parameters
    ----------
    client : object
        boto3's, of ECR.
    image : FoundImage

    Raises
    ------
    EngineError
        If the scan did not come to an end.
    """
    parts = split_image(image.uri)
    try:
        answer = client.describe_image_scan_findings(
            registryId=parts["account"],
            repositoryName=parts["repository"],
            imageId={"imageDigest": image.digest},
        )
    except client.exceptions.ScanNotFoundException:
        return None
    status = answer.get("imageScanStatus", {})
    if status.get("status") == "FAILED":
        raise EngineError(f"ECR's scan of the image failed: {status.get('description', '')}")
    counts: dict[str, int] = answer.get("imageScanFindings", {}).get("findingSeverityCounts", {})
    return dict(counts)
