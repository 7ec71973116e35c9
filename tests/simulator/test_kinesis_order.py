from __future__ import annotations

import asyncio
import base64
import random
from collections import defaultdict

import pytest

from fleetcast.target import Target
from simulator.batch import ACKED
from simulator.transports import kinesis
from simulator.transports.kinesis import KinesisTransport
from tests.simulator.fake_kinesis import FakeKinesis

pytestmark = pytest.mark.asyncio
THROTTLED = "ProvisionedThroughputExceededException"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(kinesis, "BACKOFF_S", (0.001, 0.005))


class Log:
    """Plays a shard that refuses three of ten; keeps what it took in the order of the requests."""

    def __init__(self) -> None:
        self.random = random.Random(7)  # noqa: S311 - a test's dice
        self.landed: dict[str, list[bytes]] = defaultdict(list)

    def __call__(self, records):
        told = []
        keys = [record["PartitionKey"] for record in records]
        for record in records:
            if self.random.random() < 0.3:
                told.append({"ErrorCode": THROTTLED, "ErrorMessage": "no"})
            else:
                self.landed[record["PartitionKey"]].append(base64.b64decode(record["Data"]))
                told.append({"SequenceNumber": "49", "ShardId": "shardId-000000000000"})
        assert len(set(keys)) == len(keys)
        return 200, {"FailedRecordCount": 0, "Records": told}


async def test_strict_order_holds_though_readings_are_refused(readings_of):
    log, decided = Log(), []
    async with FakeKinesis() as fake:
        fake.answers = [log]
        target = Target.named("local", port=fake.port)
        async with KinesisTransport(target, "s", decided.append, strict=True, attempts=99) as sends:
            for turn in range(20):
                payloads = [f"{turn:03d} {device}".encode() for device in range(30)]
                keys = [f"dev-{device}" for device in range(30)]
                sends.send(readings_of(payloads, keys, first=30 * turn))
            assert sends.backlog == 600
            await asyncio.wait_for(sends.drain(), 100)
            assert (sends.in_flight, sends.backlog) == (0, 0)
            assert sends.traffic.throttled > 0
    assert sum(map(len, decided)) == 600
    assert {int(row["outcome"]) for batch in decided for row in batch.rows} == {ACKED}
    assert len(log.landed) == 30
    for landed in log.landed.values():
        assert len(landed) == 20
        assert landed == sorted(landed)


async def test_what_waits_for_its_turn_has_failed_when_the_run_is_abandoned(
    readings_of, eventually
):
    decided = []
    async with FakeKinesis() as fake:
        fake.answers = ["never"]
        target = Target.named("local", port=fake.port)
        async with KinesisTransport(target, "s", decided.append, strict=True) as transport:
            transport.send(readings_of([b"%d" % n for n in range(10)], ["same"] * 10))
            await eventually(lambda: fake.requests)
            assert (transport.in_flight, transport.backlog) == (1, 9)
            await transport.abandon(0.01)
            assert (transport.in_flight, transport.backlog) == (0, 0)
    fates = {int(k): int(o) for b in decided for k, o in zip(b.rows["k"], b.rows["outcome"])}  # noqa: B905
    assert fates == {0: 0, **dict.fromkeys(range(1, 10), 2)}
