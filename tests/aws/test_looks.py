"""How often the client looks what has ended: each look is a LIST, which S3 charges like a PUT."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hstmap.account.run_usage import count_looks
from hstmap.bag.engine import EngineOptions, Stage, Task, make_engine
from hstmap.bag.events import AttemptSubmitted, Event, StageEnded

POLL_S = 0.1  # of the deployment's configuration


def wait(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@pytest.mark.parametrize(
    ("n_calls", "call_s", "n_workers"),
    [(40, 0.0, 3), (4, 1.5, 2), (1, 2.5, 1)],
    ids=["many short calls", "few long ones", "a single one"],
)
def test_the_client_lists_as_often_as_is_planned(
    deployment: Any, n_calls: int, call_s: float, n_workers: int
) -> None:
    times: list[float] = []

    def watch(event: Event) -> None:
        if isinstance(event, StageEnded) or (isinstance(event, AttemptSubmitted) and not times):
            times.append(event.time_s)

    options = EngineOptions(
        lithops_config=deployment.lithops_config, n_workers=n_workers, stragglers=None
    )
    before = deployment.aws.s3_charged
    with make_engine("lithops", options, [watch]) as engine:
        tasks = [Task(str(number), call_s) for number in range(n_calls)]
        assert all(attempt.status == "ok" for attempt in engine.run(Stage("waits", wait, tasks)))
    n_listed = (deployment.aws.s3_charged - before)["list"]
    assert engine.requests.client.n_list == n_listed
    first_s, last_s = times
    planned = count_looks(last_s - first_s, n_calls, POLL_S)
    # While calls are sent nobody looks, and where the machine is busy that takes longer.
    assert 0.5 * planned <= n_listed <= planned
