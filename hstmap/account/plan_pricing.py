"""What a plan of a `~hstmap.Bag` would cost on Lambda: `hstmap.Bag.plan` asks this."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from hstmap.account.run_assumptions import VCPU_MB
from hstmap.account.run_usage import N_GET_CALL, N_PUT_CALL
from hstmap.aws.bill import Bill, price
from hstmap.aws.price_table import PriceTable, load_prices
from hstmap.aws.usage import LOG_NBYTES_A_CALL, Call, Usage, n_event_requests
from hstmap.bag.plan import Plan, PlannedStage, Pricing
from hstmap.bag.policy import StragglerPolicy
from hstmap.errors import UsageError

__all__ = ["BagFunction", "PlanPrice", "lambda_pricing"]

_IN_BASE_64: Final = 4 / 3


@dataclass(frozen=True)
class BagFunction:
    """The function that a bag's tasks are calls of.

    Attributes
    ----------
    memory_mb : int
    architecture : str
    init_s : float
        What a start takes, s.
    n_workers : int
        Calls at a time.
    stragglers : StragglerPolicy or None
        The engine's: how many tasks get a second call at most.
    """

    memory_mb: int = VCPU_MB
    architecture: str = "arm64"
    init_s: float = 1.0
    n_workers: int = 1000
    stragglers: StragglerPolicy | None = field(default_factory=StragglerPolicy)


@dataclass(frozen=True)
class PlanPrice:
    """The price of a plan.

    Attributes
    ----------
    bill : Bill
        By line, each task made once.
    twins_usd : float
        What second calls of slow tasks add at the most, at list price.
    """

    bill: Bill
    twins_usd: float

    def __str__(self) -> str:
        lines = ", ".join(
            f"{line.name} {line.list_usd:.6f}" for line in self.bill.lines if line.list_usd
        )
        return (
            f"${self.bill.list_usd:.6f} at list price ({lines}), ${self.bill.net_usd:.6f} after "
            f"the free tier; twins of slow tasks add ${self.twins_usd:.6f} at most"
        )


def lambda_pricing(
    task_s: float | Callable[[PlannedStage], float],
    function: BagFunction | None = None,
    prices: PriceTable | None = None,
) -> Pricing:
    """Make what `hstmap.Bag.plan` takes as its ``pricing``.

    Parameters
    ----------
    task_s : float or callable
        How long a task is expected to take, s; a callable is asked for each stage.
    function : BagFunction, optional
    prices : PriceTable, optional
        By default the table that comes with hstmap.

    Returns
    -------
    callable
        Of a plan; gives a `PlanPrice`. Results that go through storage are not in it: how large
        they are is not known before.
    """
    function = function or BagFunction()
    table = prices or load_prices()

    def price_of(plan: Plan) -> PlanPrice:
        bill = price(_usage(plan, task_s, function), table, function.architecture)
        twins = price(_twins(plan, task_s, function), table, function.architecture)
        return PlanPrice(bill, twins.list_usd)

    return price_of


def _usage(
    plan: Plan, task_s: float | Callable[[PlannedStage], float], function: BagFunction
) -> Usage:
    """Say what the tasks of a plan use, each called once."""
    calls: list[Call] = []
    n_warm = 0
    for stage in plan.stages:
        call = _call(stage, task_s, function)
        # Environments of the stages before are there still.
        n_cold = max(0, min(function.n_workers, stage.n_tasks) - n_warm)
        n_warm += n_cold
        cold = Call(call.duration_ms, call.memory_mb, function.init_s * 1000, n=n_cold,
                    n_requests=call.n_requests)  # fmt: skip
        warm = Call(call.duration_ms, call.memory_mb, n=stage.n_tasks - n_cold,
                    n_requests=call.n_requests)  # fmt: skip
        calls += [item for item in (cold, warm) if item.n]
    return _with_requests(calls, n_get=n_warm, n_put=len(plan.stages))


def _twins(
    plan: Plan, task_s: float | Callable[[PlannedStage], float], function: BagFunction
) -> Usage:
    """Say what second calls use, if there are as many as there may be."""
    policy = function.stragglers
    calls: list[Call] = []
    for stage in plan.stages if policy else ():
        call = _call(stage, task_s, function)
        n = policy.max_twins(stage.n_tasks) if policy else 0
        calls.append(Call(call.duration_ms, call.memory_mb, purpose="twin", n=n,
                          n_requests=call.n_requests))  # fmt: skip
    return _with_requests([call for call in calls if call.n])


def _call(
    stage: PlannedStage, task_s: float | Callable[[PlannedStage], float], function: BagFunction
) -> Call:
    """Make a call of a stage."""
    seconds = task_s(stage) if callable(task_s) else task_s
    if not (math.isfinite(seconds) and seconds >= 0):
        raise UsageError(f"a task of stage {stage.name!r} is said to take {seconds} s")
    nbytes = (stage.nbytes_in or 0) / max(1, stage.n_tasks) * _IN_BASE_64
    n_requests = n_event_requests(math.ceil(nbytes))
    return Call(seconds * 1000, function.memory_mb, n_requests=n_requests)


def _with_requests(calls: list[Call], n_get: int = 0, n_put: int = 0) -> Usage:
    n_calls = sum(call.n for call in calls)
    return Usage(
        calls=tuple(calls),
        n_get=n_get + N_GET_CALL * n_calls,
        n_put=n_put + N_PUT_CALL * n_calls,
        log_nbytes=LOG_NBYTES_A_CALL * n_calls,
    )
