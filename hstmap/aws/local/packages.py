"""Zip packages of functions and layers, unpacked once by what they contain."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import secrets
import shutil
import stat
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hstmap.aws.local.api_error import ApiError, invalid_parameter

__all__ = ["MAX_UNZIPPED_NBYTES", "MAX_ZIPPED_NBYTES", "PackageStore", "Zip"]

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MAX_ZIPPED_NBYTES = 50 << 20
MAX_UNZIPPED_NBYTES = 250 << 20


@dataclass(frozen=True)
class Zip:
    """A zip archive as it was uploaded."""

    data: bytes

    @property
    def sha256_base64(self) -> str:
        """The digest in the form in which AWS shows it."""
        return base64.b64encode(hashlib.sha256(self.data).digest()).decode()

    @property
    def sha256_hex(self) -> str:
        """The digest in the form in which it names files."""
        return hashlib.sha256(self.data).hexdigest()


class PackageStore:
    """Unpacked packages in a folder, each under a name made of its contents.

    Parameters
    ----------
    folder : Path
        Where they are kept; made where missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, package: Zip) -> Path:
        """Write the archive itself, for clients that fetch a function's code again."""
        path = self.archive_path(package.sha256_hex)
        if not path.exists():
            path.write_bytes(package.data)
        return path

    def archive_path(self, sha256_hex: str) -> Path:
        """Return where the archive of this digest is, if it was kept."""
        return self._folder / f"{sha256_hex}.zip"

    def unpack(self, packages: Sequence[Zip]) -> Path:
        """Unpack archives over each other, in order, as layers are.

        Parameters
        ----------
        packages : sequence of Zip
            None at all makes an empty folder.

        Returns
        -------
        Path
            The folder; the same one for the same contents.

        Raises
        ------
        ApiError
            Where the data is no zip archive, or a member would leave the folder.
        """
        digest = hashlib.sha256("".join(p.sha256_hex for p in packages).encode()).hexdigest()
        target = self._folder / digest[:32]
        if target.is_dir():
            return target
        scratch = self._folder / f".{secrets.token_hex(8)}"
        scratch.mkdir()
        try:
            for package in packages:
                _extract(package.data, scratch)
            scratch.rename(target)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        return target


def _extract(data: bytes, folder: Path) -> None:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except zipfile.BadZipFile:
        raise invalid_parameter(
            "Could not unzip uploaded file. Please check your file, then try to upload again."
        ) from None
    with archive:
        for member in archive.infolist():
            mode = member.external_attr >> 16
            if stat.S_ISLNK(mode):
                _link(folder, member.filename, archive.read(member).decode())
                continue
            path = Path(archive.extract(member, folder))
            default = 0o755 if member.is_dir() else 0o644
            path.chmod(mode & 0o777 or default)


def _link(folder: Path, name: str, target: str) -> None:
    path = folder / name
    if not Path(os.path.normpath(path.parent / target)).is_relative_to(folder):
        raise invalid_parameter(f"The package's link {name} leads out of the package: {target}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def folder_nbytes(folder: Path) -> int:
    """Return the size of all regular files under a folder, in bytes."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            info = (Path(parent) / name).lstat()
            if stat.S_ISREG(info.st_mode):
                total += info.st_size
    return total


def refuse_too_large(folders: Sequence[Path]) -> None:
    """Refuse a package that, with its layers, is over Lambda's limit when it is unpacked.

    Raises
    ------
    ApiError
        As AWS words it, with both sizes.
    """
    nbytes = sum(folder_nbytes(folder) for folder in folders)
    if nbytes > MAX_UNZIPPED_NBYTES:
        raise ApiError(
            400,
            "InvalidParameterValueException",
            "Function code combined with layers exceeds the maximum allowed size of "
            f"{MAX_UNZIPPED_NBYTES} bytes. The actual size is {nbytes} bytes.",
        )
