"""Forks that are watched over, and events as they travel."""

from __future__ import annotations

import base64
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import hstmap
from hstmap.aws import event as event_module
from hstmap.aws.calls import process_age_s, run_in_fork
from hstmap.aws.event import (
    CallEvent,
    check_versions,
    python_version,
    runtime_facts,
    without_secrets,
)
from hstmap.errors import StaleRuntimeError

PAYLOAD: dict[str, Any] = {
    "config": {"aws": {"secret_access_key": "hush"}},
    "executor_id": "e-0",
    "job_id": "M000",
    "call_ids": ["00007"],
    "func_key": "lithops.jobs/e-0/f.func.pickle",
    "execution_timeout": 55,
    "data_byte_strs": [b"\x80data"],
}


def test_a_fork_that_returns_is_zero(tmp_path: Path):
    assert run_in_fork((tmp_path / "there").touch, (), 10.0) == 0
    assert (tmp_path / "there").exists()


@pytest.mark.parametrize(
    ("end", "exit_code"),
    [
        (lambda: os._exit(5), 5),
        (lambda: os._exit(0), 1),  # it left early, so what it was to do was not done
        (lambda: sys.exit(3), 3),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), -signal.SIGKILL),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), -signal.SIGTERM),
        (lambda: 1 / 0, 1),
    ],
)
def test_how_a_fork_ended_is_told(end, exit_code):
    assert run_in_fork(end, (), 10.0) == exit_code


def test_a_fork_that_takes_too_long_is_killed(tmp_path: Path):
    def stay(file: Path) -> None:
        file.write_text(str(os.getpid()))
        time.sleep(3600)

    assert run_in_fork(stay, (tmp_path / "pid",), 1.0) is None
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_fork_that_is_done_and_hangs_at_its_end_counts_as_done():
    def leave_a_thread() -> None:
        threading.Thread(target=time.sleep, args=(3600,)).start()

    assert run_in_fork(leave_a_thread, (), 30.0) == 0


FORKS_THAT_ASK = """
import os, sys
from hstmap.aws.calls import process_age_s, run_in_fork
from hstmap.storage import open_store

def put(n):
    open_store(sys.argv[1]).put(f"fork-{n}", b"x")

print([run_in_fork(put, (n,), 60.0) for n in range(4)])
"""


def test_forks_can_use_the_store_one_after_another(s3_bucket: str):
    command = [sys.executable, "-c", FORKS_THAT_ASK, s3_bucket]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.strip() == "[0, 0, 0, 0]", done.stderr


# -- events ----------------------------------------------------------------------------------------


def test_an_event_survives_the_way():
    event = CallEvent.from_lithops(PAYLOAD, "bucket")
    assert CallEvent.from_dict(json.loads(json.dumps(event.as_dict()))) == event
    assert event.prefix == "lithops.jobs/e-0-M000/00007"
    assert base64.b64decode(event.data) == b"\x80data"
    assert (event.version, event.python) == (hstmap.__version__, python_version())


def test_an_event_has_nothing_of_the_configuration():
    assert "hush" not in json.dumps(CallEvent.from_lithops(PAYLOAD, "bucket").as_dict())


def test_what_lithops_sends_itself_loses_its_keys_only():
    sent = without_secrets(PAYLOAD | {"config": {"aws": {"secret_access_key": "h", "region": "r"}}})
    assert sent == PAYLOAD | {"config": {"aws": {"region": "r"}}}


def test_engine_and_backend_mean_the_same_mark():
    from hstmap.bag import lithops_calls

    assert event_module.CALL_MARK == lithops_calls.CALL_MARK


def test_data_that_is_too_large_is_pointed_at():
    payload = {k: v for k, v in PAYLOAD.items() if k != "data_byte_strs"}
    payload |= {"data_key": "lithops.jobs/e-0-M000/agg", "data_byte_ranges": [(100, 299)]}
    event = CallEvent.from_dict(
        json.loads(json.dumps(CallEvent.from_lithops(payload, "bucket").as_dict()))
    )
    assert (event.data, event.data_key, event.data_range) == ("", payload["data_key"], (100, 299))


def test_an_event_that_is_written_otherwise_is_refused():
    content = CallEvent.from_lithops(PAYLOAD, "bucket").as_dict()
    content["hstmap_call"] |= {"version": "7.0", "more": 1}
    with pytest.raises(StaleRuntimeError, match=r"hstmap 7\.0"):
        CallEvent.from_dict(content)


@pytest.mark.parametrize("name", ["hstmap", "python"])
def test_versions_must_be_equal(name: str):
    check_versions(runtime_facts(), runtime_facts())
    with pytest.raises(StaleRuntimeError, match="runtime/build"):
        check_versions(runtime_facts(), runtime_facts() | {name: "0"})


def test_the_refusal_survives_pickling():
    error = StaleRuntimeError("old")
    assert str(pickle.loads(pickle.dumps(error))) == "old"


def test_a_process_knows_how_long_it_has_been_there():
    code = "import time; time.sleep(0.3); from hstmap.aws.calls import process_age_s as age; "
    command = [sys.executable, "-c", code + "print(age())"]
    began = time.monotonic()
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert 0.29 <= float(told) <= time.monotonic() - began + 0.02
    assert process_age_s() > 0.3  # this one has imported pytest
