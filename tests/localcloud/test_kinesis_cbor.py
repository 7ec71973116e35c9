from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import cbor2
import pytest
import pytest_asyncio
from botocore.eventstream import EventStreamBuffer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio(loop_scope="module")

CBOR = "application/x-amz-cbor-1.1"
SHARD = "shardId-000000000000"


class Sdk:
    """Speaks to Kinesis as AWS's SDKs for Java do."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url

    def request(self, operation: str, body: bytes):
        return self._session.post(
            self._url,
            data=body,
            headers={"Content-Type": CBOR, "X-Amz-Target": f"Kinesis_20131202.{operation}"},
        )

    async def call(self, operation: str, **members) -> tuple[int, dict, bytes]:
        """(status, the answer with tags undone, its bytes)"""
        async with self.request(operation, cbor2.dumps(members)) as answer:
            raw = await answer.read()
            assert answer.headers["content-type"] == CBOR
            undone = {1: lambda value, _immutable: ("ms", value)}
            return answer.status, cbor2.loads(raw, semantic_decoders=undone) if raw else {}, raw


@pytest_asyncio.fixture(loop_scope="module")
async def sdk(cloud) -> AsyncIterator[Sdk]:
    async with aiohttp.ClientSession() as session:
        yield Sdk(session, f"http://127.0.0.1:{cloud.local.port}/")


async def test_records_go_in_and_come_out_as_bytes(sdk, stream_of):
    stream = await stream_of()
    data = bytes(range(256))

    status, put, _ = await sdk.call(
        "PutRecords", StreamName=stream.name, Records=[{"Data": data, "PartitionKey": "k"}]
    )
    _, told, _ = await sdk.call(
        "GetShardIterator",
        StreamName=stream.name,
        ShardId=SHARD,
        ShardIteratorType="TRIM_HORIZON",
    )
    _, got, _ = await sdk.call("GetRecords", ShardIterator=told["ShardIterator"])

    assert (status, put["FailedRecordCount"]) == (200, 0)
    (record,) = got["Records"]
    assert (record["Data"], record["PartitionKey"]) == (data, "k")
    assert record["SequenceNumber"] == put["Records"][0]["SequenceNumber"]
    assert await stream.read() == [data]


async def test_a_timestamp_is_a_tag_over_milliseconds(sdk, stream_of):
    stream = await stream_of()
    await stream.fill(1)
    arrival_ms = stream.inner.shards[0].records[0].arrival_ms

    async def read_from(timestamp_ms: int) -> list:
        _, told, _ = await sdk.call(
            "GetShardIterator",
            StreamName=stream.name,
            ShardId=SHARD,
            ShardIteratorType="AT_TIMESTAMP",
            Timestamp=cbor2.CBORTag(1, timestamp_ms),
        )
        return (await sdk.call("GetRecords", ShardIterator=told["ShardIterator"]))[1]["Records"]

    (record,) = await read_from(arrival_ms)
    stream.shift_clock(60)
    assert record["ApproximateArrivalTimestamp"] == ("ms", arrival_ms)
    assert await read_from(arrival_ms + 1) == []


async def test_a_stream_is_described_with_its_creation_in_milliseconds(sdk, stream_of):
    stream = await stream_of()

    _, told, raw = await sdk.call("DescribeStreamSummary", StreamName=stream.name)

    created = told["StreamDescriptionSummary"]["StreamCreationTimestamp"]
    assert created == ("ms", round(stream.inner.created_s * 1000))
    # AWS's SDK reads an integer of eight bytes under tag 1.
    assert b"StreamCreationTimestamp" + b"\xc1\x1b" in raw


async def test_an_error_is_told_in_cbor(sdk):
    status, told, _ = await sdk.call("DescribeStreamSummary", StreamName="nothing")

    assert (status, told["__type"]) == (400, "ResourceNotFoundException")
    assert "nothing" in told["message"]


async def test_what_is_no_cbor_is_refused(sdk):
    async with sdk.request("ListStreams", b"\x1f") as answer:
        told = cbor2.loads(await answer.read())

    assert (answer.status, told["__type"]) == (400, "SerializationException")


async def test_a_subscription_in_cbor_has_events_in_cbor(sdk, stream_of):
    stream = await stream_of()
    await stream.fill(2)
    made = await stream.client.register_stream_consumer(
        StreamARN=stream.inner.arn, ConsumerName="java"
    )
    body = cbor2.dumps(
        {
            "ConsumerARN": made["Consumer"]["ConsumerARN"],
            "ShardId": SHARD,
            "StartingPosition": {"Type": "TRIM_HORIZON"},
        }
    )
    messages = EventStreamBuffer()
    found = []
    async with sdk.request("SubscribeToShard", body) as answer, asyncio.timeout(30):
        async for part in answer.content.iter_any():
            messages.add_data(part)
            found += list(messages)
            if len(found) > 1:
                break

    initial, event = found
    undone = {1: lambda value, _immutable: ("ms", value)}
    told = cbor2.loads(event.payload, semantic_decoders=undone)
    assert answer.headers["content-type"] == "application/vnd.amazon.eventstream"
    assert initial.headers[":event-type"] == "initial-response"
    assert event.headers[":event-type"] == "SubscribeToShardEvent"
    assert [record["Data"] for record in told["Records"]] == [b"0", b"1"]
    assert told["Records"][0]["ApproximateArrivalTimestamp"][0] == "ms"
