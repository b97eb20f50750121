"""``reports.parquet``: a row for each REPORT line of a run; its bill can be made again of them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Final

from hstmap.aws.reports import Report
from hstmap.aws.usage import Call, Purpose
from hstmap.errors import MissingObjectError, UsageError
from hstmap.storage import Store
from hstmap.wfc3.schema import Column

__all__ = [
    "REPORTS_KEY",
    "REPORT_COLUMNS",
    "ReportRow",
    "calls_of_rows",
    "merge_rows",
    "read_rows",
    "row_of_report",
    "rows_as_parquet",
]

REPORTS_KEY: Final = "reports.parquet"

REPORT_COLUMNS: Final[tuple[Column, ...]] = (
    Column("request_id", "str", "", "meta.id", "Lambda's id of the request"),
    Column("task_key", "str", "", "meta.id", "Task that it was an attempt of; empty if unknown"),
    Column("attempt", "i4", "", "meta.number", "Number of the attempt, from 1; 0 if unknown"),
    Column("purpose", "str", "", "meta.code",
           "What it was for: work (its result was kept), retry (it failed, and another attempt did "
           "it), twin (the other attempt was faster, or the event was delivered twice), waste (its "
           "task failed for good)"),
    Column("duration_ms", "f8", "ms", "time.duration", "Duration, without INIT"),
    Column("billed_duration_ms", "i8", "ms", "time.duration", "What was billed, INIT included"),
    Column("init_ms", "f8", "ms", "time.duration", "INIT of a cold start; 0 if it was warm"),
    Column("memory_mb", "i4", "Mibyte", "stat.max", "Memory that the function had"),
    Column("max_memory_used_mb", "i4", "Mibyte", "stat.max", "Largest memory that it used"),
    Column("status", "str", "", "meta.code", "How the runtime ended: success, error or timeout"),
    Column("error_type", "str", "", "meta.code", "Lambda's name of the error; empty if none"),
    Column("architecture", "str", "", "meta.code", "Processor: x86_64 or arm64"),
    Column("log_stream", "str", "", "meta.id", "Where its log is: one an environment"),
    Column("timestamp_ms", "i8", "ms", "time.epoch", "Of the REPORT line, Unix time"),
    Column("log_nbytes", "i8", "byte", "", "Its log, as CloudWatch charges for taking it in"),
)  # fmt: skip


@dataclass(frozen=True)
class ReportRow:
    """One REPORT line; the fields are described by `REPORT_COLUMNS`."""

    request_id: str
    task_key: str
    attempt: int
    purpose: Purpose
    duration_ms: float
    billed_duration_ms: int
    init_ms: float
    memory_mb: int
    max_memory_used_mb: int
    status: str
    error_type: str
    architecture: str
    log_stream: str
    timestamp_ms: int
    log_nbytes: int

    @property
    def identity(self) -> tuple[str, str, int]:
        """What no other REPORT line has: those of one event delivered twice share the first."""
        return (self.request_id, self.log_stream, self.timestamp_ms)

    def as_call(self) -> Call:
        """Say what is to be paid for."""
        return Call(
            duration_ms=self.duration_ms,
            memory_mb=self.memory_mb,
            init_ms=self.init_ms,
            purpose=self.purpose,
            reported_ms=self.billed_duration_ms,
        )


def row_of_report(
    report: Report, task: tuple[str, int, Purpose], architecture: str, log: tuple[str, int, int]
) -> ReportRow:
    """Make a row of a REPORT line.

    Parameters
    ----------
    report : Report
    task : tuple of (str, int, Purpose)
        Key of the task, number of the attempt, and what it was for.
    architecture : str
    log : tuple of (str, int, int)
        Stream, time of the line, ms, and bytes of the whole invocation.

    Returns
    -------
    ReportRow
    """
    return ReportRow(
        report.request_id,
        *task,
        duration_ms=report.duration_ms,
        billed_duration_ms=report.billed_duration_ms,
        init_ms=report.init_duration_ms or 0.0,
        memory_mb=report.memory_size_mb,
        max_memory_used_mb=report.max_memory_used_mb,
        status=report.status,
        error_type=report.error_type or "",
        architecture=architecture,
        log_stream=log[0],
        timestamp_ms=log[1],
        log_nbytes=log[2],
    )


def calls_of_rows(rows: Iterable[ReportRow]) -> list[Call]:
    """Say what is to be paid for.

    Parameters
    ----------
    rows : iterable of ReportRow

    Returns
    -------
    list of Call
    """
    return [row.as_call() for row in rows]


def merge_rows(before: Iterable[ReportRow], now: Iterable[ReportRow]) -> list[ReportRow]:
    """Put together what was saved and what was read: logs are not kept for ever.

    Parameters
    ----------
    before, now : iterable of ReportRow
        Of a row that is in both, the later one counts.

    Returns
    -------
    list of ReportRow
        Ordered by time.
    """
    rows = {row.identity: row for row in (*before, *now)}
    return sorted(rows.values(), key=lambda row: (row.timestamp_ms, row.request_id, row.log_stream))


def rows_as_parquet(rows: Sequence[ReportRow]) -> bytes:
    """Write rows, with units and descriptions.

    Parameters
    ----------
    rows : sequence of ReportRow

    Returns
    -------
    bytes
        A Parquet file.
    """
    import pyarrow as pa
    from pyarrow import parquet

    from hstmap.parquet_metadata import arrow_schema

    names = [column.name for column in REPORT_COLUMNS]
    columns = dict(zip(names, zip(*map(astuple, rows), strict=True), strict=True)) if rows else {}
    lengths = {
        column.name: max(map(len, columns.get(column.name, ())), default=0)
        for column in REPORT_COLUMNS
        if column.dtype == "str"
    }
    schema = arrow_schema(REPORT_COLUMNS, lengths)
    table = pa.table({name: columns.get(name, ()) for name in names}, schema=schema)
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def read_rows(store: Store) -> list[ReportRow]:
    """Read what was saved with a run.

    Parameters
    ----------
    store : Store
        The run's.

    Returns
    -------
    list of ReportRow
        Empty if nothing was saved yet.

    Raises
    ------
    UsageError
        If it is something else.
    """
    try:
        content = store.get(REPORTS_KEY)
    except MissingObjectError:
        return []
    # Late: most runs have none, and their maps need no pyarrow.
    from pyarrow import ArrowException, parquet

    try:
        table = parquet.read_table(io.BytesIO(content))
        rows = table.select([item.name for item in fields(ReportRow)]).to_pylist()
    except (ArrowException, KeyError) as error:
        raise UsageError(
            f"{store.url}/{REPORTS_KEY} is not what hstmap saves of REPORT lines: {error}; "
            "move it away and make the bill again"
        ) from error
    return [ReportRow(**row) for row in rows]
