"""From an empty account to a deployment, what the doctor says of it, and back."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import botocore.session
import pytest
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.stub import Stubber

from hstmap.aws import doctor
from hstmap.aws.deploy import deploy
from hstmap.aws.doctor import examine
from hstmap.aws.function_code import check_python
from hstmap.aws.policy import (
    LAMBDA_TRUST,
    deployer_policy,
    pusher_policy,
    runner_policy,
    worker_policy,
)
from hstmap.aws.session import AwsSession
from hstmap.aws.settings import AwsSettings, aws_settings
from hstmap.aws.step import Step
from hstmap.aws.undeploy import undeploy
from hstmap.cli import main
from hstmap.commands.aws_target import aws_errors, with_config
from hstmap.errors import EngineError, StaleRuntimeError, UsageError

ANSWERS = """
from hstmap.aws.event import runtime_facts

def handle(event, context):
    return runtime_facts()
"""


@pytest.fixture(scope="module")
def small_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that says what it is and can do no more: deployments are tried with it."""
    import hstmap

    file = tmp_path_factory.mktemp("small") / "worker.zip"
    root = Path(hstmap.__file__).parent
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("hstmap/handler.py", ANSWERS)
        for name in ("__init__.py", "errors.py", "aws/__init__.py", "aws/event.py"):
            archive.write(root / name, f"hstmap/{name}")
    return file


def settings_for(name: str, **changes: Any) -> AwsSettings:
    """Settings of a deployment of a test's own."""
    config = {
        "aws": {"region": "us-east-1"},
        "aws_lambda": {"runtime": name, "runtime_timeout": 30, "max_workers": 10},
        "aws_s3": {"storage_bucket": f"bucket-{name}"},
    }
    return replace(aws_settings(config, "123456789012"), **changes)


@pytest.fixture
def deployed(
    session: AwsSession, small_package: Path, request: pytest.FixtureRequest
) -> Iterator[AwsSettings]:
    settings = settings_for(f"f{abs(hash(request.node.name)) % 10**8}")
    list(deploy(session, settings, small_package))
    yield settings
    list(undeploy(session, settings))


def actions(steps: Any) -> dict[str, str]:
    return {step.what: step.action for step in steps}


def inventory(account: Any) -> dict[str, list[str]]:
    """All that an account has that is made by deployments."""
    functions = account.client("lambda").list_functions()["Functions"]
    return {
        "functions": [function["FunctionName"] for function in functions],
        "roles": [r["RoleName"] for r in account.client("iam").list_roles()["Roles"]],
        "groups": [
            g["logGroupName"] for g in account.client("logs").describe_log_groups()["logGroups"]
        ],
        "buckets": [b["Name"] for b in account.client("s3").list_buckets()["Buckets"]],
    }  # fmt: skip


def test_an_account_is_as_empty_after_as_before(account, session, small_package):
    before = inventory(account)
    settings = settings_for("whole")
    made = actions(deploy(session, settings, small_package))
    assert made == {
        "bucket": "made", "role": "made", "logs": "made", "package": "made", "function": "made",
        "settings": "changed", "worker": "checked",
    }  # fmt: skip
    during = inventory(account)
    assert all(len(during[kind]) == len(before[kind]) + 1 for kind in before)
    removed = list(undeploy(session, settings))
    assert {step.what for step in removed if step.action == "removed"} == {
        "function", "role", "logs", "objects", "bucket",
    }  # fmt: skip
    account.wait_until_idle()
    assert inventory(account) == before
    assert set(actions(undeploy(session, settings)).values()) == {"absent"}


def test_a_second_deployment_changes_nothing(session, deployed, small_package):
    again = actions(deploy(session, deployed, small_package))
    assert set(again.values()) == {"kept", "checked"}


def test_a_dry_run_makes_and_removes_nothing(account, session, small_package, deployed):
    before = inventory(account)
    fresh = settings_for("fresh")
    assert actions(deploy(session, fresh, small_package, dry_run=True))["function"] == "made"
    assert actions(undeploy(session, deployed, dry_run=True))["function"] == "removed"
    changed = replace(deployed, memory_mb=512)
    steps = list(deploy(session, changed, small_package, dry_run=True))
    assert "MemorySize 1769 -> 512" in steps[-1].detail
    assert inventory(account) == before
    assert actions(deploy(session, deployed, small_package))["settings"] == "kept"


def test_what_changed_in_the_configuration_is_changed(account, session, deployed, small_package):
    changed = replace(
        deployed, memory_mb=512, timeout_s=25, retention_days=7, tags={"team": "archive"},
        environment={"A": "b"}, buckets=("more",),
    )  # fmt: skip
    assert actions(deploy(session, changed, small_package)) == {
        "bucket": "kept", "role": "changed", "logs": "changed", "package": "kept",
        "function": "kept", "settings": "changed", "worker": "checked",
    }  # fmt: skip
    client = account.client("lambda")
    found = client.get_function(FunctionName=deployed.function)
    current = found["Configuration"]
    assert (current["MemorySize"], current["Timeout"]) == (512, 25)
    variables = current["Environment"]["Variables"]
    assert (variables["A"], variables["TOKIO_WORKER_THREADS"]) == ("b", "1")
    assert found["Tags"]["team"] == "archive"
    assert current["LoggingConfig"]["LogFormat"] == "JSON"
    policy = client.get_function_event_invoke_config(FunctionName=deployed.function)
    assert policy["MaximumRetryAttempts"] == 0
    groups = account.client("logs").describe_log_groups(logGroupNamePrefix=deployed.log_group)
    assert groups["logGroups"][0]["retentionInDays"] == 7


def another(package: Path, folder: Path, text: str = "more") -> Path:
    """A package of the same files and one more."""
    other = folder / f"{text}.zip"
    other.write_bytes(package.read_bytes())
    with zipfile.ZipFile(other, "a") as archive:
        archive.writestr("more.txt", text)
    return other


def packages_in(account: Any, bucket: str) -> set[str]:
    """SHA-256 of the packages in a bucket, by their keys; other keys as they are."""
    listing = account.client("s3").list_objects_v2(Bucket=bucket, Prefix="hstmap-packages/")
    keys = [item["Key"].removeprefix("hstmap-packages/") for item in listing["Contents"]]
    return {key.removesuffix(".zip") for key in keys}


def sha256(package: Path) -> str:
    return hashlib.sha256(package.read_bytes()).hexdigest()


def test_new_code_is_put_in_the_place_of_old(account, session, deployed, small_package, tmp_path):
    other = another(small_package, tmp_path)
    foretold = actions(deploy(session, deployed, other, dry_run=True))
    assert (foretold["package"], foretold.get("packages")) == ("made", None)
    nowhere = replace(deployed, bucket="not-there-yet")
    assert actions(deploy(session, nowhere, other, dry_run=True))["bucket"] == "made"
    steps = actions(deploy(session, deployed, other))
    assert (steps["package"], steps["function"], steps["worker"]) == ("made", "changed", "checked")
    # Nothing runs the old one any more, and nobody pays for keeping it.
    assert steps["packages"] == "removed"
    assert packages_in(account, deployed.bucket) == {sha256(other)}


def test_packages_stay_that_a_function_has_or_that_are_none(
    account, session, deployed, small_package, tmp_path
):
    second = replace(deployed, function=f"{deployed.function}-second")
    newer, newest = (another(small_package, tmp_path, text) for text in ("newer", "newest"))
    note = "hstmap-packages/read-me.txt"
    account.client("s3").put_object(Bucket=deployed.bucket, Key=note, Body=b"mine")
    try:
        list(deploy(session, second, newer))
        assert packages_in(account, deployed.bucket) == {
            sha256(small_package), sha256(newer), "read-me.txt"
        }  # fmt: skip
        foretold = list(deploy(session, second, newest, dry_run=True))
        list(deploy(session, second, newest))
        again = list(deploy(session, second, newer, dry_run=True))
    finally:
        account.client("lambda").delete_function(FunctionName=second.function)
    assert packages_in(account, deployed.bucket) == {
        sha256(small_package), sha256(newest), "read-me.txt"
    }  # fmt: skip
    assert not [step for step in (*foretold, *again) if step.what == "packages"]
    # With the second function gone, its package is nobody's.
    (last,) = [s for s in deploy(session, deployed, small_package) if s.what == "packages"]
    assert last.detail.startswith("1 in s3://")
    assert packages_in(account, deployed.bucket) == {sha256(small_package), "read-me.txt"}


def test_a_package_of_another_version_is_refused(session, deployed, small_package, tmp_path):
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(small_package) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            text = old.read(name).decode()
            new.writestr(name, text.replace('__version__ = "', '__version__ = "1999.'))
    with pytest.raises(StaleRuntimeError, match="have 1999"):
        list(deploy(session, deployed, other))


def test_a_package_that_does_not_start_is_told_with_its_error(session, deployed, tmp_path):
    broken = tmp_path / "broken.zip"
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("hstmap/handler.py", "import no_such_library")
    with pytest.raises(EngineError, match="no_such_library"):
        list(deploy(session, deployed, broken))


def test_what_hstmap_did_not_make_stays(account, session, small_package, make_role, zip_of):
    settings = settings_for("foreign", role=make_role(account))
    account.client("s3").create_bucket(Bucket=settings.bucket)
    account.client("lambda").create_function(
        FunctionName="foreign", Role=settings.role, Runtime=settings.python, Handler="a.b",
        Code={"ZipFile": zip_of({"a.py": ""})},
    )  # fmt: skip
    steps = actions(undeploy(session, settings))
    assert (steps["function"], steps["role"], steps["bucket"]) == ("kept", "kept", "kept")
    assert "foreign" in inventory(account)["functions"]
    account.client("lambda").delete_function(FunctionName="foreign")


def test_results_are_not_removed(account, session, small_package):
    settings = settings_for("results")
    list(deploy(session, settings, small_package))
    account.client("s3").put_object(Bucket=settings.bucket, Key="run/sources.parquet", Body=b"x")
    last = list(undeploy(session, settings))[-1]
    assert last == Step(
        "bucket", "kept", f"{settings.bucket} has other objects in it, such as results"
    )
    listing = account.client("s3").list_objects_v2(Bucket=settings.bucket)
    assert [item["Key"] for item in listing["Contents"]] == ["run/sources.parquet"]


# -- the doctor ------------------------------------------------------------------------------------


@pytest.fixture
def diagnose(session: AwsSession) -> Callable[[AwsSettings], dict[str, Any]]:
    def look(settings: AwsSettings) -> dict[str, Any]:
        return {finding.subject: finding for finding in examine(session, settings)}

    return look


def test_all_is_well_after_a_deployment(diagnose, deployed):
    found = diagnose(deployed)
    assert {subject: finding.status for subject, finding in found.items()} == dict.fromkeys(
        ["credentials", "clock", "region", "bucket", "concurrency", "role", "function", "settings",
         "events", "logs", "leftovers"], "ok",
    )  # fmt: skip
    assert "10 at a time" in found["concurrency"].detail


def test_an_empty_account_is_told_to_deploy(diagnose):
    found = diagnose(settings_for("nothing"))
    assert found["function"].status == "fail"
    for subject in ("bucket", "role", "function", "logs"):
        assert "hstmap deploy" in found[subject].mend


@pytest.mark.parametrize(
    ("subject", "status", "changes"),
    [
        ("region", "warn", {"region": "eu-west-1"}),
        ("concurrency", "warn", {"max_workers": 5000}),
        ("role", "fail", {"role": "arn:aws:iam::123456789012:role/nobody"}),
        ("role", "warn", {"buckets": ("another",)}),
        ("settings", "warn", {"memory_mb": 2048}),
        ("function", "fail", {"architecture": "arm64"}),
    ],
)
def test_what_differs_is_found_with_its_mend(diagnose, deployed, subject, status, changes):
    finding = diagnose(replace(deployed, **changes))[subject]
    assert finding.status == status
    assert finding.mend


def test_the_doctor_finds_what_was_changed_behind_our_back(account, diagnose, deployed):
    client = account.client("lambda")
    client.put_function_event_invoke_config(FunctionName=deployed.function, MaximumRetryAttempts=2)
    client.tag_resource(Resource=deployed.function_arn, Tags={"hstmap-version": "0.0.1"})
    account.client("logs").delete_retention_policy(logGroupName=deployed.log_group)
    key = "lithops.jobs/e-0-M000/00000/x.init"
    account.client("s3").put_object(Bucket=deployed.bucket, Key=key, Body=b"")
    found = diagnose(deployed)
    assert (found["events"].status, found["logs"].status) == ("warn", "warn")
    assert found["function"].status == "fail"
    assert "0.0.1" in found["function"].detail
    assert found["leftovers"].status == "warn"
    assert "aws s3 rm" in found["leftovers"].mend


def test_a_bucket_elsewhere_is_found(account, diagnose, deployed):
    account.client("s3", region="eu-west-1").create_bucket(
        Bucket="far-away", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    finding = diagnose(replace(deployed, bucket="far-away"))["bucket"]
    assert finding.status == "fail"
    assert "same region" in finding.mend


# -- policies and settings -------------------------------------------------------------------------


POLICIES = (worker_policy, runner_policy, deployer_policy, pusher_policy)


@pytest.mark.parametrize("policy", POLICIES)
def test_policies_name_actions_that_aws_has(policy):
    loader = botocore.session.get_session()
    operations = {
        service: set(loader.get_service_model(service).operation_names)
        for service in ("ecr", "lambda", "iam", "logs", "s3")
    }
    # S3's rights are not named after its operations, and neither are these of the others.
    rights = {"s3:ListBucket", "s3:PutLifecycleConfiguration", "iam:PassRole"}
    rights |= {"lambda:InvokeFunction", "s3:PutBucketPublicAccessBlock"}
    for statement in policy(settings_for("p"))["Statement"]:
        for action in statement["Action"]:
            service, _, name = action.partition(":")
            assert action in rights or name in operations[service], action


def test_no_policy_lets_more_than_is_meant():
    settings = settings_for("p", buckets=("mine",))
    for policy in POLICIES:
        for statement in policy(settings)["Statement"]:
            assert not any("*" in action for action in statement["Action"])
            if statement["Resource"] == ["*"]:
                assert statement["Action"][0] in (
                    "ecr:GetAuthorizationToken", "lambda:GetAccountSettings",
                    "logs:DescribeLogGroups",
                )  # fmt: skip
    text = json.dumps(worker_policy(settings))
    assert "Delete" not in text
    assert "arn:aws:s3:::mine/*" in text


@pytest.mark.parametrize(
    ("section", "content", "words"),
    [
        ("aws", {"region": "us-east-1", "access_key_id": "A"}, "leave keys out"),
        ("aws", {}, "no region"),
        ("aws_lambda", {"region": "x", "runtime_memory": 64}, "128 to 10240"),
        ("aws_lambda", {"region": "x", "runtime_timeout": 901}, "1 to 900"),
        ("aws_lambda", {"region": "x", "runtime_memory": "much"}, "whole number"),
    ],
)
def test_settings_that_cannot_be_are_refused(section, content, words):
    with pytest.raises(UsageError, match=words):
        aws_settings({section: content}, "1")


def test_lithops_names_of_variables_and_tags_are_read():
    section = {
        "region": "eu-west-1", "env_vars": [{"name": "A", "value": 1}], "user_tags": {"t": 2},
        "execution_role": "arn:aws:iam::1:role/mine",
    }  # fmt: skip
    settings = aws_settings({"aws_lambda": section}, "1")
    assert (settings.environment, settings.tags) == ({"A": "1"}, {"t": "2"})
    assert (settings.role_name, settings.owns_role) == ("mine", False)
    assert settings.bucket == "hstmap-1-eu-west-1"


def test_python_3_11_is_refused_by_aws_itself_only():
    class Client:
        class meta:  # noqa: N801 - as boto3 has it
            endpoint_url = "https://lambda.us-east-1.amazonaws.com"

    class Settings:
        python = "python3.11"

    with pytest.raises(UsageError, match=r"glibc 2\.26"):
        check_python(Client(), Settings())
    Settings.python = "python3.12"
    check_python(Client(), Settings())
    Client.meta.endpoint_url, Settings.python = "http://127.0.0.1:1", "python3.11"
    check_python(Client(), Settings())


def test_the_commands_say_what_they_do(account, session, small_package, tmp_path, capsys):
    config = tmp_path / "aws.yaml"
    config.write_text(
        "aws: {region: us-east-1}\naws_lambda: {runtime: typed, max_workers: 10}\n"
        "aws_s3: {storage_bucket: typed-bucket}\n"
    )
    target = ["--config", str(config)]
    assert main(["doctor", *target]) == 1
    assert f"-> python -m hstmap deploy --config {config}\n" in capsys.readouterr().out
    assert main(["deploy", *target, "--package", str(small_package)]) == 0
    assert "function  made     typed, 1769 MB" in capsys.readouterr().out
    assert main(["doctor", *target]) == 0
    capsys.readouterr()
    assert main(["deploy", *target, "--policies"]) == 0
    assert json.loads(capsys.readouterr().out).keys() == {"worker", "runner", "deployer", "pusher"}
    assert main(["undeploy", *target]) == 0
    assert "function  removed  typed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("advice", "named"),
    [
        ("python -m hstmap deploy", "python -m hstmap deploy --config 'my aws.yaml'"),
        (
            "runtime/build --image --push, then python -m hstmap deploy --image",
            "runtime/build --image --push --config 'my aws.yaml', then "
            "python -m hstmap deploy --config 'my aws.yaml' --image",
        ),
        ("set region: us-east-1 under 'aws'", "set region: us-east-1 under 'aws'"),
        ("", ""),
    ],
)
def test_advice_names_the_configuration_that_was_given(advice, named):
    assert with_config(advice, "my aws.yaml") == named
    assert with_config(advice, None) == advice


def test_without_credentials_one_is_told_where_they_come_from(monkeypatch, tmp_path, capsys):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    config = tmp_path / "aws.yaml"
    config.write_text("aws: {region: us-east-1}\n")
    assert main(["doctor", "--config", str(config)]) == 2
    assert "aws configure" in capsys.readouterr().err


# -- what AWS says, in the user's words ------------------------------------------------------------


def test_a_profile_that_is_not_there_is_told(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    config = tmp_path / "aws.yaml"
    config.write_text("aws: {region: us-east-1}\n")
    assert main(["doctor", "--config", str(config)]) == 2
    said = capsys.readouterr().err
    assert "nobody" in said
    assert "unset it" in said


def test_a_region_that_does_not_exist_is_told_with_those_alike(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    config = tmp_path / "aws.yaml"
    config.write_text("aws: {region: us-esat-1}\n")
    assert main(["deploy", "--config", str(config)]) == 2
    said = capsys.readouterr().err
    assert "did you mean" in said
    assert "us-east-1" in said


def test_a_package_that_is_none_is_refused_before_anything_is_made(
    account, session, tmp_path, capsys
):
    before = inventory(account)
    config = tmp_path / "aws.yaml"
    config.write_text("aws: {region: us-east-1}\naws_lambda: {runtime: none}\n")
    for package in (config, tmp_path / "nothing.zip"):
        assert main(["deploy", "--config", str(config), "--package", str(package)]) == 2
        assert "is no zip file" in capsys.readouterr().err
    assert inventory(account) == before


def test_a_dry_run_ends_by_saying_so(session, small_package, tmp_path, capsys):
    config = tmp_path / "aws.yaml"
    config.write_text("aws: {region: us-east-1}\naws_lambda: {runtime: dry}\n")
    for words in (["deploy", "--package", str(small_package)], ["undeploy"]):
        assert main([*words, "--config", str(config), "--dry-run"]) == 0
        assert capsys.readouterr().out.endswith("dry run   nothing was changed\n")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "CreateRole"),
            "AccessDenied.*CreateRole.*--policies",
        ),
        (EndpointConnectionError(endpoint_url="https://x"), "cannot be used.*hstmap doctor"),
        (S3UploadFailedError("half way"), "half way"),
    ],
)
def test_what_aws_refuses_is_no_traceback(error, words):
    with pytest.raises(EngineError, match=words), aws_errors():
        raise error


def test_a_function_in_two_regions_has_two_roles():
    settings = [
        aws_settings({"aws": {"region": region}}, "1") for region in ("us-east-1", "eu-west-1")
    ]
    assert len({item.role for item in settings}) == 2
    assert all(item.owns_role for item in settings)
    with pytest.raises(UsageError, match="too long for the role"):
        aws_settings({"aws": {"region": "us-east-1", "runtime": "f" * 60}}, "1")


def test_logs_of_somebody_else_are_not_removed(account, session):
    settings = settings_for("talks")
    account.client("logs").create_log_group(logGroupName=settings.log_group)
    assert actions(undeploy(session, settings))["logs"] == "kept"
    assert settings.log_group in inventory(account)["groups"]
    account.client("logs").delete_log_group(logGroupName=settings.log_group)


# -- rights, as IAM simulates them -----------------------------------------------------------------


@pytest.fixture
def iam(session: AwsSession) -> Iterator[Stubber]:
    """IAM, by a script; it takes and gives only what the service's model allows."""
    with Stubber(session.client("iam")) as stubber:
        yield stubber


def script_role(iam: Stubber, settings: AwsSettings) -> None:
    role = {
        "Path": "/", "RoleName": settings.role_name, "RoleId": "A" * 20, "Arn": settings.role,
        "CreateDate": datetime(2026, 1, 1, tzinfo=UTC),
        "AssumeRolePolicyDocument": json.dumps(LAMBDA_TRUST),
    }  # fmt: skip
    iam.add_response("get_role", {"Role": role}, {"RoleName": settings.role_name})


def script_simulation(
    iam: Stubber, settings: AwsSettings, decision_of: Callable[[str], str]
) -> None:
    for statement in worker_policy(settings)["Statement"]:
        results = [
            {"EvalActionName": name, "EvalResourceName": "*", "EvalDecision": decision_of(name)}
            for name in statement["Action"]
        ]
        iam.add_response(
            "simulate_principal_policy",
            {"EvaluationResults": results, "IsTruncated": False},
            {
                "PolicySourceArn": settings.role,
                "ActionNames": statement["Action"],
                "ResourceArns": statement["Resource"],
            },
        )


def finding_of_role(iam: Stubber, settings: AwsSettings) -> Any:
    stand_in = SimpleNamespace(client={"iam": iam.client}.__getitem__)
    (finding,) = doctor._role(stand_in, settings)
    iam.assert_no_pending_responses()
    return finding


def test_a_role_that_may_do_all_is_well(iam):
    settings = settings_for("simulated", buckets=("mine",))
    script_role(iam, settings)
    script_simulation(iam, settings, lambda _: "allowed")
    finding = finding_of_role(iam, settings)
    assert (finding.status, finding.mend) == ("ok", "")
    assert "may do what it must" in finding.detail


@pytest.mark.parametrize("decision", ["implicitDeny", "explicitDeny"])
def test_what_a_role_may_not_do_is_named(iam, decision):
    settings = settings_for("simulated")
    denied = {"s3:PutObject", "logs:PutLogEvents"}
    script_role(iam, settings)
    script_simulation(iam, settings, lambda name: decision if name in denied else "allowed")
    finding = finding_of_role(iam, settings)
    assert finding.status == "fail"
    assert all(name in finding.detail for name in denied)
    assert "s3:GetObject" not in finding.detail
    assert finding.mend == "python -m hstmap deploy"
    other = replace(settings, role="arn:aws:iam::123456789012:role/another")
    script_role(iam, other)
    script_simulation(iam, other, lambda _: decision)
    assert "--policies" in finding_of_role(iam, other).mend


def test_who_may_not_simulate_has_the_policies_compared(iam):
    settings = settings_for("simulated")
    document = {"Version": "2012-10-17", "Statement": []}
    for content, status in ((document, "warn"), (worker_policy(settings), "ok")):
        script_role(iam, settings)
        iam.add_client_error("simulate_principal_policy", "AccessDenied", http_status_code=403)
        answer = {
            "RoleName": settings.role_name,
            "PolicyName": "hstmap-worker",
            "PolicyDocument": quote(json.dumps(content)),  # as IAM writes it
        }
        iam.add_response("get_role_policy", answer)
        assert finding_of_role(iam, settings).status == status
