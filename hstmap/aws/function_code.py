"""The code of a function: a package in S3 or an image in ECR, put there and kept up to date."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hstmap.aws.event import check_versions, runtime_facts
from hstmap.aws.function import function_request, version_tags
from hstmap.aws.package import TOO_OLD, TOO_OLD_PYTHONS
from hstmap.aws.repository import (
    PUSH,
    find_image,
    own_image,
    own_repository,
    split_image,
)
from hstmap.aws.session import AwsSession
from hstmap.aws.settings import AwsSettings
from hstmap.aws.step import OWN_TAG, Step
from hstmap.errors import EngineError, UsageError

__all__ = [
    "PACKAGE_PREFIX",
    "Code",
    "check_python",
    "check_worker",
    "create_function",
    "is_own_image",
    "keep_code",
    "offer_image",
    "offer_package",
    "remove_old_packages",
]

PACKAGE_PREFIX: Final = "hstmap-packages/"
_ROLE_WAIT_S: Final = 60.0


@dataclass(frozen=True)
class Code:
    """What a function is to run.

    Parameters
    ----------
    request : mapping of str to str
        Lambda's ``Code``: bucket and key of a package, or the URI of an image.
    mark : str
        What Lambda tells of a function that has it: the package's SHA-256 in base 64, or the
        image's URI by its digest.
    """

    request: Mapping[str, str]
    mark: str

    @property
    def package_type(self) -> str:
        """``Zip`` or ``Image``."""
        return "Image" if "ImageUri" in self.request else "Zip"


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


def offer_package(
    session: AwsSession, settings: AwsSettings, package: Path, *, dry_run: bool
) -> tuple[Code, Step]:
    """Put a package into the bucket, if it is not there.

    Parameters
    ----------
    session : AwsSession
    settings : AwsSettings
    package : Path
    dry_run : bool
        Whether only to look.

    Returns
    -------
    Code
    Step
    """
    digest = hashlib.sha256(package.read_bytes())
    key = f"{PACKAGE_PREFIX}{digest.hexdigest()}.zip"
    code = Code(
        {"S3Bucket": settings.bucket, "S3Key": key},
        base64.b64encode(digest.digest()).decode("ascii"),
    )
    client = session.client("s3")
    detail = f"s3://{settings.bucket}/{key}, {package.stat().st_size / 1e6:.1f} MB"
    there = {}
    try:
        there = client.list_objects_v2(Bucket=settings.bucket, Prefix=key)
    except client.exceptions.NoSuchBucket:
        if not dry_run:
            raise
    if there.get("KeyCount"):
        return code, Step("package", "kept", detail)
    if not dry_run:
        client.upload_file(str(package), settings.bucket, key)
    return code, Step("package", "made", detail)


def remove_old_packages(
    session: AwsSession, settings: AwsSettings, code: Code, *, dry_run: bool
) -> Iterator[Step]:
    """Remove the packages from the bucket that no function has any more.

    Parameters
    ----------
    session : AwsSession
    settings : AwsSettings
    code : Code
        Of the deployment; it stays.
    dry_run : bool
        Whether only to look.

    Yields
    ------
    Step
        If there are any.
    """
    client, bucket = session.client("s3"), settings.bucket
    # A function keeps its own copy, but what it was made of is what one looks for.
    functions = session.client("lambda").get_paginator("list_functions")
    marks = {code.mark} | {
        function["CodeSha256"]
        for page in functions.paginate(FunctionVersion="ALL")
        for function in page["Functions"]
    }
    try:
        there = client.list_objects_v2(Bucket=bucket, Prefix=PACKAGE_PREFIX).get("Contents", ())
    except client.exceptions.NoSuchBucket:
        return  # it would be made, were this no dry run
    old = [item["Key"] for item in there if _mark_of(item["Key"]) not in {None, *marks}]
    if not old:
        return
    if not dry_run:
        objects = [{"Key": key} for key in old]
        client.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
    where = f"s3://{bucket}/{PACKAGE_PREFIX}"
    yield Step("packages", "removed", f"{len(old)} in {where} that no function has any more")


def _mark_of(key: str) -> str | None:
    """Say by its key what Lambda tells of a function with that package; None if it is none."""
    digest = re.fullmatch(rf"{PACKAGE_PREFIX}([0-9a-f]{{64}})\.zip", key)
    return None if digest is None else base64.b64encode(bytes.fromhex(digest[1])).decode("ascii")


def is_own_image(settings: AwsSettings, uri: str) -> bool:
    """Tell whether an image is, or would be, in the function's own repository."""
    return not uri or split_image(uri)["name"] == own_repository(settings)


def offer_image(
    session: AwsSession, settings: AwsSettings, uri: str, *, dry_run: bool
) -> tuple[Code, Step]:
    """Find an image.

    Parameters
    ----------
    session : AwsSession
    settings : AwsSettings
    uri : str
        Empty: this version's image in the function's own repository.
    dry_run : bool
        Whether to go on without it.

    Returns
    -------
    Code
    Step

    Raises
    ------
    EngineError
        If it is not there.
    """
    uri = uri or own_image(settings)
    image = find_image(session.client("ecr"), uri)
    if image is not None:
        step = Step("image", "kept", f"{image.uri}, {image.nbytes / 1e6:.1f} MB")
        return Code({"ImageUri": image.uri}, image.uri), step
    mend = "push it there, or name another"
    if uri == own_image(settings):
        mend = f"push it, by {PUSH} --arch {settings.architecture}"
    if not dry_run:
        raise EngineError(f"there is no image {uri}: {mend}; then deploy again")
    return Code({"ImageUri": uri}, uri), Step("image", "absent", f"{uri}: {mend}")


def create_function(client: Any, settings: AwsSettings, code: Code) -> None:
    """Make the function, and wait until it can be used.

    Raises
    ------
    EngineError
        If Lambda refuses it.
    """
    request = function_request(settings, code.request)
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


def keep_code(
    client: Any, settings: AwsSettings, found: Mapping[str, Any], code: Code, *, dry_run: bool
) -> Step:
    """Bring the code up to date, and with it the architecture and the tags of the version.

    Parameters
    ----------
    client : object
        boto3's, of Lambda.
    settings : AwsSettings
    found : mapping
        What Lambda says of the function.
    code : Code
    dry_run : bool
        Whether only to look.

    Returns
    -------
    Step

    Raises
    ------
    EngineError
        If the function is not ours, and would have to be made anew.
    """
    current = found["Configuration"]
    was = current.get("PackageType", "Zip")
    if was != code.package_type:
        return _made_anew(client, settings, found, code, dry_run=dry_run)
    is_same = (
        code.mark in (current.get("CodeSha256"), found["Code"].get("ResolvedImageUri"))
        and current.get("Architectures", ["x86_64"]) == [settings.architecture]
        and found.get("Tags", {}).items() >= version_tags().items()
    )
    if is_same:
        return Step("function", "kept", settings.function)
    if not dry_run:
        client.update_function_code(
            FunctionName=settings.function, Architectures=[settings.architecture], **code.request
        )
        client.get_waiter("function_updated_v2").wait(FunctionName=settings.function)
        client.tag_resource(Resource=settings.function_arn, Tags=version_tags())
    return Step("function", "changed", f"{settings.function}, new code")


def _made_anew(
    client: Any, settings: AwsSettings, found: Mapping[str, Any], code: Code, *, dry_run: bool
) -> Step:
    """Put a function of the other kind in the place of one: Lambda cannot change the kind."""
    if found.get("Tags", {}).get(OWN_TAG[0]) != OWN_TAG[1]:
        raise EngineError(
            f"the function {settings.function!r} is of another kind than {code.package_type}, and "
            "was not made by hstmap: remove it, or name another 'runtime'"
        )
    if not dry_run:
        client.delete_function(FunctionName=settings.function)
        create_function(client, settings, code)
    return Step("function", "changed", f"{settings.function}, made anew as {code.package_type}")


def check_worker(client: Any, settings: AwsSettings) -> Step:
    """Start the function once, and see that it is what was meant.

    Raises
    ------
    EngineError
        If it does not start.
    StaleRuntimeError
        If it holds another version.
    """
    answer = client.invoke(FunctionName=settings.function, Payload=b'{"runtime": true}')
    told = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise EngineError(
            f"the function {settings.function!r} does not start: {told.get('errorMessage', told)}; "
            f"its log is {settings.log_group}"
        )
    check_versions(runtime_facts(), told)
    return Step("worker", "checked", f"hstmap {told['hstmap']} on Python {told['python']}")
