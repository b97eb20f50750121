"""The Runtime API: where a runtime asks for events and hands in answers.

One server for each environment, on a loopback port of its own, because a runtime says nothing
of itself. https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

__all__ = ["Answer", "RuntimeApi"]

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MAX_RESPONSE_NBYTES = 6 << 20
_PREFIX = "/2018-06-01/runtime"
_ERROR_TYPE_HEADER = "Lambda-Runtime-Function-Error-Type"


@dataclass(frozen=True)
class Answer:
    """What a runtime handed in for an event: JSON, and whether the handler raised."""

    payload: bytes
    is_error: bool


class RuntimeApi:
    """The Runtime API of one environment.

    Attributes
    ----------
    waiting : asyncio.Event
        Set while the runtime waits for an event: INIT is done, or the last answer is in.
    init_error : asyncio.Future
        Gets the body of an INIT error, should the runtime report one.
    """

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
        self.init_error: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.address = ""
        self._events: asyncio.Queue[tuple[bytes, dict[str, str]]] = asyncio.Queue()
        self._request_id: str | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free port of 127.0.0.1, which `address` then names."""
        application = web.Application(client_max_size=4 * MAX_RESPONSE_NBYTES)
        application.add_routes(
            [
                web.get(f"{_PREFIX}/invocation/next", self._next),
                web.post(f"{_PREFIX}/invocation/{{request_id}}/response", self._respond),
                web.post(f"{_PREFIX}/invocation/{{request_id}}/error", self._fail),
                web.post(f"{_PREFIX}/init/error", self._fail_init),
            ]
        )
        # A runtime waits for its next event for as long as it lives; then nobody must.
        self._runner = web.AppRunner(
            application, access_log=None, shutdown_timeout=0.05, handler_cancellation=True
        )
        await self._runner.setup()
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{listener.getsockname()[1]}"
        await web.SockSite(self._runner, listener).start()

    async def close(self) -> None:
        """Stop listening, and let a waiting runtime go."""
        if self._runner is not None:
            await self._runner.cleanup()

    def reset(self) -> None:
        """Forget a runtime that died in INIT, for the one that is started after it."""
        self.waiting.clear()
        self.init_error = asyncio.get_running_loop().create_future()

    def deliver(
        self, request_id: str, payload: bytes, headers: Mapping[str, str], timeout_s: float
    ) -> asyncio.Future[Answer]:
        """Hand an event to the runtime.

        Parameters
        ----------
        request_id : str
            The invocation's request id.
        payload : bytes
            The event's JSON.
        headers : mapping of str to str
            What else the runtime is told.
        timeout_s : float
            The function's time-out, from now.

        Returns
        -------
        asyncio.Future of Answer
            Done when the runtime hands its answer in.
        """
        self._request_id = request_id
        self._answer = asyncio.get_running_loop().create_future()
        self.waiting.clear()
        deadline_ms = int((time.time() + timeout_s) * 1000)
        trace = f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]};Sampled=0"
        event_headers = {
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": str(deadline_ms),
            "Lambda-Runtime-Trace-Id": trace,
            **headers,
        }
        self._events.put_nowait((payload, event_headers))
        return self._answer

    async def _next(self, _request: web.Request) -> web.Response:
        self.waiting.set()
        payload, headers = await self._events.get()
        return web.Response(body=payload, headers=headers, content_type="application/json")

    async def _respond(self, request: web.Request) -> web.Response:
        body = await request.read()
        if len(body) > MAX_RESPONSE_NBYTES:
            too_large = {
                "errorMessage": f"Response payload size ({len(body)} bytes) exceeded maximum "
                f"allowed payload size ({MAX_RESPONSE_NBYTES} bytes).",
                "errorType": "Function.ResponseSizeTooLarge",
            }
            self._hand_in(request, Answer(json.dumps(too_large).encode(), is_error=True))
            return web.json_response(too_large, status=413)
        return self._hand_in(request, Answer(body, is_error=False))

    async def _fail(self, request: web.Request) -> web.Response:
        return self._hand_in(request, Answer(await request.read(), is_error=True))

    def _hand_in(self, request: web.Request, answer: Answer) -> web.Response:
        request_id = request.match_info["request_id"]
        if request_id != self._request_id or self._answer is None or self._answer.done():
            problem = {
                "errorMessage": f"Invalid request ID {request_id}",
                "errorType": "InvalidRequestID",
            }
            return web.json_response(problem, status=400)
        self._answer.set_result(answer)
        return web.json_response({"status": "OK"}, status=202)

    async def _fail_init(self, request: web.Request) -> web.Response:
        body = await request.read()
        if not self.init_error.done():
            self.init_error.set_result(
                body
                or json.dumps(
                    {"errorType": request.headers.get(_ERROR_TYPE_HEADER, "Runtime.Unknown")}
                ).encode()
            )
        return web.json_response({"status": "OK"}, status=202)
