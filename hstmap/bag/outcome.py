"""The worker's boundary: calls a function and turns whatever comes of it into data.

Workers import this, so it imports the standard library only.
"""

from __future__ import annotations

import resource
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hstmap.bag.policy import is_retryable
from hstmap.bag.task import RemoteError, Status

__all__ = ["Outcome", "call_function", "describe_exception"]


@dataclass(frozen=True)
class Outcome:
    """What came of a call.

    Parameters
    ----------
    status : Status
        ``ok``, ``error`` or ``lost`` (the function left by `sys.exit`).
    value : object
        What the function returned.
    error : RemoteError, optional
        None if and only if the status is ``ok``.
    peak_memory_nbytes : int, optional
        See `~hstmap.bag.task.Attempt`.
    """

    status: Status
    value: Any = None
    error: RemoteError | None = None
    peak_memory_nbytes: int | None = None


def call_function(
    function: Callable[[Any], Any], payload: Any, retry_on: tuple[type[BaseException], ...]
) -> Outcome:
    """Call a function; nothing that it raises gets past this, but `KeyboardInterrupt`.

    Parameters
    ----------
    function : callable
    payload : object
        Its argument.
    retry_on : tuple of exception classes
        Exceptions that another attempt may mend.

    Returns
    -------
    Outcome
    """
    reset_peak_memory()
    try:
        value = function(payload)
    except SystemExit as left:
        error = RemoteError(
            "SystemExit", f"the function left by sys.exit({left.code!r})", "", retryable=True
        )
        return Outcome("lost", error=error, peak_memory_nbytes=peak_memory_nbytes())
    except Exception as raised:  # noqa: BLE001 - the worker's boundary: failures become data here
        return Outcome(
            "error",
            error=describe_exception(raised, is_retryable(type(raised), retry_on)),
            peak_memory_nbytes=peak_memory_nbytes(),
        )
    return Outcome("ok", value, peak_memory_nbytes=peak_memory_nbytes())


def describe_exception(raised: BaseException, retryable: bool) -> RemoteError:
    """Turn an exception into data; its traceback begins at the frame below `call_function`."""
    below = raised.__traceback__.tb_next if raised.__traceback__ else None
    text = "".join(traceback.format_exception(type(raised), raised, below))
    module = type(raised).__module__
    name = type(raised).__qualname__
    return RemoteError(
        type_name=name if module == "builtins" else f"{module}.{name}",
        message=str(raised),
        traceback_text=text,
        retryable=retryable,
        exception=raised,
    )


def reset_peak_memory() -> None:
    """Begin a new high-water mark of this process's resident memory, where the system lets us."""
    try:
        # "5" resets the peak resident set size: proc(5), since Linux 4.0.
        with open("/proc/self/clear_refs", "w") as clear_refs:  # noqa: PTH123 - no pathlib in workers
            clear_refs.write("5")
    except OSError:
        pass  # not Linux, or not allowed: the peak is then that of the process's life


def peak_memory_nbytes() -> int | None:
    """Return the high-water mark of this process's resident memory, bytes."""
    try:
        with open("/proc/self/status", "rb") as status:  # noqa: PTH123
            for line in status:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # getrusage(2): kilobytes on Linux; bytes on macOS.
    return peak if sys.platform == "darwin" else peak * 1024
