"""Settings of event source mappings: their defaults, and what is refused."""

from __future__ import annotations

from typing import Any

from localcloud.functions.destinations import check_destination
from localcloud.functions.filters import RecordFilter
from localcloud.functions.windows import check_window
from localcloud.http import AwsError

DEFAULTS: dict[str, Any] = {
    "BatchSize": 100,
    "MaximumBatchingWindowInSeconds": 0,
    "ParallelizationFactor": 1,
    "StartingPosition": "LATEST",
    "MaximumRecordAgeInSeconds": -1,
    "MaximumRetryAttempts": -1,
    "BisectBatchOnFunctionError": False,
    "TumblingWindowInSeconds": 0,
    "FunctionResponseTypes": [],
    "DestinationConfig": {"OnFailure": {}},
}
# Without a default: they are in a description where they were given.
OPTIONAL = ("StartingPositionTimestamp", "FilterCriteria", "MetricsConfig")
_BOUNDS = (
    ("BatchSize", 1, 10_000),
    ("MaximumBatchingWindowInSeconds", 0, 300),
    ("ParallelizationFactor", 1, 10),
    ("MaximumRetryAttempts", -1, 10_000),
    ("MaximumRecordAgeInSeconds", -1, 604_800),
    ("TumblingWindowInSeconds", 0, 900),
)
_MIN_AGE_S = 60
_SERVED = {
    *DEFAULTS, *OPTIONAL, "EventSourceArn", "FunctionName", "Enabled", "Tags", "UUID",
}  # fmt: skip


def of_body(body: dict[str, Any]) -> dict[str, Any]:
    """The settings that a request gives.

    Raises:
        AwsError: InvalidParameterValueException, where one is not served or out of AWS's bounds.
    """
    _check_source(body.get("EventSourceArn"))
    for name, value in body.items():
        if name not in _SERVED and value:
            raise _invalid(f"{name} is not supported locally")
    settings = {name: body[name] for name in (*DEFAULTS, *OPTIONAL) if body.get(name) is not None}
    _check_values(settings)
    return settings


def check_together(settings: dict[str, Any]) -> None:
    """Refuses settings that do not go together, once all of them are known.

    Raises:
        AwsError: InvalidParameterValueException.
    """
    check_window(settings)
    starting = settings.get("StartingPosition")
    if starting not in {"TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"}:
        raise _invalid("StartingPosition must be one of TRIM_HORIZON, LATEST, AT_TIMESTAMP")
    if (starting == "AT_TIMESTAMP") != ("StartingPositionTimestamp" in settings):
        raise _invalid("StartingPositionTimestamp goes with the StartingPosition AT_TIMESTAMP")


def _check_source(source: str | None) -> None:
    if source is not None and source.split(":")[2:3] != ["kinesis"]:
        raise _invalid(f"EventSourceArn {source}: only Kinesis streams are served locally")
    if source is not None and "/consumer/" in source:
        raise _invalid("a stream consumer (enhanced fan-out) as a source is not supported locally")


def _check_values(settings: dict[str, Any]) -> None:
    for name, low, high in _BOUNDS:
        value = settings.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _invalid(f"{name} must be from {low} to {high}")
    if 0 <= settings.get("MaximumRecordAgeInSeconds", -1) < _MIN_AGE_S:
        raise _invalid(f"MaximumRecordAgeInSeconds must be -1, or from {_MIN_AGE_S} to 604800")
    if set(settings.get("FunctionResponseTypes") or ()) - {"ReportBatchItemFailures"}:
        raise _invalid("FunctionResponseTypes can be ReportBatchItemFailures")
    if set((settings.get("MetricsConfig") or {}).get("Metrics") or ()) - {"EventCount"}:
        raise _invalid("MetricsConfig of a Kinesis source can have EventCount only")
    destinations = settings.get("DestinationConfig") or {}
    if (destinations.get("OnSuccess") or {}).get("Destination"):
        raise _invalid("DestinationConfig OnSuccess is not for event source mappings of streams")
    if failure := (destinations.get("OnFailure") or {}).get("Destination"):
        check_destination(failure, {"sqs", "sns", "s3"}, "OnFailure of a mapping")
    RecordFilter(settings.get("FilterCriteria"))


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidParameterValueException", message)
