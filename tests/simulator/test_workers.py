from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from itertools import pairwise

import psutil
import pytest
import pytest_asyncio

from fleetcast.errors import TargetError
from fleetcast.target import Target
from localcloud.app import LocalCloud
from simulator import ledger
from simulator.codec import Encoder
from simulator.events import read_events
from simulator.fleet import Fleet
from simulator.sending import Sending
from simulator.workers import drive_with_workers, slices

KEY = b"a key that is in no argument and no environment"
pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def cloud():
    async with LocalCloud(port=0) as running:
        async with Target.named("local", port=running.port).client("kinesis") as client:
            await client.create_stream(StreamName="s", ShardCount=4)
            await client.get_waiter("stream_exists").wait(StreamName="s")
        yield running


@pytest.fixture
def driven(tmp_path, scenario_of, run_of):
    def go(cloud, *, duration: str = "2s", sending: Sending | None = None, stream: str = "s"):
        scenario = scenario_of(rate=[{"shape": "constant", "rate": 500, "duration": duration}])
        run = run_of(scenario, start_ms=int(time.time() * 1000) + 1000)
        scenario.save(tmp_path / "scenario.yaml", run)
        told = []
        target = Target.named("local", port=cloud.port) if cloud else None
        task = asyncio.create_task(
            drive_with_workers(
                scenario, run, KEY, tmp_path, target, stream,
                sending or Sending(workers=3), progress=told.append,
            )
        )  # fmt: skip
        return task, told, scenario, run

    return go


async def test_workers_send_together_what_one_process_would_bit_for_bit(cloud, driven, tmp_path):
    task, told, scenario, run = driven(cloud)
    summary = await task
    assert (summary.complete, summary.sent, summary.acked) == (True, 1000, 1000)
    assert summary.target_rate == 500
    assert sum(summary.shards.values()) == pytest.approx(1, abs=0.01)
    assert len(summary.shards) == 4
    assert summary.latency_ms["max"] >= summary.schedule_lag_ms["max"] > 0
    assert (told[-1].sent, told[-1].total) == (1000, 1000)
    landed = []
    async with Target.named("local", port=cloud.port).client("kinesis") as client:
        for shard in (await client.list_shards(StreamName="s"))["Shards"]:
            at = await client.get_shard_iterator(
                StreamName="s", ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )
            records = await client.get_records(ShardIterator=at["ShardIterator"])
            landed += [record["Data"] for record in records["Records"]]
    fleet = Fleet(scenario, run)
    encoder = Encoder(fleet, KEY)
    assert Counter(landed) == Counter(p for b in fleet.blocks() for p in encoder.encode(b))
    table = ledger.read(tmp_path)
    assert table.column("k").to_pylist() == list(range(1000))
    assert len(list((tmp_path / "ledger").glob("released-*"))) == 3
    events = read_events(tmp_path)
    assert Counter(e["event"] for e in events if e["event"] != "progress") == {
        "run_started": 1, "phase": 1, "run_ended": 1,
    }  # fmt: skip
    assert events[-1]["acked"] == 1000


async def test_a_stream_that_is_not_there_ends_all_workers_with_one_line(cloud, driven, tmp_path):
    task, _, _, _ = driven(cloud, stream="gone")
    with pytest.raises(TargetError, match=r"stream gone is not on .*: deploy the stack again"):
        await task
    assert not [child for child in psutil.Process().children() if "simulator.worker" in
                " ".join(child.cmdline())]  # fmt: skip


async def test_a_worker_that_is_killed_is_told_and_the_books_of_the_others_are_closed(
    cloud, driven, tmp_path, eventually
):
    task, told, _, _ = driven(cloud, duration="10m")
    await eventually(lambda: told and told[-1].acked > 50)
    workers = [c for c in psutil.Process().children() if "simulator.worker" in c.cmdline()]
    assert len(workers) == 3
    for worker in workers:
        assert KEY.decode() not in " ".join([*worker.cmdline(), json.dumps(worker.environ())])
    workers[1].send_signal(signal.SIGKILL)
    with pytest.raises(TargetError, match="a worker ended with code -9"):
        await task
    assert not any(worker.is_running() for worker in workers)
    outcomes = Counter(ledger.read(tmp_path).column("outcome").to_pylist())
    assert outcomes[ledger.ACKED] > 50
    assert read_events(tmp_path)[-1]["complete"] is False


async def test_an_interrupted_run_ends_its_workers_with_their_books_closed(
    cloud, driven, tmp_path, eventually
):
    task, told, _, _ = driven(cloud, duration="10m")
    await eventually(lambda: told and told[-1].acked > 50)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    ended = read_events(tmp_path)[-1]
    assert (ended["event"], ended["complete"]) == ("run_ended", False)
    table = ledger.read(tmp_path)
    outcomes = Counter(table.column("outcome").to_pylist())
    assert outcomes[ledger.ACKED] == ended["acked"] > 50
    assert table.num_rows == ended["sent"]


@pytest.mark.parametrize(("devices", "count"), [(10, 3), (7, 7), (1_000_000, 8)])
async def test_every_device_is_in_one_slice(devices, count):
    parts = slices(devices, count)
    assert parts[0][0] == 0
    assert parts[-1][1] == devices
    assert all(before[1] == after[0] for before, after in pairwise(parts))
