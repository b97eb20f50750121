"""Function configurations: AWS's defaults, what an update changes, and what is refused."""

from __future__ import annotations

import pytest

from hstmap.aws.local.api_error import ApiError
from hstmap.aws.local.configuration import (
    RESERVED_VARIABLES,
    event_invoke_configuration,
    new_configuration,
    updated_configuration,
)

PREFIX = "arn:aws:lambda:us-east-1:123456789012:function:"
REQUEST = {
    "FunctionName": "f",
    "Role": "arn:aws:iam::123456789012:role/r",
    "Runtime": "python3.11",
    "Handler": "main.handler",
    "Code": {},
}


def test_the_defaults_are_awss():
    configuration = new_configuration(REQUEST, PREFIX)
    assert configuration["FunctionArn"] == f"{PREFIX}f"
    assert configuration["Timeout"] == 3
    assert configuration["MemorySize"] == 128
    assert configuration["Architectures"] == ["x86_64"]
    assert configuration["EphemeralStorage"] == {"Size": 512}
    assert configuration["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": "/aws/lambda/f"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"MemorySize": 127}, "MemorySize"),
        ({"MemorySize": 10241}, "MemorySize"),
        ({"Timeout": 0}, "Timeout"),
        ({"Timeout": 901}, "between 1 and 900"),
        ({"EphemeralStorage": {"Size": 511}}, "EphemeralStorage"),
        ({"Role": "admin"}, "no ARN"),
        ({"FunctionName": "a b"}, "does not match"),
        ({"Layers": ["arn"] * 6}, "more than 5 layers"),
        ({"Runtime": None}, "Runtime and Handler are mandatory"),
        ({"Environment": {"Variables": {"A": "x" * 4096}}}, "4096 bytes"),
        ({"VpcConfig": {"SubnetIds": ["subnet-1"]}}, "does not do VpcConfig"),
        ({"DurableConfig": {}}, "does not do DurableConfig"),
        ({"LoggingConfig": {"SystemLogLevel": "WARN"}}, "only supported with the JSON"),
    ],
)
def test_what_aws_or_the_loopback_refuses_is_refused(change, words):
    with pytest.raises(ApiError, match=words) as caught:
        new_configuration({**REQUEST, **change}, PREFIX)
    assert caught.value.status == 400


@pytest.mark.parametrize("name", sorted(RESERVED_VARIABLES))
def test_reserved_variables_are_refused_by_name(name):
    request = {**REQUEST, "Environment": {"Variables": {name: "1", "MINE": "2"}}}
    with pytest.raises(ApiError, match=f"reserved keys.*request: {name}$"):
        new_configuration(request, PREFIX)


def test_an_update_changes_what_it_names_and_the_revision():
    before = new_configuration(REQUEST, PREFIX)
    after = updated_configuration(before, {"Timeout": 60})
    changed = {name for name in after if after[name] != before[name]}
    assert changed - {"LastModified"} == {"Timeout", "RevisionId"}
    assert before["Timeout"] == 3


def test_an_update_of_an_old_revision_is_refused():
    before = new_configuration(REQUEST, PREFIX)
    after = updated_configuration(before, {"RevisionId": before["RevisionId"], "Timeout": 9})
    with pytest.raises(ApiError, match="Revision Id") as caught:
        updated_configuration(after, {"RevisionId": before["RevisionId"]})
    assert caught.value.status == 412


def test_json_logs_have_levels_and_text_logs_have_none():
    json_logs = new_configuration(
        {**REQUEST, "LoggingConfig": {"LogFormat": "JSON", "SystemLogLevel": "WARN"}}, PREFIX
    )
    assert json_logs["LoggingConfig"] == {
        "LogFormat": "JSON",
        "LogGroup": "/aws/lambda/f",
        "SystemLogLevel": "WARN",
        "ApplicationLogLevel": "INFO",
    }
    text_logs = updated_configuration(json_logs, {"LoggingConfig": {"LogFormat": "Text"}})
    assert set(text_logs["LoggingConfig"]) == {"LogFormat", "LogGroup"}


def test_event_settings_are_put_anew_and_updated_in_part():
    first = event_invoke_configuration(None, {"MaximumRetryAttempts": 0}, "arn")
    second = event_invoke_configuration(first, {"MaximumEventAgeInSeconds": 60}, "arn")
    assert (second["MaximumRetryAttempts"], second["MaximumEventAgeInSeconds"]) == (0, 60)
    third = event_invoke_configuration(None, {"MaximumEventAgeInSeconds": 60}, "arn")
    assert "MaximumRetryAttempts" not in third


@pytest.mark.parametrize(
    "request_body",
    [
        {"MaximumRetryAttempts": 3},
        {"MaximumEventAgeInSeconds": 59},
        {"DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sqs:..."}}},
    ],
)
def test_event_settings_out_of_range_are_refused(request_body):
    with pytest.raises(ApiError):
        event_invoke_configuration(None, request_body, "arn")
