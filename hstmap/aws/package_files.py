"""Packages as folders and archives: trimmed, compiled, weighed, zipped."""

from __future__ import annotations

import compileall
import hashlib
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Final

from hstmap.errors import UsageError

__all__ = [
    "MOST_UNZIPPED_NBYTES",
    "check_size",
    "compile_sources",
    "make_readable",
    "sizes",
    "trim",
    "write_entry",
    "write_zip",
]

#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MOST_UNZIPPED_NBYTES: Final = 250 * 1024 * 1024

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
_COMPRESSION: Final = 6
_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)  # the first time that a zip archive can say


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
        elif path.suffix in _UNUSED_SUFFIXES and ".dist-info" not in name:  # licences are there
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


def make_readable(folder: Path) -> None:
    """Let every user read a package: in an image, files keep the modes that they were made with.

    Parameters
    ----------
    folder : Path
    """
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else _mode(path))


def _mode(file: Path) -> int:
    return 0o755 if file.suffix == ".so" else 0o644


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
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _files(folder):
            write_entry(archive, path.relative_to(folder).as_posix(), path)
    unfinished.replace(file)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_entry(archive: zipfile.ZipFile, name: str, file: Path) -> None:
    """Add a file to an archive, with nothing of it but its bytes.

    Parameters
    ----------
    archive : ZipFile
    name : str
        Where it belongs.
    file : Path
    """
    entry = zipfile.ZipInfo(name, _EARLIEST)
    # Readable for the user that Lambda runs functions as.
    entry.external_attr = _mode(file) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, file.read_bytes(), compresslevel=_COMPRESSION)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
