"""REPORT lines: AWS's own are read, ours read back as they were written, and the sums are right."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.aws.local.reports import InitReport, SystemLog
from hstmap.aws.reports import Report, billed_ms, parse_report

# Hundredths of a millisecond, up to a quarter of an hour: what the lines carry.
milliseconds = st.integers(0, 90_000_000).map(lambda n: n / 100)


@st.composite
def reports(draw):
    duration_ms = draw(milliseconds)
    init_ms = draw(st.none() | milliseconds)
    status = draw(st.sampled_from(["success", "error", "timeout"]))
    kinds = st.sampled_from(["Runtime.ExitError", "Runtime.OutOfMemory"])
    return Report(
        request_id=str(draw(st.uuids())),
        duration_ms=duration_ms,
        billed_duration_ms=billed_ms(duration_ms, init_ms),
        memory_size_mb=draw(st.integers(128, 10240)),
        max_memory_used_mb=draw(st.integers(0, 10240)),
        init_duration_ms=init_ms,
        status=status,
        error_type=draw(kinds) if status == "error" else None,
    )


@given(report=reports())
def test_a_text_report_reads_back_as_it_was(report):
    assert parse_report(report.as_text()) == report


@given(report=reports())
def test_a_json_report_reads_back_as_it_was(report):
    event = {"time": "2026-01-01T00:00:00.000Z", "type": "platform.report"}
    assert parse_report(json.dumps(event | {"record": report.as_record()})) == report


@given(duration_ms=milliseconds, init_ms=st.none() | milliseconds)
def test_billed_is_the_sum_of_the_printed_numbers_rounded_up(duration_ms, init_ms):
    printed = Fraction(f"{duration_ms:.2f}") + Fraction(f"{init_ms or 0:.2f}")
    assert billed_ms(duration_ms, init_ms) == max(1, math.ceil(printed))


# Lines that AWS wrote, from public logs and AWS's documentation.
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "REPORT RequestId: 8f507cfc-xmpl-4697-b07a-ac58fc914c95\tDuration: 15.74 ms\t"
            "Billed Duration: 16 ms\tMemory Size: 128 MB\tMax Memory Used: 56 MB\t"
            "Init Duration: 130.49 ms\t\n",
            Report("8f507cfc-xmpl-4697-b07a-ac58fc914c95", 15.74, 16, 128, 56, 130.49),
        ),
        (
            "REPORT RequestId: 60d08d48-b6b9-4953-83db-30848477f662\tDuration: 143.12 ms\t"
            "Billed Duration: 144 ms\tMemory Size: 128 MB\tMax Memory Used: 68 MB\t"
            "Status: error\tError Type: Runtime.ImportModuleError\n",
            Report(
                "60d08d48-b6b9-4953-83db-30848477f662",
                143.12,
                144,
                128,
                68,
                status="error",
                error_type="Runtime.ImportModuleError",
            ),
        ),
        (
            "REPORT RequestId: 276ff3b9-1609-4ee7-a288-db3752630767\tDuration: 10935.70 ms\t"
            "Billed Duration: 10936 ms\tMemory Size: 1024 MB\tMax Memory Used: 1024 MB\t"
            "Status: error\tError Type: Runtime.OutOfMemory\n"
            "XRAY TraceId: 1-6ac7d556-032906e375c910cf42cb849e\tSegmentId: 90cbc97f4ee64a7f\t"
            "Sampled: true\n",
            Report(
                "276ff3b9-1609-4ee7-a288-db3752630767",
                10935.70,
                10936,
                1024,
                1024,
                status="error",
                error_type="Runtime.OutOfMemory",
            ),
        ),
        (
            '{"time":"2026-07-09T06:05:50.581Z","type":"platform.report","record":{"requestId":'
            '"aec7a529-47f9-4090-be01-c9ed91bf83cf","metrics":{"durationMs":5000.0,'
            '"billedDurationMs":5000,"memorySizeMB":128,"maxMemoryUsedMB":94},'
            '"status":"timeout"}}',
            Report("aec7a529-47f9-4090-be01-c9ed91bf83cf", 5000.0, 5000, 128, 94, status="timeout"),
        ),
    ],
)
def test_lines_that_aws_wrote_are_read(line, expected):
    assert parse_report(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        "START RequestId: 1 Version: $LATEST\n",
        "END RequestId: 1\n",
        "REPORT RequestId: 1\tDuration: x ms\n",
        "{not json",
        '{"type": "platform.start", "record": {}}',
        '{"message": "the function prints JSON too"}',
        "",
    ],
)
def test_other_lines_are_no_reports(line):
    assert parse_report(line) is None


def lines_of(log: SystemLog, status: str = "success") -> list[str]:
    report = Report("id", 10.0, 11, 128, 50, status=status)
    return [*log.init_start(), *log.start("id"), *log.end(report)]


def test_text_lines_come_in_awss_order():
    first_words = [
        line.split()[0] for line in lines_of(SystemLog("Text", "INFO", "python3.11", "r"))
    ]
    assert first_words == ["INIT_START", "START", "END", "REPORT"]


@pytest.mark.parametrize(
    ("level", "status", "expected"),
    [
        ("DEBUG", "success", ["initStart", "start", "runtimeDone", "report"]),
        ("INFO", "success", ["initStart", "start", "report"]),
        ("WARN", "success", []),
        ("WARN", "timeout", ["runtimeDone", "report"]),
    ],
)
def test_json_events_are_those_of_the_level(level, status, expected):
    events = [json.loads(line) for line in lines_of(SystemLog("JSON", level, "p", "r"), status)]
    assert [event["type"] for event in events] == [f"platform.{name}" for name in expected]


def test_a_failed_init_is_written_as_aws_writes_it():
    report = InitReport(129.89, "invoke", "error", "Runtime.ImportModuleError")
    assert report.as_text() == (
        "INIT_REPORT Init Duration: 129.89 ms\tPhase: invoke\tStatus: error\t"
        "Error Type: Runtime.ImportModuleError\n"
    )
    (line,) = SystemLog("JSON", "WARN", "p", "r").init_failed(report)
    assert json.loads(line)["record"]["metrics"] == {"durationMs": 129.89}
