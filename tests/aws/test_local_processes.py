"""Processes are found by their mark, wherever they went, and none survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from hstmap.aws.local.processes import (
    MARK,
    kill_marked,
    marked_processes,
    resident_nbytes,
    signal_marked,
)

FAMILY = """
import os, sys, time
for _ in range(2):
    if os.fork() == 0:
        os.setsid()          # leaves the session and the process group ...
        if os.fork():
            os._exit(0)      # ... and its parent
print("ready", flush=True)
time.sleep(120)
"""


@pytest.fixture
def family(tmp_path):
    """A process that has forked daemons away, and the mark that all of them carry."""
    mark = f"{tmp_path}/environment"
    process = subprocess.Popen(
        [sys.executable, "-c", FAMILY], env={MARK: mark}, stdout=subprocess.PIPE
    )
    for _ in range(4):  # every survivor of the forks says so: itself, and three more
        assert process.stdout.readline() == b"ready\n"
    yield process, mark
    kill_marked(mark)
    process.wait()
    process.stdout.close()


def test_daemons_are_found_by_the_mark_that_they_inherited(family):
    process, mark = family
    found = marked_processes(mark)
    assert process.pid in found
    assert len(found) == 4
    assert marked_processes(f"{mark}-another") == []


def test_all_are_killed(family):
    process, mark = family
    assert kill_marked(mark)
    assert marked_processes(mark) == []
    assert process.wait() == -signal.SIGKILL
    assert not kill_marked(mark)


def test_one_can_be_spared(family):
    process, mark = family
    assert kill_marked(mark, spared=process.pid)
    assert marked_processes(mark) == [process.pid]
    assert not kill_marked(mark, spared=process.pid)


def test_signals_reach_all(family):
    process, mark = family
    assert signal_marked(mark, signal.SIGSTOP) == 4
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)


def test_memory_is_that_of_the_process_and_nothing_once_it_is_gone():
    code = "x = bytearray(64 << 20); print(flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        process.stdout.readline()
        assert 64 << 20 <= resident_nbytes(process.pid) < 128 << 20
        process.kill()
    assert resident_nbytes(process.pid) == 0
