"""Reading a function's log: page by page, through throttling, or what is said if it cannot be."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from hstmap.aws.cloudwatch import FunctionLog, log_client
from hstmap.errors import MissingObjectError, UsageError
from support.gate import LOSE, Fate, Gate

N_EVENTS = 25


def is_reading(_path: str, target: str) -> bool:
    return target.endswith(".FilterLogEvents")


@pytest.fixture
def gate(local_aws: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """The way to the loopback AWS's logs, for this process."""
    for name, value in local_aws.environment.items():
        monkeypatch.setenv(name, value)
    # Nobody needs to wait for the pauses between attempts.
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _seconds: None))
    variable = "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS"
    with Gate(local_aws.environment[variable], concerns=is_reading) as gate:
        monkeypatch.setenv(variable, gate.url)
        yield gate


@pytest.fixture
def write_log(local_aws: Any) -> Callable[..., tuple[str, int]]:
    """Writes a function's log of a line a second, in two streams; returns its name and time."""

    def write(n_events: int = N_EVENTS) -> tuple[str, int]:
        client, function = local_aws.client("logs"), f"function-{uuid.uuid4().hex[:8]}"
        group, since_ms = f"/aws/lambda/{function}", int(time.time() - 3600) * 1000
        client.create_log_group(logGroupName=group)
        for stream in range(2):
            client.create_log_stream(logGroupName=group, logStreamName=f"stream {stream}")
            events = [
                {"timestamp": since_ms + 1000 * n, "message": f"line {n}"}
                for n in range(stream, n_events, 2)
            ]
            client.put_log_events(
                logGroupName=group, logStreamName=f"stream {stream}", logEvents=events
            )
        return function, since_ms // 1000

    return write


@pytest.mark.parametrize("page_size", [1, 7, N_EVENTS - 1, N_EVENTS, 10_000])
def test_all_pages_are_read(gate, write_log, page_size):
    function, since_s = write_log()
    log = FunctionLog(log_client("us-east-1"), function, page_size)
    log.read(since_s - 10, since_s + 3600)
    times_s = [event.timestamp_ms / 1000 - since_s for event in log.events()]
    assert times_s == list(range(N_EVENTS))
    assert {event.stream for event in log.events()} == {"stream 0", "stream 1"}
    assert gate.n_requests == -(-N_EVENTS // page_size)


def test_what_is_read_again_is_there_once(gate, write_log):
    function, since_s = write_log()
    log = FunctionLog(log_client("us-east-1"), function, 10)
    log.read(since_s + 5, since_s + 9)
    assert len(log.events()) == 5
    log.read(since_s + 7, since_s + 12)
    log.read(since_s, since_s + 6)
    assert len(log.events()) == 13
    assert sum(event.nbytes for event in log.events()) == 13 * 26 + sum(
        len(f"line {n}") for n in range(13)
    )
    assert gate.n_requests == 3


@pytest.mark.parametrize(
    "fates",
    [
        [(400, "ThrottlingException")] * 3,
        ["pass", (400, "ThrottlingException"), "pass", (500, "ServiceUnavailableException")],
        [LOSE, (400, "ThrottlingException")],
    ],
    ids=["throttled", "between pages", "answers lost"],
)
def test_throttling_and_failures_of_the_service_are_outlasted(gate, write_log, fates):
    function, since_s = write_log()
    gate.fates += fates
    n_fates = sum(fate != "pass" for fate in fates)
    log = FunctionLog(log_client("us-east-1"), function, 10)
    log.read(since_s - 10, since_s + 3600)
    assert len(log.events()) == N_EVENTS
    assert gate.n_requests == 3 + n_fates


def test_a_log_that_is_not_there_is_told(gate):
    log = FunctionLog(log_client("us-east-1"), "nothing-of-that-name")
    with pytest.raises(MissingObjectError, match="/aws/lambda/nothing-of-that-name"):
        log.read(0, time.time())


def test_a_log_that_may_not_be_read_is_told_with_the_mend(gate, write_log):
    function, since_s = write_log(2)
    refusal: Fate = (400, "AccessDeniedException")
    gate.fates.append(refusal)
    with pytest.raises(UsageError, match=r"logs:FilterLogEvents.*--policies"):
        FunctionLog(log_client("us-east-1"), function).read(since_s, since_s + 10)


def test_empty_pages_are_not_the_end(gate):
    """FilterLogEvents answers with nothing and a token while it searches on."""

    class Searching:
        def __init__(self, client: Any) -> None:
            self.exceptions = client.exceptions

        def get_paginator(self, name: str) -> Any:
            assert name == "filter_log_events"
            return self

        def paginate(self, **_settings: Any) -> Iterator[dict[str, Any]]:
            event = {"logStreamName": "s", "timestamp": 1, "message": "m"}
            yield {"events": [], "nextToken": "a"}
            yield {"nextToken": "b"}
            yield {"events": [event | {"eventId": "1"}, event | {"eventId": "2"}]}

    log = FunctionLog(Searching(log_client("us-east-1")), "f")
    log.read(0, 1)
    assert len(log.events()) == 2
