"""What is installed: the wheel, its versions, and the lock files beside it."""

from __future__ import annotations

import ast
import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import hstmap
from hstmap.aws.package import Target
from hstmap.aws.settings import aws_settings
from hstmap.cli import Console
from hstmap.commands.deploy import _package as package_to_deploy
from hstmap.errors import UsageError

REPOSITORY = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11.2", "3.11.9", "3.12.0", "3.13.0")
LOCKS = ("test.txt", "lint.txt", "worker.txt")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of the sources with what is installed here."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    shutil.copytree(
        REPOSITORY / "hstmap", sources / "hstmap", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, sources)
    subprocess.run(
        [
            sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
            "--no-index", "--wheel-dir", str(folder), str(sources),
        ],
        check=True,
    )  # fmt: skip
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def sources(wheel: zipfile.ZipFile) -> Path:
    """The copy of the sources that the wheel was built from."""
    return Path(wheel.filename or "").parent / "sources"


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def test_the_wheel_holds_every_file_of_the_package(wheel: zipfile.ZipFile, sources: Path) -> None:
    in_tree = {
        path.relative_to(sources).as_posix()
        for path in (sources / "hstmap").rglob("*")
        if path.is_file()
    }
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == in_tree
    assert "hstmap/py.typed" in packed


def test_the_wheel_is_for_any_machine(wheel: zipfile.ZipFile) -> None:
    assert Path(wheel.filename or "").name == f"hstmap-{hstmap.__version__}-py3-none-any.whl"


def test_all_versions_are_the_same(metadata: Message) -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert metadata["Version"] == hstmap.__version__
    assert citation["version"] == hstmap.__version__


def test_licences_are_the_same(metadata: Message) -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert metadata["License-Expression"] == citation["license"] == "BSD-3-Clause"
    assert (REPOSITORY / "LICENSE").read_text().startswith("BSD 3-Clause License")


def test_the_changelog_leads_up_to_the_version() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[([^\]]+)\]", text, re.M)
    assert headings[0] == "Unreleased"
    released = [Version(heading) for heading in headings[1:]]
    assert released == sorted(released, reverse=True)
    assert all(version <= Version(hstmap.__version__) for version in released)


def test_python_is_the_same_wherever_it_is_said(metadata: Message) -> None:
    config = setup_config()
    minors = re.findall(r"Python :: (3\.\d+)", config["metadata"]["classifiers"])
    supported = Requirement(f"python{metadata['Requires-Python']}").specifier
    assert minors == [f"3.{minor}" for minor in range(8, 20) if f"3.{minor}.0" in supported]
    assert config["mypy"]["python_version"] == minors[0]


# -- dependencies --------------------------------------------------------------------------------


def setup_config() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    return config


def requirements(text: str) -> list[Requirement]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [Requirement(line) for line in lines]


def declared(*, lint: bool) -> list[Requirement]:
    """Read what setup.cfg asks for, of the lint extra or of everything else."""
    config = setup_config()
    extras = dict(config["options.extras_require"])
    lint_text = extras.pop("lint")
    texts = [lint_text] if lint else [config["options"]["install_requires"], *extras.values()]
    found = [item for text in texts for item in requirements(text)]
    return [item for item in found if item.name != "hstmap"]


def locked(name: str) -> list[Requirement]:
    """Read the pins of a lock file."""
    text = (REPOSITORY / "requirements" / name).read_text()
    return [Requirement(line.rstrip(" \\")) for line in text.splitlines() if "==" in line]


def versions(name: str, python: str) -> dict[str, Version]:
    """Give the versions that a lock file installs on Linux with a Python."""
    environment = {
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        "sys_platform": "linux",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "platform_machine": "x86_64",
        "os_name": "posix",
        "platform_system": "Linux",
    }
    found = {}
    for pin in locked(name):
        if pin.marker is None or pin.marker.evaluate(environment):
            (specifier,) = pin.specifier
            assert canonicalize_name(pin.name) not in found, f"{pin.name} is pinned twice"
            found[canonicalize_name(pin.name)] = Version(specifier.version)
    return found


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", ["test.txt", "lint.txt"])
def test_lock_files_fit_what_is_declared(name: str, python: str) -> None:
    pins = versions(name, python)
    for wanted in declared(lint=name == "lint.txt"):
        if wanted.marker is None or wanted.marker.evaluate({"python_full_version": python}):
            version = pins.get(canonicalize_name(wanted.name))
            assert version is not None, f"{wanted} is not locked: run requirements/lock"
            assert wanted.specifier.contains(version, prereleases=True), f"{wanted}, not {version}"


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_files_agree(python: str) -> None:
    client = versions("test.txt", python)
    worker = versions("worker.txt", python)
    lint = versions("lint.txt", python)
    assert {name: client.get(name) for name in worker} == worker
    assert {name: client[name] for name in lint if name in client} == {
        name: lint[name] for name in lint if name in client
    }


@pytest.mark.parametrize("name", LOCKS)
def test_lock_files_are_exact_and_name_no_host(name: str) -> None:
    text = (REPOSITORY / "requirements" / name).read_text()
    blocks = re.split(r"\n(?=\w)", re.sub(r"^#.*\n", "", text, flags=re.M).strip())
    assert len(blocks) == len(locked(name)) > 0
    for block in blocks:
        assert re.match(r"[\w.-]+(\[[\w,]+\])?==[\w.+!]+( ; [^\\]+)? \\\n", block), block[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}$", block), block[:80]
    assert "://" not in text
    assert "--index" not in text
    assert "--extra" not in text


def top_level_imports(folder: str) -> set[str]:
    """Name the libraries that a folder's code imports when it runs."""
    names: set[str] = set()
    for path in (REPOSITORY / folder).rglob("*.py"):
        tree = ast.parse(path.read_text())
        for_types = {
            id(child)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for child in ast.walk(node)
        }
        for node in ast.walk(tree):
            if id(node) in for_types:
                continue
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"hstmap"}


def providers() -> dict[str, set[str]]:
    """Name the distributions that have a module, by module: more than one for a namespace."""
    return {
        module: {canonicalize_name(name) for name in names}
        for module, names in packages_distributions().items()
    }


@pytest.mark.parametrize("folder", ["hstmap", "tests", "benchmarks", "examples"])
def test_every_import_is_declared(folder: str) -> None:
    names = {canonicalize_name(item.name) for item in declared(lint=False)}
    known = providers()
    # What is not installed is a module that a test makes.
    undeclared = {
        module
        for module in top_level_imports(folder)
        if module in known and not known[module] & names
    }
    assert undeclared == set()


def test_every_required_library_is_imported() -> None:
    wanted = {
        canonicalize_name(item.name)
        for item in requirements(setup_config()["options"]["install_requires"])
    }
    known = providers()
    used = {name for module in top_level_imports("hstmap") for name in known.get(module, set())}
    assert wanted - used == set()


WORKER_WITH_ITS_OWN_LIBRARIES = """
import sys
from importlib.machinery import PathFinder

class WithoutOthers(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in {absent!r} else super().find_spec(name, path, target)

sys.meta_path[:] = [WithoutOthers if item is PathFinder else item for item in sys.meta_path]
import hstmap.worker, hstmap.bag.worker
"""


def test_a_worker_needs_what_its_lock_file_has() -> None:
    installed = set(versions("worker.txt", PYTHONS[0])) | {"hstmap"}
    absent = {module for module, names in providers().items() if not names & installed}
    code = WORKER_WITH_ITS_OWN_LIBRARIES.format(absent=absent)
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=REPOSITORY
    )
    assert answer.returncode == 0, answer.stderr


def test_the_command_is_installed(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    config = configparser.ConfigParser()
    config.read_string(wheel.read(name).decode())
    assert dict(config["console_scripts"]) == {"hstmap": "hstmap.cli:main"}


def test_what_is_installed_here_is_not_sent_to_another_kind_of_processor(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = Target.here().architecture
    other = ({"arm64", "x86_64"} - {here}).pop()
    config = {"aws": {"region": "us-east-1"}, "aws_lambda": {"architecture": other}}
    settings = aws_settings(config, account_id="123456789012")
    wanted = rf"is for {here}: build it, by runtime/build --zip --arch {other} \(on a loopback AWS"
    with pytest.raises(UsageError, match=wanted):
        package_to_deploy(settings, tmp_path, Console(quiet=True))
    # One that was built for it is taken.
    (tmp_path / "runtime" / "dist").mkdir(parents=True)
    target = Target(architecture=other)
    built = Path("runtime", "dist", f"hstmap-{hstmap.__version__}-{target.tag}.zip")
    built.write_bytes(b"a zip")
    assert package_to_deploy(settings, tmp_path, Console(quiet=True)) == built
