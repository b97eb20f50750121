"""``/var/lang``: a Python with what AWS's runtimes have, and nothing of this environment else."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

from hstmap.errors import UsageError

__all__ = ["HOST_RUNTIME", "make_runtime", "python_home"]

HOST_RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"


def make_runtime(folder: Path, distributions: Iterable[str]) -> Path:
    """Make a virtual environment of this interpreter with a few installed distributions.

    The distributions are copied from the running environment with what they need, so that
    no network is used, and a package that forgot one of its own dependencies fails here as
    it would on AWS.

    Parameters
    ----------
    folder : Path
        Where it is made.
    distributions : iterable of str
        Names as of PyPI.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UsageError
        Where a distribution is not installed.
    """
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", "--symlinks", str(folder)],
        check=True,
        capture_output=True,
    )
    site_packages = folder / "lib" / HOST_RUNTIME / "site-packages"
    for distribution in _closure(distributions):
        _copy(distribution, site_packages)
    return folder


def python_home(runtime: Path) -> Path:
    """Return the installation that a virtual environment stands on.

    Parameters
    ----------
    runtime : Path
        The virtual environment.

    Returns
    -------
    Path
        The installation's prefix, which holds the standard library.
    """
    for line in (runtime / "pyvenv.cfg").read_text().splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "home":
            return Path(value.strip()).parent
    raise UsageError(f"{runtime} is no virtual environment: its pyvenv.cfg names no home")


def _closure(names: Iterable[str]) -> list[importlib.metadata.Distribution]:
    found: dict[str, importlib.metadata.Distribution] = {}
    pending = list(names)
    while pending:
        name = pending.pop()
        if name in found:
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            raise UsageError(
                f"the loopback AWS needs {name}, which is not installed: "
                "pip install 'hstmap[local-aws]'"
            ) from None
        found[name] = distribution
        for line in distribution.requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                pending.append(requirement.name)
    return list(found.values())


def _copy(distribution: importlib.metadata.Distribution, site_packages: Path) -> None:
    made: set[Path] = set()
    for file in distribution.files or []:
        # Scripts lie outside of site-packages; a function has no use for them.
        if ".." in file.parts:
            continue
        source = Path(str(file.locate()))
        target = site_packages / str(file)
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        if source.is_file():
            _link_or_copy(source, target)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Another file system, or one without hard links.
        shutil.copy2(source, target)
