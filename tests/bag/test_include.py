"""Modules that are named to travel: what is installed here, and is not where workers are."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hstmap
from hstmap.bag.engine import EngineOptions, Stage
from hstmap.bag.include import included_modules
from hstmap.bag.wire import Packer
from hstmap.errors import UsageError

ELSEWHERE = """
import sys, pickle
from hstmap.bag.wire import Program
print(Program(sys.stdin.buffer.read()).run(pickle.dumps(20)))
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A package that is installed here, and nowhere else."""
    root = tmp_path / "site-packages" / "stars"
    (root / "inner").mkdir(parents=True)
    (root / "__init__.py").write_text("from stars.inner.light import double\n")
    (root / "inner" / "__init__.py").write_text("")
    (root / "inner" / "light.py").write_text(
        "FACTOR = 2\nclass Star:\n    def __init__(self, n):\n        self.n = n\n"
        "def double(n):\n    return Star(FACTOR * n).n\n"
    )
    monkeypatch.syspath_prepend(str(root.parent))
    yield importlib.import_module("stars")
    for name in [name for name in sys.modules if name.partition(".")[0] == "stars"]:
        del sys.modules[name]


def told_elsewhere(function: Callable[[Any], Any], *include: str) -> str:
    """Call a function with 20 in an interpreter that has hstmap and no more."""
    packer = Packer(shared_path=False, include=include)
    program = packer.pack_program(Stage("test", function, []), ())
    told = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], input=program, capture_output=True, check=False
    )
    return (told.stdout or told.stderr).decode().strip().splitlines()[-1]


def test_what_is_installed_here_is_missed_elsewhere_unless_it_is_named(installed: Any) -> None:
    assert "No module named 'stars'" in told_elsewhere(installed.double)
    assert told_elsewhere(installed.double, "stars") == "40"


@pytest.mark.parametrize("name", ["stars", "stars.inner", "stars.inner.light"])
def test_a_package_travels_with_all_that_is_in_it(installed: Any, name: str) -> None:
    assert told_elsewhere(lambda n: installed.double(n) + 1, "stars", name) == "41"
    assert told_elsewhere(sys.modules["stars.inner.light"].double, name) == "40"


def test_a_module_is_found_by_its_file(installed: Any) -> None:
    module = sys.modules["stars.inner.light"]
    assert included_modules([module.__file__]) == [module]
    assert told_elsewhere(module.double, module.__file__) == "40"


def test_a_file_that_was_not_imported_is(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "comets.py").write_text("def tail(n):\n    return -n\n")
    monkeypatch.chdir(tmp_path)
    try:
        (module,) = included_modules(["comets.py"])
        assert sys.modules["comets"] is module
        assert told_elsewhere(module.tail, "comets.py") == "-20"
    finally:
        sys.modules.pop("comets", None)


def test_payloads_travel_in_the_same_way(installed: Any) -> None:
    star = sys.modules["stars.inner.light"].Star(3)
    by_name = Packer(shared_path=False).pack_payload(star)
    by_value = Packer(shared_path=False, include=["stars"]).pack_payload(star)
    assert isinstance(by_name, bytes)
    assert isinstance(by_value, bytes)
    assert len(by_value) > len(by_name)
    assert pickle.loads(by_value).n == 3


def test_nothing_stays_registered(installed: Any) -> None:
    import cloudpickle

    told_elsewhere(installed.double, "stars")
    assert "stars" not in cloudpickle.list_registry_pickle_by_value()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module", "cannot be imported here"),
        ("no_such_file.py", "no such file"),
        ("sys", "compiled .*deploy --include"),
        ("numpy._core._multiarray_umath", "compiled .*deploy --include"),
    ],
)
def test_what_cannot_travel_is_refused_with_what_to_do(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        included_modules([name])


def test_a_file_whose_name_is_taken_is_refused(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("")
    with pytest.raises(UsageError, match="rename one of them"):
        included_modules([str(tmp_path / "json.py")])


def test_one_name_alone_is_no_list() -> None:
    with pytest.raises(UsageError, match="a list"):
        EngineOptions(include="stars")  # type: ignore[arg-type]


def test_processes_get_the_module_as_the_client_has_it(installed: Any) -> None:
    """By name, they would import what the file says now."""
    light = sys.modules["stars.inner.light"]
    Path(str(light.__file__)).write_text("def double(n):\n    return 'another'\n")
    bag = hstmap.from_sequence([1, 2, 3], npartitions=2).map(light.double)
    with hstmap.use_engine("lithops", EngineOptions(n_workers=1, include=("stars",))):
        assert bag.compute() == [2, 4, 6]
    with hstmap.use_engine("lithops", EngineOptions(n_workers=1)):
        assert bag.compute() == ["another"] * 3


def test_dask_graphs_take_it_from_the_engine(installed: Any) -> None:
    dask_bag = pytest.importorskip("dask.bag", reason="dask of hstmap[dask] is not installed")
    import hstmap.dask

    light = sys.modules["stars.inner.light"]
    Path(str(light.__file__)).write_text("def double(n):\n    return 'another'\n")
    bag = dask_bag.from_sequence([1, 2, 3], npartitions=2).map(light.double)
    with hstmap.use_engine("lithops", EngineOptions(n_workers=1, include=("stars",))):
        assert bag.compute(scheduler=hstmap.dask.get) == [2, 4, 6]
