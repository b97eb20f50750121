"""Modules that a user names to travel with functions, though they are installed here."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from hstmap.errors import UsageError

__all__ = ["included_modules"]

_COMPILED = (".so", ".pyd")
_ELSE = "put it into the workers' package: python -m hstmap deploy --include"


def included_modules(names: Sequence[str]) -> list[ModuleType]:
    """Find modules whose functions and classes are to be sent with their code.

    Parameters
    ----------
    names : sequence of str
        Modules or packages by their names, or Python files.

    Returns
    -------
    list of module
        Imported, if they were not.

    Raises
    ------
    UsageError
        If there is none of a name, or it is compiled.
    """
    return [_of_file(Path(name)) if name.endswith(".py") else _of_name(name) for name in names]


def _of_name(name: str) -> ModuleType:
    try:
        module = sys.modules.get(name) or importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"include names {name!r}, which cannot be imported here: {error}; give the name of a "
            "module or package, or the path of a .py file"
        ) from error
    if name in sys.builtin_module_names or str(module.__file__).endswith(_COMPILED):
        raise UsageError(f"include names {name!r}, which is compiled and cannot be sent: {_ELSE}")
    return module


def _of_file(file: Path) -> ModuleType:
    path = file.resolve()
    if not path.is_file():
        raise UsageError(f"include names {str(file)!r}, and there is no such file")
    for module in tuple(sys.modules.values()):
        if getattr(module, "__file__", None) and Path(str(module.__file__)).resolve() == path:
            return module
    if path.stem in sys.modules:
        raise UsageError(
            f"include names {str(file)!r}, and another module {path.stem!r} was imported already, "
            f"from {sys.modules[path.stem].__file__}: rename one of them"
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"include names {str(file)!r}, which is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
