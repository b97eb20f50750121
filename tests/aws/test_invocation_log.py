"""What a function's log tells of its runs, in both formats, also where lines are missing."""

from __future__ import annotations

import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.aws.invocation_log import EVENT_OVERHEAD_NBYTES, LogEvent, logged_runs
from hstmap.aws.reports import Report, billed_ms

ID = "8f5f2a52-0d2c-4a5c-9f3e-6a9f3b0f0c11"
OTHER_ID = "00000000-1111-2222-3333-444444444444"


def report_of(request_id: str, duration_ms: float = 10.5, init_ms: float | None = None) -> Report:
    return Report(request_id, duration_ms, billed_ms(duration_ms, init_ms), 1769, 99, init_ms)


def lines_of_run(report: Report, log_format: str, call_name: str = "", cold: bool = False):
    """The messages that Lambda and hstmap's handler write of one run."""
    request_id = report.request_id
    told = json.dumps({"call": f"lithops.jobs/{call_name}"})
    if log_format == "Text":
        lines = ["INIT_START Runtime Version: python:3.12.v1\tRuntime Version ARN: arn\n"] * cold
        lines += [f"START RequestId: {request_id} Version: $LATEST\n"]
        if call_name:
            lines += [f"[INFO]\t2026-11-23T10:00:00.123Z\t{request_id}\t{told}\n"]
        return [*lines, "printed\n", f"END RequestId: {request_id}\n", report.as_text()]

    def system(kind, record):
        return json.dumps({"time": "2026-11-23T10:00:00.123Z", "type": kind, "record": record})

    lines = [system("platform.initStart", {"phase": "init"})] * cold
    lines += [system("platform.start", {"requestId": request_id, "version": "$LATEST"})]
    if call_name:
        logged = {"level": "INFO", "message": told, "logger": "hstmap", "requestId": request_id}
        lines += [json.dumps(logged)]
    return [*lines, "printed\n", system("platform.report", report.as_record())]


def events_of(messages, stream="stream", since_ms=1000):
    return [
        LogEvent.from_cloudwatch(
            {"logStreamName": stream, "timestamp": since_ms + n, "message": message}
        )
        for n, message in enumerate(messages)
    ]


formats = pytest.mark.parametrize("log_format", ["Text", "JSON"])


@formats
@pytest.mark.parametrize("cold", [False, True])
def test_a_run_is_read_from_its_lines(log_format, cold):
    report = report_of(ID, 1060.45, 512.1 if cold else None)
    messages = lines_of_run(report, log_format, "e-0-M000/00007", cold)
    (run,) = logged_runs(events_of(messages))
    assert run.report == report
    assert run.call_name == "e-0-M000/00007"
    assert (run.request_id, run.stream) == (ID, "stream")
    assert run.timestamp_ms == 1000 + len(messages) - 1
    sizes = [len(message.encode()) + EVENT_OVERHEAD_NBYTES for message in messages]
    assert run.nbytes == sum(sizes)


@formats
def test_a_run_without_its_end_is_one_that_still_runs(log_format):
    messages = lines_of_run(report_of(ID), log_format, "e-0-M000/00007")
    for n in range(1, len(messages)):
        (run,) = logged_runs(events_of(messages[:n]))
        assert run.report is None
        assert run.call_name == ("e-0-M000/00007" if n > 1 else "")


@formats
def test_an_event_that_ran_twice_in_one_environment_is_two_runs(log_format):
    first, second = report_of(ID, 10.0), report_of(ID, 20.0)
    messages = lines_of_run(first, log_format) + lines_of_run(second, log_format)
    assert [run.report for run in logged_runs(events_of(messages))] == [first, second]
    # Also where the level of the log leaves no more than the reports.
    ends = [message for message in messages if "START" not in message and "start" not in message]
    assert [run.report for run in logged_runs(events_of(ends))] == [first, second]


def test_lines_of_a_time_out_and_of_a_crash_are_of_their_request():
    messages = [
        f"START RequestId: {ID} Version: $LATEST\n",
        f"2026-11-23T10:00:03.004Z {ID} Task timed out after 3.00 seconds\n\n",
        f"REPORT RequestId: {ID}\tDuration: 3000.00 ms\tBilled Duration: 3000 ms\t"
        "Memory Size: 128 MB\tMax Memory Used: 30 MB\tStatus: timeout\n",
        f"START RequestId: {OTHER_ID} Version: $LATEST\n",
        f"RequestId: {OTHER_ID} Error: Runtime exited with error: signal: killed\n"
        "Runtime.ExitError\n",
    ]
    timed_out, crashed = logged_runs(events_of(messages))
    assert timed_out.report.status == "timeout"
    assert (crashed.request_id, crashed.report) == (OTHER_ID, None)
    assert {event.request_id for event in events_of(messages)} == {ID, OTHER_ID}


@pytest.mark.parametrize(
    "message",
    [
        "{",
        "[1, 2]",
        "{}",
        '{"type": 3, "record": 4}',
        '{"message": {"call": 3}, "requestId": null}',
        "REPORT",
        '{"message": "\\"call\\""}',
        f'[INFO]\t2026-11-23T10:00:00.123Z\t{ID}\t{{"call"',
    ],
)
def test_what_a_function_prints_breaks_nothing(message):
    event = events_of([message])[0]
    assert event.call_name == ""
    assert event.report is None
    assert event.nbytes == len(message) + EVENT_OVERHEAD_NBYTES


durations = st.integers(1, 10**7).map(lambda n: n / 100)
runs_of_stream = st.lists(st.tuples(st.sampled_from(range(4)), durations, st.booleans()))


@given(
    streams=st.lists(runs_of_stream, max_size=4),
    log_format=st.sampled_from(["Text", "JSON"]),
    data=st.data(),
)
def test_every_report_and_every_byte_is_in_one_run_however_streams_are_mixed(
    streams, log_format, data
):
    queues, expected, nbytes = [], [], 0
    for n, runs in enumerate(streams):
        messages = []
        for which, duration_ms, named in runs:  # requests come twice now and then
            report = report_of(str(uuid.UUID(int=which)), duration_ms)
            expected.append((f"stream {n}", report))
            messages += lines_of_run(
                report, log_format, "e-M/0" if named else "", cold=not messages
            )
        queues.append(events_of(messages, f"stream {n}"))
        nbytes += sum(event.nbytes for event in queues[-1])
    mixed = []
    while any(queues):
        queue = data.draw(st.sampled_from([queue for queue in queues if queue]))
        mixed.append(queue.pop(0))
    found = logged_runs(mixed)
    key = str
    assert sorted(((run.stream, run.report) for run in found), key=key) == sorted(expected, key=key)
    assert sum(run.nbytes for run in found) == nbytes
