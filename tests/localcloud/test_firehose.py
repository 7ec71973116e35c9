from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import io
import json
import re
import types
import zipfile
from typing import Any

import pytest
import pytest_asyncio
from botocore.exceptions import ClientError

pytestmark = pytest.mark.asyncio(loop_scope="module")

NEWLINES = {
    "Enabled": True,
    "Processors": [
        {
            "Type": "AppendDelimiterToRecord",
            "Parameters": [{"ParameterName": "Delimiter", "ParameterValue": "\\n"}],
        }
    ],
}
PATIENT = {"SizeInMBs": 5, "IntervalInSeconds": 900}
ROLE = "arn:aws:iam::123456789012:role/delivery"
FAILED = "failed/!{firehose:error-output-type}/"


def varint(number: int) -> bytes:
    done = b""
    while number > 0x7F:
        done += bytes([number & 0x7F | 0x80])
        number >>= 7
    return done + bytes([number])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def aggregated(records: list[bytes]) -> bytes:
    """Records as the Kinesis Producer Library puts them into one."""
    keys = field(1, b"key-0")
    inner = b"".join(field(3, varint(1 << 3) + varint(0) + field(3, data)) for data in records)
    message = keys + inner
    digest = hashlib.md5(message, usedforsecurity=False).digest()
    return b"\xf3\x89\x9a\xc2" + message + digest


class Delivered:
    """A bucket and the delivery streams into it."""

    def __init__(self, firehose: Any, s3: Any, name: str) -> None:
        self.firehose, self.s3, self.name = firehose, s3, name

    async def create(self, source: str | None = None, **destination: Any) -> None:
        kind = {
            "DeliveryStreamType": "KinesisStreamAsSource",
            "KinesisStreamSourceConfiguration": {"KinesisStreamARN": source, "RoleARN": ROLE},
        }
        await self.firehose.create_delivery_stream(
            DeliveryStreamName=self.name,
            **(kind if source else {}),
            ExtendedS3DestinationConfiguration={
                "RoleARN": ROLE,
                "BucketARN": f"arn:aws:s3:::{self.name}",
                "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0},
                **destination,
            },
        )

    async def put(self, *records: bytes) -> dict[str, Any]:
        return await self.firehose.put_record_batch(
            DeliveryStreamName=self.name, Records=[{"Data": data} for data in records]
        )

    async def objects(self) -> dict[str, bytes]:
        """Key to content, decompressed where the key says so."""
        listed = (await self.s3.list_objects_v2(Bucket=self.name)).get("Contents", [])
        found = {}
        for entry in listed:
            answer = await self.s3.get_object(Bucket=self.name, Key=entry["Key"])
            body = await answer["Body"].read()
            found[entry["Key"]] = gzip.decompress(body) if entry["Key"].endswith(".gz") else body
        return found


@pytest_asyncio.fixture(loop_scope="module")
async def delivered(cloud, name):
    s3 = await cloud.client("s3")
    await s3.create_bucket(Bucket=name)
    return Delivered(await cloud.client("firehose"), s3, name)


@pytest.fixture
def lines_when(delivered, eventually):
    async def wait(count: int) -> list[bytes]:
        async def enough() -> list[bytes] | None:
            lines = b"".join((await delivered.objects()).values()).splitlines()
            return lines if len(lines) >= count else None

        return await eventually(enough)

    return wait


@pytest.fixture
def one_object(cloud, delivered, eventually):
    """Content of the one object of all that is put, closed when `size` bytes are buffered."""

    async def close(size: int) -> bytes:
        engine = cloud.service("firehose")._delivery_streams[delivered.name].engine
        await eventually(lambda: engine.backlog()["buffered_bytes"] >= size)
        await delivered.firehose.delete_delivery_stream(DeliveryStreamName=delivered.name)
        (content,) = (await delivered.objects()).values()
        return content

    return close


# From a stream to objects


async def test_records_of_a_stream_arrive_once_as_lines_of_gzip_objects(
    delivered, stream_of, lines_when
):
    stream = await stream_of(2)
    await stream.put(("k", b"before the delivery stream was there"))
    await delivered.create(
        stream.inner.arn,
        CompressionFormat="GZIP",
        Prefix="readings/",
        ProcessingConfiguration=NEWLINES,
    )
    for first in range(0, 1000, 250):
        await stream.put(*[(str(n), b"reading %d" % n) for n in range(first, first + 250)])

    lines = await lines_when(1000)
    objects = await delivered.objects()

    assert sorted(lines) == sorted(b"reading %d" % n for n in range(1000))
    stamp = r"\d{4}/\d\d/\d\d/\d\d/"
    unique = r"\d{4}(-\d\d){5}-[0-9a-f-]{36}"
    shape = rf"readings/{stamp}{delivered.name}-1-{unique}\.gz"
    assert [key for key in objects if not re.fullmatch(shape, key)] == []


async def test_records_of_one_shard_keep_their_order(delivered, stream_of, one_object):
    stream = await stream_of(1)
    await delivered.create(
        stream.inner.arn, ProcessingConfiguration=NEWLINES, BufferingHints=PATIENT
    )
    for first in range(0, 500, 100):
        await stream.put(*[("k", b"%d" % n) for n in range(first, first + 100)])
    expected = b"".join(b"%d\n" % n for n in range(500))

    assert await one_object(len(expected)) == expected


async def test_shards_made_after_the_delivery_stream_are_read_from_their_beginning(
    delivered, stream_of, lines_when
):
    stream = await stream_of(1)
    await delivered.create(stream.inner.arn, ProcessingConfiguration=NEWLINES)
    await stream.put(("k", b"parent"))
    await stream.client.split_shard(
        StreamName=stream.name, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**127)
    )
    await stream.put(("k", b"low"), ExplicitHashKey="0")
    await stream.put(("k", b"high"), ExplicitHashKey=str(2**127))

    assert sorted(await lines_when(3)) == [b"high", b"low", b"parent"]


async def test_children_are_read_after_their_parents(delivered, stream_of, one_object):
    stream = await stream_of(2)
    await delivered.create(
        stream.inner.arn, ProcessingConfiguration=NEWLINES, BufferingHints=PATIENT
    )
    await stream.put(*[("k", b"%d" % n) for n in range(200)], ExplicitHashKey="0")
    await stream.put(*[("k", b"%d" % n) for n in range(200)], ExplicitHashKey=str(2**128 - 1))
    await stream.client.merge_shards(
        StreamName=stream.name,
        ShardToMerge="shardId-000000000000",
        AdjacentShardToMerge="shardId-000000000001",
    )
    await stream.put(*[("k", b"%d" % n) for n in range(200, 300)])
    size = sum(len(b"%d\n" % n) for n in [*range(200), *range(300)])
    numbers = [int(line) for line in (await one_object(size)).split()]

    assert sorted(numbers[:400]) == sorted([*range(200)] * 2)
    assert numbers[400:] == [*range(200, 300)]


async def test_aggregated_records_are_taken_apart(delivered, stream_of, one_object):
    stream = await stream_of(1)
    await delivered.create(
        stream.inner.arn, ProcessingConfiguration=NEWLINES, BufferingHints=PATIENT
    )
    broken = aggregated([b"x"])[:-1] + b"\x00"
    await stream.put(("k", aggregated([b"one", b"two" * 100, b"three"])), ("k", b"single"))
    await stream.put(("k", broken))
    expected = b"\n".join([b"one", b"two" * 100, b"three", b"single", broken, b""])

    assert await one_object(len(expected)) == expected


async def test_a_prefix_expands_with_the_arrival_of_the_oldest_record(
    delivered, stream_of, lines_when
):
    stream = await stream_of(1)
    await delivered.create(
        stream.inner.arn,
        ProcessingConfiguration=NEWLINES,
        Prefix="y=!{timestamp:yyyy}/md=!{timestamp:MM-dd}/!{timestamp:'h'HH}/!{firehose:random-string}/",
        ErrorOutputPrefix=FAILED,
        FileExtension=".jsonl",
    )
    arrival = dt.datetime(2024, 2, 3, 4, 59, tzinfo=dt.UTC)
    stream.shift_clock((arrival - dt.datetime.now(dt.UTC)).total_seconds())
    await stream.put(("k", b"x"))
    await lines_when(1)

    (key,) = await delivered.objects()
    shape = rf"y=2024/md=02-03/h04/[A-Za-z0-9]{{11}}/{delivered.name}-1-[0-9a-f-]+\.jsonl"
    assert re.fullmatch(shape, key), key


# Direct puts and buffering


async def test_without_a_delimiter_records_are_joined_as_they_are(delivered, eventually):
    await delivered.create()
    answer = await delivered.put(b"a", b"b\n", b"c")

    objects = await eventually(delivered.objects)

    assert answer["FailedPutCount"] == 0
    assert len({r["RecordId"] for r in answer["RequestResponses"]}) == 3
    assert list(objects.values()) == [b"ab\nc"]


async def test_other_delimiters_and_zip_files(delivered, eventually):
    comma = {"ParameterName": "Delimiter", "ParameterValue": ",\\t"}
    await delivered.create(
        CompressionFormat="ZIP",
        ProcessingConfiguration={
            "Enabled": True,
            "Processors": [{"Type": "AppendDelimiterToRecord", "Parameters": [comma]}],
        },
    )
    await delivered.put(b"a", b"b")

    ((key, body),) = (await eventually(delivered.objects)).items()

    assert key.endswith(".zip")
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        (name,) = archive.namelist()
        assert archive.read(name) == b"a,\tb,\t"


async def test_times_in_a_key_are_of_the_custom_time_zone(delivered, eventually):
    await delivered.create(
        Prefix="!{timestamp:yyyy-MM-dd'T'HH:mmXXX}/",
        ErrorOutputPrefix=FAILED,
        CustomTimeZone="Asia/Tokyo",
    )
    await delivered.put(b"x")

    (key,) = await eventually(delivered.objects)
    shown = dt.datetime.fromisoformat(key.partition("/")[0])

    assert shown.utcoffset() == dt.timedelta(hours=9)
    assert abs(dt.datetime.now(dt.UTC) - shown) < dt.timedelta(minutes=5)
    assert f"-1-{shown:%Y-%m-%d-%H}" in key or f"{shown + dt.timedelta(minutes=1):%H}" in key


async def test_source_records_are_backed_up_as_they_came(delivered, stream_of, eventually):
    stream = await stream_of(1)
    backup = {"RoleARN": ROLE, "BucketARN": f"arn:aws:s3:::{delivered.name}", "Prefix": "source/"}
    await delivered.create(
        stream.inner.arn,
        Prefix="out/",
        ProcessingConfiguration=NEWLINES,
        S3BackupMode="Enabled",
        S3BackupConfiguration={
            **backup,
            "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0},
        },
    )
    await stream.put(("k", b"x"), ("k", b"y"))

    async def both() -> dict[str, bytes] | None:
        found = {key.partition("/")[0]: body for key, body in (await delivered.objects()).items()}
        return found if len(found) == 2 else None

    assert await eventually(both) == {"out": b"x\ny\n", "source": b"xy"}
    answer = await delivered.firehose.describe_delivery_stream(DeliveryStreamName=delivered.name)
    (told,) = answer["DeliveryStreamDescription"]["Destinations"]
    described = told["ExtendedS3DestinationDescription"]["S3BackupDescription"]
    assert described["Prefix"] == "source/"
    with pytest.raises(ClientError, match="cannot be disabled once it is enabled"):
        await delivered.firehose.update_destination(
            DeliveryStreamName=delivered.name,
            CurrentDeliveryStreamVersionId="1",
            DestinationId="destinationId-000000000001",
            ExtendedS3DestinationUpdate={"S3BackupMode": "Disabled"},
        )


async def test_more_than_a_second_s_quota_is_refused_record_by_record(delivered, cloud):
    await delivered.create(BufferingHints=PATIENT)
    throttle = cloud.service("firehose")._delivery_streams[delivered.name].throttle
    now = types.SimpleNamespace(s=throttle._then_s)
    throttle._clock = lambda: now.s
    megabyte = bytes(1000 * 1024)
    await delivered.put(*[megabyte] * 4)

    answer = await delivered.put(megabyte, megabyte, b"small")
    codes = [record.get("ErrorCode") for record in answer["RequestResponses"]]

    assert codes == [None, "ServiceUnavailableException", None]
    assert answer["FailedPutCount"] == 1
    with pytest.raises(delivered.firehose.exceptions.ServiceUnavailableException):
        await delivered.firehose.put_record(
            DeliveryStreamName=delivered.name, Record={"Data": megabyte}
        )
    now.s += 1
    assert (await delivered.put(megabyte))["FailedPutCount"] == 0


async def test_a_full_buffer_is_written_before_its_interval_is_over(delivered, eventually):
    await delivered.create(BufferingHints={"SizeInMBs": 1, "IntervalInSeconds": 900})
    record = bytes(400 * 1024)
    await delivered.put(record, record)
    assert await delivered.objects() == {}
    await delivered.put(record, b"x" * 10)

    objects = await eventually(delivered.objects)

    assert [len(content) for content in objects.values()] == [3 * 400 * 1024 + 10]


async def test_nothing_is_lost_while_the_bucket_is_away(
    delivered, stream_of, cloud, lines_when, eventually
):
    stream = await stream_of(1)
    await delivered.s3.delete_bucket(Bucket=delivered.name)
    await delivered.create(stream.inner.arn, ProcessingConfiguration=NEWLINES)
    await stream.put(*[("k", b"%d" % n) for n in range(50)])
    engine = cloud.service("firehose")._delivery_streams[delivered.name].engine
    await eventually(lambda: "NoSuchBucket" in engine.last_error)
    await stream.put(*[("k", b"%d" % n) for n in range(50, 100)])
    await delivered.s3.create_bucket(Bucket=delivered.name)

    assert sorted(await lines_when(100), key=int) == [b"%d" % n for n in range(100)]


async def test_the_delivered_position_waits_for_the_object(
    delivered, stream_of, cloud, eventually, lines_when
):
    stream = await stream_of(1)
    await delivered.s3.delete_bucket(Bucket=delivered.name)
    await delivered.create(stream.inner.arn, ProcessingConfiguration=NEWLINES)
    service = cloud.service("firehose")
    engine = service._delivery_streams[delivered.name].engine
    await stream.fill(7)
    await eventually(lambda: "NoSuchBucket" in engine.last_error)

    def delivered_position() -> int:
        (by_shard,) = service.delivered_positions()[delivered.name].values()
        return by_shard["shardId-000000000000"]

    assert engine.positions.read == {"shardId-000000000000": 7}
    assert delivered_position() == 0
    await delivered.s3.create_bucket(Bucket=delivered.name)
    await lines_when(7)
    await eventually(lambda: delivered_position() == 7)


async def test_errors_of_s3_are_logged_where_the_options_say(delivered, cloud, name, eventually):
    logs = await cloud.client("logs")
    await logs.create_log_group(logGroupName=name)
    await logs.create_log_stream(logGroupName=name, logStreamName="S3Delivery")
    await delivered.s3.delete_bucket(Bucket=delivered.name)
    options = {"Enabled": True, "LogGroupName": name, "LogStreamName": "S3Delivery"}
    await delivered.create(CloudWatchLoggingOptions=options)
    await delivered.put(b"x")

    async def logged() -> list[dict[str, Any]]:
        answer = await logs.get_log_events(logGroupName=name, logStreamName="S3Delivery")
        return answer["events"]

    event = (await eventually(logged))[0]

    assert json.loads(event["message"]) == {
        "deliveryStreamARN": f"arn:aws:firehose:us-east-1:123456789012:deliverystream/{name}",
        "destination": f"arn:aws:s3:::{name}",
        "deliveryStreamVersionId": 1,
        "message": "The specified bucket does not exist. Create the bucket or use a different "
        "bucket that does exist.",
        "errorCode": "S3.NoSuchBucket",
    }


async def test_a_delivery_stream_publishes_the_documented_metrics(
    delivered, stream_of, cloud, lines_when
):
    stream = await stream_of(1)
    await delivered.create(stream.inner.arn, ProcessingConfiguration=NEWLINES)
    await stream.fill(3)
    await lines_when(3)
    store = cloud.local.metrics
    found = {
        name: series.unit
        for (namespace, name, dimensions), series in store.series.items()
        if (namespace, dimensions)
        == (
            "AWS/Firehose",
            (("DeliveryStreamName", delivered.name),),
        )
    }

    assert (
        found.items()
        >= {
            "DataReadFromKinesisStream.Records": "Count",
            "DataReadFromKinesisStream.Bytes": "Bytes",
            "KinesisMillisBehindLatest": "Milliseconds",
            "ThrottledGetRecords": "Count",
            "DeliveryToS3.Records": "Count",
            "DeliveryToS3.Bytes": "Bytes",
            "DeliveryToS3.ObjectCount": "Count",
            "DeliveryToS3.Success": "Count",
            "DeliveryToS3.DataFreshness": "Seconds",
        }.items()
    )


async def test_what_is_buffered_is_delivered_when_the_stream_is_deleted(delivered):
    await delivered.create(BufferingHints=PATIENT)
    await delivered.put(b"kept ", b"until ", b"the end")
    await delivered.firehose.delete_delivery_stream(DeliveryStreamName=delivered.name)

    assert list((await delivered.objects()).values()) == [b"kept until the end"]
    with pytest.raises(delivered.firehose.exceptions.ResourceNotFoundException):
        await delivered.put(b"late")


# The API


async def test_a_stream_is_described_updated_and_listed(delivered, eventually):
    await delivered.create(Prefix="a/!{timestamp:yyyy}/", ErrorOutputPrefix=FAILED)
    await delivered.firehose.update_destination(
        DeliveryStreamName=delivered.name,
        CurrentDeliveryStreamVersionId="1",
        DestinationId="destinationId-000000000001",
        ExtendedS3DestinationUpdate={"Prefix": "b/!{timestamp:yyyy}/"},
    )
    answer = await delivered.firehose.describe_delivery_stream(DeliveryStreamName=delivered.name)
    description = answer["DeliveryStreamDescription"]
    await delivered.put(b"x")
    (key,) = await eventually(delivered.objects)

    assert (description["VersionId"], description["DeliveryStreamStatus"]) == ("2", "ACTIVE")
    s3 = description["Destinations"][0]["ExtendedS3DestinationDescription"]
    assert (s3["Prefix"], s3["CompressionFormat"]) == ("b/!{timestamp:yyyy}/", "UNCOMPRESSED")
    assert re.match(rf"b/\d{{4}}/{delivered.name}-2-", key)
    with pytest.raises(delivered.firehose.exceptions.ConcurrentModificationException):
        await delivered.firehose.update_destination(
            DeliveryStreamName=delivered.name,
            CurrentDeliveryStreamVersionId="1",
            DestinationId="destinationId-000000000001",
            ExtendedS3DestinationUpdate={"Prefix": "c/"},
        )


@pytest.mark.parametrize(
    ("destination", "message"),
    [
        ({"CompressionFormat": "Snappy"}, "CompressionFormat Snappy is not supported"),
        ({"Prefix": "!{timestamp:yyyy"}, "not closed"),
        ({"Prefix": "!{timestamp:yyyy-ww}"}, "timestamp pattern 'ww'"),
        ({"Prefix": "!{timestamp:HHH}"}, "timestamp pattern 'HHH'"),
        ({"Prefix": "!{timestamp:yyyy}"}, "ErrorOutputPrefix cannot be null"),
        ({"ErrorOutputPrefix": "e/!{timestamp:yyyy}/"}, "must contain !{firehose:error-output-type}"),
        ({"Prefix": "p" * 510}, "at most 512 characters"),
        ({"S3BackupMode": "Enabled"}, "S3BackupConfiguration.RoleARN is required"),
        ({"CloudWatchLoggingOptions": {"Enabled": True}}, "need LogGroupName and LogStreamName"),
        ({"Prefix": "!{partitionKeyFromQuery:site}"}, "!{partitionKeyFromQuery:site}"),
        ({"Prefix": "!{firehose:error-output-type}"}, "for ErrorOutputPrefix only"),
        ({"CustomTimeZone": "Mars/Olympus"}, "CustomTimeZone 'Mars/Olympus' is no time zone"),
        ({"DynamicPartitioningConfiguration": {"Enabled": True}}, "DynamicPartitioning"),
        ({"ProcessingConfiguration": {"Enabled": True, "Processors": [{"Type": "Lambda"}]}},
         "needs the parameter LambdaArn"),
        ({"ProcessingConfiguration": {"Enabled": True, "Processors": [
            {"Type": "RecordDeAggregation"}]}}, "processor RecordDeAggregation is not supported"),
        ({"ProcessingConfiguration": {"Enabled": True, "Processors": [
            {"Type": "Lambda", "Parameters": [
                {"ParameterName": "LambdaArn", "ParameterValue": "arn:aws:lambda:r:1:function:f"},
                {"ParameterName": "BufferSizeInMBs", "ParameterValue": "4"}]}]}},
         "BufferSizeInMBs must be a number from 0.2 to 3"),
    ],
)  # fmt: skip
async def test_a_destination_that_is_not_served_is_refused_by_name(delivered, destination, message):
    with pytest.raises(delivered.firehose.exceptions.InvalidArgumentException) as caught:
        await delivered.create(**destination)

    assert message in str(caught.value)


async def test_oversize_puts_and_puts_beside_a_source_are_refused(delivered, stream_of):
    stream = await stream_of(1)
    await delivered.create(stream.inner.arn)
    with pytest.raises(ClientError, match="not permitted on KinesisStreamAsSource"):
        await delivered.put(b"x")

    await delivered.firehose.delete_delivery_stream(DeliveryStreamName=delivered.name)
    await delivered.create()
    with pytest.raises(ClientError, match="less than or equal to 1024000"):
        await delivered.put(bytes(1000 * 1024 + 1))
    with pytest.raises(ClientError, match="less than or equal to 500"):
        await delivered.put(*[b"x"] * 501)
