"""The worker as an image: built by Docker or Podman of a package's folder, and pushed to ECR."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from hstmap.aws.package import TOO_OLD, TOO_OLD_PYTHONS, Target
from hstmap.aws.package_files import make_readable
from hstmap.aws.repository import FoundImage, find_image, split_image
from hstmap.errors import EngineError, UsageError

__all__ = ["PLATFORMS", "build_image", "check_docker", "find_docker", "push_image"]

#: By Lambda's name of an architecture: Docker's.
PLATFORMS: Final[Mapping[str, str]] = MappingProxyType(
    {"x86_64": "linux/amd64", "arm64": "linux/arm64"}
)


def find_docker() -> str:
    """Return the program that builds images.

    Raises
    ------
    UsageError
        If there is neither Docker nor Podman.
    """
    docker = shutil.which("docker") or shutil.which("podman")
    if docker is None:
        raise UsageError(
            "an image needs Docker or Podman, and neither is installed: install one, or build a "
            "package with --zip, which needs none"
        )
    return docker


def check_docker() -> None:
    """See that Docker answers, before anything is made for it.

    Raises
    ------
    UsageError
        If it is not installed, or its daemon does not run.
    """
    try:
        _docker("info", captured=True)
    except UsageError as error:
        raise UsageError(f"{error}; a package needs no Docker: build it with --zip") from error


def build_image(context: Path, dockerfile: Path, target: Target, name: str) -> int:
    """Build an image.

    Parameters
    ----------
    context : Path
        A folder with the package in ``package``.
    dockerfile : Path
    target : Target
    name : str
        Repository and tag.

    Returns
    -------
    int
        Its size on this machine, bytes.

    Raises
    ------
    UsageError
        If Docker is not there, or cannot build it, or the Python is too old for what is in it.
    """
    if target.python in TOO_OLD_PYTHONS:
        raise UsageError(TOO_OLD.format(python=target.runtime))
    make_readable(context / "package")
    # Lambda takes an image's own manifest only, not the index that Docker's provenance adds.
    plain = ["--provenance=false"] if Path(find_docker()).name == "docker" else []
    _docker(
        "build", "--platform", PLATFORMS[target.architecture], *plain,
        "--build-arg", f"PYTHON_VERSION={target.python}", "--pull",
        "--file", str(dockerfile), "--tag", name, str(context),
    )  # fmt: skip
    said = _docker("image", "inspect", "--format", "{{.Size}}", name, captured=True)
    return int(said.strip())


def push_image(client: Any, name: str) -> FoundImage:
    """Send an image to ECR: log in there, push, log out.

    Parameters
    ----------
    client : object
        boto3's, of ECR, in the image's region.
    name : str
        The image: registry, repository and tag.

    Returns
    -------
    FoundImage
        As ECR has it then.

    Raises
    ------
    UsageError
        If it is no name of an image in ECR, or Docker cannot.
    EngineError
        If ECR does not have it afterwards.
    """
    registry = split_image(name)["name"].partition("/")[0]
    answer = client.get_authorization_token()
    token = base64.b64decode(answer["authorizationData"][0]["authorizationToken"]).decode()
    user, _, password = token.partition(":")
    # By its input: arguments are for everybody on this machine to see.
    _docker("login", "--username", user, "--password-stdin", registry, given=password)
    try:
        _docker("push", name)
    finally:
        _docker("logout", registry, captured=True)
    image = find_image(client, name)
    if image is None:
        raise EngineError(f"{name} was pushed, and ECR does not have it: try again")
    return image


def _docker(*words: str, given: str | None = None, captured: bool = False) -> str:
    """Run Docker; what it says is shown, unless something secret was given or it is wanted."""
    silent = captured or given is not None
    done = subprocess.run(
        [find_docker(), *words],
        input=given,
        stdout=subprocess.PIPE if silent else None,
        stderr=subprocess.PIPE if silent else None,
        text=True,
        check=False,
    )
    if done.returncode:
        told = (done.stderr or "").strip() or "see above"
        raise UsageError(f"docker {words[0]} failed ({done.returncode}): {told}")
    return done.stdout or ""
