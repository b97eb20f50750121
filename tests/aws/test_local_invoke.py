"""Invocations: answers, errors, cold and warm, time and memory limits, and what the log says."""

from __future__ import annotations

import base64
import json
import math
import time

import pytest
from botocore.exceptions import ClientError

from hstmap.aws.local import parse_report

COUNTER = """
import os, time
began = time.time()
n_calls = 0

def handler(event, context):
    global n_calls
    n_calls += 1
    return {"n_calls": n_calls, "pid": os.getpid(), "request_id": context.aws_request_id}
"""

TROUBLE = """
import os, sys, time

def handler(event, context):
    print("working on", event["do"])
    if event["do"] == "raise":
        raise ValueError("not like this")
    if event["do"] == "exit":
        os._exit(event["status"])
    if event["do"] == "sleep":
        time.sleep(event["seconds"])
    if event["do"] == "allocate":
        # In steps, as a real computation grows; every page is touched.
        blocks = [bytearray(b"x") * (16 << 20) for _ in range(event["mb"] // 16)]
        return sum(map(len, blocks)) >> 20
    if event["do"] == "answer":
        return "x" * event["nbytes"]
    return "fine"
"""


def tail_of(answer: dict) -> str:
    return base64.b64decode(answer["LogResult"]).decode()


def report_of(answer: dict):
    (report,) = filter(None, map(parse_report, tail_of(answer).splitlines(keepends=True)))
    return report


def log_events(local_aws, group: str) -> list[str]:
    local_aws.wait_until_idle()
    logs = local_aws.client("logs")
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
    return [event["message"] for page in pages for event in page["events"]]


def test_the_first_invocation_is_cold_and_the_next_ones_are_warm(deploy, runs_of):
    name = deploy(COUNTER)
    answers = [deploy.invoke(name)["Payload"] for _ in range(3)]
    assert [answer["n_calls"] for answer in answers] == [1, 2, 3]
    assert len({answer["request_id"] for answer in answers}) == 3
    runs = runs_of(name)
    assert [run.is_cold for run in runs] == [True, False, False]
    assert len({run.environment for run in runs}) == 1
    assert [run.report.request_id for run in runs] == [answer["request_id"] for answer in answers]


def test_init_is_reported_and_billed_once(deploy):
    name = deploy("import time\ntime.sleep(0.2)\n" + COUNTER)
    cold, warm = (report_of(deploy.invoke(name, LogType="Tail")) for _ in range(2))
    assert cold.init_duration_ms >= 200
    assert cold.billed_duration_ms == math.ceil(round(cold.duration_ms + cold.init_duration_ms, 2))
    assert warm.init_duration_ms is None
    assert warm.billed_duration_ms == math.ceil(warm.duration_ms)


def test_the_duration_is_the_handlers(deploy):
    name = deploy(TROUBLE)
    began = time.monotonic()
    answer = deploy.invoke(name, {"do": "sleep", "seconds": 0.15}, LogType="Tail")
    assert 150 <= report_of(answer).duration_ms <= (time.monotonic() - began) * 1000


def test_concurrent_invocations_have_environments_of_their_own(local_aws, deploy, runs_of):
    name = deploy(TROUBLE, MemorySize=128)
    for _ in range(3):
        deploy.send(name, {"do": "sleep", "seconds": 0.3})
    local_aws.wait_until_idle()
    runs = runs_of(name)
    assert len(runs) == 3
    overlapping = [
        (a, b) for a in runs for b in runs if a is not b and a.started_s < b.started_s < a.ended_s
    ]
    assert all(a.environment != b.environment for a, b in overlapping)


def test_the_tail_is_the_log_as_aws_writes_it(deploy):
    answer = deploy.invoke(deploy(TROUBLE), {"do": "nothing"}, LogType="Tail")
    lines = tail_of(answer).splitlines()
    assert [line.split()[0] for line in lines] == [
        "INIT_START",
        "START",
        "working",
        "END",
        "REPORT",
    ]
    assert (
        lines[1] == f"START RequestId: {answer['ResponseMetadata']['RequestId']} Version: $LATEST"
    )
    assert "LogResult" not in deploy.invoke(deploy(TROUBLE), {"do": "nothing"})


def test_the_tail_is_the_last_four_kilobytes(deploy):
    name = deploy("def handler(event, context):\n    print('x' * 100_000)\n")
    tail = base64.b64decode(deploy.invoke(name, LogType="Tail")["LogResult"])
    assert len(tail) == 4096
    assert tail.startswith(b"xxx")
    assert b"REPORT" in tail


def test_an_exception_is_the_functions_error_and_its_environment_lives_on(deploy, runs_of):
    name = deploy(TROUBLE)
    answer = deploy.invoke(name, {"do": "raise"}, LogType="Tail")
    assert answer["StatusCode"] == 200
    assert answer["FunctionError"] == "Unhandled"
    assert answer["Payload"]["errorType"] == "ValueError"
    assert answer["Payload"]["errorMessage"] == "not like this"
    assert "Traceback" in tail_of(answer)
    assert report_of(answer).status == "success"
    assert deploy.invoke(name, {"do": "nothing"})["Payload"] == "fine"
    assert [run.is_error for run in runs_of(name)] == [True, False]
    assert len({run.environment for run in runs_of(name)}) == 1


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (3, "Runtime exited with error: exit status 3"),
        (0, "Runtime exited without providing a reason"),
    ],
)
def test_an_exit_ends_the_environment(deploy, runs_of, status, message):
    name = deploy(TROUBLE)
    answer = deploy.invoke(name, {"do": "exit", "status": status}, LogType="Tail")
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert answer["FunctionError"] == "Unhandled"
    assert answer["Payload"] == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {request_id} Error: {message}",
    }
    assert (report_of(answer).status, report_of(answer).error_type) == (
        "error",
        "Runtime.ExitError",
    )
    assert f"RequestId: {request_id} Error: {message}\nRuntime.ExitError" in tail_of(answer)
    assert deploy.invoke(name, {"do": "nothing"})["Payload"] == "fine"
    assert [run.is_cold for run in runs_of(name)] == [True, True]


def test_a_time_out_is_billed_to_the_time_out_and_ends_the_environment(deploy, runs_of):
    name = deploy(TROUBLE, Timeout=1)
    answer = deploy.invoke(name, {"do": "sleep", "seconds": 60}, LogType="Tail")
    assert answer["FunctionError"] == "Unhandled"
    assert answer["Payload"]["errorType"] == "Sandbox.Timedout"
    assert "Task timed out after 1.00 seconds" in answer["Payload"]["errorMessage"]
    assert "Task timed out after 1.00 seconds" in tail_of(answer)
    report = report_of(answer)
    assert (report.status, report.duration_ms) == ("timeout", 1000.0)
    assert report.billed_duration_ms == 1000 + math.ceil(report.init_duration_ms)
    deploy.invoke(name, {"do": "nothing"})
    assert [run.is_cold for run in runs_of(name)] == [True, True]


def test_the_runtime_knows_its_deadline(deploy):
    name = deploy(
        "def handler(event, context):\n    return context.get_remaining_time_in_millis()\n",
        Timeout=7,
    )
    assert 5000 < deploy.invoke(name)["Payload"] <= 7000


def test_more_memory_than_configured_is_a_kill(deploy, runs_of):
    name = deploy(TROUBLE, MemorySize=512)
    answer = deploy.invoke(name, {"do": "allocate", "mb": 1024}, LogType="Tail")
    assert answer["Payload"]["errorType"] == "Runtime.OutOfMemory"
    assert "signal: killed" in answer["Payload"]["errorMessage"]
    report = report_of(answer)
    assert (report.status, report.error_type) == ("error", "Runtime.OutOfMemory")
    assert report.max_memory_used_mb == report.memory_size_mb == 512
    assert deploy.invoke(name, {"do": "allocate", "mb": 128})["Payload"] == 128


def test_the_memory_that_was_used_is_reported(deploy):
    name = deploy(TROUBLE, MemorySize=1024)
    report = report_of(deploy.invoke(name, {"do": "allocate", "mb": 256}, LogType="Tail"))
    assert 256 <= report.max_memory_used_mb < 320


@pytest.mark.parametrize(
    ("source", "error_type"),
    [
        ("import no_such_module\n", "Runtime.ImportModuleError"),
        ("def handler(:\n", "Runtime.UserCodeSyntaxError"),
        ("def other(event, context):\n    pass\n", "Runtime.HandlerNotFound"),
        ("import os\nos._exit(2)\n", "Runtime.ExitError"),
    ],
)
def test_an_init_that_fails_is_tried_twice_and_reported_as_aws_does(deploy, source, error_type):
    answer = deploy.invoke(deploy(source), LogType="Tail")
    assert answer["FunctionError"] == "Unhandled"
    assert answer["Payload"]["errorType"] == error_type
    tail = tail_of(answer)
    reports = [line.split("\t") for line in tail.splitlines() if line.startswith("INIT_REPORT")]
    assert [fields[1:] for fields in reports] == [
        [f"Phase: {phase}", "Status: error", f"Error Type: {error_type}"]
        for phase in ("init", "invoke")
    ]
    assert tail.rindex("INIT_REPORT") < tail.index("START RequestId")
    report = report_of(answer)
    # The second INIT is within the invocation; the first is not paid for, as AWS's lines have it.
    assert report.duration_ms >= float(reports[1][0].split()[3])
    assert report.init_duration_ms is None
    assert (report.status, report.error_type) == ("error", error_type)


def test_an_init_that_fails_once_runs_all_the_same(deploy):
    source = (
        "import os, pathlib, tempfile\n"
        "mark = pathlib.Path(tempfile.gettempdir(), 'tried')\n"
        "if not mark.exists():\n"
        "    mark.touch()\n"
        "    os._exit(1)\n"
        "def handler(event, context):\n"
        "    return 'ran'\n"
    )
    answer = deploy.invoke(deploy(source), LogType="Tail")
    assert answer["Payload"] == "ran"
    assert tail_of(answer).count("INIT_REPORT") == 1
    assert report_of(answer).status == "success"


def test_payloads_are_limited_as_on_aws(lambda_client, deploy):
    name = deploy(TROUBLE)
    large = {"do": "nothing", "x": "x" * (1 << 20)}
    assert deploy.invoke(name, large)["Payload"] == "fine"
    for event, kind in ((large, "Event"), ({"x": "x" * (6 << 20)}, "RequestResponse")):
        with pytest.raises(ClientError) as caught:
            deploy.invoke(name, event, InvocationType=kind)
        assert caught.value.response["Error"]["Code"] == "RequestTooLargeException"
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413
    answer = deploy.invoke(name, {"do": "answer", "nbytes": 6 << 20})
    assert answer["Payload"]["errorType"] == "Function.ResponseSizeTooLarge"
    with pytest.raises(ClientError, match="Could not parse request body into json"):
        lambda_client.invoke(FunctionName=name, Payload=b"{not json")


def test_a_dry_run_runs_nothing(deploy, runs_of):
    name = deploy(TROUBLE)
    assert deploy.invoke(name, InvocationType="DryRun")["StatusCode"] == 204
    assert runs_of(name) == []


def test_the_client_context_reaches_the_function(deploy):
    name = deploy("def handler(event, context):\n    return context.client_context.custom\n")
    context = base64.b64encode(json.dumps({"custom": {"a": "b"}}).encode()).decode()
    assert deploy.invoke(name, ClientContext=context)["Payload"] == {"a": "b"}


def test_the_environment_is_lambdas(deploy):
    name = deploy(
        "import os\ndef handler(event, context):\n    return dict(os.environ)\n",
        MemorySize=512,
        Environment={"Variables": {"MINE": "yes"}},
    )
    variables = deploy.invoke(name)["Payload"]
    expected = {
        "MINE": "yes",
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
        "AWS_REGION": "us-east-1",
        "_HANDLER": "main.handler",
        "TZ": ":UTC",
    }
    assert {n: variables.get(n) for n in expected} == expected
    assert "PYTEST_CURRENT_TEST" not in variables


def test_functions_reach_the_other_services_through_boto3(local_aws, deploy):
    source = (
        "import boto3\n"
        "def handler(event, context):\n"
        "    s3 = boto3.client('s3')\n"
        "    s3.create_bucket(Bucket=event)\n"
        "    s3.put_object(Bucket=event, Key='k', Body=b'from a function')\n"
        "    return boto3.client('sts').get_caller_identity()['Account']\n"
    )
    name = deploy(source, MemorySize=1769)
    bucket = f"bucket-of-{name}"
    assert deploy.invoke(name, bucket)["Payload"] == "123456789012"
    body = local_aws.client("s3").get_object(Bucket=bucket, Key="k")["Body"].read()
    assert body == b"from a function"


def test_the_log_group_holds_every_line_in_order_one_stream_an_environment(local_aws, deploy):
    name = deploy(TROUBLE)
    answers = [
        deploy.invoke(name, {"do": "exit" if i == 1 else "nothing", "status": 1}, LogType="Tail")
        for i in range(3)
    ]
    group = f"/aws/lambda/{name}"
    events = log_events(local_aws, group)
    assert "".join(events) == "".join(tail_of(answer) for answer in answers)
    streams = local_aws.client("logs").describe_log_streams(logGroupName=group)["logStreams"]
    assert len(streams) == 2
    reports = list(filter(None, map(parse_report, events)))
    assert sum(r.billed_duration_ms for r in reports) == sum(
        report_of(answer).billed_duration_ms for answer in answers
    )


def test_json_logs_are_json_from_the_runtime_and_from_lambda(local_aws, deploy):
    source = (
        "import logging\n"
        "def handler(event, context):\n"
        "    logging.getLogger().warning('look')\n"
        "    logging.getLogger().info('not at this level')\n"
    )
    name = deploy(
        source,
        LoggingConfig={
            "LogFormat": "JSON",
            "ApplicationLogLevel": "WARN",
            "SystemLogLevel": "DEBUG",
            "LogGroup": "/my/own/group",
        },
    )
    deploy.invoke(name)
    events = [json.loads(message) for message in log_events(local_aws, "/my/own/group")]
    assert [event.get("type", event.get("message")) for event in events] == [
        "platform.initStart",
        "platform.start",
        "look",
        "platform.runtimeDone",
        "platform.report",
    ]
    report = parse_report(json.dumps(events[-1]))
    assert report.billed_duration_ms == math.ceil(
        round(report.duration_ms + report.init_duration_ms, 2)
    )
