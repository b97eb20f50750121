"""The simulated reduce: the client's for one file, calls for several, and what arithmetic says."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hstmap.account.run_assumptions import EXPECTED, VCPU_MB, RunShape, cpu_speed
from hstmap.account.run_model import simulate_run
from hstmap.account.run_profile import load_profile
from hstmap.account.run_reduce import model_reduce, n_files
from hstmap.account.run_rough import rough_run
from hstmap.account.run_usage import client_usage
from hstmap.summary_files import MOST_ROWS_OF_ONE_FILE, ROWS_A_FILE

MEASURED = load_profile()
#: A thousand sources an image, which take a second to merge, a tenth of one to fetch or to write.
EVEN = dataclasses.replace(
    MEASURED, part_nbytes_image=167_000.0, summary_nbytes_image=167_000.0, reduce_s_image=1.0
)
QUIET = dataclasses.replace(
    EXPECTED, straggler_share=0.0, failure_share=0.0, poll_s=0.0, first_byte_s=0.0,
    bandwidth_nbytes_s=1_670_000.0, calls_a_second=1e9, copy_nbytes_s=1e15,
)  # fmt: skip


def test_a_run_has_as_many_files_as_the_reduce_would_make():
    def files(n_images, rows_a_file=None):
        return n_files(n_images, RunShape(n_images, rows_a_file=rows_a_file), EVEN)

    assert files(MOST_ROWS_OF_ONE_FILE // 1000) == 1
    assert files(MOST_ROWS_OF_ONE_FILE // 1000 + 1) == MOST_ROWS_OF_ONE_FILE // ROWS_A_FILE + 1
    assert files(100, 1000) == 100
    assert files(100, 10**9) == 1
    assert n_files(122_078, RunShape(122_078), MEASURED) == pytest.approx(128, abs=4)


def test_one_file_is_the_clients_and_no_call():
    shape = RunShape(100, 10, 10)
    result = model_reduce(100, shape, EVEN, QUIET)
    assert result.seconds == pytest.approx(100 * (1.0 + 0.1))
    assert (result.calls, result.calls_s) == ((), 0.0)
    pilot = dataclasses.replace(shape, rows_a_file=1000, is_pilot=True)
    assert model_reduce(100, pilot, EVEN, QUIET).calls == ()


@pytest.mark.parametrize("n_workers", [1, 3, 25, 100])
@pytest.mark.parametrize("memory_mb", [VCPU_MB, 3008])
def test_without_noise_files_take_what_arithmetic_says(n_workers, memory_mb):
    """Each of 25 files merges 4 images, s; then it goes out; workers take turns."""
    shape = RunShape(100, n_workers, 10, memory_mb, rows_a_file=4000)
    result = model_reduce(100, shape, EVEN, QUIET)
    call_s = 4 * (1.0 + 0.1)
    assert [call.duration_ms for call in result.calls] == pytest.approx([call_s * 1000] * 25)
    assert {call.memory_mb for call in result.calls} == {memory_mb}
    assert {call.init_ms for call in result.calls} == {0.0}  # the map has left them warm
    assert result.calls_s == pytest.approx(math.ceil(25 / n_workers) * call_s)
    assert result.seconds == pytest.approx(result.calls_s + 100 * 25e-6)


def test_the_client_unites_outlines_while_calls_write():
    idle = dataclasses.replace(EVEN, reduce_s_image=1e-9)
    at_once = dataclasses.replace(QUIET, bandwidth_nbytes_s=1e15)
    result = model_reduce(100, RunShape(100, 25, 10, rows_a_file=4000), idle, at_once)
    assert result.seconds == pytest.approx(100 * (25e-6 + 65e-6), rel=0.01)


def test_half_a_vcpu_merges_as_fast_as_it_computes():
    whole, half = (
        model_reduce(100, RunShape(100, 50, 10, mb, rows_a_file=4000), EVEN, QUIET)
        for mb in (VCPU_MB, 884)
    )
    more_ms = half.calls[0].duration_ms - whole.calls[0].duration_ms
    assert more_ms == pytest.approx(4000 * (1 / cpu_speed(884) - 1), rel=1e-3)


def test_requests_are_those_of_parts_files_and_their_way():
    shape = RunShape(100, 10, 10, rows_a_file=4000, n_parts_there=2)
    result = model_reduce(100, shape, EVEN, QUIET)
    n_parts, n = 12, 25
    assert result.worker.n_get == n_parts + n - 1
    assert result.worker.n_put == n
    large = dataclasses.replace(EVEN, summary_nbytes_image=25e6, part_nbytes_image=25e6)
    in_pieces = model_reduce(100, dataclasses.replace(shape, rows_a_file=600_000), large, QUIET)
    assert len(in_pieces.calls) == n  # of 100 MB: begun, seven pieces of 16 MiB at the most, ended
    assert in_pieces.worker.n_put == n * (1 + 6 + 1)
    whole = client_usage(shape, 1.0) + result.client
    alone = client_usage(shape, 1.0)
    assert whole.n_get == alone.n_get - n_parts + n + 1
    assert whole.n_put == alone.n_put + n + 3


def test_its_calls_are_calls_of_the_run():
    shape = RunShape(1000, 50, 10, catalogs="none", rows_a_file=100_000)
    single = simulate_run(dataclasses.replace(shape, rows_a_file=10**9), EVEN, QUIET)
    several = simulate_run(shape, EVEN, QUIET)
    assert (single.n_reduce_calls, several.n_reduce_calls) == (0, 10)
    assert several.usage.n_calls == single.usage.n_calls + 10
    assert several.usage.n_put >= single.usage.n_put + 2 * 10
    assert several.map_s == single.map_s
    assert several.reduce_s < single.reduce_s / 5


def test_slow_calls_are_drawn_and_cost():
    slow = dataclasses.replace(QUIET, straggler_share=0.5, straggler_slowdown=4.0)
    shape = RunShape(1000, 100, 10, rows_a_file=4000)
    even = model_reduce(1000, shape, EVEN, QUIET)
    drawn = model_reduce(1000, shape, EVEN, slow, np.random.default_rng(1))
    mean = model_reduce(1000, shape, EVEN, slow)
    took = sorted({round(call.duration_ms / even.calls[0].duration_ms, 6) for call in drawn.calls})
    assert took == [1.0, 4.0]
    sums = [sum(call.duration_ms for call in item.calls) for item in (drawn, mean)]
    assert sums[0] == pytest.approx(sums[1], rel=0.15)
    assert drawn.calls_s > even.calls_s


@settings(max_examples=40, deadline=None)
@given(
    n_images=st.integers(1, 3000),
    n_workers=st.integers(1, 200),
    rows_a_file=st.integers(500, 10**6),
)
def test_more_workers_are_never_slower_and_the_work_is_the_same(n_images, n_workers, rows_a_file):
    one, more = (
        model_reduce(n_images, RunShape(n_images, n, 10, rows_a_file=rows_a_file), EVEN, QUIET)
        for n in (n_workers, 2 * n_workers)
    )
    assert more.seconds <= one.seconds + 1e-9
    assert more.calls == one.calls
    if one.calls:
        total_s = sum(call.duration_ms for call in one.calls) / 1000
        assert total_s == pytest.approx(n_images * 1.1)
        assert one.calls_s >= total_s / n_workers - 1e-6


def test_the_closed_form_has_the_same_reduce():
    shape = RunShape(4000, 100, 10, catalogs="none")
    for rows_a_file in (100_000, 10**9):
        sized = dataclasses.replace(shape, rows_a_file=rows_a_file)
        simulated, rough = simulate_run(sized, EVEN, QUIET), rough_run(sized, EVEN, QUIET)
        assert rough.reduce_s == pytest.approx(simulated.reduce_s)
        assert rough.usage.n_calls == simulated.usage.n_calls
        assert rough.usage.n_put == simulated.usage.n_put


def test_the_archive_is_merged_in_a_small_share_of_what_a_client_takes():
    shape = RunShape(122_078, 1000, 31, 1536)
    single = model_reduce(122_078, dataclasses.replace(shape, rows_a_file=10**12), MEASURED, QUIET)
    several = model_reduce(122_078, shape, MEASURED, EXPECTED)
    assert several.seconds < single.seconds / 5
