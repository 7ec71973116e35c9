"""Data transformation: batches of records through a Lambda function, and what becomes of each.

Follows "Transform source data" of the Firehose developer guide: the event, the status model, the
retries, and the form in which failed records are kept.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import logging
import time
import uuid
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from localcloud.firehose.positions import Span
    from localcloud.firehose.settings import Transformation
    from localcloud.seams import CloudContext

log = logging.getLogger(__name__)

# Lambda takes and gives at most 6 MB in a synchronous invocation.
MAX_EVENT_BYTES = 6 * 1024 * 1024
# What one record costs in the event beyond its data: names, identifiers, times.
_RECORD_OVERHEAD = 512
_MAX_WAITING_BYTES = 16 * 1024 * 1024
RETRY_S = (0.2, 5.0)

MESSAGES = {
    "Lambda.ResourceNotFound": (
        "The specified Lambda function does not exist. Use a different function that does exist."
    ),
    "Lambda.InvokeAccessDenied": (
        "Access was denied. Ensure that the access policy allows access to the Lambda function."
    ),
    "Lambda.InvokeLimitExceeded": (
        "The Lambda concurrent execution limit is exceeded. Increase the concurrent execution limit."
    ),
    "Lambda.FunctionTimedOut": (
        "The Lambda function invocation timed out. Increase the Timeout setting in the Lambda "
        "function."
    ),
    "Lambda.FunctionError": (
        "The Lambda function was successfully invoked but it returned an error result."
    ),
    "Lambda.JsonProcessingException": (
        "There was an error parsing returned records from the Lambda function. Ensure that the "
        "returned records follow the status model required by Firehose."
    ),
    "Lambda.DuplicatedRecordId": (
        "Multiple records were returned with the same record ID. Ensure that the Lambda function "
        "returns unique record IDs for each record."
    ),
    "Lambda.MissingRecordId": (
        "One or more record IDs were not returned. Ensure that the Lambda function returns all "
        "received record IDs."
    ),
    "Lambda.ProcessingFailedStatus": "ProcessingFailed status set for record",
    "InternalError": "An internal error occurred while invoking the Lambda function.",
}
# Of these another try may have another end.
_RETRIED = {"Lambda.InvokeLimitExceeded", "Lambda.FunctionTimedOut", "Lambda.FunctionError",
            "InternalError"}  # fmt: skip
_CODES = {
    "ResourceNotFoundException": "Lambda.ResourceNotFound",
    "AccessDeniedException": "Lambda.InvokeAccessDenied",
    "TooManyRequestsException": "Lambda.InvokeLimitExceeded",
}


@dataclass(frozen=True, slots=True)
class Record:
    """One source record on its way through the function."""

    record_id: str
    data: bytes
    arrival_ms: int
    span: Span | None = None
    kinesis: dict[str, Any] | None = None

    def event(self) -> dict[str, Any]:
        """The record in the function's event."""
        event: dict[str, Any] = {
            "recordId": self.record_id,
            "approximateArrivalTimestamp": self.arrival_ms,
            "data": base64.b64encode(self.data).decode(),
        }
        if self.kinesis is not None:
            event["kinesisRecordMetadata"] = self.kinesis
        return event


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a record was not transformed."""

    code: str
    attempts: int
    ended_ms: int

    def document(self, record: Record, function_arn: str) -> bytes:
        """The line that stands for the record under the error prefix."""
        return (
            orjson.dumps(
                {
                    "attemptsMade": self.attempts,
                    "arrivalTimestamp": record.arrival_ms,
                    "errorCode": self.code,
                    "errorMessage": MESSAGES[self.code],
                    "attemptEndingTimestamp": self.ended_ms,
                    "rawData": base64.b64encode(record.data).decode(),
                    "lambdaArn": function_arn,
                }
            )
            + b"\n"
        )


class Outcomes(Protocol):
    """Who takes what the function made of records."""

    def transformed(self, record: Record, data: bytes) -> None:
        """The record is to be delivered as `data`."""

    def dropped(self, record: Record) -> None:
        """The function dropped the record on purpose."""

    def not_transformed(self, record: Record, failure: Failure, function_arn: str) -> None:
        """The record failed and is to be kept under the error prefix."""

    def invocation_failed(self, code: str, function_arn: str) -> None:
        """An invocation failed, whatever comes of another try."""


class Transform:
    """Batches records, invokes the function with one batch after the other, in order.

    Args:
        context: The cloud.
        name: Name of the delivery stream.
        stream_arn: Its ARN.
        source_arn: ARN of the Kinesis stream it reads, or None.
        outcomes: Who takes what becomes of records.
    """

    def __init__(
        self,
        context: CloudContext,
        name: str,
        stream_arn: str,
        source_arn: str | None,
        outcomes: Outcomes,
    ) -> None:
        self._context = context
        self._name = name
        self._stream_arn = stream_arn
        self._source_arn = source_arn
        self._outcomes = outcomes
        self.settings: Transformation | None = None
        self._waiting: deque[Record] = deque()
        self._opened_s: deque[float] = deque()
        self._in_flight: list[Record] = []
        self._size = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closing = asyncio.Event()

    def add(self, record: Record) -> None:
        """Takes one record."""
        self._waiting.append(record)
        self._opened_s.append(time.monotonic())
        self._size += len(record.data)
        if self._size >= _MAX_WAITING_BYTES:
            self._room.clear()
        if len(self._waiting) == 1 or self._size >= self._max_bytes:
            self._changed.set()

    async def room(self) -> None:
        """Waits until fewer records wait for the function."""
        await self._room.wait()

    @property
    def full(self) -> bool:
        """Whether the function is far behind."""
        return not self._room.is_set()

    @property
    def idle(self) -> bool:
        """Whether no record is here."""
        return not self._waiting and not self._in_flight

    @property
    def buffered_bytes(self) -> int:
        """Bytes of the records that the function has not taken yet."""
        return self._size

    @property
    def oldest_ms(self) -> int | None:
        """Arrival of the oldest record that is here."""
        first = [*self._in_flight[:1], *([self._waiting[0]] if self._waiting else [])]
        return min((record.arrival_ms for record in first), default=None)

    @property
    def _max_bytes(self) -> int:
        return self.settings.max_bytes if self.settings else 0

    def change(self, settings: Transformation | None) -> None:
        """Transforms otherwise from now on; what waits is handled by the new settings."""
        self.settings = settings
        self._changed.set()

    def close(self) -> None:
        """Lets `run` end after one attempt at what is here."""
        self._closing.set()
        self._changed.set()

    async def run(self) -> None:
        """Transforms until it is closed."""
        while await self._due():
            batch = self._take()
            if self.settings is None:
                for record in batch:
                    self._outcomes.transformed(record, record.data)
            else:
                await self._transform(batch, self.settings)
            self._in_flight = []
            self._size = sum(len(record.data) for record in self._waiting)
            if self._size < _MAX_WAITING_BYTES:
                self._room.set()

    async def _due(self) -> bool:
        """Waits until there is a batch; False when there is nothing more to come."""
        while True:
            self._changed.clear()
            if self._closing.is_set():
                return bool(self._waiting)
            if not self._waiting:
                await self._changed.wait()
                continue
            interval_s = self.settings.interval_s if self.settings else 0.0
            left_s = self._opened_s[0] + interval_s - time.monotonic()
            if left_s <= 0 or self._size >= self._max_bytes:
                return True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left_s)

    def _take(self) -> list[Record]:
        """The next batch: up to the buffer's size, and never more than an invocation takes."""
        size = event_size = 0
        batch: list[Record] = []
        while self._waiting:
            data_size = len(self._waiting[0].data)
            cost = data_size * 4 // 3 + _RECORD_OVERHEAD
            if batch and (
                size + data_size > max(self._max_bytes, 1) or event_size + cost > MAX_EVENT_BYTES
            ):
                break
            size += data_size
            event_size += cost
            batch.append(self._waiting.popleft())
            self._opened_s.popleft()
        self._in_flight = batch
        return batch

    async def _transform(self, batch: list[Record], settings: Transformation) -> None:
        event: dict[str, Any] = {
            "invocationId": str(uuid.uuid4()),
            "deliveryStreamArn": self._stream_arn,
            "region": self._context.region,
            "records": [record.event() for record in batch],
        }
        if self._source_arn:
            event["sourceKinesisStreamArn"] = self._source_arn
        body = orjson.dumps(event)
        attempts = 0
        while True:
            attempts += 1
            access = self._context.access
            with access.acting(access.role(settings.role_arn, self._name)):
                code, answer = await self._invoke(settings.function_arn, body)
            if not code:
                returned, code = parse_answer(answer, batch)
            if not code:
                break
            self._outcomes.invocation_failed(code, settings.function_arn)
            if code not in _RETRIED or attempts > settings.retries or self._closing.is_set():
                failure = Failure(code, attempts, int(time.time() * 1000))
                for record in batch:
                    self._outcomes.not_transformed(record, failure, settings.function_arn)
                return
            low, high = RETRY_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), min(high, low * 2**attempts))
        self._settle(batch, returned, attempts, settings.function_arn)

    async def _invoke(self, function_arn: str, body: bytes) -> tuple[str, bytes]:
        """(error code, or empty; what the function returned) of one invocation."""
        function = await self._context.client("lambda")
        began_s = time.monotonic()
        code, payload = "", b""
        try:
            answer = await function.invoke(FunctionName=function_arn, Payload=body)
            payload = await answer["Payload"].read()
            if answer.get("FunctionError"):
                timed_out = b"Task timed out" in payload
                code = "Lambda.FunctionTimedOut" if timed_out else "Lambda.FunctionError"
            elif len(payload) > MAX_EVENT_BYTES:
                code = "Lambda.FunctionError"
        except ClientError as error:
            code = _CODES.get(error.response["Error"].get("Code", ""), "InternalError")
        except (BotoCoreError, OSError, TimeoutError) as error:
            log.warning("delivery stream %s: invoking %s: %s", self._name, function_arn, error)
            code = "InternalError"
        duration_ms = (time.monotonic() - began_s) * 1000
        self._measure("ExecuteProcessing.Duration", duration_ms, "Milliseconds")
        self._measure("ExecuteProcessing.Success", float(not code))
        return code, payload

    def _settle(
        self, batch: list[Record], returned: dict[str, Returned], attempts: int, function_arn: str
    ) -> None:
        failure = Failure("Lambda.ProcessingFailedStatus", attempts, int(time.time() * 1000))
        succeeded = size = 0
        for record in batch:
            result = returned[record.record_id]
            if result.status == "Ok":
                self._outcomes.transformed(record, result.data)
            elif result.status == "Dropped":
                self._outcomes.dropped(record)
            else:
                self._outcomes.not_transformed(record, failure, function_arn)
                continue
            succeeded += 1
            size += len(record.data)
        self._measure("SucceedProcessing.Records", succeeded)
        self._measure("SucceedProcessing.Bytes", size, "Bytes")

    def _measure(self, name: str, value: float, unit: str = "Count") -> None:
        self._context.metrics.put(
            "AWS/Firehose", name, value, unit=unit, dimensions={"DeliveryStreamName": self._name}
        )


@dataclass(frozen=True, slots=True)
class Returned:
    """What the function says of one record."""

    status: str
    data: bytes


def parse_answer(payload: bytes, batch: list[Record]) -> tuple[dict[str, Returned], str]:
    """(what is said of each record id, error code or empty) of a function's answer.

    Every record id of the batch must be there once, and no other: else the whole batch failed.
    """
    try:
        returned = [_parse_record(entry) for entry in orjson.loads(payload)["records"]]
    except (orjson.JSONDecodeError, binascii.Error, KeyError, TypeError, ValueError):
        return {}, "Lambda.JsonProcessingException"
    by_id = dict(returned)
    if len(by_id) < len(returned):
        return {}, "Lambda.DuplicatedRecordId"
    wanted = {record.record_id for record in batch}
    if not wanted <= by_id.keys():
        return {}, "Lambda.MissingRecordId"
    if by_id.keys() != wanted:
        return {}, "Lambda.JsonProcessingException"
    return by_id, ""


def _parse_record(entry: dict[str, Any]) -> tuple[str, Returned]:
    record_id, status = entry["recordId"], entry["result"]
    if not isinstance(record_id, str) or status not in {"Ok", "Dropped", "ProcessingFailed"}:
        raise ValueError(f"no record of the status model: {record_id!r}, {status!r}")
    if status != "Ok":
        return record_id, Returned(status, b"")
    return record_id, Returned(status, base64.b64decode(entry["data"], validate=True))
