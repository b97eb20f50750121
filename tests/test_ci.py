"""What CI is made of: README's own commands, and no test skipped in silence."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
CI = REPOSITORY / ".ci"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, CI / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def readme_command() -> ModuleType:
    return script("readme_command")


@pytest.fixture(scope="module")
def check_skips() -> ModuleType:
    return script("check_skips")


def test_ci_is_a_script_that_bash_understands() -> None:
    assert os.access(CI / "run", os.X_OK)
    subprocess.run(["bash", "-n", str(CI / "run")], check=True)


@pytest.mark.parametrize(
    ("name", "last"),
    [("sample", "python -m hstmap map --out hstmap-out"), ("test", "python -m pytest")],
)
def test_readme_shows_two_commands(readme_command: ModuleType, name: str, last: str) -> None:
    command = readme_command.readme_command((REPOSITORY / "README.md").read_text(), name)
    assert command.startswith("python3 -m venv .venv && ")
    assert command.endswith(last)


@pytest.mark.parametrize("n", [0, 2])
def test_a_command_must_be_there_once(readme_command: ModuleType, n: int) -> None:
    block = "<!-- command: x -->\n```sh\ntrue\n```\n"
    assert readme_command.readme_command(block, "x") == "true"
    with pytest.raises(LookupError, match=f"{n} commands"):
        readme_command.readme_command(block * n, "x")


RESULTS = """\
<testsuites><testsuite>
<testcase classname="tests.bag.test_a" name="test_one[x-1]"/>
<testcase classname="tests.bag.test_a" name="test_two[x]">
  <skipped type="pytest.skip" message="no frames"/></testcase>
<testcase classname="" name="tests.wfc3.test_b"><skipped message="no library"/></testcase>
</testsuite></testsuites>
"""
BOTH = "tests.bag.test_a::test_two  frames\ntests.wfc3.test_b  library\n"


def test_skipped_tests_are_problems(check_skips: ModuleType) -> None:
    assert check_skips.problems(RESULTS, "# none\n") == [
        "skipped: tests.bag.test_a::test_two: no frames",
        "skipped: tests.wfc3.test_b: no library",
    ]


def test_listed_tests_may_be_skipped(check_skips: ModuleType) -> None:
    assert check_skips.problems(RESULTS, BOTH) == []


def test_a_list_that_is_out_of_date_is_a_problem(check_skips: ModuleType) -> None:
    allowed = f"{BOTH}tests.bag.test_a::test_one  not any more\n"
    assert check_skips.problems(RESULTS, allowed) == [
        "may be skipped and was not: tests.bag.test_a::test_one"
    ]


def test_a_skip_needs_a_reason(check_skips: ModuleType) -> None:
    with pytest.raises(ValueError, match="test_two"):
        check_skips.problems(RESULTS, "tests.bag.test_a::test_two\n")


def test_no_test_at_all_is_a_problem(check_skips: ModuleType) -> None:
    assert check_skips.problems("<testsuites/>", "") == ["no test ran"]
