"""What engines take and what they give: tasks and stages in, attempts out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from hstmap.bag.policy import TRANSIENT_ERRORS, StragglerPolicy, grown_limit_s
from hstmap.errors import TaskError, UsageError
from hstmap.storage_counts import CallRequests

__all__ = [
    "Attempt",
    "EngineOptions",
    "RemoteError",
    "Stage",
    "Status",
    "Task",
    "WorkerInfo",
    "raise_for",
]

Status: TypeAlias = Literal["ok", "error", "lost", "timeout", "unpicklable", "cancelled"]
"""How an attempt ended.

``ok``: it returned a value. ``error``: the function raised. ``lost``: its worker died or the
function left it (out of memory, a signal, `sys.exit`). ``timeout``: it ran too long and was ended.
``unpicklable``: its payload or its value cannot travel. ``cancelled``: the other attempt of its
task ended first.
"""


@dataclass(frozen=True)
class Task:
    """One call of a stage's function.

    Parameters
    ----------
    key : str
        Name of the task, unique in its stage.
    payload : object
        The argument of the function; it must be picklable unless it stays in this process.
    """

    key: str
    payload: Any


@dataclass(frozen=True)
class Stage:
    """Tasks that share a function and do not wait for each other.

    Parameters
    ----------
    name : str
        Name for people: progress, ledger, messages.
    function : callable
        Called with the payload of each task. It travels by value. It may be called more than once
        with the same payload (retries, stragglers), so its effects must bear repetition.
    tasks : sequence of Task
    """

    name: str
    function: Callable[[Any], Any]
    tasks: Sequence[Task]


@dataclass(frozen=True)
class RemoteError:
    """Why an attempt failed.

    Parameters
    ----------
    type_name : str
        Qualified name of the exception, or what stands for it (``"WorkerLost"``, ``"TimedOut"``).
    message : str
    traceback_text : str
        As Python prints it, from the frame of the function on; empty if there is none.
    retryable : bool
        Whether another attempt can help.
    exception : BaseException, optional
        The exception itself, where it could be brought back.
    """

    type_name: str
    message: str
    traceback_text: str = ""
    retryable: bool = False
    exception: BaseException | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class WorkerInfo:
    """The process that made an attempt.

    Parameters
    ----------
    host : str
    pid : int
    cold : bool
        Whether this was the first attempt that the process made.
    """

    host: str
    pid: int
    cold: bool


@dataclass(frozen=True)
class Attempt:
    """One invocation of a task, after it ended.

    Parameters
    ----------
    stage : str
    task_key : str
    number : int
        1 for the first attempt of a task, whether the further ones are retries or twins.
    status : Status
    final : bool
        Whether this is how the task ended: no further attempt of it will come.
    value : object
        What the function returned; None unless the status is ``ok``.
    error : RemoteError, optional
        None if and only if the status is ``ok``.
    worker : WorkerInfo, optional
        None if it never started.
    submitted_s, started_s, ended_s : float
        Unix time, s. ``started_s`` is None if it never started.
    peak_memory_nbytes : int, optional
        Largest resident memory of the worker's process while it made the attempt, where the system
        lets that be measured; else since the process began. None if it did not end by itself.
    nbytes_in, nbytes_out : int
        Size of the pickled payload and of the pickled value; 0 where nothing was pickled.
    request_id : str
        The backend's id of the invocation (Lambda's request id); empty where it has none, or never
        told it.
    call_name : str
        What the backend's call is named: several invocations can be of one call, if the backend
        delivers it twice. Empty where the backend has no invocations.
    handler_s, init_s : float, optional
        What the invocation took by the worker's own clock, s, from the event's arrival until its
        answer was written; and its process before that, from its start until it was ready for a
        first event. None where the worker does not tell.
    requests : CallRequests, optional
        What it asked of stores; None if it died without a word of that.
    """

    stage: str
    task_key: str
    number: int
    status: Status
    final: bool
    value: Any = None
    error: RemoteError | None = None
    worker: WorkerInfo | None = None
    submitted_s: float = 0.0
    started_s: float | None = None
    ended_s: float = 0.0
    peak_memory_nbytes: int | None = None
    nbytes_in: int = 0
    nbytes_out: int = 0
    request_id: str = ""
    call_name: str = ""
    handler_s: float | None = None
    init_s: float | None = None
    requests: CallRequests | None = None


@dataclass(frozen=True)
class EngineOptions:
    """How an engine runs tasks.

    Parameters
    ----------
    n_workers : int, optional
        Tasks that run at a time; by default what the backend offers (the CPUs of this machine).
    retries : int
        Further attempts that a task gets after failures that another attempt can mend.
    timeout_s : float, optional
        Longest time of one attempt, s. None: as long as it takes (or the backend allows).
    first_timeout_s : float, optional
        Longest time of a task's first attempt, s. Each further one has four times as long as the
        one before, up to ``timeout_s``, and the last of all has ``timeout_s``: a worker that died
        without a word is soon missed, and a task that is merely slow gets its time. None: all
        attempts have ``timeout_s``.
    on_error : {"raise", "collect"}
        What collections do with a task that failed for good. Engines hand out attempts either way.
    retry_on : tuple of exception classes
        Exceptions of the function that another attempt may mend.
    stragglers : StragglerPolicy, optional
        When a second attempt of a slow task is started; None: never.
    lithops_config : mapping, optional
        Content of ``lithops_config.yaml``; by default Lithops' localhost backend.
    mode : {"auto", "pilot", "events"}
        How Lithops is used. ``pilot``: workers that stay, on this machine. ``events``: an
        invocation for each attempt, on any backend. ``auto``: pilot for localhost, else events.
    preload : sequence of str
        Modules that tasks will import: workers of this machine then find them in memory that they
        share. What cannot be imported is left to the tasks to find out.
    start_timeout_s : float
        An attempt that was sent and did not start within this time counts as lost, s.
    include : tuple of str
        Modules, packages or Python files whose functions and classes travel with their code,
        though they are installed here: workers elsewhere have not what is.
    """

    n_workers: int | None = None
    retries: int = 2
    timeout_s: float | None = None
    first_timeout_s: float | None = None
    on_error: Literal["raise", "collect"] = "raise"
    retry_on: tuple[type[BaseException], ...] = TRANSIENT_ERRORS
    stragglers: StragglerPolicy | None = field(default_factory=StragglerPolicy)
    lithops_config: Mapping[str, Any] | None = None
    mode: Literal["auto", "pilot", "events"] = "auto"
    start_timeout_s: float = 60.0
    preload: Sequence[str] = ()
    include: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.n_workers is not None and self.n_workers < 1:
            raise UsageError(f"n_workers is {self.n_workers}; give 1 or more, or leave it out")
        if self.retries < 0:
            raise UsageError(f"retries is {self.retries}; give 0 or more")
        for name in ("timeout_s", "first_timeout_s"):
            limit_s = getattr(self, name)
            if limit_s is not None and limit_s <= 0:
                raise UsageError(f"{name} is {limit_s}; give seconds above 0, or None")
        if self.on_error not in ("raise", "collect"):
            raise UsageError(f"on_error is {self.on_error!r}; give 'raise' or 'collect'")
        if self.mode not in ("auto", "pilot", "events"):
            raise UsageError(f"mode is {self.mode!r}; give 'auto', 'pilot' or 'events'")
        if self.start_timeout_s <= 0:
            raise UsageError(f"start_timeout_s is {self.start_timeout_s}; give seconds above 0")
        if isinstance(self.include, str):
            raise UsageError(f"include is {self.include!r}; give a list of names, even of one")

    def limit_s(self, number: int) -> float | None:
        """Say how long an attempt may take.

        Parameters
        ----------
        number : int
            1 for the first attempt of its task.

        Returns
        -------
        float or None
            Seconds; None if it may take as long as it does.
        """
        # No task ends before one attempt more than its retries.
        if self.first_timeout_s is None or number > self.retries:
            return self.timeout_s
        return grown_limit_s(self.first_timeout_s, number, self.timeout_s)


def raise_for(attempt: Attempt) -> None:
    """Raise what an attempt's failure is to a caller who wants values only.

    Parameters
    ----------
    attempt : Attempt

    Raises
    ------
    TaskError
        Unless the status is ``ok``. Its message ends with the traceback of the worker; its
        ``__cause__`` is the function's own exception where that could be brought back.
    """
    if attempt.status == "ok":
        return
    error = attempt.error or RemoteError(attempt.status, "no reason is known")
    message = (
        f"task {attempt.task_key!r} of stage {attempt.stage!r} failed at attempt "
        f"{attempt.number} ({attempt.status}): {error.type_name}: {error.message}"
    )
    if error.traceback_text:
        message = f"{message}\n\nIn the worker:\n{error.traceback_text.rstrip()}"
    raise TaskError(message, attempt) from error.exception
