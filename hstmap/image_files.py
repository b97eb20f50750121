"""The files of a batch's images, of which the next ones arrive while one is measured."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from hstmap.batch import ImageKey
from hstmap.errors import StorageError
from hstmap.ranged import RangedFile
from hstmap.storage import RequestCounts, StorageOptions, Store, open_store, split_url
from hstmap.wfc3.image import first_nbytes

__all__ = ["ImageFiles", "Stores", "fetch", "fetched_ahead"]

#: Images that are fetched ahead: at 75 MB/s a connection one arrives in 140 ms, in which more than
#: two are measured.
_N_AHEAD: Final = 3


@dataclass
class ImageFiles:
    """An image and its weights with their first bytes, or why there are none."""

    image: RangedFile | None = None
    weights: RangedFile | None = None
    error: StorageError | None = None


class Stores:
    """Stores by their URL, opened once a batch.

    Parameters
    ----------
    options : StorageOptions
    """

    def __init__(self, options: StorageOptions) -> None:
        self._options = options
        self._stores: dict[str, Store] = {}
        self._opening = threading.Lock()

    def open(self, url: str, n_first: int) -> RangedFile:
        """Open an object with its first bytes fetched."""
        root, key = split_url(url)
        # Of two that a place was opened as, one would be lost, with what it has counted.
        with self._opening:
            if root not in self._stores:
                self._stores[root] = open_store(root, self._options)
        return self._stores[root].open_ranged(key, n_first)

    def counts(self) -> RequestCounts:
        """Add up what was asked of all of them."""
        return sum((store.counts for store in self._stores.values()), RequestCounts())


def fetch(stores: Stores, image: ImageKey) -> ImageFiles:
    """Get the bytes of an image that are sure to be needed.

    Parameters
    ----------
    stores : Stores
    image : ImageKey

    Returns
    -------
    ImageFiles
    """
    try:
        n_first = first_nbytes(_product_of(image.url))
        weights = stores.open(image.weight_url, n_first) if image.weight_url else None
        return ImageFiles(stores.open(image.url, n_first), weights)
    except StorageError as error:
        return ImageFiles(error=error)


def _product_of(url: str) -> str:
    """Guess the product from a file's name: ``.../x_flt.fits.gz`` is an ``flt``."""
    stem = url.rsplit("/", 1)[-1].split(".", 1)[0]
    return stem.rpartition("_")[2] if "_" in stem else ""


def fetched_ahead(
    stores: Stores, images: Sequence[ImageKey]
) -> Iterator[tuple[ImageKey, ImageFiles]]:
    """Yield images with their bytes, of which the next ones are already under way.

    Parameters
    ----------
    stores : Stores
    images : sequence of ImageKey

    Yields
    ------
    ImageKey, ImageFiles
        In the order of `images`.
    """
    if any("://" in image.url for image in images):
        return _by_threads(stores, images)
    return _one_ahead(stores, images)


def _one_ahead(stores: Stores, images: Sequence[ImageKey]) -> Iterator[tuple[ImageKey, ImageFiles]]:
    """Have the system read one local file ahead.

    To tell it that takes less time than threads lose to each other in Python.
    """
    ahead: tuple[ImageKey, ImageFiles] | None = None
    for image in images:
        files = fetch(stores, image)
        if ahead is not None:
            yield ahead
        ahead = image, files
    if ahead is not None:
        yield ahead


def _by_threads(
    stores: Stores, images: Sequence[ImageKey]
) -> Iterator[tuple[ImageKey, ImageFiles]]:
    with ThreadPoolExecutor(_N_AHEAD, thread_name_prefix="fetch") as pool:
        waiting: deque[tuple[ImageKey, Future[ImageFiles]]] = deque()
        try:
            for image in images:
                waiting.append((image, pool.submit(fetch, stores, image)))
                if len(waiting) > _N_AHEAD:
                    due, files = waiting.popleft()
                    yield due, files.result()
            while waiting:
                due, files = waiting.popleft()
                yield due, files.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
