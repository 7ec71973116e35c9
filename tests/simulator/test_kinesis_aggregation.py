from __future__ import annotations

import base64
from collections import defaultdict

import pytest
import pytest_asyncio
from aws_kinesis_agg import deaggregator

from fleetcast.errors import TargetError
from fleetcast.target import Target
from localcloud.app import LocalCloud
from localcloud.kinesis.stream import hash_key
from simulator.batch import ACKED
from simulator.kpl import MAGIC
from simulator.transports import kinesis
from simulator.transports.kinesis import KinesisTransport

STREAM = "readings"
pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def cloud():
    async with LocalCloud(port=0) as running:
        yield running


@pytest.fixture
def target(cloud) -> Target:
    return Target.named("local", port=cloud.port)


async def make_stream(target, shards: int) -> None:
    async with target.client("kinesis") as client:
        await client.create_stream(StreamName=STREAM, ShardCount=shards)
        await client.get_waiter("stream_exists").wait(StreamName=STREAM)


async def stored(target) -> dict[str, dict[str, bytes]]:
    """Shard to (sequence number to data) of all records, in their order."""
    found: dict[str, dict[str, bytes]] = defaultdict(dict)
    async with target.client("kinesis") as client:
        shards = (await client.list_shards(StreamName=STREAM))["Shards"]
        for shard in shards:
            at = await client.get_shard_iterator(
                StreamName=STREAM, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )
            iterator = at["ShardIterator"]
            while iterator:
                told = await client.get_records(ShardIterator=iterator)
                for record in told["Records"]:
                    found[shard["ShardId"]][record["SequenceNumber"]] = record["Data"]
                iterator = told.get("NextShardIterator") if told["MillisBehindLatest"] else None
    return found


def inside(data: bytes) -> list[tuple[bytes, str]]:
    """(payload, partition key) of an aggregated record, by AWS's library."""
    assert data.startswith(MAGIC)
    record = {
        "Data": data, "PartitionKey": "-", "SequenceNumber": "1", "ApproximateArrivalTimestamp": 1,
    }  # fmt: skip
    event = {
        "kinesis": {
            "kinesisSchemaVersion": "1.0", "sequenceNumber": "1", "partitionKey": "-",
            "approximateArrivalTimestamp": 1.0, "data": base64.b64encode(record["Data"]).decode(),
        },
        "eventSource": "", "eventVersion": "", "eventID": "s:1", "eventName": "",
        "invokeIdentityArn": "", "awsRegion": "", "eventSourceARN": "",
    }  # fmt: skip
    return [
        (base64.b64decode(one["kinesis"]["data"]), one["kinesis"]["partitionKey"])
        for one in deaggregator.deaggregate_records([event])
    ]


class Finished:
    def __init__(self) -> None:
        self.readings: dict[bytes, tuple[int, str | None, str | None]] = {}

    def __call__(self, batch) -> None:
        nothing = [None] * len(batch)
        for payload, row, shard, number in zip(
            batch.payloads, batch.rows, batch.shards or nothing,
            batch.sequence_numbers or nothing, strict=True,
        ):  # fmt: skip
            assert payload not in self.readings
            self.readings[payload] = (int(row["outcome"]), shard, number)


async def test_readings_share_records_of_their_own_shard_and_keep_their_order(target, readings_of):
    await make_stream(target, 3)
    done = Finished()
    devices = [f"dev-{n:06d}" for n in range(200)]
    async with KinesisTransport(target, STREAM, done, aggregate=True) as transport:
        for turn in range(12):
            payloads = [f"{device} {turn}".encode().ljust(150) for device in devices]
            batch = readings_of(payloads, devices, first=200 * turn)
            batch.rows["device"] = range(200)
            batch.own_keys = True
            transport.send(batch)
        await transport.drain()
        assert transport.traffic.records < 60
    found = await stored(target)
    landed: dict[str, list[bytes]] = defaultdict(list)
    for shard, records in found.items():
        for number, data in records.items():
            for payload, key in inside(data):
                assert done.readings[payload] == (ACKED, shard, number)
                assert hash_key(key) * 3 >> 128 == int(shard[-1])
                assert payload.startswith(key.encode())
                landed[key].append(payload)
    assert sum(map(len, landed.values())) == len(done.readings) == 2400
    for payloads in landed.values():
        turns = [int(payload.split()[1]) for payload in payloads]
        assert turns == list(range(12))


async def test_a_reading_that_is_alone_is_sent_as_it_is(target, readings_of):
    await make_stream(target, 2)
    done = Finished()
    async with KinesisTransport(target, STREAM, done, aggregate=True) as transport:
        transport.send(readings_of([b"alone"]))
        await transport.drain()
    assert [list(records.values()) for records in (await stored(target)).values() if records] == [
        [b"alone"]
    ]


async def test_records_that_are_refused_come_again_with_all_their_readings(
    target, readings_of, monkeypatch
):
    monkeypatch.setattr(kinesis, "BACKOFF_S", (0.05, 0.3))
    await make_stream(target, 1)
    done = Finished()
    # A shard takes a MiB a second: two seconds of it, in records of some 50 KiB.
    payloads = [f"{n:05d}".encode().ljust(1000, b".") for n in range(2000)]
    async with KinesisTransport(target, STREAM, done, aggregate=True, attempts=99) as transport:
        transport.send(readings_of(payloads))
        await transport.drain()
        assert transport.traffic.throttled > 0
        assert transport.traffic.retries > transport.traffic.throttled
    assert {outcome for outcome, _, _ in done.readings.values()} == {ACKED}
    (records,) = (await stored(target)).values()
    assert all(len(data) < 2**20 for data in records.values())
    landed = [payload for data in records.values() for payload, _ in inside(data)]
    assert sorted(landed) == payloads


async def test_a_reading_that_is_larger_than_a_record_should_be_goes_alone(target, readings_of):
    await make_stream(target, 1)
    done = Finished()
    payloads = [b"a" * 10, b"b" * 10, b"c" * 300_000, b"d" * 10, b"e" * 10]
    async with KinesisTransport(target, STREAM, done, aggregate=True) as transport:
        transport.send(readings_of(payloads))
        await transport.drain()
    (records,) = (await stored(target)).values()
    sizes = [len(data) for data in records.values()]
    assert len(sizes) == 3
    assert max(sizes) == 300_000
    assert len(done.readings) == 5


async def test_after_a_reshard_readings_are_grouped_by_the_new_shards(target, readings_of):
    await make_stream(target, 1)
    done = Finished()
    async with KinesisTransport(target, STREAM, done, aggregate=True) as transport:
        transport.send(readings_of([b"%d" % n for n in range(50)]))
        await transport.drain()
        async with target.client("kinesis") as client:
            await client.update_shard_count(
                StreamName=STREAM, TargetShardCount=2, ScalingType="UNIFORM_SCALING"
            )
            await client.get_waiter("stream_exists").wait(StreamName=STREAM)
        before = transport._map
        transport.send(readings_of([b"%d" % n for n in range(50, 100)], first=50))
        await transport.drain()
        if transport._mapping is not None:
            await transport._mapping
        assert transport._map is not before
        transport.send(readings_of([b"%d" % n for n in range(100, 150)], first=100))
        await transport.drain()
    last = {done.readings[b"%d" % n][1] for n in range(100, 150)}
    assert len(last) == 2
    assert {outcome for outcome, _, _ in done.readings.values()} == {ACKED}


async def test_shards_that_may_not_be_listed_are_told_before_anything_is_sent(target, monkeypatch):
    await make_stream(target, 1)

    async def refused(self, operation, body):
        return 400, b'{"__type":"AccessDeniedException"}'

    monkeypatch.setattr("simulator.transports.putrecords.PutRecords._post", refused)
    with pytest.raises(TargetError, match=r"AccessDeniedException.*kinesis:ListShards"):
        async with KinesisTransport(target, STREAM, Finished(), aggregate=True):
            pytest.fail("it connected")
