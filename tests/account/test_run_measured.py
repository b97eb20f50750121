"""What a run took becomes a profile: of Lambda where it ran there, of this machine where not."""

from __future__ import annotations

import dataclasses
import json
import os
import socket

import pytest

from hstmap.account.run_assumptions import EXPECTED, VCPU_MB, RunShape, cpu_speed
from hstmap.account.run_calls import LambdaPlace
from hstmap.account.run_measured import profile_of_run, warm_environments
from hstmap.account.run_model import simulate_run
from hstmap.account.run_profile import Profile, load_profile
from hstmap.bag.events import AttemptEnded
from hstmap.bag.ledger import Ledger
from hstmap.bag.task import Attempt, WorkerInfo
from hstmap.batch import ImageKey, image_row
from hstmap.cli import main
from hstmap.errors import UsageError
from hstmap.storage import open_store
from hstmap.wfc3.catalog import parquet_part
from hstmap.wfc3.measure import empty_sources
from support.archive import write_archive

BASE = load_profile()
HALF_A_CPU = LambdaPlace("hstmap", "eu-west-1", VCPU_MB // 2, "arm64", 600)
STEP_S = {"read_s": 0.125, "background_s": 0.25, "extract_s": 0.25, "measure_s": 0.375}


def write_part(store, name, n_images, **values):
    key = f"parts/{name}.parquet"
    rows = [
        image_row(
            ImageKey(f"{name}{i}", f"s3://bucket/{name}{i}_flt.fits"), "ok",
            part=key, write_s=0.5, nbytes_read=1000, **(STEP_S | values),
        )
        for i in range(n_images)
    ]  # fmt: skip
    store.put(key, parquet_part(empty_sources(), rows))
    return key


def batch_ended(part, n_images, elapsed_s, *, waited_s=0.25, cold=False, **attempt):
    cpu = {name: attempt.pop(name) for name in ("cpu_s",) if name in attempt}
    said = cpu | {
        "part": part, "outcomes": {"ok": n_images}, "n_sources": 0, "elapsed_s": elapsed_s,
        "waited_s": waited_s, "requests": {"n_get": 2 * n_images, "n_put": 1},
    }  # fmt: skip
    times = {"submitted_s": 100.0, "started_s": 101.0, "ended_s": 108.0}
    return Attempt(
        "map", part, 1, "ok", True, said, worker=WorkerInfo("worker", 7, cold),
        peak_memory_nbytes=300 * 2**20, **(times | attempt),
    )  # fmt: skip


def write_session(store, place, *attempts):
    about = {} if place is None else place.as_fact()
    with Ledger(store, detail=lambda item: item.value, about=about) as ledger:
        for attempt in attempts:
            ledger(AttemptEnded(attempt, attempt.ended_s))


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "out"))


def test_times_of_lambda_are_those_of_a_whole_cpu(store):
    one, two = write_part(store, "a", 2), write_part(store, "b", 2)
    write_session(
        store, HALF_A_CPU,
        batch_ended(one, 2, 4.25, cold=True, init_s=0.75, handler_s=4.5, started_s=103.25),
        batch_ended(two, 2, 4.25, handler_s=4.375),
    )  # fmt: skip
    profile = profile_of_run(store)
    speed = cpu_speed(VCPU_MB // 2)
    assert profile.on_lambda
    assert profile.machine == "Lambda, arm64, 884 MB, eu-west-1"
    assert profile.date.startswith("20")
    assert f"4 images that the run at {store.url} measured" in profile.origin
    assert {image.compute_s for image in profile.images} == {round(1.0 * speed, 5)}
    assert {image.catalog_s for image in profile.images} == {round(0.5 * speed, 5)}
    # 4.25 s, of which 3 s are the images' and 0.25 s were waited.
    assert profile.overhead_s == (round(1.0 * speed, 5),) * 2
    assert profile.wait_s == (0.25, 0.25)
    assert profile.call_s == pytest.approx((0.25 + 0.125) / 2)
    assert profile.init_s == (0.75,)
    # Sent at 100 s: the warm one began at 101 s, the cold one at 103.25 s, after its INIT.
    assert (profile.send_s, profile.boot_s) == (1.0, 1.5)
    assert profile.peak_memory_nbytes == 300 * 2**20
    assert profile.n_get_image == 2
    assert profile.reduce_s_image == BASE.reduce_s_image


def test_waiting_in_which_the_cpu_was_busy_is_work_that_takes_longer_with_less_of_it(store):
    one, two, three = (write_part(store, name, 2) for name in "abc")
    place = dataclasses.replace(HALF_A_CPU, memory_mb=VCPU_MB)
    write_session(
        store, place,
        # Of 4.25 s the CPU had 4.125 s to do; all of it; and so little that all waiting was idle.
        batch_ended(one, 2, 4.25, cpu_s=4.125),
        batch_ended(two, 2, 4.25, cpu_s=4.25),
        batch_ended(three, 2, 4.25, cpu_s=3.0),
    )  # fmt: skip
    profile = profile_of_run(store)
    assert profile.wait_s == (0.125, 0.0, 0.25)
    # 3 s of 4.25 s are the images'.
    assert profile.overhead_s == (1.125, 1.25, 1.0)


def test_of_half_a_cpu_as_much_work_is_twice_as_long(store):
    part = write_part(store, "a", 2)
    share = HALF_A_CPU.memory_mb / VCPU_MB
    write_session(store, HALF_A_CPU, batch_ended(part, 2, 4.25, cpu_s=4.125 * share))
    profile = profile_of_run(store)
    assert profile.wait_s == (0.125,)
    assert profile.overhead_s == (round(1.125 * cpu_speed(HALF_A_CPU.memory_mb), 5),)


def test_a_profile_predicts_the_run_that_it_comes_from_at_any_memory(store):
    for name, memory_mb in (("a", 512), ("b", 885), ("c", VCPU_MB), ("d", 3008)):
        part = write_part(store, name, 2)
        place = dataclasses.replace(HALF_A_CPU, memory_mb=memory_mb)
        busy_s = 4.125 * min(1.0, memory_mb / VCPU_MB)
        made = batch_ended(part, 2, 4.25, cpu_s=busy_s, handler_s=4.5)
        one = open_store(f"{store.url}-{name}")
        one.put(part, store.get(part))
        write_session(one, place, made)
        shape = RunShape(2, 1, 2, memory_mb, "image", n_warm=1)
        calm = dataclasses.replace(EXPECTED, straggler_share=0.0, failure_share=0.0)
        (call, *_) = simulate_run(shape, profile_of_run(one), calm).usage.calls
        assert call.duration_ms == pytest.approx(4500, rel=1e-3)


def test_sessions_on_lambda_count_and_others_do_not(store):
    here, there = write_part(store, "a", 1, extract_s=9.0), write_part(store, "b", 3)
    write_session(store, None, batch_ended(here, 1, 10.0))
    write_session(
        store, dataclasses.replace(HALF_A_CPU, memory_mb=3008), batch_ended(there, 3, 6.0)
    )
    profile = profile_of_run(store)
    assert len(profile.images) == 3
    assert {image.compute_s for image in profile.images} == {1.0}  # a worker uses one vCPU at most
    assert profile.init_s == BASE.init_s  # no start was told of
    assert profile.call_s == 0


def test_on_this_machine_starts_are_those_of_the_profile_that_comes_along(store):
    part = write_part(store, "a", 2)
    write_session(store, None, batch_ended(part, 2, 4.25, cold=True, init_s=0.125))
    profile = profile_of_run(store)
    assert not profile.on_lambda
    assert profile.machine.startswith(socket.gethostname())
    assert profile.init_s == BASE.init_s
    assert profile.wait_s == ()
    assert profile.overhead_s == (1.0,)


def test_environments_that_worked_at_the_same_time_are_warm_for_a_while(store):
    parts = [write_part(store, name, 1) for name in "abcd"]
    spans = [(101.0, 105.0), (102.0, 104.0), (104.0, 109.0), (300.0, 301.0)]
    write_session(
        store, HALF_A_CPU,
        *(
            batch_ended(part, 1, 1.0, started_s=first, ended_s=last)
            for part, (first, last) in zip(parts, spans, strict=True)
        ),
    )  # fmt: skip
    assert warm_environments(store, HALF_A_CPU, 310.0) == 2
    assert warm_environments(store, HALF_A_CPU, 500.0) == 1
    assert warm_environments(store, HALF_A_CPU, 700.0) == 0
    other = dataclasses.replace(HALF_A_CPU, memory_mb=3008)
    assert warm_environments(store, other, 310.0) == 0
    # Those that were started are there, too, if they worked one after another.
    cold = [
        batch_ended(part, 1, 1.0, cold=True, started_s=first, ended_s=first + 1)
        for part, first in zip(parts, (401.0, 403.0, 405.0), strict=False)
    ]
    write_session(store, HALF_A_CPU, *cold)
    assert warm_environments(store, HALF_A_CPU, 620.0) == 3


def test_an_image_whose_batch_no_ledger_knows_is_left_out(store):
    known, unknown = write_part(store, "a", 1), write_part(store, "b", 5)
    write_session(store, None, batch_ended(known, 1, 3.0))
    assert len(profile_of_run(store).images) == 1
    store.delete(known)
    with pytest.raises(UsageError, match="5 images in parts and a ledger of 1 finished batches"):
        profile_of_run(store)
    assert store.exists(unknown)


def test_what_a_worker_waited_is_told_and_is_no_overhead(tmp_path):
    write_archive(tmp_path / "images", 3)
    out = tmp_path / "out"
    command = ["map", str(tmp_path / "images"), "-o", str(out), "--engine", "inprocess"]
    assert main([*command, "--batch-size", "2", "--no-reduce", "--quiet"]) == 0
    lines = [json.loads(line) for path in out.rglob("*.jsonl") for line in path.open()]
    details = [line["detail"] for line in lines if line.get("detail")]
    assert len(details) == 2
    for detail in details:
        assert 0 < detail["waited_s"] < detail["elapsed_s"]
        assert detail["cpu_s"] > 0
    profile = profile_of_run(open_store(str(out)))
    assert len(profile.images) == 3
    assert profile.peak_memory_nbytes > 50 * 2**20
    total_s = sum(detail["elapsed_s"] - detail["waited_s"] for detail in details)
    images_s = sum(image.compute_s + image.catalog_s for image in profile.images)
    assert sum(profile.overhead_s) == pytest.approx(total_s - images_s, abs=1e-3)


def test_a_profile_of_a_run_reads_back_as_it_was(store, tmp_path):
    part = write_part(store, "a", 2)
    write_session(store, HALF_A_CPU, batch_ended(part, 2, 4.25, cold=True, init_s=0.75))
    profile = profile_of_run(store)
    (tmp_path / "mine.json").write_text(profile.as_json())
    assert load_profile(str(tmp_path / "mine.json")) == profile


def test_a_profile_of_an_older_version_has_nothing_that_nobody_measured(tmp_path):
    record = json.loads(BASE.as_json())
    record.pop("n_attempts")
    for name in ("wait_s", "call_s", "peak_memory_nbytes", "on_lambda", "summary_nbytes_image"):
        record.pop(name)
    (tmp_path / "old.json").write_text(json.dumps(record))
    old = load_profile(str(tmp_path / "old.json"))
    assert isinstance(old, Profile)
    assert (old.wait_s, old.call_s, old.peak_memory_nbytes, old.on_lambda) == ((), 0.0, 0, False)
    assert (old.n_attempts, old.merged_nbytes_image) == (0, old.part_nbytes_image)


# -- what is stored, and what failed ---------------------------------------------------------------


def test_a_summary_counts_as_it_is_and_a_missing_one_as_that_of_the_base(store):
    part = write_part(store, "a", 4)
    write_session(store, None, batch_ended(part, 4, 9.0))
    part_nbytes = next(store.list("parts/")).nbytes
    base = dataclasses.replace(BASE, part_nbytes_image=1000.0, summary_nbytes_image=500.0)
    before = profile_of_run(store, base)
    assert before.part_nbytes_image == part_nbytes / 4
    assert before.summary_nbytes_image == pytest.approx(part_nbytes / 2 / 4)
    for name, nbytes in {
        "sources.parquet": 900,
        "images.parquet": 80,
        "coverage.moc.fits": 20,
    }.items():
        store.put(name, bytes(nbytes))
    assert profile_of_run(store, base).summary_nbytes_image == 1000 / 4
    # Further parts since then: the summary does not hold them.
    further = write_part(store, "b", 4)
    newer = max(info.modified for info in store.list("parts/")).timestamp() + 60
    os.utime(store.local_path(further), (newer, newer))
    parts_nbytes = sum(info.nbytes for info in store.list("parts/"))
    again = profile_of_run(store, base).summary_nbytes_image
    assert again == pytest.approx(parts_nbytes / 2 / 8)


def test_calls_of_lambda_that_left_no_result_are_counted(store):
    part = write_part(store, "a", 1)
    failed = [
        dataclasses.replace(batch_ended(part, 1, 1.0), status=status, final=False, value=None)
        for status in ("lost", "error", "timeout", "cancelled")
    ]
    # Of an event that never became a call there is nothing to say.
    dropped = dataclasses.replace(failed[0], started_s=None)
    write_session(store, None, *failed, batch_ended(part, 1, 1.0))
    here = profile_of_run(store)
    assert (here.n_attempts, here.n_failures) == (0, 0)
    write_session(store, HALF_A_CPU, *failed, dropped, batch_ended(part, 1, 1.0))
    there = profile_of_run(store)
    assert (there.n_attempts, there.n_failures) == (4, 3)
