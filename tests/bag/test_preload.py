"""Modules that workers of this machine import before they divide."""

from __future__ import annotations

import gc
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from hstmap.bag.engine import EngineOptions, Stage, Task, make_engine

NOT_OTHERWISE = "antigravity_of_nobody"


def modules_there(name: str) -> tuple[bool, int, str]:
    """Say whether a module was there before anybody asked, in which process, from where."""
    return name in sys.modules, os.getpid(), sys.argv[0]


def run(options: EngineOptions, name: str) -> list[tuple[bool, int, str]]:
    tasks = [Task(str(n), name) for n in range(4)]
    with make_engine("lithops", options) as engine:
        attempts = list(engine.run(Stage("look", modules_there, tasks)))
    assert {attempt.status for attempt in attempts} == {"ok"}
    return [attempt.value for attempt in attempts]


@pytest.mark.parametrize("mode", ["pilot", "events"])
def test_workers_find_what_was_imported_before(mode):
    options = EngineOptions(n_workers=2, mode=mode, preload=("wave", "colorsys"))
    assert all(there for there, _, _ in run(options, "wave"))


def test_nothing_is_imported_that_was_not_asked_for():
    assert not any(there for there, _, _ in run(EngineOptions(n_workers=2), "wave"))


def test_what_cannot_be_imported_is_left_to_the_tasks():
    options = EngineOptions(n_workers=2, preload=(NOT_OTHERWISE, "wave"))
    assert all(there for there, _, _ in run(options, "wave"))
    assert not any(there for there, _, _ in run(options, NOT_OTHERWISE))


def test_the_runner_believes_that_it_was_started_as_usual():
    usual = {script for _, _, script in run(EngineOptions(n_workers=2), "wave")}
    preloaded = {
        script for _, _, script in run(EngineOptions(n_workers=2, preload=("wave",)), "wave")
    }
    assert {Path(script).name for script in preloaded} == {Path(script).name for script in usual}


# -- memory that workers share ---------------------------------------------------------------------


def what_is_shared(_: object) -> tuple[int, bool, float]:
    """Collect garbage; say what is left alone by that, whether it goes on, and what it cost.

    Returns
    -------
    int, bool, float
        Frozen objects, whether collection is on, and the share of this process's memory of its own
        that was made so by collecting.
    """
    before = private_kilobytes()
    gc.collect()
    total = kilobytes("Anonymous")
    return gc.get_freeze_count(), gc.isenabled(), (private_kilobytes() - before) / total


def kilobytes(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/smaps_rollup").read_text(), re.M)
    return int(found[1]) if found else 0


def private_kilobytes() -> int:
    return kilobytes("Private_Dirty")


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells, no other")
@pytest.mark.parametrize("n_workers", [1, 2])
def test_collecting_garbage_leaves_what_workers_share_as_it_is(n_workers):
    options = EngineOptions(n_workers=n_workers, preload=("numpy", "astropy.units"))
    tasks = [Task(str(n), None) for n in range(n_workers)]
    with make_engine("lithops", options) as engine:
        attempts = list(engine.run(Stage("look", what_is_shared, tasks)))
    for attempt in attempts:
        assert attempt.status == "ok", attempt.error
        n_frozen, collects, share = attempt.value
        assert n_frozen > 50_000  # Lithops alone has that many
        assert collects
        assert share < 0.1  # it was 0.4


def imported_late(_: object) -> list[str]:
    """Name the modules of this process that are its own: those from before are frozen."""
    return sorted(
        thing.__name__
        for thing in gc.get_objects()
        if isinstance(thing, ModuleType) and sys.modules.get(thing.__name__) is thing
    )


def test_workers_import_nothing_of_lithops_and_of_the_bag_each_for_itself():
    options = EngineOptions(n_workers=1, preload=("colorsys",))
    with make_engine("lithops", options) as engine:
        (late,) = [
            attempt.value for attempt in engine.run(Stage("look", imported_late, [Task("0", 0)]))
        ]
    assert "pytest" in late  # by way of this module, which came with the task
    # What this module imports is the task's, not the worker's.
    own = ("lithops", "hstmap.bag.worker", "hstmap.bag.wire", "hstmap.bag.home")
    assert [name for name in late if name.startswith(own)] == []
