"""The engine on Lambda: real calls, real packages, and whatever can go wrong on the way."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from hstmap.bag.engine import Attempt, EngineOptions, Stage, Task, make_engine
from hstmap.errors import EngineError, StaleRuntimeError


@pytest.fixture
def run(deployment: Any) -> Callable[..., dict[str, list[Attempt]]]:
    """Run tasks on the deployed function, and return the attempts by task."""

    def run_stage(
        function: Callable[[Any], Any], payloads: list[Any], **settings: Any
    ) -> dict[str, list[Attempt]]:
        options: dict[str, Any] = {
            "lithops_config": deployment.lithops_config,
            "start_timeout_s": 30.0,
            "timeout_s": 30.0,
        }
        tasks = [Task(str(n), payload) for n, payload in enumerate(payloads)]
        by_task: dict[str, list[Attempt]] = defaultdict(list)
        with make_engine("lithops", EngineOptions(**(options | settings))) as engine:
            for attempt in engine.run(Stage("test", function, tasks)):
                by_task[attempt.task_key].append(attempt)
        return by_task

    return run_stage


def double(number: int) -> tuple[int, int]:
    time.sleep(0.05)
    return 2 * number, os.getpid()


def values(done: dict[str, list[Attempt]]) -> list[Any]:
    """The values of tasks, each of which has exactly one final attempt."""
    finals = [[a for a in attempts if a.final] for attempts in done.values()]
    assert {len(of_task) for of_task in finals} == {1}
    assert [attempts[-1].status for attempts in done.values()] == ["ok"] * len(done)
    return [done[str(n)][-1].value for n in range(len(done))]


def test_calls_bring_their_values_and_are_told_cold_from_warm(run, deployment):
    n_before = len(deployment.runs())
    done = run(double, list(range(6)), n_workers=2)
    assert [value[0] for value in values(done)] == [2 * n for n in range(6)]
    deployment.aws.wait_until_idle()
    runs = deployment.runs()[n_before:]
    assert len(runs) == 6
    assert len({run.environment for run in runs}) < 6
    attempts = [attempt for of_task in done.values() for attempt in of_task]
    assert sum(attempt.worker.cold for attempt in attempts) == sum(run.is_cold for run in runs)
    reports = {run.report.request_id: run.report for run in runs}
    for attempt in attempts:
        report = reports[attempt.request_id]
        assert 50 <= attempt.handler_s * 1000 <= report.duration_ms
        assert (attempt.init_s is not None) == attempt.worker.cold
        assert attempt.init_s is None or 0 < attempt.init_s * 1000 <= report.init_duration_ms + 10


def test_reports_are_json_in_a_log_that_is_not_kept_for_ever(run, deployment):
    values(run(double, [1]))
    deployment.aws.wait_until_idle()
    client, group = deployment.aws.client("logs"), deployment.settings.log_group
    events = client.filter_log_events(logGroupName=group)["events"]
    lines = [json.loads(item["message"]) for item in events]
    reports = [line["record"] for line in lines if line.get("type") == "platform.report"]
    assert reports
    assert all(report["metrics"]["billedDurationMs"] > 0 for report in reports)
    assert any("lithops.jobs/" in str(line.get("message")) for line in lines)  # which call it was
    (found,) = client.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert found["retentionInDays"] == 30


def test_each_call_has_a_process_of_its_own_in_a_warm_environment(run):
    pids = [value[1] for value in values(run(double, [1, 2, 3], n_workers=1))]
    assert len(set(pids)) == 3


def test_what_is_large_goes_through_the_bucket(run):
    done = run(lambda data: data[::-1], [b"ab" * 500_000, b"xy"])
    assert values(done) == [b"ba" * 500_000, b"yx"]


def test_a_worker_has_only_what_it_needs(run):
    (modules,) = values(run(lambda _: sorted(sys.modules), [None]))
    top = {name.partition(".")[0] for name in modules}
    assert {"astropy", "numpy", "obstore", "sep", "arro3"} <= top
    assert not top & {"boto3", "botocore", "lithops", "pandas", "pyarrow", "matplotlib", "tqdm"}


def test_functions_of_the_test_travel_with_their_code_and_raise_their_own_errors(run):
    def fail(_: object) -> None:
        raise LookupError("not here")

    ((attempt,),) = run(fail, [None], retries=0).values()
    assert attempt.status == "error"
    assert isinstance(attempt.error.exception, LookupError)
    assert "in fail" in attempt.error.traceback_text


def misbehave(what: str) -> str:
    if what == "hang":
        time.sleep(3600)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "exit":
        os._exit(5)
    if what == "hoard":
        hoard = [bytes(64 * 1024 * 1024) for _ in range(64)]
        for chunk in hoard:
            sum(chunk[::4096])
        return "".join(str(bytearray(chunk)[:1]) for chunk in hoard)[:1]
    return what


def test_what_happens_to_its_process_is_told_at_once(run):
    done = run(misbehave, ["hang", "kill", "exit", "fine"], retries=0, timeout_s=4.0)
    assert [done[str(n)][0].status for n in range(4)] == ["timeout", "lost", "lost", "ok"]
    assert "want of memory" in done["1"][0].error.message
    assert "code 5" in done["2"][0].error.message


def test_more_memory_than_there_is_ends_the_call_and_the_environment_serves_on(run, deployment):
    if "memory" not in deployment.aws.isolation.description:
        pytest.skip("this machine does not hold functions to their memory")

    def fill(n_mb: int) -> int:
        chunks = [bytearray(os.urandom(1024) * 1024) for _ in range(n_mb)]
        return len(chunks)

    done = run(fill, [2500, 10], retries=0, n_workers=1)
    assert [done[key][0].status for key in ("0", "1")] == ["lost", "ok"]


def note_times(_: object) -> tuple[float, float]:
    begun = time.time()
    time.sleep(0.1)
    return begun, time.time()


def test_no_more_is_sent_than_the_account_allows(run, deployment):
    config = deployment.lithops_config
    config["aws_lambda"]["max_workers"] = 1000
    n_before = len(deployment.aws.request_log)
    done = run(note_times, [0] * 24, lithops_config=config)
    assert sum(len(attempts) for attempts in done.values()) == 24
    spans = values(done)
    n_at_once = max(sum(a <= begun < b for a, b in spans) for begun, _ in spans)
    assert n_at_once <= deployment.aws.options.concurrency == 10
    assert {request.status for request in deployment.aws.request_log[n_before:]} <= {200, 202}


def test_a_changed_memory_and_time_out_take_effect(run, deployment):
    config = deployment.lithops_config
    config["aws_lambda"] |= {"runtime_memory": 1024, "runtime_timeout": 50}
    (memory,) = values(
        run(lambda _: os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], [0], lithops_config=config)
    )
    assert memory == "1024"
    client = deployment.session.client("lambda")
    current = client.get_function_configuration(FunctionName="hstmap")
    assert (current["MemorySize"], current["Timeout"]) == (1024, 50)
    values(run(double, [1]))  # and back
    assert client.get_function_configuration(FunctionName="hstmap")["MemorySize"] == 1769


def test_an_old_function_is_refused_before_anything_is_sent(run, deployment):
    client = deployment.session.client("lambda")
    arn = deployment.settings.function_arn
    tags = client.list_tags(Resource=arn)["Tags"]
    client.tag_resource(Resource=arn, Tags={"hstmap-version": "0.0.9"})
    n_before = len(deployment.aws.invocation_log)
    try:
        with pytest.raises(EngineError, match=r"have 0\.0\.9: build and deploy") as caught:
            run(double, [1])
    finally:
        client.tag_resource(Resource=arn, Tags=tags)
    assert isinstance(caught.value.__cause__, StaleRuntimeError)
    assert len(deployment.aws.invocation_log) == n_before


def test_a_worker_refuses_a_client_of_another_version(run, monkeypatch):
    import hstmap
    from hstmap.aws import lambda_backend

    monkeypatch.setattr(lambda_backend, "check_versions", lambda *_: None)
    monkeypatch.setattr(hstmap, "__version__", "9.9.9")
    ((attempt,),) = run(double, [1], retries=2).values()
    assert attempt.status == "lost"
    assert "StaleRuntimeError" in attempt.error.message
    assert "runtime/build" in attempt.error.message


def test_a_function_that_is_not_there_is_told_with_the_command(run, deployment):
    config = deployment.lithops_config
    config["aws_lambda"]["runtime"] = "elsewhere"
    with pytest.raises(EngineError, match=r"no function 'elsewhere'.*hstmap deploy"):
        run(double, [1], lithops_config=config)


def test_without_a_bucket_in_the_configuration_that_of_the_deployment_is_used(run, deployment):
    config = deployment.lithops_config
    del config["aws_s3"]
    values(run(double, [1], lithops_config=config))
    buckets = deployment.aws.client("s3").list_buckets()["Buckets"]
    assert [b["Name"] for b in buckets if b["Name"].startswith(("lithops", "hstmap"))] == [
        deployment.settings.bucket
    ]


def test_keys_in_the_configuration_are_refused(run, deployment):
    config = deployment.lithops_config
    config["aws"]["secret_access_key"] = "x"
    with pytest.raises(EngineError, match="leave keys out"):
        run(double, [1], lithops_config=config)


def test_nothing_is_left_in_the_bucket(run, deployment):
    client = deployment.aws.client("s3")

    def keys() -> set[str]:
        listing = client.list_objects_v2(Bucket=deployment.settings.bucket, Prefix="lithops.")
        return {item["Key"] for item in listing.get("Contents", ())}

    # Faults of other tests may have left some: an event that runs twice can end after its run.
    before = keys()
    values(run(lambda data: data, [b"x" * 100_000, b"y"]))
    deployment.aws.wait_until_idle()
    assert keys() <= before


def test_events_bear_no_configuration_and_no_credentials(run, deployment, monkeypatch):
    from hstmap.aws.lambda_backend import LambdaBackend

    events = []
    send = LambdaBackend.invoke

    def spy(self: Any, name: str, memory: int, payload: dict[str, Any]) -> Any:
        client_invoke = self._client.invoke

        def record(**request: Any) -> Any:
            events.append(request["Payload"])
            return client_invoke(**request)

        monkeypatch.setattr(self._client, "invoke", record)
        return send(self, name, memory, payload)

    monkeypatch.setattr(LambdaBackend, "invoke", spy)
    values(run(double, [1], n_workers=1))
    (event,) = events
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in event
    assert "config" not in json.loads(event)["hstmap_call"]
    assert len(event) < 1000
