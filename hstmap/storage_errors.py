"""What a store's errors mean, and what to do about each: obstore's errors become hstmap's."""

from __future__ import annotations

import re
from dataclasses import dataclass

from obstore import exceptions as obstore_exceptions

from hstmap.errors import ForbiddenObjectError, MissingObjectError, StorageError

__all__ = ["EmptyRangeError", "ObjectChangedError", "ObjectExistsError", "storage_error"]


class EmptyRangeError(StorageError):
    """A range that begins at or past the object's end, as any range of an empty object does."""


class ObjectChangedError(StorageError):
    """The object is no longer the version that was asked for."""


class ObjectExistsError(StorageError):
    """A conditional write found an object there."""


@dataclass(frozen=True)
class _Rule:
    """An error of type `cause` whose text holds `pattern` becomes `result` with `message`."""

    cause: type[Exception]
    pattern: str
    result: type[StorageError]
    message: str


_E = obstore_exceptions

# The first rule that fits is used. Operating systems' error numbers: 1 EPERM, 13 EACCES,
# 17 EEXIST, 20 ENOTDIR, 21 EISDIR, 28 ENOSPC, 30 EROFS, 36/63 ENAMETOOLONG, 122 EDQUOT.
_RULES = (
    _Rule(
        FileNotFoundError,
        r"is directory",
        StorageError,
        "is a folder where a file is needed: name a file in it",
    ),
    _Rule(
        Exception,
        r"NoSuchBucket",
        MissingObjectError,
        "there is no such bucket: check its name, and make it first if it is to be written",
    ),
    _Rule(
        FileNotFoundError,
        r"",
        MissingObjectError,
        "there is no such object: check the name",
    ),
    _Rule(
        Exception,
        r"ExpiredToken",
        ForbiddenObjectError,
        "the AWS credentials have expired: renew them and run again",
    ),
    _Rule(
        Exception,
        r"InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken",
        ForbiddenObjectError,
        "the AWS credentials are not valid: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
        "or the profile that AWS_PROFILE names",
    ),
    _Rule(
        Exception,
        # The metadata service of EC2 and of containers is the last resort for credentials.
        r"169\.254\.\d+\.\d+|/latest/(api/token|meta-data)|[Cc]redential provider",
        ForbiddenObjectError,
        "no AWS credentials were found: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY; public buckets need none (unsigned requests)",
    ),
    _Rule(
        Exception,
        r"\(os error (1|13|30)\)",
        ForbiddenObjectError,
        "no permission: check the owner and mode of the file and of the folders above it",
    ),
    _Rule(
        _E.PermissionDeniedError,
        r"",
        ForbiddenObjectError,
        "access denied (403): these credentials may not do this, or the object is not there and "
        "they may not list the bucket; check the name and the policy",
    ),
    _Rule(
        _E.UnauthenticatedError,
        r"",
        ForbiddenObjectError,
        "not authenticated (401): check the AWS credentials",
    ),
    _Rule(
        _E.AlreadyExistsError,
        r"",
        ObjectExistsError,
        "is there already",
    ),
    _Rule(
        _E.PreconditionError,
        r"",
        ObjectChangedError,
        "was replaced while it was being read: read it again",
    ),
    _Rule(
        Exception,
        r"[Rr]equested range was invalid|Invalid range|416 Range Not Satisfiable",
        EmptyRangeError,
        "the range begins at or past the end of the object: ask for bytes that it has",
    ),
    _Rule(
        Exception,
        r"Received redirect without LOCATION|PermanentRedirect|AuthorizationHeaderMalformed",
        StorageError,
        "the bucket is in another region: set AWS_REGION to its own",
    ),
    _Rule(
        Exception,
        r"\(os error 20\)",
        StorageError,
        "a part of the path is a file where a folder is needed: check the path",
    ),
    _Rule(
        Exception,
        r"\(os error 21\)",
        StorageError,
        "is a folder where a file is needed: name a file in it",
    ),
    _Rule(
        Exception,
        r"\(os error (28|122)\)",
        StorageError,
        "no space is left there: free some, or write elsewhere",
    ),
    _Rule(
        Exception,
        r"parse path|invalid path|Filenames containing|\(os error (36|63)\)",
        StorageError,
        "is not a name that the store takes (too long, an end like '#1', empty parts): rename it",
    ),
    _Rule(
        Exception,
        r"invalid list response|(?i:<!doctype html|<html)",
        StorageError,
        "what answered is no S3 server: check AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, and what "
        "stands between (HTTPS_PROXY, a network that wants a login)",
    ),
    _Rule(
        Exception,
        r"HTTP error|after \d+ retries|50\d |timed out",
        StorageError,
        "the store could not be reached or kept failing: check the network and the endpoint, "
        "then run again",
    ),
    _Rule(
        Exception,
        r"",
        StorageError,
        "the store answered otherwise than it was asked",
    ),
)


def storage_error(error: Exception, url: str) -> StorageError:
    """Return hstmap's error for one of obstore's.

    Parameters
    ----------
    error : Exception
        What obstore raised.
    url : str
        What was asked for.

    Returns
    -------
    StorageError
        Of the kind that fits, with one line that says what to do; its end, in parentheses, is
        what the store itself said.
    """
    text = str(error)
    for rule in _RULES:
        if isinstance(error, rule.cause) and re.search(rule.pattern, text):
            said = _first_line(text)
            return rule.result(url, f"{rule.message} ({said})" if said else rule.message)
    raise AssertionError("the last rule fits every error")


def _first_line(text: str) -> str:
    """Return the store's own words, without the dump of obstore's structures that follows them."""
    lines = text.partition("Debug source:")[0].strip().splitlines() or [""]
    words = lines[0].strip().rstrip(":")
    return words if len(words) <= 300 else words[:300] + "..."
