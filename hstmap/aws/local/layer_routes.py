"""The routes of layers."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from hstmap.aws.local.api_error import invalid_parameter
from hstmap.aws.local.backend import Backend
from hstmap.aws.local.functions import Layer
from hstmap.aws.local.packages import Zip
from hstmap.aws.local.wire import body_of, page, region_of

__all__ = ["LayerRoutes"]

_PREFIX = "/2018-10-31/layers"


class LayerRoutes:
    """Publish, list, get and delete versions of layers."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, each under its operation's name."""
        versions = f"{_PREFIX}/{{name}}/versions"
        return [
            web.get(_PREFIX, self._list, name="ListLayers"),
            web.post(versions, self._publish, name="PublishLayerVersion"),
            web.get(versions, self._list_versions, name="ListLayerVersions"),
            web.get(f"{versions}/{{version}}", self._get, name="GetLayerVersion"),
            web.delete(f"{versions}/{{version}}", self._delete, name="DeleteLayerVersion"),
        ]

    async def _publish(self, request: web.Request) -> web.Response:
        body, region, backend = await body_of(request), region_of(request), self._backend
        code = await asyncio.to_thread(backend.source.code, body.get("Content", {}), region)
        if not isinstance(code, Zip):
            raise invalid_parameter("A layer is made of a zip archive")
        layer = await asyncio.to_thread(
            backend.registry.publish_layer, region, request.match_info["name"], body, code
        )
        return web.json_response(_shown(request, layer), status=201)

    async def _list(self, request: web.Request) -> web.Response:
        registry, region = self._backend.registry, region_of(request)
        names, marker = page(request, registry.layer_names(region))
        layers = []
        for name in names:
            latest = registry.layer_versions(region, name)[0].shown
            arn = str(latest["LayerVersionArn"]).rpartition(":")[0]
            layers.append({"LayerName": name, "LayerArn": arn, "LatestMatchingVersion": latest})
        return web.json_response({"Layers": layers, **marker})

    async def _list_versions(self, request: web.Request) -> web.Response:
        name = request.match_info["name"].rpartition(":")[2]
        versions, marker = page(
            request, self._backend.registry.layer_versions(region_of(request), name)
        )
        return web.json_response({"LayerVersions": [v.shown for v in versions], **marker})

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(_shown(request, self._layer(request)))

    async def _delete(self, request: web.Request) -> web.Response:
        registry, region = self._backend.registry, region_of(request)
        registry.delete_layer(
            region, request.match_info["name"], int(request.match_info["version"])
        )
        return web.Response(status=204)

    def _layer(self, request: web.Request) -> Layer:
        return self._backend.registry.layer(
            region_of(request), request.match_info["name"], int(request.match_info["version"])
        )


def _shown(request: web.Request, layer: Layer) -> dict[str, Any]:
    content = {
        "Location": f"{request.url.origin()}/code/{layer.package.sha256_hex}",
        "CodeSha256": layer.package.sha256_base64,
        "CodeSize": len(layer.package.data),
    }
    arn = layer.version_arn.rpartition(":")[0]
    return {**layer.shown, "LayerArn": arn, "Content": content}
