"""The worker of this machine: connects back to the client and makes one attempt after another.

Runs inside a process that Lithops started, and ends when its client does.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import sys
import tempfile
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

from hstmap.bag.home import connect_to, remove_if_abandoned, settle_within
from hstmap.bag.wire import Program, perform

__all__ = ["Hello", "Setup", "Work", "serve"]


@dataclass(frozen=True)
class Hello:
    """First words of a worker: which process it is, and which of the calls that were started."""

    host: str
    pid: int
    index: int


@dataclass(frozen=True)
class Setup:
    """The client's answer: where to import from, and where temporary files belong."""

    sys_path: tuple[str, ...]
    temporary_folder: str


@dataclass(frozen=True)
class Work:
    """An attempt to make; the program comes with the first one of a stage only."""

    program: bytes | None
    payload: bytes


def serve(address: str, index: int) -> None:
    """Make attempts for a client until it goes away.

    Parameters
    ----------
    address : str
        Unix socket of the client, in the client's `hstmap.bag.home`.
    index : int
        Number of this call among those that the client started.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the client's to handle
    home, process_group = Path(address).parent, os.getpgrp()
    settle_within(home)
    try:
        connection = Connection(connect_to(Path(address)).detach())
    except OSError:
        _end_with_client(home, process_group)
    watch = threading.Thread(
        target=_watch_client, args=(connection.fileno(), home, process_group), daemon=True
    )
    watch.start()
    try:
        connection.send_bytes(pickle.dumps(Hello(socket.gethostname(), os.getpid(), index)))
        _move_in(pickle.loads(connection.recv_bytes()))
        _work(connection)
    except (EOFError, ConnectionError):
        watch.join()  # the client is gone, and so is this process in a moment


def _move_in(setup: Setup) -> None:
    sys.path[:] = [*setup.sys_path, *(path for path in sys.path if path not in setup.sys_path)]
    # Lithops needed a folder of its own while it started; a task's temporary files may outlive it.
    os.environ["TMPDIR"] = setup.temporary_folder
    tempfile.tempdir = None


def _work(connection: Connection) -> None:
    program = Program(b"")
    while True:
        work: Work = pickle.loads(connection.recv_bytes())
        if work.program is not None:
            program = Program(work.program)
        reply = perform(program, work.payload)
        connection.send_bytes(pickle.dumps(reply, pickle.HIGHEST_PROTOCOL))


def _watch_client(descriptor: int, home: Path, process_group: int) -> None:
    hang_up = select.poll()
    hang_up.register(descriptor, 0)  # no events: errors and hang-ups are always told
    hang_up.poll()
    _end_with_client(home, process_group)


def _end_with_client(home: Path, process_group: int) -> NoReturn:
    """End all processes that were started for a client which is gone, this one at last."""
    os.setpgid(0, 0)  # out of the group, which another worker may be ending too
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process_group, signal.SIGKILL)
    remove_if_abandoned(home)
    os._exit(1)
