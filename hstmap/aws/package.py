"""The worker as a Lambda package: what it imports, trimmed, compiled, and zipped.

A package is a folder as Lambda unpacks it to ``/var/task``: the libraries of
``requirements/worker.txt`` and hstmap. `fetch_wheels` fills it for any architecture from locked
wheels; `copy_installed` fills it for this machine's from what is installed here, without a network.
"""

from __future__ import annotations

import compileall
import hashlib
import importlib.metadata
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from py_compile import PycInvalidationMode
from types import MappingProxyType
from typing import Final

from hstmap.errors import UsageError

__all__ = [
    "ARCHITECTURES",
    "HANDLER",
    "MOST_UNZIPPED_NBYTES",
    "WORKER_DISTRIBUTIONS",
    "Target",
    "check_size",
    "compile_sources",
    "copy_installed",
    "fetch_wheels",
    "install_hstmap",
    "sizes",
    "trim",
    "write_zip",
]

HANDLER: Final = "hstmap.handler.handle"

#: What a worker imports, by name: `requirements/worker.in`.
WORKER_DISTRIBUTIONS: Final = (
    "arro3-core",
    "arro3-io",
    "astropy",
    "cloudpickle",
    "numpy",
    "obstore",
    "sep",
)

#: By Lambda's name: that of Python's `platform.machine`.
ARCHITECTURES: Final[Mapping[str, str]] = MappingProxyType({"x86_64": "x86_64", "arm64": "aarch64"})

#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MOST_UNZIPPED_NBYTES: Final = 250 * 1024 * 1024

#: Lambda's Python 3.11 has glibc 2.26, and numpy's wheels need 2.27; from 3.12 on it has 2.34
#: (https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html).
_TOO_OLD: Final = ("3.11",)
_GLIBCS: Final = (34, 31, 28, 27, 26, 24, 17)

#: Folders that no worker reads: tests, what compiles against a library, and those parts of astropy
#: that reading FITS, tables, times, coordinates and WCS do without.
_UNUSED_FOLDERS: Final = (
    "astropy/convolution",
    "astropy/cosmology",
    "astropy/io/votable/data",
    "astropy/modeling",
    "astropy/samp",
    "astropy/timeseries",
    "astropy/uncertainty",
    "astropy/visualization",
    "astropy/wcs/include",
    "bin",
    "hstmap/aws/local",
    "hstmap/report",
    "numpy/_core/include",
    "numpy/_core/lib",
    "numpy/distutils",
    "numpy/doc",
    "numpy/f2py",
    "numpy/random/_examples",
    "numpy/random/lib",
)
#: The Earth's rotation, which only Earth-bound coordinates and UT1 need; leap seconds stay.
_UNUSED_FILES: Final = (
    "astropy_iers_data/data/eopc04.1962-now",
    "astropy_iers_data/data/finals2000A.all",
)
_UNUSED_SUFFIXES: Final = frozenset(
    {".a", ".c", ".h", ".lib", ".pxd", ".pxi", ".pyi", ".pyx", ".rst"}
)
_TESTS_THAT_ARE_IMPORTED: Final = "astropy/tests"
_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)  # the first time that a zip archive can say


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
    if target.python in _TOO_OLD:
        raise UsageError(
            f"Lambda's Python {target.python} runs on Amazon Linux 2, whose glibc 2.26 is older "
            "than numpy's wheels allow: use Python 3.12 or 3.13, here too"
        )
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


# -- trimming --------------------------------------------------------------------------------------


def trim(folder: Path) -> None:
    """Remove what no worker reads.

    Parameters
    ----------
    folder : Path
        A package.
    """
    for name in _UNUSED_FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in _UNUSED_FILES:
        (folder / name).unlink(missing_ok=True)
    for path in sorted(folder.rglob("*"), reverse=True):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            if path.name in ("tests", "__pycache__") and name != _TESTS_THAT_ARE_IMPORTED:
                shutil.rmtree(path)
        elif path.suffix in _UNUSED_SUFFIXES:
            path.unlink()


def compile_sources(folder: Path) -> None:
    """Compile all modules, so that no cold start has to.

    The compiled files are not checked against their sources: ``/var/task`` cannot be written to,
    and an archive does not keep times well enough for the usual check.

    Parameters
    ----------
    folder : Path
        A package for the Python that runs.
    """
    compileall.compile_dir(
        folder,
        stripdir=str(folder),
        prependdir="/var/task",
        quiet=2,
        workers=1,
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
    )


# -- zipping ---------------------------------------------------------------------------------------


def sizes(folder: Path) -> dict[str, int]:
    """Measure a package by its parts.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    dict of str to int
        Bytes by the name of what lies at the top, the largest first.
    """
    parts: dict[str, int] = {}
    for path in _files(folder):
        top = path.relative_to(folder).parts[0]
        if not top.endswith(".dist-info"):
            top = top.split(".")[0]
        parts[top] = parts.get(top, 0) + path.stat().st_size
    return dict(sorted(parts.items(), key=lambda item: -item[1]))


def check_size(folder: Path) -> int:
    """Return the size of a package, bytes.

    Raises
    ------
    UsageError
        If Lambda would refuse it.
    """
    nbytes = sum(sizes(folder).values())
    if nbytes > MOST_UNZIPPED_NBYTES:
        raise UsageError(
            f"the package has {nbytes / 2**20:.0f} MB, and Lambda takes "
            f"{MOST_UNZIPPED_NBYTES / 2**20:.0f}: trim it, or build an image"
        )
    return nbytes


def write_zip(folder: Path, file: Path) -> str:
    """Write a package as an archive whose bytes depend on nothing but what is in it.

    Parameters
    ----------
    folder : Path
    file : Path

    Returns
    -------
    str
        Its SHA-256, hexadecimal.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path in _files(folder):
            name = PurePosixPath(*path.relative_to(folder).parts)
            entry = zipfile.ZipInfo(str(name), _EARLIEST)
            # Readable for the user that Lambda runs functions as.
            entry.external_attr = (0o755 if path.suffix == ".so" else 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())
    unfinished.replace(file)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
