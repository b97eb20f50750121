"""Modules that workers of this machine import before they divide."""

from __future__ import annotations

import os
import sys
from pathlib import Path

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
