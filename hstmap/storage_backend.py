"""Where stores lie and how they are reached: URLs, credentials, regions, retries."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from obstore.store import LocalStore, MemoryStore, S3Store

from hstmap.errors import StorageError, UsageError

if TYPE_CHECKING:
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import S3Config

__all__ = [
    "MULTIPART_NBYTES",
    "PART_NBYTES",
    "StorageOptions",
    "check_not_forked",
    "check_takes_files",
    "join_url",
    "just_before",
    "n_put_requests",
    "open_backend",
    "parse_url",
    "split_url",
]

PUBLIC_BUCKET_REGIONS = {"stpubdata": "us-east-1"}
"""Buckets that answer unsigned requests (Registry of Open Data on AWS, ``mast-hst``)."""

MULTIPART_NBYTES = 64 * 1024 * 1024
"""Objects beyond this travel in parts of `PART_NBYTES`: a lost connection then costs one part."""

PART_NBYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class StorageOptions:
    """How to reach S3; all of it has a sensible default.

    Parameters
    ----------
    unsigned : bool or None
        Send requests without credentials. None: for buckets that are known to be public.
    region : str or None
        The bucket's region. None: see the module's docstring.
    endpoint_url : str or None
        Another S3 server, such as ``http://127.0.0.1:9000``. None: see the module's docstring.
    max_retries : int
        How often a request is repeated that met a 5xx or 429 answer or a dropped connection.
        The waits between grow from 0.1 s to 10 s, with jitter: together at most 23 s by default.
    retry_timeout_s : float
        No repeat starts later than this after the first try.
    stall_timeout_s : float
        A connection that brings no byte for so long is given up (and the request repeated).
    """

    unsigned: bool | None = None
    region: str | None = None
    endpoint_url: str | None = None
    max_retries: int = 8
    retry_timeout_s: float = 60.0
    stall_timeout_s: float = 20.0


def split_url(url: str) -> tuple[str, str]:
    """Split an object's URL or path into its store's URL and its key there.

    Returns
    -------
    tuple of str
        ``("s3://bucket", "a/b_flt.fits")`` or ``("/absolute/folder", "b_flt.fits")``.

    Raises
    ------
    UsageError
        If the scheme is not one that hstmap can read.
    """
    scheme, bucket, path = parse_url(url)
    if scheme == "file":
        folder, _, name = path.rpartition("/")
        return folder or "/", name
    return f"{scheme}://{bucket}", path


def join_url(url: str, key: str) -> str:
    """Return the URL of the object `key` of the store at `url`."""
    return f"{url.rstrip('/')}/{key}"


def parse_url(url: str) -> tuple[str, str, str]:
    """Return scheme ("file", "s3" or "memory"), bucket, and path; of a file the absolute path."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "file", "", _absolute(Path(url).expanduser())
    if scheme == "file":
        return "file", "", _absolute(Path("/", unquote(rest.partition("/")[2])))
    bucket, _, path = rest.partition("/")
    if scheme not in ("s3", "memory") or not bucket:
        raise UsageError(
            f"cannot read from {url!r}: give a local path, file:///folder, or s3://bucket/prefix"
        )
    return scheme, bucket, path


def _absolute(path: Path) -> str:
    path = path.absolute()
    # Only '..' needs resolving; a name that is a symbolic link is kept as the user gave it.
    return str(path.resolve() if ".." in path.parts else path)


_memory_backends: dict[str, MemoryStore] = {}


def open_backend(
    scheme: str, bucket: str, options: StorageOptions
) -> LocalStore | MemoryStore | S3Store:
    """Return obstore's store for one location, configured as the module's docstring says."""
    if scheme == "file":
        # Rooted at "/", because a store with a root of its own insists that it be there already.
        return LocalStore()
    if scheme == "memory":
        return _memory_backends.setdefault(bucket, MemoryStore())
    endpoint_url = (
        options.endpoint_url
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
    )
    public_region = PUBLIC_BUCKET_REGIONS.get(bucket)
    unsigned = public_region is not None if options.unsigned is None else options.unsigned
    provider = None if unsigned else _profile_credentials()
    region = (
        options.region
        or public_region
        or os.environ.get("AWS_REGION")
        or os.environ.get("AWS_DEFAULT_REGION")
        or (provider.config.get("region") if provider else None)
        or "us-east-1"
    )
    config: S3Config = {"region": region}
    if unsigned:
        config["skip_signature"] = True
    if endpoint_url:
        config["aws_endpoint_url_s3"] = endpoint_url
    return S3Store(
        bucket,
        config=config,
        client_options={
            "allow_http": bool(endpoint_url and endpoint_url.startswith("http://")),
            # The time of a whole answer depends on the line; a stall is what shows a dead one.
            "timeout": "1h",
            "read_timeout": timedelta(seconds=options.stall_timeout_s),
        },
        retry_config={
            "max_retries": options.max_retries,
            "retry_timeout": timedelta(seconds=options.retry_timeout_s),
            "backoff": {
                "init_backoff": timedelta(seconds=0.1),
                "max_backoff": timedelta(seconds=10),
                "base": 2,
            },
        },
        credential_provider=provider,
    )


def _profile_credentials() -> Boto3CredentialProvider | None:
    """Return the credentials of an ``~/.aws`` profile, where the environment has none."""
    if any(os.environ.get(name) for name in _CREDENTIAL_VARIABLES):
        return None
    files = (
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"),
    )
    if not any(Path(name).expanduser().is_file() for name in files):
        return None
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return Boto3CredentialProvider()
    except BotoCoreError as error:
        raise UsageError(
            f"AWS credentials: {error}. Set AWS_PROFILE or run aws configure"
        ) from error
    except ValueError:
        # The profile holds settings but no credentials: the machine's role may have some.
        return None


_CREDENTIAL_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


def check_takes_files(path: Path) -> None:
    """Refuse a local place where writing would not end, or would do away with a device.

    Parameters
    ----------
    path : Path
        Of the file that is to be written.

    Raises
    ------
    StorageError
    """
    folder = os.path.realpath(path.parent)
    # obstore makes the folder and tries again for as long as it is told that there is no such file.
    if folder == "/proc" or folder.startswith("/proc/"):
        raise StorageError(
            str(path), "is below /proc, where no files can be made: name a place on a disk"
        )
    # A file is written beside its place and then takes it, whatever is there.
    mode = stat.S_IFREG
    with suppress(OSError):
        mode = path.stat().st_mode
    if folder == "/dev" or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise StorageError(str(path), "is a device or a pipe: name a file")


_first_pid: int | None = None


def check_not_forked(url: str) -> None:
    """Refuse to work in a fork of a process that has used a store: it would wait for ever.

    obstore's threads do not survive a fork, and a request in the child has nobody to run it.
    """
    global _first_pid  # noqa: PLW0603 - one runtime per process, as obstore has
    pid = os.getpid()
    if _first_pid is None:
        _first_pid = pid
    elif _first_pid != pid:
        raise StorageError(
            url,
            f"process {pid} was forked from {_first_pid}, which had used a store before: start "
            "workers by spawn or forkserver, or use no store in the parent before it forks",
        )


def n_put_requests(nbytes: int, in_parts: bool) -> int:
    """Count the requests of a write: begin, parts and end, or a single one."""
    return 2 + -(-nbytes // PART_NBYTES) if in_parts else 1


def just_before(prefix: str) -> str:
    """Return a string that sorts before `prefix`, with hardly a key between: S3 lists after it."""
    stem, last = prefix[:-1], prefix[-1]
    # '/' precedes '0', and hardly a character that a key can hold precedes either.
    return stem if last in " !0" else stem + chr(ord(last) - 1) + "~"
