from __future__ import annotations

import time

import pytest
import pytest_asyncio

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHARD = "shardId-000000000000"


@pytest_asyncio.fixture(loop_scope="module")
async def sums(cloud):
    """The sums of all that a stream published, by metric, and the units of its metrics."""

    async def read(stream: str, **dimensions: str) -> dict[str, float]:
        cloud.service("kinesis").tend(trim=False)
        wanted = tuple(sorted({"StreamName": stream, **dimensions}.items()))
        return {
            name: sum(bucket.total for bucket in series.seconds.values())
            for (namespace, name, found), series in cloud.local.metrics.series.items()
            if namespace == "AWS/Kinesis" and found == wanted
        }

    return read


@pytest_asyncio.fixture(loop_scope="module")
async def busy(stream_of):
    """A stream of which 1,000 records were put, 200 were throttled and 300 were read."""
    stream = await stream_of()
    stream.hold_clock()
    await stream.client.enable_enhanced_monitoring(
        StreamName=stream.name, ShardLevelMetrics=["ALL"]
    )
    for count in (500, 500, 200):
        await stream.put(*[("k", b"12345")] * count)
    iterator = await stream.iterator("TRIM_HORIZON")
    await stream.client.get_records(ShardIterator=iterator, Limit=300)
    return stream


async def test_puts_and_gets_are_measured_by_stream(busy, sums):
    told = await sums(busy.name)

    expected = {
        "PutRecords.Success": 2,
        "PutRecords.TotalRecords": 1200,
        "PutRecords.SuccessfulRecords": 1000,
        "PutRecords.FailedRecords": 0,
        "PutRecords.ThrottledRecords": 200,
        "PutRecords.Bytes": 6000,
        "IncomingRecords": 1000,
        "IncomingBytes": 6000,
        "WriteProvisionedThroughputExceeded": 200,
        "ReadProvisionedThroughputExceeded": 0,
        "GetRecords.Success": 1,
        "GetRecords.Records": 300,
        "GetRecords.Bytes": 1500,
    }
    assert {name: told[name] for name in expected} == expected
    assert set(told) - set(expected) == {
        "PutRecords.Latency", "GetRecords.Latency", "GetRecords.IteratorAgeMilliseconds"
    }  # fmt: skip


async def test_shard_level_metrics_carry_their_shard(busy, sums):
    told = await sums(busy.name, ShardId=SHARD)

    assert told.pop("IteratorAgeMilliseconds") >= 0
    assert told == {
        "IncomingBytes": 6000,
        "IncomingRecords": 1000,
        "OutgoingBytes": 1500,
        "OutgoingRecords": 300,
        "WriteProvisionedThroughputExceeded": 200,
        "ReadProvisionedThroughputExceeded": 0,
    }


async def test_shards_publish_nothing_that_was_not_asked_for(stream_of, sums):
    stream = await stream_of()
    client = stream.client
    changed = await client.enable_enhanced_monitoring(
        StreamName=stream.name, ShardLevelMetrics=["IncomingRecords", "OutgoingBytes"]
    )
    left = await client.disable_enhanced_monitoring(
        StreamName=stream.name, ShardLevelMetrics=["OutgoingBytes"]
    )
    await stream.fill(3)

    assert changed["DesiredShardLevelMetrics"] == ["IncomingRecords", "OutgoingBytes"]
    assert left["DesiredShardLevelMetrics"] == ["IncomingRecords"]
    assert await sums(stream.name, ShardId=SHARD) == {"IncomingRecords": 3}


async def test_a_single_put_has_metrics_of_its_own(stream_of, sums):
    stream = await stream_of()
    stream.hold_clock()
    put = stream.client.put_record
    await put(StreamName=stream.name, PartitionKey="k", Data=bytes(2**20 - 1))
    with pytest.raises(stream.client.exceptions.ProvisionedThroughputExceededException):
        await put(StreamName=stream.name, PartitionKey="k", Data=b"x")

    told = await sums(stream.name)

    assert told.pop("PutRecord.Latency") > 0
    assert told == {
        "PutRecord.Success": 1,
        "PutRecord.Bytes": 2**20,
        "IncomingRecords": 1,
        "IncomingBytes": 2**20,
        "WriteProvisionedThroughputExceeded": 1,
    }


async def test_a_throttled_read_is_counted(stream_of, sums):
    stream = await stream_of()
    stream.hold_clock()
    iterator = await stream.iterator("LATEST")
    for _ in range(5):
        await stream.client.get_records(ShardIterator=iterator)
    with pytest.raises(stream.client.exceptions.ProvisionedThroughputExceededException):
        await stream.client.get_records(ShardIterator=iterator)

    told = await sums(stream.name)

    assert (told["GetRecords.Success"], told["ReadProvisionedThroughputExceeded"]) == (5, 1)


async def test_a_reader_that_is_behind_tells_the_age_of_what_it_read(stream_of, sums):
    stream = await stream_of()
    stream.shift_clock(-60)
    await stream.fill(2)
    stream.shift_clock(0)
    iterator = await stream.iterator("TRIM_HORIZON")

    answer = await stream.client.get_records(ShardIterator=iterator, Limit=1)

    assert 60_000 <= answer["MillisBehindLatest"] < 600_000
    assert 60_000 <= (await sums(stream.name))["GetRecords.IteratorAgeMilliseconds"] < 600_000


async def test_fan_out_is_measured_by_consumer(stream_of, sums):
    stream = await stream_of()
    await stream.fill(3)
    made = await stream.client.register_stream_consumer(
        StreamARN=stream.inner.arn, ConsumerName="reports"
    )
    arn = made["Consumer"]["ConsumerARN"]

    async def subscribe():
        return await stream.client.subscribe_to_shard(
            ConsumerARN=arn, ShardId=SHARD, StartingPosition={"Type": "TRIM_HORIZON"}
        )

    answer = await subscribe()
    async for event in answer["EventStream"]:
        if event["SubscribeToShardEvent"]["Records"]:
            break
    with pytest.raises(stream.client.exceptions.ResourceInUseException):
        await subscribe()

    told = await sums(stream.name, ConsumerName="reports")

    assert told == {
        "SubscribeToShard.Success": 1,
        "SubscribeToShard.RateExceeded": 1,
        "SubscribeToShardEvent.Success": 1,
        "SubscribeToShardEvent.Records": 3,
        "SubscribeToShardEvent.Bytes": 3,
        "SubscribeToShardEvent.MillisBehindLatest": 0,
    }


async def test_metrics_have_the_units_of_the_documentation(busy, cloud):
    client = await cloud.client("cloudwatch")

    async def unit(name: str) -> str:
        answer = await client.get_metric_statistics(
            Namespace="AWS/Kinesis",
            MetricName=name,
            Dimensions=[{"Name": "StreamName", "Value": busy.name}],
            StartTime=time.time() - 600,
            EndTime=time.time() + 60,
            Period=60,
            Statistics=["Sum"],
        )
        return answer["Datapoints"][0]["Unit"]

    assert await unit("IncomingBytes") == "Bytes"
    assert await unit("IncomingRecords") == "Count"
    assert await unit("PutRecords.Latency") == "Milliseconds"
    assert await unit("GetRecords.IteratorAgeMilliseconds") == "Milliseconds"
