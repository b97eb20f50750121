"""/var/lang: what AWS's Python has, and nothing that happens to be installed here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hstmap.aws.local.runtime_folder import HOST_RUNTIME, lent_folders, make_runtime
from hstmap.errors import UsageError


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    pytest.importorskip("awslambdaric", reason="awslambdaric is not installed")
    return make_runtime(tmp_path_factory.mktemp("runtime") / "lang", ["awslambdaric", "jmespath"])


def run(runtime, code):
    command = [str(runtime / "bin" / "python"), "-I", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_was_asked_for_is_there_with_what_it_needs(runtime):
    # simplejson is needed by awslambdaric, and nobody asked for it.
    result = run(runtime, "import awslambdaric, runtime_client, jmespath, simplejson")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("module", ["hstmap", "numpy", "pip", "pytest"])
def test_nothing_else_of_this_environment_is_there(runtime, module):
    assert "ModuleNotFoundError" in run(runtime, f"import {module}").stderr


def test_it_is_this_python(runtime):
    assert run(runtime, "import sys; print(sys.version)").stdout.strip() == sys.version
    assert f"python{sys.version_info.major}.{sys.version_info.minor}" == HOST_RUNTIME


def test_what_it_needs_of_this_machine_is_named(runtime):
    folders = [*lent_folders(runtime), Path("/usr")]
    code = (
        "import awslambdaric, os, simplejson as s; print(os.__file__, os.path.realpath(s.__file__))"
    )
    for path in run(runtime, code).stdout.split():
        assert any(Path(path).is_relative_to(folder) for folder in folders), path
    assert lent_folders(Path(sys.base_prefix)) == ()


def test_a_distribution_that_is_not_installed_is_named(tmp_path):
    with pytest.raises(UsageError, match="no-such-distribution"):
        make_runtime(tmp_path / "lang", ["no-such-distribution"])
