from __future__ import annotations

import itertools
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.kinesis import throughput
from localcloud.kinesis.limits import MIB, Clock
from localcloud.kinesis.resharding import scale
from localcloud.kinesis.shard import MAX_HASH_KEY
from localcloud.kinesis.stream import ON_DEMAND, Stream
from localcloud.kinesis.throughput import Throughput

QUARTER_S = throughput.WINDOW_S
DAY_S = 86_400


@pytest.fixture
def on_demand():
    """A stream of four shards, and the clock that it lives by."""
    now = types.SimpleNamespace(s=1_700_000_000.0)
    stream = Stream("s", "arn", ON_DEMAND, now.s, Clock(lambda: now.s, lambda: now.s))
    stream.add_even_shards(throughput.FIRST_SHARDS)

    def run(seconds: int, mib_per_s: float) -> int:
        """Writes at a rate for a while; returns how many shards are open then."""
        for _ in range(0, seconds, 30):
            now.s += 30
            stream.throughput.add(int(mib_per_s * MIB * 30), 0, now.s)
            scale(stream)
        return len(stream.open_shards)

    return types.SimpleNamespace(stream=stream, now=now, run=run)


def test_a_new_stream_takes_what_four_shards_take(on_demand):
    assert on_demand.run(QUARTER_S, 1.0) == 4
    assert on_demand.run(QUARTER_S, 2.0) == 4


def test_a_new_peak_gives_room_for_its_double_within_a_quarter_of_an_hour(on_demand):
    assert on_demand.run(QUARTER_S - 60, 4.0) == 4
    assert on_demand.run(120, 4.0) == 8
    assert on_demand.run(QUARTER_S + 60, 8.0) == 16


def test_records_count_like_bytes(on_demand):
    on_demand.stream.throughput.add(0, 5000 * 60, on_demand.now.s + 1)
    on_demand.now.s += QUARTER_S
    scale(on_demand.stream)

    assert len(on_demand.stream.open_shards) == 10


def test_the_peak_of_thirty_days_is_remembered_and_then_forgotten(on_demand):
    on_demand.run(QUARTER_S, 6.0)
    usage = on_demand.stream.throughput

    on_demand.now.s += 29 * DAY_S
    assert usage.wanted_shards(on_demand.now.s) == 12
    on_demand.now.s += 2 * DAY_S
    assert usage.wanted_shards(on_demand.now.s) == 4


def test_it_scales_by_splitting_and_the_hash_space_stays_covered(on_demand):
    on_demand.run(QUARTER_S, 3.0)
    stream = on_demand.stream

    assert len(stream.open_shards) == 6
    assert [s.parent for s in stream.shards[4:]] == [
        "shardId-000000000000", "shardId-000000000000",
        "shardId-000000000001", "shardId-000000000001",
    ]  # fmt: skip
    ranges = [(shard.start_hash, shard.end_hash) for shard in stream.open_shards]
    assert (ranges[0][0], ranges[-1][1]) == (0, MAX_HASH_KEY)
    assert all(low[1] + 1 == high[0] for low, high in itertools.pairwise(ranges))


def test_a_provisioned_stream_does_not_scale(on_demand):
    on_demand.stream.mode = "PROVISIONED"

    assert on_demand.run(2 * QUARTER_S, 50.0) == 4


@settings(deadline=None)
@given(st.lists(st.floats(0, 40), min_size=1, max_size=40))
def test_what_is_wanted_is_double_the_busiest_minute_and_never_less_than_four(rates):
    usage = Throughput(0.0)
    for minute, rate in enumerate(rates):
        usage.add(int(rate * MIB * 60), 0, minute * 60.0)

    wanted = usage.wanted_shards(len(rates) * 60.0 + QUARTER_S)

    busiest = max(int(rate * MIB * 60) for rate in rates) / MIB / 60
    assert wanted is not None
    assert wanted >= max(4, 2 * busiest)
    assert wanted - 1 < max(4, 2 * busiest)


# Through the API


@pytest.mark.asyncio(loop_scope="module")
async def test_traffic_above_double_the_peak_is_throttled_until_the_stream_has_scaled(cloud, name):
    client, service = await cloud.client("kinesis"), cloud.service("kinesis")
    await client.create_stream(StreamName=name, StreamModeDetails={"StreamMode": ON_DEMAND})
    stream = service._control.streams[name]
    clock = types.SimpleNamespace(now=0.0)
    started_s = stream.clock.epoch_s()
    stream.clock.monotonic_s = lambda: clock.now
    stream.clock.epoch_s = lambda: started_s + clock.now
    for shard in stream.shards:
        shard.start_limits()

    async def write(mib: int) -> int:
        """Writes `mib` MiB in one second, evenly over the hash space; returns what was refused."""
        records = [
            {
                "Data": bytes(MIB // 2 - 1),
                "PartitionKey": "k",
                "ExplicitHashKey": str(2**128 // (mib * 2) * index),
            }
            for index in range(mib * 2)
        ]
        return (await client.put_records(StreamName=name, Records=records))["FailedRecordCount"]

    assert await write(8) == 8
    for second in range(1, 120):
        clock.now = float(second)
        stream.throughput.add(4 * MIB, 0, stream.clock.epoch_s())
    clock.now = QUARTER_S + 1.0
    service.tend()

    assert len(stream.open_shards) == 8
    assert await write(8) == 0


@pytest.mark.asyncio(loop_scope="module")
async def test_resharding_by_hand_is_for_provisioned_streams(cloud, name):
    client = await cloud.client("kinesis")
    await client.create_stream(StreamName=name, StreamModeDetails={"StreamMode": ON_DEMAND})
    refused = pytest.raises(client.exceptions.ValidationException, match="on-demand mode")

    with refused:
        await client.update_shard_count(
            StreamName=name, TargetShardCount=8, ScalingType="UNIFORM_SCALING"
        )
    with refused:
        await client.split_shard(
            StreamName=name, ShardToSplit="shardId-000000000000", NewStartingHashKey="9"
        )


@pytest.mark.asyncio(loop_scope="module")
async def test_a_stream_changes_its_mode_twice_a_day_and_keeps_its_shards(stream_of):
    stream = await stream_of(6)

    async def set_mode(mode: str) -> None:
        await stream.client.update_stream_mode(
            StreamARN=stream.inner.arn, StreamModeDetails={"StreamMode": mode}
        )

    await set_mode(ON_DEMAND)
    await set_mode("PROVISIONED")
    with pytest.raises(stream.client.exceptions.LimitExceededException):
        await set_mode(ON_DEMAND)
    assert len(stream.inner.open_shards) == 6


@pytest.mark.asyncio(loop_scope="module")
async def test_records_without_order_are_spread_by_turns(cloud, name):
    client = await cloud.client("kinesis")
    await client.create_stream(
        StreamName=name,
        StreamModeDetails={"StreamMode": ON_DEMAND},
        RecordDistributionStrategy="AUTO",
    )

    answer = await client.put_records(StreamName=name, Records=[{"Data": b"x"}] * 8)

    numbers = [int(record["ShardId"][-1]) for record in answer["Records"]]
    assert numbers == [0, 1, 2, 3] * 2
    iterator = await client.get_shard_iterator(
        StreamName=name, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )
    got = await client.get_records(ShardIterator=iterator["ShardIterator"])
    assert len(got["Records"]) == 2
    assert "PartitionKey" not in got["Records"][0]


@pytest.mark.asyncio(loop_scope="module")
async def test_warm_throughput_needs_the_commitment(cloud, name, monkeypatch):
    client, service = await cloud.client("kinesis"), cloud.service("kinesis")
    await client.create_stream(StreamName=name, StreamModeDetails={"StreamMode": ON_DEMAND})
    arn = service._control.streams[name].arn

    async def commit(status: str) -> str:
        answer = await client.update_account_settings(
            MinimumThroughputBillingCommitment={"Status": status}
        )
        return answer["MinimumThroughputBillingCommitment"]["Status"]

    with pytest.raises(client.exceptions.ValidationException, match="Commitment"):
        await client.update_stream_warm_throughput(StreamARN=arn, WarmThroughputMiBps=10)
    assert await commit("ENABLED") == "ENABLED"
    warmed = await client.update_stream_warm_throughput(StreamARN=arn, WarmThroughputMiBps=10)
    assert warmed["WarmThroughput"] == {"TargetMiBps": 10, "CurrentMiBps": 10}
    assert len(service._control.streams[name].open_shards) == 10
    assert await commit("DISABLED") == "ENABLED_UNTIL_EARLIEST_ALLOWED_END"
    now_s = service._control.clock.epoch_s()
    monkeypatch.setattr(service._control.clock, "epoch_s", lambda: now_s + DAY_S + 1)
    told = await client.describe_account_settings()
    assert told["MinimumThroughputBillingCommitment"]["Status"] == "DISABLED"
