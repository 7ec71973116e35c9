"""Timestream in the local cloud: writes through HTTP, and queries beside them.

python benchmarks/timestream.py --rows 10000000
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import orjson

from fleetcast import cloudctl
from fleetcast.target import Target

DATABASE, TABLE = "bench", "rows"
DEVICES = 1000
CALL = 100
WRITERS = 4
BESIDE_PER_S = 10_000
BESIDE_S = 15
ROUNDS = 5
QUERIES = {
    "count": "SELECT count(*) FROM {t}",
    "count of one device": "SELECT count(*) FROM {t} WHERE device = 'd000007'",
    "count of a measure's values": "SELECT count(*) FROM {t} WHERE temperature > 30",
    "bin and group by over all": (
        "SELECT bin(time, 1m) AS minute, avg(temperature), max(humidity) FROM {t} GROUP BY 1 ORDER BY 1"
    ),
    "average by device": "SELECT device, avg(temperature) FROM {t} GROUP BY device",
}
# As a panel asks: the last minutes of a few devices.
PANEL = (
    "SELECT bin(time, 10s) AS at, device, avg(temperature) FROM {t} WHERE time > ago(15m) "
    "AND device IN ('d000001', 'd000002', 'd000003') GROUP BY 1, 2 ORDER BY 1"
)
HEADERS = {
    "content-type": "application/x-amz-json-1.0",
    "x-amz-target": "Timestream_20181101.WriteRecords",
    "authorization": "AWS4-HMAC-SHA256 Credential=b/20260101/us-east-1/timestream/aws4_request",
}


def cpu_s(pid: int) -> float:
    """CPU-seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def body(first: int, start_ms: int) -> bytes:
    """A call of multi-measure records, from reading `first` on; times are milliseconds apart."""
    values = np.random.default_rng(first).normal(20, 5, (CALL, 3)).round(3).tolist()
    records = [
        {
            "Dimensions": [{"Name": "device", "Value": f"d{(first + n) % DEVICES:06d}"}],
            "Time": str(start_ms + (first + n) // DEVICES),
            "MeasureValues": [
                {"Name": name, "Value": str(value), "Type": "DOUBLE"}
                for name, value in zip(
                    ("temperature", "humidity", "battery"), values[n], strict=True
                )
            ],
        }
        for n in range(CALL)
    ]
    common = {"MeasureName": "reading", "MeasureValueType": "MULTI", "TimeUnit": "MILLISECONDS"}
    return orjson.dumps(
        {
            "DatabaseName": DATABASE,
            "TableName": TABLE,
            "CommonAttributes": common,
            "Records": records,
        }
    )


async def write(session: aiohttp.ClientSession, url: str, content: bytes) -> None:
    """One call.

    Raises:
        RuntimeError: it was not taken whole.
    """
    async with session.post(url, data=content, headers=HEADERS) as answer:
        told = await answer.read()
        if answer.status != 200:  # noqa: PLR2004 - HTTP's
            raise RuntimeError(told.decode())


async def load(session: aiohttp.ClientSession, url: str, rows: int, start_ms: int) -> None:
    """Writes rows, a few calls at a time."""
    numbers = iter(range(0, rows, CALL))

    async def writer() -> None:
        for first in numbers:
            await write(session, url, body(first, start_ms))

    await asyncio.gather(*(writer() for _ in range(WRITERS)))


async def timed(client: Any, sql: str) -> float:
    """Milliseconds of a query, all pages of it."""
    began = time.perf_counter()
    token: dict[str, str] = {}
    while True:
        answer = await client.query(QueryString=sql, **token)
        if not answer.get("NextToken"):
            return (time.perf_counter() - began) * 1000
        token = {"NextToken": answer["NextToken"]}


async def beside(session: aiohttp.ClientSession, url: str, client: Any, sql: str) -> list[float]:
    """Milliseconds of a panel's query, again and again while records come in at a rate."""
    took: list[float] = []
    start_ms = int(time.time() * 1000)
    end_s = time.monotonic() + BESIDE_S

    async def writing() -> None:
        next_s, first = time.monotonic(), 0
        while time.monotonic() < end_s:
            await write(session, url, body(first, start_ms))
            first += CALL
            next_s += CALL / BESIDE_PER_S
            await asyncio.sleep(max(0.0, next_s - time.monotonic()))

    async def asking() -> None:
        while time.monotonic() < end_s:
            took.append(await timed(client, sql))
            await asyncio.sleep(0.2)

    await asyncio.gather(writing(), asking())
    return took


async def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    rows: int = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FLEETCAST_HOME"] = folder
        with cloudctl.running(cloudctl.free_port(), iam=False) as cloud:
            target = Target.named("local", port=cloud.port)
            async with target.client("timestream-write") as writer:
                await writer.create_database(DatabaseName=DATABASE)
                await writer.create_table(
                    DatabaseName=DATABASE,
                    TableName=TABLE,
                    RetentionProperties={
                        "MemoryStoreRetentionPeriodInHours": 24,
                        "MagneticStoreRetentionPeriodInDays": 7,
                    },
                )
            start_ms = int(time.time() * 1000) - rows // DEVICES - 60_000
            began, before = time.monotonic(), cpu_s(cloud.pid)
            async with (
                aiohttp.ClientSession() as session,
                target.client("timestream-query") as client,
            ):
                url = f"{cloud.endpoint_url}/"
                await load(session, url, rows, start_ms)
                wall_s, spent_s = time.monotonic() - began, cpu_s(cloud.pid) - before
                print(
                    "| writes in calls of 100 | records per CPU-second of the cloud | records per second |"
                )
                print("|---|---|---|")
                print(
                    f"| {rows:,} of three measures | {rows / spent_s:,.0f} | {rows / wall_s:,.0f} |"
                )
                memory = cloudctl.status(cloud.port)["memory_mib"]
                print(f"\nThe cloud then takes {memory:,} MiB.\n")
                name = f'"{DATABASE}"."{TABLE}"'
                print(
                    f"| query over {rows:,} rows | ms, the median of {ROUNDS} | CPU-ms of the cloud |"
                )
                print("|---|---|---|")
                for what, sql in {**QUERIES, "a panel": PANEL}.items():
                    before = cpu_s(cloud.pid)
                    times = sorted([await timed(client, sql.format(t=name)) for _ in range(ROUNDS)])
                    spent_ms = (cpu_s(cloud.pid) - before) * 1000 / ROUNDS
                    print(f"| {what} | {times[ROUNDS // 2]:,.0f} | {spent_ms:,.0f} |")
                took = sorted(await beside(session, url, client, PANEL.format(t=name)))
                print(
                    f"\nA panel's query while {BESIDE_PER_S:,} records a second come in: p50 "
                    f"{took[len(took) // 2]:,.0f} ms, p95 {took[int(len(took) * 0.95)]:,.0f} ms of "
                    f"{len(took)}."
                )


if __name__ == "__main__":
    asyncio.run(main())
