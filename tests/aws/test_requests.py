"""Requests that a run counts, against the S3 server's own log of them: to the request."""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hstmap.account.requests_made import RequestLog, requests_of_run
from hstmap.aws.local import Fault
from hstmap.aws.local.s3_log import S3Request, s3_requests
from hstmap.aws.local.services import ServiceRequest
from hstmap.bag.engine import EngineOptions, Stage, Task, make_engine
from hstmap.bag.ledger import Ledger
from hstmap.cli import main
from hstmap.storage import RequestCounts, Store, open_store
from support.archive import small_flt

KINDS = ("get", "put", "list", "head", "delete")
#: 400 frames take some minutes: HSTMAP_LONG_TESTS=1 pytest -s -k many_frames
N_MANY = 400 if os.environ.get("HSTMAP_LONG_TESTS") else 16


class Judge:
    """The server's log since some moment."""

    def __init__(self, aws: Any) -> None:
        self._aws = aws
        self._n_before = len(aws.s3_log)

    def log(self) -> list[S3Request]:
        self._aws.wait_until_idle()
        return self._aws.s3_log[self._n_before :]

    def charged(self) -> Counter[str]:
        """Requests by kind; S3 charges nothing for its own errors."""
        return Counter(item.kind for item in self.log() if item.status < 500)


def by_kind(counts: RequestCounts) -> Counter[str]:
    return Counter({kind: getattr(counts, f"n_{kind}") for kind in KINDS})


@pytest.fixture
def bucket(deployment: Any) -> str:
    return f"s3://{deployment.settings.bucket}"


def put_frames(bucket: str, n_frames: int) -> str:
    """Put small frames, of which three differ, and return where they are."""
    url = f"{bucket}/frames-{uuid.uuid4().hex}"
    store = open_store(url)
    for number in range(n_frames):
        store.put(f"isim{number:03d}1q_flt.fits", small_flt(1 + number % 3))
    return url


def run_map(deployment: Any, frames: str, out: str, folder: Path, *words: str) -> None:
    config = deployment.write_config(folder)
    command = ["map", frames, "--out", out, "--config", str(config), "--quiet", *words]
    assert main(command) == 0


# -- whole runs ------------------------------------------------------------------------------------


def test_a_run_counts_what_the_server_saw(deployment, bucket, tmp_path):
    """With calls that are throttled, dropped and delivered twice; reduced, and gone on with."""
    frames, out = put_frames(bucket, 12), f"{bucket}/run-{uuid.uuid4().hex}"
    deployment.aws.faults.add(
        Fault("throttle", function="hstmap", n_times=3),
        Fault("duplicate", function="hstmap", n_times=2),
    )
    judge = Judge(deployment.aws)
    run_map(deployment, frames, out, tmp_path, "--batch-size", "2", "--limit", "8", "--no-reduce")
    run_map(deployment, frames, out, tmp_path, "--batch-size", "1", "--catalogs", "image")
    assert main(["reduce", out, "--quiet"]) == 0
    config = str(deployment.write_config(tmp_path))
    words = ("--rows-a-file", "60", "--config", config, "--quiet")
    assert main(["reduce", out, *words]) == 0  # by tasks, whose files S3 is let copy
    seen = judge.charged()
    made = requests_of_run(open_store(out))
    assert made.silent == ()
    assert made.n_silent_clients == 0
    assert by_kind(made.total) == seen, dict(made.by_origin)
    assert all(made.by_origin[name].n_requests for name in made.by_origin if name != "bill")
    assert seen["put"] > 2 * 8  # an answer and a sign of life a call at the least


def test_many_frames_count_what_the_server_saw(deployment, bucket, tmp_path):
    frames, out = put_frames(bucket, N_MANY), f"{bucket}/many-{uuid.uuid4().hex}"
    deployment.aws.faults.add(
        Fault("throttle", function="hstmap", n_times=5),
        Fault("duplicate", function="hstmap", n_times=2),
    )
    judge = Judge(deployment.aws)
    run_map(deployment, frames, out, tmp_path, "--batch-size", "4", "--catalogs", "none")
    seen = judge.charged()
    made = requests_of_run(open_store(out))
    n_calls = N_MANY // 4
    figures = [f"\n{N_MANY} frames in {n_calls} calls; the server saw {dict(seen)}"]
    for origin, counts in made.by_origin.items():
        a_call = counts.n_requests / n_calls
        figures.append(f"{origin:15} {dict(+by_kind(counts))}; {a_call:.2f} a call")
    sys.stdout.write("\n".join([*figures, ""]))
    assert by_kind(made.total) == seen
    assert made.silent == ()


def test_an_environment_that_is_killed_is_named_and_all_else_is_counted(
    deployment, bucket, tmp_path
):
    frames, out = put_frames(bucket, 6), f"{bucket}/killed-{uuid.uuid4().hex}"
    deployment.aws.faults.add(
        Fault("kill-midway", function="hstmap", n_times=3, delay_s=0.1),
        Fault("kill-at-response", function="hstmap", n_times=1),
    )
    judge = Judge(deployment.aws)
    words = ("--batch-size", "1", "--retries", "5", "--timeout", "10", "--no-reduce")
    run_map(deployment, frames, out, tmp_path, *words)
    log, seen = judge.log(), judge.charged()
    made = requests_of_run(open_store(out))
    missing = seen - by_kind(made.total)
    assert by_kind(made.total) - seen == Counter()
    # The server knows, too, who began and never answered.
    assert set(made.silent) == names(log, ".init") - names(log, ".status.json")
    assert len(made.silent) >= 1
    told = made.by_origin["workers"] + made.by_origin["workers_engine"]
    most_a_call = told.n_requests / len(names(log, ".status.json"))
    assert missing.total() <= len(made.silent) * most_a_call
    assert str(len(made.silent)) in made.notes[0]


def names(log: list[S3Request], ending: str) -> set[str]:
    """The invocations that put an object of this kind."""
    puts = [item.key.rpartition("/")[2] for item in log if item.kind == "put"]
    return {name.removesuffix(ending) for name in puts if name.endswith(ending)}


# -- single calls ----------------------------------------------------------------------------------


def ask_and(payload: tuple[Store, str]) -> str:
    """Three requests, and then what may happen to a task."""
    store, what = payload
    store.put(f"{what}-1", b"x")
    store.get(f"{what}-1")
    store.exists("nothing")
    if what == "hang":
        time.sleep(3600)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "exit":
        os._exit(5)
    if what == "raise":
        raise LookupError("not here")
    return what * (300_000 if what == "large" else 1)


@pytest.mark.parametrize("retries", [0, 1])
def test_attempts_tell_their_requests_however_their_process_ends(deployment, bucket, retries):
    kinds = ["hang", "kill", "exit", "raise", "fine", "large"]
    store = open_store(f"{bucket}/calls-{uuid.uuid4().hex}")
    tasks = [Task(f"{number}", (store, what)) for number, what in enumerate(kinds)]
    options = EngineOptions(
        lithops_config=deployment.lithops_config, timeout_s=4.0, retries=retries, stragglers=None
    )
    judge = Judge(deployment.aws)
    with (
        RequestLog("map") as requests,
        Ledger(store) as ledger,
        requests.written_to(ledger),
        make_engine("lithops", options, [ledger]) as engine,
    ):
        requests.watch(engine)
        done = {item.task_key: item for item in engine.run(Stage("calls", ask_and, tasks))}
        time.sleep(2.0)  # the scheduler ends what hangs, and its worker tells a moment later
    seen = judge.charged()
    made = requests_of_run(store)
    assert made.silent == ()
    assert by_kind(made.total) == seen, dict(made.by_origin)
    n_calls = len(kinds) + 3 * retries  # another attempt may mend what the first three do
    assert by_kind(made.by_origin["workers"]) == {
        "put": n_calls, "get": n_calls, "head": n_calls, "list": 0, "delete": 0,
    }  # fmt: skip
    for number, what in enumerate(kinds):
        attempt = done[str(number)]
        if what != "hang":
            assert attempt.requests.work.n_requests == 3
            assert attempt.requests.engine.n_put == 2 + (what == "large")


def test_a_warm_environment_fetches_its_function_once(deployment, bucket):
    options = EngineOptions(lithops_config=deployment.lithops_config, n_workers=1)
    with make_engine("lithops", options) as engine:
        tasks = [Task(str(number), number) for number in range(4)]
        attempts = list(engine.run(Stage("warm", abs, tasks)))
    assert sum(attempt.requests.engine.n_get for attempt in attempts) == 1
    assert all(attempt.requests.engine.n_put == 2 for attempt in attempts)


def test_arguments_of_a_batch_travel_with_the_event(deployment):
    options = EngineOptions(lithops_config=deployment.lithops_config, n_workers=1)
    judge = Judge(deployment.aws)
    with make_engine("lithops", options) as engine:
        tasks = [Task("large", os.urandom(100_000)), Task("huge", os.urandom(150_000))]
        attempts = {item.task_key: item for item in engine.run(Stage("data", len, tasks))}
    n_data = sum(item.key.endswith("aggdata.pickle") for item in judge.log() if item.kind == "put")
    assert n_data == 1
    assert [attempts[key].value for key in ("large", "huge")] == [100_000, 150_000]
    assert attempts["huge"].requests.engine.n_get >= 1


def test_two_stages_of_one_function_find_it_both(deployment):
    """Lithops sends a function once an executor: it must stay there until the end."""
    options = EngineOptions(lithops_config=deployment.lithops_config, n_workers=1)
    with make_engine("lithops", options) as engine:
        for name in ("first", "second"):
            end_environments(deployment)
            (attempt,) = engine.run(Stage(name, abs, [Task("one", -1)]))
            assert (attempt.status, attempt.value) == ("ok", 1)


def end_environments(deployment: Any) -> None:
    """Change the function, which ends its environments: they forget what they kept."""
    deployment.session.client("lambda").update_function_configuration(
        FunctionName="hstmap", Description=f"at {time.time()}"
    )


def test_what_was_read_is_removed_while_calls_go_on(deployment, monkeypatch):
    monkeypatch.setattr("hstmap.bag.lithops_post._MOST_SPENT", 4)
    options = EngineOptions(lithops_config=deployment.lithops_config, n_workers=1)
    client = deployment.aws.client("s3")
    most = 0
    with make_engine("lithops", options) as engine:
        tasks = [Task(str(number), number) for number in range(8)]
        for attempt in engine.run(Stage("removed", abs, tasks)):
            listing = client.list_objects_v2(
                Bucket=deployment.settings.bucket,
                Prefix=f"lithops.jobs/{attempt.call_name.rsplit('-', 1)[0]}",
            )
            most = max(most, listing["KeyCount"])
    assert most <= 4 + 4  # the function, the spent, and a call under way


# -- the log ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/bucket/a/b%20c.fits", ("get", "bucket", "a/b c.fits")),
        ("GET", "/bucket?list-type=2&prefix=a%2F", ("list", "bucket", "")),
        ("GET", "/bucket/?list-type=2", ("list", "bucket", "")),
        ("HEAD", "/bucket", ("head", "bucket", "")),
        ("HEAD", "/bucket/key", ("head", "bucket", "key")),
        ("PUT", "/bucket/key?partNumber=1&uploadId=x", ("put", "bucket", "key")),
        ("POST", "/bucket/key?uploads", ("put", "bucket", "key")),
        ("POST", "/bucket?delete", ("delete", "bucket", "")),
        ("POST", "/bucket/?delete=", ("delete", "bucket", "")),
        ("DELETE", "/bucket/key", ("delete", "bucket", "key")),
    ],
)
def test_requests_in_the_log_are_told_by_kind(method, path, expected):
    (read,) = s3_requests([ServiceRequest("s3", method, path, 200)])
    assert (read.kind, read.bucket, read.key) == expected


def test_the_log_has_requests_of_s3_only():
    log = [ServiceRequest(service, "POST", "/", 200) for service in ("logs", "sts", "lambda")]
    assert s3_requests([*log, ServiceRequest("unsigned", "GET", "/stpubdata/x", 404)]) == [
        S3Request("get", "stpubdata", "x", 404)
    ]
