"""The Firehose API: delivery streams to S3, from direct puts or a Kinesis stream."""

from __future__ import annotations

import base64
import binascii
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localcloud.arn import arn
from localcloud.durable import moment
from localcloud.firehose import settings
from localcloud.firehose.delivery import Delivery
from localcloud.firehose.kept import KIND, KeptPuts
from localcloud.firehose.source import Source
from localcloud.firehose.throttle import Throttle, quota_of
from localcloud.http import AwsError, Response, json_response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from localcloud.http import Request
    from localcloud.seams import CloudContext, StreamSource

DESTINATION_ID = "destinationId-000000000001"
MAX_RECORD = 1000 * 1024
MAX_BATCH = 500
MAX_BATCH_BYTES = 4 * 1024 * 1024
MAX_STREAMS = 5000
MAX_TAGS = 50
NAMESPACE = "AWS/Firehose"
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")


@dataclass(slots=True)
class DeliveryStream:
    """A delivery stream's settings and its engine."""

    name: str
    arn: str
    kind: str
    source: dict[str, Any] | None
    engine: Delivery
    throttle: Throttle
    created_s: float = field(default_factory=moment.now_s)
    updated_s: float | None = None
    encryption: dict[str, Any] | None = None
    tags: dict[str, str] = field(default_factory=dict)


class FirehoseService:
    """Firehose with S3 as the only destination; other destinations are refused by name."""

    signing_names = ("firehose",)

    def __init__(self, context: CloudContext, streams: StreamSource) -> None:
        self._context = context
        self._streams = streams
        self._delivery_streams: dict[str, DeliveryStream] = {}
        self._operations: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "CreateDeliveryStream": self._create,
            "DescribeDeliveryStream": self._describe,
            "ListDeliveryStreams": self._list,
            "DeleteDeliveryStream": self._delete,
            "UpdateDestination": self._update,
            "PutRecord": self._put_record,
            "PutRecordBatch": self._put_record_batch,
            "StartDeliveryStreamEncryption": self._start_encryption,
            "StopDeliveryStreamEncryption": self._stop_encryption,
            "TagDeliveryStream": self._tag,
            "UntagDeliveryStream": self._untag,
            "ListTagsForDeliveryStream": self._list_tags,
        }

    async def restore(self) -> None:
        """Delivers direct puts that were not delivered, and goes on reading sources."""
        folder = self._context.folder
        if folder is None:
            return
        direct = [stream.name for stream in self._delivery_streams.values() if not stream.source]
        folder.keep_only(KIND, direct)
        for stream in self._delivery_streams.values():
            if stream.source:
                stream.engine.restore()
            else:
                stream.engine.keep(KeptPuts(folder.log(KIND, stream.name)))

    async def start(self) -> None:
        """Nothing runs before a delivery stream is created."""

    async def stop(self) -> None:
        """Delivers what is buffered and stops."""
        for stream in self._delivery_streams.values():
            await stream.engine.stop()

    def status(self) -> dict[str, Any]:
        """Delivery streams with what they delivered and what waits."""
        return {
            "delivery_streams": {
                name: {
                    "objects": stream.engine.objects,
                    "records": stream.engine.records,
                    "failed_records": stream.engine.failed_records,
                    "last_error": stream.engine.last_error,
                    **stream.engine.backlog(),
                }
                for name, stream in self._delivery_streams.items()
            },
            "unsupported": [
                "destinations but S3", "sources but Kinesis and direct puts",
                "dynamic partitioning", "format conversion", "Snappy and HADOOP_SNAPPY",
                "processors but Lambda and AppendDelimiterToRecord",
            ],
        }  # fmt: skip

    def operations(self) -> frozenset[str]:
        """See `Service`."""
        return frozenset(self._operations)

    async def handle(self, request: Request) -> Response | None:
        """Answers a request."""
        operation = self._operations.get(request.operation)
        if operation is None:
            raise AwsError(
                "UnknownOperationException",
                f"Firehose operation {request.operation or '(none)'} is not served locally",
            )
        try:
            return json_response(await operation(request.json()))
        except KeyError as error:
            raise AwsError("InvalidArgumentException", f"{error.args[0]} is required") from error

    def _find(self, body: dict[str, Any]) -> DeliveryStream:
        name = body["DeliveryStreamName"]
        if name not in self._delivery_streams:
            raise AwsError(
                "ResourceNotFoundException",
                f"Firehose {name} under account {self._context.account_id} not found.",
            )
        return self._delivery_streams[name]

    async def _create(self, body: dict[str, Any]) -> dict[str, Any]:
        name = body["DeliveryStreamName"]
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise settings.invalid(f"DeliveryStreamName {name!r} must match [a-zA-Z0-9_.-]{{1,64}}")
        if name in self._delivery_streams:
            raise AwsError(
                "ResourceInUseException",
                f"Firehose {name} under accountId {self._context.account_id} already exists",
            )
        if len(self._delivery_streams) >= MAX_STREAMS:
            raise AwsError(
                "LimitExceededException", f"there are {MAX_STREAMS} delivery streams already"
            )
        kind = body.get("DeliveryStreamType", "DirectPut")
        if kind not in {"DirectPut", "KinesisStreamAsSource"}:
            raise settings.invalid(f"DeliveryStreamType {kind} is not supported locally")
        others = [
            k
            for k in body
            if k.endswith("DestinationConfiguration") and not k.startswith("ExtendedS3")
        ]
        if others:
            raise settings.invalid(f"{others[0]} is not supported locally")
        given = body["ExtendedS3DestinationConfiguration"]
        if "S3BackupUpdate" in given:
            raise settings.invalid("S3BackupUpdate belongs to UpdateDestination")
        destination = settings.checked(given)
        source = body.get("KinesisStreamSourceConfiguration")
        if (kind == "KinesisStreamAsSource") != (source is not None):
            raise settings.invalid(
                "KinesisStreamSourceConfiguration belongs to KinesisStreamAsSource"
            )
        context = self._context
        tags = _tags(body.get("Tags") or ())
        self._check_roles(destination, source)
        stream_arn = arn("firehose", context.region, context.account_id, f"deliverystream/{name}")
        engine = Delivery(
            context, self._streams, name, stream_arn, destination,
            Source(source["KinesisStreamARN"], source["RoleARN"]) if source else None,
        )  # fmt: skip
        throttle = Throttle(quota_of(context.region))
        stream = DeliveryStream(name, stream_arn, kind, source, engine, throttle, tags=tags)
        if body.get("DeliveryStreamEncryptionConfigurationInput"):
            if source:
                raise settings.invalid(
                    "DeliveryStreamEncryptionConfigurationInput is for DirectPut delivery streams"
                )
            stream.encryption = dict(body["DeliveryStreamEncryptionConfigurationInput"])
        engine.begin()
        folder = context.folder
        if folder is not None and source is None and context.restored.is_set():
            folder.forget(KIND, name)
            engine.keep(KeptPuts(folder.log(KIND, name)))
        self._delivery_streams[name] = stream
        return {"DeliveryStreamARN": stream.arn}

    def _check_roles(self, destination: dict[str, Any], source: dict[str, Any] | None) -> None:
        """Refuses roles that Firehose may not assume."""
        given = [destination, destination.get("S3BackupConfiguration"), source]
        for role in {one["RoleARN"] for one in given if one}:
            if not self._context.access.may_assume(role, "firehose.amazonaws.com"):
                raise settings.invalid(
                    f"Firehose is unable to assume role {role}. Please check the role provided."
                )

    async def _describe(self, body: dict[str, Any]) -> dict[str, Any]:
        stream = self._find(body)
        destination = dict(stream.engine.destination)
        s3 = {key: destination[key] for key in destination if key in {
            "RoleARN", "BucketARN", "Prefix", "ErrorOutputPrefix", "BufferingHints",
            "CompressionFormat", "EncryptionConfiguration", "CloudWatchLoggingOptions",
        }}  # fmt: skip
        backup = destination.pop("S3BackupConfiguration", None)
        if backup is not None:
            destination["S3BackupDescription"] = backup
        description: dict[str, Any] = {
            "DeliveryStreamName": stream.name,
            "DeliveryStreamARN": stream.arn,
            "DeliveryStreamStatus": "ACTIVE",
            "DeliveryStreamEncryptionConfiguration": {"Status": "ENABLED", **stream.encryption}
            if stream.encryption
            else {"Status": "DISABLED"},
            "DeliveryStreamType": stream.kind,
            "VersionId": str(stream.engine.version),
            "CreateTimestamp": stream.created_s,
            "Destinations": [
                {
                    "DestinationId": DESTINATION_ID,
                    "S3DestinationDescription": s3,
                    "ExtendedS3DestinationDescription": destination,
                }
            ],
            "HasMoreDestinations": False,
        }
        if stream.updated_s:
            description["LastUpdateTimestamp"] = stream.updated_s
        if stream.source:
            description["Source"] = {
                "KinesisStreamSourceDescription": {
                    **stream.source,
                    "DeliveryStartTimestamp": stream.created_s,
                }
            }
        return {"DeliveryStreamDescription": description}

    async def _list(self, body: dict[str, Any]) -> dict[str, Any]:
        after, limit = body.get("ExclusiveStartDeliveryStreamName", ""), body.get("Limit", 10)
        kind = body.get("DeliveryStreamType")
        names = sorted(
            name
            for name, stream in self._delivery_streams.items()
            if name > after and kind in (None, stream.kind)
        )
        return {"DeliveryStreamNames": names[:limit], "HasMoreDeliveryStreams": len(names) > limit}

    async def _delete(self, body: dict[str, Any]) -> dict[str, Any]:
        stream = self._find(body)
        del self._delivery_streams[stream.name]
        await stream.engine.stop()
        stream.engine.forget()
        if self._context.folder is not None and self._context.restored.is_set():
            self._context.folder.forget(KIND, stream.name)
        return {}

    async def _update(self, body: dict[str, Any]) -> dict[str, Any]:
        stream = self._find(body)
        if body["CurrentDeliveryStreamVersionId"] != str(stream.engine.version):
            raise AwsError(
                "ConcurrentModificationException",
                f"Cannot update firehose: {stream.name} since the current version id: "
                f"{stream.engine.version} and specified version id: "
                f"{body['CurrentDeliveryStreamVersionId']} do not match",
            )
        if body["DestinationId"] != DESTINATION_ID:
            raise settings.invalid(
                f"Destination Id {body['DestinationId']} not found in firehose {stream.name}"
            )
        update = dict(body["ExtendedS3DestinationUpdate"])
        before = stream.engine.destination
        if "S3BackupUpdate" in update:
            backup = update.pop("S3BackupUpdate")
            update["S3BackupConfiguration"] = {**before.get("S3BackupConfiguration", {}), **backup}
        destination = settings.checked({**before, **update})
        if before["S3BackupMode"] == "Enabled" and destination["S3BackupMode"] != "Enabled":
            raise settings.invalid("S3BackupMode cannot be disabled once it is enabled")
        self._check_roles(destination, None)
        stream.engine.change(destination)
        stream.updated_s = moment.now_s()
        return {}

    async def _put_record(self, body: dict[str, Any]) -> dict[str, Any]:
        stream = self._direct(body)
        began_s = time.perf_counter()
        data = _data(body["Record"])
        self._admit_request(stream)
        admitted = not stream.engine.full and stream.throttle.admit_record(len(data))
        self._measure(stream, "PutRecord", began_s, [data] if admitted else [], not admitted)
        if not admitted:
            raise _slow_down()
        record_id = stream.engine.put(data)
        return {"RecordId": record_id, "Encrypted": stream.encryption is not None}

    async def _put_record_batch(self, body: dict[str, Any]) -> dict[str, Any]:
        stream = self._direct(body)
        began_s = time.perf_counter()
        if not 1 <= len(body["Records"]) <= MAX_BATCH:
            raise settings.invalid(f"1 to {MAX_BATCH} records in a batch")
        records = [_data(record) for record in body["Records"]]
        if sum(map(len, records)) > MAX_BATCH_BYTES:
            raise settings.invalid("a batch has at most 4 MiB")
        self._admit_request(stream)
        answers: list[dict[str, Any]] = []
        taken: list[bytes] = []
        for data in records:
            if stream.engine.full or not stream.throttle.admit_record(len(data)):
                error = _slow_down()
                answers.append({"ErrorCode": error.code, "ErrorMessage": error.message})
                continue
            answers.append({"RecordId": stream.engine.put(data)})
            taken.append(data)
        failed = len(records) - len(taken)
        self._measure(stream, "PutRecordBatch", began_s, taken, failed)
        return {
            "FailedPutCount": failed,
            "RequestResponses": answers,
            "Encrypted": stream.encryption is not None,
        }

    def _admit_request(self, stream: DeliveryStream) -> None:
        if not stream.throttle.admit_request():
            raise _slow_down()

    def _measure(
        self,
        stream: DeliveryStream,
        operation: str,
        began_s: float,
        taken: list[bytes],
        throttled: int,
    ) -> None:
        """Publishes the metrics of one put."""
        size, quota = sum(map(len, taken)), stream.throttle.quota
        latency_ms = (time.perf_counter() - began_s) * 1000
        metrics: list[tuple[str, float, str]] = [
            ("IncomingRecords", len(taken), "Count"),
            ("IncomingBytes", size, "Bytes"),
            ("IncomingPutRequests", 1, "Count"),
            ("ThrottledRecords", throttled, "Count"),
            ("RecordsPerSecondLimit", quota.records, "Count"),
            ("BytesPerSecondLimit", quota.bytes, "Bytes/Second"),
            ("PutRequestsPerSecondLimit", quota.requests, "Count"),
            (f"{operation}.Requests", 1, "Count"),
            (f"{operation}.Bytes", size, "Bytes"),
            (f"{operation}.Latency", latency_ms, "Milliseconds"),
        ]
        if operation == "PutRecordBatch":
            metrics.append(("PutRecordBatch.Records", len(taken), "Count"))
        where = {"DeliveryStreamName": stream.name}
        for name, value, unit in metrics:
            self._context.metrics.put(NAMESPACE, name, value, unit=unit, dimensions=where)

    def _direct(self, body: dict[str, Any]) -> DeliveryStream:
        stream = self._find(body)
        if stream.kind != "DirectPut":
            raise settings.invalid(
                f"This operation is not permitted on {stream.kind} delivery stream type.",
            )
        return stream

    async def _start_encryption(self, body: dict[str, Any]) -> dict[str, Any]:
        stream = self._direct(body)
        stream.encryption = dict(
            body.get("DeliveryStreamEncryptionConfigurationInput") or {"KeyType": "AWS_OWNED_CMK"}
        )
        return {}

    async def _stop_encryption(self, body: dict[str, Any]) -> dict[str, Any]:
        self._direct(body).encryption = None
        return {}

    async def _tag(self, body: dict[str, Any]) -> dict[str, Any]:
        stream = self._find(body)
        tags = {**stream.tags, **_tags(body["Tags"])}
        if len(tags) > MAX_TAGS:
            raise AwsError(
                "LimitExceededException", f"a delivery stream has at most {MAX_TAGS} tags"
            )
        stream.tags = tags
        return {}

    async def _untag(self, body: dict[str, Any]) -> dict[str, Any]:
        stream = self._find(body)
        for key in body["TagKeys"]:
            stream.tags.pop(key, None)
        return {}

    async def _list_tags(self, body: dict[str, Any]) -> dict[str, Any]:
        after, limit = body.get("ExclusiveStartTagKey") or "", int(body.get("Limit") or MAX_TAGS)
        tags = [pair for pair in sorted(self._find(body).tags.items()) if pair[0] > after]
        return {
            "Tags": [{"Key": key, "Value": value} for key, value in tags[:limit]],
            "HasMoreTags": len(tags) > limit,
        }

    def delivered_positions(self) -> dict[str, dict[str, dict[str, int]]]:
        """How far each delivery stream has delivered its source: positions by shard, by stream ARN.

        What lies before a position is in S3 or was dropped by the transformation; a reader that
        goes on from there loses nothing.
        """
        return {
            name: {stream.source["KinesisStreamARN"]: dict(stream.engine.positions.delivered)}
            for name, stream in self._delivery_streams.items()
            if stream.source
        }


def _slow_down() -> AwsError:
    return AwsError("ServiceUnavailableException", "Slow down.", 503)


def _tags(given: Iterable[dict[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value", "") for tag in given}


def _data(record: dict[str, Any]) -> bytes:
    try:
        data = base64.b64decode(record["Data"], validate=True)
    except (binascii.Error, TypeError) as error:
        raise AwsError("SerializationException", "Data is not base64") from error
    if len(data) > MAX_RECORD:
        raise AwsError("InvalidArgumentException", "a record has at most 1,000 KiB")
    return data
