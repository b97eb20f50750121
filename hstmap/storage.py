"""One object store for local folders and ``s3://``: nothing else touches bytes at rest.

A thin, counting layer over `obstore <https://developmentseed.org/obstore/>`__, chosen because a
worker pays for what it imports: obstore takes 5 ms, making a boto3 client half a second.

What is read of the environment for ``s3://``:

- ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``, and what containers,
  Lambda and EC2 offer, are used as every AWS tool does.
- Without those, the profile of ``~/.aws/credentials`` and ``~/.aws/config`` that ``AWS_PROFILE``
  names (or ``default``), through boto3, which is imported only then.
- ``AWS_ENDPOINT_URL_S3``, else ``AWS_ENDPOINT_URL``: another S3 server, plain http included.
- ``AWS_REGION``, else ``AWS_DEFAULT_REGION``, else the profile's, else ``us-east-1``.

Requests to the public archive bucket ``stpubdata`` are not signed and need no account.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

import obstore
from obstore import exceptions as obstore_exceptions

from hstmap.errors import MissingObjectError, StorageError
from hstmap.ranged import RangedFile
from hstmap.storage_backend import (
    MULTIPART_NBYTES,
    PART_NBYTES,
    StorageOptions,
    check_not_forked,
    check_takes_files,
    join_url,
    just_before,
    n_put_requests,
    open_backend,
    parse_url,
    split_url,
)
from hstmap.storage_counts import RequestCounts, tell
from hstmap.storage_errors import EmptyRangeError, ObjectExistsError, storage_error
from hstmap.storage_mapped import map_file

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta

__all__ = [
    "ObjectInfo",
    "RequestCounts",
    "StorageOptions",
    "Store",
    "join_url",
    "open_store",
    "split_url",
]

LIST_PAGE_LENGTH = 1000
"""Keys in one answer of S3's ListObjectsV2, and so in one request (S3 API reference)."""


_BENT_KEY = re.compile(r"(^|/)\.{0,2}(/|$)|[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class ObjectInfo:
    """Facts of one stored object.

    Parameters
    ----------
    key : str
        Its key, relative to the store's URL.
    nbytes : int
        Its size in bytes.
    etag : str or None
        What the store tells versions apart by, without quotes. On S3 often the MD5 in hex.
    modified : datetime.datetime
        When it was last written, UTC.
    """

    key: str
    nbytes: int
    etag: str | None
    modified: datetime


def open_store(url: str, options: StorageOptions | None = None) -> Store:
    """Open the store at `url`. Sends no request: a store that is not there shows on first use.

    Parameters
    ----------
    url : str
        A folder, ``file:///folder``, ``s3://bucket[/prefix]``, or ``memory://name[/prefix]``
        (lives as long as the process).
    options : StorageOptions, optional
        How to reach S3.

    Raises
    ------
    UsageError
        If the scheme is unknown, or ``AWS_PROFILE`` names no profile.
    """
    return Store(url, options or StorageOptions())


class Store:
    """One location: a local folder, or an S3 bucket and prefix. Made by `open_store`.

    Keys are relative to the location, with ``/`` between their parts. Threads may share a store.
    A pickled store opens anew where it is loaded, with its counts at zero.

    Attributes
    ----------
    url : str
        Absolute, without a slash at its end.
    counts : RequestCounts
        What was asked of the store so far.
    """

    def __init__(self, url: str, options: StorageOptions) -> None:
        scheme, bucket, path = parse_url(url)
        self._scheme = scheme
        self._options = options
        self._prefix = path.strip("/") + "/" if path.strip("/") else ""
        self._backend = open_backend(scheme, bucket, options)
        self._lock = threading.Lock()
        self.url = path if scheme == "file" else f"{scheme}://{bucket}/{path}".rstrip("/")
        self.counts = RequestCounts()

    def __reduce__(self) -> tuple[type[Store], tuple[str, StorageOptions]]:
        return Store, (self.url, self._options)

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def get(self, key: str) -> bytes:
        """Return the object's bytes.

        Raises
        ------
        MissingObjectError, ForbiddenObjectError, StorageError
            As every method that takes a key.
        """
        return self.get_with_info(key)[0]

    def get_with_info(self, key: str) -> tuple[bytes, ObjectInfo]:
        """Return the object's bytes and its facts, for one request."""
        data, info = self._get(key, {})
        return bytes(data), info

    def get_range(self, key: str, start: int, end: int, etag: str | None = None) -> bytes:
        """Return the bytes of [start, end), fewer at its end; an error if `etag` is another now."""
        options: GetOptions = {"range": (start, end)}
        if etag is not None:
            options["if_match"] = etag if etag[:2] == "W/" else f'"{etag}"'
        return bytes(self._get(key, options)[0])

    def open_ranged(self, key: str, first_nbytes: int) -> RangedFile:
        """Open the object as a file, of which the first bytes are fetched at once.

        Parameters
        ----------
        key : str
            The object.
        first_nbytes : int
            How many bytes to fetch up front, in the one request that also tells size and ETag.
            What is read beyond them is fetched on demand.

        Returns
        -------
        RangedFile
            Raises StorageError on reading if the object changed after it was opened.
        """
        try:
            first, info = self._get(key, {"range": (0, max(1, first_nbytes))})
        except EmptyRangeError:
            # No range lies within an empty object.
            first, info = memoryview(b""), self.head(key)

        def fetch(start: int, end: int) -> bytes:
            return self.get_range(key, start, end, info.etag)

        return RangedFile(join_url(self.url, key), info, first, fetch)

    def open_listed(self, info: ObjectInfo) -> RangedFile:
        """Open an object that was listed: its facts are known, so that takes no request.

        Reading raises StorageError if it is another version now.
        """

        def fetch(start: int, end: int) -> bytes:
            return self.get_range(info.key, start, end, info.etag)

        return RangedFile(join_url(self.url, info.key), info, b"", fetch)

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Write the object, whole or not at all: a reader sees the old bytes or the new.

        Parameters
        ----------
        key : str
            The object; local folders on the way are made.
        data : bytes
            All of it.
        if_absent : bool
            Leave an object alone that is there already (an atomic test on S3 and locally).

        Returns
        -------
        bool
            False if it was there and `if_absent` was given, else True.
        """
        path = self._path(key)
        if self._scheme == "file":
            check_takes_files(Path("/", path))
        # A conditional write cannot be split; a local file is never sent in parts.
        in_parts = self._scheme == "s3" and len(data) > MULTIPART_NBYTES and not if_absent
        try:
            with self._request(key, RequestCounts(n_put=n_put_requests(len(data), in_parts))):
                obstore.put(
                    self._backend,
                    path,
                    data,
                    mode="create" if if_absent else "overwrite",
                    use_multipart=in_parts,
                    chunk_size=PART_NBYTES,
                )
        except ObjectExistsError:
            return False
        self._count(RequestCounts(nbytes_written=len(data)))
        return True

    @contextmanager
    def writer(self, key: str) -> Iterator[IO[bytes]]:
        """Write a large object piece by piece, whole or not at all.

        Parameters
        ----------
        key : str
            The object.

        Yields
        ------
        IO of bytes
            A file to write to. The object appears, or changes, only if the block ends well.
        """
        import tempfile

        with tempfile.TemporaryFile(dir=self._spool_folder()) as file:
            yield file
            nbytes = file.seek(0, io.SEEK_END)
            file.seek(0)
            in_parts = self._scheme == "s3" and nbytes > MULTIPART_NBYTES
            with self._request(key, RequestCounts(n_put=n_put_requests(nbytes, in_parts))):
                # Locally, too, parts bound the memory that it takes.
                obstore.put(
                    self._backend,
                    self._path(key),
                    file,
                    use_multipart=in_parts or self._scheme == "file",
                    chunk_size=PART_NBYTES,
                )
        self._count(RequestCounts(nbytes_written=nbytes))

    def _spool_folder(self) -> str | None:
        """Return where large objects wait: beside their place if that is local."""
        if self._scheme != "file":
            return None
        with self._request("", RequestCounts()):
            Path(self.url).mkdir(parents=True, exist_ok=True)
        return self.url

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects whose keys begin with `prefix`, page by page as they are asked for.

        Parameters
        ----------
        prefix : str
            Any beginning of a key, as S3 means it: end it with ``/`` for one folder.
        start_after : str
            Only keys that sort after this one: several listings can then share a large folder.

        Yields
        ------
        ObjectInfo
            In the order of the keys on S3, in no order locally.
        """
        folder, _, beginning = prefix.rpartition("/")
        within = self._prefix + folder
        offset = max(just_before(prefix) if beginning else "", start_after)
        with self._request(prefix, RequestCounts()):
            pages = obstore.list(
                self._backend,
                within.strip("/") or None,
                offset=self._prefix + offset if offset else None,
                chunk_size=LIST_PAGE_LENGTH,
            )
        first = True
        while True:
            # An empty first page is a request, too; an empty further one is none.
            with self._request(prefix, RequestCounts(n_list=int(first))):
                page = next(pages, None)
            if page is None:
                return
            if not first:
                self._count(RequestCounts(n_list=1))
            first = False
            for meta in page:
                info = self._info(meta)
                if info.key.startswith(prefix):
                    yield info
                elif self._scheme == "s3" and info.key > prefix:
                    # S3 lists in the order of the keys: what begins with the prefix is over.
                    return

    def head(self, key: str) -> ObjectInfo:
        """Return the object's facts without its bytes."""
        path = self._path(key)
        with self._request(key, RequestCounts(n_head=1)):
            return self._info(obstore.head(self._backend, path))

    def exists(self, key: str) -> bool:
        """Return whether there is such an object, for one HEAD."""
        try:
            self.head(key)
        except MissingObjectError:
            return False
        return True

    def delete(self, key: str) -> None:
        """Delete the object; no error if there is none."""
        path = self._path(key)
        try:
            with self._request(key, RequestCounts(n_delete=1)):
                obstore.delete(self._backend, path)
        except MissingObjectError:
            return

    def local_path(self, key: str) -> Path | None:
        """Return where the object lies in the file system, None for a remote one."""
        return Path(self.url, key) if self._scheme == "file" else None

    def _get(self, key: str, options: GetOptions) -> tuple[memoryview, ObjectInfo]:
        path = self._path(key)
        with self._request(key, RequestCounts(n_get=1)):
            found = map_file(path, options) if self._scheme == "file" else None
            if found is None:
                result = obstore.get(self._backend, path, options=options)
                # No copy: it would stop a worker's other threads.
                found = memoryview(result.bytes()), result.meta
        data, meta = found
        self._count(RequestCounts(nbytes_read=len(data)))
        return data, self._info(meta)

    def _path(self, key: str) -> str:
        """Return the backend's path of `key`; a key that obstore would bend is refused."""
        if _BENT_KEY.search(key):
            raise StorageError(
                join_url(self.url, key),
                f"{key!r} cannot be a key: the parts between '/' must not be empty, '.' or '..', "
                "nor hold control characters. Correct or rename it",
            )
        return self._prefix + key

    def _info(self, meta: ObjectMeta) -> ObjectInfo:
        etag = meta["e_tag"]
        return ObjectInfo(
            key=meta["path"].removeprefix(self._prefix),
            nbytes=meta["size"],
            etag=etag.strip('"') if etag and etag[:2] != "W/" else etag,
            modified=meta["last_modified"],
        )

    def _count(self, counts: RequestCounts) -> None:
        with self._lock:
            self.counts += counts
        tell(counts)

    @contextmanager
    def _request(self, key: str, counts: RequestCounts) -> Iterator[None]:
        url = join_url(self.url, key)
        check_not_forked(url)
        self._count(counts)
        try:
            yield
        except (obstore_exceptions.BaseError, OSError, ValueError) as error:
            raise storage_error(error, url) from error
