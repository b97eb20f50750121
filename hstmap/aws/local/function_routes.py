"""The routes of functions and their settings."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from aiohttp import web

from hstmap.aws.local.api_error import invalid_parameter, not_found
from hstmap.aws.local.backend import Backend
from hstmap.aws.local.configuration import event_invoke_configuration
from hstmap.aws.local.functions import Function
from hstmap.aws.local.packages import MAX_UNZIPPED_NBYTES, MAX_ZIPPED_NBYTES
from hstmap.aws.local.wire import body_of, page, region_of

__all__ = ["FunctionRoutes"]

_FUNCTIONS = "/2015-03-31/functions"
_ONE = f"{_FUNCTIONS}/{{name}}"
_EVENT_INVOKE = "/2019-09-25/functions/{name}/event-invoke-config"
_PUT_CONCURRENCY = "/2017-10-31/functions/{name}/concurrency"
_GET_CONCURRENCY = "/2019-09-30/functions/{name}/concurrency"
_TAGS = "/2017-03-31/tags/{name}"
_ACCOUNT_CODE_NBYTES = 75 << 30


class FunctionRoutes:
    """Create, get, update and delete functions and what is set for them."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, each under its operation's name."""
        return [
            web.post(_FUNCTIONS, self._create, name="CreateFunction"),
            web.get(_FUNCTIONS, self._list, name="ListFunctions"),
            # What botocore sent for these two until 2024.
            web.post(f"{_FUNCTIONS}/", self._create),
            web.get(f"{_FUNCTIONS}/", self._list),
            web.get(_ONE, self._get, name="GetFunction"),
            web.delete(_ONE, self._delete, name="DeleteFunction"),
            web.get(
                f"{_ONE}/configuration", self._get_configuration, name="GetFunctionConfiguration"
            ),
            web.put(
                f"{_ONE}/configuration",
                self._update_configuration,
                name="UpdateFunctionConfiguration",
            ),
            web.put(f"{_ONE}/code", self._update_code, name="UpdateFunctionCode"),
            web.put(_EVENT_INVOKE, self._put_event_invoke, name="PutFunctionEventInvokeConfig"),
            web.post(
                _EVENT_INVOKE, self._update_event_invoke, name="UpdateFunctionEventInvokeConfig"
            ),
            web.get(_EVENT_INVOKE, self._get_event_invoke, name="GetFunctionEventInvokeConfig"),
            web.delete(
                _EVENT_INVOKE, self._delete_event_invoke, name="DeleteFunctionEventInvokeConfig"
            ),
            web.put(_PUT_CONCURRENCY, self._put_concurrency, name="PutFunctionConcurrency"),
            web.delete(
                _PUT_CONCURRENCY, self._delete_concurrency, name="DeleteFunctionConcurrency"
            ),
            web.get(_GET_CONCURRENCY, self._get_concurrency, name="GetFunctionConcurrency"),
            web.get(_TAGS, self._list_tags, name="ListTags"),
            web.post(_TAGS, self._tag, name="TagResource"),
            web.delete(_TAGS, self._untag, name="UntagResource"),
            web.get("/2016-08-19/account-settings", self._account, name="GetAccountSettings"),
            web.get("/code/{sha256}", self._code),
        ]

    async def _create(self, request: web.Request) -> web.Response:
        body, region = await body_of(request), region_of(request)
        await asyncio.to_thread(
            self._backend.source.refuse_unusable_role, body.get("Role", ""), region
        )
        function = await asyncio.to_thread(self._make, body, region)
        # On AWS a new function is of use a few seconds later.
        return web.json_response({**function.configuration, "State": "Pending"}, status=201)

    def _make(self, body: dict[str, Any], region: str) -> Function:
        source = self._backend.source
        code = source.code(body.get("Code", {}), region)
        if isinstance(code, Path):
            source.refuse_image_without_handler(body, code)
        function = self._backend.registry.create(region, body, code)
        self._locate(function, body.get("Code", {}))
        return function

    async def _update_code(self, request: web.Request) -> web.Response:
        body, function = await body_of(request), self._function(request)
        code = await asyncio.to_thread(self._backend.source.code, body, function.region)
        is_image = function.configuration["PackageType"] == "Image"
        if isinstance(code, Path) != is_image:
            raise invalid_parameter("The package type of a function cannot change")
        await asyncio.to_thread(self._backend.registry.set_code, function, code)
        await asyncio.to_thread(self._locate, function, body)
        await self._backend.invoker.retire(function)
        return _updated(function)

    def _locate(self, function: Function, code: dict[str, Any]) -> None:
        if "ImageUri" in code:
            uri = code["ImageUri"]
            function.code_location = {
                "RepositoryType": "ECR",
                "ImageUri": uri,
                "ResolvedImageUri": self._backend.source.resolved_image(uri, function.region),
            }

    async def _update_configuration(self, request: web.Request) -> web.Response:
        body, function = await body_of(request), self._function(request)
        if "Role" in body:
            await asyncio.to_thread(
                self._backend.source.refuse_unusable_role, body["Role"], function.region
            )
        await asyncio.to_thread(self._backend.registry.update_configuration, function, body)
        await self._backend.invoker.retire(function)
        return _updated(function)

    async def _get(self, request: web.Request) -> web.Response:
        function = self._function(request)
        code = dict(function.code_location)
        if "Location" in code:
            code["Location"] = f"{request.url.origin()}/code/{code['Location']}"
        answer: dict[str, Any] = {"Configuration": function.configuration, "Code": code}
        if function.tags:
            answer["Tags"] = function.tags
        if function.reserved_concurrency is not None:
            answer["Concurrency"] = _concurrency(function)
        return web.json_response(answer)

    async def _code(self, request: web.Request) -> web.StreamResponse:
        path = self._backend.registry.store.archive_path(request.match_info["sha256"])
        if not path.is_file():
            raise not_found("Package", request.match_info["sha256"])
        return web.FileResponse(path)

    async def _get_configuration(self, request: web.Request) -> web.Response:
        return web.json_response(self._function(request).configuration)

    async def _list(self, request: web.Request) -> web.Response:
        functions, marker = page(request, self._backend.registry.all(region_of(request)))
        return web.json_response({"Functions": [f.configuration for f in functions], **marker})

    async def _delete(self, request: web.Request) -> web.Response:
        function = self._function(request)
        self._backend.registry.delete(function)
        await self._backend.invoker.retire(function)
        self._backend.events.kick()
        return web.Response(status=204)

    async def _put_event_invoke(self, request: web.Request) -> web.Response:
        return self._set_event_invoke(self._function(request), None, await body_of(request))

    async def _update_event_invoke(self, request: web.Request) -> web.Response:
        function = self._function(request)
        return self._set_event_invoke(function, function.event_invoke, await body_of(request))

    def _set_event_invoke(
        self, function: Function, present: dict[str, Any] | None, body: dict[str, Any]
    ) -> web.Response:
        function.event_invoke = event_invoke_configuration(present, body, function.arn)
        return web.json_response(function.event_invoke)

    async def _get_event_invoke(self, request: web.Request) -> web.Response:
        function = self._function(request)
        if function.event_invoke is None:
            raise not_found("Event invoke config", function.arn)
        return web.json_response(function.event_invoke)

    async def _delete_event_invoke(self, request: web.Request) -> web.Response:
        function = self._function(request)
        if function.event_invoke is None:
            raise not_found("Event invoke config", function.arn)
        function.event_invoke = None
        return web.Response(status=204)

    async def _put_concurrency(self, request: web.Request) -> web.Response:
        body, function = await body_of(request), self._function(request)
        wanted = body.get("ReservedConcurrentExecutions")
        concurrency = self._backend.concurrency
        left = concurrency.unreserved_limit + (function.reserved_concurrency or 0)
        if not isinstance(wanted, int) or not 0 <= wanted <= left:
            raise invalid_parameter(
                f"Specified ReservedConcurrentExecutions {wanted} is not within the account's "
                f"unreserved concurrency of {left}"
            )
        function.reserved_concurrency = wanted
        self._backend.events.kick()
        return web.json_response(_concurrency(function))

    async def _get_concurrency(self, request: web.Request) -> web.Response:
        return web.json_response(_concurrency(self._function(request)))

    async def _delete_concurrency(self, request: web.Request) -> web.Response:
        self._function(request).reserved_concurrency = None
        self._backend.events.kick()
        return web.Response(status=204)

    async def _list_tags(self, request: web.Request) -> web.Response:
        return web.json_response({"Tags": self._function(request).tags})

    async def _tag(self, request: web.Request) -> web.Response:
        body = await body_of(request)
        self._function(request).tags.update(body.get("Tags", {}))
        return web.Response(status=204)

    async def _untag(self, request: web.Request) -> web.Response:
        function = self._function(request)
        for key in request.query.getall("tagKeys", []):
            function.tags.pop(key, None)
        return web.Response(status=204)

    async def _account(self, request: web.Request) -> web.Response:
        functions = self._backend.registry.all(region_of(request))
        limit = {
            "TotalCodeSize": _ACCOUNT_CODE_NBYTES,
            "CodeSizeUnzipped": MAX_UNZIPPED_NBYTES,
            "CodeSizeZipped": MAX_ZIPPED_NBYTES,
            "ConcurrentExecutions": self._backend.concurrency.limit,
            "UnreservedConcurrentExecutions": self._backend.concurrency.unreserved_limit,
        }
        usage = {
            "TotalCodeSize": sum(f.configuration["CodeSize"] for f in functions),
            "FunctionCount": len(functions),
        }
        return web.json_response({"AccountLimit": limit, "AccountUsage": usage})

    def _function(self, request: web.Request) -> Function:
        return self._backend.registry.get(region_of(request), request.match_info["name"])


def _updated(function: Function) -> web.Response:
    # On AWS an update takes a few seconds more.
    return web.json_response({**function.configuration, "LastUpdateStatus": "InProgress"})


def _concurrency(function: Function) -> dict[str, int]:
    if function.reserved_concurrency is None:
        return {}
    return {"ReservedConcurrentExecutions": function.reserved_concurrency}
