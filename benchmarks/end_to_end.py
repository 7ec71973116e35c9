"""The whole pipeline on this machine, from device to verdict, at rising rates."""

from __future__ import annotations

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
from simulator.scenario import load
from stack.config import StackConfig
from stack.deploy import deploy, destroy

SCENARIO = Path(__file__).parents[1] / "scenarios" / "cold-chain.yaml"
RATES = (2000, 4000, 6000)
DURATION_S = 20


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


async def main() -> None:
    """Prints a table."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FLEETCAST_HOME"] = f"{folder}/home"
        os.environ["FLEETCAST_RUNS"] = f"{folder}/runs"
        with cloudctl.running(cloudctl.free_port()) as cloud:
            target = Target.named("local", port=cloud.port)
            config = StackConfig.for_target("local", "bench", region=target.region)
            outputs = await deploy(config, target, "builtin", progress=lambda _: None)
            lines = []
            for rate in RATES:
                plan = load(SCENARIO).with_overrides(rate=rate, duration=DURATION_S)
                info, run_dir = new_run(plan, target, outputs)
                before = cpu(cloud.pid)
                await simulate(plan, info, outputs, target, run_dir, progress=lambda _: None)
                after = cpu(cloud.pid)
                verdict = await verify_run(run_dir, outputs, target, progress=lambda _: None)
                verified = cpu(cloud.pid)
                lag, latency = verdict.rate.schedule_lag_ms, verdict.landing_latency_ms
                series = verdict.landed["timeseries"]
                lines.append(
                    f"| {rate:,}/s | {verdict.sent:,} | {verdict.rate.error_pct:+.2f} % "
                    f"| {lag['p99']:.0f} ms | {latency['p50']:.0f} / {latency['p99']:.0f} ms "
                    f"| {series.lost + verdict.landed['archive'].lost} "
                    f"| {series.duplicated + verdict.landed['archive'].duplicated} "
                    f"| {after.own - before.own:.1f} | {after.cloud - before.cloud:.1f} "
                    f"| {after.functions - before.functions:.1f} "
                    f"| {verified.own - after.own:.1f} |"
                )
            await destroy(config, target, "builtin", progress=lambda _: None)
    print(
        f"Scenario cold-chain stretched to {DURATION_S} s (a ramp, then the rate); simulator, local "
        "cloud and its functions share the machine. CPU-seconds by process.\n"
    )
    print(
        "| rate | readings | rate error | schedule lag p99 | device to row p50 / p99 | lost "
        "| duplicated | simulator | cloud | functions | verification |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    asyncio.run(main())
