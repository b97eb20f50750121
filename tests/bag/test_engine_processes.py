"""Workers as processes: they are kept, replaced, shared with nobody, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hstmap.bag.engine import Engine, EngineOptions, Stage, Task, make_engine

PATIENCE_S = 60


@pytest.fixture
def pilot() -> Iterator[Engine]:
    options = EngineOptions(n_workers=2, retries=1, stragglers=None, mode="pilot")
    with make_engine("lithops", options) as engine:
        yield engine


def values(engine: Engine, function: Callable[[Any], Any], payloads: list[Any]) -> list[Any]:
    tasks = [Task(str(n), payload) for n, payload in enumerate(payloads)]
    final = [attempt for attempt in engine.run(Stage("test", function, tasks)) if attempt.final]
    assert [attempt.error for attempt in final] == [None] * len(payloads)
    by_key = {attempt.task_key: attempt.value for attempt in final}
    return [by_key[str(n)] for n in range(len(payloads))]


def meet(folder: str) -> int:
    """Return the process once there are two of them: so both workers are seen."""
    mine = Path(folder, str(os.getpid()))
    mine.touch()
    deadline = time.monotonic() + PATIENCE_S
    while len(list(Path(folder).iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    return os.getpid()


def both_workers(engine: Engine, folder: Path) -> set[int]:
    folder.mkdir()
    return set(values(engine, meet, [str(folder)] * 2))


def wait_until_gone(pids: set[int]) -> None:
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE_S)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def test_workers_stay_from_stage_to_stage(pilot: Engine, tmp_path: Path) -> None:
    first = both_workers(pilot, tmp_path / "1")
    assert len(first) == 2
    assert both_workers(pilot, tmp_path / "2") == first


def test_the_first_attempt_of_a_worker_is_cold(pilot: Engine) -> None:
    tasks = [Task(str(n), n) for n in range(20)]
    attempts = list(pilot.run(Stage("test", abs, tasks)))
    for pid in {attempt.worker.pid for attempt in attempts}:
        mine = sorted((a for a in attempts if a.worker.pid == pid), key=lambda a: a.started_s)
        assert [a.worker.cold for a in mine] == [True] + [False] * (len(mine) - 1)


def die(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_dead_workers_are_replaced(pilot: Engine, tmp_path: Path) -> None:
    before = both_workers(pilot, tmp_path / "1")
    attempts = list(pilot.run(Stage("die", die, [Task(str(n), n) for n in range(10)])))
    assert [attempt.status for attempt in attempts] == ["lost"] * 20
    after = both_workers(pilot, tmp_path / "2")
    assert len(after) == 2
    assert not before & after
    wait_until_gone(before)


def die_leaving_a_child(_: object) -> None:
    """Die while a child holds everything open that the worker had open."""
    if os.fork() == 0:
        time.sleep(PATIENCE_S)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux tells of such a death")
def test_a_worker_is_missed_even_if_its_children_live(pilot: Engine) -> None:
    started = time.monotonic()
    attempts = list(pilot.run(Stage("die", die_leaving_a_child, [Task("a", 1)])))
    assert [attempt.status for attempt in attempts] == ["lost"] * 2
    assert time.monotonic() - started < PATIENCE_S


def test_closing_ends_the_workers_whatever_they_do(tmp_path: Path) -> None:
    engine = make_engine("lithops", EngineOptions(n_workers=2, mode="pilot"))
    pids = both_workers(engine, tmp_path / "1")
    attempts = engine.run(Stage("test", time.sleep, [Task("short", 0), Task("long", 3600)]))
    next(attempts)
    engine.close()
    wait_until_gone(pids)


def test_two_engines_of_one_process_do_not_meet(pilot: Engine, tmp_path: Path) -> None:
    with make_engine("lithops", EngineOptions(n_workers=2, mode="pilot")) as other:
        mine = both_workers(pilot, tmp_path / "1")
        others = both_workers(other, tmp_path / "2")
        assert not mine & others
    wait_until_gone(others)
    assert both_workers(pilot, tmp_path / "3") == mine


def test_engines_of_threads_do_not_meet(tmp_path: Path) -> None:
    sums: dict[int, int] = {}

    def work(number: int) -> None:
        with make_engine("lithops", EngineOptions(n_workers=1, mode="pilot")) as engine:
            sums[number] = sum(values(engine, abs, list(range(number, number + 50))))

    threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sums == {100 * n: sum(range(100 * n, 100 * n + 50)) for n in range(3)}


def test_temporary_files_of_tasks_lie_where_they_do_here(pilot: Engine) -> None:
    def folder(_: int) -> str:
        return tempfile.gettempdir()

    assert values(pilot, folder, [1]) == [tempfile.gettempdir()]


def threads_asked_for(_: int) -> tuple[str | None, str | None]:
    return os.environ.get("OMP_NUM_THREADS"), os.environ.get("TOKIO_WORKER_THREADS")


def test_workers_have_one_thread_each_unless_more_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TOKIO_WORKER_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with make_engine("lithops", EngineOptions(n_workers=1)) as engine:
        assert values(engine, threads_asked_for, [1]) == [("3", "1")]


def test_workers_import_what_the_client_can(
    pilot: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_the_script.py").write_text("STATE = []\ndef f(x):\n    return x + 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from beside_the_script import f  # type: ignore[import-not-found]

    assert values(pilot, f, [41]) == [42]


# -- clients in processes of their own -----------------------------------------------------------


NAMES_ITS_EXECUTOR = """
from hstmap.bag.lithops_calls import end_executor, make_executor
executor = make_executor({"lithops": {"backend": "localhost", "storage": "localhost"}})
print(executor.executor_id)
end_executor(executor)
"""


def test_programs_that_one_program_starts_name_their_calls_apart(pilot: Engine) -> None:
    assert values(pilot, abs, [-1]) == [1]  # this process has a session of Lithops'
    command = [sys.executable, "-c", NAMES_ITS_EXECUTOR]
    told = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2)]
    sessions = {each.stdout.strip().rpartition("-")[0] for each in told}
    assert len(sessions) == 2
    inherited = {"__LITHOPS_SESSION_ID": "parent", "__LITHOPS_TOTAL_EXECUTORS": "4"}
    told = [
        subprocess.run(
            command, capture_output=True, text=True, check=True, env=os.environ | inherited
        )
        for _ in range(2)
    ]
    assert len({each.stdout for each in told}) == 2


PROLOGUE = """
import os, sys, time
from pathlib import Path
from hstmap.bag.engine import EngineOptions, Stage, Task, make_engine

def slow(order):
    folder, seconds = order
    Path(folder, str(os.getpid())).touch()
    time.sleep(seconds)
    return os.getpid()

def engine_of(mode="pilot"):
    return make_engine("lithops", EngineOptions(n_workers=2, retries=0, mode=mode))

def tasks(*seconds):
    return [Task(str(n), (sys.argv[1], s)) for n, s in enumerate(seconds)]
"""


def start_client(script: str, folder: Path) -> subprocess.Popen[str]:
    """Run a script as a program; its tasks leave their processes' numbers in the folder."""
    file = folder.parent / f"{folder.name}.py"
    folder.mkdir()
    (folder.parent / "tmp").mkdir(exist_ok=True)
    file.write_text(PROLOGUE + textwrap.dedent(script))
    return subprocess.Popen(
        [sys.executable, str(file), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(folder.parent / "tmp")},
    )


def wait_for_files(folder: Path, n: int, client: subprocess.Popen[str]) -> set[int]:
    deadline = time.monotonic() + PATIENCE_S
    while len(list(folder.iterdir())) < n:
        assert client.poll() is None, client.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return {int(path.name) for path in folder.iterdir()}


def descendants(client: subprocess.Popen[str]) -> set[int]:
    return {child.pid for child in psutil.Process(client.pid).children(recursive=True)}


HANGING = """
with engine_of({mode!r}) as engine:
    for attempt in engine.run(Stage("hang", slow, tasks(0, 3600, 3600))):
        print(attempt.task_key, attempt.status, flush=True)
"""


@pytest.mark.parametrize("mode", ["pilot", "events"])
def test_ctrl_c_keeps_what_is_done_and_ends_the_workers(mode: str, tmp_path: Path) -> None:
    client = start_client(HANGING.format(mode=mode), tmp_path / "run")
    assert client.stdout is not None
    assert client.stdout.readline() == "0 ok\n"
    workers = wait_for_files(tmp_path / "run", 2 if mode == "pilot" else 3, client)
    workers |= descendants(client)
    client.send_signal(signal.SIGINT)
    _, stderr = client.communicate(timeout=PATIENCE_S)
    assert stderr.rstrip().endswith("KeyboardInterrupt")
    assert client.returncode == -signal.SIGINT
    wait_until_gone(workers)
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_client_leaves_neither_workers_nor_files(sent: int, tmp_path: Path) -> None:
    client = start_client(HANGING.format(mode="pilot"), tmp_path / "run")
    assert client.stdout is not None
    assert client.stdout.readline() == "0 ok\n"
    workers = wait_for_files(tmp_path / "run", 2, client) | descendants(client)
    assert len(workers) >= 3  # two workers and the runner
    client.send_signal(sent)
    client.communicate(timeout=PATIENCE_S)
    wait_until_gone(workers)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_client_killed_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    client = start_client(HANGING.format(mode="pilot"), tmp_path / "run")
    deadline = time.monotonic() + PATIENCE_S
    while not (started := descendants(client)):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    client.kill()
    client.communicate(timeout=PATIENCE_S)
    wait_until_gone(started)
    assert list((tmp_path / "run").iterdir()) == []
    while list((tmp_path / "tmp").iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_engine_that_nobody_closed_does_not_keep_the_program(tmp_path: Path) -> None:
    client = start_client(
        """
        engine = engine_of()
        attempts = engine.run(Stage("test", slow, tasks(0, 3600, 3600)))
        print(next(attempts).status, flush=True)
        """,
        tmp_path / "run",
    )
    stdout, stderr = client.communicate(timeout=PATIENCE_S)
    assert (stdout, stderr, client.returncode) == ("ok\n", "", 0)
    wait_until_gone({int(path.name) for path in (tmp_path / "run").iterdir()})
    assert list((tmp_path / "tmp").iterdir()) == []


def test_tasks_may_have_engines_of_their_own(tmp_path: Path) -> None:
    client = start_client(
        """
        def outer(order):
            with engine_of() as engine:
                return len(list(engine.run(Stage("inner", slow, tasks_in(order[0])))))

        def tasks_in(folder):
            return [Task(str(n), (folder, 0)) for n in range(3)]

        with engine_of() as engine:
            print([a.value for a in engine.run(Stage("outer", outer, tasks(0, 0)))])
        """,
        tmp_path / "run",
    )
    stdout, stderr = client.communicate(timeout=PATIENCE_S)
    assert (stdout, stderr) == ("[3, 3]\n", "")
    wait_until_gone({int(path.name) for path in (tmp_path / "run").iterdir()})
    assert list((tmp_path / "tmp").iterdir()) == []


def test_programs_side_by_side_do_not_meet(tmp_path: Path) -> None:
    script = """
    with engine_of() as engine:
        for n in range(3):
            done = list(engine.run(Stage("test", slow, tasks(*[0.01] * 20))))
            print(len(done), {a.status for a in done}, len({a.worker.pid for a in done}) <= 2)
    """
    clients = [start_client(script, tmp_path / str(n)) for n in range(3)]
    for client in clients:
        stdout, stderr = client.communicate(timeout=PATIENCE_S)
        assert stderr == ""
        assert stdout == "20 {'ok'} True\n" * 3


def test_nothing_is_written_to_the_terminal_by_tasks_or_lithops(tmp_path: Path) -> None:
    client = start_client(
        """
        def loud(order):
            print("from the task")
            print("from the task", file=sys.stderr)
            raise ValueError("loud")

        for mode in ("pilot", "events"):
            with engine_of(mode) as engine:
                list(engine.run(Stage("test", loud, tasks(0, 0))))
                list(engine.run(Stage("test", lambda _: os._exit(1), tasks(0, 0))))
        """,
        tmp_path / "run",
    )
    stdout, stderr = client.communicate(timeout=PATIENCE_S)
    assert (stdout, stderr, client.returncode) == ("", "", 0)


def test_a_fork_of_the_client_leaves_its_workers_alone(tmp_path: Path) -> None:
    client = start_client(
        """
        with engine_of() as engine:
            before = {a.worker.pid for a in engine.run(Stage("test", slow, tasks(*[0.05] * 8)))}
            if os.fork() == 0:
                engine.close()
                sys.exit(0)
            os.wait()
            after = {a.worker.pid for a in engine.run(Stage("test", slow, tasks(*[0.05] * 8)))}
            print(before == after)
        """,
        tmp_path / "run",
    )
    stdout, stderr = client.communicate(timeout=PATIENCE_S)
    assert (stdout, stderr) == ("True\n", "")


def test_importing_the_engine_imports_neither_lithops_nor_numpy() -> None:
    check = "import sys, hstmap.bag.engine; print({'lithops', 'numpy', 'tqdm'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"


def test_a_worker_imports_little(pilot: Engine) -> None:
    def heavy(_: int) -> list[str]:
        names = ("pandas", "pyarrow", "boto3", "tqdm", "astropy", "obstore")
        return [name for name in names if name in sys.modules]

    assert values(pilot, heavy, [1]) == [[]]
