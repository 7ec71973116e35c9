"""Devices on MQTT connections of their own: enrolled, connected, sending, and cut off by half.

    python -m benchmarks.mqtt --devices 2000 --rate 3000 --duration 30

One cloud process holds the broker, the rules and all that follows them; one process has all devices.
CPU-seconds are of that process: until all connections stand, and from then on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from fleetcast import cloudctl
from fleetcast.claims import Claims
from fleetcast.enrolment import Enrolment
from fleetcast.home import claims_of, identities_of
from fleetcast.runs import HEAD_START_S, new_run
from fleetcast.target import Target
from fleetcast.verify import verify_run
from simulator.engine import simulate
from simulator.fleet import DeviceNames
from simulator.memory import suit_sending
from simulator.scenario import Scenario, load
from simulator.sending import Sending
from stack.config import StackConfig
from stack.deploy import deploy

SCENARIO = """
name: mqtt
fleet:
  devices: {devices}
  classes:
    - {{name: a, share: 1, signals: {{temperature: {{model: normal, mean: 4, sigma: 1}}}}}}
rate: [{{shape: constant, rate: {rate}/s, duration: {duration}s}}]
faults: {faults}
expect: {{lost: 0}}
"""
STORM = "[{{name: storm, kind: reconnect_storm, share: 0.5, start: {start}s, duration: {down}s, over: 1s}}]"

HEAD = (
    "| | connections | asked | rate error | schedule lag p99 | acknowledged after, p99 | lost "
    "| duplicated | connections broken | CPU-s, connecting | CPU-s, sending | verdict |"
)


def scenario_of(options: argparse.Namespace, faults: str) -> Scenario:
    """What is driven."""
    path = Path("mqtt.yaml")
    path.write_text(
        SCENARIO.format(
            devices=options.devices, rate=options.rate, duration=options.duration, faults=faults
        )
    )
    return load(path)


async def measured(
    options: argparse.Namespace, target: Target, outputs: Any, faults: str
) -> dict[str, Any]:
    """Drives one run; what it came to."""
    scenario = scenario_of(options, faults)
    sending = Sending("mqtt", workers=options.workers).over_mqtt(
        identities_of("local", "bench"), options.per_connection, options.ramp
    )
    head_s = HEAD_START_S + sending.connecting_s(options.devices)
    info, folder = new_run(scenario, target, outputs, transport="mqtt", head_start_s=head_s)
    # Progress is told from the time on when the connections stand.
    cpu_s, told_s, began_s = time.process_time(), list[float](), time.monotonic()
    summary = await simulate(
        scenario, info, outputs, target, folder,
        progress=lambda _: told_s.append(time.process_time()), sending=sending,
    )  # fmt: skip
    ended_s = time.process_time()
    verdict = await verify_run(folder, outputs, target, progress=lambda _: None)
    landed = verdict.landed
    return {
        "connections": -(-options.devices // options.per_connection),
        "rate_asked": options.rate,
        "rate_achieved": round(summary.achieved_rate),
        "rate_error_pct": summary.rate_error_pct,
        "schedule_lag_p99_ms": summary.schedule_lag_ms["p99"],
        "ack_latency_p99_ms": summary.latency_ms["p99"],
        "acked": summary.acked,
        "unknown": summary.unknown,
        "lost": landed["timeseries"].lost,
        "duplicated": landed["archive"].duplicated,
        "connections_broken": summary.errors,
        "device_process_cpu_s": round(ended_s - cpu_s, 1),
        "of_it_connecting_s": round(told_s[0] - cpu_s, 1),
        "took_s": round(time.monotonic() - began_s, 1),
        "verdict": verdict.verdict,
    }


async def run(options: argparse.Namespace, port: int) -> dict[str, Any]:
    """All of it."""
    target = Target.named("local", port=port)
    config = StackConfig.for_target("local", "bench", region=target.region)
    outputs = await deploy(config, target, "builtin", progress=lambda _: None)
    gateways = options.per_connection > 1
    count = -(-options.devices // options.per_connection)
    names = [f"gw-{n:06d}" for n in range(count)] if gateways else DeviceNames(count)[:]
    began_s = time.monotonic()
    work = Enrolment(target, identities_of("local", "bench"), lambda _done, _total: None)
    claims = Claims(target, claims_of("local", "bench")) if options.claim else None
    await work.enrol(names, gateways=gateways, claims=claims)
    enrolled_s = round(time.monotonic() - began_s, 1)
    third = options.duration / 3
    storm = STORM.format(start=third, down=max(1.0, third / 2))
    return {
        "enrolment": {"devices": count, "by_claim": options.claim, "s": enrolled_s},
        "steady": await measured(options, target, outputs, "[]"),
        "storm": await measured(options, target, outputs, storm),
    }


def table(told: dict[str, Any]) -> str:
    """The figures in Markdown."""
    enrolled = told["enrolment"]
    how = " by claim" if enrolled["by_claim"] else ""
    lines = [
        f"{enrolled['devices']:,} certificates enrolled{how} in {enrolled['s']} s.\n",
        HEAD,
        "|" + "---|" * 12,
    ]
    for phase in ("steady", "storm"):
        one = told[phase]
        connecting_s = one["of_it_connecting_s"]
        lines.append(
            f"| {phase} | {one['connections']:,} | {one['rate_asked']:,}/s "
            f"| {one['rate_error_pct']:+.2f} % | {one['schedule_lag_p99_ms']:,.0f} ms "
            f"| {one['ack_latency_p99_ms']:,.0f} ms | {one['lost']} | {one['duplicated']} "
            f"| {one['connections_broken']:,} | {connecting_s} "
            f"| {one['device_process_cpu_s'] - connecting_s:.1f} | {one['verdict']} |"
        )
    lines.append(
        "\nIn the storm half of the connections drop for a sixth of the run; their readings wait, "
        "which is the lag."
    )
    return "\n".join(lines)


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=2000)
    parser.add_argument("--per-connection", type=int, default=1)
    parser.add_argument("--rate", type=int, default=3000, help="readings a second")
    parser.add_argument("--duration", type=int, default=30, help="seconds")
    parser.add_argument("--ramp", type=float, default=100.0, help="connections a second")
    parser.add_argument("--claim", action="store_true", help="enrol them by claim, over MQTT")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    # As the command that drives a run does.
    suit_sending()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FLEETCAST_HOME"] = f"{folder}/home"
        os.environ["FLEETCAST_RUNS"] = f"{folder}/runs"
        os.chdir(folder)
        with cloudctl.running(cloudctl.free_port()) as cloud:
            told = asyncio.run(run(options, cloud.port))
    print(json.dumps(told, indent=2) if options.json else table(told))


if __name__ == "__main__":
    main()
