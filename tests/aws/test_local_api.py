"""The Lambda API by boto3: what is created, shown, changed, listed, deleted and refused.

Every answer is held against AWS's service model by the client's fixture.
"""

from __future__ import annotations

import hashlib
import io
import json
import urllib.error
import urllib.request
import uuid
import zipfile

import pytest
from botocore.exceptions import ClientError

from hstmap.aws.local.runtime_folder import HOST_RUNTIME

ECHO = "def handler(event, context):\n    return event\n"


def error_of(caught: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_a_function_from_its_creation_to_its_end(lambda_client, deploy):
    name = deploy(ECHO, Description="echo", MemorySize=512, Timeout=7)
    lambda_client.get_waiter("function_active_v2").wait(FunctionName=name)
    shown = lambda_client.get_function(FunctionName=name)
    configuration = shown["Configuration"]
    assert configuration["Description"] == "echo"
    assert (configuration["MemorySize"], configuration["Timeout"]) == (512, 7)
    assert configuration["State"] == "Active"
    assert (
        lambda_client.get_function_configuration(FunctionName=name)["CodeSha256"]
        == (configuration["CodeSha256"])
    )
    assert deploy.invoke(name, {"a": 1})["Payload"] == {"a": 1}
    lambda_client.delete_function(FunctionName=name)
    with pytest.raises(ClientError) as caught:
        lambda_client.get_function(FunctionName=name)
    assert error_of(caught) == (404, "ResourceNotFoundException")


def test_creation_is_pending_and_an_update_in_progress_at_first(lambda_client, role_arn, zip_of):
    name = f"function-{uuid.uuid4().hex[:8]}"
    created = lambda_client.create_function(
        FunctionName=name,
        Role=role_arn,
        Runtime=HOST_RUNTIME,
        Handler="main.handler",
        Code={"ZipFile": zip_of({"main.py": ECHO})},
    )
    assert created["State"] == "Pending"
    updated = lambda_client.update_function_configuration(FunctionName=name, Timeout=9)
    assert updated["LastUpdateStatus"] == "InProgress"
    lambda_client.get_waiter("function_updated_v2").wait(FunctionName=name)
    lambda_client.delete_function(FunctionName=name)


def test_the_code_can_be_fetched_again(lambda_client, deploy):
    name = deploy(ECHO)
    location = lambda_client.get_function(FunctionName=name)["Code"]["Location"]
    with (
        urllib.request.urlopen(location) as answer,
        zipfile.ZipFile(io.BytesIO(answer.read())) as archive,
    ):
        assert archive.read("main.py").decode() == ECHO


def test_code_comes_from_s3_and_missing_objects_are_said_to_be_missing(
    local_aws, lambda_client, deploy, zip_of
):
    s3 = local_aws.client("s3")
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="code.zip", Body=zip_of({"main.py": ECHO}))
    name = deploy("", Code={"S3Bucket": bucket, "S3Key": "code.zip"})
    assert deploy.invoke(name, [1, 2])["Payload"] == [1, 2]
    with pytest.raises(ClientError, match="NoSuchKey"):
        deploy("", Code={"S3Bucket": bucket, "S3Key": "other.zip"})


def test_an_update_of_the_code_is_what_runs_next(lambda_client, deploy, zip_of):
    name = deploy(ECHO)
    deploy.invoke(name)
    code = zip_of({"main.py": "def handler(event, context):\n    return 'new'\n"})
    updated = lambda_client.update_function_code(FunctionName=name, ZipFile=code)
    assert updated["CodeSize"] == len(code)
    assert deploy.invoke(name)["Payload"] == "new"


def test_an_update_of_the_configuration_is_what_runs_next(lambda_client, deploy):
    name = deploy("import os\ndef handler(event, context):\n    return os.environ['COLOUR']\n")
    for colour in ("red", "blue"):
        lambda_client.update_function_configuration(
            FunctionName=name, Environment={"Variables": {"COLOUR": colour}}
        )
        assert deploy.invoke(name)["Payload"] == colour


def test_functions_have_arns_and_architectures_and_log_formats(lambda_client, deploy):
    name = deploy(
        ECHO,
        Architectures=["arm64"],
        LoggingConfig={"LogFormat": "JSON"},
        EphemeralStorage={"Size": 1024},
    )
    arn = f"arn:aws:lambda:us-east-1:123456789012:function:{name}"
    shown = lambda_client.get_function_configuration(FunctionName=arn)
    assert shown["FunctionArn"] == arn
    assert shown["Architectures"] == ["arm64"]
    assert shown["LoggingConfig"]["LogFormat"] == "JSON"
    assert shown["EphemeralStorage"] == {"Size": 1024}
    assert deploy.invoke(f"{arn}:$LATEST", 7)["Payload"] == 7


def test_a_name_is_taken_once(lambda_client, deploy, role_arn, zip_of):
    name = deploy(ECHO)
    with pytest.raises(ClientError) as caught:
        deploy(ECHO, FunctionName=name)
    assert error_of(caught) == (409, "ResourceConflictException")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"Runtime": "python3.9"}, f"{HOST_RUNTIME}, not python3.9"),
        ({"Role": "arn:aws:iam::123456789012:role/nobody"}, "cannot be assumed by Lambda"),
        ({"Code": {"ZipFile": b"not a zip"}}, "Could not unzip"),
        ({"Layers": ["arn:aws:lambda:us-east-1:123456789012:layer:no:1"]}, "does not exist"),
        ({"MemorySize": 10241}, "between 128 and 10240"),
    ],
)
def test_functions_that_aws_would_not_create_are_refused(deploy, settings, words):
    with pytest.raises(ClientError, match=words) as caught:
        deploy(ECHO, **settings)
    assert error_of(caught)[0] == 400


def test_a_role_that_does_not_trust_lambda_is_refused(local_aws, deploy):
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}}]}
    role = local_aws.client("iam").create_role(
        RoleName=f"role-{uuid.uuid4().hex[:8]}", AssumeRolePolicyDocument=json.dumps(trust)
    )
    with pytest.raises(ClientError, match="cannot be assumed by Lambda"):
        deploy(ECHO, Role=role["Role"]["Arn"])


def test_lists_come_in_pages(lambda_client, deploy):
    names = {deploy(ECHO) for _ in range(5)}
    pages = list(
        lambda_client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2})
    )
    assert all(len(page["Functions"]) <= 2 for page in pages)
    assert names <= {function["FunctionName"] for page in pages for function in page["Functions"]}


def test_functions_of_one_region_are_not_in_another(local_aws, deploy):
    name = deploy(ECHO)
    elsewhere = local_aws.client("lambda", region="eu-west-1")
    assert elsewhere.list_functions()["Functions"] == []
    with pytest.raises(ClientError, match="eu-west-1"):
        elsewhere.get_function(FunctionName=name)


def test_tags_are_set_listed_and_removed(lambda_client, deploy):
    name = deploy(ECHO, Tags={"project": "hstmap", "owner": "me"})
    arn = lambda_client.get_function(FunctionName=name)["Configuration"]["FunctionArn"]
    lambda_client.tag_resource(Resource=arn, Tags={"owner": "you", "stage": "test"})
    lambda_client.untag_resource(Resource=arn, TagKeys=["project", "no such tag"])
    expected = {"owner": "you", "stage": "test"}
    assert lambda_client.list_tags(Resource=arn)["Tags"] == expected
    assert lambda_client.get_function(FunctionName=name)["Tags"] == expected


def test_settings_of_asynchronous_invocation(lambda_client, deploy):
    name = deploy(ECHO)
    with pytest.raises(ClientError) as caught:
        lambda_client.get_function_event_invoke_config(FunctionName=name)
    assert error_of(caught) == (404, "ResourceNotFoundException")
    lambda_client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    lambda_client.update_function_event_invoke_config(
        FunctionName=name, MaximumEventAgeInSeconds=120
    )
    shown = lambda_client.get_function_event_invoke_config(FunctionName=name)
    assert (shown["MaximumRetryAttempts"], shown["MaximumEventAgeInSeconds"]) == (0, 120)
    lambda_client.delete_function_event_invoke_config(FunctionName=name)
    with pytest.raises(ClientError):
        lambda_client.get_function_event_invoke_config(FunctionName=name)


def test_reserved_concurrency_is_taken_from_the_account(lambda_client, deploy):
    name = deploy(ECHO)
    assert lambda_client.get_account_settings()["AccountLimit"]["ConcurrentExecutions"] == 10
    lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=4)
    limits = lambda_client.get_account_settings()["AccountLimit"]
    assert limits["UnreservedConcurrentExecutions"] == 6
    shown = lambda_client.get_function_concurrency(FunctionName=name)
    assert shown["ReservedConcurrentExecutions"] == 4
    with pytest.raises(ClientError, match="unreserved concurrency of 10"):
        lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=11)
    lambda_client.delete_function_concurrency(FunctionName=name)
    assert "ReservedConcurrentExecutions" not in lambda_client.get_function_concurrency(
        FunctionName=name
    )


def test_layers_are_numbered_listed_and_lie_over_each_other_in_opt(lambda_client, deploy, zip_of):
    layer = f"layer-{uuid.uuid4().hex[:8]}"
    arns = []
    for text in ("lower", "upper"):
        published = lambda_client.publish_layer_version(
            LayerName=layer,
            Description=text,
            Content={"ZipFile": zip_of({"python/shared.py": f"TEXT = {text!r}\n"})},
            CompatibleRuntimes=[HOST_RUNTIME],
        )
        arns.append(published["LayerVersionArn"])
    assert [arn.rpartition(":")[2] for arn in arns] == ["1", "2"]
    versions = lambda_client.list_layer_versions(LayerName=layer)["LayerVersions"]
    assert [version["Version"] for version in versions] == [2, 1]
    (listed,) = [x for x in lambda_client.list_layers()["Layers"] if x["LayerName"] == layer]
    assert listed["LatestMatchingVersion"]["LayerVersionArn"] == arns[1]
    detail = lambda_client.get_layer_version(LayerName=layer, VersionNumber=1)
    assert detail["Description"] == "lower"

    code = "import shared\ndef handler(event, context):\n    return shared.TEXT\n"
    name = deploy(code, Layers=arns)
    assert deploy.invoke(name)["Payload"] == "upper"
    lambda_client.update_function_configuration(FunctionName=name, Layers=arns[:1])
    assert deploy.invoke(name)["Payload"] == "lower"

    for version in (1, 2):
        lambda_client.delete_layer_version(LayerName=layer, VersionNumber=version)
    assert lambda_client.list_layer_versions(LayerName=layer)["LayerVersions"] == []
    assert deploy.invoke(name)["Payload"] == "lower"  # who has a layer keeps it
    with pytest.raises(ClientError) as caught:
        lambda_client.get_layer_version(LayerName=layer, VersionNumber=1)
    assert error_of(caught) == (404, "ResourceNotFoundException")
    again = lambda_client.publish_layer_version(
        LayerName=layer, Content={"ZipFile": zip_of({"a": ""})}
    )
    assert again["Version"] == 3


def test_unknown_operations_and_unsigned_requests_are_refused(local_aws, lambda_client):
    with pytest.raises(ClientError, match="does not do GET"):
        lambda_client.list_event_source_mappings()
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{lambda_client.meta.endpoint_url}/2015-03-31/functions")
    assert caught.value.code == 403


def test_every_request_is_in_the_request_log(local_aws, lambda_client, deploy):
    before = len(local_aws.request_log)
    name = deploy(ECHO)
    request_id = deploy.send(name)
    with pytest.raises(ClientError):
        lambda_client.get_function(FunctionName="no-such-function")
    records = local_aws.request_log[before:]
    assert [(r.operation, r.resource, r.status, r.error) for r in records] == [
        ("CreateFunction", "", 201, ""),
        ("Invoke", name, 202, ""),
        ("GetFunction", "no-such-function", 404, "ResourceNotFoundException"),
    ]
    assert records[1].request_id == request_id


def test_requests_to_the_other_services_are_counted(local_aws):
    s3 = local_aws.client("s3")
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    before = len(local_aws.service_log)
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    s3.get_object(Bucket=bucket, Key="k")["Body"].read()
    records = [r for r in local_aws.service_log[before:] if r.service == "s3"]
    assert [(r.method, r.path, r.status) for r in records] == [
        ("PUT", f"/{bucket}", 200),
        ("PUT", f"/{bucket}/k", 200),
        ("GET", f"/{bucket}/k", 200),
    ]


def test_the_digest_of_the_code_is_that_of_the_archive(lambda_client, deploy, zip_of):
    import base64

    code = zip_of({"main.py": ECHO})
    name = deploy("", Code={"ZipFile": code})
    shown = lambda_client.get_function_configuration(FunctionName=name)["CodeSha256"]
    assert base64.b64decode(shown) == hashlib.sha256(code).digest()
