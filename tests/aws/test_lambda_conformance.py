"""Lithops' own tests, from its wheel, judge the backend, the handler and the loopback AWS."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

TESTS = Path(__file__).resolve().parents[1]
REPOSITORY = TESTS.parent
#: All of them take two minutes: HSTMAP_LONG_TESTS=1 pytest tests/aws/test_lambda_conformance.py
MODULES: tuple[str, ...] = ("storage", "call_async")
if os.environ.get("HSTMAP_LONG_TESTS"):
    MODULES += ("map", "map_reduce", "retries")
#: Executors within workers, which would need the backend there; the internet; folders that client
#: and worker share.
NOT_HERE = "not return_futures and not url and not inside and not timing_map"


@pytest.fixture(scope="module")
def config(worker_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Lithops' configuration for a deployment whose runtime has Lithops, too."""
    pytest.importorskip("aiohttp", reason="aiohttp of hstmap[local-aws] is not installed")
    from hstmap.aws.deploy import deploy
    from hstmap.aws.local import LocalAws, LocalAwsOptions
    from hstmap.aws.session import AwsSession
    from hstmap.aws.settings import aws_settings

    packages = ("awslambdaric", "boto3", "lithops", "numpy", "pytest")  # the tests import it
    section = {"runtime_memory": 1024, "runtime_timeout": 60, "max_workers": 4}
    sections: dict[str, Any] = {"aws": {"region": "us-east-1"}, "aws_lambda": section}
    options = LocalAwsOptions(runtime_packages=packages, n_cores=4.0)
    with LocalAws(options) as aws, pytest.MonkeyPatch.context() as patch:
        for name, value in aws.environment.items():
            patch.setenv(name, value)
        session = AwsSession("us-east-1")
        settings = aws_settings(sections, session.account_id())
        list(deploy(session, settings, worker_package))
        content = {
            "lithops": {"backend": "hstmap_aws_lambda", "storage": "aws_s3"},
            "aws": sections["aws"],
            "hstmap_aws_lambda": section | {"runtime": settings.function},
            "aws_s3": {"storage_bucket": settings.bucket},
        }
        content["lithops"] |= {"monitoring_interval": 0.2, "telemetry": False}
        file = tmp_path_factory.mktemp("lithops") / "config.yaml"
        file.write_text(yaml.safe_dump(content))
        yield file


@pytest.mark.parametrize("module", MODULES)
def test_lithops_own_tests_pass(
    module: str, config: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    import lithops.tests

    folder = Path(lithops.tests.__file__).parent
    report = tmp_path / "report.xml"
    (tmp_path / "tmp").mkdir()
    command = [
        sys.executable, "-m", "pytest", "-q", "--show-capture=no", "-p", "no:cacheprovider", "-p",
        "support.lithops_conformance", "--junitxml", str(report), "-k", NOT_HERE,
        "--config", str(config), "--backend", "hstmap_aws_lambda", "--storage", "aws_s3",
        "--rootdir", str(folder), str(folder / f"test_{module}.py"),
    ]  # fmt: skip
    private = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")}
    paths = {"PYTHONPATH": os.pathsep.join([str(TESTS), str(REPOSITORY)])}
    done = subprocess.run(
        command, env={**os.environ, **private, **paths}, cwd=tmp_path, capture_output=True,
        text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    (suite,) = ET.parse(report).getroot()
    n_passed = int(suite.get("tests", 0)) - int(suite.get("skipped", 0))
    assert n_passed > 0
    record_property("lithops_tests_passed", (module, n_passed))  # for the summary at the end
