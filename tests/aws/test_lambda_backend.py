"""What is sent to Lambda, how often, and when not any more; every answer is botocore's model's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import ANY, Stubber

from hstmap.aws import lambda_backend
from hstmap.aws.lambda_backend import LambdaBackend, load_config
from hstmap.errors import UsageError

CALL = ("executor", "A000", "00000")


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> LambdaBackend:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    config = {"region": "us-east-1", "runtime": "hstmap"}
    return LambdaBackend(config, SimpleNamespace(bucket="bucket"))


@pytest.fixture
def aws(backend: LambdaBackend) -> Iterator[Stubber]:
    """Lambda, by a script: what is asked for beyond it is an error."""
    with Stubber(backend._client) as stubber:
        yield stubber


@pytest.fixture
def pauses(backend: LambdaBackend, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The longest that each pause may be; nobody waits."""
    noted: list[float] = []

    def draw(least: float, most: float) -> float:
        assert least == 0.0  # full jitter
        noted.append(most)
        return 0.0

    monkeypatch.setattr(lambda_backend.random, "uniform", draw)
    return noted


def payload(call: tuple[str, str, str] = CALL) -> dict[str, Any]:
    executor, job, number = call
    return {
        "extra_env": {}, "executor_id": executor, "job_id": job, "call_ids": [number],
        "config": {"aws": {"secret_access_key": "hidden"}},
    }  # fmt: skip


def accepted(request_id: str) -> dict[str, Any]:
    return {"StatusCode": 202, "ResponseMetadata": {"RequestId": request_id}}


def throttled(aws: Stubber, n_times: int) -> None:
    for _ in range(n_times):
        aws.add_client_error(
            "invoke", "TooManyRequestsException", "Rate Exceeded.", http_status_code=429
        )


def test_an_event_is_sent_once_and_its_request_is_kept(backend, aws, pauses):
    aws.add_response(
        "invoke",
        accepted("r-1"),
        {"FunctionName": "hstmap", "InvocationType": "Event", "Payload": ANY},
    )
    assert backend.invoke("hstmap", 1769, payload()) == "r-1"
    assert backend.request_ids == {CALL: "r-1"}
    assert pauses == [0.0]
    aws.assert_no_pending_responses()


def test_what_is_throttled_is_sent_again_after_pauses_that_grow(backend, aws, pauses):
    throttled(aws, 3)
    aws.add_response("invoke", accepted("r-2"))
    assert backend.invoke("hstmap", 1769, payload()) == "r-2"
    assert pauses == [0.0, 1.0, 2.0, 4.0]
    assert backend.refusal is None


def test_lithops_is_to_queue_what_finds_no_room(backend, aws, pauses):
    throttled(aws, 6)
    assert backend.invoke("hstmap", 1769, payload()) is None
    assert pauses == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0]
    assert backend.request_ids == {}
    aws.assert_no_pending_responses()


def test_a_call_that_was_given_up_is_not_sent_and_not_queued(backend, aws):
    backend.withdraw([CALL])
    assert backend.invoke("hstmap", 1769, payload()) == "not sent"  # anything that is not None
    aws.add_response("invoke", accepted("r-3"))
    assert backend.invoke("hstmap", 1769, payload((*CALL[:2], "00001"))) == "r-3"


def test_a_call_that_is_given_up_while_it_waits_is_not_sent(backend, aws, monkeypatch):
    throttled(aws, 1)

    def draw(_least: float, most: float) -> float:
        if most:
            backend.withdraw([CALL])
        return 0.0

    monkeypatch.setattr(lambda_backend.random, "uniform", draw)
    assert backend.invoke("hstmap", 1769, payload()) == "not sent"
    aws.assert_no_pending_responses()


def test_the_end_of_a_run_ends_the_waiting(backend, aws, monkeypatch):
    throttled(aws, 1)
    waits = threading.Event()

    def draw(_least: float, most: float) -> float:
        if most:
            waits.set()
        return 600.0 if most else 0.0

    monkeypatch.setattr(lambda_backend.random, "uniform", draw)
    told: list[object] = []
    sender = threading.Thread(target=lambda: told.append(backend.invoke("f", 1, payload())))
    sender.start()
    assert waits.wait(10)
    backend.end()
    sender.join(10)
    assert told == ["not sent"]


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException"])
def test_a_refusal_is_kept_for_whoever_looks(backend, aws, code):
    aws.add_client_error("invoke", code, "no", http_status_code=403)
    with pytest.raises(Exception, match=code):
        backend.invoke("hstmap", 1769, payload())
    assert code in str(backend.refusal)


def test_failures_of_the_service_are_waited_out(backend, aws, pauses):
    for _ in range(2):
        aws.add_client_error("invoke", "ServiceException", "oops", http_status_code=500)
    aws.add_response("invoke", accepted("r-4"))
    assert backend.invoke("hstmap", 1769, payload()) == "r-4"
    assert backend.refusal is None


def test_a_network_that_is_gone_is_told_in_the_end(backend, pauses, monkeypatch):
    def refuse(**_request: object) -> None:
        raise EndpointConnectionError(endpoint_url="https://lambda")

    monkeypatch.setattr(backend._client, "invoke", refuse)
    with pytest.raises(EndpointConnectionError):
        backend.invoke("hstmap", 1769, payload())
    assert len(pauses) == 6
    assert isinstance(backend.refusal, EndpointConnectionError)


def test_no_secret_is_in_what_is_sent(backend, aws, monkeypatch):
    sent = []
    monkeypatch.setattr(backend, "_send", lambda _name, event, **_: sent.append(event) or "r")
    backend.invoke("hstmap", 1769, payload())
    assert "hidden" not in json.dumps(sent)


def test_the_section_is_completed_with_the_settings():
    config = {
        "own": {"runtime": "mine"},
        "aws": {"region": "eu-west-1"},
        "aws_s3": {"storage_bucket": "b"},
    }
    load_config(config, "own")
    assert config["own"]["region"] == "eu-west-1"
    assert config["own"]["runtime_memory"] == 1769
    assert config["own"]["worker_processes"] == 1
    with pytest.raises(UsageError, match="no region"):
        load_config({"own": {}}, "own")
