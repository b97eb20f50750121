"""The worker as a Lambda package: what it imports, trimmed, compiled, and zipped.

A package is a folder as Lambda unpacks it to ``/var/task``: the libraries of
``requirements/worker.txt`` and hstmap. `fetch_wheels` fills it for any architecture from locked
wheels; `copy_installed` fills it for this machine's from what is installed here, without a network.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from hstmap.aws.package_files import check_size, compile_sources, trim, write_zip
from hstmap.errors import UsageError

__all__ = [
    "ARCHITECTURES",
    "HANDLER",
    "TOO_OLD",
    "TOO_OLD_PYTHONS",
    "WORKER_DISTRIBUTIONS",
    "Target",
    "build_installed",
    "copy_installed",
    "fetch_wheels",
    "install_hstmap",
]

HANDLER: Final = "hstmap.handler.handle"

#: What a worker imports, by name: `requirements/worker.in`.
WORKER_DISTRIBUTIONS: Final = (
    "arro3-core",
    "arro3-io",
    "astropy",
    "cdshealpix",
    "cloudpickle",
    "numpy",
    "obstore",
    "sep",
)

#: By Lambda's name: that of Python's `platform.machine`.
ARCHITECTURES: Final[Mapping[str, str]] = MappingProxyType({"x86_64": "x86_64", "arm64": "aarch64"})


#: Lambda's Python 3.11 has glibc 2.26, and numpy's wheels need 2.27; from 3.12 on it has 2.34
#: (https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html).
TOO_OLD_PYTHONS: Final = ("3.11",)
TOO_OLD: Final = (
    "Lambda's {python} runs on Amazon Linux 2, whose glibc 2.26 is older than numpy's wheels "
    "allow: use Python 3.12 or 3.13, on this side too"
)
_GLIBCS: Final = (34, 31, 28, 27, 26, 24, 17)


@dataclass(frozen=True)
class Target:
    """What a package is for.

    Parameters
    ----------
    python : str
        Minor version, such as ``"3.11"``.
    architecture : {"x86_64", "arm64"}
        As Lambda names it.
    """

    python: str = f"{sys.version_info.major}.{sys.version_info.minor}"
    architecture: str = "x86_64"

    def __post_init__(self) -> None:
        """Refuse what Lambda has not."""
        if self.architecture not in ARCHITECTURES:
            raise UsageError(
                f"architecture is {self.architecture!r}; give one of {', '.join(ARCHITECTURES)}"
            )

    @classmethod
    def here(cls) -> Target:
        """Return what this machine is, for the Python that runs.

        Raises
        ------
        UsageError
            If Lambda has no such machines.
        """
        machine = platform.machine()
        names = {theirs: name for name, theirs in ARCHITECTURES.items()}
        if not sys.platform.startswith("linux") or machine not in names:
            raise UsageError(
                f"this machine is {sys.platform} on {machine}, and what is installed here does not "
                "run on Lambda: build from wheels, by runtime/build --zip"
            )
        return cls(architecture=names[machine])

    @property
    def runtime(self) -> str:
        """Lambda's name of the Python."""
        return f"python{self.python}"

    @property
    def tag(self) -> str:
        """What a package for it has in its name."""
        return f"py{self.python.replace('.', '')}-{self.architecture}"

    def pip_options(self) -> list[str]:
        """Return what makes pip choose wheels for it."""
        machine = ARCHITECTURES[self.architecture]
        platforms = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBCS]
        options = ["--only-binary=:all:", "--implementation=cp", f"--python-version={self.python}"]
        return options + [f"--platform={name}" for name in (*platforms, f"manylinux2014_{machine}")]


# -- filling ---------------------------------------------------------------------------------------


def fetch_wheels(folder: Path, target: Target, requirements: Path) -> None:
    """Install locked wheels into a folder.

    Parameters
    ----------
    folder : Path
    target : Target
    requirements : Path
        Exact versions with hashes.

    Raises
    ------
    UsageError
        If pip cannot, or Lambda's Python cannot use them.
    """
    if target.python in TOO_OLD_PYTHONS:
        raise UsageError(TOO_OLD.format(python=target.runtime))
    _pip(
        "install", "--target", str(folder), "--no-deps", "--no-compile", "--require-hashes",
        "--requirement", str(requirements), *target.pip_options(),
    )  # fmt: skip


def install_hstmap(folder: Path, sources: Path) -> None:
    """Build hstmap's wheel from its sources, and install it into a folder.

    Parameters
    ----------
    folder : Path
    sources : Path
        The repository. Nothing is written there.
    """
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "sources"
        copy.mkdir()
        for name in ("LICENSE", "README.md", "pyproject.toml", "setup.cfg"):
            shutil.copy(sources / name, copy)
        shutil.copytree(
            sources / "hstmap", copy / "hstmap", ignore=shutil.ignore_patterns("__pycache__")
        )
        isolation = ["--no-build-isolation"] if _has_setuptools() else []
        _pip("wheel", "--no-deps", *isolation, "--wheel-dir", scratch, str(copy))
        (wheel,) = Path(scratch).glob("*.whl")
        _pip("install", "--target", str(folder), "--no-deps", "--no-compile", str(wheel))


def _has_setuptools() -> bool:
    try:
        version = importlib.metadata.version("setuptools")
    except importlib.metadata.PackageNotFoundError:
        return False
    return int(version.split(".")[0]) >= 77  # as pyproject.toml asks


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"pip {arguments[0]} failed: {done.stderr.strip()}")


def copy_installed(folder: Path) -> None:
    """Copy what a worker imports, and hstmap, from where they are installed.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    UsageError
        If one of them is not installed.
    """
    for distribution in _closure(WORKER_DISTRIBUTIONS):
        for file in distribution.files or ():
            if ".." in file.parts or "__pycache__" in file.parts:
                continue  # programs, and what another interpreter compiled
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(distribution.locate_file(file)), target)
    here = Path(__file__).resolve().parents[1]
    shutil.copytree(here, folder / "hstmap", ignore=shutil.ignore_patterns("__pycache__"))


def _closure(names: Iterable[str]) -> list[importlib.metadata.Distribution]:
    """Return installed distributions with all that they need."""
    from packaging.requirements import Requirement

    found: dict[str, importlib.metadata.Distribution] = {}
    pending = list(names)
    while pending:
        name = pending.pop().lower().replace("_", "-")
        if name in found:
            continue
        try:
            distribution = found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise UsageError(
                f"a worker needs {name}, which is not installed here: pip install {name}"
            ) from error
        for line in distribution.requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                pending.append(requirement.name)
    return list(found.values())


# -- building --------------------------------------------------------------------------------------


def build_installed(scratch: Path) -> Path:
    """Build the package of what is installed here.

    Parameters
    ----------
    scratch : Path
        A folder for it.

    Returns
    -------
    Path
        The archive.
    """
    folder = scratch / "package"
    folder.mkdir()
    copy_installed(folder)
    trim(folder)
    compile_sources(folder)
    check_size(folder)
    file = scratch / f"hstmap-{Target.here().tag}.zip"
    write_zip(folder, file)
    return file
