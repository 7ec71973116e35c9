"""What a reading costs before it leaves: generated, encoded and signed, paced, and in the ledger."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from simulator.codec import Encoder
from simulator.engine import drive
from simulator.fleet import Fleet
from simulator.scenario import RunInfo, load
from simulator.transports.null import NullTransport

SCENARIO = Path(__file__).parents[1] / "scenarios" / "cold-chain.yaml"
KEY = b"benchmark"


def main() -> None:
    """Prints a table."""
    scenario = load(SCENARIO).with_overrides(devices=20_000, rate="200000/s", duration="2s")
    run = RunInfo("bench", int(time.time() * 1000), "local", "b", "kinesis", (0, 20_000))
    fleet = Fleet(scenario, run)

    began = time.process_time()
    readings = sum(len(block) for block in fleet.blocks())
    generating = time.process_time() - began

    encoder = Encoder(fleet, KEY)
    began = time.process_time()
    for block in fleet.blocks():
        encoder.encode(block)
    encoding = time.process_time() - began - generating

    # The schedule is two seconds long; what cannot be released in time is released late.
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        scenario.save(path / "scenario.yaml", run)
        asyncio.run(drive(scenario, run, KEY, path, NullTransport, progress=lambda _: None))
    everything = time.process_time() - began

    print(f"{readings:,} readings of 20,000 devices of three classes, one process.\n")
    print("| step | readings per CPU-second |")
    print("|---|---|")
    print(f"| values (numpy) | {readings / generating:,.0f} |")
    print(f"| JSON and HMAC-SHA256 | {readings / encoding:,.0f} |")
    print(f"| all of it, with pacing and the ledger, to nowhere | {readings / everything:,.0f} |")


if __name__ == "__main__":
    main()
