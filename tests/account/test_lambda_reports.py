"""REPORT lines beside the calls of a ledger: which is whose, what is missing, how it is waited."""

from __future__ import annotations

import io
import math
import uuid
from collections import Counter
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from hstmap.account.lambda_reports import LambdaReports, Waiting, match_runs
from hstmap.account.ledger_reports import worker_calls
from hstmap.account.report_rows import (
    REPORT_COLUMNS,
    REPORTS_KEY,
    ReportRow,
    calls_of_rows,
    merge_rows,
    read_rows,
    rows_as_parquet,
)
from hstmap.account.run_calls import (
    PLACE_FACT,
    KnownCall,
    LambdaPlace,
    RunCalls,
    Session,
    read_calls,
)
from hstmap.aws.bill import LINES, price
from hstmap.aws.invocation_log import LoggedRun
from hstmap.aws.price_table import load_prices
from hstmap.aws.reports import Report, billed_ms
from hstmap.aws.usage import Usage
from hstmap.bag.events import AttemptEnded, AttemptStarted
from hstmap.bag.ledger import Ledger
from hstmap.bag.task import Attempt, RemoteError, WorkerInfo
from hstmap.commands.engines import where_it_runs
from hstmap.config import Settings
from hstmap.errors import MissingObjectError, UsageError
from hstmap.storage import Store, open_store

NOW, THEN = load_prices(), load_prices("us-east-1-2018")
PLACE = LambdaPlace("hstmap", "us-east-1", 1769, "arm64", 600)
BEGAN_S = 1_800_000_000.0


def a_uuid(n: int) -> str:
    return str(uuid.UUID(int=n))


def call(n: int, purpose: str = "work", status: str = "ok", **changes: Any) -> KnownCall:
    known = KnownCall(
        f"task {n}", 1, status, purpose, a_uuid(n), f"e-0-M{n:03d}/00000", BEGAN_S + n
    )  # type: ignore[arg-type]
    return replace(known, **changes)


def run(n: int, *, ms: float = 100.0, at: int = 0, name: str = "", ended: bool = True) -> LoggedRun:
    report = Report(a_uuid(n), ms, billed_ms(ms, None), 1769, 80)
    return LoggedRun(a_uuid(n), f"stream {n}", name, at, 500, report if ended else None)


def store_of(
    *events: object, place: LambdaPlace | None = PLACE, store: Store | None = None
) -> Store:
    store = store or open_store(f"memory://{uuid.uuid4()}")
    about = place.as_fact() if place else None
    with Ledger(store, detail=lambda attempt: attempt.value, about=about) as ledger:
        for event in events:
            ledger(event)  # type: ignore[arg-type]
    return store


def ended(
    n: int, status: str, *, number: int = 1, task: str = "", final: bool = True
) -> AttemptEnded:
    error = None if status == "ok" else RemoteError("Error", "why")
    names = {"request_id": a_uuid(n), "call_name": f"e-0-M{n:03d}/00000"}
    attempt = Attempt(
        "map", task or f"task {n}", number, status, final, error=error, submitted_s=BEGAN_S, **names
    )  # type: ignore[arg-type]
    return AttemptEnded(attempt, BEGAN_S + n)


def started(n: int, task: str = "", number: int = 1) -> AttemptStarted:
    names = {"request_id": a_uuid(n), "call_name": f"e-0-M{n:03d}/00000"}
    return AttemptStarted("map", task or f"task {n}", number, None, BEGAN_S, **names)


# -- what the ledger knows -------------------------------------------------------------------------


def test_a_ledger_tells_which_calls_were_sent_and_where():
    store = store_of(started(1), ended(1, "ok"), started(2), ended(2, "lost", final=False))
    calls = read_calls(store)
    ((session, place),) = calls.on_lambda
    assert place == PLACE
    assert session.began_s <= session.ended_s
    assert [(c.task_key, c.status, c.purpose, c.request_id) for c in calls.calls] == [
        ("task 1", "ok", "work", a_uuid(1)),
        ("task 2", "lost", "waste", a_uuid(2)),
    ]


def test_calls_under_way_when_the_client_was_killed_are_known():
    store = store_of(started(1), ended(1, "ok"), started(2, "again"), started(3))
    store_of(started(4, "again"), ended(4, "ok", task="again"), store=store)
    calls = read_calls(store)
    unended = {c.task_key: c for c in calls.calls if c.status == "unended"}
    assert {key: c.purpose for key, c in unended.items()} == {"again": "retry", "task 3": "waste"}
    assert unended["again"].request_id == a_uuid(2)
    assert len(calls.on_lambda) == 2
    assert len(calls.attempts) == 2


def test_a_client_that_was_killed_before_anything_ended_has_calls_to_be_paid():
    assert [c.status for c in read_calls(store_of(started(1))).calls] == ["unended"]


def test_a_run_on_this_machine_has_no_calls_to_be_paid():
    calls = read_calls(store_of(started(1), ended(1, "ok"), place=None))
    assert calls.calls == ()
    assert calls.on_lambda == ()
    assert len(calls.attempts) == 1


def test_of_a_run_that_moved_only_the_calls_on_lambda_are_looked_for():
    store = store_of(ended(1, "lost"), place=None)
    store_of(ended(2, "ok"), store=store)
    calls = read_calls(store)
    assert [c.request_id for c in calls.calls] == [a_uuid(2)]
    assert len(calls.sessions) == 2


def test_settings_say_which_function_it_will_be():
    sections = {
        "lithops": {"backend": "aws_lambda", "storage": "aws_s3"},
        "aws": {"region": "eu-west-2"},
        "aws_lambda": {"runtime": "mine", "runtime_timeout": 60, "architecture": "arm64"},
    }
    settings = Settings(lithops=sections, memory_mb=1024)
    told = where_it_runs(settings)
    with Ledger(open_store(f"memory://{uuid.uuid4()}"), about=told):
        pass
    assert LambdaPlace(**told[PLACE_FACT]) == LambdaPlace("mine", "eu-west-2", 1024, "arm64", 60)
    assert where_it_runs(replace(settings, engine="inprocess")) == {}
    assert where_it_runs(Settings()) == {}
    assert where_it_runs(Settings(lithops={"lithops": {"backend": "code_engine"}})) == {}


def test_workers_are_told_by_their_own_clocks_at_the_memory_that_they_had():
    """A run that went on with another memory; each time's worker says what it took."""
    told = {"elapsed_s": 1.0, "requests": {}}
    store = None
    for n, memory_mb in ((1, 1024), (2, 2048)):
        done = ended(n, "ok").attempt
        worker = WorkerInfo("there", 1, cold=n == 1)
        done = replace(
            done, value=told, worker=worker, handler_s=1.25, init_s=0.5 if n == 1 else None
        )
        place = replace(PLACE, memory_mb=memory_mb)
        store = store_of(AttemptEnded(done, BEGAN_S), place=place, store=store)
    calls = worker_calls(read_calls(store), 512, 9.0)
    assert [(c.memory_mb, c.duration_ms, c.init_ms) for c in calls] == [
        (1024, 1250.0, 500.0), (2048, 1250.0, 0.0),
    ]  # fmt: skip
    # On this machine nobody tells but the batch itself, and INIT is what a profile has.
    here = replace(done, handler_s=None, worker=WorkerInfo("here", 1, True), call_name="")
    (alone,) = worker_calls(read_calls(store_of(AttemptEnded(here, 1.0), place=None)), 512, 9.0)
    assert (alone.memory_mb, alone.duration_ms, alone.init_ms) == (512, 1000.0, 9000.0)


# -- which line is whose ---------------------------------------------------------------------------


def match(runs: list[LoggedRun], calls: list[KnownCall]) -> Any:
    return match_runs(runs, calls, "arm64")


def test_lines_are_found_by_request_id_and_told_apart_by_purpose():
    calls = [call(1), call(2, "retry", "lost"), call(3, "twin", "cancelled")]
    matched = match([run(3), run(1), run(2)], calls)
    assert {row.task_key: row.purpose for row in matched.rows} == {
        "task 1": "work", "task 2": "retry", "task 3": "twin",
    }  # fmt: skip
    assert (matched.awaited, matched.missing, matched.n_running, matched.n_others) == ((), (), 0, 0)


def test_an_event_that_came_twice_is_paid_twice_and_did_its_work_once():
    matched = match([run(1, at=10), replace(run(1, at=5), stream="elsewhere")], [call(1)])
    assert [(row.timestamp_ms, row.purpose) for row in matched.rows] == [(5, "work"), (10, "twin")]
    assert {row.task_key for row in matched.rows} == {"task 1"}


def test_an_invocation_that_nobody_knows_is_found_by_the_name_of_its_call():
    """Lambda took an event, its answer was lost, and the client sent the event again."""
    known = call(1)
    matched = match([run(99, at=1, name=known.call_name), run(1, at=2)], [known])
    assert {row.request_id: row.purpose for row in matched.rows} == {
        a_uuid(1): "work", a_uuid(99): "twin",
    }  # fmt: skip
    # Also if it was the other one that answered, whose id the attempt then has.
    lost = replace(known, request_id=a_uuid(99))
    assert Counter(row.purpose for row in match([run(1, name=known.call_name)], [lost]).rows) == {
        "work": 1
    }


def test_a_call_that_no_attempt_remembers_is_the_run_s_by_its_executor():
    matched = match([run(50, name="e-0-M777/00003"), run(1)], [call(1)])
    assert [(row.task_key, row.purpose, row.attempt) for row in matched.rows] == [
        ("task 1", "work", 1), ("", "waste", 0),
    ]  # fmt: skip


def test_other_runs_on_the_same_function_are_left_out_and_counted():
    others = [run(60, name="other-0-M000/00000"), run(61), run(62, ended=False)]
    matched = match([*others, run(1)], [call(1)])
    assert len(matched.rows) == 1
    assert matched.n_others == 2
    assert matched.n_running == 0


def test_calls_without_a_line_are_missing_and_awaited():
    matched = match([run(1), run(2, ended=False)], [call(1), call(2), call(3, "retry", "lost")])
    assert [item.task_key for item in matched.missing] == ["task 2", "task 3"]
    assert {item.task_key for item in matched.awaited} == {"task 2", "task 3"}
    assert matched.n_running == 1


def test_a_duplicate_that_still_runs_is_awaited_though_its_call_has_a_line():
    matched = match([run(1), run(1, ended=False)], [call(1)])
    assert matched.missing == ()
    assert len(matched.awaited) == 1


def test_a_call_that_lambda_never_took_is_not_missed():
    assert match([], [call(1, "waste", "lost", request_id="")]).missing == ()


@given(
    sent=st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.booleans()), max_size=12),
    n_others=st.integers(0, 3),
)
def test_each_line_is_counted_once_and_each_call_has_at_most_one_that_did_it(sent, n_others):
    """Calls that end well or not, with any number of lines, under ids that are known or not."""
    calls, runs = [], []
    for n, (ok, n_lines, known) in enumerate(sent):
        status, purpose = ("ok", "work") if ok else ("lost", "waste")
        sent_call = call(n, purpose, status)
        calls.append(sent_call)
        for line in range(n_lines):
            which = n if known else 1000 + 10 * n + line
            runs.append(
                replace(run(which, at=line, name=sent_call.call_name), stream=f"{n}/{line}")
            )
    others = [run(5000 + n, name="x-9-M000/0") for n in range(n_others)]
    matched = match([*others, *runs], calls)
    assert len(matched.rows) == len(runs)
    assert matched.n_others == n_others
    by_task = Counter(row.task_key for row in matched.rows if row.purpose == "work")
    assert by_task == {f"task {n}": 1 for n, (ok, n_lines, _) in enumerate(sent) if ok and n_lines}
    assert {item.task_key for item in matched.missing} == {
        f"task {n}" for n, (_, n_lines, _) in enumerate(sent) if not n_lines
    }
    assert sum(row.billed_duration_ms for row in matched.rows) == 100 * len(runs)


# -- waiting ---------------------------------------------------------------------------------------


class Log:
    """A log whose lines appear as time passes, behind boto3's interface."""

    def __init__(self, now_s: float = BEGAN_S + 10) -> None:
        self.now_s = now_s
        self.lines: list[tuple[float, float, str, str]] = []  # seen from, time, stream, message
        self.spans: list[tuple[int, int]] = []
        self.said: list[str] = []
        self.gone = False
        self.exceptions = self
        self.ResourceNotFoundException = KeyError

    def add(
        self, n: int, seen_s: float = 0.0, at_s: float = BEGAN_S, duplicate: bool = False
    ) -> None:
        message = Report(a_uuid(n), 100.0, 100, 1769, 80).as_text()
        self.lines.append((seen_s, at_s, f"stream {n} {duplicate}", message))

    def get_paginator(self, _name: str) -> Any:
        return self

    def paginate(self, **request: Any) -> Any:
        if self.gone:
            raise KeyError("no such group")
        assert request["logGroupName"] == "/aws/lambda/hstmap"
        span = (request["startTime"], request["endTime"])
        self.spans.append(span)
        yield {
            "events": [
                {"eventId": str(n), "logStreamName": stream, "timestamp": round(at_s * 1000),
                 "message": message}
                for n, (seen_s, at_s, stream, message) in enumerate(self.lines)
                if seen_s <= self.now_s and span[0] <= at_s * 1000 <= span[1]
            ]
        }  # fmt: skip

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds

    def reports(self, calls: RunCalls, longest_s: float = 60.0, saved: Any = ()) -> LambdaReports:
        waiting = Waiting(longest_s, self.said.append, lambda: self.now_s, self.sleep)
        return LambdaReports(calls, saved, waiting, lambda _region: self)


def calls_of(*calls: KnownCall, ended_s: float = BEGAN_S + 9) -> RunCalls:
    return RunCalls((Session(PLACE, BEGAN_S, ended_s),), (), calls)


def test_nothing_is_waited_for_where_all_is_there():
    log = Log()
    log.add(1)
    reports = log.reports(calls_of(call(1)))
    reports.read()
    assert [row.request_id for row in reports.rows] == [a_uuid(1)]
    assert (log.said, reports.missing) == ([], {})
    assert log.now_s == BEGAN_S + 10
    assert len(log.spans) == 1


def test_lines_that_are_late_are_waited_for_and_read_from_their_call_on():
    log = Log()
    log.add(1, at_s=BEGAN_S)
    log.add(900, seen_s=BEGAN_S + 31, at_s=BEGAN_S + 905)
    late = call(900)
    reports = log.reports(calls_of(call(1), late, ended_s=BEGAN_S + 910))
    reports.read()
    assert len(reports.rows) == 2
    assert reports.missing == {}
    assert BEGAN_S + 31 <= log.now_s <= BEGAN_S + 42
    (said,) = log.said
    assert "REPORT lines of 1 of 2 calls, at most 60 s" in said
    assert {span[0] for span in log.spans[1:]} == {round((late.submitted_s - 300) * 1000)}
    assert log.spans[0][0] == round((BEGAN_S - 300) * 1000)


def test_waiting_is_bounded_and_what_is_missing_is_told_by_how_it_ended():
    log = Log()
    log.add(1)
    calls = [
        call(1),
        call(2, "retry", "lost"),
        call(3, "waste", "lost"),
        call(4, "twin", "cancelled"),
    ]
    reports = log.reports(calls_of(*calls), longest_s=25)
    reports.read()
    assert log.now_s == pytest.approx(BEGAN_S + 35)
    assert reports.missing == {"lost": 2, "cancelled": 1}
    assert len(log.said) == 1


@pytest.mark.parametrize(("age_s", "waits"), [(60.0, True), (1e5, False)])
def test_what_is_long_over_is_not_waited_for(age_s, waits):
    log = Log(now_s=BEGAN_S + age_s)
    reports = log.reports(calls_of(call(1)))
    reports.read()
    assert (log.now_s > BEGAN_S + age_s) == waits
    assert reports.missing == {"ok": 1}


def test_a_bill_that_is_made_early_says_when_it_will_be_final():
    log = Log()
    log.add(1)
    reports = log.reports(calls_of(call(1)))
    reports.read()
    final_s = BEGAN_S + 9 + 900 + PLACE.timeout_s + 120
    assert f"until {datetime.fromtimestamp(final_s, UTC):%H:%M} UTC" in reports.notes[0]
    log.now_s = final_s
    assert reports.notes == ()
    # What an event that came twice has left meanwhile is then in it.
    log.add(1, seen_s=final_s - 1, at_s=BEGAN_S + 1000, duplicate=True)
    again = log.reports(calls_of(call(1)), saved=reports.rows)
    again.read()
    assert [row.purpose for row in again.rows] == ["work", "twin"]
    assert again.notes == ()


def test_no_waiting_is_one_look():
    log = Log()
    log.reports(calls_of(call(1)), longest_s=0).read()
    assert len(log.spans) == 1
    assert log.said == []


def test_lines_that_were_saved_stay_when_the_log_has_lost_them():
    log = Log()
    log.add(1)
    log.add(2, at_s=BEGAN_S + 1)
    calls = calls_of(call(1), call(2))
    first = log.reports(calls)
    first.read()
    del log.lines[0]
    again = log.reports(calls, longest_s=5, saved=first.rows)
    again.read()
    assert again.rows == first.rows
    assert again.missing == {}
    log.gone = True
    gone = log.reports(calls, saved=first.rows)
    gone.read()
    assert gone.rows == first.rows
    assert "not there any more" in gone.notes[0]
    assert len(gone.notes) == 1
    with pytest.raises(MissingObjectError):
        log.reports(calls).read()


def test_each_time_of_a_run_has_a_span_and_its_log_is_read_once():
    log = Log(now_s=BEGAN_S + 1e6)
    log.add(1, at_s=BEGAN_S + 5)
    log.add(2, at_s=BEGAN_S + 90_005)
    log.add(3, at_s=BEGAN_S + 40_000)  # of another run, between the two
    sessions = [Session(PLACE, BEGAN_S + n, BEGAN_S + n + 9) for n in (0, 90_000)]
    sessions.append(Session(None, BEGAN_S + 95_000, BEGAN_S + 95_001))  # it was reduced
    reports = log.reports(RunCalls(tuple(sessions), (), (call(1), call(2))))
    reports.read()
    assert [row.request_id for row in reports.rows] == [a_uuid(1), a_uuid(2)]
    assert len(log.spans) == 2
    assert reports.notes == ()
    assert reports.log_nbytes == sum(len(line[3]) + 26 for line in log.lines[:2])


def test_two_kinds_of_processors_are_told():
    log = Log()
    log.add(1)
    sessions = tuple(
        Session(replace(PLACE, architecture=name), BEGAN_S, BEGAN_S + 9)
        for name in ("x86_64", "arm64")
    )
    reports = log.reports(RunCalls(sessions, (), (call(1),)))
    reports.read()
    assert "priced as arm64" in reports.notes[-1]


# -- reports.parquet -------------------------------------------------------------------------------

hundredths = st.integers(1, 10**7).map(lambda n: n / 100)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
rows = st.builds(
    ReportRow,
    request_id=st.integers(0, 5).map(a_uuid),
    task_key=texts,
    attempt=st.integers(0, 99),
    purpose=st.sampled_from(["work", "retry", "twin", "waste"]),
    duration_ms=hundredths,
    billed_duration_ms=st.integers(1, 900_000),
    init_ms=st.just(0.0) | hundredths,
    memory_mb=st.integers(128, 10_240),
    max_memory_used_mb=st.integers(1, 10_240),
    status=st.sampled_from(["success", "error", "timeout"]),
    error_type=st.sampled_from(["", "Runtime.OutOfMemory"]),
    architecture=st.sampled_from(["arm64", "x86_64"]),
    log_stream=texts,
    timestamp_ms=st.integers(0, 2**41),
    log_nbytes=st.integers(0, 10**6),
)


@given(saved=st.lists(rows, max_size=6))
def test_rows_come_back_and_make_the_same_bill_under_any_prices(saved):
    store = open_store(f"memory://{uuid.uuid4()}")
    store.put(REPORTS_KEY, rows_as_parquet(saved))
    again = read_rows(store)
    assert again == saved
    for prices in (NOW, THEN):
        bills = [
            price(Usage(calls=tuple(calls_of_rows(item))), prices, "x86_64")
            for item in (saved, again)
        ]
        assert [bills[0].line(name) for name in LINES] == [bills[1].line(name) for name in LINES]
        assert bills[0].compute_usd == bills[1].compute_usd


@given(before=st.lists(rows, max_size=6), now=st.lists(rows, max_size=6))
def test_merging_loses_nothing_repeats_nothing_and_prefers_what_is_new(before, now):
    merged = merge_rows(before, now)
    assert {row.identity for row in merged} == {row.identity for row in (*before, *now)}
    assert len({row.identity for row in merged}) == len(merged)
    newest = {row.identity: row for row in now}
    assert all(newest.get(row.identity, row) == row for row in merged)
    assert merge_rows(merged, ()) == merged == merge_rows(before, merged)
    assert [row.timestamp_ms for row in merged] == sorted(row.timestamp_ms for row in merged)


def test_the_file_says_what_its_columns_are():
    table = parquet.read_table(io.BytesIO(rows_as_parquet([])))
    assert table.num_rows == 0
    assert table.column_names == [item.name for item in fields(ReportRow)]
    assert table.column_names == [column.name for column in REPORT_COLUMNS]
    for column in REPORT_COLUMNS:
        metadata = table.schema.field(column.name).metadata
        assert metadata[b"description"] == column.description.encode()
        assert metadata.get(b"unit", b"") == column.unit.encode()
    assert table.schema.field("duration_ms").metadata[b"unit"] == b"ms"


def test_there_is_nothing_saved_at_first_and_what_is_no_table_is_refused():
    store = open_store(f"memory://{uuid.uuid4()}")
    assert read_rows(store) == []
    other = io.BytesIO()
    parquet.write_table(pyarrow.table({"a": [math.pi]}), other)
    for content in (b"PAR1", other.getvalue()):
        store.put(REPORTS_KEY, content)
        with pytest.raises(UsageError, match=REPORTS_KEY):
            read_rows(store)
