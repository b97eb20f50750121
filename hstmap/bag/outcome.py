"""The boundary of a worker: calls something and turns whatever comes of it into data.

Workers import this, so it imports the standard library only.
"""

from __future__ import annotations

import resource
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from hstmap.bag.policy import is_retryable
from hstmap.bag.task import RemoteError, Status

__all__ = ["Outcome", "attempt_call", "judged", "peak_memory_nbytes", "reset_peak_memory"]

_OUR_FRAMES = frozenset(str(Path(__file__).with_name(name)) for name in ("outcome.py", "wire.py"))


@dataclass(frozen=True)
class Outcome:
    """What came of a call.

    Parameters
    ----------
    status : Status
        ``ok``, ``error`` or ``lost`` (the function left by `sys.exit`).
    value : object
        What was returned.
    error : RemoteError, optional
        None if and only if the status is ``ok``.
    """

    status: Status
    value: Any = None
    error: RemoteError | None = None


def attempt_call(function: Callable[..., Any], *arguments: Any) -> Outcome:
    """Call a function; nothing that it raises gets past this, but `KeyboardInterrupt`.

    Parameters
    ----------
    function : callable
    *arguments : object
        Its arguments.

    Returns
    -------
    Outcome
        An error is not marked as retryable; see `judged`.
    """
    try:
        return Outcome("ok", function(*arguments))
    except SystemExit as left:
        message = f"the function left by sys.exit({'' if left.code is None else repr(left.code)})"
        return Outcome("lost", error=RemoteError("SystemExit", message, retryable=True))
    except KeyboardInterrupt:
        raise
    # The boundary: failures become data here, also those that no Exception is the base of, such as
    # asyncio's CancelledError.
    except BaseException as raised:  # noqa: BLE001
        return Outcome("error", error=_describe(raised))


def judged(outcome: Outcome, retry_on: tuple[type[BaseException], ...]) -> Outcome:
    """Mark the error of an outcome as one that another attempt may mend, or not."""
    error = outcome.error
    if error is None or error.exception is None:
        return outcome
    verdict = is_retryable(type(error.exception), retry_on)
    return replace(outcome, error=replace(error, retryable=verdict))


def _describe(raised: BaseException) -> RemoteError:
    module = type(raised).__module__
    name = type(raised).__qualname__
    # It can tell of exceptions that cannot be made text, too.
    told = traceback.TracebackException(
        type(raised), raised, _without_our_frames(raised.__traceback__)
    )
    return RemoteError(
        type_name=name if module == "builtins" else f"{module}.{name}",
        message=str(told),
        traceback_text="".join(told.format()),
        exception=raised,
    )


def _without_our_frames(frames: TracebackType | None) -> TracebackType | None:
    """Drop the frames of the boundary: whoever reads the traceback wrote the ones below."""
    while frames is not None and frames.tb_frame.f_code.co_filename in _OUR_FRAMES:
        frames = frames.tb_next
    return frames


def reset_peak_memory() -> None:
    """Begin a new high-water mark of this process's resident memory, where the system lets us."""
    try:
        # proc(5): "5" resets the peak resident set size, since Linux 4.0.
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # not Linux, or not allowed: the peak is then that of the process's life


def peak_memory_nbytes() -> int:
    """Return the high-water mark of this process's resident memory, bytes."""
    try:
        with Path("/proc/self/status").open("rb") as status:
            for line in status:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except FileNotFoundError:
        pass  # not Linux
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # getrusage(2): kilobytes on Linux, bytes on macOS.
    return peak if sys.platform == "darwin" else peak * 1024
