"""What a function is made of: zip packages from the request or S3, images, and its role."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from hstmap.aws.local.api_error import ApiError, invalid_parameter
from hstmap.aws.local.images import image_program
from hstmap.aws.local.packages import MAX_ZIPPED_NBYTES, Zip
from hstmap.aws.local.services import Services
from hstmap.errors import UsageError

__all__ = ["CodeSource"]

_IMAGE_URI = re.compile(
    r"(?P<registry>\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com)/(?P<repository>[^:@]+)"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64})|:(?P<tag>[\w.-]+))"
)


class CodeSource:
    """Fetches what requests refer to; everything here waits for other services.

    Parameters
    ----------
    services : Services
        S3, IAM and ECR.
    images : mapping of str to Path
        Unpacked roots by the images' digests.
    """

    def __init__(self, services: Services, images: Mapping[str, Path]) -> None:
        self._services = services
        self._images = images
        self._clients: dict[tuple[str, str], Any] = {}

    def code(self, body: Mapping[str, Any], region: str) -> Zip | Path:
        """Return the package that a ``FunctionCode`` or a layer's ``Content`` names.

        Parameters
        ----------
        body : mapping
            That part of the request.
        region : str
            The request's region.

        Returns
        -------
        Zip or Path
            The package, or the unpacked root of the image.

        Raises
        ------
        ApiError
            Where there is no such object or image.
        """
        if "ZipFile" in body:
            package = Zip(base64.b64decode(body["ZipFile"]))
            if len(package.data) > MAX_ZIPPED_NBYTES:
                raise ApiError(
                    413,
                    "RequestEntityTooLargeException",
                    "Request must be smaller than 70167211 bytes for the operation",
                )
            return package
        if "S3Bucket" in body:
            return Zip(self._object(body["S3Bucket"], body["S3Key"], region))
        if "ImageUri" in body:
            return self._images[self._digest(body["ImageUri"], region)]
        raise invalid_parameter("Please provide a source for function code.")

    def resolved_image(self, uri: str, region: str) -> str:
        """Return an image's URI by its digest."""
        return f"{uri.split('@', maxsplit=1)[0].rsplit(':', 1)[0]}@{self._digest(uri, region)}"

    def refuse_image_without_handler(self, body: Mapping[str, Any], image: Path) -> None:
        """Refuse an image that says nowhere what it runs."""
        try:
            image_program(image, body.get("ImageConfig", {}))
        except UsageError as error:
            raise invalid_parameter(str(error)) from error

    def refuse_unusable_role(self, role_arn: str, region: str) -> None:
        """Refuse a role that is not there, or that does not trust Lambda.

        Raises
        ------
        ApiError
            With AWS's words.
        """
        name = role_arn.rsplit("/", 1)[-1]
        refusal = invalid_parameter(
            "The role defined for the function cannot be assumed by Lambda."
        )
        try:
            answer = self._client("iam", region).get_role(RoleName=name)
        except ClientError as error:
            raise refusal from error
        if "lambda.amazonaws.com" not in str(answer["Role"]["AssumeRolePolicyDocument"]):
            raise refusal

    def _client(self, service: str, region: str) -> Any:
        key = (service, region)
        if key not in self._clients:
            self._clients[key] = self._services.client(service, region=region)
        return self._clients[key]

    def _object(self, bucket: str, key: str, region: str) -> bytes:
        try:
            answer = self._client("s3", region).get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            problem = error.response["Error"]
            raise invalid_parameter(
                f"Error occurred while GetObject. S3 Error Code: {problem['Code']}. "
                f"S3 Error Message: {problem['Message']}"
            ) from error
        body: bytes = answer["Body"].read()
        return body

    def _digest(self, uri: str, region: str) -> str:
        match = _IMAGE_URI.fullmatch(uri)
        if match is None:
            raise invalid_parameter(
                f"Source image {uri} is not valid. Provide a valid source image."
            )
        digest = match["digest"]
        if digest is None:
            digest = self._digest_of_tag(match["repository"], match["tag"], uri, region)
        if digest not in self._images:
            raise invalid_parameter(
                f"Source image {uri} does not exist. Provide a valid source image. The loopback "
                f"AWS has no unpacked root for {digest}: register it"
            )
        return digest

    def _digest_of_tag(self, repository: str, tag: str, uri: str, region: str) -> str:
        try:
            answer = self._client("ecr", region).describe_images(
                repositoryName=repository, imageIds=[{"imageTag": tag}]
            )
        except ClientError as error:
            raise invalid_parameter(
                f"Source image {uri} does not exist. Provide a valid source image."
            ) from error
        return str(answer["imageDetails"][0]["imageDigest"])
