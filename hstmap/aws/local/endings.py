"""How an INIT or an invocation of an environment ended, and how a client is told."""

from __future__ import annotations

import contextlib
import json
import signal
from dataclasses import dataclass
from typing import Literal

__all__ = ["Ending", "died", "error_payload", "timed_out"]


@dataclass(frozen=True)
class Ending:
    """How an INIT or an invocation ended.

    Parameters
    ----------
    payload : bytes
        The answer, or the error's JSON.
    status : {'success', 'error', 'timeout'}
        How the runtime fared; a handler's exception is a success of the runtime.
    is_error : bool
        Whether the answer is an error, the handler's own ones too.
    error_type : str, optional
        Such as ``Runtime.ExitError``, where the status is not ``success``.
    message : str
        What is logged of it.
    """

    payload: bytes = b""
    status: Literal["success", "error", "timeout"] = "success"
    is_error: bool = False
    error_type: str | None = None
    message: str = ""


def timed_out(timeout_s: float) -> Ending:
    """Return the ending of what took longer than it may."""
    message = f"Task timed out after {timeout_s:.2f} seconds"
    return Ending(b"", "timeout", is_error=True, error_type="Sandbox.Timedout", message=message)


def died(exit_status: int, *, for_memory: bool, is_killed: bool) -> Ending:
    """Return the ending of a runtime process that is gone.

    Parameters
    ----------
    exit_status : int
        As of `subprocess`: negative for a signal.
    for_memory : bool
        Whether it was killed because of its memory.
    is_killed : bool
        Whether a fault killed it.

    Returns
    -------
    Ending
        With the words that AWS has for it.
    """
    reason = "signal: killed" if for_memory or is_killed else _exit_reason(exit_status)
    message = "Runtime exited without providing a reason"
    if reason is not None:
        message = f"Runtime exited with error: {reason}"
    error_type = "Runtime.OutOfMemory" if for_memory else "Runtime.ExitError"
    return Ending(b"", "error", is_error=True, error_type=error_type, message=message)


def error_payload(request_id: str, ending: Ending) -> bytes:
    """Return the JSON that a client gets of an environment that failed."""
    if ending.payload:
        return ending.payload
    error = {
        "errorType": ending.error_type,
        "errorMessage": f"RequestId: {request_id} Error: {ending.message}",
    }
    return json.dumps(error).encode()


def _exit_reason(exit_status: int) -> str | None:
    # A shell or a sandbox reports a child's signal as 128 and its number.
    if exit_status < 0 or exit_status > 128:
        number = -exit_status if exit_status < 0 else exit_status - 128
        with contextlib.suppress(ValueError):
            name = signal.strsignal(number)
            if name:
                return f"signal: {name.lower()}"
    return None if exit_status == 0 else f"exit status {exit_status}"
