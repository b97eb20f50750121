"""What the benchmark of images makes of several runs, without the runs."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from benchmarks import profile
from benchmarks.reduce import Size
from hstmap import worker
from hstmap.account.run_profile import ImageSample


def test_of_several_runs_the_fastest_counts_step_by_step():
    samples = [
        ImageSample(0.3, 0.002, 10),
        ImageSample(0.2, 0.004, 10),
        ImageSample(0.4, 0.003, 10),
    ]
    assert profile._fastest(samples) == ImageSample(0.2, 0.002, 10)
    assert profile._fastest(samples[:1]) == samples[0]


def test_a_start_takes_cpu_time():
    assert 0.05 < profile._start_s() < 60


def test_the_clock_of_steps_is_that_of_the_thread(monkeypatch):
    """Who only waits takes no CPU time."""
    monkeypatch.setattr(worker, "time", SimpleNamespace(perf_counter=time.thread_time))
    watch = worker._Stopwatch()
    with watch.step("read"):
        time.sleep(0.05)
    with watch.step("extract"):
        began = time.thread_time()
        while time.thread_time() - began < 0.02:
            pass
    assert watch.times["read_s"] < 0.01
    assert watch.times["extract_s"] == pytest.approx(0.02, abs=0.015)


def test_the_sizes_that_a_reduce_is_fitted_to_tell_images_from_sources():
    for sizes in (profile._REDUCED, profile._REDUCED_SHORT):
        assert all(isinstance(size, Size) for size in sizes)
        assert len({(size.n_images, size.n_sources) for size in sizes}) == 3
        images = [size.n_images for size in sizes]
        assert sorted(images)[1] == sorted(images)[2]  # two differ in sources only
