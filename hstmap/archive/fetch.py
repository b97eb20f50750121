"""Images brought to where one works: many at once, resumed where they broke, whole or not."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

from hstmap.archive.fetch_plan import GIB, FetchPlan, Wanted
from hstmap.archive.partfile import DamagedCopyError, PartFile, Version
from hstmap.archive.patience import Patience
from hstmap.errors import ForbiddenObjectError, MissingObjectError, StorageError, UsageError
from hstmap.storage import RequestCounts, StorageOptions, open_store
from hstmap.storage_errors import ObjectChangedError
from hstmap.storage_stream import open_stream

__all__ = ["FetchOptions", "FetchOutcome", "FetchProgress", "FetchReport", "fetch"]


@dataclass(frozen=True)
class FetchOptions:
    """How to fetch.

    Parameters
    ----------
    n_connections : int
        Files that are on their way at the same time.
    piece_nbytes : int
        Bytes of one request, at most: an image comes in one.
    md5 : str
        ``'pieced'``: the MD5 is verified of files that were put together of several answers.
        ``'always'``: of every file. It takes a processor as long as a fast network takes to bring
        the file, and an answer that came whole was guarded by TCP and TLS on its way.
    patience : Patience
        How often to try, and how long to wait, where nothing comes.
    storage : StorageOptions, optional
        How to reach S3.
    on_progress : callable, optional
        Called with a `FetchProgress` as bytes come.
    on_trouble : callable, optional
        Told of every fault that is about to be retried.
    """

    n_connections: int = 16
    piece_nbytes: int = 64 * 1024 * 1024
    md5: str = "pieced"
    patience: Patience = field(default_factory=Patience)
    storage: StorageOptions | None = None
    on_progress: Callable[[FetchProgress], None] | None = None
    on_trouble: Callable[[str], None] | None = None


@dataclass(frozen=True)
class FetchProgress:
    """How far it is: files that are done, of how many, and bytes that came by now."""

    n_done: int
    n_files: int
    nbytes: int


@dataclass(frozen=True)
class FetchOutcome:
    """How it ended for one file.

    Parameters
    ----------
    file : Wanted
    status : str
        ``'fetched'``, ``'missing'``, ``'forbidden'`` or ``'failed'``.
    nbytes : int
        Its size, if fetched.
    message : str
        What went wrong, or is to be known of it; else empty.
    """

    file: Wanted
    status: str
    nbytes: int = 0
    message: str = ""


@dataclass(frozen=True)
class FetchReport:
    """What a fetch has done.

    Parameters
    ----------
    outcomes : tuple of FetchOutcome
        One for each file of the plan, in its order.
    seconds : float
        How long it took.
    requests : RequestCounts
        What it asked for, whatever came of it.
    """

    outcomes: tuple[FetchOutcome, ...]
    seconds: float
    requests: RequestCounts

    @property
    def counts(self) -> dict[str, int]:
        """Files by status."""
        return dict(Counter(outcome.status for outcome in self.outcomes))

    @property
    def nbytes(self) -> int:
        """Bytes of the files that are here now."""
        return sum(outcome.nbytes for outcome in self.outcomes)


def fetch(plan: FetchPlan, options: FetchOptions | None = None) -> FetchReport:
    """Bring the files of a plan.

    Each comes over one connection into ``<name>.part``, is verified against the size that the
    store announced (and the MD5: see `FetchOptions`), and then gets its name. After a break, and
    in another fetch, a file is gone on with where it was, if its ETag is still the same.

    Parameters
    ----------
    plan : FetchPlan
        What to fetch.
    options : FetchOptions, optional
        How.

    Returns
    -------
    FetchReport
        A file that could not be had is an outcome, not an exception.

    Raises
    ------
    UsageError
        If the disk has no room for it.
    """
    options = options or FetchOptions()
    _check_room(plan)
    transfer = _Transfer(plan, options)
    started = time.monotonic()
    pool = ThreadPoolExecutor(options.n_connections)
    try:
        running = {pool.submit(transfer.bring, file): file for file in plan.files}
        done = {running[future]: future.result() for future in as_completed(running)}
    finally:
        transfer.stopped.set()
        pool.shutdown(cancel_futures=True)
    return FetchReport(
        outcomes=tuple(done[file] for file in plan.files),
        seconds=time.monotonic() - started,
        requests=transfer.requests,
    )


class _Transfer:
    """The state that the connections of a fetch share."""

    def __init__(self, plan: FetchPlan, options: FetchOptions) -> None:
        self.options = options
        self.stopped = threading.Event()
        roots = {file.root for file in plan.files}
        self._stores = {root: open_store(root, options.storage) for root in roots}
        self._n_files = len(plan.files)
        self._n_done = 0
        self._nbytes = 0
        self._lock = threading.Lock()

    @property
    def requests(self) -> RequestCounts:
        return sum((store.counts for store in self._stores.values()), RequestCounts())

    def bring(self, file: Wanted) -> FetchOutcome:
        """Bring one file, however often it takes, within the options' patience."""
        outcome = self._bring(file)
        self._report(n_done=1)
        return outcome

    def _bring(self, file: Wanted) -> FetchOutcome:
        part = PartFile(file.path)
        part.resume(file.url)
        patience = self.options.patience
        n_failed = 0
        while True:
            before = part.nbytes
            try:
                version = self._copy(file, part)
            except MissingObjectError as error:
                return FetchOutcome(file, "missing", message=error.message)
            except ForbiddenObjectError as error:
                return FetchOutcome(file, "forbidden", message=error.message)
            except (StorageError, DamagedCopyError) as error:
                trouble: Exception = error
            else:
                message = ""
                if file.etag and version.etag and file.etag != version.etag:
                    message = f"another version ({version.etag}) than the manifest's ({file.etag})"
                return FetchOutcome(file, "fetched", version.nbytes, message)
            if isinstance(trouble, ObjectChangedError):
                part.discard()
            # As long as something comes, a broken connection is no reason to give up.
            moved = part.nbytes > before
            n_failed = 1 if moved else n_failed + 1
            if n_failed >= patience.n_attempts or self.stopped.is_set():
                return FetchOutcome(file, "failed", message=str(trouble))
            if self.options.on_trouble:
                self.options.on_trouble(f"{file.url}: {trouble}; going on")
            patience.sleep(patience.delay_s(n_failed))

    def _copy(self, file: Wanted, part: PartFile) -> Version:
        """Copy what is not here yet; return what it is a copy of."""
        store = self._stores[file.root]
        while part.version is None or part.nbytes < part.version.nbytes:
            etag = part.version.etag if part.version else None
            before = part.nbytes
            end = before + self.options.piece_nbytes
            stream = open_stream(store, file.key, before, end, etag)
            if part.version is None:
                part.start(Version(file.url, stream.info.nbytes, stream.info.etag))
            with part.stretch() as write:
                for chunk in stream.chunks:
                    write(chunk)
                    self._report(nbytes=len(chunk))
                    if self.stopped.is_set():
                        raise StorageError(file.url, "was stopped: fetch again to go on with it")
            if part.nbytes == before < stream.info.nbytes:
                raise StorageError(file.url, "an answer without bytes came: try again later")
        version = part.version
        part.finish(self.options.md5 == "always" or part.n_stretches > 1)
        return version

    def _report(self, nbytes: int = 0, n_done: int = 0) -> None:
        with self._lock:
            self._nbytes += nbytes
            self._n_done += n_done
            progress = FetchProgress(self._n_done, self._n_files, self._nbytes)
        if self.options.on_progress:
            self.options.on_progress(progress)


def _check_room(plan: FetchPlan) -> None:
    known = sum(file.nbytes or 0 for file in plan.files)
    for folder in {file.path.parent for file in plan.files}:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if known > free:
            raise UsageError(
                f"{folder} has {free / GIB:.1f} GiB free, {known / GIB:.1f} GiB would come: free "
                "some, or fetch fewer with --limit"
            )
