"""What a user adds to the workers' package: modules that functions import when they run."""

from __future__ import annotations

import importlib.util
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hstmap.aws.package_files import write_entry
from hstmap.errors import UsageError

__all__ = ["copy_included", "included_files", "package_with"]

_NOT_TAKEN: Final = frozenset({"__pycache__", ".git", ".mypy_cache", ".pytest_cache"})


def included_files(names: Sequence[str]) -> dict[str, Path]:
    """Find the files of modules.

    Parameters
    ----------
    names : sequence of str
        Modules or packages by their names, Python files, or folders.

    Returns
    -------
    dict of str to Path
        Where each file is, by where it belongs in the package. Data files of packages are there.

    Raises
    ------
    UsageError
        If there is none of a name.
    """
    files: dict[str, Path] = {}
    for name in names:
        for root in _roots(name):
            files |= _files_of(root)
    return files


def _roots(name: str) -> list[Path]:
    """Return the file or folder of a name."""
    path = Path(name)
    if path.suffix == ".py" or path.is_dir():
        if not path.exists():
            raise UsageError(f"--include {name}: there is no such file")
        return [path.resolve()]
    top = name.partition(".")[0]
    spec = importlib.util.find_spec(top) if top.isidentifier() else None
    if spec is not None and spec.submodule_search_locations:
        return [Path(folder) for folder in spec.submodule_search_locations]
    if spec is not None and spec.has_location:
        return [Path(str(spec.origin))]
    raise UsageError(
        f"--include {name}: no module of that name is installed here, and no file is so named"
    )


def _files_of(root: Path) -> dict[str, Path]:
    if root.is_file():
        return {root.name: root}
    return {
        path.relative_to(root.parent).as_posix(): path
        for path in sorted(root.rglob("*"))
        if path.is_file() and not _NOT_TAKEN & set(path.parts)
    }


def copy_included(folder: Path, names: Sequence[str]) -> None:
    """Copy modules into a package's folder.

    Parameters
    ----------
    folder : Path
    names : sequence of str
        See `included_files`.

    Raises
    ------
    UsageError
        If the package has something of that name already.
    """
    files = included_files(names)
    _refuse_taken(files, {path.name for path in folder.iterdir()})
    for name, path in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def package_with(package: Path, names: Sequence[str], scratch: Path) -> Path:
    """Copy a zipped package, and add modules.

    Parameters
    ----------
    package : Path
    names : sequence of str
        See `included_files`.
    scratch : Path
        Folder for the copy.

    Returns
    -------
    Path
        The copy: always the same bytes, for the same contents.

    Raises
    ------
    UsageError
        If the package has something of that name already.
    """
    files = included_files(names)
    copy = scratch / f"included-{package.name}"
    shutil.copyfile(package, copy)
    with zipfile.ZipFile(copy, "a") as archive:
        _refuse_taken(files, {name.partition("/")[0] for name in archive.namelist()})
        for name, path in files.items():
            write_entry(archive, name, path)
    return copy


def _refuse_taken(files: dict[str, Path], taken: set[str]) -> None:
    found = sorted({name.partition("/")[0] for name in files} & taken)
    if found:
        raise UsageError(
            f"--include would replace {', '.join(found)} in the workers' package, which has its "
            "own: rename yours, or leave it out"
        )
