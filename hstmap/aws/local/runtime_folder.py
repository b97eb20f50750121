"""``/var/lang``: a Python with what AWS's runtimes have, and nothing of this environment else."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

from hstmap.errors import UsageError

__all__ = ["HOST_RUNTIME", "lent_folders", "make_runtime"]

HOST_RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"


def make_runtime(folder: Path, distributions: Iterable[str]) -> Path:
    """Make a virtual environment of this interpreter with a few installed distributions.

    The distributions are links to the running environment's own, with what they need: no
    network is used, and a package that forgot one of its dependencies fails as on AWS.

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
        _link(distribution, site_packages)
    return folder


def lent_folders(runtime: Path) -> tuple[Path, ...]:
    """Return the folders of this machine without which a runtime does not work.

    Parameters
    ----------
    runtime : Path
        A virtual environment, or an installation that needs nothing else.

    Returns
    -------
    tuple of Path
        The installation that it stands on, and those that its site-packages link to.
    """
    folders = set()
    config = runtime / "pyvenv.cfg"
    for line in config.read_text().splitlines() if config.is_file() else []:
        name, _, value = line.partition("=")
        if name.strip() == "home":
            folders.add(Path(value.strip()).parent)
    for link in runtime.glob("lib/python*/site-packages/*"):
        if link.is_symlink():
            folders.add(link.readlink().parent)
    return tuple(folder for folder in sorted(folders) if not folder.is_relative_to("/usr"))


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


def _link(distribution: importlib.metadata.Distribution, site_packages: Path) -> None:
    """Link the modules and packages of a distribution, and what is said of it."""
    # Scripts lie outside of site-packages, and a function has no use for them.
    for name in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
        source = Path(str(distribution.locate_file(name)))
        target = site_packages / name
        if not target.exists():  # distributions may share a namespace
            target.symlink_to(source)
