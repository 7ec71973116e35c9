"""Load runs by Locust, beside the simulator's own: what Locust costs, what workers add, what lands.

Sending to nowhere is measured by differences: a long run less a short one, so that what is paid once
for a run, such as imports, is in neither figure; it has a column of its own. Ways take turns, several
times, and the least CPU of each counts: what a busy machine adds differs from turn to turn, and a start-up
varies by as much as 300,000 readings cost. `--quick` sends a tenth, once.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetcast import cloudctl
from simulator.codec import Encoder
from simulator.fleet import Fleet
from simulator.ledger import FOLDER
from simulator.scenario import RunInfo, load

# Devices of one class and one rate, with no fault: what is compared is the way they are driven.
PLAN = """name: load
fleet:
  devices: 20000
  classes:
    - name: cold-chain
      share: 1
      signals:
        temperature: {model: normal, mean: 4, sigma: 1}
        humidity: {model: uniform, low: 40, high: 60}
        battery: {model: battery, life: 10h}
rate:
  - {shape: constant, rate: 1000, duration: 10}
"""
# More than a process can send: the time is that of the work.
RATE_PER_S = 2_000_000
READINGS, FEW = 5_000_000, 250_000
TURNS = 3
PR_SET_CHILD_SUBREAPER = 36
# Of the simulator's own workers and of Locust: the machine has to have as many cores.
WAYS = {
    "fleetcast simulate, 1 process": (1, ["simulate"]),
    "Locust, 1 worker": (1, ["load", "--workers", "1"]),
    "fleetcast simulate, 2 workers": (2, ["simulate", "--workers", "2"]),
    "Locust, 2 workers": (2, ["load", "--workers", "2"]),
}
LANDED_PER_S, LANDED_S, SHARDS = 10_000, 20, 12
# Half of what a worker can do is left for bursts, retries and slower cores.
SHARE_USED = 0.5
SIZES = (10_000, 50_000, 100_000, 250_000, 500_000, 1_000_000)
# Of Kinesis, for each shard. Devices' hashes are not spread evenly: the fullest must not throttle.
SHARD_RECORDS, SHARD_BYTES, SHARD_USED = 1_000, 1024 * 1024, 0.8


@dataclass(frozen=True)
class Run:
    """One run: CPU-seconds of all its processes, and its summary as the run's events have it."""

    cpu_s: float
    summary: dict[str, Any]


def driven(way: list[str], scenario: Path, readings: int, name: str) -> Run:
    """A run to nowhere, as fast as it goes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "fleetcast", *way, str(scenario), "--transport", "null",
         "--rate", f"{RATE_PER_S}/s", "--duration", f"{readings / RATE_PER_S}s",
         "--run-id", name],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    # Workers that Locust's master leaves behind are this process's, and count as well.
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    summary = summary_of(name)
    if done.returncode or summary.get("acked") != readings:
        lines = (done.stderr + done.stdout).strip().splitlines() or ["no output"]
        raise SystemExit(f"{' '.join(way)} of {readings:,} readings: {lines[-1]}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(cpu_s, summary)


def summary_of(name: str) -> dict[str, Any]:
    """What a run came to; empty where it did not end."""
    path = Path(os.environ["FLEETCAST_RUNS"], name, "events.jsonl")
    lines = path.read_text().splitlines() if path.exists() else []
    events = [json.loads(line) for line in lines]
    return next((event for event in events if event["event"] == "run_ended"), {})


@dataclass(frozen=True)
class Figures:
    """Of one way to drive a fleet.

    Attributes:
        per_cpu_s: Readings per CPU-second of all its processes, without what is paid once.
        per_s: Readings per second.
        once_s: CPU-seconds that are paid once for a run.
    """

    per_cpu_s: float
    per_s: float
    once_s: float


def measured(readings: int, turns: int, scenario: Path) -> dict[str, Figures]:
    """What each way does."""
    few_readings = readings * FEW // READINGS
    runs: dict[tuple[str, int], list[Run]] = {}
    for turn in range(turns):
        for text, (_, way) in WAYS.items():
            for count in (few_readings, readings):
                name = f"{'-'.join(way).replace('---', '-')}-{count}-{turn}"
                runs.setdefault((text, count), []).append(driven(way, scenario, count, name))
    found = {}
    for text in WAYS:
        few, many = (
            min(runs[text, count], key=lambda run: run.cpu_s) for count in (few_readings, readings)
        )
        per_cpu_s = (readings - few_readings) / (many.cpu_s - few.cpu_s)
        fastest_s = min(run.summary["duration_s"] for run in runs[text, readings])
        found[text] = Figures(per_cpu_s, readings / fastest_s, few.cpu_s - few_readings / per_cpu_s)
    return found


def landed(scenario: Path, workers: int, rate_per_s: int, duration_s: int) -> str:
    """One row: a cloud and a stack of their own, a load run, its verdict."""
    name = f"landed-{rate_per_s}"
    with cloudctl.running(cloudctl.free_port()) as cloud:
        os.environ["FLEETCAST_PORT"] = str(cloud.port)
        for command in (
            ["deploy", "--env", "bench", "--set", f"shards={SHARDS}"],
            ["load", str(scenario), "--env", "bench", "--workers", str(workers), "--run-id", name,
             "--devices", str(2 * rate_per_s), "--rate", f"{rate_per_s}/s",
             "--duration", f"{duration_s}s", "--max-lost", "0"],
        ):  # fmt: skip
            done = subprocess.run(
                [sys.executable, "-m", "fleetcast", *command],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            path = Path(os.environ["FLEETCAST_RUNS"], name, "verdict.json")
            # A verdict of fail is a result; a run without a verdict is none.
            if done.returncode and not path.exists():
                lines = done.stderr.strip().splitlines() or ["no output"]
                raise SystemExit(f"fleetcast {command[0]}: {lines[-1]}")
    verdict = json.loads(path.read_text())
    failed = ", ".join(check["name"] for check in verdict["checks"] if not check["ok"])
    kept = sum(part.stat().st_size for part in (path.parent / FOLDER).iterdir())
    series, archive = verdict["landed"]["timeseries"], verdict["landed"]["archive"]
    return (
        f"| {rate_per_s:,}/s, {workers} workers | {verdict['sent']:,} | {verdict['verdict']}{failed and f': {failed}'} "
        f"| {series['lost'] + archive['lost']} | {series['duplicated'] + archive['duplicated']} "
        f"| {verdict['rate']['error_pct']:+.2f} % "
        f"| {verdict['rate']['schedule_lag_ms']['p99']:.0f} ms "
        f"| {kept / verdict['sent']:.0f} bytes |"
    )


def payload_bytes(scenario: Path) -> float:
    """Mean length of a signed reading."""
    plan = load(scenario)
    run = RunInfo("r-bench", 1_764_000_000_000, "local", "b", "null", (0, plan.fleet.devices))
    fleet = Fleet(plan, run)
    encoder = Encoder(fleet, b"benchmark")
    lengths = [len(text) for block in fleet.blocks(0, 10_000) for text in encoder.encode(block)]
    return sum(lengths) / len(lengths)


def sizing(worker: Figures, bytes_each: float) -> list[str]:
    """Rows: what a rate takes, from what a worker does and a reading is."""
    per_worker = SHARE_USED * worker.per_cpu_s
    rows = []
    for rate in SIZES:
        records = rate / (SHARD_RECORDS * SHARD_USED)
        aggregated = rate * bytes_each / (SHARD_BYTES * SHARD_USED)
        single = max(records, aggregated)
        rows.append(
            f"| {rate:,}/s | {math.ceil(rate / per_worker)} "
            f"| {rate * bytes_each / 1e6:,.1f} MB/s | {math.ceil(single):,} "
            f"| {math.ceil(aggregated):,} |"
        )
    return rows


def main() -> None:
    """Prints tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the readings, once")
    parser.add_argument("--no-landing", action="store_true", help="leave the local cloud out")
    asked = parser.parse_args()
    readings = READINGS // 10 if asked.quick else READINGS
    # Processes whose parents are gone become this one's children.
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1):
        raise SystemExit("this system does not let orphans be counted: run it on Linux")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FLEETCAST_HOME"] = f"{folder}/home"
        os.environ["FLEETCAST_RUNS"] = f"{folder}/runs"
        os.environ["FLEETCAST_SIGNING_KEY"] = "benchmark"
        scenario = Path(folder, "load.yaml")
        scenario.write_text(PLAN)
        turns = 1 if asked.quick else TURNS
        found = measured(readings, turns, scenario)
        print(
            f"{readings:,} signed readings of 20,000 devices, with pacing and the ledger, to nowhere; "
            f"least of {turns} turns. A ratio is to `fleetcast simulate` with as many workers.\n"
        )
        print(
            "| what | CPU-seconds paid once | readings per CPU-second | ratio "
            "| readings per second | per worker |"
        )
        print("|---|---|---|---|---|---|")
        for text, (workers, _) in WAYS.items():
            figures = found[text]
            own = next(found[name] for name, (count, _) in WAYS.items() if count == workers)
            print(
                f"| {text} | {figures.once_s:.1f} | {figures.per_cpu_s:,.0f} "
                f"| {figures.per_cpu_s / own.per_cpu_s:.2f} "
                f"| {figures.per_s:,.0f} | {figures.per_s / workers:,.0f} |"
            )
        bytes_each = payload_bytes(scenario)
        if not asked.no_landing:
            rate, duration = (LANDED_PER_S // 10, 5) if asked.quick else (LANDED_PER_S, LANDED_S)
            print(
                "\nTo the local cloud on the same machine, through the whole pipeline, and verified.\n"
            )
            print(
                "| rate | readings | verdict | lost | duplicated | rate error | schedule lag p99 | ledger, each |"
            )
            print("|---|---|---|---|---|---|---|---|", flush=True)
            print(landed(scenario, 2, rate, duration))
    print(
        f"\nWhat a rate takes: workers of one core, {SHARE_USED:.0%} of what one did here; shards, "
        f"{SHARD_USED:.0%} of what one takes, for readings of {bytes_each:.0f} bytes.\n"
    )
    print("| rate | workers | payload | shards, a record each | shards, aggregated |")
    print("|---|---|---|---|---|")
    print("\n".join(sizing(found["Locust, 1 worker"], bytes_each)))


if __name__ == "__main__":
    main()
