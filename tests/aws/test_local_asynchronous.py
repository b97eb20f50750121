"""Asynchronous events: accepted at once, run when there is room, retried as AWS retries them."""

from __future__ import annotations

import itertools

import pytest
from botocore.exceptions import ClientError

from hstmap.aws.local import Fault

FAILS = "def handler(event, context):\n    raise RuntimeError('always')\n"
WORKS = "def handler(event, context):\n    return event\n"
SLEEPS = "import time\ndef handler(event, context):\n    time.sleep(event)\n"
# Files of a private /tmp live as long as their environment.
FAILS_TWICE = """
import pathlib, tempfile
def handler(event, context):
    tries = pathlib.Path(tempfile.gettempdir(), context.aws_request_id)
    tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
    if len(tries.read_text()) < 3:
        raise RuntimeError("not yet")
"""


def test_an_event_is_answered_with_its_request_id_and_runs_under_it(local_aws, deploy, runs_of):
    name = deploy(WORKS)
    request_id = deploy.send(name, {"a": 1})
    local_aws.wait_until_idle()
    (run,) = runs_of(name)
    assert run.report.request_id == request_id
    assert not run.is_error


def test_a_failed_event_runs_three_times_under_one_request_id(local_aws, deploy, runs_of):
    name = deploy(FAILS)
    request_id = deploy.send(name)
    local_aws.wait_until_idle()
    runs = runs_of(name, request_id)
    assert [run.is_error for run in runs] == [True, True, True]
    assert [r.started_s for r in runs] == sorted(r.started_s for r in runs)
    (discarded,) = [e for e in local_aws.discarded_events if e.request_id == request_id]
    assert (discarded.function, discarded.reason) == (name, "the retries are exhausted")


def test_a_retry_that_works_is_the_last(local_aws, deploy, runs_of):
    name = deploy(FAILS_TWICE)
    request_id = deploy.send(name)
    local_aws.wait_until_idle()
    assert [run.is_error for run in runs_of(name, request_id)] == [True, True, False]
    assert request_id not in {event.request_id for event in local_aws.discarded_events}


@pytest.mark.parametrize("n_retries", [0, 1])
def test_the_retries_are_those_of_the_functions_settings(
    local_aws, lambda_client, deploy, runs_of, n_retries
):
    name = deploy(FAILS)
    lambda_client.put_function_event_invoke_config(
        FunctionName=name, MaximumRetryAttempts=n_retries
    )
    deploy.send(name)
    local_aws.wait_until_idle()
    assert len(runs_of(name)) == 1 + n_retries


def test_a_time_out_is_retried_too(local_aws, lambda_client, deploy, runs_of):
    name = deploy(SLEEPS, Timeout=1)
    lambda_client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=1)
    deploy.send(name, 30)
    local_aws.wait_until_idle()
    assert [run.report.status for run in runs_of(name)] == ["timeout", "timeout"]


def test_events_over_the_concurrency_wait_and_synchronous_calls_are_throttled(
    local_aws, lambda_client, deploy, runs_of
):
    name = deploy(SLEEPS, MemorySize=128)
    lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    for _ in range(3):
        deploy.send(name, 0.3)
    with pytest.raises(ClientError) as caught:
        deploy.invoke(name, 0)
    assert caught.value.response["Error"]["Code"] == "TooManyRequestsException"
    reason = caught.value.response["Reason"]
    assert reason == "ReservedFunctionConcurrentInvocationLimitExceeded"
    local_aws.wait_until_idle()
    runs = runs_of(name)
    assert len(runs) == 3
    assert all(a.ended_s <= b.started_s for a, b in itertools.pairwise(runs))


def test_the_accounts_concurrency_is_shared_by_all_functions(local_aws, deploy):
    busy = deploy(SLEEPS, MemorySize=128)
    other = deploy(WORKS, MemorySize=128)
    # Ten may run in this account; those that wait for the host's cores count as on AWS.
    for _ in range(12):
        deploy.send(busy, 0.2)
    with pytest.raises(ClientError) as caught:
        deploy.invoke(other)
    assert caught.value.response["Reason"] == "ConcurrentInvocationLimitExceeded"
    local_aws.wait_until_idle()
    assert deploy.invoke(other, 5)["Payload"] == 5


def test_events_of_a_deleted_function_are_discarded(local_aws, lambda_client, deploy, runs_of):
    name = deploy(SLEEPS, MemorySize=128)
    lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    request_ids = [deploy.send(name, 0.3) for _ in range(3)]
    lambda_client.delete_function(FunctionName=name)
    local_aws.wait_until_idle()
    discarded = {e.request_id: e.reason for e in local_aws.discarded_events if e.function == name}
    assert discarded == dict.fromkeys(request_ids[1:], "the function was deleted")


def test_a_duplicate_runs_twice_under_one_request_id(local_aws, deploy, runs_of):
    name = deploy(WORKS)
    local_aws.faults.add(Fault("duplicate", function=name))
    request_id = deploy.send(name)
    local_aws.wait_until_idle()
    assert len(runs_of(name, request_id)) == 2


def test_a_dropped_event_is_accepted_and_never_runs(local_aws, deploy, runs_of):
    name = deploy(WORKS)
    local_aws.faults.add(Fault("drop", function=name, n_skip=1))
    first, second, third = (deploy.send(name) for _ in range(3))
    local_aws.wait_until_idle()
    assert {run.report.request_id for run in runs_of(name)} == {first, third}
    assert second in {fired.request_id for fired in local_aws.faults.fired}


def test_waiting_for_events_that_go_on_for_longer_says_so(local_aws, deploy):
    name = deploy(SLEEPS)
    deploy.send(name, 1)
    with pytest.raises(TimeoutError, match="still busy"):
        local_aws.wait_until_idle(timeout_s=0.05)
    local_aws.wait_until_idle()
