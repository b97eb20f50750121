"""A plugin for pytest: Lithops' own tests then know hstmap's backend, and need no internet."""

from __future__ import annotations

from pathlib import Path

import pytest

from hstmap.aws import lambda_backend
from hstmap.bag import lithops_remote

lithops_remote._register("hstmap_aws_lambda", lambda_backend, "LambdaBackend")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of map-reduce, which count words of files in the internet, files of here."""
    for module in {item.module for item in items if hasattr(item, "module")}:
        if hasattr(module, "TEST_FILES_URLS"):
            module.TEST_FILES_URLS = [
                _words(n).as_uri() for n in range(1, 1 + len(module.TEST_FILES_URLS))
            ]


def _words(n: int) -> Path:
    file = Path.cwd() / f"words-{n}.txt"
    file.write_text("\n".join(f"word{i}" for i in range(20_000 * n)))
    return file
