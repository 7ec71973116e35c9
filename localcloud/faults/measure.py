"""The metrics that AWS publishes of calls it refuses, so that alarms see a fault as they should."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import orjson

from localcloud.faults.errors import SERVER_ERROR, throttle_of

if TYPE_CHECKING:
    from localcloud.http import AwsError, Request
    from localcloud.seams import MetricSink

_FUNCTION = re.compile(r"/functions/([^/]+)/")


def measure(
    sink: MetricSink,
    request: Request,
    operation: str,
    error: AwsError | None,
    refused: int | None = None,
) -> None:
    """Publishes what a refused call leaves in AWS's own metrics.

    Args:
        sink: Where to.
        request: The call.
        operation: Its name.
        error: What it was refused with; None where some of its records were, with the service's
            own code.
        refused: How many.
    """
    throttled = error is None or error.code == throttle_of(request.service, operation).code
    if request.service == "lambda":
        match = _FUNCTION.search(request.path)
        if match and operation == "Invoke" and throttled:
            throttled_invocation(sink, unquote(match.group(1)))
        return
    body = _body(request)
    if request.service == "kinesis":
        _kinesis(sink, body, operation, throttled=throttled, refused=refused)
    elif request.service == "firehose" and body.get("DeliveryStreamName") and throttled:
        count = refused if refused is not None else len(body.get("Records") or (0,))
        where = {"DeliveryStreamName": str(body["DeliveryStreamName"])}
        if operation in {"PutRecord", "PutRecordBatch"}:
            sink.put("AWS/Firehose", "ThrottledRecords", count, unit="Count", dimensions=where)
    elif request.service == "timestream" and error is not None:
        where = {"Operation": operation}
        if body.get("DatabaseName") and body.get("TableName"):
            where |= {
                "DatabaseName": str(body["DatabaseName"]),
                "TableName": str(body["TableName"]),
            }
        kind = "SystemErrors" if error.status >= SERVER_ERROR else "UserErrors"
        sink.put("AWS/Timestream", kind, 1, unit="Count", dimensions=where)


def measure_engine(sink: MetricSink, service: str, resource: str, error: AwsError) -> None:
    """Publishes what a refused call of an engine inside the process leaves in AWS's metrics.

    Args:
        sink: Where to.
        service: `kinesis` (a read) or `lambda` (an invocation).
        resource: The stream or the function.
        error: What it was refused with.
    """
    if service == "kinesis":
        throttled = error.code == throttle_of("kinesis", "GetRecords").code
        _kinesis(sink, {"StreamName": resource}, "GetRecords", throttled=throttled, refused=None)
    elif error.code == throttle_of("lambda", "Invoke").code:
        throttled_invocation(sink, resource)


def throttled_invocation(sink: MetricSink, function: str) -> None:
    """Publishes one throttled invocation of a function, named or by its ARN."""
    name = function.rpartition(":function:")[2].partition(":")[0]
    sink.put("AWS/Lambda", "Throttles", 1, unit="Count", dimensions={"FunctionName": name})


def _kinesis(
    sink: MetricSink, body: dict[str, Any], operation: str, *, throttled: bool, refused: int | None
) -> None:
    name = body.get("StreamName") or str(body.get("StreamARN", "")).rpartition("/")[2]
    if not name:
        # GetRecords may name its stream inside the iterator alone, which only Kinesis can read.
        return
    where = {"StreamName": str(name)}
    values: dict[str, float] = {}
    if operation == "PutRecords":
        count = refused if refused is not None else len(body.get("Records") or ())
        values = {"PutRecords.TotalRecords": count, "PutRecords.FailedRecords": count}
        if refused is None:
            values |= {"PutRecords.Success": 0, "PutRecords.SuccessfulRecords": 0}
        if throttled:
            values |= {
                "PutRecords.ThrottledRecords": count, "WriteProvisionedThroughputExceeded": count,
            }  # fmt: skip
    elif operation == "PutRecord":
        values = {"PutRecord.Success": 0}
        if throttled:
            values["WriteProvisionedThroughputExceeded"] = 1
    elif operation == "GetRecords":
        values = {"GetRecords.Success": 0}
        if throttled:
            values["ReadProvisionedThroughputExceeded"] = 1
    for metric, value in values.items():
        sink.put("AWS/Kinesis", metric, value, unit="Count", dimensions=where)


def _body(request: Request) -> dict[str, Any]:
    try:
        value = orjson.loads(request.body or b"{}")
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
