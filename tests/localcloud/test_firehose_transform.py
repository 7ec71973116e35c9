from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
import pytest_asyncio

from localcloud.firehose.transform import MESSAGES

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROLE = "arn:aws:iam::123456789012:role/delivery"
ANSWERS = """
    import base64, json

    def handler(event, _context):
        records = []
        for record in event["records"]:
            data = base64.b64decode(record["data"]).decode()
            if data == "raise":
                raise RuntimeError("on purpose")
            result = {"drop": "Dropped", "fail": "ProcessingFailed"}.get(data, "Ok")
            told = {"text": data, "meta": record.get("kinesisRecordMetadata"),
                    "source": event.get("sourceKinesisStreamArn"), "n": len(event["records"])}
            encoded = base64.b64encode(json.dumps(told).encode()).decode()
            records.append({"recordId": record["recordId"], "result": result, "data": encoded})
        return {"records": records}
"""


class Transformed:
    """A delivery stream with a function, and what is in its bucket."""

    def __init__(self, firehose: Any, s3: Any, name: str, function_arn: str) -> None:
        self.firehose, self.s3, self.name, self.function_arn = firehose, s3, name, function_arn

    async def create(self, source: str | None = None, **parameters: str) -> None:
        kind: dict[str, Any] = {
            "DeliveryStreamType": "KinesisStreamAsSource",
            "KinesisStreamSourceConfiguration": {"KinesisStreamARN": source, "RoleARN": ROLE},
        }
        given = {"LambdaArn": self.function_arn, "BufferIntervalInSeconds": "0", **parameters}
        function = {
            "Type": "Lambda",
            "Parameters": [{"ParameterName": k, "ParameterValue": v} for k, v in given.items()],
        }
        await self.firehose.create_delivery_stream(
            DeliveryStreamName=self.name,
            **(kind if source else {}),
            ExtendedS3DestinationConfiguration={
                "RoleARN": ROLE,
                "BucketARN": f"arn:aws:s3:::{self.name}",
                "Prefix": "done/",
                "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0},
                "ProcessingConfiguration": {
                    "Enabled": True,
                    "Processors": [function, {"Type": "AppendDelimiterToRecord"}],
                },
            },
        )

    async def put(self, *records: bytes) -> None:
        await self.firehose.put_record_batch(
            DeliveryStreamName=self.name, Records=[{"Data": data} for data in records]
        )

    async def lines(self, prefix: str) -> list[dict[str, Any]]:
        listed = (await self.s3.list_objects_v2(Bucket=self.name)).get("Contents", [])
        found = []
        for entry in listed:
            if entry["Key"].startswith(prefix):
                answer = await self.s3.get_object(Bucket=self.name, Key=entry["Key"])
                found += [json.loads(line) for line in (await answer["Body"].read()).splitlines()]
        return found


@pytest_asyncio.fixture(loop_scope="module")
async def transformed(cloud, name, function_of):
    s3 = await cloud.client("s3")
    await s3.create_bucket(Bucket=name)
    await function_of(ANSWERS)
    arn = f"arn:aws:lambda:us-east-1:123456789012:function:{name}"
    return Transformed(await cloud.client("firehose"), s3, name, arn)


@pytest.fixture
def lines_when(transformed, eventually):
    async def wait(prefix: str, count: int) -> list[dict[str, Any]]:
        async def enough() -> list[dict[str, Any]] | None:
            lines = await transformed.lines(prefix)
            return lines if len(lines) >= count else None

        return await eventually(enough)

    return wait


async def test_ok_is_delivered_dropped_is_not_and_failed_is_kept_with_its_reason(
    transformed, lines_when
):
    await transformed.create()
    await transformed.put(b"one", b"drop", b"fail", b"two")

    done = await lines_when("done/20", 2)
    (failed,) = await lines_when("done/processing-failed/20", 1)

    assert [line["text"] for line in done] == ["one", "two"]
    assert base64.b64decode(failed.pop("rawData")) == b"fail"
    assert failed.pop("attemptEndingTimestamp") >= failed.pop("arrivalTimestamp")
    assert failed == {
        "attemptsMade": 1,
        "errorCode": "Lambda.ProcessingFailedStatus",
        "errorMessage": "ProcessingFailed status set for record",
        "lambdaArn": transformed.function_arn,
    }


async def test_a_function_that_fails_is_tried_as_often_as_configured(
    transformed, lines_when, cloud, name
):
    await transformed.create(NumberOfRetries="1")
    await transformed.put(b"x", b"raise")

    failed = await lines_when("done/processing-failed/", 2)

    assert [base64.b64decode(line["rawData"]) for line in failed] == [b"x", b"raise"]
    assert {(line["errorCode"], line["attemptsMade"]) for line in failed} == {
        ("Lambda.FunctionError", 2)
    }
    assert failed[0]["errorMessage"] == MESSAGES["Lambda.FunctionError"]
    where = {"DeliveryStreamName": name}
    (bucket,) = cloud.local.metrics.periods(
        "AWS/Firehose", "ExecuteProcessing.Success", where, 0, 2**33, 2**33
    ).values()
    assert (bucket.count, bucket.total) == (2.0, 0.0)


async def test_a_function_that_is_not_there_is_not_tried_again(transformed, lines_when):
    transformed.function_arn += "-gone"
    await transformed.create()
    await transformed.put(b"x")

    (failed,) = await lines_when("done/processing-failed/", 1)

    assert (failed["errorCode"], failed["attemptsMade"]) == ("Lambda.ResourceNotFound", 1)


async def test_records_of_a_stream_carry_their_metadata_and_settle_their_position(
    transformed, lines_when, stream_of, cloud, eventually
):
    stream = await stream_of(1)
    await transformed.create(stream.inner.arn)
    answer = await stream.put(("key", b"one"), ("key", b"drop"), ("key", b"fail"))
    number = answer["Records"][0]["SequenceNumber"]

    (line,) = await lines_when("done/20", 1)
    positions = cloud.service("firehose").delivered_positions
    shard = "shardId-000000000000"

    assert line["source"] == stream.inner.arn
    assert line["meta"].pop("approximateArrivalTimestamp") > 0
    assert line["meta"] == {
        "sequenceNumber": number, "subsequenceNumber": 0, "partitionKey": "key", "shardId": shard,
    }  # fmt: skip
    await eventually(lambda: positions()[transformed.name] == {stream.inner.arn: {shard: 3}})


def varint(number: int) -> bytes:
    done = b""
    while number > 0x7F:
        done += bytes([number & 0x7F | 0x80])
        number >>= 7
    return done + bytes([number])


def member(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


async def test_aggregated_records_are_taken_apart_before_the_function(
    transformed, lines_when, stream_of
):
    stream = await stream_of(1)
    await transformed.create(stream.inner.arn)
    records = [
        varint(1 << 3) + varint(key) + member(3, data) for key, data in ((0, b"a"), (1, b"b"))
    ]
    message = member(1, b"first") + member(1, b"second")
    message += b"".join(member(3, record) for record in records)
    digest = hashlib.md5(message, usedforsecurity=False).digest()
    await stream.put(("k", b"\xf3\x89\x9a\xc2" + message + digest))

    lines = await lines_when("done/20", 2)

    told = [(x["text"], x["meta"]["partitionKey"], x["meta"]["subsequenceNumber"]) for x in lines]
    assert told == [("a", "first", 0), ("b", "second", 1)]


async def test_a_batch_closes_at_the_size_of_its_buffer(transformed, lines_when):
    await transformed.create(BufferSizeInMBs="0.2", BufferIntervalInSeconds="60")
    record = b"x" * 90_000
    await transformed.put(record, record, record)

    lines = await lines_when("done/20", 2)

    assert [line["n"] for line in lines] == [2, 2]


async def test_a_transformation_can_be_taken_away_while_records_flow(transformed, lines_when):
    await transformed.create(BufferIntervalInSeconds="900")
    await transformed.put(b'{"text": "before"}')
    await transformed.firehose.update_destination(
        DeliveryStreamName=transformed.name,
        CurrentDeliveryStreamVersionId="1",
        DestinationId="destinationId-000000000001",
        ExtendedS3DestinationUpdate={
            "ProcessingConfiguration": {
                "Enabled": True,
                "Processors": [{"Type": "AppendDelimiterToRecord"}],
            }
        },
    )
    await transformed.put(b'{"text": "after"}')

    # Two objects of one second: their names say nothing about the order.
    assert {line["text"] for line in await lines_when("done/20", 2)} == {"before", "after"}
