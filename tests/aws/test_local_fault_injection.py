"""Scripted faults on a running loopback AWS: what the client sees of each, and what is reported."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from hstmap.aws.local import Fault

STEPS = """
import time
def handler(event, context):
    for step in range(event["n_steps"]):
        print("step", step)
        time.sleep(0.05)
    return "done"
"""


def test_a_throttled_call_is_a_429_and_the_next_one_works(local_aws, deploy, runs_of):
    name = deploy(STEPS)
    local_aws.faults.add(Fault("throttle", function=name, n_times=2))
    for kind in ("RequestResponse", "Event"):
        with pytest.raises(ClientError) as caught:
            deploy.invoke(name, {"n_steps": 0}, InvocationType=kind)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
        assert caught.value.response["Reason"] == "ConcurrentInvocationLimitExceeded"
    assert deploy.invoke(name, {"n_steps": 0})["Payload"] == "done"
    assert len(runs_of(name)) == 1


def test_boto3s_own_retries_overcome_throttling(local_aws, deploy):
    from botocore.config import Config

    name = deploy(STEPS)
    local_aws.faults.add(Fault("throttle", function=name, n_times=2))
    import boto3

    patient = boto3.Session().client(
        "lambda",
        endpoint_url=local_aws.environment["AWS_ENDPOINT_URL_LAMBDA"],
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(proxies={}, retries={"mode": "standard", "max_attempts": 4}),
    )
    answer = patient.invoke(FunctionName=name, Payload=b'{"n_steps": 0}')
    assert answer["ResponseMetadata"]["RetryAttempts"] == 2


def test_an_environment_killed_before_init_is_an_error_of_the_invocation(
    local_aws, deploy, runs_of
):
    name = deploy(STEPS)
    local_aws.faults.add(Fault("kill-before-init", function=name))
    answer = deploy.invoke(name, {"n_steps": 0})
    assert answer["Payload"]["errorType"] == "Runtime.ExitError"
    assert "signal: killed" in answer["Payload"]["errorMessage"]
    assert deploy.invoke(name, {"n_steps": 0})["Payload"] == "done"
    assert [(run.is_cold, run.report.status) for run in runs_of(name)] == [
        (True, "error"),
        (True, "success"),
    ]


def test_an_event_killed_before_init_is_retried(local_aws, deploy, runs_of):
    name = deploy(STEPS)
    local_aws.faults.add(Fault("kill-before-init", function=name, n_times=2))
    deploy.send(name, {"n_steps": 0})
    local_aws.wait_until_idle()
    assert [run.is_error for run in runs_of(name)] == [True, True, False]


def test_an_environment_is_killed_at_a_line_of_its_log(local_aws, deploy):
    import base64

    name = deploy(STEPS)
    local_aws.faults.add(Fault("kill-midway", function=name, at_log="step 3"))
    answer = deploy.invoke(name, {"n_steps": 200}, LogType="Tail")
    assert answer["Payload"]["errorType"] == "Runtime.ExitError"
    tail = base64.b64decode(answer["LogResult"]).decode()
    assert "step 3\n" in tail
    assert "step 100\n" not in tail


def test_an_environment_is_killed_after_a_time(local_aws, deploy, runs_of):
    name = deploy(STEPS)
    local_aws.faults.add(Fault("kill-midway", function=name, delay_s=0.3))
    answer = deploy.invoke(name, {"n_steps": 300})
    assert answer["Payload"]["errorType"] == "Runtime.ExitError"
    (run,) = runs_of(name)
    assert 300 <= run.report.duration_ms < 300 * 50


FORKS = """
import multiprocessing, time
def handler(event, context):
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(event,))
    child.start()
    child.join()
    return child.exitcode
"""


def test_a_killed_call_leaves_its_environment(local_aws, deploy, runs_of):
    name = deploy(FORKS, MemorySize=1769)
    local_aws.faults.add(Fault("kill-call", function=name, delay_s=0.3))
    assert [deploy.invoke(name, seconds)["Payload"] for seconds in (60, 0)] == [-9, 0]
    killed, after = runs_of(name)
    assert (killed.is_cold, after.is_cold) == (True, False)
    assert killed.environment == after.environment
    assert 300 <= killed.report.duration_ms < 60_000


def test_where_nothing_is_forked_a_killed_call_is_a_killed_environment(local_aws, deploy, runs_of):
    name = deploy(STEPS)
    local_aws.faults.add(Fault("kill-call", function=name, delay_s=0.2))
    answer = deploy.invoke(name, {"n_steps": 400})
    assert answer["Payload"]["errorType"] == "Runtime.ExitError"
    assert deploy.invoke(name, {"n_steps": 0})["Payload"] == "done"
    assert [run.is_cold for run in runs_of(name)] == [True, True]


def test_an_answer_that_is_lost_leaves_its_work_done(local_aws, deploy, runs_of):
    source = (
        "import boto3\n"
        "def handler(event, context):\n"
        "    boto3.client('s3').create_bucket(Bucket=event)\n"
    )
    name = deploy(source, MemorySize=1769)
    local_aws.faults.add(Fault("kill-at-response", function=name))
    bucket = f"made-by-{name}"
    answer = deploy.invoke(name, bucket)
    assert answer["FunctionError"] == "Unhandled"
    assert answer["Payload"]["errorType"] == "Runtime.ExitError"
    local_aws.client("s3").head_bucket(Bucket=bucket)
    assert [run.report.status for run in runs_of(name)] == ["error"]


def test_a_slow_start_is_waited_for_and_not_billed(local_aws, deploy, runs_of):
    name = deploy(STEPS)
    local_aws.faults.add(Fault("slow-start", function=name, delay_s=1.0))
    deploy.invoke(name, {"n_steps": 0})
    deploy.invoke(name, {"n_steps": 0})
    cold, _ = runs_of(name)
    assert cold.ended_s - cold.started_s - cold.report.billed_duration_ms / 1000 >= 0.9


@pytest.mark.parametrize("seed", [1, 2])
def test_with_faults_of_all_kinds_at_random_every_event_is_accounted_for(
    local_aws, deploy, runs_of, seed
):
    name = deploy(STEPS, MemorySize=128)
    kinds = ("drop", "duplicate", "kill-before-init", "kill-midway", "kill-at-response")
    local_aws.faults.reseed(seed)
    local_aws.faults.add(
        Fault("throttle", function=name, n_times=None, probability=0.1),
        Fault("slow-start", function=name, n_times=None, probability=0.1, delay_s=0.05),
        *(Fault(kind, function=name, n_times=None, probability=0.15) for kind in kinds),
    )
    accepted, n_throttled = set(), 0
    for _ in range(50):
        try:
            accepted.add(deploy.send(name, {"n_steps": 1}))
        except ClientError:
            n_throttled += 1
    local_aws.wait_until_idle()

    fired = [f for f in local_aws.faults.fired if f.function == name]
    of_kind = {k: [f.request_id for f in fired if f.fault.kind == k] for k in (*kinds, "throttle")}
    assert all(of_kind.values()), "each kind happened"
    assert n_throttled == len(of_kind["throttle"])
    discarded = [e.request_id for e in local_aws.discarded_events if e.function == name]
    for request_id in accepted:
        runs = runs_of(name, request_id)
        if request_id in of_kind["drop"]:
            assert runs == []
            continue
        n_deliveries = 1 + of_kind["duplicate"].count(request_id)
        n_succeeded = sum(not run.is_error for run in runs)
        assert n_succeeded + discarded.count(request_id) == n_deliveries
        assert len(runs) <= 3 * n_deliveries
    n_killed = sum(len(of_kind[kind]) for kind in kinds if kind.startswith("kill"))
    assert sum(run.is_error for run in runs_of(name)) == n_killed
