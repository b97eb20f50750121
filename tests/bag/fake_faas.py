"""A serverless backend for Lithops that runs each invocation in an interpreter of its own.

Imported by tests, which register it with Lithops; run as a program, it is the worker. What happens
to an invocation is scripted: it may be lost on the way, refused, delivered twice, or die early.
"""

from __future__ import annotations

import json
import subprocess
import sys
import types
import uuid
from collections import deque
from pathlib import Path
from typing import Any, ClassVar

NAME = "fake_faas"
STORE = "fake_store"
RUNTIME = "runtime"

CONFIG: dict[str, Any] = {
    "lithops": {"backend": NAME, "storage": STORE, "monitoring_interval": 0.02},
    NAME: {"max_workers": 4},
}


class ServerlessBackend:
    """Starts a process for each invocation, unless the script says otherwise."""

    type = "faas"
    fates: ClassVar[deque[str]] = deque()
    log: ClassVar[list[str]] = []
    processes: ClassVar[list[subprocess.Popen[bytes]]] = []

    def __init__(self, config: dict[str, Any], internal_storage: Any) -> None:
        self.config = config

    def invoke(self, runtime_name: str, memory: int, payload: dict[str, Any]) -> str | None:
        fate = self.fates.popleft() if self.fates else "run"
        self.log.append(fate)
        if fate == "refuse":
            return None
        if fate == "fail":
            raise OSError("the backend cannot be reached")
        if fate in ("run", "twice"):
            self._start(payload, 2 if fate == "twice" else 1)
        return f"activation {len(self.log)}"

    def _start(self, payload: dict[str, Any], n_times: int) -> None:
        """Start a process; a second time comes after the first, as both write the same notes."""
        from lithops.constants import TEMP_DIR

        folder = Path(TEMP_DIR)
        file = folder / f"payload-{uuid.uuid4()}.json"
        file.write_text(json.dumps(payload, default=str))
        self.processes.append(
            subprocess.Popen(
                [sys.executable, __file__, *[str(file)] * n_times], env={"TMPDIR": str(folder)}
            )
        )

    def get_runtime_key(self, runtime_name: str, memory: int, version: str) -> str:
        from lithops.storage.storage import RUNTIME_META_CACHE

        RUNTIME_META_CACHE[f"lithops.runtimes/{NAME}.meta.json"] = {
            "preinstalls": [],
            "python_version": f"{sys.version_info[0]}.{sys.version_info[1]}",
            "lithops_version": version,
            "runtime_timeout": self.config["runtime_timeout"],
        }
        return NAME

    def get_runtime_info(self) -> dict[str, Any]:
        return {
            "runtime_name": RUNTIME,
            "runtime_memory": 256,
            "runtime_timeout": self.config["runtime_timeout"],
            "max_workers": self.config["max_workers"],
        }


def load_compute_config(config: dict[str, Any]) -> None:
    defaults = {
        "runtime": RUNTIME,
        "runtime_memory": 256,
        "runtime_timeout": 600,
        "max_workers": 4,
        "worker_processes": 1,
        "invoke_pool_threads": 8,
    }
    config[NAME] = defaults | (config.get(NAME) or {})


def load_storage_config(config: dict[str, Any]) -> None:
    config[STORE] = {"storage_bucket": "storage"}


def register() -> None:
    """Make Lithops know the backend; its storage is Lithops' localhost storage by another name."""
    from lithops import constants
    from lithops.storage.backends import localhost

    if NAME in constants.SERVERLESS_BACKENDS:
        return
    constants.SERVERLESS_BACKENDS = (*constants.SERVERLESS_BACKENDS, NAME)
    modules = {
        f"lithops.serverless.backends.{NAME}": {"ServerlessBackend": ServerlessBackend},
        f"lithops.serverless.backends.{NAME}.config": {"load_config": load_compute_config},
        f"lithops.storage.backends.{STORE}": {"StorageBackend": localhost.StorageBackend},
        f"lithops.storage.backends.{STORE}.config": {"load_config": load_storage_config},
    }
    for name, content in modules.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        sys.modules[name] = module


def main() -> None:
    """Be the worker of one invocation, or of the same one twice."""
    from lithops.worker import function_handler

    register()
    for file in sys.argv[1:]:
        function_handler(json.loads(Path(file).read_text()))


if __name__ == "__main__":
    main()
