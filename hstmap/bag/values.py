"""How partitions travel between tasks: as objects, pickled inline, or through a store."""

from __future__ import annotations

import functools
import pickle
import uuid
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import cloudpickle

from hstmap.bag.failures import Place
from hstmap.bag.outcome import attempt_call
from hstmap.errors import StorageError
from hstmap.storage import StorageOptions, Store, open_store

__all__ = [
    "BLOCK_NBYTES",
    "INLINE_NBYTES",
    "Direct",
    "Packed",
    "Spill",
    "Stored",
    "Value",
    "fetch_all",
    "load",
]

INLINE_NBYTES = 16 * 1024
"""Results of a task up to this size come back inline. Eight of them, the default width of a
reduction, then fit into the payload of an asynchronous Lambda invocation with room to spare
(256 KB until October 2025, 1 MB since: AWS Lambda quotas)."""

BLOCK_NBYTES = 64 * 1024 * 1024
"""Pieces of a task are put into objects of about this size: few requests, bounded memory."""

N_FETCHES_AHEAD = 8
"""Requests under way while a task works: an S3 request takes tens of milliseconds, at Lambda's
price."""


@dataclass(frozen=True, slots=True)
class Direct:
    """A value as it is; the engine pickles it if it has to."""

    value: Any


@dataclass(frozen=True, slots=True)
class Packed:
    """A small pickled value."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """A pickled value that is bytes [start, end) of an object."""

    url: str
    key: str
    start: int
    end: int


Value: TypeAlias = Direct | Packed | Stored


@dataclass(frozen=True)
class Spill:
    """How results of tasks come back, and where they go.

    Parameters
    ----------
    url : str, optional
        Folder or ``s3://`` prefix, the computation's own. None: everything comes back inline.
    options : StorageOptions, optional
    inline_nbytes : int
        Pickled results of a task up to this size, bytes, come back inline all the same.
    is_pickled : bool
        False for tasks of this process: their results stay objects, unless there is a URL.
    """

    url: str | None = None
    options: StorageOptions | None = None
    inline_nbytes: int = INLINE_NBYTES
    is_pickled: bool = False

    def pack(self, pieces: Iterable[Any], n_pieces: int, place: Place) -> list[Value]:
        """Turn what a task made into values.

        Parameters
        ----------
        pieces : iterable
            Consumed once; pieces that were stored are not held.
        n_pieces : int
            How many there will be; they share `inline_nbytes`.
        place : Place
            What made them, for messages; items that cannot be pickled become failures if these
            are collected.

        Returns
        -------
        list of Value
            In the order of the pieces.

        Raises
        ------
        TypeError
            If something cannot be pickled.
        StorageError
            If the store does not take them.
        """
        if self.url is None:
            if self.is_pickled:
                return [Packed(_pickled(piece, place)) for piece in pieces]
            return [Direct(piece) for piece in pieces]
        store = _store(self.url, self.options)
        values: list[Value] = []
        block = bytearray()
        # A repeated attempt never writes over what another one wrote: its pieces may lie elsewhere.
        key = uuid.uuid4().hex
        for piece in pieces:
            data = _pickled(piece, place)
            if len(data) <= self.inline_nbytes // n_pieces:
                values.append(Packed(data))
                continue
            values.append(Stored(self.url, key, len(block), len(block) + len(data)))
            block += data
            if len(block) >= BLOCK_NBYTES:
                store.put(key, bytes(block))
                block.clear()
                key = uuid.uuid4().hex
        if block:
            store.put(key, bytes(block))
        return values

    def remove(self) -> None:
        """Delete everything that was stored under the URL.

        Warns
        -----
        UserWarning
            If that is not possible. The results are none the worse for it.
        """
        if self.url is None:
            return
        store = _store(self.url, self.options)
        try:
            with ThreadPoolExecutor(N_FETCHES_AHEAD) as pool:
                keys = [info.key for info in store.list()]
                for _ in pool.map(store.delete, keys):
                    pass
        except StorageError as error:
            warnings.warn(f"{self.url} could not be removed: {error}", stacklevel=2)
            return
        folder = store.local_path("")
        if folder is not None and folder.is_dir():
            folder.rmdir()


def _pickled(piece: Any, place: Place) -> bytes:
    """Pickle what a task made; if failures are collected, without the items that refuse it."""
    packed = attempt_call(cloudpickle.dumps, piece)
    if packed.error is None:
        whole: bytes = packed.value
        return whole
    is_list = isinstance(piece, list)
    if is_list and place.collecting is not None:
        kept = [_item_or_failure(index, item, place) for index, item in enumerate(piece)]
        data: bytes = cloudpickle.dumps(kept)
        return data
    culprit = _first_unpicklable(piece) if is_list else ""
    raise TypeError(
        f"the result of {place.step}, partition {place.partition}, cannot leave the worker"
        f"{culprit}: {packed.error.type_name}: {packed.error.message}. Return something that can "
        "be pickled, or use the engine 'inprocess'"
    ) from packed.error.exception


def _item_or_failure(index: int, item: Any, place: Place) -> Any:
    error = attempt_call(cloudpickle.dumps, item).error
    return item if error is None else place.unpicklable(index, item, error)


def _first_unpicklable(items: list[Any]) -> str:
    for index, item in enumerate(items):
        if attempt_call(cloudpickle.dumps, item).error is not None:
            return f" because of its item {index}, of type {type(item).__qualname__}"
    return ""


def load(value: Value, options: StorageOptions | None = None) -> Any:
    """Return the object that a value stands for.

    Raises
    ------
    StorageError
        If it was stored and is not there any more, or cannot be read.
    """
    if isinstance(value, Direct):
        return value.value
    if isinstance(value, Packed):
        return pickle.loads(value.data)
    return pickle.loads(_store(value.url, options).get_range(value.key, value.start, value.end))


class FetchAhead:
    """Loads values when they are asked for, the stored ones a few requests ahead.

    Parameters
    ----------
    values : mapping
        In the order in which they will probably be asked for.
    options : StorageOptions, optional
    """

    def __init__(self, values: Mapping[Any, Value], options: StorageOptions | None = None) -> None:
        self._values = values
        self._options = options
        self._waiting = deque(key for key, value in values.items() if isinstance(value, Stored))
        self._under_way: dict[Any, Future[Any]] = {}
        self._pool = ThreadPoolExecutor(N_FETCHES_AHEAD) if len(self._waiting) > 1 else None

    def __getitem__(self, key: Any) -> Any:
        if self._pool is None or not isinstance(self._values[key], Stored):
            return load(self._values[key], self._options)
        self._send(self._pool)
        under_way = self._under_way.pop(key, None)
        if under_way is not None:
            return under_way.result()
        if key in self._waiting:
            self._waiting.remove(key)
        return load(self._values[key], self._options)

    def __enter__(self) -> FetchAhead:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _send(self, pool: ThreadPoolExecutor) -> None:
        while self._waiting and len(self._under_way) < N_FETCHES_AHEAD:
            key = self._waiting.popleft()
            self._under_way[key] = pool.submit(load, self._values[key], self._options)


def fetch_all(values: Iterable[Value], options: StorageOptions | None = None) -> Iterator[Any]:
    """Yield the objects that values stand for, in their order."""
    numbered = dict(enumerate(values))
    with FetchAhead(numbered, options) as fetched:
        for number in numbered:
            yield fetched[number]


@functools.lru_cache(maxsize=16)
def _store(url: str, options: StorageOptions | None) -> Store:
    return open_store(url, options)
