from __future__ import annotations

import asyncio
import datetime as dt

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")


# Reading


async def test_sequence_numbers_ascend_as_numbers_and_as_text(stream_of):
    stream = await stream_of()
    numbers = await stream.fill(300) + await stream.fill(300, 300)

    assert numbers == sorted(numbers) == sorted(numbers, key=int)
    assert len(set(numbers)) == 600
    assert {len(number) for number in numbers} == {56}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("TRIM_HORIZON", [b"0", b"1", b"2", b"3"]),
        ("LATEST", []),
        ("AT_SEQUENCE_NUMBER", [b"2", b"3"]),
        ("AFTER_SEQUENCE_NUMBER", [b"3"]),
    ],
)
async def test_an_iterator_starts_where_its_type_says(stream_of, kind, expected):
    stream = await stream_of()
    numbers = await stream.fill(4)
    more = {"StartingSequenceNumber": numbers[2]} if "SEQUENCE" in kind else {}

    assert await stream.read(kind, **more) == expected


async def test_a_latest_iterator_sees_what_is_put_after_it_was_made(stream_of):
    stream = await stream_of()
    await stream.fill(2)
    iterator = await stream.iterator("LATEST")
    await stream.fill(2, 2)

    answer = await stream.client.get_records(ShardIterator=iterator)

    assert [record["Data"] for record in answer["Records"]] == [b"2", b"3"]
    assert answer["MillisBehindLatest"] == 0


async def test_a_timestamp_iterator_starts_at_the_first_record_from_then_on(stream_of):
    stream = await stream_of()
    for number, arrival_s in enumerate((1000, 1002, 1002, 1004)):
        stream.inner.clock.epoch_s = lambda now_s=arrival_s: now_s
        await stream.fill(1, number)

    async def from_time(seconds: float) -> list[bytes]:
        moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
        return await stream.read("AT_TIMESTAMP", Timestamp=moment)

    assert await from_time(999) == [b"0", b"1", b"2", b"3"]
    assert await from_time(1002) == [b"1", b"2", b"3"]
    assert await from_time(1003) == [b"3"]
    stream.shift_clock(0)
    assert await from_time(1005) == []


async def test_reads_go_on_from_page_to_page_without_gap(stream_of):
    stream = await stream_of()
    stream.hold_clock()
    await stream.fill(10)
    iterator, pages = await stream.iterator("TRIM_HORIZON"), []
    for _ in range(4):
        answer = await stream.client.get_records(ShardIterator=iterator, Limit=4)
        iterator = answer["NextShardIterator"]
        pages.append([int(record["Data"]) for record in answer["Records"]])

    assert pages == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], []]


async def test_a_record_comes_back_as_it_was_put(stream_of):
    stream = await stream_of()
    data = bytes(range(256))
    put = await stream.client.put_record(StreamName=stream.name, PartitionKey="κλειδί", Data=data)

    answer = await stream.client.get_records(ShardIterator=await stream.iterator("TRIM_HORIZON"))

    (record,) = answer["Records"]
    assert (record["Data"], record["PartitionKey"]) == (data, "κλειδί")
    assert record["SequenceNumber"] == put["SequenceNumber"]
    arrival_ms = stream.inner.shards[0].records[0].arrival_ms
    assert round(record["ApproximateArrivalTimestamp"].timestamp() * 1000) == arrival_ms


async def test_a_bad_and_an_old_iterator_are_refused(stream_of):
    stream = await stream_of()
    iterator = await stream.iterator("LATEST")
    errors = stream.client.exceptions

    with pytest.raises(errors.InvalidArgumentException, match="Invalid ShardIterator"):
        await stream.client.get_records(ShardIterator="nonsense")
    stream.shift_clock(299)
    await stream.client.get_records(ShardIterator=iterator)
    stream.shift_clock(301)
    with pytest.raises(errors.ExpiredIteratorException):
        await stream.client.get_records(ShardIterator=iterator)


async def test_a_sequence_number_of_another_shard_is_refused(stream_of):
    stream = await stream_of(2)
    answer = await stream.put(("k", b"x"), ExplicitHashKey="0")

    with pytest.raises(stream.client.exceptions.InvalidArgumentException, match="not one of shard"):
        await stream.iterator(
            "AT_SEQUENCE_NUMBER", 1, StartingSequenceNumber=answer["Records"][0]["SequenceNumber"]
        )


async def test_a_waiting_reader_is_woken_by_a_put(cloud, stream_of):
    stream = await stream_of()
    source = cloud.local.kinesis
    waiting = asyncio.create_task(source.wait(stream.inner.arn, "shardId-000000000000", 0, 60))
    await asyncio.sleep(0)
    await stream.fill(1)

    assert await asyncio.wait_for(waiting, 30) is True
    assert await source.wait(stream.inner.arn, "shardId-000000000000", 1, 0.01) is False


async def test_a_reader_that_waits_for_several_records_is_woken_by_the_last(cloud, stream_of):
    stream = await stream_of()
    source, (shard,) = cloud.local.kinesis, stream.inner.shards
    waiting = [
        asyncio.create_task(source.wait(stream.inner.arn, shard.shard_id, last, 60))
        for last in (2, 5)
    ]
    await asyncio.sleep(0)
    await stream.fill(2)
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in waiting)
    await stream.fill(2)
    assert await asyncio.wait_for(waiting[0], 30) is True
    assert not waiting[1].done()
    shard.close()
    assert await asyncio.wait_for(waiting[1], 30) is True


# Retention


async def test_records_are_dropped_when_their_retention_ends(stream_of):
    stream = await stream_of()
    await stream.fill(3)
    (shard,) = stream.inner.shards
    last = shard.records[-1]

    def left_after(hours: float) -> int:
        stream.inner.clock.epoch_s = lambda: last.arrival_ms / 1000 + hours * 3600
        stream.inner.trim()
        return len(shard.records)

    assert left_after(23.9) == 3
    await stream.client.increase_stream_retention_period(
        StreamName=stream.name, RetentionPeriodHours=48
    )
    assert left_after(47.9) == 3
    assert left_after(48.1) == 0
    assert shard.bytes_held == 0
    (number,) = await stream.fill(1, 3)

    assert await stream.read() == [b"3"]
    assert int(number) == int(last.sequence_number) + 1


async def test_what_had_expired_does_not_come_back_with_a_longer_retention(stream_of):
    stream = await stream_of()
    await stream.fill(3)
    stream.shift_clock(25 * 3600)

    await stream.client.increase_stream_retention_period(
        StreamName=stream.name, RetentionPeriodHours=48
    )

    assert await stream.read() == []


async def test_retention_is_from_a_day_to_a_year(stream_of):
    stream = await stream_of()
    refused = stream.client.exceptions.InvalidArgumentException

    with pytest.raises(refused, match="from 24 to 8760"):
        await stream.client.increase_stream_retention_period(
            StreamName=stream.name, RetentionPeriodHours=8761
        )
    with pytest.raises(refused, match="from 24 to 24"):
        await stream.client.decrease_stream_retention_period(
            StreamName=stream.name, RetentionPeriodHours=12
        )
