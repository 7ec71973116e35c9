from __future__ import annotations

import asyncio
import time

import pytest

from fleetcast.target import Target
from simulator import ledger
from simulator.engine import drive
from simulator.events import read_events
from simulator.transports.kinesis import KinesisTransport
from tests.simulator.fake_kinesis import FakeKinesis

STALL_S = 5.0


class Stalling(FakeKinesis):
    """Answers nothing while it stalls, and everything afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()

    async def _put(self, writer, records) -> bool:
        await self.open.wait()
        return await super()._put(writer, records)


@pytest.mark.asyncio
async def test_while_the_target_stalls_the_schedule_goes_on_and_the_lag_is_told(
    tmp_path, scenario_of, run_of, eventually
):
    scenario = scenario_of(
        devices=500, rate=[{"shape": "constant", "rate": 2000, "duration": "8s"}]
    )
    told = []
    async with Stalling() as fake:
        run = run_of(scenario, start_ms=int(time.time() * 1000) + 100)
        scenario.save(tmp_path / "scenario.yaml", run)
        target = Target.named("local", port=fake.port)

        def kinesis(done):
            # Few requests at a time: what the schedule releases waits where it is seen.
            return KinesisTransport(target, "s", done, requests=4)

        task = asyncio.create_task(
            drive(scenario, run, b"key", tmp_path, kinesis, progress=told.append)
        )
        await eventually(lambda: told and told[-1].acked > 500)
        fake.open.clear()
        stalled_s = time.monotonic()
        before = told[-1]
        # The schedule goes on by the clock, as if nothing had happened.
        await eventually(
            lambda: (
                told[-1].released >= before.released + 2000 * STALL_S
                and time.monotonic() >= stalled_s + STALL_S
            )
        )
        during = told[-1]
        fake.open.set()
        stalled_s = time.monotonic() - stalled_s
        summary = await task
    assert during.backlog > during.in_flight > 0
    assert during.backlog + during.in_flight + during.sent == during.released
    assert during.acked - before.acked < 2000 * STALL_S / 2
    assert (summary.sent, summary.acked, summary.complete) == (16_000, 16_000, True)
    # Who was due at the beginning of the stall waited for all of it.
    assert summary.latency_ms["max"] >= (stalled_s - 0.5) * 1000
    assert summary.schedule_lag_ms["max"] >= (stalled_s - 1.0) * 1000
    assert summary.schedule_lag_ms["p99"] > summary.schedule_lag_ms["p50"] >= 0
    events = [event for event in read_events(tmp_path) if event["event"] == "progress"]
    assert max(event["backlog"] for event in events) > 1000
    assert max(event["lag_p99_ms"] for event in events) > 1000
    table = ledger.read(tmp_path)
    assert set(table.column("outcome").to_pylist()) == {ledger.ACKED}
    assert table.num_rows == 16_000
