"""PutRecords of 500 small records: the local cloud beside moto's server and ministack's.

Each server is measured by its own CPU-seconds, alone on its port, under the same requests: bodies
that were encoded before, signed by botocore's SigV4 and sent by aiohttp, so that the sender costs
little. ministack is installed into an environment of its own, for its versions are not ours. The
second table is the local cloud alone, over millions of records: what a record costs, to put and to
get, and what memory is used, from the first to the last. `--quick` makes fewer.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from fleetcast.cloudctl import free_port

BATCH = 500
SHARDS = 100
AT_ONCE = 4
# Under the limits of so many shards, with room for those that get more devices than others.
MOST_PER_S = 80_000
DEVICES = 100_000
MILLION = 1_000_000
# The bound is reached, and read records give way, within the first of the millions.
MAX_MIB = 512
DATA = "eHh4" * 66 + "eHg="  # 200 bytes


def bodies(devices: int) -> list[bytes]:
    """Bodies of PutRecords, in which `devices` devices take turns."""
    keys = [f"dev-{number:06d}" for number in range(devices)]
    return [
        orjson.dumps(
            {
                "StreamName": "s",
                "Records": [{"Data": DATA, "PartitionKey": key} for key in keys[at : at + BATCH]],
            }
        )
        for at in range(0, devices, BATCH)
    ]


@dataclass
class Sender:
    """Sends signed requests to one server."""

    port: int
    session: aiohttp.ClientSession
    _auth: SigV4Auth = field(
        default_factory=lambda: SigV4Auth(Credentials("test", "test"), "kinesis", "us-east-1")
    )

    async def call(self, operation: str, body: bytes) -> bytes:
        """One call; the answer's body.

        Raises:
            RuntimeError: the server refused it.
        """
        request = AWSRequest(
            "POST",
            f"http://127.0.0.1:{self.port}/",
            data=body,
            headers={
                "Content-Type": "application/x-amz-json-1.1",
                "X-Amz-Target": f"Kinesis_20131202.{operation}",
            },
        )
        self._auth.add_auth(request)
        headers = dict(request.headers.items())
        async with self.session.post(request.url, data=body, headers=headers) as answer:
            text = await answer.read()
            if answer.status != 200:  # noqa: PLR2004 - HTTP's OK
                raise RuntimeError(f"{operation}: {answer.status} {text[:200]!r}")
            return text

    async def ask(self, operation: str, **members: object) -> dict[str, object]:
        """One call in JSON."""
        answer: dict[str, object] = orjson.loads(
            await self.call(operation, orjson.dumps(members)) or b"{}"
        )
        return answer

    async def put(self, ready: list[bytes], calls: int) -> int:
        """Puts batches, some at once; returns how many records were taken."""
        left = iter(range(calls))
        taken = 0
        began_s = time.monotonic()

        async def one_after_the_other() -> None:
            nonlocal taken
            for number in left:
                early_s = began_s + number * BATCH / MOST_PER_S - time.monotonic()
                if early_s > 0:
                    await asyncio.sleep(early_s)
                answer = await self.call("PutRecords", ready[number % len(ready)])
                taken += answer.count(b'"SequenceNumber"')

        await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))
        return taken


@dataclass
class Server:
    """A server in a process of its own."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Sender:
        """Starts it, and makes a stream of many shards, so that no shard's limit is reached."""
        self.process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
            [part.format(port=self.port) for part in self.command],
            env={
                **os.environ,
                **{k: v.format(port=self.port) for k, v in self.environment.items()},
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE))
        sender = Sender(self.port, session)
        while True:
            try:
                await sender.ask("ListStreams")
            except (aiohttp.ClientError, RuntimeError, OSError):
                await asyncio.sleep(0.1)
                if self.process.poll() is not None:
                    raise RuntimeError(f"{self.name} ended at once") from None
            else:
                break
        await sender.ask("CreateStream", StreamName="s", ShardCount=SHARDS)
        while True:
            told = await sender.ask("DescribeStreamSummary", StreamName="s")
            if told["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE":  # type: ignore[index]
                return sender
            await asyncio.sleep(0.1)

    async def __aexit__(self, *_: object) -> None:
        """Ends it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()

    def cpu_s(self) -> float:
        """CPU-seconds of its process so far."""
        fields = self._proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> float:
        """Its resident memory."""
        pages = int(self._proc("statm").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1024 / 1024

    def _proc(self, name: str) -> str:
        pid = self.process.pid if self.process else 0
        return Path(f"/proc/{pid}/{name}").read_text()


async def records_per_cpu_s(server: Server, calls: int) -> float:
    """Records that one CPU-second of a server takes."""
    ready = bodies(DEVICES)
    async with server as sender:
        await sender.put(ready, max(4, calls // 10))
        began_cpu_s = server.cpu_s()
        taken = await sender.put(ready, calls)
        spent_s = server.cpu_s() - began_cpu_s
        if taken != calls * BATCH:
            raise RuntimeError(f"{server.name} took {taken} of {calls * BATCH} records")
        await sender.session.close()
    return taken / spent_s


async def flatness(millions: int, part: int) -> None:
    """Prints what records cost, a million after the other, each read before the next is put."""
    print("| million | put, records per CPU-second | get, records per CPU-second | memory, MiB |")
    print("|---|---|---|---|")
    ready = bodies(DEVICES)
    server = Server(
        "local cloud",
        [sys.executable, "-m", "localcloud", "--port", "{port}"],
        {"FLEETCAST_KINESIS_MIB": str(MAX_MIB)},
    )
    async with server as sender:
        iterators = [
            await sender.ask(
                "GetShardIterator",
                StreamName="s",
                ShardId=f"shardId-{number:012d}",
                ShardIteratorType="TRIM_HORIZON",
            )
            for number in range(SHARDS)
        ]
        at = [told["ShardIterator"] for told in iterators]
        for number in range(millions):
            began_s = server.cpu_s()
            taken = await sender.put(ready, part // BATCH)
            put_s = server.cpu_s() - began_s
            got = 0
            for shard in range(SHARDS):
                while True:
                    answer = await sender.call(
                        "GetRecords", orjson.dumps({"ShardIterator": at[shard]})
                    )
                    got += answer.count(b'"SequenceNumber"')
                    told = orjson.loads(answer)
                    at[shard] = told["NextShardIterator"]
                    if not told["MillisBehindLatest"]:
                        break
            get_s = server.cpu_s() - began_s - put_s
            print(
                f"| {number + 1} | {taken / put_s:,.0f} | {got / get_s:,.0f} "
                f"| {server.memory_mib():,.0f} |",
                flush=True,
            )
        await sender.session.close()


def ministack(folder: Path) -> list[str]:
    """The command of ministack, installed into `folder`."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "ministack"], check=True)
    return [str(folder / "bin" / "ministack")]


async def main() -> None:
    """Prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the records")
    parser.add_argument("--millions", type=int, default=10, help="rows of the second table")
    options = parser.parse_args()
    scale = 10 if options.quick else 1
    print(f"PutRecords of {BATCH} records of 200 bytes, {AT_ONCE} requests at a time.\n")
    print("| server | records per CPU-second of the server | the local cloud does |")
    print("|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        moto = Server("moto", [sys.executable, "-m", "moto.server", "-p", "{port}"])
        other = Server("ministack", ministack(Path(folder)), {"GATEWAY_PORT": "{port}"})
        ours = Server("local cloud", [sys.executable, "-m", "localcloud", "--port", "{port}"])
        # Moto's reading of its own store grows with it: few calls are enough, and kind to it.
        costs = {
            "local cloud": await records_per_cpu_s(ours, 2000 // scale),
            "moto's server": await records_per_cpu_s(moto, 200 // scale),
            "ministack": await records_per_cpu_s(other, 200 // scale),
        }
    for name, rate in costs.items():
        print(f"| {name} | {rate:,.0f} | {costs['local cloud'] / rate:.1f} times that |")
    print()
    await flatness(options.millions, MILLION // scale)


if __name__ == "__main__":
    asyncio.run(main())
