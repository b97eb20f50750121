"""A copy that grows under another name until it is whole."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["DamagedCopyError", "PartFile", "Version"]

_MD5 = re.compile("[0-9a-f]{32}")


class DamagedCopyError(Exception):
    """What came is not what was announced."""


@dataclass(frozen=True)
class Version:
    """Which version of an object a file is a copy of.

    Parameters
    ----------
    url : str
        Where the object lies.
    nbytes : int
        Its size.
    etag : str or None
        Its ETag. Of an object that was uploaded in one part S3 gives the MD5 in hex.
    """

    url: str
    nbytes: int
    etag: str | None

    @property
    def md5(self) -> str | None:
        """The MD5 of the object's bytes, if the ETag tells it."""
        return self.etag if self.etag and _MD5.fullmatch(self.etag) else None


class PartFile:
    """The beginning of a copy, in ``<name>.part``, beside which ``<name>.part.json`` says of what.

    Its length is how far the copy is, so that another process can go on with it.

    Parameters
    ----------
    path : pathlib.Path
        The final name; nothing is there before the copy is whole and verified.

    Attributes
    ----------
    version : Version or None
        What it is a copy of; None before `start` or a `resume` that found something.
    nbytes : int
        How much is here.
    n_stretches : int
        In how many goes it was written, an earlier process' counted as one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version: Version | None = None
        self.nbytes = 0
        self.n_stretches = 0
        self._part = path.with_name(path.name + ".part")
        self._note = path.with_name(path.name + ".part.json")

    def resume(self, url: str) -> None:
        """Take up what an earlier transfer of this object left; delete anything else there."""
        try:
            version = Version(**json.loads(self._note.read_text()))
            nbytes = self._part.stat().st_size
        except (OSError, ValueError, TypeError):
            self.discard()
            return
        if version.url != url or nbytes > version.nbytes:
            self.discard()
            return
        self.version, self.nbytes, self.n_stretches = version, nbytes, 1

    def start(self, version: Version) -> None:
        """Begin a copy of a version."""
        self.discard()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._part.write_bytes(b"")
        self._note.write_text(json.dumps(asdict(version)))
        self.version = version

    @contextmanager
    def stretch(self) -> Iterator[Callable[[bytes | memoryview], None]]:
        """Yield what writes the next bytes; what was written stays if it ends in an exception."""
        self.n_stretches += 1
        with self._part.open("ab") as file:

            def write(data: bytes | memoryview) -> None:
                file.write(data)
                self.nbytes += len(data)

            yield write

    def finish(self, check_md5: bool) -> None:
        """Verify the copy and give it its final name.

        Parameters
        ----------
        check_md5 : bool
            Read it again and compare its MD5 with the version's, if the ETag tells that.

        Raises
        ------
        DamagedCopyError
            If size or MD5 are not those of the version; nothing is left then.
        """
        version = self.version
        found = self._part.stat().st_size
        wrong = ""
        if version is None or found != version.nbytes:
            wrong = f"{found} bytes came, {version and version.nbytes} were announced"
        elif check_md5 and version.md5:
            with self._part.open("rb") as file:
                md5 = hashlib.file_digest(file, _md5).hexdigest()
            if md5 != version.md5:
                wrong = f"bytes of MD5 {md5} came, {version.md5} was announced"
        if wrong:
            self.discard()
            raise DamagedCopyError(wrong)
        self._part.replace(self.path)
        self._note.unlink()

    def discard(self) -> None:
        """Delete what there is of the copy."""
        self._part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        self.version, self.nbytes, self.n_stretches = None, 0, 0


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)
