"""The rules that ARCHITECTURE.md states, held by reading the code."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "hstmap"

BASE = {"errors", "config", "ranged"}  # and what begins with "storage"
ROOMS = {"archive", "aws", "bag", "wfc3"}
SURFACE = {"__main__", "cli", "commands"}
#: What may import what, by layer; everything else at the top of the package is the hallway.
MAY_IMPORT = {
    "public": {"base", "room", "hallway", "account", "report", "public"},
    "base": {"base", "public"},
    "room": {"base", "room", "public"},  # its own room, that is
    "hallway": {"base", "room", "hallway", "public"},
    "account": {"base", "room", "hallway", "account", "public"},
    "report": {"base", "room", "hallway", "report", "public"},
    "surface": {"base", "room", "hallway", "account", "report", "surface", "public"},
}
#: Where an exception of any kind is caught, how often, and why that is right there.
BROAD_EXCEPTS = {
    "hstmap.worker": 1,  # what one image does must not stop the others of its batch
    "hstmap.aws.calls": 1,  # what a call does must reach the client, which would else wait
    "hstmap.bag.outcome": 1,  # what a task does must reach the client as data
    "hstmap.wfc3.detect": 1,  # SEP raises bare Exception for its overflows; others are re-raised
}
MOST_MODULE_LINES = 400
MOST_FUNCTION_LINES = 60
MOST_PARAMETERS = 6


Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Import:
    """One imported module, and when it is imported."""

    module: str
    line: int
    at_import: bool
    for_types_only: bool


def module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_storage(module: str) -> bool:
    return module.startswith("hstmap.storage")


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(), str(path)) for name, path in FILES.items()}
#: Libraries that one place has to itself, so that they can be replaced there.
ONLY_IN = {
    "lithops": {module for module in FILES if module.startswith("hstmap.bag.lithops")},
    "obstore": {"hstmap.ranged", *(module for module in FILES if is_storage(module))},
    "sep": {"hstmap.wfc3", "hstmap.catalogs"},
    "astroquery": {"hstmap.archive"},
    "matplotlib": {"hstmap.report"},
}


def imported_modules(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Name what a statement imports: of ``from a import b``, ``a.b`` where that is a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif node.module:
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            yield full if full in FILES else node.module


def is_type_checking(node: ast.AST) -> bool:
    if not isinstance(node, ast.If):
        return False
    test = node.test
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def walk_imports(node: ast.AST, late: bool = False, types: bool = False) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            for name in imported_modules(child):
                yield Import(name, child.lineno, not late and not types, types)
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from walk_imports(child, late or is_function, types or is_type_checking(child))


IMPORTS = {name: tuple(walk_imports(tree)) for name, tree in TREES.items()}


def layer(module: str) -> str:
    first = [*module.split("."), ""][1]
    if not first:
        return "public"
    if first in BASE or is_storage(module):
        return "base"
    if first in ROOMS:
        return "room"
    if first in SURFACE:
        return "surface"
    return first if first in {"account", "report"} else "hallway"


def within(module: str, places: set[str]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


# -- who may import whom -------------------------------------------------------------------------


def own_imports() -> Iterator[tuple[str, Import]]:
    """Yield the imports of hstmap's own modules that happen when it runs, late ones included."""
    for module, imports in IMPORTS.items():
        for item in imports:
            if within(item.module, {"hstmap"}) and not item.for_types_only:
                yield module, item


def test_arrows_between_layers_point_one_way() -> None:
    wrong = [
        f"{module}:{item.line}: {layer(module)} imports {layer(item.module)} ({item.module})"
        for module, item in own_imports()
        if layer(item.module) not in MAY_IMPORT[layer(module)]
    ]
    assert wrong == []


def test_rooms_do_not_import_each_other() -> None:
    wrong = [
        f"{module}:{item.line}: {item.module}"
        for module, item in own_imports()
        if layer(module) == layer(item.module) == "room"
        and module.split(".")[1] != item.module.split(".")[1]
    ]
    assert wrong == []


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_imported_in_its_place_only(library: str) -> None:
    users = {
        module
        for module, imports in IMPORTS.items()
        for item in imports
        if within(item.module, {library}) and not item.for_types_only
    }
    assert users, f"nothing imports {library}: this rule is out of date"
    assert {user for user in users if not within(user, ONLY_IN[library])} == set()


def test_modules_do_not_import_each_other_in_circles() -> None:
    graph = {
        module: {item.module for item in imports if item.at_import and item.module in FILES}
        - {module, "hstmap"}
        for module, imports in IMPORTS.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


# -- what an import costs ------------------------------------------------------------------------


def loaded_by(statement: str) -> set[str]:
    """Name the top-level modules that an interpreter of its own has after a statement."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    return {name.split(".")[0] for name in json.loads(answer.stdout)}


@pytest.mark.parametrize("statement", ["import hstmap", "import hstmap.cli"])
def test_the_package_imports_no_library(statement: str) -> None:
    third_party = loaded_by(statement) - loaded_by("") - sys.stdlib_module_names
    # Namespace helpers of editable installs are the environment's, not hstmap's.
    assert {name for name in third_party if not name.startswith("_")} == {"hstmap"}


@pytest.mark.parametrize(
    "statement", ["import hstmap.worker", "import hstmap.bag.worker", "import hstmap.merge"]
)
def test_a_worker_imports_nothing_that_only_a_client_needs(statement: str) -> None:
    client_only = {
        "aiohttp", "astroquery", "boto3", "botocore", "dask", "lithops", "matplotlib", "pandas",
        "mocpy", "pyarrow", "requests", "scipy", "tqdm",
    }  # fmt: skip
    assert loaded_by(statement) & client_only == set()


def test_the_worker_of_a_map_imports_nothing_that_only_a_reduce_needs() -> None:
    assert loaded_by("import hstmap.handler") & {"cdshealpix"} == set()


def test_a_client_that_sends_tasks_imports_nothing_that_only_a_worker_needs() -> None:
    assert loaded_by("import hstmap.pipeline") & {"arro3", "astropy", "sep"} == set()


def test_the_worker_of_tasks_knows_no_astronomy() -> None:
    assert loaded_by("import hstmap.bag.worker") & {"astropy", "numpy", "obstore", "sep"} == set()


# -- what code looks like ------------------------------------------------------------------------


def test_modules_are_short() -> None:
    lengths = {module: len(path.read_text().splitlines()) for module, path in FILES.items()}
    assert {name: n for name, n in lengths.items() if n >= MOST_MODULE_LINES} == {}


def all_functions() -> Iterator[tuple[str, Function]]:
    """Yield every function of the package with its place."""
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield f"{module}:{node.lineno} {node.name}", node


def code_length(function: Function) -> int:
    """Count the lines of a function without its documentation."""
    last = function.end_lineno or function.lineno
    first = function.body[0]
    is_documented = ast.get_docstring(function) is not None
    n_documentation = (first.end_lineno or 0) - first.lineno + 1 if is_documented else 0
    return last - function.lineno + 1 - n_documentation


def test_functions_are_short() -> None:
    lengths = {place: code_length(function) for place, function in all_functions()}
    assert {place: n for place, n in lengths.items() if n >= MOST_FUNCTION_LINES} == {}


def parameters_of(function: Function) -> list[str]:
    arguments = function.args
    names = [item.arg for item in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def test_functions_take_few_parameters() -> None:
    counts = {place: len(parameters_of(function)) for place, function in all_functions()}
    assert {place: n for place, n in counts.items() if n > MOST_PARAMETERS} == {}


def test_only_the_command_line_prints() -> None:
    printing = {
        f"{module}:{node.lineno}"
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
        and module != "hstmap.cli"
    }
    assert printing == set()


def is_broad(handler: ast.ExceptHandler) -> bool:
    """Tell whether any exception ends here; to clean up and raise it again is another matter."""
    last = handler.body[-1]
    if isinstance(last, ast.Raise) and last.exc is None:
        return False
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        item is None or (isinstance(item, ast.Name) and item.id in ("Exception", "BaseException"))
        for item in caught
    )


def test_exceptions_of_any_kind_are_caught_at_the_boundaries_only() -> None:
    found = {
        module: n
        for module, tree in TREES.items()
        if (n := sum(isinstance(x, ast.ExceptHandler) and is_broad(x) for x in ast.walk(tree)))
    }
    assert found == BROAD_EXCEPTS


def test_annotations_are_not_evaluated() -> None:
    evaluated = [
        module
        for module, tree in TREES.items()
        if any(isinstance(node, Function) for node in ast.walk(tree))
        and not any(item.module == "__future__" for item in IMPORTS[module])
    ]
    assert evaluated == []


def documented_parameters(docstring: str) -> list[str] | None:
    """Read the names in a numpydoc section of parameters; None if there is no such section."""
    match = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[^\n]*\n-{3,}$|\Z)", docstring, re.M | re.S)
    if match is None:
        return None
    heads = re.findall(r"^(\S[^:\n]*)", match[1], re.M)
    return [name.strip(" *") for head in heads for name in head.split(",")]


def test_what_is_documented_of_parameters_is_what_they_are() -> None:
    differing = {}
    for place, function in all_functions():
        documented = documented_parameters(ast.get_docstring(function) or "")
        star = [item.arg for item in (function.args.vararg, function.args.kwarg) if item]
        actual = parameters_of(function) + star
        if documented is not None and set(documented) != set(actual):
            differing[place] = set(documented) ^ set(actual)
    assert differing == {}


def test_every_room_has_its_tests() -> None:
    rooms = {room for room in ROOMS if (PACKAGE / room).is_dir()}
    tested = {path.parent.name for path in (REPOSITORY / "tests").glob("*/test_*.py")}
    assert rooms <= tested
