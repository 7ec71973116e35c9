"""The Firehose API: delivery streams to S3, from direct puts or a Kinesis stream."""

from __future__ import annotations

import base64
import binascii
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localcloud.arn import arn
from localcloud.firehose import prefix
from localcloud.firehose.delivery import Delivery
from localcloud.http import AwsError, Response, json_response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from localcloud.http import Request
    from localcloud.seams import CloudContext, StreamSource

DESTINATION_ID = "destinationId-000000000001"
MAX_RECORD = 1000 * 1024
MAX_BATCH = 500
MAX_BATCH_BYTES = 4 * 1024 * 1024
_DESTINATION = {
    "RoleARN", "BucketARN", "Prefix", "ErrorOutputPrefix", "BufferingHints", "CompressionFormat",
    "EncryptionConfiguration", "CloudWatchLoggingOptions", "ProcessingConfiguration",
    "S3BackupMode", "DynamicPartitioningConfiguration", "FileExtension", "CustomTimeZone",
    "DataFormatConversionConfiguration",
}  # fmt: skip


@dataclass(slots=True)
class DeliveryStream:
    """A delivery stream's settings and its engine."""

    name: str
    arn: str
    kind: str
    source: dict[str, Any] | None
    engine: Delivery
    created_s: float = field(default_factory=time.time)
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
                    "last_error": stream.engine.last_error,
                    **stream.engine.backlog(),
                }
                for name, stream in self._delivery_streams.items()
            },
            "unsupported": ["destinations but S3", "Lambda transformation", "dynamic partitioning",
                            "format conversion"],
        }  # fmt: skip

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
        if name in self._delivery_streams:
            raise AwsError(
                "ResourceInUseException",
                f"Firehose {name} under accountId {self._context.account_id} already exists",
            )
        kind = body.get("DeliveryStreamType", "DirectPut")
        if kind not in {"DirectPut", "KinesisStreamAsSource"}:
            raise AwsError(
                "InvalidArgumentException", f"DeliveryStreamType {kind} is not served locally"
            )
        others = [
            k
            for k in body
            if k.endswith("DestinationConfiguration") and not k.startswith("ExtendedS3")
        ]
        if others:
            raise AwsError("InvalidArgumentException", f"{others[0]} is not supported locally")
        destination = _checked(body["ExtendedS3DestinationConfiguration"])
        source = body.get("KinesisStreamSourceConfiguration")
        if (kind == "KinesisStreamAsSource") != (source is not None):
            raise AwsError(
                "InvalidArgumentException",
                "KinesisStreamSourceConfiguration belongs to KinesisStreamAsSource",
            )
        engine = Delivery(
            self._context,
            self._streams,
            name,
            destination,
            source["KinesisStreamARN"] if source else None,
        )
        stream = DeliveryStream(
            name,
            arn(
                "firehose", self._context.region, self._context.account_id, f"deliverystream/{name}"
            ),
            kind,
            source,
            engine,
        )
        if body.get("DeliveryStreamEncryptionConfigurationInput"):
            stream.encryption = dict(body["DeliveryStreamEncryptionConfigurationInput"])
        stream.tags.update({tag["Key"]: tag.get("Value", "") for tag in body.get("Tags") or ()})
        engine.begin()
        self._delivery_streams[name] = stream
        return {"DeliveryStreamARN": stream.arn}

    async def _describe(self, body: dict[str, Any]) -> dict[str, Any]:
        stream = self._find(body)
        destination = stream.engine.destination
        s3 = {key: destination[key] for key in destination if key in {
            "RoleARN", "BucketARN", "Prefix", "ErrorOutputPrefix", "BufferingHints",
            "CompressionFormat", "EncryptionConfiguration", "CloudWatchLoggingOptions",
        }}  # fmt: skip
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
        update = body["ExtendedS3DestinationUpdate"]
        stream.engine.destination = _checked({**stream.engine.destination, **update})
        stream.engine.version += 1
        stream.updated_s = time.time()
        return {}

    async def _put_record(self, body: dict[str, Any]) -> dict[str, Any]:
        stream = self._direct(body)
        stream.engine.put(_data(body["Record"]))
        return {"RecordId": uuid.uuid4().hex, "Encrypted": stream.encryption is not None}

    async def _put_record_batch(self, body: dict[str, Any]) -> dict[str, Any]:
        stream = self._direct(body)
        if not 1 <= len(body["Records"]) <= MAX_BATCH:
            raise AwsError("InvalidArgumentException", f"1 to {MAX_BATCH} records in a batch")
        records = [_data(record) for record in body["Records"]]
        if sum(map(len, records)) > MAX_BATCH_BYTES:
            raise AwsError("InvalidArgumentException", "a batch has at most 4 MiB")
        answers: list[dict[str, Any]] = []
        for data in records:
            try:
                stream.engine.put(data)
                answers.append({"RecordId": uuid.uuid4().hex})
            except AwsError as error:
                answers.append({"ErrorCode": error.code, "ErrorMessage": error.message})
        failed = sum("ErrorCode" in answer for answer in answers)
        return {"FailedPutCount": failed, "RequestResponses": answers, "Encrypted": False}

    def _direct(self, body: dict[str, Any]) -> DeliveryStream:
        stream = self._find(body)
        if stream.kind != "DirectPut":
            raise AwsError(
                "InvalidArgumentException",
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
        tags = {tag["Key"]: tag.get("Value", "") for tag in body["Tags"]}
        self._find(body).tags.update(tags)
        return {}

    async def _untag(self, body: dict[str, Any]) -> dict[str, Any]:
        stream = self._find(body)
        for key in body["TagKeys"]:
            stream.tags.pop(key, None)
        return {}

    async def _list_tags(self, body: dict[str, Any]) -> dict[str, Any]:
        tags = sorted(self._find(body).tags.items())
        return {"Tags": [{"Key": k, "Value": v} for k, v in tags], "HasMoreTags": False}


def _data(record: dict[str, Any]) -> bytes:
    try:
        data = base64.b64decode(record["Data"], validate=True)
    except (binascii.Error, TypeError) as error:
        raise AwsError("SerializationException", "Data is not base64") from error
    if len(data) > MAX_RECORD:
        raise AwsError("InvalidArgumentException", "a record has at most 1,000 KiB")
    return data


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    """The destination with its defaults.

    Raises:
        AwsError: InvalidArgumentException for what is out of bounds or not served.
    """
    unknown = sorted(name for name in given if name not in _DESTINATION)
    if unknown:
        raise AwsError("InvalidArgumentException", f"{unknown[0]} is not supported locally")
    hints = given.get("BufferingHints") or {}
    size, interval = hints.get("SizeInMBs", 5), hints.get("IntervalInSeconds", 300)
    if not 1 <= size <= 128 or not 0 <= interval <= 900:  # noqa: PLR2004 - AWS's bounds
        raise AwsError("InvalidArgumentException", "buffer 1 to 128 MiB and 0 to 900 seconds")
    if given.get("CompressionFormat", "UNCOMPRESSED") not in {"GZIP", "UNCOMPRESSED"}:
        raise AwsError(
            "InvalidArgumentException",
            f"CompressionFormat {given['CompressionFormat']} is not supported locally",
        )
    for name in ("DynamicPartitioningConfiguration", "DataFormatConversionConfiguration"):
        if (given.get(name) or {}).get("Enabled"):
            raise AwsError("InvalidArgumentException", f"{name} is not supported locally")
    if given.get("S3BackupMode", "Disabled") != "Disabled":
        raise AwsError("InvalidArgumentException", "S3BackupMode is not supported locally")
    if given.get("CustomTimeZone", "UTC") != "UTC":
        raise AwsError(
            "InvalidArgumentException", "CustomTimeZone but UTC is not supported locally"
        )
    processing = given.get("ProcessingConfiguration") or {}
    for processor in processing.get("Processors") or () if processing.get("Enabled") else ():
        if processor["Type"] not in {"AppendDelimiterToRecord", "RecordDeAggregation"}:
            raise AwsError(
                "InvalidArgumentException",
                f"processor {processor['Type']} is not supported locally",
            )
    for name, error in (("Prefix", False), ("ErrorOutputPrefix", True)):
        prefix.check(given.get(name) or "", error=error)
    return {
        "CompressionFormat": "UNCOMPRESSED",
        "S3BackupMode": "Disabled",
        "EncryptionConfiguration": {"NoEncryptionConfig": "NoEncryption"},
        "CloudWatchLoggingOptions": {"Enabled": False},
        **given,
        "BufferingHints": {"SizeInMBs": size, "IntervalInSeconds": interval},
    }
