"""``lithops_config.yaml`` and what the command line adds, as one frozen value."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from hstmap.errors import UsageError

__all__ = ["CONFIG_FILE", "WORKER_ENVIRONMENT", "Settings", "load_settings"]

CONFIG_FILE: Final = "lithops_config.yaml"
#: Variables of every worker's process, unless its surroundings say otherwise. A worker has about
#: one CPU: more threads of NumPy's or of obstore's (Tokio's) only wait for each other. With one,
#: fetching an image takes some 10 % less CPU time, and a worker 15 MB less.
WORKER_ENVIRONMENT: Final = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TOKIO_WORKER_THREADS": "1",
}
_SECTION: Final = "hstmap"
_DEFAULT_LITHOPS: Final = {
    "lithops": {"backend": "localhost", "storage": "localhost"},
    "localhost": {"version": 1},
}


@dataclass(frozen=True)
class Settings:
    """How and where tasks run.

    Attributes
    ----------
    engine : {"lithops", "inprocess"}
    n_workers : int, optional
        Tasks that run at a time.
    batch_size : int, optional
        Images a task.
    retries : int
        Further attempts of a task whose worker was lost.
    timeout_s : float, optional
        Longest time of one attempt, s; None if it may take as long as it does. 0 says that, too.
    memory_mb : int, optional
        Memory of a worker, where the backend lets that be chosen: Lithops' ``runtime_memory``.
    budget_usd : float, optional
        What a run may cost, US dollars.
    prices : str, optional
        Name or file of the table of prices that it is reckoned with.
    lithops : mapping
        The rest of the file, which is Lithops' own.
    file : str
        Where it was read from; empty for the built-in settings.
    given : frozenset of str
        Which of the settings somebody chose, in a file or as an option.
    """

    engine: str = "lithops"
    n_workers: int | None = None
    batch_size: int | None = None
    retries: int = 2
    timeout_s: float | None = 600.0
    memory_mb: int | None = None
    budget_usd: float | None = None
    prices: str | None = None
    lithops: Mapping[str, Any] = field(default_factory=lambda: dict(_DEFAULT_LITHOPS))
    file: str = ""
    given: frozenset[str] = frozenset()

    @property
    def backend(self) -> str:
        """Lithops' compute backend."""
        return str(self.lithops.get("lithops", {}).get("backend", "localhost"))

    @property
    def is_local(self) -> bool:
        """Whether tasks run on this machine, where its files are."""
        return self.engine == "inprocess" or self.backend == "localhost"

    def lithops_config(self) -> dict[str, Any]:
        """Give Lithops its own settings, with the memory put in.

        Returns
        -------
        dict
            Sections of names and values, as Lithops wants them.
        """
        config = {name: dict(section) for name, section in self.lithops.items()}
        if self.memory_mb is not None:
            config.setdefault(self.backend, {})["runtime_memory"] = self.memory_mb
        return config

    def with_options(self, **options: Any) -> Settings:
        """Put options over the settings.

        Parameters
        ----------
        **options
            Of the attributes; None leaves a setting as it is.

        Returns
        -------
        Settings

        Raises
        ------
        UsageError
            If a value cannot be.
        """
        given = {name: value for name, value in options.items() if value is not None}
        return _checked(replace(self, **given, given=self.given | given.keys()))


def _checked(settings: Settings) -> Settings:
    """Refuse what cannot be, with the name it has in the file; a limit of 0 s is none."""
    if settings.timeout_s == 0 and not isinstance(settings.timeout_s, bool):
        settings = replace(settings, timeout_s=None)
    if settings.engine not in ("lithops", "inprocess"):
        raise UsageError(f"engine is {settings.engine!r}; give 'lithops' or 'inprocess'")
    least_values = {"n_workers": 1, "batch_size": 1, "retries": 0, "memory_mb": 128}
    for name, least in least_values.items():
        value = getattr(settings, name)
        if value is not None and (not isinstance(value, int) or value < least):
            raise UsageError(f"{name} is {value!r}; give a whole number, {least} or more")
    for name, unit in {"timeout_s": "seconds", "budget_usd": "US dollars"}.items():
        value = getattr(settings, name)
        if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
            raise UsageError(f"{name} is {value!r}; give {unit} above 0, or leave it out")
    return settings


def load_settings(path: str | None = None) -> Settings:
    """Read the settings.

    Parameters
    ----------
    path : str, optional
        The file; by default ``./lithops_config.yaml``, else what ``$LITHOPS_CONFIG_FILE`` names,
        else built-in settings for this machine.

    Returns
    -------
    Settings

    Raises
    ------
    UsageError
        If a file was named that is not there, or it cannot be understood.
    """
    file = path or _found()
    if file is None:
        return Settings()
    content = _parsed(file)
    own = content.pop(_SECTION, {})
    known = {item.name for item in fields(Settings)} - {"lithops", "file", "given"}
    if unknown := sorted(own.keys() - known):
        raise UsageError(
            f"{file}: the section {_SECTION!r} has {', '.join(unknown)}; "
            f"it may have {', '.join(sorted(known))}"
        )
    lithops = content or dict(_DEFAULT_LITHOPS)
    return _checked(Settings(**own, lithops=lithops, file=file, given=frozenset(own)))


def _found() -> str | None:
    """Look for a file where Lithops would."""
    if Path(CONFIG_FILE).is_file():
        return CONFIG_FILE
    return os.environ.get("LITHOPS_CONFIG_FILE")


def _parsed(file: str) -> dict[str, Any]:
    """Parse a file of sections."""
    import yaml

    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"the configuration {file!r} cannot be read: {error.strerror}; "
            "name another with --config"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the configuration {file!r} is not YAML: {' '.join(str(error).split())}"
        ) from error
    content = {} if content is None else content
    if not isinstance(content, dict) or not all(
        section is None or isinstance(section, dict) for section in content.values()
    ):
        raise UsageError(f"the configuration {file!r} must have sections of names and values")
    return {name: section or {} for name, section in content.items()}
