"""Settings of functions: which are served, and AWS's bounds of them."""

from __future__ import annotations

import re
from typing import Any

import orjson

from localcloud.functions.destinations import check_destination
from localcloud.http import AwsError

RUNTIMES = ("python3.11", "python3.12", "python3.13")
MAX_VARIABLES_BYTES = 4096
SETTINGS = {
    "FunctionName", "Runtime", "Role", "Handler", "Description", "Timeout", "MemorySize",
    "Environment", "DeadLetterConfig", "KMSKeyArn", "TracingConfig", "Architectures",
    "EphemeralStorage", "LoggingConfig", "PackageType", "SnapStart", "VpcConfig",
}  # fmt: skip
_ACCEPTED = SETTINGS | {"Code", "Tags", "RevisionId", "DryRun"}
_BOUNDS = (("Timeout", 1, 900, "seconds"), ("MemorySize", 128, 10_240, "MB"))
_VARIABLE = re.compile(r"[a-zA-Z][a-zA-Z0-9_]+")
# What Lambda sets itself, after "Defined runtime environment variables".
RESERVED_VARIABLES = {
    "_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
    "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR",
}  # fmt: skip


def check_settings(body: dict[str, Any]) -> None:
    """Refuses settings that the local Lambda does not serve, and values out of AWS's bounds.

    Raises:
        AwsError: InvalidParameterValueException naming the setting.
    """
    unknown = sorted(name for name, value in body.items() if name not in _ACCEPTED and value)
    if unknown:
        raise _invalid(f"{', '.join(unknown)} is not supported locally")
    _check_kind(body)
    for name, low, high, unit in _BOUNDS:
        value = body.get(name)
        if value is not None and not low <= value <= high:
            raise _invalid(f"{name} must be from {low} to {high} {unit}")
    _check_variables((body.get("Environment") or {}).get("Variables") or {})
    _check_logging(body.get("LoggingConfig") or {})
    dead = (body.get("DeadLetterConfig") or {}).get("TargetArn")
    if dead:
        check_destination(dead, {"sqs", "sns"}, "a dead-letter queue")


def _check_kind(body: dict[str, Any]) -> None:
    if body.get("Runtime") is not None and body["Runtime"] not in RUNTIMES:
        raise _invalid(
            f"Runtime {body['Runtime']} is not supported locally: use one of {', '.join(RUNTIMES)}"
        )
    for name, member, served in (
        ("PackageType", None, "Zip"),
        ("TracingConfig", "Mode", "PassThrough"),
        ("SnapStart", "ApplyOn", "None"),
    ):
        value = body.get(name) or served
        if isinstance(value, dict):
            value = value.get(str(member)) or served
        if value != served:
            raise _invalid(f"{name} {value} is not supported locally")
    if (body.get("VpcConfig") or {}).get("SubnetIds"):
        raise _invalid("VpcConfig is not supported locally")
    if not re.fullmatch(r"[\w.-]+", body.get("Handler") or "x.y"):
        raise _invalid("Handler is not module.function")


def _check_variables(variables: dict[str, str]) -> None:
    problem = "Lambda was unable to configure your environment variables because the environment"
    reserved = sorted(RESERVED_VARIABLES & variables.keys())
    if reserved:
        raise _invalid(
            f"{problem} variables you have provided contains reserved keys that are currently not "
            f"supported for modification. Reserved keys used in this request: {', '.join(reserved)}"
        )
    for name in variables:
        if not _VARIABLE.fullmatch(name):
            raise _invalid(f"environment variable {name!r} must match {_VARIABLE.pattern}")
    told = orjson.dumps(variables)
    if len(told) > MAX_VARIABLES_BYTES:
        raise _invalid(
            f"{problem} variables you have provided exceeded the 4KB limit. "
            f"String measured: {told.decode()}"
        )


def _check_logging(config: dict[str, Any]) -> None:
    log_format = config.get("LogFormat", "Text")
    if log_format not in {"Text", "JSON"}:
        raise _invalid("LogFormat can be Text or JSON")
    for name, levels in (
        ("ApplicationLogLevel", ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")),
        ("SystemLogLevel", ("DEBUG", "INFO", "WARN")),
    ):
        if config.get(name) is None:
            continue
        if log_format != "JSON":
            raise _invalid(f"{name} goes with the LogFormat JSON")
        if config[name] not in levels:
            raise _invalid(f"{name} can be one of {', '.join(levels)}")


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidParameterValueException", message)
