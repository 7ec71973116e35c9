"""PutRecords of 500 small records: the local cloud beside moto's own server, on the same machine."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from fleetcast.cloudctl import free_port
from fleetcast.target import Target

RECORDS = [{"Data": b"x" * 200, "PartitionKey": f"dev-{n:06d}"} for n in range(500)]
CALLS = {"localcloud": 400, "moto": 40}
SHARDS = 100
AT_ONCE = 4


def cpu_s(pid: int) -> float:
    """CPU-seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(name: str, command: list[str]) -> tuple[float, float]:
    """(records per second of the server's CPU, records per second) of one server."""
    port = free_port()
    server = subprocess.Popen(  # noqa: ASYNC220 - returns at once
        [sys.executable, "-m", *(part.format(port=port) for part in command)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        target = Target("local", "us-east-1", f"http://127.0.0.1:{port}")
        async with target.client("kinesis", max_pool_connections=AT_ONCE) as kinesis:
            await _ready(kinesis)
            # Shards enough that AWS's limits, which only one of the two keeps, are not reached.
            await kinesis.create_stream(StreamName="s", ShardCount=SHARDS)
            await kinesis.get_waiter("stream_exists").wait(
                StreamName="s", WaiterConfig={"Delay": 1}
            )
            await _put(kinesis, AT_ONCE)
            began_s, began_cpu_s = time.monotonic(), cpu_s(server.pid)
            taken = await _put(kinesis, CALLS[name])
            return (
                taken / (cpu_s(server.pid) - began_cpu_s),
                taken / (time.monotonic() - began_s),
            )
    finally:
        server.terminate()
        server.wait()


async def _ready(kinesis: object) -> None:
    while True:
        try:
            await kinesis.list_streams()  # type: ignore[attr-defined]  # a client
        except Exception:  # noqa: BLE001 - not up yet
            await asyncio.sleep(0.1)
        else:
            return


async def _put(kinesis: object, calls: int) -> int:
    """Puts batches, some at once; returns how many records were taken."""
    slots = asyncio.Semaphore(AT_ONCE)
    taken = 0

    async def one() -> None:
        nonlocal taken
        async with slots:
            answer = await kinesis.put_records(  # type: ignore[attr-defined]  # a client
                StreamName="s", Records=RECORDS
            )
            taken += len(RECORDS) - answer["FailedRecordCount"]

    await asyncio.gather(*(one() for _ in range(calls)))
    return taken


async def main() -> None:
    """Prints a table."""
    ours = await measure("localcloud", ["localcloud", "--port", "{port}"])
    moto = await measure("moto", ["moto.server", "-p", "{port}"])
    print(f"PutRecords of 500 records of 200 bytes, {AT_ONCE} requests at a time.\n")
    print("| server | records per CPU-second of the server | ratio | records per second |")
    print("|---|---|---|---|")
    print(f"| moto's server | {moto[0]:,.0f} | 1 | {moto[1]:,.0f} |")
    print(f"| local cloud | {ours[0]:,.0f} | {ours[0] / moto[0]:.1f} | {ours[1]:,.0f} |")


if __name__ == "__main__":
    asyncio.run(main())
