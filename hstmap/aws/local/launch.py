"""How the runtime process of an environment is started: its command, variables and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hstmap.aws.local.functions import Function
from hstmap.aws.local.images import ImageProgram, image_program
from hstmap.aws.local.isolation import GID, HOME, UID, FileSystem, Isolation
from hstmap.aws.local.processes import MARK
from hstmap.aws.local.runtime_folder import lent_folders

__all__ = ["Host", "Launch", "launch"]

_EMPTY = "empty"
_TMP = "tmp"
_PASSWD = "passwd"
# As on Lambda; some libraries ask for the name of their user.
_USERS = f"root:x:0:0:root:/root:/bin/bash\nsbx_user1051:x:{UID}:{GID}::{HOME}:/sbin/nologin\n"


@dataclass(frozen=True)
class Host:
    """What all environments of a loopback AWS share.

    Parameters
    ----------
    run_folder : Path
        Where environments keep their files.
    isolation : Isolation
        What holds them in.
    runtimes : mapping of str to Path
        The folder for ``/var/lang`` by runtime.
    default_runtime : str
        The runtime that is lent to images that bring none.
    environment : mapping of str to str
        Variables that all environments get: endpoints and credentials.
    """

    run_folder: Path
    isolation: Isolation
    runtimes: Mapping[str, Path]
    default_runtime: str
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Launch:
    """A process to start: its command line, its variables and its folder."""

    command: list[str]
    environment: dict[str, str]
    folder: str


def launch(
    function: Function, host: Host, folder: Path, api_address: str, log_stream: str
) -> Launch:
    """Work out how a function's runtime process is started.

    Parameters
    ----------
    function : Function
        The function.
    host : Host
        What all environments share.
    folder : Path
        The environment's own folder; what it needs in it is made.
    api_address : str
        Host and port of the Runtime API.
    log_stream : str
        The environment's log stream.

    Returns
    -------
    Launch
        In a sandbox where there is one. Without, ``/var/task``, ``/var/lang``, ``/opt`` and
        ``/tmp`` are folders of the host, and the variables say which.
    """
    program = _program(function)
    files = _files(function, host, folder, program.working_folder)
    variables = _variables(function, host, program.handler)
    variables |= {
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
        "AWS_LAMBDA_RUNTIME_API": api_address,
        **program.environment,
    }
    own: dict[str, str] = {
        MARK: str(folder),
        **host.environment,
        **function.configuration.get("Environment", {}).get("Variables", {}),
    }
    if host.isolation.bubblewrap is not None:
        command = host.isolation.sandboxed(files, {**variables, **own}, program.command)
        return Launch(command, {MARK: str(folder)}, "/")
    places = {"/var/task": files.task, "/var/lang": files.lang, "/opt": files.opt}
    relocated = {name: _relocate(value, places) for name, value in variables.items()}
    relocated |= {"TMPDIR": str(files.tmp), "HOME": str(files.tmp), **own}
    return Launch(
        [_relocate(word, places) for word in program.command],
        relocated,
        _relocate(program.working_folder, places),
    )


def _files(function: Function, host: Host, folder: Path, working_folder: str) -> FileSystem:
    for name in (_TMP, _EMPTY):
        (folder / name).mkdir(parents=True, exist_ok=True)
    contents = function.contents
    lang = host.runtimes[function.runtime or host.default_runtime]
    if contents.image is not None and (contents.image / "var" / "lang").is_dir():
        lang = contents.image / "var" / "lang"
    is_whole = contents.image is not None and (contents.image / "usr").is_dir()
    if is_whole and host.isolation.bubblewrap is None:
        raise OSError(f"the image at {contents.image} has a /usr of its own: install bubblewrap")
    (folder / _PASSWD).write_text(_USERS)
    return FileSystem(
        task=contents.task if contents.task.is_dir() else folder / _EMPTY,
        opt=contents.opt if contents.opt.is_dir() else folder / _EMPTY,
        lang=lang,
        tmp=folder / _TMP,
        lent=lent_folders(lang),
        root=contents.image if is_whole else None,
        passwd=folder / _PASSWD,
        working_folder=working_folder,
    )


def _variables(function: Function, host: Host, handler: str) -> dict[str, str]:
    """Return the variables that Lambda sets, by the paths in the sandbox."""
    # https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
    runtime = function.runtime
    python = runtime or host.default_runtime
    logging = function.configuration["LoggingConfig"]
    variables = {
        "_HANDLER": handler,
        "AWS_DEFAULT_REGION": function.region,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{runtime}" if runtime else "AWS_Lambda_Image",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_FORMAT": logging["LogFormat"],
        "AWS_LAMBDA_LOG_GROUP_NAME": function.log_group,
        "AWS_REGION": function.region,
        "HOME": "/tmp",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "LAMBDA_TASK_ROOT": "/var/task",
        "LANG": "en_US.UTF-8",
        "LD_LIBRARY_PATH": "/var/lang/lib:/var/task:/var/task/lib:/opt/lib",
        "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        "PYTHONPATH": f"/var/task:/opt/python/lib/{python}/site-packages:/opt/python",
        "TZ": ":UTC",
    }
    if logging["LogFormat"] == "JSON":
        variables["AWS_LAMBDA_LOG_LEVEL"] = logging["ApplicationLogLevel"]
    return variables


def _program(function: Function) -> ImageProgram:
    configuration = function.configuration
    image = function.contents.image
    if image is not None:
        overrides = configuration.get("ImageConfigResponse", {}).get("ImageConfig", {})
        return image_program(image, overrides)
    command = ("/var/lang/bin/python", "-m", "awslambdaric", configuration["Handler"])
    return ImageProgram(command, {}, "/var/task")


def _relocate(text: str, places: Mapping[str, Path]) -> str:
    """Replace the sandbox's paths in a list of paths by the host's."""
    parts = text.split(":")
    for index, part in enumerate(parts):
        for place, folder in places.items():
            if part == place or part.startswith(f"{place}/"):
                parts[index] = str(folder) + part.removeprefix(place)
    return ":".join(parts)
