"""The loopback AWS: everything started on free ports, and everything stopped again."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from hstmap.aws.local.admission import Concurrency
from hstmap.aws.local.asynchronous import DiscardedEvent, EventQueue
from hstmap.aws.local.backend import Backend
from hstmap.aws.local.code_source import CodeSource
from hstmap.aws.local.faults import FaultScript
from hstmap.aws.local.functions import FunctionRegistry
from hstmap.aws.local.invoker import Invoker
from hstmap.aws.local.isolation import Isolation, find_isolation
from hstmap.aws.local.launch import Host
from hstmap.aws.local.logs import LogWriter
from hstmap.aws.local.options import LocalAwsOptions
from hstmap.aws.local.packages import PackageStore
from hstmap.aws.local.run_folder import RunFolder
from hstmap.aws.local.runs import InvocationRecord
from hstmap.aws.local.runtime_folder import HOST_RUNTIME, make_runtime
from hstmap.aws.local.s3_log import S3Request, charged, s3_requests
from hstmap.aws.local.server import LambdaServer
from hstmap.aws.local.services import ServiceRequest, Services
from hstmap.aws.local.wire import RequestRecord
from hstmap.errors import UsageError

__all__ = ["LocalAws", "serve"]

_Result = TypeVar("_Result")
_EXPIRE_EVERY_S = 5.0


class LocalAws:
    """An AWS of one's own: Lambda here, S3, STS, IAM, ECR and CloudWatch Logs by moto.

    Use it as a context manager. It runs in a thread of this process and in processes below it;
    for measurements start it in a process of its own, by `serve`.

    Parameters
    ----------
    options : LocalAwsOptions, optional
        How it behaves.

    Attributes
    ----------
    faults : FaultScript
        What goes wrong: add to it at any time.
    images : dict of str to Path
        The unpacked images that are known, by their digests.

    Examples
    --------
    >>> with LocalAws() as aws:  # doctest: +SKIP
    ...     subprocess.run(["hstmap", "deploy"], env=os.environ | aws.environment)
    """

    def __init__(self, options: LocalAwsOptions | None = None) -> None:
        self.options = options or LocalAwsOptions()
        self.faults = FaultScript(self.options.faults)
        self.images = dict(self.options.images)
        self._folder: RunFolder | None = None
        self._services: Services | None = None
        self._running: _Running | None = None

    def __enter__(self) -> LocalAws:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything; what an earlier one left behind when it was killed is removed.

        Raises
        ------
        UsageError
            Where an option cannot be had on this machine, or something is not installed.
        EngineError
            Where a service does not start.
        """
        if self._folder is not None:
            raise UsageError("this loopback AWS was started already: make another one")
        if not sys.platform.startswith("linux"):
            raise UsageError(f"the loopback AWS runs on Linux only, and this is {sys.platform}")
        isolation = find_isolation(self.options)
        self._folder = RunFolder(self.options.state_folder, isolation.cgroups)
        try:
            self._start(isolation, self._folder.path)
        except BaseException:
            self.stop()
            raise
        atexit.register(self.stop)

    def stop(self) -> None:
        """Stop everything, and leave no process, control group or file; do it once or more."""
        if self._running is not None:
            self._running.stop()
            self._running = None
        if self._services is not None:
            self._services.stop()
            self._services = None
        if self._folder is not None:
            self._folder.remove()
        atexit.unregister(self.stop)

    def _start(self, isolation: Isolation, folder: Path) -> None:
        options = self.options
        runtimes = dict(options.runtimes)
        if HOST_RUNTIME not in runtimes:
            runtimes[HOST_RUNTIME] = make_runtime(
                folder / "runtimes" / HOST_RUNTIME, options.runtime_packages
            )
        self._services = Services(folder / "services", options.region, options.s3)
        self._services.start()
        self._running = _Running(self, isolation, folder, self._services, runtimes)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead a client here: endpoints, credentials and the region."""
        running = self._require_running()
        return running.services.environment(running.lambda_url)

    @property
    def run_folder(self) -> Path:
        """Where this loopback AWS keeps its files while it runs."""
        return self._require_running().host.run_folder

    @property
    def isolation(self) -> Isolation:
        """What holds execution environments in on this machine, and what does not."""
        return self._require_running().host.isolation

    @property
    def request_log(self) -> list[RequestRecord]:
        """The requests to the Lambda API so far."""
        return list(self._require_running().server.request_log)

    @property
    def invocation_log(self) -> list[InvocationRecord]:
        """The runs of functions so far, retries and duplicates too."""
        return list(self._require_running().backend.invoker.records)

    @property
    def service_log(self) -> list[ServiceRequest]:
        """The requests to the other services so far, SeaweedFS not among them."""
        return self._require_running().services.requests()

    @property
    def s3_log(self) -> list[S3Request]:
        """The requests to S3 so far, as moto saw them; none where SeaweedFS is S3."""
        return s3_requests(self.service_log)

    @property
    def s3_charged(self) -> Counter[str]:
        """The requests to S3 so far as S3 charges them, by the server's own count.

        ``get`` (HEAD is one), ``put``, ``list``, ``delete``; of moto's S3 and of SeaweedFS.
        """
        if self.options.s3 == "seaweedfs":
            return charged(self._require_running().services.seaweed_requests())
        return charged(Counter((item.kind, item.status) for item in self.s3_log))

    @property
    def discarded_events(self) -> list[DiscardedEvent]:
        """The asynchronous events that were given up so far."""
        return list(self._require_running().backend.events.discarded)

    def client(self, service: str, region: str | None = None) -> Any:
        """Make a boto3 client of a service, whatever this process's own environment says.

        Parameters
        ----------
        service : str
            As boto3 names it.
        region : str, optional
            By default the loopback AWS's.

        Returns
        -------
        object
            A boto3 client that does not retry.
        """
        running = self._require_running()
        url = running.lambda_url if service == "lambda" else None
        return running.services.client(service, url, region)

    def register_image(self, digest: str, root: Path) -> None:
        """Make an unpacked image known.

        Parameters
        ----------
        digest : str
            The image's digest, ``sha256:`` and 64 hexadecimal digits.
        root : Path
            Its root. What it lacks of ``/usr``, ``/var/lang`` and the like is lent by this
            machine; a file ``config.json`` in it is the image's OCI ``config`` object.
        """
        self.images[digest] = root

    def wait_until_idle(self, timeout_s: float = 60.0) -> None:
        """Wait until no event is queued, running or to be retried, and all logs are written.

        Parameters
        ----------
        timeout_s : float
            How long to wait at most.

        Raises
        ------
        TimeoutError
            Where something still goes on.
        """
        self._require_running().call(self._require_running().join(), timeout_s)

    def _require_running(self) -> _Running:
        if self._running is None:
            raise UsageError("the loopback AWS is not running: use it as a context manager")
        return self._running


class _Running:
    """The event loop in its thread, with all that lives on it."""

    def __init__(
        self,
        owner: LocalAws,
        isolation: Isolation,
        folder: Path,
        services: Services,
        runtimes: dict[str, Path],
    ) -> None:
        options = owner.options
        self.services = services
        listener = socket.create_server(("127.0.0.1", options.port))
        self.lambda_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.host = Host(
            run_folder=folder,
            isolation=isolation,
            runtimes=runtimes,
            default_runtime=HOST_RUNTIME,
            environment={**services.environment(self.lambda_url), **options.environment},
        )
        self.server = LambdaServer(listener)
        self._logs = LogWriter(lambda region: services.client("logs", region=region))
        self.backend = self._assemble(owner, PackageStore(folder / "packages"))
        self._background: list[asyncio.Task[None]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="hstmap-local-aws", daemon=True
        )
        self._thread.start()
        self.call(self._start())

    def _assemble(self, owner: LocalAws, store: PackageStore) -> Backend:
        options = owner.options
        registry = FunctionRegistry(store, options.account_id, self.host.runtimes)
        concurrency = Concurrency(options.concurrency, registry.all)
        invoker = Invoker(options, self.host, owner.faults, self._logs.put)
        return Backend(
            registry=registry,
            source=CodeSource(self.services, owner.images),
            invoker=invoker,
            concurrency=concurrency,
            events=EventQueue(
                invoker, concurrency, registry.find, owner.faults, options.retry_delays_s
            ),
            faults=owner.faults,
        )

    def call(self, work: Coroutine[Any, Any, _Result], timeout_s: float | None = None) -> _Result:
        """Do something on the event loop, and wait for it in this thread."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise TimeoutError(
                f"the loopback AWS is still busy after {timeout_s} s: events are queued, "
                "running or waiting for a retry"
            ) from None

    async def join(self) -> None:
        await self.backend.events.join()
        await self._logs.join()

    def stop(self) -> None:
        self.call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        self._background = [
            asyncio.ensure_future(self._logs.run()),
            asyncio.ensure_future(self._end_expired_for_ever()),
        ]
        await self.server.start(self.backend)

    async def _stop(self) -> None:
        await self.backend.events.close()
        await self.backend.invoker.end_all()
        await self.server.stop()
        # Invocations that the server was still answering have ended their environments late.
        await self.backend.invoker.end_all()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._loop.shutdown_default_executor()

    async def _end_expired_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_EXPIRE_EVERY_S)
            await self.backend.invoker.end_expired()


def serve(
    options: LocalAwsOptions | None = None, ready: Callable[[LocalAws], None] | None = None
) -> None:
    """Run a loopback AWS until SIGINT or SIGTERM comes.

    Parameters
    ----------
    options : LocalAwsOptions, optional
        How it behaves.
    ready : callable, optional
        Called with the `LocalAws` once everything answers, to tell the user where.
    """
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with LocalAws(options) as aws:
            if ready is not None:
                ready(aws)
            stopped.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
