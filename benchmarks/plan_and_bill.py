"""Plans held against bills, line by line: cold and warm runs on the loopback AWS, with retries.

A run with a pilot starts its environments; two others go on with them, planned by the first. In
all of them events are throttled and processes killed that make calls, so that these are made again.
In the last one environments are killed, too, and events delivered twice. What is paid for calls
whose results were not kept, and for environments in the place of killed ones, no plan foresees:
it stands in a column of its own, ``again``.

The answer comes before the figures: a bill must be Lambda's own log of invocations, to the
millisecond, and the S3 server's own count of requests, to the request, or the benchmark fails.
What killed environments had asked for before they could tell is said, and so are requests that were
on their way when their process was killed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.loopback import (
    POLL_S,
    Loopback,
    LoopbackRun,
    deployed_loopback,
    loopback_images,
)
from hstmap.account.report_rows import ReportRow, read_rows
from hstmap.account.requests_made import requests_of_run
from hstmap.aws.bill import LINES, price
from hstmap.aws.local import Fault
from hstmap.aws.price_table import PriceTable, load_prices
from hstmap.aws.usage import Call, Usage
from hstmap.bag.ledger import read_attempts
from hstmap.storage import RequestCounts, Store

N_WORKERS = 2
MEMORY_MB = 1700
#: Lines of less than this are not compared: they are a request or two.
LEAST_USD = 1e-7
#: Requests that a worker has under way at the most: three images and what it writes.
MOST_UNDER_WAY = 4


@dataclass(frozen=True)
class Billed:
    """A run that was planned and billed.

    Attributes
    ----------
    lines : dict of str to (float, float, float)
        By line what was planned, what was billed, and what of that was for calls made again, USD.
    counts : dict of str to (int, int)
        Requests by kind that the bill has, and that the S3 server counted.
    """

    lines: dict[str, tuple[float, float, float]]
    counts: dict[str, tuple[int, int]]

    @property
    def errors(self) -> dict[str, float]:
        """By line what was planned over what was billed for kept results, less one."""
        return {
            name: planned / (billed - again) - 1
            for name, (planned, billed, again) in self.lines.items()
            if billed - again >= LEAST_USD
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("frames", nargs="*", type=Path, help="FLT files (default: simulated)")
    parser.add_argument("--images", type=int, default=400, help="images a run")
    parser.add_argument("--pilot", type=int, default=60, help="images of the pilot")
    parser.add_argument("--batch-size", type=int, default=5)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make the runs, print and return what was planned, billed, and the difference."""
    n_images, n_pilot = (24, 8) if arguments.short else (arguments.images, arguments.pilot)
    size = 1 if arguments.short else arguments.batch_size
    words = ("--batch-size", str(size), "--catalogs", "batch")
    # Within a call; but at its end, when it asks for nothing, if it is long enough for that.
    delay_s = 0.03 if arguments.short else 0.35
    # Calls are made again for these, in the environments that are there; others cost those, too.
    retries = (
        Fault("throttle", n_skip=5, n_times=3),
        *(Fault("kill-call", n_skip=n, delay_s=delay_s) for n in (6, 10)),
    )
    losses = (
        *(Fault("kill-midway", n_skip=n, delay_s=delay_s) for n in (14, 18)),
        Fault("duplicate", n_skip=20, n_times=2),
    )
    rows = {}
    with deployed_loopback(N_WORKERS) as loopback:
        source = loopback.put_images(loopback_images(arguments.frames, n_images))
        cold, rows["cold, by a pilot"] = _billed(
            loopback, source, retries, (*words, "--pilot", str(n_pilot))
        )
        words = (*words, "--profile", cold.out)
        _, rows["warm, by the run before"] = _billed(loopback, source, retries, words)
        # A worker that dies without a word is missed when its time is over.
        words = (*words, "--timeout", "5" if arguments.short else "15")
        faults = (*retries, *losses)
        _, rows["warm, environments killed"] = _billed(loopback, source, faults, words)
    for name, row in rows.items():
        _print(f"{n_images} images, {name}", row)
    return {
        "n_images": n_images,
        "lines_usd": {name: row.lines for name, row in rows.items()},
        "errors": {name: row.errors for name, row in rows.items()},
        "requests": {name: row.counts for name, row in rows.items()},
    }


def _print(title: str, row: Billed) -> None:
    print(f"\n{title}\n{'':16s}" + "".join(
        f"{name:>12s}" for name in ("planned", "billed", "again", "error")))  # fmt: skip
    for line, usd in row.lines.items():
        error = f"{row.errors[line]:+12.1%}" if line in row.errors else ""
        print(f"{line:16s}" + "".join(f"{value:12.7f}" for value in usd) + error)


def _billed(
    loopback: Loopback, source: str, faults: tuple[Fault, ...], words: tuple[str, ...]
) -> tuple[LoopbackRun, Billed]:
    """Make a run while things go wrong, bill it, and hold the bill against the servers' logs."""
    loopback.aws.faults.add(*faults)
    before = loopback.aws.s3_charged
    made = loopback.map(source, MEMORY_MB, *words)
    counted = loopback.aws.s3_charged - before
    loopback.aws.faults.clear()
    command = [sys.executable, "-m", "hstmap", "bill", made.out]
    subprocess.run(command, check=True, capture_output=True)
    store = loopback.store(made)
    record = json.loads(store.get("bill.json"))
    check_milliseconds(record, made)
    n_killed = sum(attempt.status == "lost" for attempt in read_attempts(store))
    n_silent = len(requests_of_run(store).silent)
    counts = check_requests(record, counted, (n_killed, n_silent))
    n_calls = Counter(row.purpose for row in read_rows(store))
    told = ", ".join(f"{n} {purpose}" for purpose, n in n_calls.items())
    print(f"answer    {record['bills']['report']['billed_ms']:,} ms in {len(made.calls)} calls "
          f"({told}), {', '.join(f'{n} {kind}' for kind, (n, _) in counts.items())}: as the "
          f"servers' logs have it{_but(counts, n_silent)}")  # fmt: skip
    return made, Billed(lines_of(record, store), counts)


def _but(counts: dict[str, tuple[int, int]], n_silent: int) -> str:
    """Say what a bill and the S3 server count apart."""

    def told(sign: int) -> str:
        apart = {kind: sign * (theirs - ours) for kind, (ours, theirs) in counts.items()}
        return ", ".join(f"{n} {kind}" for kind, n in apart.items() if n > 0)

    silent, begun = told(1), told(-1)
    words = f", but for {silent} more of the {n_silent} that left no word" if silent else ""
    return words + (f", but for {begun} less, on its way when processes died" if begun else "")


def check_milliseconds(record: dict[str, Any], made: LoopbackRun) -> None:
    """Hold a bill against Lambda's log.

    Parameters
    ----------
    record : dict
        The saved bill.
    made : LoopbackRun

    Raises
    ------
    RuntimeError
        If they differ by a millisecond, or the bill does not follow from its lines.
    """
    billed_ms = sum(call.report.billed_duration_ms for call in made.calls)
    told_ms = record["bills"]["report"]["billed_ms"]
    if (told_ms, record["unexplained_ms"]) != (billed_ms, 0):
        raise RuntimeError(
            f"the bill has {told_ms} ms, {record['unexplained_ms']} ms of them unexplained; "
            f"Lambda's log has {billed_ms} ms"
        )


def check_requests(
    record: dict[str, Any], counted: Counter[str], n_dead: tuple[int, int]
) -> dict[str, tuple[int, int]]:
    """Hold a bill against what the S3 server counted.

    Parameters
    ----------
    record : dict
        The saved bill.
    counted : Counter
        By kind, as `hstmap.aws.local.LocalAws.s3_charged`.
    n_dead : (int, int)
        Calls whose process was killed: they have counted what perhaps did not reach the server.
        And invocations that left no word: what they asked for nobody else knows.

    Returns
    -------
    dict of str to (int, int)
        By kind, of the bill and of the server.

    Raises
    ------
    RuntimeError
        If they differ by a request that none of these can have made.
    """
    n_killed, n_silent = n_dead
    billed = record["usages"]["report"]
    counts = {kind: (billed[f"n_{kind}"], counted[kind]) for kind in ("get", "put", "list")}
    for kind, (ours, theirs) in counts.items():
        if ours - theirs > MOST_UNDER_WAY * n_killed or (ours < theirs and not n_silent):
            raise RuntimeError(f"the bill has {ours} {kind}, S3 has counted {theirs}")
    return counts


def lines_of(record: dict[str, Any], store: Store) -> dict[str, tuple[float, float, float]]:
    """Pair the lines of a plan with those of the bill, and say what was paid again.

    Parameters
    ----------
    record : dict
        The saved bill.
    store : Store
        The run's.

    Returns
    -------
    dict of str to (float, float, float)
        Planned, billed, and what of that was for calls made again, US dollars at list price.
    """
    planned, report = (
        {line["name"]: line["list_usd"] for line in record["bills"][column]["lines"]}
        for column in ("planned", "report")
    )
    prices = load_prices(record["bills"]["report"]["prices"])
    rows = read_rows(store)
    again = paid_again(rows, asked_again(store), prices)
    if sum(row.billed_duration_ms for row in rows) != record["bills"]["report"]["billed_ms"]:
        raise RuntimeError("the bill's lines and its sum differ")
    return {
        name: (planned[name], report[name], again[name])
        for name in LINES
        if planned[name] or report[name]
    }


def paid_again(rows: list[ReportRow], asked: RequestCounts, prices: PriceTable) -> dict[str, float]:
    """Say by line what calls have cost whose results were not kept, and what replaced environments.

    Parameters
    ----------
    rows : list of ReportRow
    asked : RequestCounts
        Requests of calls whose results were not kept.
    prices : PriceTable

    Returns
    -------
    dict of str to float
        US dollars at list price. An environment that was killed is replaced by another: as many of
        the last ones to be started as died count as that.
    """
    vain = [row for row in rows if row.purpose != "work"]
    dead = {row.log_stream for row in rows if row.status != "success"}
    starts = sorted(
        (row for row in rows if row.init_ms), key=lambda row: row.timestamp_ms
    )[-len(dead):] if dead else []  # fmt: skip
    # INIT is what it adds to a duration.
    inits = [row for row in starts if row not in vain]
    alone, together = (
        Usage(calls=tuple(Call(row.duration_ms, row.memory_mb, ms * row.init_ms) for row in inits))
        for ms in (0, 1)
    )
    architecture = rows[0].architecture
    usage = Usage(
        calls=tuple(row.as_call() for row in vain),
        n_get=asked.n_get + asked.n_head,
        n_put=asked.n_put,
        n_list=asked.n_list,
        log_nbytes=sum(row.log_nbytes for row in vain),
    )
    bill = price(usage, prices, architecture)
    usd = {name: bill.line(name).list_usd for name in LINES}
    usd["init"] += (
        price(together, prices, architecture).line("init").list_usd
        - price(alone, prices, architecture).line("init").list_usd
    )
    return usd


def asked_again(store: Store) -> RequestCounts:
    """Say what calls have asked for whose results were not kept, as far as anybody knows.

    Parameters
    ----------
    store : Store
        The run's.

    Returns
    -------
    RequestCounts
        With the client's: a look for each interval that such calls have made the run longer by. A
        second in which one holds a place that others wait for is that, divided among all places.
    """
    made = requests_of_run(store).by_origin
    kept, held_s, n_failed = RequestCounts(), 0.0, 0
    for attempt in read_attempts(store):
        if attempt.status != "ok":
            held_s += attempt.ended_s - attempt.submitted_s
            n_failed += attempt.requests is not None
        elif attempt.requests is not None:
            kept += attempt.requests.work + attempt.requests.engine
    looks = RequestCounts(n_list=round(held_s / N_WORKERS / POLL_S), n_get=n_failed)
    return made["workers"] + made["workers_engine"] - kept + looks
