"""The worker's package: what is in it, what is not, and that it runs by itself."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hstmap.aws.package import (
    ARCHITECTURES,
    HANDLER,
    WORKER_DISTRIBUTIONS,
    Target,
    fetch_wheels,
)
from hstmap.aws.package_files import (
    MOST_UNZIPPED_NBYTES,
    check_size,
    compile_sources,
    sizes,
    trim,
    write_zip,
)
from hstmap.errors import UsageError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def names(worker_package: Path) -> set[str]:
    with zipfile.ZipFile(worker_package) as archive:
        return set(archive.namelist())


def test_it_holds_what_the_lock_file_of_workers_asks_for():
    lines = (REPOSITORY / "requirements" / "worker.in").read_text().splitlines()
    assert set(WORKER_DISTRIBUTIONS) == {x for x in lines if x and not x.startswith("#")}


def test_what_is_in_it(names: set[str]):
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    libraries = {name.split(".")[0] for name in tops}
    own = {name.split(".")[0] for name in tops if name.endswith(".libs")}
    assert libraries - own == {
        "__pycache__", "_yaml", "arro3", "astropy", "astropy_iers_data", "cdshealpix",
        "cloudpickle", "erfa", "hstmap", "numpy", "obstore", "packaging", "sep",
        "typing_extensions", "yaml",
    } - own  # fmt: skip
    assert HANDLER == "hstmap.handler.handle"
    assert "hstmap/handler.py" in names
    assert "astropy_iers_data/data/Leap_Second.dat" in names


@pytest.mark.parametrize(
    "unwanted", ["/tests/", "/local/", ".pyi", ".pxd", ".h", ".c", ".a", "/f2py/", "/cosmology/"]
)
def test_what_is_not_in_it(names: set[str], unwanted: str):
    found = {
        name
        for name in names
        if (unwanted in name if unwanted.endswith("/") else name.endswith(unwanted))
    }
    assert {name for name in found if not name.startswith("astropy/tests/")} == set()


def test_licences_stay(names: set[str]):
    for library in ("astropy", "numpy"):
        assert any(
            name.startswith(f"{library}-") and "LICENSE" in name.upper() for name in names
        ), library


def test_every_module_is_compiled_for_the_place_where_it_will_be(
    names: set[str], worker_package: Path
):
    cache = f".{sys.implementation.cache_tag}.pyc"
    sources = {name for name in names if name.endswith(".py") and name.startswith("hstmap/")}
    for name in sources:
        folder, _, file = name.rpartition("/")
        assert f"{folder}/__pycache__/{file.removesuffix('.py')}{cache}" in names
    with zipfile.ZipFile(worker_package) as archive:
        compiled = archive.read(f"hstmap/__pycache__/handler{cache}")
    assert int.from_bytes(compiled[4:8], "little") == 0b01  # PEP 552: by hash, not checked
    assert b"/var/task/hstmap/handler.py" in compiled


def test_lambda_takes_it(worker_package: Path):
    nbytes = check_size(worker_package.parent / "package")
    assert nbytes < 160e6  # of the 262 that Lambda takes
    assert worker_package.stat().st_size < 50e6
    with zipfile.ZipFile(worker_package) as archive:
        assert sum(item.file_size for item in archive.infolist()) == nbytes


def test_a_package_that_is_too_large_is_refused(tmp_path: Path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MOST_UNZIPPED_NBYTES + 1)
    with pytest.raises(UsageError, match="250"):
        check_size(tmp_path)


def test_the_archive_depends_on_the_contents_only(tmp_path: Path):
    digests = set()
    for n in range(2):
        folder = tmp_path / f"folder-{n}"
        (folder / "a").mkdir(parents=True)
        for name in ("a/one.py", "two.so") if n else ("two.so", "a/one.py"):
            (folder / name).write_text(name)
            os.utime(folder / name, (n * 1e9, n * 1e9))
        digests.add(write_zip(folder, tmp_path / f"{n}.zip"))
    assert len(digests) == 1
    with zipfile.ZipFile(tmp_path / "0.zip") as archive:
        modes = {item.filename: item.external_attr >> 16 for item in archive.infolist()}
    assert modes == {"a/one.py": 0o644, "two.so": 0o755}


def test_trimming_leaves_modules_and_removes_tests(tmp_path: Path):
    for name in ("p/__init__.py", "p/x.pyi", "p/tests/test_x.py", "p/data/table.dat"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    trim(tmp_path)
    left = {x.relative_to(tmp_path).as_posix() for x in tmp_path.rglob("*") if x.is_file()}
    assert left == {"p/__init__.py", "p/data/table.dat"}


def test_a_source_that_is_newer_than_what_was_compiled_does_not_matter(tmp_path: Path):
    module = tmp_path / "answer.py"
    module.write_text("VALUE = 1")
    compile_sources(tmp_path)
    module.write_text("VALUE = 2")
    spec = importlib.util.spec_from_file_location("answer", module)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    assert loaded.VALUE == 1


def test_sizes_add_up_by_what_lies_at_the_top(tmp_path: Path):
    for name, n in {"a/x": 10, "a/b/y": 5, "c.py": 1, "d-1.dist-info/RECORD": 2}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(n))
    assert sizes(tmp_path) == {"a": 15, "d-1.dist-info": 2, "c": 1}


def test_targets_are_those_that_lambda_has():
    assert set(ARCHITECTURES) == {"x86_64", "arm64"}
    options = Target("3.12", "arm64").pip_options()
    assert "--platform=manylinux_2_28_aarch64" in options
    assert "--platform=manylinux_2_35_aarch64" not in options  # Amazon Linux 2023 has glibc 2.34
    assert "--only-binary=:all:" in options
    assert Target("3.12", "arm64").tag == "py312-arm64"
    with pytest.raises(UsageError, match="sparc"):
        Target("3.12", "sparc")


def test_a_python_that_lambda_has_on_too_old_a_system_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match=r"3\.12 or 3\.13"):
        fetch_wheels(tmp_path, Target("3.11"), REPOSITORY / "requirements" / "worker.txt")


def test_it_does_a_frame_by_itself(worker_package: Path):
    smoke = [sys.executable, str(REPOSITORY / "runtime" / "smoke"), str(worker_package)]
    done = subprocess.run(smoke, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["outcomes"] == {"ok": 1}
    assert facts["n_merged"] == facts["n_sources"] > 0
    assert facts["elsewhere"] == []  # every module came from the package or from Python
    assert facts["late"] == []  # and was there after INIT, before the first call
    assert not {"boto3", "botocore", "lithops", "pandas", "pyarrow"} & set(facts["modules"])
