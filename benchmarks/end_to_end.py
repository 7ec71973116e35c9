"""The whole pipeline on this machine, from device to verdict, at rising rates.

The full rate of ten shards is held for five minutes; beyond it, what is asked for is more than two
cores land at once, and the latency tells how far the pipeline falls behind.

    python benchmarks/end_to_end.py --rates 15000 --duration 60
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fleetcast import cloudctl
from fleetcast.runs import new_run
from fleetcast.target import Target
from fleetcast.verify import verify_run
from simulator.engine import simulate
from simulator.memory import suit_sending
from simulator.scenario import load
from stack.config import StackConfig
from stack.deploy import deploy, destroy

SCENARIO = Path(__file__).parents[1] / "scenarios" / "cold-chain.yaml"
# Devices' hashes are not spread evenly: at 1,000/s for each shard the fullest would throttle.
READINGS_PER_SHARD = 833
# (readings a second, seconds) of what is measured where nothing is asked for.
RUNS = ((2000, 20), (5000, 20), (10_000, 20), (10_000, 300), (15_000, 30), (20_000, 30))


@dataclass(frozen=True)
class Cpu:
    """CPU-seconds of the cloud, of the functions that it runs, and of this process."""

    cloud: float
    functions: float
    own: float


def cpu(cloud_pid: int) -> Cpu:
    """CPU-seconds so far."""
    tick = os.sysconf("SC_CLK_TCK")
    cloud = functions = 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        spent = (int(fields[11]) + int(fields[12])) / tick
        if int(folder.name) == cloud_pid:
            cloud = spent
        elif int(fields[1]) == cloud_pid:
            functions += spent
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Cpu(cloud, functions, used.ru_utime + used.ru_stime)


async def measured(rate: int, duration_s: int, shards: int) -> str:
    """One row: a cloud and a stack of their own, a run, its verdict."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FLEETCAST_HOME"] = f"{folder}/home"
        os.environ["FLEETCAST_RUNS"] = f"{folder}/runs"
        with cloudctl.running(cloudctl.free_port()) as cloud:
            target = Target.named("local", port=cloud.port)
            config = StackConfig.for_target("local", "bench", region=target.region)
            config = config.model_copy(update={"shards": shards})
            outputs = await deploy(config, target, "builtin", progress=lambda _: None)
            plan = load(SCENARIO).with_overrides(
                devices=max(1500, 2 * rate), rate=rate, duration=duration_s
            )
            info, run_dir = new_run(plan, target, outputs)
            before = cpu(cloud.pid)
            await simulate(plan, info, outputs, target, run_dir, progress=lambda _: None)
            after = cpu(cloud.pid)
            memory = cloudctl.status(cloud.port)["memory_mib"]
            verdict = await verify_run(run_dir, outputs, target, progress=lambda _: None)
            verified = cpu(cloud.pid)
            await destroy(config, target, "builtin", progress=lambda _: None)
    lag, latency = verdict.rate.schedule_lag_ms, verdict.landing_latency_ms
    series = verdict.landed["timeseries"]
    return (
        f"| {rate:,}/s for {duration_s} s, {shards} shards | {verdict.sent:,} | {verdict.failed:,} "
        f"| {verdict.rate.error_pct:+.2f} % | {lag['p99']:.0f} ms "
        f"| {latency['p50']:.0f} / {latency['p99']:.0f} ms "
        f"| {series.lost + verdict.landed['archive'].lost} "
        f"| {series.duplicated + verdict.landed['archive'].duplicated} "
        f"| {after.own - before.own:.1f} | {after.cloud - before.cloud:.1f} "
        f"| {after.functions - before.functions:.1f} "
        f"| {verified.own - after.own:.1f} | {memory} MiB |"
    )


async def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=int, nargs="+", help="readings a second")
    parser.add_argument("--duration", type=int, default=20, help="seconds")
    parser.add_argument("--shards", type=int, help="by the rate, if not given; at least 10")
    asked = parser.parse_args()
    suit_sending()
    print(
        "Scenario cold-chain stretched (a ramp, then the rate; faults and refused payloads among it); "
        "simulator, local cloud and its functions share the machine. CPU-seconds by process.\n"
    )
    print(
        "| rate | readings | not acknowledged | rate error | schedule lag p99 | device to row p50 "
        "/ p99 | lost | duplicated | simulator | cloud | functions | verification | cloud's memory |"
    )
    print("|" + "---|" * 13)
    runs = [(rate, asked.duration) for rate in asked.rates] if asked.rates else RUNS
    for rate, duration_s in runs:
        shards = asked.shards or max(10, -(-rate // READINGS_PER_SHARD))
        print(await measured(rate, duration_s, shards), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
