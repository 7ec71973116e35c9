"""Sending to Kinesis, in readings per CPU-second of the sender, beside other ways to do it.

Every sender has the same server on the other side, a process of its own that takes any PutRecords
and answers with as many sequence numbers. The peers send readings that were made before; fleetcast
generates, encodes, signs and paces them, and writes its ledger. All take their turns some times
over, and the median of each counts. `--quick` sends a tenth, once.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Self

from benchmarks.common import sink
from benchmarks.common.sink import STREAM
from fleetcast.target import Target
from simulator.codec import Encoder
from simulator.engine import drive
from simulator.fleet import Fleet
from simulator.memory import suit_sending
from simulator.scenario import RunInfo, Scenario
from simulator.transports.kinesis import KinesisTransport

if TYPE_CHECKING:
    from collections.abc import Callable

DEVICES = 20_000
BATCH = 500
ROUNDS = 5
# More than can be sent: what is measured is work, and none of it is waiting for the schedule.
RATE_PER_S = 1_000_000
KEY = b"benchmark"


def scenario(readings: int) -> Scenario:
    """Devices of one class whose signed readings are about 200 bytes."""
    signals = {
        "temperature": {"model": "normal", "mean": 4, "sigma": 1},
        "humidity": {"model": "uniform", "low": 40, "high": 60},
        "battery": {"model": "battery", "life": "10h"},
    }
    return Scenario.model_validate(
        {
            "name": "send",
            "fleet": {"devices": DEVICES, "classes": [{"name": "cold-chain", "share": 1, "signals": signals}]},
            "rate": [{"shape": "constant", "rate": RATE_PER_S, "duration": readings / RATE_PER_S}],
        }
    )  # fmt: skip


def run_of(plan: Scenario) -> RunInfo:
    """A run that starts in a moment."""
    start_ms = int(time.time() * 1000) + 300
    return RunInfo("r-bench", start_ms, "local", "b", "kinesis", (0, plan.fleet.devices))


# What was acknowledged, and the CPU time when the sender was connected: what comes before is
# paid once for a run, however long.
Sent = tuple[int, float]


def fleetcast(port: int, readings: int, *, key: bytes | None, aggregate: bool = False) -> Sent:
    """Generates, encodes, signs and sends."""
    began_s = 0.0

    class Noting(KinesisTransport):
        async def __aenter__(self) -> Self:
            nonlocal began_s
            await super().__aenter__()
            began_s = time.process_time()
            return self

    plan = scenario(readings)
    run = run_of(plan)
    target = Target.named("local", port=port)
    with tempfile.TemporaryDirectory() as folder:
        plan.save(Path(folder) / "scenario.yaml", run)
        summary = asyncio.run(
            drive(
                plan, run, key, Path(folder),
                lambda done: Noting(target, STREAM, done, aggregate=aggregate),
                progress=lambda _: None,
            )
        )  # fmt: skip
    return summary.acked, began_s


def made(readings: int) -> list[tuple[bytes, str]]:
    """(payload, partition key) of readings made before; a few thousand, over and over."""
    plan = scenario(readings)
    fleet = Fleet(plan, run_of(plan))
    encoder = Encoder(fleet, KEY)
    few: list[tuple[bytes, str]] = []
    for block in fleet.blocks(0, min(readings, 10_000)):
        names = [fleet.device_ids[device] for device in block.device_index.tolist()]
        few += zip(encoder.encode(block), names, strict=True)
    return few


async def aiobotocore(port: int, readings: int) -> Sent:
    """put_records of aiobotocore's client, some at a time."""
    ready = made(readings)
    acked = 0
    async with Target.named("local", port=port).client(
        "kinesis", max_pool_connections=16
    ) as client:
        began_s = time.process_time()
        numbers = iter(range(readings // BATCH))

        async def one_after_the_other() -> None:
            nonlocal acked
            for number in numbers:
                first = number * BATCH % len(ready)
                answer = await client.put_records(
                    StreamName=STREAM,
                    Records=[
                        {"Data": data, "PartitionKey": name}
                        for data, name in ready[first : first + BATCH]
                    ],
                )
                acked += sum("SequenceNumber" in record for record in answer["Records"])

        await asyncio.gather(*(one_after_the_other() for _ in range(8)))
    return acked, began_s


def boto3_threads(port: int, readings: int) -> Sent:
    """put_records of boto3's client in 8 threads."""
    import boto3  # noqa: PLC0415 - one of the peers

    ready = made(readings)
    client = boto3.client("kinesis", **Target.named("local", port=port).client_kwargs())

    def put(number: int) -> int:
        first = number * BATCH % len(ready)
        answer = client.put_records(
            StreamName=STREAM,
            Records=[
                {"Data": data, "PartitionKey": name} for data, name in ready[first : first + BATCH]
            ],
        )
        return sum("SequenceNumber" in record for record in answer["Records"])

    began_s = time.process_time()
    with ThreadPoolExecutor(8) as threads:
        return sum(threads.map(put, range(readings // BATCH))), began_s


async def async_kinesis(port: int, readings: int) -> Sent:
    """The producer of async-kinesis."""
    from kinesis import Producer  # noqa: PLC0415 - one of the peers
    from kinesis.processors import StringProcessor  # noqa: PLC0415

    logging.disable(logging.CRITICAL)
    ready = made(readings)
    target = Target.named("local", port=port)
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
    }  # fmt: skip
    async with Producer(
        stream_name=STREAM, endpoint_url=target.endpoint_url, region_name=target.region,
        processor=StringProcessor(), batch_size=BATCH, max_queue_size=10_000,
        put_rate_limit_per_shard=1_000_000, put_bandwidth_limit_per_shard=1_000_000,
        skip_describe_stream=False,
    ) as producer:  # fmt: skip
        began_s = time.process_time()
        for number in range(readings):
            data, name = ready[number % len(ready)]
            await producer.put(data.decode(), partition_key=name)
        await producer.flush()
    return readings, began_s


SENDERS: dict[str, tuple[str, Callable[[int, int], Sent], int]] = {
    "aiobotocore": ("aiobotocore", lambda p, n: asyncio.run(aiobotocore(p, n)), 200_000),
    "boto3": ("boto3 in 8 threads", boto3_threads, 100_000),
    "async-kinesis": ("async-kinesis", lambda p, n: asyncio.run(async_kinesis(p, n)), 20_000),
    "signed": ("fleetcast, HMAC on", lambda p, n: fleetcast(p, n, key=KEY), 600_000),
    "unsigned": ("fleetcast, HMAC off", lambda p, n: fleetcast(p, n, key=None), 600_000),
    "aggregated-signed": (
        "fleetcast, aggregated, HMAC on",
        lambda p, n: fleetcast(p, n, key=KEY, aggregate=True),
        1_500_000,
    ),
    "aggregated": (
        "fleetcast, aggregated, HMAC off",
        lambda p, n: fleetcast(p, n, key=None, aggregate=True),
        1_500_000,
    ),
}


def measured(name: str, port: int, scale: int) -> float:
    """Readings per CPU-second of one sender, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--sender", name, "--port", str(port), "--scale", str(scale)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise RuntimeError(f"{name}: {last}")
    return float(done.stdout.split()[-1])


def send(name: str, port: int, scale: int) -> None:
    """Prints what one CPU-second of this process sends, once it is connected and warm."""
    _, sender, readings = SENDERS[name]
    # As the command line does.
    suit_sending()
    readings //= scale
    sender(port, min(readings, 5000))
    taken, began_s = sender(port, readings)
    spent_s = time.process_time() - began_s
    if taken != readings:
        raise RuntimeError(f"{taken} of {readings} readings were acknowledged")
    print(readings / spent_s)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the readings")
    parser.add_argument("--sender", choices=SENDERS, help="only this one")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--scale", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.port:
        send(options.sender, options.port, options.scale)
    else:
        scale = 10 if options.quick else 1
        names = [options.sender] if options.sender else list(SENDERS)
        with sink.running() as server:
            rounds = [
                [measured(name, server.port, scale) for name in names]
                for _ in range(1 if options.quick else ROUNDS)
            ]
        told = {
            name: sorted(rates)
            for name, rates in zip(names, zip(*rounds, strict=True), strict=True)
        }
        base = statistics.median(told["aiobotocore"]) if "aiobotocore" in told else None
        print("Readings of about 200 bytes; CPU-seconds of the sender, user and system.\n")
        print("| sender | readings per CPU-second | least to most | of plain aiobotocore |")
        print("|---|---|---|---|")
        for name, rates in told.items():
            rate = statistics.median(rates)
            print(
                f"| {SENDERS[name][0]} | {rate:,.0f} | {rates[0]:,.0f} to {rates[-1]:,.0f} "
                f"| {f'{rate / base:.1f}' if base else ''} |"
            )


if __name__ == "__main__":
    main()
