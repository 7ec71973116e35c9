from __future__ import annotations

import asyncio
import base64
import time
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from fleetcast.errors import TargetError
from fleetcast.target import Target
from localcloud.app import LocalCloud
from simulator import ledger
from simulator.engine import drive, signing_key, simulate
from simulator.ledger import ACKED, FAILED, OUTCOMES, UNKNOWN
from simulator.transports.kinesis import KinesisTransport
from stack.outputs import StackOutputs

if TYPE_CHECKING:
    from simulator.batch import Batch

STREAM = "readings"
pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def cloud():
    async with LocalCloud(port=0) as running:
        yield running


def target_of(cloud) -> Target:
    return Target.named("local", port=cloud.port)


async def make_stream(cloud, shards: int = 2) -> None:
    async with target_of(cloud).client("kinesis") as client:
        await client.create_stream(StreamName=STREAM, ShardCount=shards)
        await client.get_waiter("stream_exists").wait(StreamName=STREAM)


def stored(cloud) -> dict[str, tuple[str, bytes]]:
    """Sequence number to (shard, payload) of all that the stream holds."""
    told = {}
    for shard in cloud.kinesis._control.streams[STREAM].shards:
        for record in shard.records:
            told[record.sequence_number] = (shard.shard_id, base64.b64decode(record.data))
    return told


@pytest.fixture
def reading(readings_of):
    """Readings with their numbers and about equal payloads."""

    def make(*numbers: int, key: str | None = None, size: int = 40) -> Batch:
        payloads = [f"reading {number} ".encode().ljust(size, b".") for number in numbers]
        batch = readings_of(payloads, [key or f"dev-{number:06d}" for number in numbers])
        batch.rows["k"] = numbers
        return batch

    return make


def keys_by_shard(cloud, *, count: int = 1) -> list[list[str]]:
    """Partition keys of each shard of a stream of two."""
    from localcloud.kinesis.stream import hash_key  # noqa: PLC0415

    found: list[list[str]] = [[], []]
    number = 0
    while min(len(keys) for keys in found) < count:
        key = f"key-{number}"
        found[hash_key(key) >> 127].append(key)
        number += 1
    return [keys[:count] for keys in found]


class Finished:
    """Keeps what is decided, by the numbers of the readings."""

    def __init__(self) -> None:
        self.readings: dict[int, SimpleNamespace] = {}
        self.told = 0

    def __call__(self, batch: Batch) -> None:
        self.told += len(batch)
        nothing = [None] * len(batch)
        for row, payload, shard, number in zip(
            batch.rows, batch.payloads, batch.shards or nothing,
            batch.sequence_numbers or nothing, strict=True,
        ):  # fmt: skip
            values = {name: row[name].item() for name in row.dtype.names}
            values["outcome"] = OUTCOMES[values["outcome"]]
            self.readings[values["k"]] = SimpleNamespace(
                **values, payload=payload, shard=shard, sequence_number=number
            )

    def fates(self, *numbers: int) -> list[tuple[str, int]]:
        chosen = [self.readings[number] for number in numbers or sorted(self.readings)]
        return [(reading.outcome, reading.attempts) for reading in chosen]


@pytest.fixture
def done() -> Finished:
    return Finished()


async def test_every_reading_is_acked_with_its_shard_and_sequence_number(cloud, done, reading):
    await make_stream(cloud)
    async with KinesisTransport(target_of(cloud), STREAM, done) as transport:
        assert transport.shards == 2
        transport.send(reading(*range(700)))
        assert (transport.backlog, transport.in_flight) == (700, 0)
        transport.send(reading(*range(700, 1300)))
        await transport.drain()
        assert (transport.backlog, transport.in_flight) == (0, 0)
    assert done.told == len(done.readings) == 1300
    there = stored(cloud)
    assert len(there) == 1300
    for out in done.readings.values():
        assert (out.outcome, out.attempts) == (ACKED, 1)
        assert there[out.sequence_number] == (out.shard, out.payload)
        assert out.scheduled_ns <= out.sent_ns <= out.acked_ns
    assert {out.shard for out in done.readings.values()} == {
        "shardId-000000000000", "shardId-000000000001",
    }  # fmt: skip


async def test_nothing_to_send_is_drained_at_once(cloud, done, reading):
    await make_stream(cloud)
    async with KinesisTransport(target_of(cloud), STREAM, done) as transport:
        transport.send(reading(0).part(0, 0))
        await transport.drain()
    assert done.told == 0


async def test_what_a_full_shard_refuses_is_sent_again_until_it_is_acked(cloud, done, reading):
    await make_stream(cloud)
    (full,), (free,) = keys_by_shard(cloud)
    async with KinesisTransport(target_of(cloud), STREAM, done) as transport:
        # A shard takes a MiB a second: of these, the first only.
        transport.send(reading(*range(4), key=full, size=600_000))
        transport.send(reading(*range(4, 10), key=free))
        await transport.drain()
        assert transport.traffic.throttled == sum(
            done.readings[number].attempts - 1 for number in range(4)
        )
        assert transport.traffic.retries == transport.traffic.throttled
    assert done.told == 10
    assert done.fates(*range(4, 10)) == [(ACKED, 1)] * 6
    assert done.fates(0) == [(ACKED, 1)]
    assert all(outcome == ACKED and tries > 1 for outcome, tries in done.fates(1, 2, 3))
    there = stored(cloud)
    assert len(there) == 10
    for number in range(4):
        out = done.readings[number]
        assert there[out.sequence_number][1] == out.payload


async def test_what_is_refused_until_the_attempts_are_used_up_has_failed(cloud, done, reading):
    await make_stream(cloud, shards=1)
    async with KinesisTransport(target_of(cloud), STREAM, done, attempts=1) as transport:
        transport.send(reading(0, 1, 2, size=600_000))
        await transport.drain()
        assert transport.traffic.throttled == 2
    assert done.fates() == [(ACKED, 1), (FAILED, 1), (FAILED, 1)]
    assert [done.readings[k].sequence_number is None for k in range(3)] == [False, True, True]
    assert len(stored(cloud)) == 1


async def test_a_reading_that_the_stream_does_not_take_has_failed_at_once_and_alone(
    cloud, done, reading
):
    await make_stream(cloud)
    async with KinesisTransport(target_of(cloud), STREAM, done) as transport:
        transport.send(reading(0))
        transport.send(reading(1, size=2**20))
        transport.send(reading(2))
        await transport.drain()
        assert transport.traffic.last_error
    assert done.fates() == [(ACKED, 1), (FAILED, 1), (ACKED, 1)]
    assert len(stored(cloud)) == 2


async def test_a_stream_that_is_deleted_meanwhile_fails_what_comes_after(cloud, done, reading):
    await make_stream(cloud)
    async with KinesisTransport(target_of(cloud), STREAM, done) as transport:
        async with target_of(cloud).client("kinesis") as client:
            await client.delete_stream(StreamName=STREAM)
        transport.send(reading(0, 1))
        await transport.drain()
        assert transport.traffic.last_error == "ResourceNotFoundException"
    assert done.fates() == [(FAILED, 1)] * 2


async def test_a_missing_stream_is_told_before_anything_is_sent(cloud, done):
    with pytest.raises(TargetError) as caught:
        async with KinesisTransport(target_of(cloud), STREAM, done):
            pytest.fail("it connected")
    where = f"http://127.0.0.1:{cloud.port}"
    assert str(caught.value) == f"stream readings is not on {where}: deploy the stack again"


async def test_a_cloud_that_does_not_run_is_told_before_anything_is_sent(unused_tcp_port, done):
    with pytest.raises(TargetError) as caught:
        async with KinesisTransport(Target.named("local", port=unused_tcp_port), STREAM, done):
            pytest.fail("it connected")
    where = f"http://127.0.0.1:{unused_tcp_port}"
    assert str(caught.value) == f"no local cloud answers on {where}: run fleetcast cloud start"


def driving(scenario, run, cloud, folder, key=b"key", *, attempts=2):
    scenario.save(folder / "scenario.yaml", run)
    progress = []

    def kinesis(done):
        return KinesisTransport(target_of(cloud), STREAM, done, attempts=attempts)

    task = asyncio.create_task(drive(scenario, run, key, folder, kinesis, progress=progress.append))
    return task, progress


def assert_nothing_is_untold(cloud, folder, released: int) -> Counter:
    """Every released reading has one outcome, and the outcomes fit what the stream holds."""
    table = ledger.read(folder).to_pylist()
    there = stored(cloud)
    assert [row["k"] for row in table] == list(range(released))
    acked = {row["sequence_number"] for row in table if row["outcome"] == ACKED}
    assert acked <= there.keys()
    devices = {(row["device"], row["seq"]): row["outcome"] for row in table}
    for _, payload in there.values():
        text = payload.decode()
        device = text.partition('"device":"')[2].partition('"')[0]
        seq = int(text.partition('"seq":')[2].partition(",")[0])
        assert devices[device, seq] in {ACKED, UNKNOWN}
    return Counter(row["outcome"] for row in table)


async def test_a_run_at_the_local_cloud_is_exact(cloud, tmp_path, scenario_of, run_of):
    await make_stream(cloud)
    scenario = scenario_of(rate=[{"shape": "constant", "rate": 1000, "duration": "1s"}])
    run = run_of(scenario, start_ms=int(time.time() * 1000))
    task, _ = driving(scenario, run, cloud, tmp_path)
    summary = await task
    assert (summary.complete, summary.sent, summary.acked) == (True, 1000, 1000)
    assert assert_nothing_is_untold(cloud, tmp_path, 1000) == {ACKED: 1000}
    assert len(stored(cloud)) == 1000


async def test_a_server_that_stops_in_the_middle_loses_no_reading_from_the_books(
    tmp_path, scenario_of, run_of, eventually
):
    scenario = scenario_of(rate=[{"shape": "constant", "rate": 500, "duration": "4s"}])
    async with LocalCloud(port=0) as cloud:
        await make_stream(cloud)
        run = run_of(scenario, start_ms=int(time.time() * 1000))
        task, progress = driving(scenario, run, cloud, tmp_path)
        await eventually(lambda: cloud.kinesis._control.streams[STREAM].shards[0].records)
    summary = await task
    assert (summary.complete, summary.sent) == (True, 2000)
    assert summary.acked + summary.failed + summary.unknown == 2000
    assert summary.acked > 0
    assert summary.failed > 0
    assert progress[-1].in_flight == progress[-1].backlog == 0
    counts = assert_nothing_is_untold(cloud, tmp_path, 2000)
    assert (counts[ACKED], counts[FAILED], counts[UNKNOWN]) == (
        summary.acked,
        summary.failed,
        summary.unknown,
    )


async def test_a_cancelled_run_closes_its_books(cloud, tmp_path, scenario_of, run_of, eventually):
    await make_stream(cloud)
    scenario = scenario_of(rate=[{"shape": "constant", "rate": 1000, "duration": "10m"}])
    run = run_of(scenario, start_ms=int(time.time() * 1000))
    task, progress = driving(scenario, run, cloud, tmp_path)
    await eventually(lambda: len(stored(cloud)) > 100)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    last = progress[-1]
    assert last.released == last.acked + last.failed + last.unknown
    counts = assert_nothing_is_untold(cloud, tmp_path, last.released)
    assert (counts[ACKED], counts[FAILED]) == (last.acked, last.failed)
    assert last.acked > 100


def outputs_of(secret_arn: str) -> StackOutputs:
    names = dict.fromkeys(StackOutputs.__dataclass_fields__, "")
    return StackOutputs.from_mapping(
        {**names, "stream_name": STREAM, "signing_secret_arn": secret_arn, "alarms": {}}
    )


async def test_a_simulation_signs_with_the_key_of_the_stack(cloud, tmp_path, scenario_of, run_of):
    from stack.processor.readings import check  # noqa: PLC0415

    await make_stream(cloud)
    async with target_of(cloud).client("secretsmanager") as client:
        made = await client.create_secret(Name="signing", SecretString="of the stack")
    scenario = scenario_of(rate=[{"shape": "constant", "rate": 200, "duration": "0.5s"}])
    run = run_of(scenario, start_ms=int(time.time() * 1000))
    outputs = outputs_of(made["ARN"])
    assert await signing_key(target_of(cloud), outputs) == b"of the stack"
    summary = await simulate(
        scenario, run, outputs, target_of(cloud), tmp_path, progress=lambda _: None
    )
    assert summary.acked == 100
    payloads = [payload for _, payload in stored(cloud).values()]
    assert len({check(payload, b"of the stack").seq for payload in payloads}) == 2
    assert assert_nothing_is_untold(cloud, tmp_path, 100) == {ACKED: 100}


async def test_a_signing_key_that_cannot_be_read_stops_the_run(
    cloud, tmp_path, scenario_of, run_of
):
    scenario = scenario_of()
    with pytest.raises(TargetError) as caught:
        await simulate(
            scenario,
            run_of(scenario),
            outputs_of("arn:aws:secretsmanager:us-east-1:123456789012:secret:none-abcdef"),
            target_of(cloud),
            tmp_path,
            progress=lambda _: None,
        )
    where = f"http://127.0.0.1:{cloud.port}"
    assert str(caught.value).startswith(f"cannot read the signing key on {where}: ")
    assert str(caught.value).endswith("; is the stack deployed there?")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", [0, 25, 50_000])
async def test_what_is_put_together_ahead_goes_as_what_is_not_however_much_waits(
    cloud, done, reading, monkeypatch, kept
):
    monkeypatch.setattr("simulator.transports.kinesis.KEPT_READY", kept)
    await make_stream(cloud)
    block, late = reading(*range(60)), reading(*range(60, 70))
    async with KinesisTransport(target_of(cloud), STREAM, done) as transport:
        transport.ahead(block)
        assert (block.records is not None) == (kept > 0)
        for first in range(0, 60, 10):
            transport.send(block.part(first, first + 10))
        # With this many behind them, no more are put together before their turn.
        transport.ahead(late)
        assert (late.records is not None) == (kept > 120)
        transport.send(late)
        await asyncio.wait_for(transport.drain(), 60)
    assert done.fates() == [(ACKED, 1)] * 70
    told = {one.sequence_number: (one.shard, one.payload) for one in done.readings.values()}
    assert stored(cloud) == told
