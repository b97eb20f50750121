"""The simulation of runs: laws that hold whatever is drawn, and cases that can be computed."""

from __future__ import annotations

import dataclasses
import math
import statistics
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import archive
from hstmap.account.estimate import estimate_run
from hstmap.account.run_assumptions import EXPECTED, VCPU_MB, Assumptions, RunShape, cpu_speed
from hstmap.account.run_model import simulate_run
from hstmap.account.run_profile import ImageSample, Profile, load_profile
from hstmap.aws.bill import LINES, price
from hstmap.aws.price_table import load_prices
from hstmap.batch import CATALOGS
from hstmap.errors import UsageError

NOW = load_prices()
MEASURED = load_profile()
COMPUTE_S, NBYTES, PART_NBYTES = 0.5, 7_500_000, 750_000
EVEN = Profile(
    name="even", origin="a test", machine="", date="",
    images=(ImageSample(COMPUTE_S, 0.25, NBYTES),),
    n_get_image=1.0, overhead_s=(0.125,), init_s=(1.0,),
    part_nbytes_image=PART_NBYTES, catalog_nbytes_image=0.0, reduce_s_image=0.0,
)  # fmt: skip
#: Nothing is random, nothing waits for anything but its own worker.
QUIET = Assumptions(
    calls_a_second=1e9, first_byte_s=0.1, bandwidth_nbytes_s=75e6, get_rate=1e9, put_rate=1e9,
    cpu_ratio=1.0, init_ratio=2.0, straggler_share=0.0, failure_share=0.0, twin_fraction=0.0,
    poll_s=0.0,
)  # fmt: skip


shapes = st.builds(
    RunShape,
    n_images=st.integers(1, 300),
    n_workers=st.integers(1, 40),
    batch_size=st.integers(1, 30),
    catalogs=st.sampled_from(CATALOGS),
    rows_a_file=st.none() | st.integers(1, 10**7),
)


@given(
    shape=shapes,
    failure_share=st.floats(0, 0.9),
    straggler_share=st.floats(0, 0.5),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_every_image_is_done_once_or_its_task_failed(shape, failure_share, straggler_share, seed):
    assumptions = dataclasses.replace(
        EXPECTED,
        failure_share=failure_share, straggler_share=straggler_share, straggler_slowdown=20.0,
        twin_fraction=0.5,
    )  # fmt: skip
    n_images, batch_size = shape.n_images, shape.images_a_call
    result = simulate_run(shape, MEASURED, assumptions, seed)
    assert len(result.n_times_done) == n_images
    assert set(result.n_times_done) <= {0, 1}
    purposes = [call.purpose for call in result.usage.calls]
    batches = [result.n_times_done[i : i + batch_size] for i in range(0, n_images, batch_size)]
    assert all(len(set(batch)) == 1 for batch in batches)
    n_done = sum(batch[0] for batch in batches)
    assert purposes.count("work") >= n_done  # calls of the reduce are work, too
    if n_done < len(batches):
        assert purposes.count("waste") >= 1
    if failure_share == 0:
        assert set(result.n_times_done) == {1}
    assert result.n_cold <= min(shape.n_workers, len(batches))
    assert result.usage.n_get >= sum(result.n_times_done)
    assert all(call.duration_ms > 0 for call in result.usage.calls)


@given(
    n_rounds=st.integers(1, 4),
    n_workers=st.integers(1, 20),
    batch_size=st.integers(1, 12),
    memory_mb=st.sampled_from([VCPU_MB // 2, VCPU_MB, 3008]),
)
@settings(max_examples=30, deadline=None)
def test_without_noise_a_run_takes_what_arithmetic_says(n_rounds, n_workers, batch_size, memory_mb):
    """INIT once; then, a call: the first image's fetch, all images, and the part."""
    shape = RunShape(n_rounds * n_workers * batch_size, n_workers, batch_size, memory_mb, "none")
    result = simulate_run(shape, EVEN, QUIET)
    image_s = COMPUTE_S / cpu_speed(memory_mb)
    fetch_s = 0.1 + NBYTES / 75e6
    call_s = fetch_s + batch_size * image_s + 0.1 + batch_size * PART_NBYTES / 75e6
    call_s += batch_size * 0.125 / cpu_speed(memory_mb)
    assert result.map_s == pytest.approx(2.0 + n_rounds * call_s, abs=1e-4)
    work = result.usage.calls[: n_rounds * n_workers]
    assert [call.duration_ms for call in work] == pytest.approx([call_s * 1000] * len(work))
    assert sum(call.init_ms for call in work) == pytest.approx(2000 * n_workers)
    assert {call.purpose for call in work} == {"work"}


def test_speed_grows_with_memory_up_to_a_whole_vcpu_and_is_a_bit_less_than_the_share():
    speeds = [cpu_speed(memory_mb) for memory_mb in range(128, VCPU_MB + 1)]
    assert speeds == sorted(speeds)
    shares = [memory_mb / VCPU_MB for memory_mb in range(128, VCPU_MB + 1)]
    assert all(
        0.75 * share < speed < share for speed, share in zip(speeds[:-1], shares, strict=False)
    )
    assert speeds[-1] == cpu_speed(3008) == 1.0
    # What arithmetic costs at a share, over what it costs at a whole vCPU.
    excess = {mb: mb / VCPU_MB / cpu_speed(mb) - 1 for mb in (512, 885, 1280)}
    assert excess[512] == pytest.approx(0.069, abs=0.002)
    assert excess[885] == pytest.approx(0.040, abs=0.002)
    assert excess[512] > excess[885] > excess[1280] > 0.01


def test_a_worker_that_computes_fast_waits_for_its_link():
    fast = dataclasses.replace(EVEN, overhead_s=(0.0,), images=(ImageSample(1e-6, 0.0, NBYTES),))
    shape = RunShape(100, 1, 100, catalogs="none")
    result = simulate_run(shape, fast, dataclasses.replace(QUIET, first_byte_s=0.0))
    assert result.map_s == pytest.approx(2 + 100 * NBYTES / 75e6 + 1.0, rel=1e-3)


def test_a_client_that_looks_seldom_finds_ended_calls_late():
    shape = RunShape(40, 4, 1, catalogs="none")
    often, seldom = (dataclasses.replace(QUIET, poll_s=poll_s) for poll_s in (0.0, 2.0))
    at_once, late = (simulate_run(shape, EVEN, item) for item in (often, seldom))
    call_s = at_once.usage.calls[-1].duration_ms / 1000
    assert at_once.map_s == pytest.approx(2 + 10 * call_s, abs=1e-3)
    # Each round waits for the next look; what a call takes and costs is the same.
    assert late.map_s % 2 == pytest.approx(0)
    rounds = [math.ceil((2 + call_s) / 2) * 2]
    for _ in range(9):
        rounds.append(math.ceil((rounds[-1] + call_s) / 2) * 2)
    assert late.map_s == pytest.approx(rounds[-1])
    took = [[call.duration_ms for call in item.usage.calls] for item in (late, at_once)]
    assert took[0] == pytest.approx(took[1])


@pytest.mark.parametrize(("catalogs", "n_files"), [("image", 40), ("batch", 10), ("none", 0)])
def test_requests_are_those_of_images_results_and_calls(catalogs, n_files):
    usage = simulate_run(RunShape(40, 5, 4, catalogs=catalogs), EVEN, QUIET).usage
    assert usage.n_calls == 10
    assert usage.n_get == 40 + 10 + 5 + 1  # images, what calls say in the end, the function twice
    assert usage.n_put == 10 + n_files + 2 * 10 + 1  # parts, catalogues, calls, the function


def test_the_rates_of_s3_bound_the_time():
    shape = RunShape(2000, 500, 1)
    slow = dataclasses.replace(QUIET, get_rate=100.0)
    reads = simulate_run(shape, EVEN, slow)
    assert reads.map_s >= 2000 / 100
    assert reads.n_throttled > 1000
    writes = simulate_run(shape, EVEN, dataclasses.replace(QUIET, put_rate=100.0))
    assert writes.map_s >= 2 * 2000 / 100  # a part and a catalogue of each image
    assert simulate_run(shape, EVEN, QUIET).n_throttled <= 2000


def test_catalogues_go_out_while_the_next_images_are_measured():
    shape = RunShape(20, 1, 20, catalogs="image")
    # One PUT in 0.7 s is what a worker makes that takes 0.75 s an image; in 1 s is too slow for it.
    keeping_up, too_slow = (
        simulate_run(shape, EVEN, dataclasses.replace(QUIET, put_rate=1 / seconds)).map_s
        for seconds in (0.7, 1.0)
    )
    unbounded = simulate_run(shape, EVEN, QUIET).map_s
    assert keeping_up - unbounded < 2 * 0.7  # the last catalogue, and the part
    assert too_slow > 20 * 1.0 > unbounded - COMPUTE_S


def test_environments_come_as_lambda_lets_them():
    shape = RunShape(3000, 3000, 1, catalogs="none")
    result = simulate_run(shape, EVEN, dataclasses.replace(QUIET, ramp_environments=10))
    assert result.n_cold < 100
    at_once = simulate_run(shape, EVEN, QUIET)
    assert at_once.n_cold == 1000  # the next ones would come after 10 s
    assert at_once.map_s < result.map_s


@pytest.mark.parametrize("catalogs", CATALOGS)
def test_more_workers_are_never_slower_in_expectation(catalogs):
    times = [
        statistics.fmean(
            simulate_run(RunShape(4000, n, 10, catalogs=catalogs), MEASURED, seed=seed).map_s
            for seed in range(6)
        )
        for n in (5, 20, 80, 320)
    ]
    assert all(more <= less * 1.02 for less, more in pairwise(times))
    assert times[-1] < times[0] / 10


def test_twins_save_time_and_are_paid_for():
    slow = dataclasses.replace(
        EXPECTED, straggler_share=0.05, straggler_slowdown=30.0, failure_share=0.0
    )
    without = dataclasses.replace(slow, twin_fraction=0.0)
    shape = RunShape(4000, 100, 10)
    results = [simulate_run(shape, MEASURED, slow, seed) for seed in range(4)]
    alone = [simulate_run(shape, MEASURED, without, seed) for seed in range(4)]
    assert statistics.fmean(r.map_s for r in results) < statistics.fmean(r.map_s for r in alone)
    bill = price(results[0].usage, NOW, "arm64")
    assert bill.compute_usd["twin"] > 0
    assert all("twin" not in {call.purpose for call in item.usage.calls} for item in alone)


def test_the_same_seed_gives_the_same_run():
    shape = RunShape(500, 50)
    one, again, other = (simulate_run(shape, MEASURED, seed=seed) for seed in (7, 7, 8))
    assert one == again
    assert one != other


def test_a_run_of_nothing_is_refused():
    with pytest.raises(UsageError, match="1 or more"):
        RunShape(0)
    with pytest.raises(UsageError, match="1 or more"):
        RunShape(5, n_workers=0)


def test_an_estimate_has_its_expectation_between_low_and_high():
    guess = estimate_run(RunShape(2000, 100), MEASURED, NOW, "arm64")
    assert guess.n_runs == 9
    assert list(guess.lines) == list(LINES)
    for item in (guess.map_s, guess.total_s, guess.list_usd, guess.net_usd, *guess.lines.values()):
        assert 0 <= item.low <= item.expected <= item.high
    assert guess.list_usd.low < guess.list_usd.high
    assert math.fsum(item.expected for item in guess.lines.values()) == pytest.approx(
        guess.list_usd.expected, rel=0.05
    )
    assert guess.as_dict()["simulated"] is True


# -- the benchmark -------------------------------------------------------------------------------


def run_benchmark(*words):
    parser = archive.argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    archive.add_arguments(parser)
    return archive.run(parser.parse_args(words))


def test_the_benchmark_prints_both_years_and_what_is_assumed(capsys):
    figures = run_benchmark("--short")
    shown = capsys.readouterr().out
    assert "simulated" in shown.splitlines()[0]
    assert "2.24" in shown
    assert "leaves out" in shown
    assert shown.count("assumed") > 5
    for scenario, n_partitions in zip(figures["scenarios"], archive.PARTITIONS, strict=True):
        assert scenario["low_usd"] <= scenario["median_usd"] <= scenario["high_usd"]
        assert scenario["n_done"] == scenario["n_images"]
        assert scenario["n_partitions"] == n_partitions


def test_the_benchmark_tells_memory_catalogues_and_partitions_apart(capsys):
    words = ("--images", "3000", "--workers", "300", "--seeds", "1", "--memory", "885", "1769")
    figures = run_benchmark(*words, "--catalogs", "batch", "image", "--partitions", "1", "4")
    (table,) = [part for part in capsys.readouterr().out.split("\n\n") if part.startswith("| ")]
    header, _, *rows = table.splitlines()
    assert len(rows) == len(figures["scenarios"]) == 8
    names = [name.strip() for name in header.strip("|").split("|")]
    first = dict(zip(names, (cell.strip() for cell in rows[0].strip("|").split("|")), strict=True))
    assert (first["images"], first["MB"], first["catalogues"]) == ("3,000", "885", "batch")
    by_case = {
        (row["memory_mb"], row["catalogs"], row["n_partitions"]): row
        for row in figures["scenarios"]
    }
    small, large = by_case[885, "batch", 4], by_case[1769, "batch", 4]
    assert small["map_s"] > large["map_s"]
    assert small["compute"] < large["compute"]  # less of it waits
    n_puts = 3000 - 1000  # a file an image in the place of one a call of three
    dearer = by_case[885, "image", 4]["s3_put"] - small["s3_put"]
    assert dearer == pytest.approx(n_puts * NOW.s3_put_usd, rel=0.02)
