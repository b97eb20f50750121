"""The S3 server's own log of requests, which counts are held against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from hstmap.aws.local.services import ServiceRequest

__all__ = ["S3Request", "charged", "s3_requests"]

Kind = Literal["get", "put", "list", "head", "delete"]

_S3: Final = frozenset({"s3", "unsigned"})  # no other service takes unsigned requests
_KINDS: Final[dict[str, Kind]] = {
    "GET": "get", "HEAD": "head", "PUT": "put", "POST": "put", "DELETE": "delete",
}  # fmt: skip
_ITS_OWN_ERRORS: Final = 500


@dataclass(frozen=True)
class S3Request:
    """One request to S3.

    Parameters
    ----------
    kind : {'get', 'put', 'list', 'head', 'delete'}
        What it is charged as: PUT, COPY and POST are one, HEAD as GET; a listing is a GET of a
        bucket; a POST that deletes is free, like DELETE.
    bucket, key : str
        What it was for; a bucket's own requests have no key.
    status : int
        Of HTTP. S3 charges nothing for its own errors, 500 and more.
    """

    kind: Kind
    bucket: str
    key: str
    status: int


def s3_requests(log: Iterable[ServiceRequest]) -> list[S3Request]:
    """Pick what went to S3 out of the log of all services.

    Parameters
    ----------
    log : iterable of ServiceRequest
        With buckets in paths, as clients write the requests to a server on a loopback address.

    Returns
    -------
    list of S3Request
    """
    return [_read(item) for item in log if item.service in _S3]


def charged(answers: Mapping[tuple[str, int], int]) -> Counter[str]:
    """Count requests as S3 charges them.

    Parameters
    ----------
    answers : mapping
        Their number by kind, or HTTP method, and HTTP status.

    Returns
    -------
    Counter
        By ``get`` (HEAD is one), ``put``, ``list`` and ``delete``, which is free.
    """
    counts: Counter[str] = Counter()
    for (method, status), n in answers.items():
        kind = _KINDS.get(method.upper(), method.lower())
        if status < _ITS_OWN_ERRORS:
            counts["get" if kind == "head" else kind] += n
    return counts


def _read(request: ServiceRequest) -> S3Request:
    url = urlsplit(request.path)
    bucket, _, key = unquote(url.path).removeprefix("/").partition("/")
    query = parse_qs(url.query, keep_blank_values=True)
    kind = _KINDS[request.method]
    if kind == "get" and not key:
        kind = "list"
    if request.method == "POST" and "delete" in query:
        kind = "delete"
    return S3Request(kind, bucket, key, request.status)
