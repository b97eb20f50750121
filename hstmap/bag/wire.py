"""What travels between the client and a worker, and both ends of one attempt.

Everything is pickled by value where it must be: a function of a script, a notebook or a module
that the worker cannot import travels with its code.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

import hstmap
from hstmap.bag.include import included_modules
from hstmap.bag.outcome import (
    Outcome,
    attempt_call,
    judged,
    peak_memory_nbytes,
    reset_peak_memory,
)
from hstmap.bag.policy import TRANSIENT_ERRORS
from hstmap.bag.task import RemoteError, Stage, Status, WorkerInfo
from hstmap.bag.transport import Call, CallEnded, CallNames
from hstmap.errors import EngineError
from hstmap.storage_counts import CallRequests, RequestCounts, heard_by

__all__ = ["Packer", "Program", "Reply", "call_ended", "call_lost", "perform"]


@dataclass(frozen=True)
class Reply:
    """What a worker says of an attempt.

    Parameters
    ----------
    status : Status
    value, exception : bytes
        Pickled; empty if there is none, or if it could not be pickled.
    error : RemoteError, optional
        Without its ``exception``.
    host, pid : str, int
        Of the worker.
    started_s, ended_s : float
        Unix time, s.
    peak_memory_nbytes : int
    requests : RequestCounts
        Of the function.
    """

    status: Status
    value: bytes
    exception: bytes
    error: RemoteError | None
    host: str
    pid: int
    started_s: float
    ended_s: float
    peak_memory_nbytes: int
    requests: RequestCounts


# -- the client's end --------------------------------------------------------------------------


class Packer:
    """Pickles functions and payloads for workers.

    Parameters
    ----------
    shared_path : bool
        Whether the workers import from where this process does. If not, they have only what is
        installed there, and the modules of the user travel by value.
    include : sequence of str
        What travels by value in any case; see `hstmap.bag.include`.
    """

    def __init__(self, *, shared_path: bool, include: Sequence[str] = ()) -> None:
        registered = cloudpickle.list_registry_pickle_by_value()
        travelling = [*included_modules(include), *_modules_that_travel(shared_path)]
        by_name = {module.__name__: module for module in travelling}
        self._by_value = [module for name, module in by_name.items() if name not in registered]

    def pack_program(self, stage: Stage, retry_on: tuple[type[BaseException], ...]) -> bytes:
        """Pickle what is the same for all tasks of a stage.

        Parameters
        ----------
        stage : Stage
        retry_on : tuple of exception classes

        Returns
        -------
        bytes
            For `Program`.

        Raises
        ------
        EngineError
            If the function cannot be pickled.
        """
        packed = self._pack((stage.function, retry_on))
        if packed.error is None:
            program: bytes = packed.value
            return program
        raise EngineError(
            f"the function of stage {stage.name!r} cannot be sent to a worker: "
            f"{packed.error.message}. Let it make what cannot be pickled (open files, locks, "
            "connections) itself, or use the engine 'inprocess'"
        ) from packed.error.exception

    def pack_payload(self, payload: Any) -> bytes | RemoteError:
        """Pickle a task's payload; what is returned else says why that is impossible."""
        packed = self._pack(payload)
        if packed.error is None:
            data: bytes = packed.value
            return data
        return _unpicklable("payload", payload, packed.error)

    def pack_calls(self, calls: Iterable[Call]) -> tuple[list[tuple[Call, bytes]], list[CallEnded]]:
        """Pickle the payloads of calls.

        Parameters
        ----------
        calls : iterable of Call

        Returns
        -------
        list of (Call, bytes), list of CallEnded
            Those that can be sent, and the ends of those that cannot.
        """
        packed: list[tuple[Call, bytes]] = []
        refused: list[CallEnded] = []
        for call in calls:
            payload = self.pack_payload(call.payload)
            if isinstance(payload, RemoteError):
                refused.append(
                    CallEnded(call.call_id, "unpicklable", error=payload, ended_s=time.time())
                )
            else:
                packed.append((call, payload))
        return packed, refused

    def _pack(self, thing: Any) -> Outcome:
        for module in self._by_value:
            cloudpickle.register_pickle_by_value(module)
        try:
            return attempt_call(cloudpickle.dumps, thing)
        finally:
            for module in self._by_value:
                cloudpickle.unregister_pickle_by_value(module)


def call_ended(call_id: int, reply: Reply, *, cold: bool, nbytes_in: int) -> CallEnded:
    """Turn a worker's reply into a report; what cannot be unpickled here is reported as such."""
    status, error, value = reply.status, reply.error, None
    if reply.value:
        loaded = attempt_call(pickle.loads, reply.value)
        value = loaded.value
        if loaded.error is not None:
            status = "unpicklable"
            error = replace(
                loaded.error,
                message=f"the value cannot be unpickled by the client: {loaded.error.message}",
                retryable=False,
            )
    elif error is not None and reply.exception:
        error = replace(error, exception=attempt_call(pickle.loads, reply.exception).value)
    return CallEnded(
        call_id,
        status,
        value=value,
        error=error,
        worker=WorkerInfo(reply.host, reply.pid, cold),
        started_s=reply.started_s,
        ended_s=reply.ended_s,
        peak_memory_nbytes=reply.peak_memory_nbytes,
        nbytes_in=nbytes_in,
        nbytes_out=len(reply.value),
        requests=CallRequests(work=reply.requests),
    )


def call_lost(
    call_id: int, reason: str, nbytes_in: int, names: CallNames | None = None
) -> CallEnded:
    """Report a call whose worker will not answer any more; another attempt may help."""
    return CallEnded(
        call_id,
        "lost",
        error=RemoteError("WorkerLost", reason, retryable=True),
        ended_s=time.time(),
        nbytes_in=nbytes_in,
        names=CallNames() if names is None else names,
    )


def _modules_that_travel(shared_path: bool) -> list[ModuleType]:
    """Return the loaded modules whose functions must travel with their code.

    These are modules that are neither the standard library's, nor installed, nor ours (a worker
    has these); of them, for workers that import from where we do, those that are not found there.
    """
    paths = sysconfig.get_paths()
    installed = {Path(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    installed.add(Path(hstmap.__file__).parent)
    prefixes = tuple(f"{folder}/" for folder in installed)
    travelling = []
    for name, module in tuple(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name in ("__main__", "__mp_main__") or not isinstance(file, str):
            continue  # cloudpickle sends what is in __main__ by value anyway
        if file.startswith(prefixes) or "/site-packages/" in file or "/dist-packages/" in file:
            continue
        if not (shared_path and _is_importable(name, Path(file))):
            travelling.append(module)
    return travelling


def _is_importable(name: str, file: Path) -> bool:
    for folder in sys.path:
        stem = Path(folder).joinpath(*name.split(".")).absolute()
        if file in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
            return True
    return False


def _unpicklable(what: str, thing: Any, error: RemoteError) -> RemoteError:
    name = f"{type(thing).__module__}.{type(thing).__qualname__}".removeprefix("builtins.")
    return RemoteError(
        error.type_name,
        f"the {what} cannot be pickled: it is or holds what pickle refuses ({name}): "
        f"{error.message}",
        error.traceback_text,
    )


# -- the worker's end --------------------------------------------------------------------------


class Program:
    """The function of a stage, on the worker; loaded by the first attempt that needs it.

    Parameters
    ----------
    packed : bytes
        From `Packer.pack_program`.
    """

    def __init__(self, packed: bytes) -> None:
        self._packed = packed
        self._function: Callable[[Any], Any] | None = None
        self.retry_on: tuple[type[BaseException], ...] = TRANSIENT_ERRORS

    def run(self, payload: bytes) -> Any:
        """Call the function with a pickled payload."""
        if self._function is None:
            self._function, self.retry_on = pickle.loads(self._packed)
        return self._function(pickle.loads(payload))


def perform(program: Program, payload: bytes) -> Reply:
    """Make an attempt.

    Parameters
    ----------
    program : Program
    payload : bytes
        From `Packer.pack_payload`.

    Returns
    -------
    Reply
        Whatever happens, unless the process dies.
    """
    reset_peak_memory()
    started_s = time.time()
    requests = RequestCounts()
    with heard_by(requests.__iadd__):
        outcome = judged(attempt_call(program.run, payload), program.retry_on)
    status, error, value, exception = outcome.status, outcome.error, b"", b""
    if error is None:
        packed = attempt_call(_dumps, outcome.value)
        if packed.error is None:
            value = packed.value
        else:
            status, error = "unpicklable", _unpicklable("value", outcome.value, packed.error)
    elif error.exception is not None:
        exception = attempt_call(_dumps_what_loads, error.exception).value or b""
        error = replace(error, exception=None)
    return Reply(
        status,
        value,
        exception,
        error,
        socket.gethostname(),
        os.getpid(),
        started_s,
        time.time(),
        peak_memory_nbytes(),
        requests,
    )


def _dumps(value: Any) -> bytes:
    plain = attempt_call(pickle.dumps, value, pickle.HIGHEST_PROTOCOL)
    # Slower, but it also takes what was defined in a function or in a module that travelled.
    packed: bytes = cloudpickle.dumps(value) if plain.error else plain.value
    return packed


def _dumps_what_loads(raised: BaseException) -> bytes:
    """Pickle an exception, unless its class cannot be made again from what was pickled."""
    packed = _dumps(raised)
    pickle.loads(packed)
    return packed
