"""Every error of obstore becomes one of hstmap's, with one line that says what to do."""

from __future__ import annotations

import pytest
from obstore import exceptions as obstore_exceptions

from hstmap.errors import ForbiddenObjectError, MissingObjectError, StorageError
from hstmap.storage_errors import (
    EmptyRangeError,
    ObjectChangedError,
    ObjectExistsError,
    storage_error,
)

E = obstore_exceptions

# Texts as obstore 0.12.1 gives them, the dump at their end shortened.
DUMP = '\n\nDebug source:\nGeneric {\n    store: "S3",\n}'
GET = "Error performing GET http://host/bucket/key in 2ms"
STATUS = f"{GET} - Server returned non-2xx status code:"

TABLE = [
    (
        FileNotFoundError(
            "Object at location /d/x not found: No such file or directory (os error 2)"
        ),
        MissingObjectError,
        "check the name",
    ),
    (
        FileNotFoundError(
            f"Object at location x not found: {STATUS} 404 Not Found: <Code>NoSuchKey"
        ),
        MissingObjectError,
        "no such object",
    ),
    (
        FileNotFoundError(
            f"Object at location x not found: {STATUS} 404: <Code>NoSuchBucket</Code>"
        ),
        MissingObjectError,
        "no such bucket",
    ),
    (
        E.GenericError(f"Generic S3 error: {STATUS} 404 Not Found: <Code>NoSuchBucket</Code>"),
        MissingObjectError,
        "no such bucket",
    ),
    (
        FileNotFoundError("Object at location /d not found: is directory"),
        StorageError,
        "is a folder",
    ),
    (
        E.PermissionDeniedError(f"... for path x: {STATUS} 403 Forbidden: "),
        ForbiddenObjectError,
        "403",
    ),
    (
        E.PermissionDeniedError(f"{STATUS} 403 Forbidden: <Code>ExpiredToken</Code>"),
        ForbiddenObjectError,
        "have expired",
    ),
    (
        E.GenericError(f"{STATUS} 400 Bad Request: <Code>ExpiredToken</Code>"),
        ForbiddenObjectError,
        "have expired",
    ),
    (
        E.PermissionDeniedError(f"{STATUS} 403 Forbidden: <Code>InvalidAccessKeyId</Code>"),
        ForbiddenObjectError,
        "AWS_ACCESS_KEY_ID",
    ),
    (
        E.PermissionDeniedError(f"{STATUS} 403 Forbidden: <Code>SignatureDoesNotMatch</Code>"),
        ForbiddenObjectError,
        "AWS_PROFILE",
    ),
    (E.UnauthenticatedError(f"{STATUS} 401 Unauthorized: "), ForbiddenObjectError, "401"),
    (
        E.GenericError(
            "Error performing PUT http://169.254.169.254/latest/api/token in 3s - HTTP error"
        ),
        ForbiddenObjectError,
        "no AWS credentials were found",
    ),
    (
        E.GenericError("Unable to open file /d/x: Permission denied (os error 13)"),
        ForbiddenObjectError,
        "owner and mode",
    ),
    (
        E.GenericError("Unable to open file /d/x#1: Read-only file system (os error 30)"),
        ForbiddenObjectError,
        "no permission",
    ),
    (PermissionError(13, "Permission denied (os error 13)"), ForbiddenObjectError, "no permission"),
    (E.AlreadyExistsError("Object at location x already exists"), ObjectExistsError, "already"),
    (
        E.PreconditionError(f"{STATUS} 412 Precondition Failed: "),
        ObjectChangedError,
        "was replaced",
    ),
    (
        E.GenericError("Generic LocalFileSystem error: Requested range was invalid"),
        EmptyRangeError,
        "past the end",
    ),
    (
        E.GenericError("Generic InMemory error: Invalid range: Wanted range starting at 0, but"),
        EmptyRangeError,
        "past the end",
    ),
    (E.GenericError(f"{STATUS} 416 Range Not Satisfiable: "), EmptyRangeError, "past the end"),
    (
        E.GenericError(f"{GET} - Received redirect without LOCATION, this normally indicates"),
        StorageError,
        "AWS_REGION",
    ),
    (
        E.GenericError("Generic S3 error: Got invalid list response: unexpected `Event::Eof`"),
        StorageError,
        "no S3 server",
    ),
    (
        E.GenericError(f"{STATUS} 400 Bad Request: <!DOCTYPE html>"),
        StorageError,
        "AWS_ENDPOINT_URL",
    ),
    (
        E.GenericError("Unable to rename file: Is a directory (os error 21)"),
        StorageError,
        "is a folder",
    ),
    (
        E.GenericError("Unable to open file /d/x/y: Not a directory (os error 20)"),
        StorageError,
        "a part of the path is a file",
    ),
    (
        E.GenericError("Unable to copy data to file: No space left on device (os error 28)"),
        StorageError,
        "no space is left",
    ),
    (
        E.GenericError("Filenames containing trailing '/#\\d+/' are not supported: x#1"),
        StorageError,
        "rename it",
    ),
    (E.InvalidPathError("Encountered object with invalid path: x//y"), StorageError, "rename it"),
    (ValueError('Could not parse path: Error parsing Path "a"'), StorageError, "rename it"),
    (
        E.GenericError("Unable to open file: File name too long (os error 36)"),
        StorageError,
        "too long",
    ),
    (
        E.GenericError(
            f"{GET}, after 8 retries, max_retries: 8 - ... code: 503 Service Unavailable"
        ),
        StorageError,
        "kept failing",
    ),
    (E.GenericError(f"{GET} - HTTP error: error sending request"), StorageError, "network"),
    (E.GenericError("something unheard of"), StorageError, "otherwise than it was asked"),
    (E.GenericError(""), StorageError, "otherwise than it was asked"),
]


@pytest.mark.parametrize(("error", "expected", "words"), TABLE)
def test_each_error_has_its_meaning(
    error: Exception, expected: type[StorageError], words: str
) -> None:
    error = type(error)(str(error) + DUMP)
    mapped = storage_error(error, "s3://bucket/key")
    assert type(mapped) is expected
    assert words in mapped.message
    assert mapped.key == "s3://bucket/key"
    assert str(mapped).startswith("s3://bucket/key: ")
    assert "\n" not in str(mapped)
    assert "Debug source" not in str(mapped)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_error_of_obstore_is_unknown() -> None:
    names = [name for name in dir(E) if name.endswith("Error")]
    assert len(names) >= 10
    for name in names:
        assert isinstance(storage_error(getattr(E, name)("words"), "key"), StorageError)


def test_a_long_story_is_cut() -> None:
    assert len(str(storage_error(E.GenericError("x" * 5000), "key"))) < 500
