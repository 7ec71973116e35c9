"""A broker without TLS, and a client without one, for what a connection does with its readings."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

import aiomqtt
import numpy as np

from localcloud.iot import packets
from simulator.batch import ROW, Batch
from simulator.columns import of_bytes, of_texts
from simulator.transports.mqttreading import Reading

SOON_S = 20


async def at_once() -> None:
    pass


def readings_of(count: int, size: int = 0) -> list[Reading]:
    """Readings of one batch, whose payloads begin with their places."""
    rows = np.zeros(count, ROW)
    rows["seq"] = np.arange(count)
    payloads = [b"%d" % place + b" " * size for place in range(count)]
    keys = of_texts([f"k{place}" for place in range(count)])
    batch = Batch(rows, of_bytes(payloads), keys, 99)
    return [Reading(batch, place, "t") for place in range(count)]


class Broker:
    """Takes connections without TLS; what it does with a message is for a test to say.

    Attributes:
        acknowledges: Whether it acknowledges what it takes.
        reads: Cleared, it reads nothing after CONNECT.
        taken: Payloads of each connection.
    """

    def __init__(self) -> None:
        self.acknowledges = True
        self.reads = asyncio.Event()
        self.reads.set()
        self.taken: list[list[bytes]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.break_off()

    def break_off(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def until_taken(self, count: int) -> None:
        async with asyncio.timeout(SOON_S):
            while sum(map(len, self.taken)) < count:  # noqa: ASYNC110 - a test's patience
                await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        mine: list[bytes] = []
        self.taken.append(mine)
        buffer = bytearray()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                buffer += data
                while (found := packets.frame_length(buffer)) and len(buffer) >= sum(found):
                    head, length = found
                    first, body = buffer[0], bytes(buffer[head : head + length])
                    del buffer[: head + length]
                    self._take(first, body, mine, writer)
                await self.reads.wait()

    def _take(
        self, first: int, body: bytes, mine: list[bytes], writer: asyncio.StreamWriter
    ) -> None:
        if first >> 4 == packets.CONNECT:
            writer.write(packets.connack(packets.V311, present=False, reason=0, properties={}))
        elif first >> 4 == packets.PUBLISH:
            told = packets.read_publish(first & 15, body, packets.V311)
            mine.append(told.message.payload.rstrip())
            if self.acknowledges:
                writer.write(packets.puback(packets.V311, told.packet_id))


class Stub:
    """A client that says what was published, and may refuse."""

    def __init__(self, refuses_after: int) -> None:
        self.published: list[bytes] = []
        self._left = refuses_after

    def begin(self, topic: str, payload: bytes) -> int:
        if not self._left:
            raise aiomqtt.MqttCodeError(4, "Could not publish message")
        self._left -= 1
        self.published.append(payload)
        return len(self.published)
