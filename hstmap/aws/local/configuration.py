"""A function's configuration: what a request may say, what AWS answers, what is refused."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Collection, Mapping
from typing import Any

from hstmap.aws.local.api_error import ApiError, invalid_parameter

__all__ = ["event_invoke_configuration", "new_configuration", "updated_configuration"]

# https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
RESERVED_VARIABLES = frozenset(
    {
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    }
)
MAX_VARIABLES_NBYTES = 4096

_UPDATABLE = frozenset(
    {
        "Description",
        "Environment",
        "EphemeralStorage",
        "FileSystemConfigs",
        "Handler",
        "ImageConfig",
        "Layers",
        "LoggingConfig",
        "MemorySize",
        "RevisionId",
        "Role",
        "Runtime",
        "SnapStart",
        "Timeout",
        "TracingConfig",
        "VpcConfig",
        "DeadLetterConfig",
        "KMSKeyArn",
    }
)
_CREATABLE = _UPDATABLE | {
    "FunctionName",
    "Code",
    "PackageType",
    "Publish",
    "Tags",
    "Architectures",
}
# Accepted when empty, because clients send them so; with contents they would be a lie.
_ONLY_EMPTY = ("FileSystemConfigs", "DeadLetterConfig", "KMSKeyArn", "Publish")
_RANGES = {"MemorySize": (128, 10240), "Timeout": (1, 900)}
_FUNCTION_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ROLE = re.compile(r"arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+")


def new_configuration(body: Mapping[str, Any], arn_prefix: str) -> dict[str, Any]:
    """Make the configuration of a function that is being created.

    Parameters
    ----------
    body : mapping
        The CreateFunction request.
    arn_prefix : str
        Such as ``arn:aws:lambda:us-east-1:123456789012:function:``.

    Returns
    -------
    dict
        A ``FunctionConfiguration`` of AWS's service model, still without code and layers.

    Raises
    ------
    ApiError
        As AWS answers, or where the loopback AWS does not do what is asked for.
    """
    _refuse_unknown(body, _CREATABLE)
    name = body["FunctionName"]
    if not _FUNCTION_NAME.fullmatch(name):
        raise invalid_parameter(f"The function name {name!r} does not match [a-zA-Z0-9_-]{{1,64}}")
    package_type = body.get("PackageType", "Zip")
    if package_type == "Zip" and not (body.get("Runtime") and body.get("Handler")):
        raise invalid_parameter(
            "Runtime and Handler are mandatory parameters for functions created with deployment "
            "packages."
        )
    configuration: dict[str, Any] = {
        "FunctionName": name,
        "FunctionArn": f"{arn_prefix}{name}",
        "Role": body["Role"],
        "Description": "",
        "Timeout": 3,
        "MemorySize": 128,
        "Version": "$LATEST",
        "PackageType": package_type,
        "Architectures": body.get("Architectures", ["x86_64"]),
        "EphemeralStorage": {"Size": 512},
        "TracingConfig": {"Mode": "PassThrough"},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"},
        "State": "Active",
        "LastUpdateStatus": "Successful",
    }
    return _applied(configuration, body)


def updated_configuration(
    configuration: Mapping[str, Any], body: Mapping[str, Any]
) -> dict[str, Any]:
    """Make the configuration that an UpdateFunctionConfiguration request asks for.

    Parameters
    ----------
    configuration : mapping
        The present one.
    body : mapping
        The request.

    Returns
    -------
    dict
        The new configuration.

    Raises
    ------
    ApiError
        As for `new_configuration`, and where the request's ``RevisionId`` is not the present one.
    """
    _refuse_unknown(body, _UPDATABLE)
    revision = body.get("RevisionId")
    if revision is not None and revision != configuration["RevisionId"]:
        raise ApiError(
            412,
            "PreconditionFailedException",
            "The Revision Id provided does not match the latest Revision Id. Call the "
            "GetFunction/GetAlias API to retrieve the latest Revision Id",
        )
    return _applied(dict(configuration), body)


def touch(configuration: dict[str, Any]) -> None:
    """Give a configuration that was changed its new revision and time."""
    configuration["RevisionId"] = str(uuid.uuid4())
    configuration["LastModified"] = time.strftime("%Y-%m-%dT%H:%M:%S.000+0000", time.gmtime())


def event_invoke_configuration(
    present: Mapping[str, Any] | None, body: Mapping[str, Any], function_arn: str
) -> dict[str, Any]:
    """Make the settings of asynchronous invocation.

    Parameters
    ----------
    present : mapping or None
        What an update starts from; None to put new ones.
    body : mapping
        The request.
    function_arn : str
        The function's ARN.

    Returns
    -------
    dict
        A ``FunctionEventInvokeConfig`` of AWS's service model.

    Raises
    ------
    ApiError
        Where a number is out of AWS's range, or destinations are asked for.
    """
    settings = dict(present or {})
    for name, low, high in (
        ("MaximumRetryAttempts", 0, 2),
        ("MaximumEventAgeInSeconds", 60, 21600),
    ):
        if body.get(name) is not None:
            _refuse_outside(name, body[name], low, high)
            settings[name] = body[name]
    destinations = body.get("DestinationConfig", {})
    if any(destinations.values()):
        raise invalid_parameter("The loopback AWS has no destinations for asynchronous events")
    return settings | {
        "LastModified": int(time.time()),
        "FunctionArn": f"{function_arn}:$LATEST",
        "DestinationConfig": {"OnSuccess": {}, "OnFailure": {}},
    }


def _applied(configuration: dict[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    _refuse_bad_values(body)
    for name in ("Description", "Handler", "MemorySize", "Role", "Runtime", "Timeout"):
        if name in body:
            configuration[name] = body[name]
    if "EphemeralStorage" in body:
        configuration["EphemeralStorage"] = body["EphemeralStorage"]
    if "Environment" in body:
        configuration["Environment"] = {"Variables": body["Environment"].get("Variables", {})}
    if "ImageConfig" in body:
        configuration["ImageConfigResponse"] = {"ImageConfig": body["ImageConfig"]}
    if "VpcConfig" in body:
        configuration["VpcConfig"] = {"SubnetIds": [], "SecurityGroupIds": [], "VpcId": ""}
    if "LoggingConfig" in body:
        configuration["LoggingConfig"] = _logging(configuration["LoggingConfig"], body)
    touch(configuration)
    return configuration


def _logging(present: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    settings = {**present, **body["LoggingConfig"]}
    if settings["LogFormat"] == "JSON":
        return {"ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO", **settings}
    if {"ApplicationLogLevel", "SystemLogLevel"} & set(body["LoggingConfig"]):
        raise invalid_parameter("Log levels are only supported with the JSON log format")
    return {name: settings[name] for name in ("LogFormat", "LogGroup")}


def _refuse_unknown(body: Mapping[str, Any], known: Collection[str]) -> None:
    unknown = sorted(set(body) - set(known))
    asked = [name for name in _ONLY_EMPTY if body.get(name)]
    vpc = body.get("VpcConfig") or {}
    if vpc.get("SubnetIds") or vpc.get("SecurityGroupIds"):
        asked.append("VpcConfig")
    if (body.get("SnapStart") or {}).get("ApplyOn", "None") != "None":
        asked.append("SnapStart")
    if (body.get("TracingConfig") or {}).get("Mode", "PassThrough") != "PassThrough":
        asked.append("TracingConfig")
    if unknown or asked:
        names = ", ".join([*unknown, *asked])
        raise invalid_parameter(f"The loopback AWS does not do {names}: leave it out")


def _refuse_bad_values(body: Mapping[str, Any]) -> None:
    for name, (low, high) in _RANGES.items():
        if name in body:
            _refuse_outside(name, body[name], low, high)
    if "EphemeralStorage" in body:
        _refuse_outside("EphemeralStorage", body["EphemeralStorage"].get("Size"), 512, 10240)
    if "Role" in body and not _ROLE.fullmatch(body["Role"]):
        raise invalid_parameter(f"The role {body['Role']!r} is no ARN of an IAM role")
    if len(body.get("Layers", [])) > 5:
        raise invalid_parameter("Cannot reference more than 5 layers.")
    variables = body.get("Environment", {}).get("Variables", {})
    reserved = sorted(RESERVED_VARIABLES & set(variables))
    if reserved:
        raise invalid_parameter(
            "Lambda was unable to configure your environment variables because the environment "
            "variables you have provided contains reserved keys that are currently not supported "
            f"for modification. Reserved keys used in this request: {', '.join(reserved)}"
        )
    nbytes = sum(len(name.encode()) + len(value.encode()) for name, value in variables.items())
    if nbytes > MAX_VARIABLES_NBYTES:
        raise invalid_parameter(
            "Lambda was unable to configure your environment variables because the environment "
            f"variables you have provided exceeded the {MAX_VARIABLES_NBYTES} bytes limit"
        )


def _refuse_outside(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or not low <= value <= high:
        raise ApiError(
            400,
            "ValidationException",
            f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy "
            f"constraint: Member must have value between {low} and {high}",
        )
