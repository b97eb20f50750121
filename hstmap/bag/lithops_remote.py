"""Invocations through Lithops on backends elsewhere, and our own backend in the place of one.

Lithops loads a backend by the name of its module. `OWN_BACKENDS` says which of Lithops' backends
are replaced by which of ours, also by name: this room knows no cloud.
"""

from __future__ import annotations

import copy
import functools
import importlib
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Any, Final, Protocol

from hstmap.bag.invocations import Letter, Ticket
from hstmap.bag.lithops_calls import end_executor, import_lithops, make_executor, send_calls
from hstmap.bag.lithops_post import Post
from hstmap.bag.task import EngineOptions
from hstmap.bag.transport import EngineRequests
from hstmap.errors import EngineError
from hstmap.storage_counts import RequestCounts

__all__ = ["OWN_BACKENDS", "OwnBackend", "RemoteMailbox"]

#: Module and class of the backends that replace Lithops' own, and where Lithops' objects then are.
OWN_BACKENDS: Final[Mapping[str, tuple[str, str, str]]] = MappingProxyType(
    {"aws_lambda": ("hstmap.aws.lambda_backend", "LambdaBackend", "aws_s3")}
)
_PREFIX: Final = "hstmap_"
_UNLIMITED: Final = 1_000_000


class OwnBackend(Protocol):
    """What a backend of `OWN_BACKENDS` has beside what Lithops asks of one.

    Attributes
    ----------
    refusal : Exception or None
        Why it would not take an invocation.
    n_places : int
        Invocations that can be under way at a time; known after `prepare`.
    most_event_nbytes : int
        Largest argument of a call that is to travel with its event.
    answers_url : str
        The bucket in which calls leave their answers.
    request_ids : mapping of (str, str, str) to str
        The backend's id of the last invocation of each call: by executor, job and call of Lithops.
    """

    refusal: Exception | None
    n_places: int
    most_event_nbytes: int
    answers_url: str
    request_ids: Mapping[tuple[str, str, str], str]

    def prepare(self) -> dict[str, Any]:
        """Make sure that calls can be sent, and return what Lithops wants to know of a runtime.

        Raises
        ------
        EngineError
            If they cannot.
        """

    def withdraw(self, calls: Iterable[Ticket]) -> None:
        """Send calls no more that Lithops still has in its queue."""

    def end(self) -> None:
        """Send nothing more."""


class RemoteMailbox:
    """Invocations on a backend elsewhere: one Lithops executor, a job for each handful of calls.

    Parameters
    ----------
    config : dict
        Of Lithops.
    options : EngineOptions
    """

    shared_path = False

    def __init__(self, config: dict[str, Any], options: EngineOptions) -> None:
        self._config = config
        self._options = options
        self._executor: Any = None
        self._own: OwnBackend | None = None
        self.n_slots = 0
        self.longest_call_s = float("inf")
        self.poll_interval_s = 2.0
        self._post: Post | None = None
        self._client_requests: RequestCounts | None = None

    @property
    def requests(self) -> EngineRequests:
        """Requests through Lithops' storage, and of invocations that are nobody's attempts."""
        if self._post is None:
            return EngineRequests(self._client_requests)
        post, late_url = self._post, ""
        if self._own is not None:
            late_url = f"{self._own.answers_url}/lithops.jobs/{post.executor.executor_id}-"
        return EngineRequests(self._client_requests, post.strays, post.silent, late_url)

    def open(self) -> None:
        """Get ready; forget what was sent before."""
        if self._executor is None or self._post is None:
            self._executor = self._make()
            self._post = Post(self._executor)
        else:
            self._post.settle()

    def _make(self) -> Any:
        config = copy.deepcopy(self._config)
        name = config["lithops"]["backend"]
        counting: AbstractContextManager[RequestCounts | None] = nullcontext()
        if name in OWN_BACKENDS:
            counting = _use_own_backend(config, name)
        config["lithops"] |= {
            "data_cleaner": False,
            "data_limit": False,
            "include_modules": "none",
            "telemetry": False,
        }
        with counting as self._client_requests:
            executor = make_executor(config)
        settings = executor.config
        section = settings[executor.backend]
        self.n_slots = int(self._options.n_workers or section["max_workers"])
        if name in OWN_BACKENDS:
            self._own = executor.compute_handler.backend
            _tell_runtime_metadata(executor, self._own.prepare())
            # What waits in the backend's queue would look like what never starts.
            self.n_slots = min(self.n_slots, self._own.n_places)
        self.poll_interval_s = float(settings["lithops"]["monitoring_interval"])
        limit_s = float(section.get("runtime_timeout") or settings["lithops"]["execution_timeout"])
        # The worker ends a call itself when its time is over; who is silent then is not there.
        self.longest_call_s = min(limit_s, self._options.timeout_s or limit_s)
        # How many calls are under way is the scheduler's to say: Lithops would count those that
        # never came back as running for ever.
        executor.invoker.max_workers = _UNLIMITED
        return executor

    def send(
        self, program: bytes, payloads: Sequence[bytes], timeout_s: float | None
    ) -> Sequence[Ticket]:
        """Invoke the program once for each payload."""
        most_nbytes = 0 if self._own is None else self._own.most_event_nbytes
        return send_calls(self._executor, program, payloads, timeout_s, most_nbytes)

    def look(self) -> tuple[set[Ticket], set[Ticket]]:
        """Return the invocations that have started, and those that have ended."""
        if self._own is not None and self._own.refusal is not None:
            # Lithops invokes in threads and drops what they raise.
            refusal, self._own.refusal = self._own.refusal, None
            raise EngineError(f"an invocation was refused: {refusal}") from refusal
        assert self._post is not None, "open comes first"
        return self._post.look()

    def fetch(self, ticket: Ticket) -> Letter:
        """Return what an invocation that ended has left."""
        assert self._post is not None, "open comes first"
        return self._post.fetch(ticket)

    def request_id(self, ticket: Ticket) -> str:
        """Return the backend's id of an invocation; empty if it has none, or not told it yet."""
        return "" if self._own is None else self._own.request_ids.get(ticket, "")

    def cancel(self, tickets: Iterable[Ticket]) -> None:
        """Send them no more; those that were sent run to their end, Lithops ends none."""
        if self._own is not None:
            self._own.withdraw(tickets)

    def close(self) -> None:
        """Remove what was left lying about."""
        if self._executor is not None and self._post is not None:
            if self._own is not None:
                self._own.end()
            end_executor(self._executor)
            self._post.remove_all()
            self._executor = None


def _use_own_backend(
    config: dict[str, Any], name: str
) -> AbstractContextManager[RequestCounts | None]:
    """Put our backend in the place of Lithops' in a configuration, and make Lithops know it.

    Returns
    -------
    context manager
        Lithops' storage that is made in it has its requests counted in what it gives.
    """
    module_name, class_name, storage = OWN_BACKENDS[name]
    own_name = _PREFIX + name
    module = importlib.import_module(module_name)
    _register(own_name, module, class_name)
    config[own_name] = config.pop(name, None) or {}
    config["lithops"] |= {"backend": own_name}
    config["lithops"].setdefault("storage", storage)
    counting: AbstractContextManager[RequestCounts | None] = module.storage_requests()
    return counting if config["lithops"]["storage"] == storage else nullcontext()


def _register(own_name: str, module: types.ModuleType, class_name: str) -> None:
    import_lithops()
    from lithops import constants

    if own_name in constants.SERVERLESS_BACKENDS:
        return
    contents = {
        "": {"ServerlessBackend": getattr(module, class_name)},
        ".config": {"load_config": functools.partial(module.load_config, name=own_name)},
    }
    for suffix, content in contents.items():
        name = f"lithops.serverless.backends.{own_name}{suffix}"
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(content)
    constants.SERVERLESS_BACKENDS = (*constants.SERVERLESS_BACKENDS, own_name)


def _tell_runtime_metadata(executor: Any, metadata: Mapping[str, Any]) -> None:
    """Tell Lithops what it would keep in the user's home, and then go by for ever."""
    from lithops.storage.storage import RUNTIME_META_CACHE
    from lithops.version import __version__

    info = executor.compute_handler.get_runtime_info()
    key = executor.compute_handler.get_runtime_key(
        info["runtime_name"], info["runtime_memory"], __version__
    )
    _, cache_key, _ = executor.internal_storage._runtime_meta_refs(key)
    RUNTIME_META_CACHE[cache_key] = {**metadata, "lithops_version": __version__}
