"""The Kinesis API: dispatch, the data plane (put, iterate, get), and the seam for engines."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import os
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from localcloud.http import AwsError, Response, json_response
from localcloud.kinesis.control import ControlPlane
from localcloud.kinesis.shard import MAX_HASH_KEY, MIB, Shard
from localcloud.kinesis.stream import hash_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.http import Request
    from localcloud.kinesis.stream import Stream
    from localcloud.seams import CloudContext, StartingPosition, StreamBatch

MAX_RECORDS = 500
MAX_CALL_BYTES = 5 * MIB
MAX_RECORD_BYTES = MIB
MAX_KEY_LENGTH = 256
MAX_GET_RECORDS = 10_000
MAX_GET_BYTES = 10 * MIB
ITERATOR_LIFE_S = 300
TRIM_INTERVAL_S = 5.0
DEFAULT_MEMORY_MIB = 2048
NAMESPACE = "AWS/Kinesis"


@dataclass(slots=True)
class _Entry:
    """One record of a put; `size` counts its data and its key."""

    key: str
    data: str
    explicit: str | None
    hash_key: int
    size: int


class KinesisService:
    """Kinesis Data Streams; also the `StreamSource` of the engines.

    Records are kept in memory until their retention ends. Where all streams together hold more
    than `FLEETCAST_KINESIS_MIB` (default 2048) of data, writes are refused per record with
    InternalFailure: nothing that was acknowledged is dropped to make room.
    """

    signing_names = ("kinesis",)

    def __init__(self, context: CloudContext) -> None:
        self._context = context
        self._control = ControlPlane(context)
        self._task: asyncio.Task[None] | None = None
        self._max_bytes = int(os.environ.get("FLEETCAST_KINESIS_MIB", DEFAULT_MEMORY_MIB)) * MIB
        self._held_bytes = 0
        self._operations: dict[str, Callable[[dict[str, Any]], Any]] = {
            **self._control.operations(),
            "PutRecord": self._put_record,
            "PutRecords": self._put_records,
            "GetShardIterator": self._get_shard_iterator,
            "GetRecords": self._get_records,
        }

    async def start(self) -> None:
        """Starts expiry."""
        self._task = asyncio.create_task(self._expire())

    async def stop(self) -> None:
        """Stops expiry."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def status(self) -> dict[str, Any]:
        """Streams with their shards and what they hold."""
        return {
            "streams": {
                stream.name: {
                    "open_shards": len(stream.open_shards),
                    "records": sum(len(shard.records) for shard in stream.shards),
                    "records_ever": sum(shard.end_position for shard in stream.shards),
                    "held_mib": round(sum(s.bytes_held for s in stream.shards) / MIB, 1),
                }
                for stream in self._control.streams.values()
            },
            "unsupported": ["SubscribeToShard", "CBOR"],
        }

    async def handle(self, request: Request) -> Response | None:
        """Answers a request of the JSON protocol."""
        if "cbor" in request.headers.get("content-type", ""):
            raise AwsError("UnsupportedOperation", "CBOR is not served: use the JSON protocol")
        operation = self._operations.get(request.operation)
        if operation is None:
            raise AwsError(
                "UnknownOperationException",
                f"Kinesis operation {request.operation or '(none)'} is not served locally",
            )
        try:
            return json_response(operation(request.json()))
        except KeyError as error:
            raise AwsError("ValidationException", f"{error.args[0]} is required") from error

    # Data plane

    def _put_record(self, body: dict[str, Any]) -> dict[str, Any]:
        stream = self._control.find(body)
        began = time.perf_counter()
        entry = _checked(body)
        self._refill(stream)
        result = self._put_one(stream, entry, int(time.time() * 1000))
        success = "ErrorCode" not in result
        put = self._context.metrics.put
        where = {"StreamName": stream.name}
        elapsed_ms = (time.perf_counter() - began) * 1000
        put(NAMESPACE, "PutRecord.Success", float(success), unit="Count", dimensions=where)
        put(NAMESPACE, "PutRecord.Latency", elapsed_ms, unit="Milliseconds", dimensions=where)
        if not success:
            if result["ErrorCode"] == "ProvisionedThroughputExceededException":
                put(
                    NAMESPACE,
                    "WriteProvisionedThroughputExceeded",
                    1,
                    unit="Count",
                    dimensions=where,
                )
            raise AwsError(result["ErrorCode"], result["ErrorMessage"])
        put(NAMESPACE, "PutRecord.Bytes", entry.size, unit="Bytes", dimensions=where)
        self._count_incoming(stream, 1, entry.size)
        stream.shard(result["ShardId"]).wake()
        return {**result, "EncryptionType": stream.encryption_type}

    def _put_records(self, body: dict[str, Any]) -> dict[str, Any]:
        stream = self._control.find(body)
        entries = body["Records"]
        if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_RECORDS:
            raise AwsError(
                "ValidationException",
                f"1 validation error detected: Value at 'records' failed to satisfy constraint: "
                f"Member must have length between 1 and {MAX_RECORDS}",
            )
        began = time.perf_counter()
        total = sum(len(entry["Data"]) * 3 // 4 + len(entry["PartitionKey"]) for entry in entries)
        if total > MAX_CALL_BYTES:
            raise AwsError("InvalidArgumentException", "Records size exceeds 5 MB limit")
        # All are looked at before one is stored: a call that fails leaves nothing behind.
        checked = [_checked(entry) for entry in entries]
        self._refill(stream)
        now_ms = int(time.time() * 1000)
        results = []
        failed = throttled = good_bytes = 0
        touched: dict[str, None] = {}
        for entry in checked:
            result = self._put_one(stream, entry, now_ms)
            results.append(result)
            if "ErrorCode" in result:
                failed += 1
                throttled += result["ErrorCode"] == "ProvisionedThroughputExceededException"
            else:
                good_bytes += entry.size
                touched[result["ShardId"]] = None
        for shard in stream.shards:
            if shard.shard_id in touched:
                shard.wake()
        self._measure_put_records(stream, began, len(entries), failed, throttled, good_bytes)
        return {
            "FailedRecordCount": failed,
            "Records": results,
            "EncryptionType": stream.encryption_type,
        }

    def _put_one(self, stream: Stream, entry: _Entry, now_ms: int) -> dict[str, Any]:
        shard = stream.shard_for(entry.hash_key)
        if self._held_bytes > self._max_bytes:
            return {
                "ErrorCode": "InternalFailure",
                "ErrorMessage": "the local cloud's stream memory is full: "
                "shorten the retention or raise FLEETCAST_KINESIS_MIB",
            }
        if not shard.admit(entry.size):
            return {
                "ErrorCode": "ProvisionedThroughputExceededException",
                "ErrorMessage": f"Rate exceeded for shard {shard.shard_id} in stream "
                f"{stream.name} under account {self._context.account_id}.",
            }
        number = shard.append(entry.key, entry.data, now_ms, entry.explicit)
        self._held_bytes += len(entry.data) + len(entry.key)
        return {"SequenceNumber": number, "ShardId": shard.shard_id}

    def _refill(self, stream: Stream) -> None:
        for shard in stream.open_shards:
            shard.write_bytes.refill()
            shard.write_records.refill()

    def _measure_put_records(
        self, stream: Stream, began: float, total: int, failed: int, throttled: int, size: int
    ) -> None:
        put = self._context.metrics.put
        where = {"StreamName": stream.name}
        elapsed_ms = (time.perf_counter() - began) * 1000
        good = total - failed
        for name, value in (
            ("PutRecords.TotalRecords", total),
            ("PutRecords.SuccessfulRecords", good),
            ("PutRecords.FailedRecords", failed),
            ("PutRecords.ThrottledRecords", throttled),
            ("PutRecords.Success", int(good > 0)),
            ("WriteProvisionedThroughputExceeded", throttled),
        ):
            put(NAMESPACE, name, value, unit="Count", dimensions=where)
        put(NAMESPACE, "PutRecords.Bytes", size, unit="Bytes", dimensions=where)
        put(NAMESPACE, "PutRecords.Latency", elapsed_ms, unit="Milliseconds", dimensions=where)
        self._count_incoming(stream, good, size)

    def _count_incoming(self, stream: Stream, count: int, size: int) -> None:
        put = self._context.metrics.put
        where = {"StreamName": stream.name}
        put(NAMESPACE, "IncomingRecords", count, unit="Count", dimensions=where)
        put(NAMESPACE, "IncomingBytes", size, unit="Bytes", dimensions=where)

    def _get_shard_iterator(self, body: dict[str, Any]) -> dict[str, Any]:
        stream = self._control.find(body)
        shard = stream.shard(body["ShardId"])
        kind = body["ShardIteratorType"]
        number = body.get("StartingSequenceNumber")
        if kind in {"AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"}:
            position = shard.position_of(str(number))
            if position is None:
                raise AwsError(
                    "InvalidArgumentException",
                    f"StartingSequenceNumber {number} is not one of shard {shard.shard_id}",
                )
            position += kind == "AFTER_SEQUENCE_NUMBER"
        elif kind in {"LATEST", "TRIM_HORIZON", "AT_TIMESTAMP"}:
            position = _start(shard, kind, body.get("Timestamp"))
        else:
            raise AwsError("ValidationException", f"ShardIteratorType {kind!r} is unknown")
        return {"ShardIterator": _iterator(stream, shard, position)}

    def _get_records(self, body: dict[str, Any]) -> dict[str, Any]:
        stream, shard, position = self._from_iterator(body["ShardIterator"])
        limit = body.get("Limit", MAX_GET_RECORDS)
        if not isinstance(limit, int) or not 1 <= limit <= MAX_GET_RECORDS:
            raise AwsError("ValidationException", f"Limit must be from 1 to {MAX_GET_RECORDS}")
        put = self._context.metrics.put
        where = {"StreamName": stream.name}
        shard.read_calls.refill()
        shard.read_bytes.refill()
        if shard.read_calls.tokens < 1 or shard.read_bytes.tokens < 0:
            put(NAMESPACE, "ReadProvisionedThroughputExceeded", 1, unit="Count", dimensions=where)
            raise AwsError(
                "ProvisionedThroughputExceededException",
                f"Rate exceeded for shard {shard.shard_id} in stream {stream.name} "
                f"under account {self._context.account_id}.",
            )
        batch = shard.read(position, limit, MAX_GET_BYTES * 4 // 3)
        size = sum(len(record.data) * 3 // 4 for record in batch.records)
        shard.read_calls.tokens -= 1
        # A read may exceed the second's worth; the following calls then wait until it is paid off.
        shard.read_bytes.tokens -= size
        put(NAMESPACE, "GetRecords.Success", 1, unit="Count", dimensions=where)
        put(NAMESPACE, "GetRecords.Records", len(batch.records), unit="Count", dimensions=where)
        put(NAMESPACE, "GetRecords.Bytes", size, unit="Bytes", dimensions=where)
        self._measure_age(stream, batch)
        return {
            "Records": [
                {
                    "SequenceNumber": record.sequence_number,
                    "ApproximateArrivalTimestamp": record.arrival_ms / 1000,
                    "Data": record.data,
                    "PartitionKey": record.partition_key,
                    "EncryptionType": stream.encryption_type,
                }
                for record in batch.records
            ],
            "NextShardIterator": None
            if batch.shard_ended
            else _iterator(stream, shard, batch.next_position),
            "MillisBehindLatest": batch.behind_ms,
            "ChildShards": self._control.children(stream, shard) if batch.shard_ended else [],
        }

    def _measure_age(self, stream: Stream, batch: StreamBatch) -> None:
        age_ms = 0
        if batch.records:
            age_ms = max(0, int(time.time() * 1000) - batch.records[-1].arrival_ms)
        self._context.metrics.put(
            NAMESPACE,
            "GetRecords.IteratorAgeMilliseconds",
            age_ms if batch.behind_ms else 0,
            unit="Milliseconds",
            dimensions={"StreamName": stream.name},
        )

    def _from_iterator(self, text: str) -> tuple[Stream, Shard, int]:
        try:
            value = orjson.loads(base64.b64decode(text, validate=True))
            arn, shard_id, position, made_s = value["a"], value["s"], value["p"], value["t"]
        except (binascii.Error, orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise AwsError("InvalidArgumentException", "Invalid ShardIterator.") from error
        if time.time() - made_s > ITERATOR_LIFE_S:
            raise AwsError(
                "ExpiredIteratorException",
                f"Iterator expired. The iterator was created more than {ITERATOR_LIFE_S} s ago.",
            )
        stream = self._control.by_arn(arn)
        return stream, stream.shard(shard_id), position

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(TRIM_INTERVAL_S)
            for stream in self._control.streams.values():
                stream.trim()
            self._held_bytes = sum(
                shard.bytes_held for s in self._control.streams.values() for shard in s.shards
            )

    # The seam for engines

    def shard_ids(self, stream_arn: str) -> list[str]:
        """See `StreamSource`."""
        return [shard.shard_id for shard in self._control.by_arn(stream_arn).shards]

    def parents(self, stream_arn: str, shard_id: str) -> list[str]:
        """See `StreamSource`."""
        shard = self._control.by_arn(stream_arn).shard(shard_id)
        return [name for name in (shard.parent, shard.adjacent_parent) if name]

    def position(
        self,
        stream_arn: str,
        shard_id: str,
        starting: StartingPosition,
        timestamp_s: float | None = None,
    ) -> int:
        """See `StreamSource`."""
        return _start(self._control.by_arn(stream_arn).shard(shard_id), starting, timestamp_s)

    def read(
        self, stream_arn: str, shard_id: str, position: int, limit: int, max_bytes: int
    ) -> StreamBatch:
        """See `StreamSource`."""
        stream = self._control.by_arn(stream_arn)
        batch = stream.shard(shard_id).read(position, limit, max_bytes)
        where = {"StreamName": stream.name}
        if batch.records:
            put = self._context.metrics.put
            put(NAMESPACE, "GetRecords.Records", len(batch.records), unit="Count", dimensions=where)
            put(NAMESPACE, "GetRecords.Success", 1, unit="Count", dimensions=where)
        self._measure_age(stream, batch)
        return batch

    async def wait(self, stream_arn: str, shard_id: str, position: int, timeout_s: float) -> bool:
        """See `StreamSource`."""
        return await self._control.by_arn(stream_arn).shard(shard_id).wait(position, timeout_s)


def _checked(entry: dict[str, Any]) -> _Entry:
    """One record of a put.

    Raises:
        AwsError: it is malformed or too large.
    """
    key = entry["PartitionKey"]
    data = entry["Data"]
    explicit = entry.get("ExplicitHashKey")
    if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise AwsError("ValidationException", "PartitionKey must have 1 to 256 characters")
    try:
        size = len(binascii.a2b_base64(data, strict_mode=True)) + len(key)
    except (binascii.Error, TypeError, ValueError) as error:
        raise AwsError("SerializationException", f"Data is not base64: {error}") from error
    if size > MAX_RECORD_BYTES:
        raise AwsError(
            "ValidationException",
            "record (data and partition key) exceeds 1 MiB (1048576 bytes)",
        )
    return _Entry(
        key, data, explicit, hash_key(key) if explicit is None else _explicit(explicit), size
    )


def _explicit(text: Any) -> int:
    if not isinstance(text, str) or not text.isdigit() or int(text) > MAX_HASH_KEY:
        raise AwsError("InvalidArgumentException", f"Invalid ExplicitHashKey. {text!r}")
    return int(text)


def _start(shard: Shard, starting: str, timestamp_s: float | None) -> int:
    if starting == "LATEST":
        return shard.end_position
    if starting == "TRIM_HORIZON":
        return shard.first_position
    if timestamp_s is None:
        raise AwsError("InvalidArgumentException", "Timestamp is required for AT_TIMESTAMP")
    return shard.position_at_time(timestamp_s * 1000)


def _iterator(stream: Stream, shard: Shard, position: int) -> str:
    value = {
        "a": stream.arn, "s": shard.shard_id, "p": position, "t": time.time(), "n": uuid.uuid4().hex
    }  # fmt: skip
    return base64.b64encode(orjson.dumps(value)).decode()
