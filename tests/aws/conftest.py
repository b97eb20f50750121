"""Fixtures of the AWS room: one loopback AWS for all tests, its answers held against botocore."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

LAMBDA_TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "lambda.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
)


@pytest.fixture(scope="session")
def local_aws() -> Iterator[Any]:
    """A running loopback AWS whose retries come at once."""
    for module in ("aiohttp", "awslambdaric", "moto"):
        pytest.importorskip(module, reason=f"{module} of hstmap[local-aws] is not installed")
    from hstmap.aws.local import LocalAws, LocalAwsOptions

    with LocalAws(LocalAwsOptions(retry_delays_s=(0.02, 0.03), concurrency=10)) as aws:
        yield aws


@pytest.fixture(scope="session")
def make_role() -> Callable[[Any], str]:
    """Makes a role that Lambda can assume, in a loopback AWS."""

    def make(aws: Any) -> str:
        answer = aws.client("iam").create_role(
            RoleName=f"role-{uuid.uuid4().hex[:8]}", AssumeRolePolicyDocument=LAMBDA_TRUST
        )
        return str(answer["Role"]["Arn"])

    return make


@pytest.fixture(scope="session")
def role_arn(local_aws: Any, make_role: Callable[[Any], str]) -> str:
    """A role that Lambda can assume."""
    return make_role(local_aws)


@pytest.fixture(scope="session")
def zip_of() -> Callable[[Mapping[str, str]], bytes]:
    """Makes a zip archive of texts by their names."""

    def make(files: Mapping[str, str]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        return buffer.getvalue()

    return make


@pytest.fixture
def lambda_client(local_aws: Any) -> Any:
    """A client of the Lambda API that holds every answer against AWS's service model."""
    client = local_aws.client("lambda")
    client.meta.events.register("before-parse.lambda", check_answer)
    return client


class Deployer:
    """Deploys functions of one module, ``main``, with the handler ``handler``."""

    def __init__(
        self, client: Any, role: str, zip_of: Callable[[Mapping[str, str]], bytes]
    ) -> None:
        self.client = client
        self._role = role
        self._zip_of = zip_of
        self.names: list[str] = []

    def __call__(self, source: str, **settings: Any) -> str:
        from hstmap.aws.local.runtime_folder import HOST_RUNTIME

        name = settings.get("FunctionName", f"function-{uuid.uuid4().hex[:8]}")
        request = {
            "FunctionName": name,
            "Role": self._role,
            "Runtime": HOST_RUNTIME,
            "Handler": "main.handler",
            "Code": {"ZipFile": self._zip_of({"main.py": source})},
            "Timeout": 20,
            "MemorySize": 256,
        }
        request |= settings
        self.client.create_function(**{n: v for n, v in request.items() if v is not None})
        self.names.append(name)
        return name

    def invoke(self, name: str, event: object = None, **request: Any) -> dict[str, Any]:
        """Invoke a function, and return the answer with its payload read."""
        payload = json.dumps({} if event is None else event).encode()
        answer = self.client.invoke(FunctionName=name, Payload=payload, **request)
        text = answer["Payload"].read()
        return dict(answer) | {"Payload": json.loads(text) if text else None}

    def send(self, name: str, event: object = None) -> str:
        """Invoke a function asynchronously, and return the request's id."""
        answer = self.invoke(name, event, InvocationType="Event")
        assert answer["StatusCode"] == 202
        return str(answer["ResponseMetadata"]["RequestId"])

    def remove(self) -> None:
        """Delete the functions that are still there."""
        for name in self.names:
            with contextlib.suppress(self.client.exceptions.ResourceNotFoundException):
                self.client.delete_function(FunctionName=name)


@pytest.fixture
def deploy(
    local_aws: Any,
    lambda_client: Any,
    role_arn: str,
    zip_of: Callable[[Mapping[str, str]], bytes],
) -> Iterator[Deployer]:
    """Deploys functions, and removes them and all faults afterwards."""
    deployer = Deployer(lambda_client, role_arn, zip_of)
    yield deployer
    local_aws.faults.clear()
    local_aws.wait_until_idle()
    deployer.remove()


@pytest.fixture(scope="session")
def deployer_for(
    make_role: Callable[[Any], str], zip_of: Callable[[Mapping[str, str]], bytes]
) -> Callable[[Any], Deployer]:
    """Returns a deployer for a loopback AWS of the test's own."""

    def make(aws: Any) -> Deployer:
        return Deployer(aws.client("lambda"), make_role(aws), zip_of)

    return make


@pytest.fixture
def runs_of(local_aws: Any) -> Callable[..., list[Any]]:
    """Returns the runs of a function so far, of one request or of all."""

    def runs(name: str, request_id: str | None = None) -> list[Any]:
        return [
            record
            for record in local_aws.invocation_log
            if record.function == name and request_id in (None, record.report.request_id)
        ]

    return runs


def check_answer(operation_model: Any, response_dict: Mapping[str, Any], **_: Any) -> None:
    """Hold an answer on the wire against AWS's service model, strictly both ways."""
    headers = {name.lower(): value for name, value in response_dict["headers"].items()}
    assert re.fullmatch(r"[0-9a-f-]{36}", headers["x-amzn-requestid"])
    body = response_dict["body"]
    if response_dict["status_code"] >= 300:
        shapes = {shape.name: shape for shape in operation_model.error_shapes}
        name = headers["x-amzn-errortype"]
        if name in shapes:  # some errors are every service's, and in no model
            expected = shapes[name].metadata["error"]["httpStatusCode"]
            assert response_dict["status_code"] == expected
            check_value(shapes[name], json.loads(body), operation_model.name)
        return
    shape = operation_model.output_shape
    if shape is None:
        assert not body
        assert response_dict["status_code"] == operation_model.http["responseCode"]
        return
    located = {n for n, m in shape.members.items() if m.serialization.get("location")}
    if operation_model.has_streaming_output or set(shape.members) == located:
        return
    assert response_dict["status_code"] == operation_model.http["responseCode"]
    check_value(shape, json.loads(body), operation_model.name)


def check_value(shape: Any, value: Any, path: str) -> None:
    """Hold a JSON value against a shape: names, types, enumerations, patterns and ranges."""
    checks = {
        "structure": check_structure,
        "list": check_list,
        "map": check_map,
        "string": check_string,
        "integer": check_integer,
        "long": check_integer,
        "boolean": lambda _shape, flag, where: check_type(flag, bool, where),
        "timestamp": lambda _shape, time, where: check_type(time, (int, float), where),
    }
    checks[shape.type_name](shape, value, path)


def check_type(value: Any, kind: Any, path: str) -> None:
    """Hold the type of a JSON value; a boolean is no number."""
    assert isinstance(value, kind), f"{path}: {value!r}"
    assert isinstance(value, bool) == (kind is bool), f"{path}: {value!r}"


def check_structure(shape: Any, value: Any, path: str) -> None:
    """Hold a JSON object against its shape: no unknown member, no required one missing."""
    members = {m.serialization.get("name", n): m for n, m in shape.members.items()}
    check_type(value, dict, path)
    assert set(value) <= set(members), f"{path}: {set(value) - set(members)} is not AWS's"
    assert set(shape.required_members) <= set(value), path
    for name, part in value.items():
        check_value(members[name], part, f"{path}.{name}")


def check_list(shape: Any, value: Any, path: str) -> None:
    """Hold a JSON list against its shape."""
    check_type(value, list, path)
    for part in value:
        check_value(shape.member, part, f"{path}[]")


def check_map(shape: Any, value: Any, path: str) -> None:
    """Hold a JSON object that is a map against its shape."""
    check_type(value, dict, path)
    for name, part in value.items():
        check_value(shape.key, name, f"{path} key")
        check_value(shape.value, part, f"{path}.{name}")


def check_integer(shape: Any, value: Any, path: str) -> None:
    """Hold a JSON number against its shape."""
    check_type(value, int, path)
    assert shape.metadata.get("min", value) <= value <= shape.metadata.get("max", value), path


def check_string(shape: Any, value: Any, path: str) -> None:
    """Hold a JSON string against its shape."""
    check_type(value, str, path)
    assert not shape.enum or value in shape.enum, f"{path}: {value}"
    assert shape.metadata.get("min", 0) <= len(value), path
    assert len(value) <= shape.metadata.get("max", len(value)), path
    pattern = shape.metadata.get("pattern", ".*")
    if r"\p" not in pattern:  # Java's classes of characters, which re does not know
        assert re.fullmatch(pattern, value, re.DOTALL), f"{path}: {value}"


@dataclass(frozen=True)
class Deployment:
    """A loopback AWS of two workers with the function deployed as users do it."""

    aws: Any
    session: Any
    settings: Any
    package: Path

    @property
    def lithops_config(self) -> dict[str, Any]:
        """Lithops' sections that lead there."""
        return {
            "lithops": {
                "backend": "aws_lambda",
                "storage": "aws_s3",
                "monitoring_interval": 0.1,
            },
            "aws": {"region": self.settings.region},
            "aws_lambda": {
                "runtime": self.settings.function,
                "runtime_memory": self.settings.memory_mb,
                "runtime_timeout": self.settings.timeout_s,
                "max_workers": self.settings.max_workers,
            },
            "aws_s3": {"storage_bucket": self.settings.bucket},
        }

    def write_config(self, folder: Path) -> Path:
        """Write it as a file."""
        file = folder / "aws.yaml"
        file.write_text(yaml.safe_dump(self.lithops_config | {"hstmap": {"timeout_s": 60}}))
        return file

    def runs(self) -> list[Any]:
        """The invocations of the function so far, the deployment's own left out."""
        return [record for record in self.aws.invocation_log[1:] if record.function == "hstmap"]


@pytest.fixture(scope="session")
def worker_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The worker's package of what is installed here, zipped, beside its folder."""
    from hstmap.aws.package import build_installed

    return build_installed(tmp_path_factory.mktemp("worker"))


@pytest.fixture(scope="session")
def aws_of_deployment() -> Iterator[Any]:
    """The loopback AWS that `deployment` is on."""
    for module in ("aiohttp", "awslambdaric", "moto"):
        pytest.importorskip(module, reason=f"{module} of hstmap[local-aws] is not installed")
    from hstmap.aws.local import LocalAws, LocalAwsOptions

    # These functions wait for each other and for storage more than they compute.
    with LocalAws(LocalAwsOptions(retry_delays_s=(0.02, 0.03), n_cores=4.0)) as aws:
        yield aws


@pytest.fixture(scope="session")
def first_deployment(
    aws_of_deployment: Any, worker_package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Deployment:
    """The deployment, made once."""
    from hstmap.aws.deploy import deploy
    from hstmap.aws.session import AwsSession
    from hstmap.aws.settings import aws_settings

    with pytest.MonkeyPatch.context() as patch:
        enter_aws(patch, aws_of_deployment)
        session = AwsSession("us-east-1")
        section = {"runtime_timeout": 60, "runtime_memory": 1769, "max_workers": 3}
        config = {"aws": {"region": "us-east-1"}, "aws_lambda": section}
        settings = aws_settings(config, session.account_id())
        steps = list(deploy(session, settings, worker_package))
    assert [step.action for step in steps] == ["made"] * 5 + ["changed", "checked"]
    return Deployment(aws_of_deployment, session, settings, worker_package)


def enter_aws(patch: pytest.MonkeyPatch, aws: Any) -> None:
    """Lead this process's own clients to a loopback AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    for name, value in aws.environment.items():
        patch.setenv(name, value)


@pytest.fixture
def deployment(
    first_deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Deployment]:
    """The deployment, with this process led to it, and without faults afterwards."""
    enter_aws(monkeypatch, first_deployment.aws)
    yield first_deployment
    first_deployment.aws.faults.clear()
    first_deployment.aws.wait_until_idle()


@pytest.fixture(scope="session")
def first_bench(first_deployment: Deployment) -> Any:
    """Small frames in the deployment's bucket, and what their summary is; made once."""
    from benchmarks.faults import FaultBench

    with pytest.MonkeyPatch.context() as patch:
        enter_aws(patch, first_deployment.aws)
        return FaultBench(first_deployment.aws, first_deployment.lithops_config)


@pytest.fixture
def bench(deployment: Deployment, first_bench: Any) -> Any:
    """Whole runs of small frames on the deployed function."""
    assert deployment.aws is first_bench.aws
    return first_bench


@pytest.fixture(scope="session")
def account() -> Iterator[Any]:
    """A loopback AWS that every test leaves as empty as it found it."""
    for module in ("aiohttp", "awslambdaric", "moto"):
        pytest.importorskip(module, reason=f"{module} of hstmap[local-aws] is not installed")
    from hstmap.aws.local import LocalAws, LocalAwsOptions

    with LocalAws(LocalAwsOptions(concurrency=10)) as aws:
        yield aws


@pytest.fixture
def session(account: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A session of boto3's there; this process's own clients are led there, too."""
    from hstmap.aws.session import AwsSession

    enter_aws(monkeypatch, account)
    return AwsSession("us-east-1")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many of Lithops' own tests have passed here."""
    passed = dict(
        value
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "lithops_tests_passed"
    )
    if passed:
        by_module = ", ".join(f"{module} {n}" for module, n in passed.items())
        terminalreporter.write_sep("=", "Lithops' own tests on the loopback AWS")
        terminalreporter.write_line(f"{sum(passed.values())} passed: {by_module}")
