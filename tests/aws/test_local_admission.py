"""Concurrency as the account has it, and cores that are never promised twice."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.aws.local.admission import Concurrency, CpuGate
from hstmap.aws.local.api_error import ApiError


@dataclass
class FunctionStub:
    arn: str
    reserved_concurrency: int | None = None


@given(
    work=st.lists(st.tuples(st.floats(0.07, 6), st.integers(0, 4)), min_size=1, max_size=25),
    n_cores=st.floats(0.5, 8),
)
def test_the_busy_shares_never_exceed_the_cores_and_all_get_their_turn(work, n_cores):
    async def run() -> tuple[list[int], float]:
        gate = CpuGate(n_cores)
        entered, busy, peak = [], {}, 0.0

        async def do(index: int, share: float, n_steps: int) -> None:
            nonlocal peak
            async with gate.hold(share):
                entered.append(index)
                busy[index] = share
                if len(busy) > 1:
                    peak = max(peak, sum(busy.values()))
                for _ in range(n_steps):
                    await asyncio.sleep(0)
                del busy[index]

        await asyncio.gather(*(do(i, *one) for i, one in enumerate(work)))
        assert gate.busy_share == pytest.approx(0, abs=1e-9)
        return entered, peak

    entered, peak = asyncio.run(run())
    assert entered == list(range(len(work)))  # first come, first served
    assert peak <= n_cores + 1e-6


def test_who_gives_up_waiting_leaves_the_place_to_the_next():
    async def run() -> None:
        gate = CpuGate(1.0)
        async with gate.hold(0.6):
            waiting = [asyncio.ensure_future(hold(gate)) for _ in range(2)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            await asyncio.sleep(0)
        assert await waiting[1] == "held"
        assert gate.busy_share == pytest.approx(0)

    async def hold(gate: CpuGate) -> str:
        async with gate.hold(0.6):
            return "held"

    asyncio.run(run())


def test_without_a_limit_everybody_is_let_in():
    async def run() -> float:
        gate = CpuGate(math.inf)
        async with gate.hold(100), gate.hold(100), gate.hold(100):
            return gate.busy_share

    assert asyncio.run(run()) == 300


def test_an_account_is_throttled_at_its_limit_and_free_again_below_it():
    function = FunctionStub("f")
    concurrency = Concurrency(2, lambda: [function])
    concurrency.take(function)
    concurrency.take(function)
    with pytest.raises(ApiError) as caught:
        concurrency.take(function)
    assert (caught.value.status, caught.value.code) == (429, "TooManyRequestsException")
    assert caught.value.body["Reason"] == "ConcurrentInvocationLimitExceeded"
    concurrency.give_back(function)
    concurrency.take(function)


def test_reserved_concurrency_is_a_limit_and_a_guarantee():
    reserved, other = FunctionStub("reserved", 2), FunctionStub("other")
    concurrency = Concurrency(5, lambda: [reserved, other])
    assert concurrency.unreserved_limit == 3
    for _ in range(3):
        concurrency.take(other)
    assert concurrency.refusal(other) == "ConcurrentInvocationLimitExceeded"
    for _ in range(2):
        concurrency.take(reserved)
    assert concurrency.refusal(reserved) == "ReservedFunctionConcurrentInvocationLimitExceeded"


def test_a_function_with_nothing_reserved_never_runs():
    stopped = FunctionStub("stopped", 0)
    concurrency = Concurrency(5, lambda: [stopped])
    assert concurrency.refusal(stopped) == "ReservedFunctionConcurrentInvocationLimitExceeded"
