"""How exactly readings leave: at 10,000 a second, through a stall, and of a million devices.

Rate and lag are read from the ledger afterwards, as the verdict does. The lag of a machine that
does other things besides is theirs as much as ours. `--quick` takes a third of the time.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from benchmarks.common import sink
from benchmarks.common.sink import STREAM
from fleetcast.target import Target
from simulator import ledger
from simulator.engine import drive
from simulator.memory import suit_sending
from simulator.scenario import RunInfo, Scenario
from simulator.transports.kinesis import KinesisTransport
from simulator.transports.null import NullTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.engine import Progress, RunSummary

RATE_PER_S, WINDOW_S, STALL_S = 10_000, 10.0, 5.0
# The largest fleet is ready by then.
HEAD_START_MS = 5000
MILLION, MILLION_RATE_PER_S = 1_000_000, 50_000
SIGNALS = {
    "temperature": {"model": "normal", "mean": 4, "sigma": 1},
    "humidity": {"model": "uniform", "low": 40, "high": 60},
    "battery": {"model": "battery", "life": "10h"},
}


def scenario(devices: int, rate_per_s: float, duration_s: float) -> Scenario:
    """Devices of one class at one rate."""
    return Scenario.model_validate(
        {
            "name": "pace",
            "fleet": {
                "devices": devices,
                "classes": [{"name": "cold-chain", "share": 1, "signals": SIGNALS}],
            },
            "rate": [{"shape": "constant", "rate": rate_per_s, "duration": duration_s}],
        }
    )


async def driven(
    plan: Scenario, make: Callable[[Any], Any], progress: Callable[[Progress], None]
) -> tuple[RunSummary, np.ndarray[Any, Any]]:
    """The summary of a run, and when each reading was sent: seconds after the start, sorted."""
    run = RunInfo(
        "r",
        int(time.time() * 1000) + HEAD_START_MS,
        "local",
        "b",
        "kinesis",
        (0, plan.fleet.devices),
    )
    with tempfile.TemporaryDirectory() as folder:
        plan.save(Path(folder) / "scenario.yaml", run)
        summary = await drive(plan, run, b"key", Path(folder), make, progress=progress)
        sent_ns = ledger.read(Path(folder)).column("sent_ns").to_numpy()
    return summary, np.sort(sent_ns / 1e9 - run.start_ms / 1000)


def worst_window_pct(sent_s: np.ndarray[Any, Any], duration_s: float) -> float:
    """The largest error of the rate over any ten seconds, in per cent."""
    starts = np.arange(0, duration_s - WINDOW_S + 1e-9, 0.1)
    counts = np.searchsorted(sent_s, starts + WINDOW_S) - np.searchsorted(sent_s, starts)
    # What is sent a lag after it was due is missing at the beginning of the run, once.
    inside = counts[starts >= 1.0] if (starts >= 1.0).any() else counts
    return float(np.abs(inside / (RATE_PER_S * WINDOW_S) - 1).max() * 100)


def exactness(duration_s: float) -> None:
    """Prints the rate's error and the lag at 10,000 a second."""
    with sink.running() as server:
        target = Target.named("local", port=server.port)
        began_s = time.process_time()
        summary, sent_s = asyncio.run(
            driven(
                scenario(20_000, RATE_PER_S, duration_s),
                lambda done: KinesisTransport(target, STREAM, done),
                lambda _: None,
            )
        )
    spent_s = time.process_time() - began_s
    lag = summary.schedule_lag_ms
    print(f"{RATE_PER_S:,} readings/s, signed, for {duration_s:.0f} s.\n")
    print("| rate error | worst over any 10 s | lag p50 | p99 | max | cores |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {summary.rate_error_pct:+.3f} % | {worst_window_pct(sent_s, duration_s):.3f} % "
        f"| {lag['p50']:.1f} ms | {lag['p99']:.1f} ms | {lag['max']:.1f} ms "
        f"| {spent_s / duration_s:.2f} |\n",
        flush=True,
    )


def stall(duration_s: float) -> None:
    """Prints what a target that stalls for 5 s does to a run."""
    with sink.running() as server:
        target = Target.named("local", port=server.port)
        seen: list[tuple[float, Progress]] = []

        async def stalled() -> RunSummary:
            loop = asyncio.get_running_loop()
            loop.call_later(HEAD_START_MS / 1000 + 3.0, server.stall)
            loop.call_later(HEAD_START_MS / 1000 + 3.0 + STALL_S, server.go_on)
            summary, _ = await driven(
                scenario(20_000, RATE_PER_S, duration_s),
                lambda done: KinesisTransport(target, STREAM, done),
                lambda now: seen.append((now.elapsed_s, now)),
            )
            return summary

        summary = asyncio.run(stalled())
    behind = max(
        abs(now.released - RATE_PER_S * at_s) for at_s, now in seen if 1 < at_s < duration_s
    )
    waiting = max(now.backlog + now.in_flight for _, now in seen)
    lag, latency = summary.schedule_lag_ms, summary.latency_ms
    print(f"The same with a target that stalls for {STALL_S:.0f} s.\n")
    print("| released off schedule by | most waiting | lag p50 | p99 | max | latency max | acked |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {behind / RATE_PER_S * 1000:.0f} ms | {waiting:,} | {lag['p50']:.0f} ms "
        f"| {lag['p99']:,.0f} ms | {lag['max']:,.0f} ms | {latency['max']:,.0f} ms "
        f"| {summary.acked:,} of {summary.sent:,} |\n",
        flush=True,
    )


def million(duration_s: float) -> None:
    """Prints what a million devices take; runs in a process of its own."""
    began_s = time.monotonic()
    plan = scenario(MILLION, MILLION_RATE_PER_S, duration_s)
    ready_s: list[float] = []

    class Noting(NullTransport):
        async def __aenter__(self) -> Self:
            ready_s.append(time.monotonic() - began_s)
            return self

    began_cpu_s = time.process_time()
    summary, _ = asyncio.run(driven(plan, Noting, lambda _: None))
    cores = (time.process_time() - began_cpu_s) / duration_s
    lag = summary.schedule_lag_ms
    memory_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{MILLION:,} devices, {MILLION_RATE_PER_S:,} readings/s, to nowhere.\n")
    print("| ready after | memory | rate error | lag p50 | p99 | cores |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {ready_s[0]:.1f} s | {memory_mib:,.0f} MiB | {summary.rate_error_pct:+.3f} % "
        f"| {lag['p50']:.1f} ms | {lag['p99']:.1f} ms | {cores:.2f} |"
    )


def main() -> None:
    """Prints three tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a third of the time")
    parser.add_argument("--million", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    suit_sending()
    if options.million:
        million(options.million)
        return
    scale = 3 if options.quick else 1
    exactness(36 / scale)
    stall(30 / scale + 5)
    done = subprocess.run(
        [sys.executable, __file__, "--million", str(30 / scale)],
        check=True,
        capture_output=True,
        text=True,
    )
    print(done.stdout, end="")


if __name__ == "__main__":
    main()
