"""What a user adds to the workers' package."""

from __future__ import annotations

import importlib
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hstmap
from hstmap.aws.deploy import deploy
from hstmap.aws.package_include import copy_included, included_files, package_with
from hstmap.aws.settings import aws_settings
from hstmap.cli import main
from hstmap.errors import UsageError


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of a user with data, installed here."""
    root = tmp_path / "site-packages" / "nebulae"
    (root / "__pycache__").mkdir(parents=True)
    (root / "__pycache__" / "old.pyc").write_bytes(b"")
    (root / "__init__.py").write_text(
        "from pathlib import Path\n"
        "def brightness(n):\n"
        "    return n * int((Path(__file__).parent / 'table.txt').read_text())\n"
    )
    (root / "table.txt").write_text("3")
    monkeypatch.syspath_prepend(str(root.parent))
    importlib.invalidate_caches()
    yield root
    sys.modules.pop("nebulae", None)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    file = tmp_path / "worker.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("numpy/__init__.py", "")
        archive.writestr("hstmap/handler.py", "")
    return file


def names_in(package: Path) -> set[str]:
    with zipfile.ZipFile(package) as archive:
        return set(archive.namelist())


def test_packages_are_found_by_name_and_by_folder_with_their_data(library: Path) -> None:
    expected = {"nebulae/__init__.py", "nebulae/table.txt"}
    for name in ("nebulae", str(library)):
        files = included_files([name])
        assert set(files) == expected
        assert files["nebulae/table.txt"].read_text() == "3"
    assert "nebulae" not in sys.modules  # nothing is imported to find it


def test_modules_are_found_by_name_and_by_file(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "dust.py").write_text("X = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    for name in ("dust", str(tmp_path / "dust.py")):
        assert included_files([name]) == {"dust.py": tmp_path / "dust.py"}


@pytest.mark.parametrize("name", ["no_such_module", "no/such/file.py", "sys", "no-name"])
def test_what_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"--include {name}: "):
        included_files([name])


def test_a_copy_of_the_package_has_it(library: Path, package: Path, tmp_path: Path) -> None:
    before = package.read_bytes()
    copies = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        copies.append(package_with(package, ["nebulae"], tmp_path / str(number)))
    assert package.read_bytes() == before
    assert names_in(copies[0]) - names_in(package) == {"nebulae/__init__.py", "nebulae/table.txt"}
    assert copies[0].read_bytes() == copies[1].read_bytes()  # so that deploy knows it again
    with zipfile.ZipFile(copies[0]) as archive:
        assert archive.getinfo("nebulae/table.txt").external_attr >> 16 == 0o644


def test_what_a_worker_has_is_not_replaced(package: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="replace hstmap, numpy"):
        package_with(package, ["numpy", "hstmap"], tmp_path)
    (tmp_path / "numpy").mkdir()
    with pytest.raises(UsageError, match="replace numpy"):
        copy_included(tmp_path, ["numpy"])


def test_a_folder_gets_the_same(library: Path, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    copy_included(tmp_path / "package", ["nebulae"])
    found = {x.relative_to(tmp_path / "package") for x in tmp_path.glob("package/**/*.*")}
    assert {x.as_posix() for x in found} == {"nebulae/__init__.py", "nebulae/table.txt"}


def test_an_image_takes_no_additions(deployment: Any, tmp_path: Path, capsys: Any) -> None:
    config = str(deployment.write_config(tmp_path))
    words = ["deploy", "--config", config, "--image", "--include", "json", "--dry-run"]
    assert main(words) == 2
    assert "give --include to runtime/build --image" in capsys.readouterr().err


def test_functions_on_lambda_import_what_was_added_and_get_what_was_included(
    deployment: Any, library: Path, tmp_path: Path
) -> None:
    sections = deployment.lithops_config
    sections["aws_lambda"]["runtime"] = "including"
    settings = aws_settings(sections, deployment.settings.account_id)
    package = package_with(deployment.package, ["nebulae"], tmp_path)
    steps = list(deploy(deployment.session, settings, package))
    assert steps[-1].action == "checked"

    def late(n: int) -> int:
        import nebulae  # type: ignore[import-not-found]

        return int(nebulae.brightness(n))

    (tmp_path / "site-packages" / "gas.py").write_text("def thin(n):\n    return n / 2\n")
    importlib.invalidate_caches()
    gas = importlib.import_module("gas")
    options = hstmap.EngineOptions(lithops_config=sections, include=("gas",), n_workers=2)
    with hstmap.use_engine("lithops", options):
        bag = hstmap.from_sequence([1, 2], npartitions=2)
        assert bag.map(late).compute() == [3, 6]  # with its data, which lies beside it
        assert bag.map(gas.thin).compute() == [0.5, 1.0]
    bare = hstmap.EngineOptions(lithops_config=deployment.lithops_config, retries=0)
    with hstmap.use_engine("lithops", bare), pytest.raises(ModuleNotFoundError):
        hstmap.from_sequence([1], npartitions=1).map(late).compute()
    deployment.aws.client("lambda").delete_function(FunctionName="including")
    del sys.modules["gas"]
