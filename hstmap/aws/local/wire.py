"""What all routes of the Lambda API share: who asks, pages of lists, errors as answers."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.typedefs import Middleware

from hstmap.aws.local.api_error import ApiError, invalid_parameter

__all__ = ["RequestRecord", "body_of", "page", "region_of", "request_middleware"]

_PAGE = 50
_Item = TypeVar("_Item")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class RequestRecord:
    """One request to the Lambda API, as the request log keeps it.

    Parameters
    ----------
    time_s : float
        When it was answered, in Unix seconds.
    operation : str
        As AWS's service model names it, such as ``Invoke``; empty where there is none.
    resource : str
        The function's, layer's or tagged resource's name.
    status : int
        The HTTP status.
    error : str
        The name of the exception, or nothing.
    request_id : str
        The request's id; an invocation's too.
    """

    time_s: float
    operation: str
    resource: str
    status: int
    error: str
    request_id: str


def region_of(request: web.Request) -> str:
    """Return the region that a request was signed for.

    Raises
    ------
    ApiError
        403 where it is not signed. The signature itself is not looked at.
    """
    # AWS4-HMAC-SHA256 Credential=<key>/<date>/<region>/lambda/aws4_request, ...
    authorization = request.headers.get("Authorization", "")
    scope = authorization.partition("Credential=")[2].split(",")[0].split("/")
    if not authorization.startswith("AWS4-HMAC-SHA256 ") or len(scope) != 5:
        raise ApiError(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
    return scope[2]


async def body_of(request: web.Request) -> dict[str, Any]:
    """Return a request's JSON object."""
    text = await request.text()
    try:
        body = json.loads(text or "{}")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ApiError(400, "InvalidRequestContentException", "Could not parse request body")
    return body


def page(request: web.Request, items: Sequence[_Item]) -> tuple[Sequence[_Item], dict[str, str]]:
    """Return the items of the page that is asked for, and the marker of the next one.

    Parameters
    ----------
    request : aiohttp.web.Request
        With ``Marker`` and ``MaxItems`` in its query.
    items : sequence
        All items.

    Returns
    -------
    tuple
        The items, and ``{"NextMarker": ...}``, empty on the last page.
    """
    try:
        start = int(request.query.get("Marker", "0"))
        n_items = min(_PAGE, int(request.query.get("MaxItems", _PAGE)))
    except ValueError as error:
        raise invalid_parameter(f"Invalid marker or page size: {error}") from None
    end = start + n_items
    return items[start:end], {"NextMarker": str(end)} if end < len(items) else {}


def request_middleware(record: Callable[[RequestRecord], None]) -> Middleware:
    """Return the middleware that answers errors as AWS does, and records every request."""

    @web.middleware
    async def answer(request: web.Request, handler: _Handler) -> web.StreamResponse:
        error = ""
        try:
            if not request.path.startswith("/code/"):  # as with S3's own presigned URLs
                region_of(request)
            response = await handler(request)
        except ApiError as problem:
            error = problem.code
            response = web.json_response(
                problem.body, status=problem.status, headers={"x-amzn-ErrorType": error}
            )
        except web.HTTPException as problem:
            error = "UnknownOperationException"
            text = f"The loopback AWS does not do {request.method} {request.path}"
            response = web.json_response(
                {"Type": "User", "message": text},
                status=problem.status,
                headers={"x-amzn-ErrorType": error},
            )
        except OSError as problem:
            error = "ServiceException"
            response = web.json_response(
                {"Type": "Service", "message": f"The loopback AWS failed: {problem}"},
                status=500,
                headers={"x-amzn-ErrorType": error},
            )
        request_id = response.headers.setdefault("x-amzn-RequestId", str(uuid.uuid4()))
        record(
            RequestRecord(
                time_s=time.time(),
                operation=request.match_info.route.name or "",
                resource=request.match_info.get("name", ""),
                status=response.status,
                error=error,
                request_id=request_id,
            )
        )
        return response

    return answer
