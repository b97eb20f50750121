"""Functions from container images: an unpacked root, and the image's own configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hstmap.errors import UsageError

__all__ = ["IMAGE_CONFIG_FILE", "ImageProgram", "image_program"]

# Beside the root's folders: the "config" object of the image's OCI configuration.
IMAGE_CONFIG_FILE = "config.json"
_AWS_ENTRY_POINT = ("/var/lang/bin/python", "-m", "awslambdaric")


@dataclass(frozen=True)
class ImageProgram:
    """What an image runs: its command, variables and working folder."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    working_folder: str

    @property
    def handler(self) -> str:
        """The handler, which is the command's last word."""
        return self.command[-1]


def image_program(root: Path, overrides: Mapping[str, Any]) -> ImageProgram:
    """Read what an image runs.

    Parameters
    ----------
    root : Path
        The image's unpacked root. A file ``config.json`` in it is the ``config`` object of
        the image's OCI configuration: ``Entrypoint``, ``Cmd``, ``Env``, ``WorkingDir``.
    overrides : mapping
        The function's ``ImageConfig``, which wins.

    Returns
    -------
    ImageProgram
        By default AWS's entry point for Python.

    Raises
    ------
    UsageError
        Where neither says which handler runs.
    """
    path = root / IMAGE_CONFIG_FILE
    config = json.loads(path.read_text()) if path.is_file() else {}
    entry_point = overrides.get("EntryPoint") or config.get("Entrypoint") or _AWS_ENTRY_POINT
    command = overrides.get("Command") or config.get("Cmd") or []
    if not command:
        raise UsageError(
            f"the image at {root} names no handler: give it a {IMAGE_CONFIG_FILE} with Cmd, or "
            "the function an ImageConfig with Command"
        )
    return ImageProgram(
        command=(*entry_point, *command),
        environment=dict(line.split("=", 1) for line in config.get("Env") or []),
        working_folder=overrides.get("WorkingDirectory") or config.get("WorkingDir") or "/var/task",
    )
