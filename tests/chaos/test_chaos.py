"""Processes are killed and sinks fail in the middle of runs: what was acknowledged is never lost.

What is proven of a kill of the local cloud itself is in `tests/cli/test_restart.py`.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from fleetcast.verify import unknown
from simulator import ledger
from simulator.ledger import FOLDER, PART_ROWS
from simulator.scenario import Scenario
from simulator.sending import Sending
from tests.chaos.conftest import ENVIRONMENT, failing

if TYPE_CHECKING:
    from simulator.measure import Progress
    from simulator.sending import Ordering
    from tests.chaos.conftest import Cloud

driven = pytest.mark.asyncio(loop_scope="module")

CALM: dict[str, Any] = {
    "seed": 3,
    "fleet": {
        "devices": 200,
        "classes": [
            {"name": "a", "share": 1, "signals": {"t": {"model": "normal", "mean": 1, "sigma": 1}}}
        ],
    },
}


def scenario(
    name: str,
    *faults: dict[str, Any],
    rate: str = "150/s",
    duration: str = "9s",
    out_of_order: int | None = None,
) -> Scenario:
    # How fast a shared machine is says nothing here.
    expect = {"rate_error_pct": None, "out_of_order": out_of_order}
    phases = [{"shape": "constant", "rate": rate, "duration": duration}]
    return Scenario.model_validate(
        {**CALM, "name": name, "rate": phases, "target_faults": list(faults), "expect": expect}
    )


def fault(call: str, kind: str, **more: Any) -> dict[str, Any]:
    name = f"{call.replace(':', '-').lower()}-{kind}"
    return {"name": name, "call": call, "kind": kind, "start": "2s", "duration": "4s", **more}


def test_a_simulator_that_is_killed_leaves_exactly_what_is_unknown_and_nothing_lost(
    cloud: Cloud, tmp_path: Path
) -> None:
    """The ledger has parts of it, and the journal the rest; which of that landed is told."""
    fleet = scenario("killed", rate="2500/s", duration="60s").model_dump(mode="json")
    fleet["fleet"]["devices"] = 2000
    (tmp_path / "killed.yaml").write_text(json.dumps(fleet))
    command = [sys.executable, "-m", "fleetcast"]
    simulating = subprocess.Popen(
        [*command, "simulate", str(tmp_path / "killed.yaml"), "--env", ENVIRONMENT,
         "--run-id", "r-killed", "--json"],
        env={**os.environ, **cloud.env}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert simulating.stderr is not None
    for line in simulating.stderr:
        told = json.loads(line) if line.startswith("{") else {}
        if told.get("acked", 0) > PART_ROWS * 1.2:
            break
    simulating.send_signal(signal.SIGKILL)
    assert simulating.wait(30) == -signal.SIGKILL
    simulating.stderr.close()

    done = subprocess.run(
        [*command, "verify", "r-killed", "--json"],
        env={**os.environ, **cloud.env}, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    verdict = json.loads(done.stdout)
    assert [check["name"] for check in verdict["checks"] if not check["ok"]] == ["complete"]
    assert verdict["landed"]["timeseries"]["lost"] == verdict["landed"]["archive"]["lost"] == 0

    folder = Path(cloud.env["FLEETCAST_RUNS"]) / "r-killed"
    whole = ledger.read(folder).to_pylist()
    parts = [pq.read_table(part) for part in (folder / FOLDER).glob("part-*.parquet")]
    written = {k for part in parts for k in part.column("k").to_pylist()}
    assert len(written) >= PART_ROWS
    expected = {row["k"] for row in whole if row["k"] not in written}
    named = pq.read_table(folder / unknown.FILE_NAME)
    assert set(named.column("k").to_pylist()) == expected
    assert verdict["unknown"] == len(expected) > 0
    # What Kinesis had acknowledged when the process died has landed, though nobody wrote it down.
    for store in ("timeseries", "archive"):
        there = sum(named.column(store).to_pylist())
        assert verdict["unknown_landed"][store] == there > 0
        assert verdict["landed"][store]["unique"] == verdict["acked"] + there


@driven
async def test_a_function_whose_processes_are_killed_does_its_batches_again(cloud: Cloud) -> None:
    killed: list[int] = []

    def kill(now: Progress) -> None:
        if 1 < now.elapsed_s < 7:
            for pid in cloud.function_processes():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    # Writes are slow, so that a process that is killed is at work.
    slow = fault("timestream:WriteRecords", "latency", latency="250ms") | {"duration": "5s"}
    _, verdict = await cloud.drive(scenario("no-function", slow), kill)
    assert len(set(killed)) >= 3
    assert failing(verdict) == []
    assert verdict.acked == verdict.landed["timeseries"].unique == verdict.landed["archive"].unique
    assert await function_errors(cloud) >= 1


async def function_errors(cloud: Cloud) -> float:
    """Invocations of the last hour that failed, as CloudWatch counts them."""
    now = dt.datetime.now(dt.UTC)
    async with cloud.target.client("cloudwatch") as cloudwatch:
        told = await cloudwatch.get_metric_statistics(
            Namespace="AWS/Lambda", MetricName="Errors", Period=3600, Statistics=["Sum"],
            Dimensions=[{"Name": "FunctionName", "Value": cloud.outputs.function_name}],
            StartTime=now - dt.timedelta(hours=1), EndTime=now + dt.timedelta(hours=1),
        )  # fmt: skip
    return sum(point["Sum"] for point in told["Datapoints"])


SINKS = ("kinesis:PutRecords", "timestream:WriteRecords", "s3:PutObject")


@driven
@pytest.mark.parametrize("kind", ["throttle", "timeout", "outage"])
async def test_every_sink_fails_at_once_and_nothing_is_lost_when_they_are_back(
    cloud: Cloud, kind: str
) -> None:
    seen: dict[str, int] = {}

    def look(_: Progress) -> None:
        for name, fired in cloud.faults().items():
            seen[name] = max(fired, seen.get(name, 0))

    plan = scenario(kind, *(fault(call, kind) for call in SINKS), duration="12s")
    _, verdict = await cloud.drive(plan, look)
    assert len(seen) == len(SINKS)
    assert all(seen.values()), seen
    assert failing(verdict) == []
    assert verdict.failed == verdict.unknown == 0
    assert verdict.acked == verdict.sent == 150 * 12


@driven
@pytest.mark.parametrize("ordering", ["relaxed", "strict"])
async def test_parts_of_puts_are_refused_and_sent_again_in_order_where_that_is_asked(
    cloud: Cloud, ordering: Ordering
) -> None:
    refusing = scenario(
        "partial", fault("kinesis:PutRecords", "partial", records=0.4), out_of_order=0
    )
    # Few devices: the next reading of one is due before a refused one is tried again.
    plan = refusing.with_overrides(devices=15)
    folder, verdict = await cloud.drive(plan, sending=Sending(ordering=ordering))
    assert verdict.acked == verdict.sent
    tried = [row["attempts"] for row in ledger.read(folder).to_pylist()]
    assert max(tried) > 1
    behind = verdict.order["stream"].out_of_order
    assert (behind == 0) == (ordering == "strict")
    assert failing(verdict) == ([] if ordering == "strict" else ["out_of_order"])


@driven
@pytest.mark.parametrize("ahead_s", [-90, 90])
async def test_a_run_of_a_machine_whose_clock_is_off_passes_and_its_times_are_put_right(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, ahead_s: int
) -> None:
    """This process drives and verifies by a clock of its own; the cloud's process has another."""
    now_s, now_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: now_s() + ahead_s)
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + ahead_s * 1_000_000_000)
    _, verdict = await cloud.drive(scenario("skewed", duration="5s"))
    assert failing(verdict) == []
    (clock,) = verdict.clocks
    # How long an answer takes is how exact that is.
    assert clock.corrected_ms == pytest.approx(-ahead_s * 1000, abs=5000)
    assert any(note.startswith("clocks differ: ") for note in verdict.notes)
    assert 0 < verdict.landing_latency_ms["p99"] < 60_000


@driven
async def test_parts_of_writes_are_rejected_and_lie_in_quarantine_with_timestreams_reason(
    cloud: Cloud,
) -> None:
    """Timestream rejects for good, so the processor does not try again; the reading is kept."""
    plan = scenario("rejected", fault("timestream:WriteRecords", "partial", records=0.3))
    folder, verdict = await cloud.drive(plan)
    assert failing(verdict) == ["refused"]
    assert verdict.landed["timeseries"].lost == verdict.landed["archive"].lost == 0
    kept = [json.loads(line) for line in (folder / "quarantine.jsonl").read_text().splitlines()]
    assert {message["reason"] for message in kept} == {"timestream_rejected"}
    refused = verdict.refused
    assert len(kept) == refused.unexpected == refused.quarantined > 0
    assert verdict.landed["timeseries"].unique == verdict.acked - refused.quarantined
    assert verdict.landed["archive"].unique == verdict.acked
