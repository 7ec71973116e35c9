"""A server that takes any PutRecords, as cheaply as may be: the other side of what is measured.

Run as a module it serves on the port that it is given.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import orjson

from fleetcast.cloudctl import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAM, SHARDS = "s", 10
SHARD_IDS = [f"shardId-{number:012d}" for number in range(SHARDS)]
HASHES = [2**128 * number // SHARDS for number in range(SHARDS + 1)]


class Sink(asyncio.Protocol):
    """Answers Kinesis requests as cheaply as may be."""

    answers: ClassVar[dict[int, bytes]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the connection."""
        self.transport = transport
        self.buffer = bytearray()

    def data_received(self, data: bytes) -> None:
        """Answers every whole request."""
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.buffer[:end]).lower()
            at = head.index(b"content-length:") + 15
            size = int(head[at:].split(b"\r", 1)[0])
            if len(self.buffer) < end + 4 + size:
                return
            body = bytes(self.buffer[end + 4 : end + 4 + size])
            del self.buffer[: end + 4 + size]
            self.transport.write(self.answer(head, body))  # type: ignore[attr-defined]

    def answer(self, head: bytes, body: bytes) -> bytes:
        """The answer to a request."""
        if b".putrecords" in head:
            count = body.count(b'"PartitionKey"')
            if count not in self.answers:
                self.answers[count] = _http({"FailedRecordCount": 0, "Records": records(count)})
            return self.answers[count]
        summary = {
            "StreamName": STREAM, "StreamARN": f"arn:aws:kinesis:us-east-1:1:stream/{STREAM}",
            "StreamStatus": "ACTIVE", "RetentionPeriodHours": 24, "OpenShardCount": SHARDS,
            "StreamCreationTimestamp": 1.7e9, "EnhancedMonitoring": [], "MaxRecordSizeInKiB": 1024,
        }  # fmt: skip
        shards = [
            {
                "ShardId": shard,
                "HashKeyRange": {"StartingHashKey": str(first), "EndingHashKey": str(last - 1)},
                "SequenceNumberRange": {"StartingSequenceNumber": "1"},
            }
            for shard, first, last in zip(SHARD_IDS, HASHES, HASHES[1:], strict=False)
        ]
        described = {**summary, "Shards": shards, "HasMoreShards": False}
        return _http(
            {
                "StreamDescriptionSummary": summary,
                "StreamDescription": described,
                "Shards": shards,
            }
        )


def records(count: int) -> list[dict[str, str]]:
    """An answer's records, all taken."""
    first = 49_600_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000
    return [
        {"SequenceNumber": str(first + n), "ShardId": SHARD_IDS[n % SHARDS]} for n in range(count)
    ]


def _http(answer: object) -> bytes:
    body = orjson.dumps(answer)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


async def serve(port: int) -> None:
    """Runs the sink for ever."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port)
    await server.serve_forever()


@dataclass(frozen=True)
class Running:
    """A sink in a process of its own."""

    port: int
    process: subprocess.Popen[bytes]

    def stall(self) -> None:
        """Takes nothing and answers nothing until `go_on`."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Ends a stall."""
        os.kill(self.process.pid, signal.SIGCONT)


@contextlib.contextmanager
def running() -> Iterator[Running]:
    """Starts a sink, and ends it afterwards."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", __spec__.name, str(port)])
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        yield Running(port, process)
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
