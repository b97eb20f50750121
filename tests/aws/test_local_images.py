"""Functions from images: laid over this machine's system, or with a system of their own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from hstmap.aws.local.images import image_program
from hstmap.errors import UsageError

# A runtime in nothing but bash: it asks for one event and answers it.
BASH_RUNTIME = r"""
api=${AWS_LAMBDA_RUNTIME_API/:/\/}
path=/2018-06-01/runtime/invocation
exec 3<>/dev/tcp/$api
printf 'GET %s/next HTTP/1.1\r\nHost: x\r\n\r\n' $path >&3
while IFS=$'\r' read -r line <&3 && [ -n "$line" ]; do
    case $line in Lambda-Runtime-Aws-Request-Id:*) id=${line##* };; esac
done
exec 4<>/dev/tcp/$api
[ -e /home ] && answer='"a home"' || answer='"no home"'
printf 'POST %s/%s/response HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s' \
    $path $id ${#answer} "$answer" >&4
read -r _ <&4
exec 5<>/dev/tcp/$api
printf 'GET %s/next HTTP/1.1\r\nHost: x\r\n\r\n' $path >&5
read -r _ <&5
"""


def image_function(uri: str) -> dict[str, object]:
    return {"PackageType": "Image", "Code": {"ImageUri": uri}, "Runtime": None, "Handler": None}


@pytest.fixture
def pushed(local_aws):
    """The URI and the digest of an image that ECR knows."""
    ecr = local_aws.client("ecr")
    repository = f"worker-{uuid.uuid4().hex[:8]}"
    uri = ecr.create_repository(repositoryName=repository)["repository"]["repositoryUri"]
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "note": repository})
    ecr.put_image(repositoryName=repository, imageManifest=manifest, imageTag="latest")
    (detail,) = ecr.describe_images(repositoryName=repository)["imageDetails"]
    return uri, detail["imageDigest"]


@pytest.fixture
def root(tmp_path):
    """An unpacked image with a handler, for the system that lies under it."""
    task = tmp_path / "root" / "var" / "task"
    task.mkdir(parents=True)
    (task / "inside.py").write_text(
        "import os\ndef run(event, context):\n    return os.environ['FROM_IMAGE']\n"
    )
    config = {"Cmd": ["inside.run"], "Env": ["FROM_IMAGE=yes"], "WorkingDir": "/var/task"}
    (tmp_path / "root" / "config.json").write_text(json.dumps(config))
    return tmp_path / "root"


def test_an_image_runs_from_its_unpacked_root(local_aws, lambda_client, deploy, pushed, root):
    uri, digest = pushed
    local_aws.register_image(digest, root)
    for reference in (f"{uri}:latest", f"{uri}@{digest}"):
        name = deploy("", **image_function(reference))
        assert deploy.invoke(name)["Payload"] == "yes"
        code = lambda_client.get_function(FunctionName=name)["Code"]
        assert code["ResolvedImageUri"] == f"{uri}@{digest}"
    updated = lambda_client.update_function_code(FunctionName=name, ImageUri=f"{uri}:latest")
    assert updated["PackageType"] == "Image"


def test_the_functions_command_wins_over_the_images(local_aws, deploy, pushed, root):
    uri, digest = pushed
    local_aws.register_image(digest, root)
    (root / "var" / "task" / "other.py").write_text(
        "def run(event, context):\n    return 'other'\n"
    )
    name = deploy("", ImageConfig={"Command": ["other.run"]}, **image_function(f"{uri}:latest"))
    assert deploy.invoke(name)["Payload"] == "other"


def test_images_that_are_not_there_or_say_no_handler_are_refused(
    local_aws, lambda_client, deploy, pushed, root
):
    uri, digest = pushed
    with pytest.raises(ClientError, match="no unpacked root"):
        deploy("", **image_function(f"{uri}:latest"))
    with pytest.raises(ClientError, match="does not exist"):
        deploy("", **image_function(f"{uri}:no-such-tag"))
    with pytest.raises(ClientError, match="not valid"):
        deploy("", **image_function("docker.io/library/python:3"))
    local_aws.register_image(digest, root)
    name = deploy("", **image_function(f"{uri}:latest"))
    with pytest.raises(ClientError, match="package type"):
        lambda_client.update_function_code(FunctionName=name, ZipFile=b"")
    (root / "config.json").unlink()
    with pytest.raises(ClientError, match="names no handler"):
        deploy("", **image_function(f"{uri}:latest"))


def test_an_image_with_a_system_of_its_own_sees_nothing_else(local_aws, deploy, pushed, tmp_path):
    if local_aws.isolation.bubblewrap is None:
        pytest.skip(f"no sandbox on this machine: {local_aws.isolation.remarks}")
    uri, digest = pushed
    root = tmp_path / "whole"
    for folder in ("usr", "bin", "dev", "proc", "tmp", "var/task"):
        (root / folder).mkdir(parents=True)
    copy_program(Path(shutil.which("bash")), root)
    (root / "runtime.sh").write_text(BASH_RUNTIME)
    config = {"Entrypoint": ["/bin/bash", "/runtime.sh"], "Cmd": ["handler"]}
    (root / "config.json").write_text(json.dumps(config))
    local_aws.register_image(digest, root)
    answer = deploy.invoke(deploy("", **image_function(f"{uri}:latest")))
    assert answer["Payload"] == "no home"


def copy_program(program: Path, root: Path) -> None:
    """Copy a program and its libraries to the places where it looks for them."""
    shutil.copy(program, root / "bin" / program.name)
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(/\S+)", linked):
        target = root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)


def test_an_images_program_is_its_own_then_the_functions_then_awss(tmp_path):
    with pytest.raises(UsageError, match="names no handler"):
        image_program(tmp_path, {})
    program = image_program(tmp_path, {"Command": ["a.b"]})
    assert program.command == ("/var/lang/bin/python", "-m", "awslambdaric", "a.b")
    assert program.working_folder == "/var/task"
    (tmp_path / "config.json").write_text(
        json.dumps({"Entrypoint": ["/e"], "Cmd": ["c"], "Env": ["A=b=c"], "WorkingDir": "/w"})
    )
    program = image_program(tmp_path, {})
    assert (program.command, program.working_folder) == (("/e", "c"), "/w")
    assert program.environment == {"A": "b=c"}
    assert image_program(tmp_path, {"WorkingDirectory": "/x"}).working_folder == "/x"
