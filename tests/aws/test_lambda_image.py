"""The worker as an image: what it is built of, its repository, and that it does what the zip does.

No image is built here, and none ever was where these tests were written: Docker is a script that
notes what it is asked, and the loopback AWS runs the root that the Dockerfile's orders make.
"""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faults import N_IMAGES
from hstmap.aws import image_build
from hstmap.aws.deploy import deploy
from hstmap.aws.doctor import examine
from hstmap.aws.package import HANDLER, Target
from hstmap.aws.repository import (
    FoundImage,
    find_image,
    find_repository,
    keep_repository,
    own_image,
    scan_counts,
    split_image,
)
from hstmap.aws.session import AwsSession
from hstmap.aws.settings import AwsSettings, aws_settings
from hstmap.aws.undeploy import undeploy
from hstmap.errors import EngineError, UsageError
from support.worker_image import orders, push, unpack

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = REPOSITORY / "runtime" / "Dockerfile"

ANSWERS = """
from hstmap.aws.event import runtime_facts

def handle(event, context):
    return runtime_facts()
"""


# -- what it is built of ---------------------------------------------------------------------------


def test_the_dockerfile_adds_the_package_to_the_base_of_aws_and_runs_nothing():
    told = orders(DOCKERFILE)
    assert [order for order, _ in told] == ["ARG", "FROM", "COPY", "USER", "CMD"]
    given = dict(told)
    assert given["ARG"].partition("=")[0] == "PYTHON_VERSION"
    assert given["FROM"] == "public.ecr.aws/lambda/python:${PYTHON_VERSION}"
    assert given["COPY"] == "package/ ${LAMBDA_TASK_ROOT}/"
    assert int(given["USER"]) > 0
    assert json.loads(given["CMD"]) == [HANDLER]


def test_the_image_holds_the_files_of_the_zip(worker_package: Path, tmp_path: Path):
    unpack(DOCKERFILE, worker_package.parent, tmp_path)
    task = tmp_path / "var" / "task"
    files = {x.relative_to(task).as_posix() for x in task.rglob("*") if x.is_file()}
    with zipfile.ZipFile(worker_package) as archive:
        assert files == set(archive.namelist())


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, Any]]]:
    """A Docker that notes what it is asked, and what comes by its input."""
    notes, program = tmp_path / "notes.jsonl", tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport json, os, sys\nwords = sys.argv[1:]\n"
        "given = sys.stdin.read() if words[0] == 'login' else ''\n"
        f"with open({str(notes)!r}, 'a') as file:\n"
        "    print(json.dumps({'words': words, 'given': given}), file=file)\n"
        "if words[0] == os.environ.get('DOCKER_FAILS'):\n    sys.exit('no space left on device')\n"
        "if words[0] == 'image':\n    print(150_000_000)\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    def calls() -> list[dict[str, Any]]:
        return [json.loads(line) for line in notes.read_text().splitlines()]

    return calls


@pytest.mark.parametrize(
    ("architecture", "platform"), [("x86_64", "linux/amd64"), ("arm64", "linux/arm64")]
)
def test_docker_builds_for_the_architecture_and_python_of_the_client(
    docker, tmp_path, architecture, platform
):
    context = tmp_path / "context"
    (context / "package" / "hstmap").mkdir(parents=True, mode=0o700)
    (context / "package" / "hstmap" / "handler.py").write_text("")
    (context / "package" / "hstmap" / "handler.py").chmod(0o600)
    target = Target("3.12", architecture)
    assert image_build.build_image(context, DOCKERFILE, target, "name:tag") == 150_000_000
    build, inspect = (call["words"] for call in docker())
    assert build[:3] == ["build", "--platform", platform]
    assert "PYTHON_VERSION=3.12" in build
    assert "--provenance=false" in build  # Lambda refuses the index that it makes
    assert build[-3:] == ["--tag", "name:tag", str(context)]
    assert inspect[-1] == "name:tag"
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (context / "package").rglob("*")}
    assert modes == {0o755, 0o644}  # what was private here can be read by user 993 there


def test_a_python_that_is_too_old_there_is_refused_before_docker_is_asked(tmp_path):
    with pytest.raises(UsageError, match=r"3\.12 or 3\.13"):
        image_build.build_image(tmp_path, DOCKERFILE, Target("3.11"), "name:tag")


def test_without_docker_one_is_told_of_the_zip(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="--zip"):
        image_build.find_docker()


def test_a_docker_without_its_daemon_is_told_before_anything_is_made(docker, monkeypatch):
    image_build.check_docker()
    assert [call["words"] for call in docker()] == [["info"]]
    monkeypatch.setenv("DOCKER_FAILS", "info")
    with pytest.raises(UsageError, match=r"docker info failed .*--zip"):
        image_build.check_docker()


def test_what_docker_says_is_told(docker, tmp_path, monkeypatch):
    (tmp_path / "package").mkdir()
    monkeypatch.setenv("DOCKER_FAILS", "image")
    with pytest.raises(UsageError, match=r"docker image failed.*no space left"):
        image_build.build_image(tmp_path, DOCKERFILE, Target("3.12"), "name:tag")


# -- in ECR ----------------------------------------------------------------------------------------


@pytest.fixture
def settings() -> AwsSettings:
    name = f"Images-{uuid.uuid4().hex[:6]}"
    section = {"runtime": name, "runtime_timeout": 30, "max_workers": 10}
    config = {"aws": {"region": "us-east-1"}, "aws_lambda": section}
    storage = {"aws_s3": {"storage_bucket": name.lower()}}
    return aws_settings(config | storage, "123456789012")


def small_root(folder: Path, note: str = "") -> Path:
    """A root whose worker says what it is, and can do no more."""
    import hstmap

    own, task = Path(hstmap.__file__).parent, folder / "var" / "task" / "hstmap"
    (task / "aws").mkdir(parents=True)
    (task / "handler.py").write_text(ANSWERS + f"# {note}\n")
    for name in ("__init__.py", "errors.py", "aws/__init__.py", "aws/event.py"):
        (task / name).write_bytes((own / name).read_bytes())
    (folder / "config.json").write_text(json.dumps({"Cmd": [HANDLER]}))
    return folder


@pytest.fixture
def pushed(
    account: Any, session: AwsSession, settings: AwsSettings, tmp_path: Path
) -> Callable[[str], str]:
    """Pushes an image of this version into the function's repository; returns its digest."""

    def offer(note: str) -> str:
        client = session.client("ecr")
        if find_repository(client, settings) is None:
            keep_repository(client, settings)
        tag = split_image(own_image(settings))["tag"]
        digest = push(client, settings.repository, tag, note.encode())
        account.register_image(digest, small_root(tmp_path / f"root-{note}", note))
        return digest

    return offer


def actions(steps: Any) -> dict[str, str]:
    return {step.what: step.action for step in steps}


def test_a_repository_is_made_named_and_kept_in_order(session, settings):
    client = session.client("ecr")
    assert keep_repository(client, settings, dry_run=True).action == "made"
    assert find_repository(client, settings) is None
    assert keep_repository(client, settings).action == "made"
    found = find_repository(client, settings)
    assert found["repositoryName"] == settings.function.lower()  # ECR's names have no capitals
    assert found["imageScanningConfiguration"] == {"scanOnPush": True}
    where = {"repositoryName": settings.repository}
    (rule,) = json.loads(client.get_lifecycle_policy(**where)["lifecyclePolicyText"])["rules"]
    assert rule["selection"]["tagStatus"] == "untagged"  # what a version's tag points at stays
    policy = json.loads(client.get_repository_policy(**where)["policyText"])
    (statement,) = policy["Statement"]
    assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}
    assert settings.function_arn in json.dumps(statement["Condition"])
    assert keep_repository(client, settings).action == "kept"


def test_what_was_changed_behind_our_back_is_changed_back(session, settings):
    client = session.client("ecr")
    keep_repository(client, settings)
    where = {"repositoryName": settings.repository}
    client.delete_lifecycle_policy(**where)
    client.delete_repository_policy(**where)
    client.put_image_scanning_configuration(
        **where, imageScanningConfiguration={"scanOnPush": False}
    )
    assert keep_repository(client, settings, dry_run=True).detail.endswith(
        "scan, lifecycle, policy"
    )
    assert keep_repository(client, settings).action == "changed"
    assert keep_repository(client, settings).action == "kept"


def test_a_repository_of_somebody_else_is_used_and_left_alone(session, settings, pushed):
    client = session.client("ecr")
    client.create_repository(repositoryName=settings.repository)
    pushed("foreign")
    made = actions(deploy(session, settings, ""))
    assert (made["registry"], made["image"], made["worker"]) == ("kept", "kept", "checked")
    assert actions(undeploy(session, settings))["registry"] == "kept"
    assert find_repository(client, settings) is not None
    client.delete_repository(repositoryName=settings.repository, force=True)


def test_a_deployment_by_an_image_comes_and_goes(account, session, settings, pushed):
    with pytest.raises(EngineError, match=r"runtime/build --image --push --arch x86_64"):
        list(deploy(session, settings, ""))
    assert find_repository(session.client("ecr"), settings) is not None  # to push it to
    digest = pushed("one")
    assert actions(deploy(session, settings, "")) == {
        "bucket": "kept", "role": "kept", "logs": "kept", "registry": "kept", "image": "kept",
        "function": "made", "settings": "changed", "worker": "checked",
    }  # fmt: skip
    found = account.client("lambda").get_function(FunctionName=settings.function)
    assert found["Configuration"]["PackageType"] == "Image"
    assert found["Code"]["ImageUri"].endswith(f"@{digest}")  # a later push changes nothing
    assert set(actions(deploy(session, settings, "")).values()) == {"kept", "checked"}
    newer = pushed("two")
    assert actions(deploy(session, settings, "", dry_run=True))["function"] == "changed"
    assert actions(deploy(session, settings, ""))["function"] == "changed"
    found = account.client("lambda").get_function(FunctionName=settings.function)
    assert found["Code"]["ResolvedImageUri"].endswith(f"@{newer}")
    assert actions(undeploy(session, settings, dry_run=True))["registry"] == "removed"
    assert actions(undeploy(session, settings))["registry"] == "removed"
    assert find_repository(session.client("ecr"), settings) is None
    assert set(actions(undeploy(session, settings)).values()) == {"absent"}


def test_a_dry_run_says_what_is_to_be_pushed_and_makes_nothing(session, settings):
    steps = list(deploy(session, settings, "", dry_run=True))
    told = {step.what: step for step in steps}
    assert told["image"].action == "absent"
    assert "runtime/build --image --push" in told["image"].detail
    assert actions(steps)["function"] == "made"
    assert find_repository(session.client("ecr"), settings) is None


def test_from_zip_to_image_and_back_the_function_is_made_anew(
    account, session, settings, pushed, tmp_path
):
    pushed("kind")
    root = tmp_path / "root-kind" / "var" / "task"
    package = tmp_path / "worker.zip"
    with zipfile.ZipFile(package, "w") as archive:
        for file in root.rglob("*.py"):
            archive.write(file, file.relative_to(root))
    list(deploy(session, settings, package))
    steps = {step.what: step for step in deploy(session, settings, "")}
    assert (steps["function"].action, steps["settings"].action) == ("changed", "changed")
    assert "made anew as Image" in steps["function"].detail
    assert actions(deploy(session, settings, package))["function"] == "changed"
    client = account.client("lambda")
    policy = client.get_function_event_invoke_config(FunctionName=settings.function)
    assert policy["MaximumRetryAttempts"] == 0  # it went with the old one
    client.untag_resource(Resource=settings.function_arn, TagKeys=["made-by"])
    with pytest.raises(EngineError, match="another kind"):
        list(deploy(session, settings, ""))
    client.tag_resource(Resource=settings.function_arn, Tags={"made-by": "hstmap"})
    list(undeploy(session, settings))


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("docker.io/library/python:3.12", "no image of ECR"),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com/worker", "no image of ECR"),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/worker:1", "its own region"),
    ],
)
def test_images_that_lambda_cannot_take_are_refused(session, settings, uri, words):
    with pytest.raises(UsageError, match=words):
        find_image(session.client("ecr"), uri)


def test_an_image_elsewhere_in_the_registry_is_deployed_by_its_name(
    account, session, settings, tmp_path
):
    client, name = session.client("ecr"), f"team/worker-{uuid.uuid4().hex[:6]}"
    client.create_repository(repositoryName=name)
    digest = push(client, name, "mine", name.encode())
    account.register_image(digest, small_root(tmp_path / "root"))
    uri = own_image(settings).replace(f"/{settings.repository}:", f"/{name}:")
    uri = f"{uri.rpartition(':')[0]}:mine"
    made = actions(deploy(session, settings, uri))
    assert "registry" not in made  # it is none of ours
    assert made["worker"] == "checked"
    with pytest.raises(EngineError, match=r"no image .*:yours: push it there"):
        list(deploy(session, settings, uri.replace(":mine", ":yours")))
    list(undeploy(session, settings))
    assert find_image(client, uri) == FoundImage(uri.rpartition(":")[0], digest, len(name))


# -- the doctor ------------------------------------------------------------------------------------


def findings(session: AwsSession, settings: AwsSettings) -> dict[str, Any]:
    return {finding.subject: finding for finding in examine(session, settings)}


def test_the_doctor_compares_the_function_with_what_was_pushed(session, settings, pushed):
    first = pushed("first")
    list(deploy(session, settings, ""))
    found = findings(session, settings)
    assert found["image"].status == "ok"
    assert "registry" not in found
    second = pushed("second")
    finding = findings(session, settings)["image"]
    assert (finding.status, finding.mend) == ("warn", "python -m hstmap deploy --image")
    assert first in finding.detail
    assert second in finding.detail
    client = session.client("ecr")
    client.delete_lifecycle_policy(repositoryName=settings.repository)
    assert "lifecycle" in findings(session, settings)["registry"].detail
    where = {"repositoryName": settings.repository}
    client.batch_delete_image(**where, imageIds=[{"imageDigest": second}])
    assert "never pushed" in findings(session, settings)["image"].detail
    client.batch_delete_image(**where, imageIds=[{"imageDigest": first}])
    finding = findings(session, settings)["image"]
    assert finding.status == "fail"
    assert "is gone" in finding.detail
    assert "runtime/build --image --push" in finding.mend
    list(undeploy(session, settings))


def test_the_doctor_tells_what_the_scan_found(session, settings, pushed):
    digest = pushed("scanned")
    list(deploy(session, settings, ""))
    client = session.client("ecr")
    image = find_image(client, own_image(settings))
    assert scan_counts(client, image) is None
    assert "image scan" not in findings(session, settings)
    client.start_image_scan(repositoryName=settings.repository, imageId={"imageDigest": digest})
    assert scan_counts(client, image)
    finding = findings(session, settings)["image scan"]
    assert finding.status == "warn"
    assert "1 high" in finding.detail
    assert "newest base" in finding.mend
    list(undeploy(session, settings))


# -- pushing ---------------------------------------------------------------------------------------


def test_pushing_logs_in_by_a_token_that_is_shown_to_nobody(
    session, settings, docker, pushed, capfd
):
    digest, client = pushed("by-docker"), session.client("ecr")
    token = client.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    secret = base64.b64decode(token).decode().partition(":")[2]
    image = image_build.push_image(client, own_image(settings))
    assert image.digest == digest
    registry = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    assert [call["words"] for call in docker()] == [
        ["login", "--username", "AWS", "--password-stdin", registry],
        ["push", own_image(settings)],
        ["logout", registry],
    ]
    assert docker()[0]["given"] == secret
    said = capfd.readouterr()
    assert secret not in said.out + said.err


def test_a_push_that_fails_logs_out_all_the_same(session, settings, docker, monkeypatch, pushed):
    pushed("in-vain")
    monkeypatch.setenv("DOCKER_FAILS", "push")
    with pytest.raises(UsageError, match="docker push failed"):
        image_build.push_image(session.client("ecr"), own_image(settings))
    assert [call["words"][0] for call in docker()] == ["login", "push", "logout"]


def test_what_was_pushed_and_is_not_there_is_an_error(session, settings, docker):
    with pytest.raises(EngineError, match="does not have it"):
        image_build.push_image(session.client("ecr"), own_image(settings))


def build(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "runtime" / "build"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_makes_the_repository_and_says_what_it_would_push(session, settings, tmp_path):
    config = tmp_path / "aws.yaml"
    config.write_text(
        f"aws: {{region: us-east-1}}\naws_lambda: {{runtime: {settings.function}, "
        "architecture: arm64}\n"
    )
    target = ["--image", "--push", "--config", str(config), "--dry-run"]
    done = build(*target)
    assert done.returncode == 0, done.stderr
    own = own_image(replace(settings, architecture="arm64"))
    assert f"registry  made     {settings.repository}" in done.stdout
    assert f"would build {own} for linux/arm64, and push it" in done.stdout
    assert find_repository(session.client("ecr"), settings) is None
    done = build(*target, "--arch", "x86_64")
    assert done.returncode == 2
    assert "build for the one that the function has" in done.stderr
    done = build("--zip", "--push")
    assert done.returncode == 2
    assert "hstmap deploy" in done.stderr


# -- a whole run -----------------------------------------------------------------------------------


def test_an_image_makes_the_summary_of_the_zip(bench, deployment, tmp_path, worker_package):
    """Byte by byte, of the same images, by a function of the same settings."""
    patient = {"start_timeout_s": 60.0, "timeout_s": 60.0}  # nothing goes wrong here
    by_zip = bench.run((), **patient)
    sections = deployment.lithops_config
    sections["aws_lambda"]["runtime"] = "by-image"
    session, settings = deployment.session, aws_settings(sections, deployment.settings.account_id)
    ecr, client = session.client("ecr"), session.client("lambda")
    keep_repository(ecr, settings)
    tag = split_image(own_image(settings))["tag"]
    digest = push(ecr, settings.repository, tag, worker_package.read_bytes())
    config = unpack(DOCKERFILE, worker_package.parent, tmp_path / "root")
    assert config["Cmd"] == [HANDLER]
    deployment.aws.register_image(digest, tmp_path / "root")
    steps = actions(deploy(session, settings, ""))
    assert (steps["image"], steps["worker"]) == ("kept", "checked")
    by_image = bench.run((), lithops_config=sections, **patient)
    client.delete_function(FunctionName="by-image")
    runs = [run for run in deployment.aws.invocation_log if run.function == "by-image"]
    assert len(runs) > N_IMAGES
    assert by_image.outcomes == by_zip.outcomes == {"ok": N_IMAGES}
    assert by_image.digest == by_zip.digest == bench.expected
