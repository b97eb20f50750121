"""The functions and layers that were created, and what their packages were unpacked to."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hstmap.aws.local import packages
from hstmap.aws.local.api_error import conflict, invalid_parameter, not_found
from hstmap.aws.local.configuration import new_configuration, touch, updated_configuration
from hstmap.aws.local.packages import PackageStore, Zip
from hstmap.aws.local.reports import SystemLog

__all__ = ["VCPU_MB", "Contents", "Function", "FunctionRegistry", "Layer"]

# https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
VCPU_MB = 1769.0

_NAME_IN_ARN = re.compile(r"(?:.*:function:)?([a-zA-Z0-9_-]+)(?::\$LATEST)?")


@dataclass(frozen=True)
class Contents:
    """What an environment of a function finds on its file system.

    Parameters
    ----------
    task : Path
        What is at ``/var/task``.
    opt : Path
        What is at ``/opt``.
    image : Path, optional
        The unpacked root of an image; what it lacks is lent by the loopback AWS.
    """

    task: Path
    opt: Path
    image: Path | None = None


@dataclass
class Function:
    """One function: what AWS shows of it, and what its environments are started from."""

    region: str
    configuration: dict[str, Any]
    contents: Contents
    code_location: dict[str, str]
    tags: dict[str, str] = field(default_factory=dict)
    event_invoke: dict[str, Any] | None = None
    reserved_concurrency: int | None = None
    generation: int = 0

    @property
    def name(self) -> str:
        """The function's name."""
        return str(self.configuration["FunctionName"])

    @property
    def arn(self) -> str:
        """The function's ARN."""
        return str(self.configuration["FunctionArn"])

    @property
    def memory_mb(self) -> int:
        """The configured memory."""
        return int(self.configuration["MemorySize"])

    @property
    def cpu_share(self) -> float:
        """The vCPUs that the configured memory buys."""
        return self.memory_mb / VCPU_MB

    @property
    def timeout_s(self) -> float:
        """The configured time-out."""
        return float(self.configuration["Timeout"])

    @property
    def log_group(self) -> str:
        """Where the function's log goes."""
        return str(self.configuration["LoggingConfig"]["LogGroup"])

    @property
    def runtime(self) -> str | None:
        """The runtime's identifier; None for an image."""
        return self.configuration.get("Runtime")

    def system_log(self) -> SystemLog:
        """Return the writer of Lambda's own lines in this function's format."""
        settings = self.configuration["LoggingConfig"]
        level = settings.get("SystemLogLevel", "INFO")
        return SystemLog(settings["LogFormat"], level, self.runtime or "image", self.region)


@dataclass(frozen=True)
class Layer:
    """One version of a layer."""

    name: str
    version: int
    package: Zip
    shown: Mapping[str, Any]

    @property
    def version_arn(self) -> str:
        """The ARN of this version."""
        return str(self.shown["LayerVersionArn"])


class FunctionRegistry:
    """All functions and layers of the account, by region.

    The methods that unpack packages take their time: call them off the event loop.

    Parameters
    ----------
    store : PackageStore
        Where packages are unpacked.
    account_id : str
        For ARNs.
    runtimes : collection of str
        The runtimes that zip packages may name.
    """

    def __init__(self, store: PackageStore, account_id: str, runtimes: Mapping[str, Path]) -> None:
        self.store = store
        self._account_id = account_id
        self._runtimes = runtimes
        self._functions: dict[tuple[str, str], Function] = {}
        self._layers: dict[tuple[str, str], list[Layer]] = {}
        self._n_published: dict[tuple[str, str], int] = {}

    def create(self, region: str, body: Mapping[str, Any], code: Zip | Path) -> Function:
        """Create a function from a CreateFunction request and its package.

        Parameters
        ----------
        region : str
            The region of the request.
        body : mapping
            The request.
        code : Zip or Path
            The package, or the unpacked root of the image.

        Returns
        -------
        Function
            Not yet registered where something was wrong with it.

        Raises
        ------
        ApiError
            As AWS answers.
        """
        name = body["FunctionName"]
        if (region, name) in self._functions:
            raise conflict(f"Function already exist: {name}")
        configuration = new_configuration(body, self._arn(region, "function", ""))
        function = Function(region, configuration, Contents(Path(), Path()), {})
        function.tags = dict(body.get("Tags", {}))
        self._refuse_runtime(configuration)
        self._set_layers(function, body.get("Layers", []))
        self.set_code(function, code)
        # Two creations at once may both have come this far while they unpacked.
        if self._functions.setdefault((region, name), function) is not function:
            raise conflict(f"Function already exist: {name}")
        return function

    def update_configuration(self, function: Function, body: Mapping[str, Any]) -> None:
        """Change a function's configuration by an UpdateFunctionConfiguration request."""
        configuration = updated_configuration(function.configuration, body)
        self._refuse_runtime(configuration)
        trial = Function(function.region, configuration, function.contents, {})
        if "Layers" in body:
            self._set_layers(trial, body["Layers"])
        function.configuration = configuration
        function.contents = trial.contents
        function.generation += 1

    def set_code(self, function: Function, code: Zip | Path) -> None:
        """Give a function its package, or its image's unpacked root."""
        if isinstance(code, Path):
            function.contents = Contents(code / "var" / "task", code / "opt", code)
            function.configuration |= {"CodeSize": 0, "CodeSha256": ""}
        else:
            task = self.store.unpack([code])
            packages.refuse_too_large([task, function.contents.opt])
            function.contents = Contents(task, function.contents.opt)
            self.store.keep(code)
            function.configuration |= {
                "CodeSize": len(code.data),
                "CodeSha256": code.sha256_base64,
            }
            function.code_location = {"RepositoryType": "S3", "Location": code.sha256_hex}
        touch(function.configuration)
        function.generation += 1

    def get(self, region: str, name_or_arn: str) -> Function:
        """Return a function by its name, partial or whole ARN.

        Raises
        ------
        ApiError
            404 where there is none.
        """
        match = _NAME_IN_ARN.fullmatch(name_or_arn)
        name = match.group(1) if match else name_or_arn
        function = self._functions.get((region, name))
        if function is None:
            raise not_found("Function", self._arn(region, "function", name))
        return function

    def find(self, region: str, name: str) -> Function | None:
        """Return a function by its name, None where it was deleted."""
        return self._functions.get((region, name))

    def delete(self, function: Function) -> None:
        """Forget a function."""
        function.generation += 1
        del self._functions[function.region, function.name]

    def all(self, region: str | None = None) -> list[Function]:
        """Return the functions of a region, or of all, by name."""
        found = [f for (where, _), f in self._functions.items() if region in (None, where)]
        return sorted(found, key=lambda function: function.name)

    def publish_layer(self, region: str, name: str, body: Mapping[str, Any], code: Zip) -> Layer:
        """Publish the next version of a layer from a PublishLayerVersion request."""
        packages.refuse_too_large([self.store.unpack([code])])
        self.store.keep(code)
        # Numbers of deleted versions are not used again.
        version = self._n_published[region, name] = self._n_published.get((region, name), 0) + 1
        arn = self._arn(region, "layer", name)
        shown: dict[str, Any] = {
            "LayerVersionArn": f"{arn}:{version}",
            "Version": version,
            "Description": body.get("Description", ""),
            "CreatedDate": time.strftime("%Y-%m-%dT%H:%M:%S.000+0000", time.gmtime()),
            "CompatibleRuntimes": body.get("CompatibleRuntimes", []),
            "CompatibleArchitectures": body.get("CompatibleArchitectures", []),
        }
        layer = Layer(name, version, code, shown)
        self._layers.setdefault((region, name), []).append(layer)
        return layer

    def layer_names(self, region: str) -> list[str]:
        """Return the names of a region's layers that have a version."""
        return sorted(
            name for (where, name), versions in self._layers.items() if where == region and versions
        )

    def layer_versions(self, region: str, name: str) -> list[Layer]:
        """Return a layer's versions, the newest first."""
        return self._layers.get((region, name), [])[::-1]

    def layer(self, region: str, name: str, version: int) -> Layer:
        """Return one version of a layer, 404 where there is none."""
        for layer in self._layers.get((region, name), []):
            if layer.version == version:
                return layer
        raise not_found("Layer version", f"{self._arn(region, 'layer', name)}:{version}")

    def delete_layer(self, region: str, name: str, version: int) -> None:
        """Delete one version of a layer; functions that have it keep it, as on AWS."""
        versions = self._layers.get((region, name), [])
        versions[:] = [layer for layer in versions if layer.version != version]

    def _set_layers(self, function: Function, arns: list[str]) -> None:
        layers = [self._layer_by_arn(function.region, arn) for arn in arns]
        opt = self.store.unpack([layer.package for layer in layers])
        task = function.contents.task
        if layers and task != Path():
            packages.refuse_too_large([task, opt])
        function.contents = Contents(task, opt)
        function.configuration.pop("Layers", None)
        if layers:
            function.configuration["Layers"] = [
                {"Arn": layer.version_arn, "CodeSize": len(layer.package.data)} for layer in layers
            ]

    def _layer_by_arn(self, region: str, arn: str) -> Layer:
        for (where, _), versions in self._layers.items():
            for layer in versions:
                if where == region and layer.version_arn == arn:
                    return layer
        raise invalid_parameter(f"Layer version {arn} does not exist.")

    def _refuse_runtime(self, configuration: Mapping[str, Any]) -> None:
        runtime = configuration.get("Runtime")
        if runtime is not None and runtime not in self._runtimes:
            raise invalid_parameter(
                f"The loopback AWS has the runtimes {', '.join(sorted(self._runtimes))}, not "
                f"{runtime}: run it under that Python, or give it one by its option 'runtimes'"
            )

    def _arn(self, region: str, kind: str, name: str) -> str:
        return f"arn:aws:lambda:{region}:{self._account_id}:{kind}:{name}"
