"""The folder of a process: nobody else's, there while it lives, and gone with it."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hstmap.bag.home import LOCK_NAME, connect_to, home_folder, listen_at, remove_if_abandoned
from hstmap.errors import EngineError

#: Says where its folder is, does what it is told, and then waits for a line or ends.
CLIENT = """
import os, sys, threading
from pathlib import Path
from hstmap.bag.home import home_folder, settle_within
{before}
print(home_folder(), flush=True)
{after}
"""


def client(before: str = "", after: str = "input()", **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT.format(before=before, after=after)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def folder_of(process: subprocess.Popen[str]) -> Path:
    assert process.stdout is not None
    return Path(process.stdout.readline().strip())


def test_it_is_the_users_alone_and_one_for_all_threads() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: home_folder(), range(64)))
    assert folders == {home_folder()}
    assert stat.S_IMODE(home_folder().stat().st_mode) == 0o700
    assert home_folder().is_absolute()


def test_it_goes_with_its_process_and_not_with_forks_of_that(tmp_path: Path) -> None:
    fork = "if os.fork() == 0: sys.exit()\nos.wait()\nprint(home_folder().is_dir(), flush=True)"
    with client(after=f"{fork}\ninput()", TMPDIR=str(tmp_path)) as process:
        assert process.stdout is not None
        folder = folder_of(process)
        assert folder.parent == tmp_path
        assert process.stdout.readline() == "True\n"
        assert folder.is_dir()
        process.communicate("\n")
    assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_only_the_folder_of_a_process_that_was_killed_is_abandoned(tmp_path: Path) -> None:
    with client(TMPDIR=str(tmp_path)) as process:
        folder = folder_of(process)
        (folder / "of its own").write_text("something")
        remove_if_abandoned(folder)
        assert (folder / "of its own").is_file()
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        assert folder.is_dir()  # nothing could clean up
    remove_if_abandoned(folder)
    assert not folder.exists()
    remove_if_abandoned(folder)  # twice is no harm


def test_a_folder_that_is_nobodys_home_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("something")
    remove_if_abandoned(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    (tmp_path / LOCK_NAME).touch()  # with one, it is
    remove_if_abandoned(tmp_path)
    assert not tmp_path.exists()


def test_a_worker_settles_in_the_home_of_its_client(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with client(before=f"settle_within(Path({str(home)!r}))", TMPDIR=str(tmp_path)) as process:
        assert folder_of(process).parent == home
        process.communicate("\n")


# -- sockets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 60, 100, 101, 107, 108, 200])
def test_workers_connect_wherever_the_home_is(tmp_path: Path, length: int) -> None:
    folder = tmp_path
    while len(os.fsencode(folder)) < length:
        folder /= "d" * 20
    folder.mkdir(parents=True, exist_ok=True)
    address = folder / "s"
    descriptors = Path("/proc/self/fd")
    n_open = len([*descriptors.iterdir()]) if descriptors.exists() else None
    with listen_at(address) as listener, connect_to(address) as here:
        there, _ = listener.accept()
        with there:
            here.sendall(b"hello")
            assert there.recv(5) == b"hello"
    assert stat.S_ISSOCK(address.stat().st_mode)
    if n_open is not None:
        assert len([*descriptors.iterdir()]) == n_open


def test_a_name_with_letters_of_several_bytes_counts_its_bytes(tmp_path: Path) -> None:
    folder = tmp_path / ("é" * 45)  # short in letters, too long in bytes
    folder.mkdir()
    with listen_at(folder / "s") as listener, connect_to(folder / "s"):
        listener.accept()[0].close()


def test_a_socket_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"set TMPDIR to a short path"):
        listen_at(tmp_path / "no such folder" / "s")
    (tmp_path / "taken").touch()
    with pytest.raises(EngineError, match=r"no socket can be made at .*taken"):
        listen_at(tmp_path / "taken")


def test_where_there_is_no_way_around_it_a_long_path_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.exists

    def exists(path: Path, **options: Any) -> bool:
        return str(path) != "/proc/self/fd" and real(path, **options)

    monkeypatch.setattr(Path, "exists", exists)
    folder = tmp_path / ("d" * 100)
    folder.mkdir()
    with pytest.raises(EngineError, match="set TMPDIR to a short path"):
        listen_at(folder / "s")


def test_nobody_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        connect_to(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    with pytest.raises(ConnectionRefusedError):
        connect_to(tmp_path / "s")


def test_who_cannot_connect_leaves_no_descriptor_open(tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("counts descriptors in /proc")
    before = len([*descriptors.iterdir()])
    kept = []
    for _ in range(5):
        with pytest.raises(FileNotFoundError) as raised:
            connect_to(tmp_path / "s")
        kept.append(raised)  # with its frames, as a debugger keeps them
    assert len([*descriptors.iterdir()]) == before
