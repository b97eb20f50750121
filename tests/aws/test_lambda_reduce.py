"""The reduce by tasks on Lambda while things go wrong: the files of this machine, byte by byte."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from hstmap.aws.local import Fault
from hstmap.bag.engine import EngineOptions, InProcessEngine, make_engine
from hstmap.errors import EngineError
from hstmap.reduce_plan import plan_reduce
from hstmap.storage import open_store
from hstmap.summary import run_reduce
from support.parts import write_mapped

COUNTS = {f"i{number:02d}": 3 + number % 4 for number in range(12)}
PARTS = [{name: COUNTS[name] for name in list(COUNTS)[i : i + 4]} for i in range(0, 12, 4)]
ROWS_A_FILE = 14


def mapped(deployment: Any) -> str:
    """A run in the deployment's bucket."""
    out = f"s3://{deployment.settings.bucket}/reduce-{uuid.uuid4().hex}"
    write_mapped(out, PARTS, list(COUNTS))
    return out


def files_of(out: str) -> dict[str, bytes]:
    store = open_store(out)
    return {info.key: store.get(info.key) for info in store.list("sources")}


def reduced(deployment: Any, out: str, *faults: Fault, **options: Any) -> Any:
    deployment.aws.faults.add(*faults)
    settings = {"retries": 4, "timeout_s": 6.0, "start_timeout_s": 4.0, "stragglers": None}
    engine_options = EngineOptions(lithops_config=deployment.lithops_config, **(settings | options))
    with make_engine("lithops", engine_options) as engine:
        return run_reduce(plan_reduce(out, rows_a_file=ROWS_A_FILE), engine)


@pytest.fixture
def expected(deployment: Any) -> dict[str, bytes]:
    out = mapped(deployment)
    with InProcessEngine() as engine:
        run_reduce(plan_reduce(out, rows_a_file=ROWS_A_FILE), engine)
    return files_of(out)


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([("kill-call", 2)], id="killed twice"),
        pytest.param([("kill-at-response", 1), ("duplicate", 2)], id="answer lost, events doubled"),
        pytest.param([("throttle", 2), ("drop", 1)], id="throttled and dropped"),
    ],
)
def test_whatever_happens_to_its_calls_the_files_are_the_same(deployment, expected, faults):
    out = mapped(deployment)
    n_run, n_fired = len(deployment.runs()), len(deployment.aws.faults.fired)
    script = [Fault(kind, function="hstmap", n_times=n) for kind, n in faults]
    result = reduced(deployment, out, *script)
    assert len(deployment.aws.faults.fired) - n_fired == sum(n for _, n in faults)
    assert result.n_files == len(expected) > 3
    assert result.n_sources == sum(COUNTS.values())
    deployment.aws.wait_until_idle()
    assert files_of(out) == expected
    assert len(deployment.runs()) > n_run


def test_what_was_written_before_it_failed_is_kept(deployment, expected):
    out = mapped(deployment)
    fault = Fault("kill-call", function="hstmap", n_times=1)
    with pytest.raises(EngineError, match=r"1 of \d files of sources could not be written"):
        reduced(deployment, out, fault, retries=0)
    store = open_store(out)
    assert not store.exists("images.parquet")
    assert not list(store.list("sources"))
    deployment.aws.faults.clear()
    assert len(plan_reduce(out, rows_a_file=ROWS_A_FILE).todo) == 1
    n_run = len(deployment.runs())
    reduced(deployment, out)
    assert len(deployment.runs()) == n_run + 1
    assert files_of(out) == expected
    assert not list(store.list("reduce/"))
