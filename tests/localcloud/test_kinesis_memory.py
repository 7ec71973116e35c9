from __future__ import annotations

import gc
import random
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.kinesis.limits import MIB
from localcloud.kinesis.memory import Memory, Readers
from localcloud.kinesis.segment import OVERHEAD_BYTES, Accepted
from localcloud.kinesis.shard import Shard
from localcloud.kinesis.stream import Stream

SHARD = "shardId-000000000000"


def accepted(datas: list[bytes], keys: list[str] | None = None, arrival_ms: int = 1) -> Accepted:
    keys = keys or ["key"] * len(datas)
    size = sum(map(len, datas)) + sum(len(key.encode()) for key in keys)
    return Accepted(keys, datas, size, arrival_ms)


def make_shard() -> Shard:
    return Shard(SHARD, 0, 0, 9, 1_700_000_000_000)


# What a shard holds


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=40)), min_size=1, max_size=300),
        min_size=1,
        max_size=8,
    ),
    st.integers(1, 400),
    st.integers(1, 4000),
)
def test_pages_give_every_record_once_in_order_packed_or_not(calls, limit, max_bytes):
    shard, expected = make_shard(), []
    for call in calls:
        keys, datas = [key for key, _ in call], [data for _, data in call]
        assert shard.append(accepted(datas, keys)) == len(expected)
        expected += call
    position, found = 0, []
    while position < len(expected):
        page = shard.read(position, limit, max_bytes)
        assert 1 <= len(page.datas) <= limit
        assert len(page.datas) == 1 or sum(map(len, page.datas)) <= max_bytes
        assert page.size == sum(map(len, page.datas))
        found += zip(page.keys, page.datas, strict=True)
        position = page.next_position

    assert found == expected
    assert shard.bytes_held == sum(
        len(data) + len(key.encode()) + OVERHEAD_BYTES for key, data in expected
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=2000), st.integers(-1, 31))
def test_trimming_drops_exactly_what_is_older_and_frees_whole_segments(arrivals, before_ms):
    shard, latest = make_shard(), 0
    kept = []
    for number, arrival_ms in enumerate(arrivals):
        shard.append(accepted([b"%d" % number], arrival_ms=arrival_ms))
        # A clock that goes back does not take records with it.
        latest = max(latest, arrival_ms)
        kept += [b"%d" % number] if latest >= before_ms else []

    freed = shard.trim(before_ms)

    assert shard.read(0, 10_000, MIB).datas == kept
    assert shard.first_position == len(arrivals) - len(kept)
    assert shard.position_at_time(before_ms) == shard.first_position
    held = shard.bytes_held
    assert held >= sum(len(data) + 3 + OVERHEAD_BYTES for data in kept)
    assert held == 0 or kept
    assert freed >= 0


def test_a_record_of_200_bytes_takes_little_more_than_it_has():
    shard, count = make_shard(), 100_000
    draw = random.Random(7)  # noqa: S311 - not for secrets
    gc.collect()
    tracemalloc.start()
    for first in range(0, count, 500):
        datas = [draw.randbytes(200) for _ in range(500)]
        shard.append(accepted(datas, [f"dev-{first + n:06d}" for n in range(500)]))
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert shard.bytes_held == count * (200 + 10 + OVERHEAD_BYTES)
    assert held / count < 235


# When it is full


@pytest.fixture
def full():
    """A memory of a mebibyte, a stream of one shard, and a way to fill it."""

    class Full:
        def __init__(self) -> None:
            self.readers = Readers()
            self.memory = Memory(MIB, self.readers)
            self.stream = Stream("s", "arn", "PROVISIONED", time.time())
            (self.shard,) = self.stream.add_even_shards(1)

        def put(self, kib: int) -> int:
            """Stores records of a kibibyte while there is room; returns how many."""
            stored = 0
            while stored < kib and self.memory.room([self.stream]):
                before = self.shard.bytes_held
                self.shard.append(accepted([bytes(1024)]))
                self.memory.held_bytes += self.shard.bytes_held - before
                stored += 1
            return stored

    return Full()


def test_what_nobody_read_is_kept_and_writes_are_refused(full):
    stored = full.put(5000)

    assert 950 < stored < 1024
    assert full.shard.first_position == 0
    assert full.put(1) == 0
    assert full.memory.evicted_bytes == 0


def test_what_was_read_gives_way_oldest_first(full):
    stored = full.put(5000)
    full.shard.read(0, 700, MIB)

    assert full.put(300) == 300
    assert 0 < full.shard.first_position <= 700
    assert full.shard.end_position == stored + 300
    assert full.memory.held_bytes == full.shard.bytes_held <= MIB
    assert full.memory.evicted_bytes > 0


def test_every_reader_inside_the_process_must_have_passed(full):
    full.put(5000)
    full.readers.checkpoint("arn", "fast", SHARD, 700)
    full.readers.checkpoint("arn", "slow", SHARD, 100)
    full.shard.read(0, 10_000, MIB)

    assert full.put(1) == 0
    full.readers.checkpoint("arn", "slow", SHARD, 700)
    assert full.put(300) == 300
    assert full.shard.first_position <= 700


def test_a_reader_that_was_forgotten_holds_nothing_back(full):
    full.put(5000)
    full.readers.checkpoint("arn", "fast", SHARD, 700)
    full.readers.checkpoint("arn", "gone", SHARD, 0)
    full.readers.forget("arn", "gone")

    assert full.put(300) == 300


def test_a_shard_that_a_reader_has_not_come_to_is_kept(full):
    full.readers.checkpoint("arn", "one", "shardId-000000000009", 5)
    full.put(5000)
    full.shard.read(0, 10_000, MIB)

    assert full.put(1) == 0


# Through the API


@pytest.mark.asyncio(loop_scope="module")
async def test_a_full_memory_refuses_records_and_takes_them_once_others_were_read(
    cloud, stream_of, monkeypatch
):
    stream, memory = await stream_of(), cloud.service("kinesis")._memory
    await stream.fill(300)
    monkeypatch.setattr(memory, "max_bytes", memory.held_bytes)

    refused = await stream.put(("k", b"x"))
    with pytest.raises(stream.client.exceptions.ClientError, match="FLEETCAST_KINESIS_MIB"):
        await stream.client.put_record(StreamName=stream.name, PartitionKey="k", Data=b"x")
    await stream.read()
    taken = await stream.put(("k", b"x"))

    assert refused["Records"][0]["ErrorCode"] == "InternalFailure"
    assert taken["FailedRecordCount"] == 0
    assert cloud.service("kinesis").status()["memory"]["refused_records"] == 2
    assert await stream.read() == [b"x"]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_deleted_stream_gives_its_memory_back(cloud, stream_of):
    stream, memory = await stream_of(), cloud.service("kinesis")._memory
    before = memory.held_bytes
    await stream.fill(300)
    assert memory.held_bytes > before

    await stream.client.delete_stream(StreamName=stream.name)

    assert memory.held_bytes == before


@pytest.mark.asyncio(loop_scope="module")
async def test_mappings_and_delivery_streams_tell_how_far_they_are(
    cloud, stream_of, function_of, eventually
):
    stream, readers = await stream_of(), cloud.service("kinesis")._readers
    functions, firehose = await cloud.client("lambda"), await cloud.client("firehose")
    s3 = await cloud.client("s3")
    await s3.create_bucket(Bucket=stream.name)
    function = await function_of("def handler(event, context):\n    return None")
    await stream.fill(3)

    mapping = await functions.create_event_source_mapping(
        EventSourceArn=stream.inner.arn, FunctionName=function, StartingPosition="TRIM_HORIZON"
    )
    await firehose.create_delivery_stream(
        DeliveryStreamName=stream.name,
        DeliveryStreamType="KinesisStreamAsSource",
        KinesisStreamSourceConfiguration={
            "KinesisStreamARN": stream.inner.arn,
            "RoleARN": "arn:aws:iam::123456789012:role/delivery",
        },
        ExtendedS3DestinationConfiguration={
            "RoleARN": "arn:aws:iam::123456789012:role/delivery",
            "BucketARN": f"arn:aws:s3:::{stream.name}",
            # What waits in a buffer is not passed yet.
            "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0},
        },
    )
    await stream.fill(2, 3)

    def told() -> list[int]:
        return [p.get(SHARD, 0) for p in readers._positions.get(stream.inner.arn, {}).values()]

    await eventually(lambda: told() == [5, 5])
    await functions.delete_event_source_mapping(UUID=mapping["UUID"])
    await firehose.delete_delivery_stream(DeliveryStreamName=stream.name)
    assert told() == []
