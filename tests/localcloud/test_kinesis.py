from __future__ import annotations

import hashlib

import pytest

from localcloud.kinesis.shard import MIB

pytestmark = pytest.mark.asyncio(loop_scope="module")

HALF = 2**127
THROTTLED = "ProvisionedThroughputExceededException"


# Where records go


async def test_the_md5_of_the_partition_key_chooses_the_shard(stream_of):
    stream = await stream_of(4)
    keys = [f"device-{n}" for n in range(200)]

    answer = await stream.put(*[(key, b"x") for key in keys])

    quarter = 2**126
    expected = [
        int(hashlib.md5(key.encode(), usedforsecurity=False).hexdigest(), 16) // quarter
        for key in keys
    ]
    assert [int(r["ShardId"].rpartition("-")[2]) for r in answer["Records"]] == expected
    assert set(expected) == {0, 1, 2, 3}


async def test_an_explicit_hash_key_overrides_the_partition_key(stream_of):
    stream = await stream_of(2)

    low = await stream.put(("a", b"x"), ExplicitHashKey=str(HALF - 1))
    high = await stream.put(("a", b"x"), ExplicitHashKey=str(HALF))

    assert low["Records"][0]["ShardId"] == "shardId-000000000000"
    assert high["Records"][0]["ShardId"] == "shardId-000000000001"


async def test_an_explicit_hash_key_out_of_range_is_refused(stream_of):
    stream = await stream_of()
    with pytest.raises(stream.client.exceptions.InvalidArgumentException, match="ExplicitHashKey"):
        await stream.put(("a", b"x"), ExplicitHashKey=str(2**128))


# Limits


async def test_a_full_shard_throttles_single_records_by_bytes(stream_of):
    stream = await stream_of(2)
    stream.hold_clock()
    size = 10_000  # with its key of one byte; 104 of them fit into a mebibyte
    full = [("k", bytes(size - 1))] * 110

    answer = await stream.put(*full, ExplicitHashKey="0")
    other = await stream.put(("k", b"x"), ExplicitHashKey=str(HALF))

    codes = [record.get("ErrorCode") for record in answer["Records"]]
    assert codes == [None] * 104 + [THROTTLED] * 6
    assert answer["FailedRecordCount"] == 6
    assert answer["Records"][-1]["ErrorMessage"] == (
        f"Rate exceeded for shard shardId-000000000000 in stream {stream.name} "
        "under account 123456789012."
    )
    assert other["FailedRecordCount"] == 0
    assert len(await stream.read()) == 104


async def test_a_smaller_record_still_fits_behind_a_refused_one(stream_of):
    stream = await stream_of()
    stream.hold_clock()

    answer = await stream.put(("k", bytes(MIB - 100)), ("k", bytes(200)), ("k", bytes(98)))

    assert [record.get("ErrorCode") for record in answer["Records"]] == [None, THROTTLED, None]


async def test_a_shard_takes_a_thousand_records_in_a_second(stream_of):
    stream = await stream_of()
    clock = stream.hold_clock()

    failed = [(await stream.put(*[("k", b"x")] * 500))["FailedRecordCount"] for _ in range(3)]
    clock.now = 0.25
    later = await stream.put(*[("k", b"x")] * 500)

    assert failed == [0, 0, 500]
    assert later["FailedRecordCount"] == 250
    assert len(stream.inner.shards[0].records) == 1250


async def test_limits_do_not_accrue_beyond_a_second(stream_of):
    stream = await stream_of()
    clock = stream.hold_clock()
    clock.now = 3600.0

    failed = [(await stream.put(*[("k", b"x")] * 500))["FailedRecordCount"] for _ in range(3)]

    assert failed == [0, 0, 500]


async def test_put_record_raises_what_put_records_reports(stream_of):
    stream = await stream_of()
    stream.hold_clock()
    put = stream.client.put_record
    await put(StreamName=stream.name, PartitionKey="k", Data=bytes(MIB - 1))

    with pytest.raises(stream.client.exceptions.ProvisionedThroughputExceededException):
        await put(StreamName=stream.name, PartitionKey="k", Data=b"x")


async def test_a_shard_gives_five_reads_in_a_second(stream_of):
    stream = await stream_of()
    clock = stream.hold_clock()
    iterator = await stream.iterator("LATEST")
    for _ in range(5):
        await stream.client.get_records(ShardIterator=iterator)

    with pytest.raises(stream.client.exceptions.ProvisionedThroughputExceededException):
        await stream.client.get_records(ShardIterator=iterator)
    clock.now = 0.2
    await stream.client.get_records(ShardIterator=iterator)


# What is refused


async def test_a_record_above_a_mebibyte_is_refused(stream_of):
    stream = await stream_of()
    put = stream.client.put_record
    await put(StreamName=stream.name, PartitionKey="k", Data=bytes(MIB - 1))

    with pytest.raises(stream.client.exceptions.ClientError, match="exceeds 1 MiB"):
        await put(StreamName=stream.name, PartitionKey="kk", Data=bytes(MIB - 1))


async def test_a_call_above_ten_mebibytes_or_500_records_is_refused_whole(stream_of):
    stream = await stream_of(8)

    with pytest.raises(stream.client.exceptions.InvalidArgumentException, match="10 MB limit"):
        await stream.put(*[(str(n), bytes(MIB - 10)) for n in range(11)])
    with pytest.raises(stream.client.exceptions.ClientError, match="between 1 and 500"):
        await stream.put(*[("k", b"x")] * 501)

    assert sum(len(shard.records) for shard in stream.inner.shards) == 0


async def test_a_malformed_record_leaves_nothing_of_its_call(stream_of):
    stream = await stream_of()

    with pytest.raises(stream.client.exceptions.ClientError, match="PartitionKey"):
        await stream.put(("good", b"x"), ("k" * 257, b"x"))

    assert len(stream.inner.shards[0].records) == 0


async def test_an_unknown_stream_and_shard_are_not_found(stream_of):
    stream = await stream_of()
    missing = stream.client.exceptions.ResourceNotFoundException

    with pytest.raises(missing, match="Stream nothing under account 123456789012 not found"):
        await stream.client.put_record(StreamName="nothing", PartitionKey="k", Data=b"x")
    with pytest.raises(missing, match="Could not find shard shardId-000000000009"):
        await stream.iterator("LATEST", 9)


# Large records


async def set_record_size(stream, mib: int) -> None:
    await stream.client.update_max_record_size(
        StreamARN=stream.inner.arn, MaxRecordSizeInKiB=mib * 1024
    )


async def test_a_stream_takes_records_up_to_the_size_it_is_set_to(stream_of):
    stream = await stream_of()
    stream.hold_clock()
    await set_record_size(stream, 4)
    put = stream.client.put_record

    with pytest.raises(stream.client.exceptions.ClientError, match="exceeds 4 MiB"):
        await put(StreamName=stream.name, PartitionKey="k", Data=bytes(4 * MIB))
    await put(StreamName=stream.name, PartitionKey="k", Data=bytes(4 * MIB - 1))

    told = await stream.client.describe_stream_summary(StreamName=stream.name)
    assert told["StreamDescriptionSummary"]["MaxRecordSizeInKiB"] == 4096
    assert [len(data) for data in await stream.read()] == [4 * MIB - 1]
    with pytest.raises(stream.client.exceptions.ClientError, match="less than or equal to 10240"):
        await set_record_size(stream, 11)


async def test_a_large_record_bursts_and_is_paid_for_afterwards(stream_of):
    stream = await stream_of()
    clock = stream.hold_clock()
    await set_record_size(stream, 10)

    async def taken(mib: float) -> bool:
        answer = await stream.put(("k", bytes(int(mib * MIB) - 1)))
        return answer["FailedRecordCount"] == 0

    assert await taken(9.5)
    assert not await taken(1)
    clock.now = 0.5
    assert await taken(0.5)
    assert not await taken(0.25)
    clock.now = 5.5
    assert await taken(5)
    assert not await taken(5)


async def test_small_records_do_not_burst_where_large_ones_may(stream_of):
    stream = await stream_of()
    stream.hold_clock()
    await set_record_size(stream, 10)

    answer = await stream.put(*[("k", bytes(MIB // 2 - 1))] * 4)

    assert answer["FailedRecordCount"] == 2


# Order


async def test_a_put_in_order_names_the_record_before(stream_of):
    stream = await stream_of()
    put = stream.client.put_record

    async def after(number: str) -> str:
        answer = await put(
            StreamName=stream.name, PartitionKey="k", Data=b"x", SequenceNumberForOrdering=number
        )
        return answer["SequenceNumber"]

    first = await after("0")
    second = await after(first)
    assert int(second) > int(first)
    with pytest.raises(stream.client.exceptions.InvalidArgumentException, match="invalid"):
        await after(str(int(second) + 1))


# Reads


async def test_a_shard_rests_five_seconds_after_ten_mebibytes(stream_of):
    stream = await stream_of()
    clock = stream.hold_clock()
    for second in range(12):
        clock.now = float(second)
        await stream.put(("k", bytes(MIB - 1)))
    iterator = await stream.iterator("TRIM_HORIZON")

    answer = await stream.client.get_records(ShardIterator=iterator)
    clock.now += 4.9
    with pytest.raises(stream.client.exceptions.ProvisionedThroughputExceededException):
        await stream.client.get_records(ShardIterator=answer["NextShardIterator"])
    clock.now += 0.2
    following = await stream.client.get_records(ShardIterator=answer["NextShardIterator"])

    assert [len(answer["Records"]), len(following["Records"])] == [10, 2]


async def test_a_shard_gives_five_iterators_in_a_second(stream_of):
    stream = await stream_of()
    clock = stream.hold_clock()
    for _ in range(5):
        await stream.iterator("LATEST")

    with pytest.raises(stream.client.exceptions.ProvisionedThroughputExceededException):
        await stream.iterator("LATEST")
    clock.now = 0.2
    await stream.iterator("LATEST")
