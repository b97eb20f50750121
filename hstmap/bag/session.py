"""Which engine a computation runs on, and how it deals with failures."""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

from hstmap.bag.engine import Engine, EngineOptions, InProcessEngine, make_engine
from hstmap.bag.events import Observer
from hstmap.bag.execute import OnError
from hstmap.bag.values import INLINE_NBYTES, Spill
from hstmap.config import load_settings
from hstmap.errors import UsageError
from hstmap.storage import StorageOptions, join_url

__all__ = ["ComputeOptions", "Session", "current_session", "open_session", "use_engine"]

_SPILL_PREFIX = "hstmap-spill"
_SYNCHRONOUS = ("sync", "synchronous", "single-threaded")


@dataclass(frozen=True)
class Session:
    """An engine that is ready, and where the results of its tasks go.

    Parameters
    ----------
    engine : Engine
    on_error : {"raise", "collect"}
    spill_url : str, optional
        Folder or ``s3://`` prefix for what is too large to come back inline. None: everything does.
    spill_options : StorageOptions, optional
        How workers and client reach it.
    inline_nbytes : int
        What is too large, bytes pickled.
    """

    engine: Engine
    on_error: OnError
    spill_url: str | None
    spill_options: StorageOptions | None = None
    inline_nbytes: int = INLINE_NBYTES

    def new_spill(self) -> Spill:
        """Return how the results of one computation come back, and a place of its own for them."""
        own = None
        if self.spill_url is not None:
            own = join_url(self.spill_url, f"bag-{uuid.uuid4().hex}")
        is_pickled = not isinstance(self.engine, InProcessEngine)
        return Spill(own, self.spill_options, self.inline_nbytes, is_pickled)


@dataclass(frozen=True)
class ComputeOptions:
    """What a computation may say of how it is run; None: as the engine is set.

    Parameters
    ----------
    engine : Engine or str, optional
        See `use_engine`. None: the engine of the `use_engine` around it, else ``"inprocess"``.
    on_error : {"raise", "collect"}, optional
    retries : int, optional
    timeout_s : float, optional
    spill_url : str, optional
    """

    engine: Engine | str | None = None
    on_error: OnError | None = None
    retries: int | None = None
    timeout_s: float | None = None
    spill_url: str | None = None


_current: ContextVar[Session | None] = ContextVar("hstmap_session", default=None)


def current_session() -> Session | None:
    """Return the session of the `use_engine` around the caller; None if there is none."""
    return _current.get()


@contextlib.contextmanager
def use_engine(
    engine: Engine | str,
    options: EngineOptions | None = None,
    *,
    observers: Sequence[Observer] = (),
    on_error: OnError | None = None,
    spill_url: str | None = None,
    inline_nbytes: int = INLINE_NBYTES,
) -> Iterator[Engine]:
    """Compute on an engine in a ``with`` block.

    Parameters
    ----------
    engine : Engine or {"inprocess", "lithops"}
        An engine given by its name is made for the block and closed at its end, so that its
        workers serve all computations of the block.
    options : EngineOptions, optional
        For an engine given by its name. By default what ``lithops_config.yaml`` says, for
        ``"lithops"`` (`hstmap.config.load_settings`).
    observers : sequence of Observer
        Called with each event of an engine given by its name: a ledger, a progress bar.
    on_error : {"raise", "collect"}, optional
        What becomes of items and tasks that fail; by default as the engine's options say.
    spill_url : str, optional
        Folder or ``s3://`` prefix where results go that are too large to come back inline, and
        what `Bag.groupby` moves. By default a prefix of the bucket that Lithops uses, if its
        storage is ``aws_s3``; else everything comes back inline.
    inline_nbytes : int
        What is too large, bytes pickled (default 16 KiB).

    Yields
    ------
    Engine

    Raises
    ------
    UsageError
        If there is no engine of that name, or options are given for one that exists already.

    Examples
    --------
    >>> import hstmap
    >>> with hstmap.use_engine("inprocess"):
    ...     hstmap.range(5, npartitions=2).sum().compute()
    10
    """
    compute = ComputeOptions(engine, on_error, spill_url=spill_url)
    with _session(compute, options, observers) as opened:
        session = dataclasses.replace(opened, inline_nbytes=inline_nbytes)
        token = _current.set(session)
        try:
            yield session.engine
        finally:
            _current.reset(token)


@contextlib.contextmanager
def open_session(options: ComputeOptions) -> Iterator[Session]:
    """Open what a computation runs on.

    Raises
    ------
    UsageError
        If retries or a time-out are given for an engine that exists already: these are the
        engine's own.
    """
    around = current_session()
    if options.engine is not None or around is None:
        with _session(options) as session:
            yield session
        return
    _refuse_engine_options(options)
    yield dataclasses.replace(
        around,
        on_error=options.on_error or around.on_error,
        spill_url=options.spill_url or around.spill_url,
    )


@contextlib.contextmanager
def _session(
    options: ComputeOptions,
    engine_options: EngineOptions | None = None,
    observers: Sequence[Observer] = (),
) -> Iterator[Session]:
    with contextlib.ExitStack() as stack:
        if options.engine is None or isinstance(options.engine, str):
            engine = stack.enter_context(_make(options, engine_options, observers))
        else:
            engine = options.engine
            if engine_options is not None or observers:
                raise UsageError(
                    "options or observers were given for an engine that exists already; give them "
                    "to the engine, or give its name here"
                )
            _refuse_engine_options(options)
        on_error = options.on_error or engine.options.on_error
        if on_error not in ("raise", "collect"):
            raise UsageError(f"on_error is {on_error!r}; give 'raise' or 'collect'")
        url, storage = _spill_of(engine)
        yield Session(engine, on_error, options.spill_url or url, storage)


def _make(
    options: ComputeOptions, engine_options: EngineOptions | None, observers: Sequence[Observer]
) -> Engine:
    given = {"retries": options.retries, "timeout_s": options.timeout_s}
    changes = {name: value for name, value in given.items() if value is not None}
    if engine_options is None:
        engine_options = _configured() if options.engine == "lithops" else EngineOptions()
    made = dataclasses.replace(engine_options, **changes)  # type: ignore[arg-type]
    return make_engine(str(options.engine or "inprocess"), made, observers)


def _configured() -> EngineOptions:
    """Return the options that ``lithops_config.yaml`` gives."""
    settings = load_settings()
    return EngineOptions(
        n_workers=settings.n_workers,
        retries=settings.retries,
        timeout_s=settings.timeout_s,
        lithops_config=settings.lithops_config(),
    )


def _spill_of(engine: Engine) -> tuple[str | None, StorageOptions | None]:
    """Return where an engine's workers can leave large results: the bucket that Lithops uses."""
    config = engine.options.lithops_config or {}
    if config.get("lithops", {}).get("storage") != "aws_s3":
        return None, None
    section = config.get("aws_s3") or {}
    bucket = section.get("storage_bucket")
    if not bucket:
        return None, None
    region = section.get("region") or (config.get("aws") or {}).get("region")
    return f"s3://{bucket}/{_SPILL_PREFIX}", StorageOptions(region=region)


def _refuse_engine_options(options: ComputeOptions) -> None:
    if options.retries is not None or options.timeout_s is not None:
        raise UsageError(
            "retries and timeout_s belong to the engine, which exists already; give them to "
            "hstmap.use_engine(name, EngineOptions(...)), or give compute() the engine's name"
        )


def engine_of_scheduler(scheduler: object) -> str:
    """Return the engine that stands for a scheduler's name of dask.

    Raises
    ------
    UsageError
        If none does.
    """
    if scheduler in _SYNCHRONOUS:
        return "inprocess"
    raise UsageError(
        f"scheduler={scheduler!r} is dask's; hstmap runs on engines: give engine='lithops' (or an "
        "Engine), or engine='inprocess' for what dask calls 'sync'"
    )
