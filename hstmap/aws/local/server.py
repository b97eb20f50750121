"""The Lambda API over HTTP, as far as a deployment and a map-reduce use it.

Requests and answers have the shapes of AWS's service model of 2015-03-31, which botocore
brings; the tests hold every answer against it.
"""

from __future__ import annotations

import base64
import json
import socket
import uuid

from aiohttp import web

from hstmap.aws.local.api_error import ApiError, invalid_parameter, too_many_requests
from hstmap.aws.local.backend import Backend
from hstmap.aws.local.environments import Invocation
from hstmap.aws.local.function_routes import FunctionRoutes
from hstmap.aws.local.functions import Function
from hstmap.aws.local.invoker import Outcome
from hstmap.aws.local.layer_routes import LayerRoutes
from hstmap.aws.local.wire import RequestRecord, region_of, request_middleware

__all__ = ["LambdaServer"]

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MAX_PAYLOAD_NBYTES = {"RequestResponse": 6 << 20, "Event": 1 << 20, "DryRun": 6 << 20}
MAX_REQUEST_NBYTES = 70167211


class LambdaServer:
    """The Lambda API on a port of 127.0.0.1.

    Parameters
    ----------
    listener : socket.socket
        The bound socket.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._runner: web.AppRunner | None = None
        self.request_log: list[RequestRecord] = []

    async def start(self, backend: Backend) -> None:
        """Serve.

        Parameters
        ----------
        backend : Backend
            What the routes work with.
        """
        application = web.Application(
            client_max_size=MAX_REQUEST_NBYTES,
            middlewares=[request_middleware(self.request_log.append)],
        )
        application.add_routes(
            [
                *FunctionRoutes(backend).routes(),
                *LayerRoutes(backend).routes(),
                *InvokeRoutes(backend).routes(),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.SockSite(self._runner, self._listener).start()

    async def stop(self) -> None:
        """Stop serving; who waits for an answer is cut off."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._listener.close()


class InvokeRoutes:
    """Invoke functions, synchronously, asynchronously, or not at all."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, each under its operation's name."""
        path = "/2015-03-31/functions/{name}/invocations"
        return [web.post(path, self._invoke, name="Invoke")]

    async def _invoke(self, request: web.Request) -> web.Response:
        backend = self._backend
        function = backend.registry.get(region_of(request), request.match_info["name"])
        kind = request.headers.get("X-Amz-Invocation-Type", "RequestResponse")
        payload = await request.read() or b"{}"
        _refuse_payload(kind, payload)
        if request.query.get("Qualifier", "$LATEST") != "$LATEST":
            raise ApiError(
                404, "ResourceNotFoundException", "The loopback AWS has the version $LATEST only"
            )
        invocation = Invocation(str(uuid.uuid4()), payload, _client_context(request))
        if kind == "DryRun":
            return web.Response(status=204)
        if backend.faults.fire("throttle", function.name, invocation.request_id) is not None:
            raise too_many_requests("ConcurrentInvocationLimitExceeded")
        headers = {"x-amzn-RequestId": invocation.request_id}
        if kind == "Event":
            backend.events.put(function, invocation)
            return web.Response(status=202, headers=headers)
        outcome = await self._run(function, invocation)
        headers["X-Amz-Executed-Version"] = "$LATEST"
        if outcome.is_error:
            headers["X-Amz-Function-Error"] = "Unhandled"
        if request.headers.get("X-Amz-Log-Type") == "Tail":
            headers["X-Amz-Log-Result"] = base64.b64encode(outcome.log_tail).decode()
        return web.Response(body=outcome.payload, headers=headers, content_type="application/json")

    async def _run(self, function: Function, invocation: Invocation) -> Outcome:
        self._backend.concurrency.take(function)
        try:
            return await self._backend.invoker.run(function, invocation)
        finally:
            self._backend.concurrency.give_back(function)
            self._backend.events.kick()


def _refuse_payload(kind: str, payload: bytes) -> None:
    limit = MAX_PAYLOAD_NBYTES.get(kind)
    if limit is None:
        raise invalid_parameter(f"{kind} is no invocation type")
    if len(payload) > limit:
        raise ApiError(
            413,
            "RequestTooLargeException",
            f"{len(payload)} byte payload is too large for the {kind} invocation type "
            f"(limit {limit} bytes)",
        )
    try:
        json.loads(payload)
    except ValueError as error:
        raise ApiError(
            400,
            "InvalidRequestContentException",
            f"Could not parse request body into json: {error}",
        ) from None


def _client_context(request: web.Request) -> str | None:
    encoded = request.headers.get("X-Amz-Client-Context")
    return None if encoded is None else base64.b64decode(encoded).decode()
