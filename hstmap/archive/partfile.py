"""A copy that grows under another name until it is whole."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["DamagedCopyError", "PartFile", "Version"]

_MD5 = re.compile("[0-9a-f]{32}")
_READ_NBYTES = 1024 * 1024


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
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version: Version | None = None
        self.nbytes = 0
        self._part = path.with_name(path.name + ".part")
        self._note = path.with_name(path.name + ".part.json")
        self._hash = hashlib.md5(usedforsecurity=False)

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
        if version.md5:
            with self._part.open("rb") as file:
                while block := file.read(_READ_NBYTES):
                    self._hash.update(block)
        self.version, self.nbytes = version, nbytes

    def start(self, version: Version) -> None:
        """Begin a copy of a version."""
        self.discard()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._part.write_bytes(b"")
        self._note.write_text(json.dumps(asdict(version)))
        self.version = version

    def append(self, data: bytes | memoryview) -> None:
        """Add the next bytes."""
        with self._part.open("ab") as file:
            file.write(data)
        if self.version and self.version.md5:
            self._hash.update(data)
        self.nbytes += len(data)

    def finish(self) -> None:
        """Verify the copy and give it its final name.

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
        elif version.md5 and version.md5 != self._hash.hexdigest():
            wrong = f"bytes of MD5 {self._hash.hexdigest()} came, {version.md5} was announced"
        if wrong:
            self.discard()
            raise DamagedCopyError(wrong)
        self._part.replace(self.path)
        self._note.unlink()

    def discard(self) -> None:
        """Delete what there is of the copy."""
        self._part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        self._hash = hashlib.md5(usedforsecurity=False)
        self.version, self.nbytes = None, 0
