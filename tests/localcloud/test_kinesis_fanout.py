from __future__ import annotations

import asyncio
import types

import pytest
import pytest_asyncio

from localcloud.kinesis.limits import MIB

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHARD = "shardId-000000000000"


class Fanout:
    """A stream with one consumer, and its subscriptions."""

    def __init__(self, stream, consumer_arn: str, subscriptions) -> None:
        self.stream, self.consumer_arn, self.subscriptions = stream, consumer_arn, subscriptions
        self.clock = types.SimpleNamespace(now=0.0)
        stream.inner.clock.monotonic_s = lambda: self.clock.now
        for shard in stream.inner.shards:
            shard.start_limits()

    async def subscribe(self, kind: str = "TRIM_HORIZON", **more):
        answer = await self.stream.client.subscribe_to_shard(
            ConsumerARN=self.consumer_arn,
            ShardId=SHARD,
            StartingPosition={"Type": kind, **more},
        )
        return answer["EventStream"].__aiter__()

    def wake(self) -> None:
        """Lets subscriptions look at the clock now, and not at their next heartbeat."""
        for shard in self.stream.inner.shards:
            shard.wake()


async def event_with_records(events) -> dict:
    while True:
        event = (await anext(events))["SubscribeToShardEvent"]
        if event["Records"]:
            return event


async def rest(events) -> list[dict]:
    return [event["SubscribeToShardEvent"] async for event in events]


@pytest_asyncio.fixture(loop_scope="module")
async def fanout(cloud, stream_of):
    stream = await stream_of()
    registered = await stream.client.register_stream_consumer(
        StreamARN=stream.inner.arn, ConsumerName="reports"
    )
    service = cloud.service("kinesis")
    return Fanout(stream, registered["Consumer"]["ConsumerARN"], service._subscriptions)


# Consumers


async def test_a_consumer_is_registered_described_listed_and_deregistered(stream_of):
    stream = await stream_of()
    client, arn = stream.client, stream.inner.arn
    made = await client.register_stream_consumer(StreamARN=arn, ConsumerName="a", Tags={"k": "v"})
    consumer_arn = made["Consumer"]["ConsumerARN"]

    by_name = await client.describe_stream_consumer(StreamARN=arn, ConsumerName="a")
    by_arn = await client.describe_stream_consumer(ConsumerARN=consumer_arn)
    tags = await client.list_tags_for_resource(ResourceARN=consumer_arn)
    summary = await client.describe_stream_summary(StreamARN=arn)

    assert consumer_arn.startswith(f"{arn}/consumer/a:")
    assert by_name["ConsumerDescription"] == by_arn["ConsumerDescription"]
    assert by_arn["ConsumerDescription"]["ConsumerStatus"] == "ACTIVE"
    assert tags["Tags"] == [{"Key": "k", "Value": "v"}]
    assert summary["StreamDescriptionSummary"]["ConsumerCount"] == 1
    with pytest.raises(client.exceptions.ResourceInUseException):
        await client.register_stream_consumer(StreamARN=arn, ConsumerName="a")
    await client.deregister_stream_consumer(ConsumerARN=consumer_arn)
    assert (await client.list_stream_consumers(StreamARN=arn))["Consumers"] == []
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        await client.describe_stream_consumer(ConsumerARN=consumer_arn)


async def test_a_stream_has_twenty_consumers_which_are_listed_in_pages(stream_of):
    stream = await stream_of()
    client, arn = stream.client, stream.inner.arn
    for number in range(20):
        await client.register_stream_consumer(StreamARN=arn, ConsumerName=f"c{number:02d}")

    with pytest.raises(client.exceptions.LimitExceededException, match="20"):
        await client.register_stream_consumer(StreamARN=arn, ConsumerName="one-more")
    first = await client.list_stream_consumers(StreamARN=arn, MaxResults=15)
    second = await client.list_stream_consumers(StreamARN=arn, NextToken=first["NextToken"])

    names = [c["ConsumerName"] for c in [*first["Consumers"], *second["Consumers"]]]
    assert names == [f"c{number:02d}" for number in range(20)]
    assert "NextToken" not in second


async def test_a_stream_with_consumers_is_deleted_only_with_them(stream_of):
    stream = await stream_of()
    client = stream.client
    await client.register_stream_consumer(StreamARN=stream.inner.arn, ConsumerName="a")

    with pytest.raises(client.exceptions.ResourceInUseException, match="EnforceConsumerDeletion"):
        await client.delete_stream(StreamName=stream.name)
    await client.delete_stream(StreamName=stream.name, EnforceConsumerDeletion=True)


# Subscriptions


async def test_a_subscription_pushes_what_is_there_and_what_comes(fanout):
    numbers = await fanout.stream.fill(3)
    events = await fanout.subscribe()
    first = await event_with_records(events)
    await fanout.stream.fill(2, 3)
    second = await event_with_records(events)

    assert [record["Data"] for record in first["Records"]] == [b"0", b"1", b"2"]
    assert [record["SequenceNumber"] for record in first["Records"]] == numbers
    assert first["ContinuationSequenceNumber"] == numbers[-1]
    assert [record["Data"] for record in second["Records"]] == [b"3", b"4"]
    assert (first["MillisBehindLatest"], second["MillisBehindLatest"]) == (0, 0)
    assert "ChildShards" not in second


async def test_a_subscription_goes_on_after_the_continuation_of_another(fanout):
    await fanout.stream.fill(3)
    first = await event_with_records(await fanout.subscribe())
    fanout.clock.now = 10.0
    await fanout.stream.fill(2, 3)

    events = await fanout.subscribe(
        "AFTER_SEQUENCE_NUMBER", SequenceNumber=first["ContinuationSequenceNumber"]
    )

    event = await event_with_records(events)
    assert [record["Data"] for record in event["Records"]] == [b"3", b"4"]


async def test_a_second_subscription_within_five_seconds_is_refused(fanout):
    errors = fanout.stream.client.exceptions
    await fanout.subscribe()

    fanout.clock.now = 4.9
    with pytest.raises(errors.ResourceInUseException, match="Another active subscription"):
        await fanout.subscribe()


async def test_a_second_subscription_after_five_seconds_takes_over(fanout):
    first = await fanout.subscribe("LATEST")
    waiting = asyncio.create_task(rest(first))
    fanout.clock.now = 5.0

    second = await fanout.subscribe("LATEST")

    with pytest.raises(Exception, match="took over"):
        await asyncio.wait_for(waiting, 30)
    await fanout.stream.fill(1)
    assert (await event_with_records(second))["Records"][0]["Data"] == b"0"


async def test_a_subscription_ends_after_five_minutes(fanout):
    events = await fanout.subscribe("LATEST")
    ended = asyncio.create_task(rest(events))
    fanout.clock.now = 299.0
    await fanout.stream.fill(1)
    fanout.clock.now = 300.0
    fanout.wake()

    told = await asyncio.wait_for(ended, 30)

    assert [len(event["Records"]) for event in told if event["Records"]] == [1]


async def test_a_consumer_gets_two_mebibytes_of_a_shard_in_a_second(fanout):
    shard = fanout.stream.inner.shards[0]
    for _ in range(6):
        # As if there had been a second between them.
        shard.start_limits()
        await fanout.stream.put(("k", bytes(MIB // 2)))
    events = await fanout.subscribe()

    first = await event_with_records(events)
    following = asyncio.create_task(event_with_records(events))
    await fanout.stream.client.describe_stream_summary(StreamName=fanout.stream.name)
    assert not following.done()
    fanout.clock.now = 1.0

    assert len(first["Records"]) == 4
    assert first["MillisBehindLatest"] > 0
    assert len((await asyncio.wait_for(following, 30))["Records"]) == 2


async def test_a_subscription_to_a_closed_shard_ends_with_its_children(fanout):
    await fanout.stream.fill(2)
    events = await fanout.subscribe()
    await event_with_records(events)

    await fanout.stream.client.split_shard(
        StreamName=fanout.stream.name, ShardToSplit=SHARD, NewStartingHashKey=str(2**127)
    )

    *_, last = await asyncio.wait_for(rest(events), 30)
    assert last["Records"] == []
    assert [child["ShardId"] for child in last["ChildShards"]] == [
        "shardId-000000000001",
        "shardId-000000000002",
    ]
    assert last["ChildShards"][0]["ParentShards"] == [SHARD]


async def test_a_subscription_of_a_deregistered_consumer_fails(fanout):
    events = await fanout.subscribe("LATEST")
    ended = asyncio.create_task(rest(events))
    await fanout.stream.client.deregister_stream_consumer(ConsumerARN=fanout.consumer_arn)

    with pytest.raises(Exception, match="is gone"):
        await asyncio.wait_for(ended, 30)


async def test_a_client_that_leaves_ends_its_subscription(fanout, eventually):
    answer = await fanout.stream.client.subscribe_to_shard(
        ConsumerARN=fanout.consumer_arn, ShardId=SHARD, StartingPosition={"Type": "LATEST"}
    )
    mine = fanout.subscriptions._latest[(fanout.consumer_arn, SHARD)]
    assert not mine.ended
    answer["EventStream"].close()

    await eventually(lambda: mine.ended)


async def test_a_subscription_needs_its_consumer_and_shard(fanout):
    errors = fanout.stream.client.exceptions
    with pytest.raises(errors.ResourceNotFoundException, match="Could not find shard"):
        await fanout.stream.client.subscribe_to_shard(
            ConsumerARN=fanout.consumer_arn,
            ShardId="shardId-000000000009",
            StartingPosition={"Type": "LATEST"},
        )
    with pytest.raises(errors.ResourceNotFoundException, match="Consumer"):
        await fanout.stream.client.subscribe_to_shard(
            ConsumerARN=f"{fanout.stream.inner.arn}/consumer/none:1",
            ShardId=SHARD,
            StartingPosition={"Type": "LATEST"},
        )
