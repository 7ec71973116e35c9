"""The errors of faults: each service throttles with a code, a status and words of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from localcloud.http import AwsError
from localcloud.naming import operation_model

if TYPE_CHECKING:
    from localcloud.faults.board import Fault


class FaultError(AwsError):
    """An error that a fault made; the call did not reach the service."""


@dataclass(frozen=True, slots=True)
class Throttle:
    """How a service says that it is called too often."""

    code: str
    status: int = 400
    message: str = "Rate exceeded"
    extra: dict[str, str] = field(default_factory=dict)


_DEFAULT = Throttle("ThrottlingException")
# The common error of the query protocol's services.
_QUERY = Throttle("Throttling")
_SERVICES = {
    "dynamodb": Throttle("ProvisionedThroughputExceededException"),
    "ec2": Throttle("RequestLimitExceeded", 503),
    "firehose": Throttle("LimitExceededException"),
    "iam": _QUERY,
    "kinesis": Throttle("LimitExceededException", message="Rate exceeded for this operation"),
    "lambda": Throttle(
        "TooManyRequestsException",
        429,
        "Rate Exceeded.",
        {"Type": "User", "Reason": "CallerRateLimitExceeded"},
    ),
    "monitoring": _QUERY,
    "s3": Throttle("SlowDown", 503, "Please reduce your request rate."),
    "sns": Throttle("Throttled", 429),
    "sqs": Throttle("RequestThrottled", 403, "The request was denied due to request throttling."),
    "sts": _QUERY,
}
_CAPACITY = Throttle("ProvisionedThroughputExceededException")
_SLOW_DOWN = Throttle("ServiceUnavailableException", 503, "Slow down.")
_OPERATIONS = {
    ("firehose", "PutRecord"): _SLOW_DOWN,
    ("firehose", "PutRecordBatch"): _SLOW_DOWN,
    ("kinesis", "PutRecord"): _CAPACITY,
    ("kinesis", "PutRecords"): _CAPACITY,
    ("kinesis", "GetRecords"): _CAPACITY,
    ("kinesis", "GetShardIterator"): _CAPACITY,
    ("lambda", "Invoke"): Throttle(
        "TooManyRequestsException",
        429,
        "Rate Exceeded.",
        {"Type": "User", "Reason": "ConcurrentInvocationLimitExceeded"},
    ),
}
SERVER_ERROR = 500
_SERVER_ERRORS = ("Internal", "ServiceUnavailable", "ServiceFailure", "ServiceException")


def throttle_of(service: str, operation: str) -> Throttle:
    """How the service throttles that operation."""
    return _OPERATIONS.get((service, operation)) or _SERVICES.get(service, _DEFAULT)


def error_of(fault: Fault, service: str, operation: str) -> FaultError:
    """The error that a call gets which meets this fault."""
    spec, sign = fault.spec, f" (fault {fault.id})"
    if spec.kind == "throttle":
        known = throttle_of(service, operation)
        text = spec.message or known.message + sign
        return FaultError(known.code, text, known.status, **known.extra)
    if spec.kind == "error":
        code = spec.code or ""
        status = spec.status or _status_of(service, operation, code)
        return FaultError(code, spec.message or f"An injected error{sign}", status)
    # An engine inside the process has no connection that could be closed.
    return FaultError("ServiceUnavailable", f"The service does not answer{sign}", 503)


def _status_of(service: str, operation: str, code: str) -> int:
    """The HTTP status that the service's model gives an error code."""
    model = operation_model(service, operation)
    for shape in model.error_shapes if model else ():
        known = shape.metadata.get("error", {})
        if code in {shape.name, known.get("code")} and known.get("httpStatusCode"):
            return int(known["httpStatusCode"])
    if code.startswith("ServiceUnavailable"):
        return 503
    return SERVER_ERROR if code.startswith(_SERVER_ERRORS) else 400
