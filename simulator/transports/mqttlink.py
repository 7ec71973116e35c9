"""One MQTT connection: kept open, its readings published at QoS 1, taken up again when it breaks.

A reading is on its way from its PUBLISH to its PUBACK. What is on its way when a connection ends may
have landed or not; it is published again, as MQTT asks of QoS 1, so that it may land twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import aiomqtt

from simulator.batch import ACKED, UNKNOWN
from simulator.transports.mqttclient import MqttClient

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from simulator.batch import Batch
    from simulator.transports import Traffic

# IoT Core takes so many unacknowledged messages of a connection.
WINDOW = 100
KEEP_ALIVE_S = 60
CONNECT_S = 10.0
# A broker that is connected and silent for so long about a message is given up.
ACK_S = 30.0
BACKOFF_S = (0.5, 20.0)
SESSION_EXPIRY = 0x11

# What paho has to say of a broken connection is counted here, and told by the ledger.
_SILENT = logging.getLogger("simulator.transports.paho")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False

# A reading on its way: its batch, and its place in it.
Reading = tuple["Batch", int, str]


class Link:
    """One connection with its readings.

    Args:
        host: The broker.
        port: Its port.
        client_id: As whom.
        tls: With which certificate.
        attempts: Most times that a reading is published.
        traffic: Counts.
        done: Is told a reading when its outcome is decided.
        admit: Waits for the connection's turn in the ramp.
    """

    def __init__(
        self,
        host: str,
        port: int,
        client_id: str,
        tls: Callable[[], ssl.SSLContext],
        *,
        attempts: int,
        traffic: Traffic,
        done: Callable[[Batch, int], None],
        admit: Callable[[], Awaitable[None]],
    ) -> None:
        self._host, self._port = host, port
        self.client_id = client_id
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        self._attempts = attempts
        self._traffic = traffic
        self._done = done
        self._admit = admit
        self._queue: deque[Reading] = deque()
        self._sending: dict[asyncio.Task[None], Reading] = {}
        self._wake = asyncio.Event()
        # What a publish was refused with: the connection is over, whether it was told or not.
        self._refused: BaseException | None = None
        self._task: asyncio.Task[None] | None = None
        self._allowed = asyncio.Event()
        self._allowed.set()
        self._cut = asyncio.Event()
        # Set once the first connection stands, or failed for good.
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.connected = False

    @property
    def queued(self) -> int:
        """Readings that wait."""
        return len(self._queue)

    @property
    def in_flight(self) -> int:
        """Readings on their way."""
        return len(self._sending)

    def start(self) -> None:
        """Begins to connect."""
        self._task = asyncio.create_task(self._run())

    def send(self, batch: Batch, place: int, topic: str) -> None:
        """Takes a reading."""
        self._queue.append((batch, place, topic))
        self._wake.set()

    def cut(self) -> None:
        """Drops the connection, as where the network is gone; `restore` lets it come back."""
        self._allowed.clear()
        self._cut.set()

    def restore(self) -> None:
        """Lets the connection come back."""
        self._cut.clear()
        self._allowed.set()

    async def close(self) -> None:
        """Ends the connection with a DISCONNECT."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def abandon(self, grace_s: float) -> None:
        """Publishes nothing more; waits for what is on its way, then gives everything an outcome."""
        waiting, self._queue = self._queue, deque()
        if self._sending and self.connected:
            await asyncio.wait(self._sending, timeout=grace_s)
        await self.close()
        # What was published again to wait while this was closed is among it.
        for batch, place, _ in [*waiting, *self._queue]:
            batch.part(place, place + 1).fail()
            self._done(batch, place)
        self._queue.clear()

    async def _run(self) -> None:
        failures = 0
        while True:
            await self._allowed.wait()
            await self._admit()
            began_s = time.monotonic()
            connection = self._client()
            try:
                async with connection as client:
                    self.connected = True
                    if not self.opened.done():
                        self.opened.set_result(None)
                    failures = 0
                    await self._talk(client)
            except (aiomqtt.MqttError, OSError) as error:
                self._traffic.failed(error)
                if isinstance(error, aiomqtt.MqttCodeError) and not self.opened.done():
                    # Refused by the broker before it was ever accepted: trying again helps nobody.
                    self.opened.set_exception(error)
                    return
            finally:
                self.connected = False
                connection.discard()
                await self._requeue()
            if self._allowed.is_set():
                failures += 1
                low, high = BACKOFF_S
                wait_s = random.uniform(0, min(high, low * 2.0**failures))  # noqa: S311 - jitter
                took_s = time.monotonic() - began_s
                await asyncio.sleep(max(0.0, wait_s - took_s) if failures > 1 else wait_s)

    def _client(self) -> MqttClient:
        if self._context is None:
            self._context = self._tls()
        client = MqttClient(
            self._host,
            self._port,
            identifier=self.client_id,
            clean_session=False,
            keepalive=KEEP_ALIVE_S,
            timeout=CONNECT_S,
            tls_context=self._context,
            max_inflight_messages=WINDOW,
            logger=_SILENT,
        )
        client.pending_calls_threshold = WINDOW
        return client

    async def _talk(self, client: aiomqtt.Client) -> None:
        """Publishes until the connection ends or is cut off.

        Raises:
            MqttError: it ended.
        """
        watches = [
            asyncio.create_task(self._publishing(client)),
            asyncio.create_task(_until_lost(client)),
            asyncio.create_task(self._cut.wait()),
        ]
        try:
            await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
            for watch in watches[:2]:
                if watch.done():
                    watch.result()
            if self._cut.is_set():
                watches[0].cancel()
                _sever(client)
                await watches[1]
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)

    async def _publishing(self, client: aiomqtt.Client) -> None:
        self._refused = None
        while True:
            if self._refused is not None:
                raise aiomqtt.MqttError(f"nothing can be published: {self._refused}")
            while self._queue and len(self._sending) < WINDOW:
                reading = self._queue.popleft()
                task = asyncio.create_task(self._publish(client, reading))
                self._sending[task] = reading
                task.add_done_callback(self._landed)
            self._wake.clear()
            late = ACK_S if self._sending else None
            try:
                # Not `wait_for`: in Python 3.11 it forgets that it was cancelled, if it was just woken.
                async with asyncio.timeout(late):
                    await self._wake.wait()
            except TimeoutError as error:
                raise aiomqtt.MqttError(f"no acknowledgement within {ACK_S:.0f} s") from error

    async def _publish(self, client: aiomqtt.Client, reading: Reading) -> None:
        batch, place, topic = reading
        rows, payload = batch.rows, batch.payloads[place]
        now_ns = time.time_ns()
        if not rows["sent_ns"][place]:
            rows["sent_ns"][place] = now_ns
        rows["attempts"][place] += 1
        rows["outcome"][place] = UNKNOWN
        traffic = self._traffic
        traffic.requests += 1
        traffic.records += 1
        traffic.bytes += len(payload)
        traffic.retries += int(rows["attempts"][place] > 1)
        await client.publish(topic, payload, qos=1, timeout=math.inf)
        rows["acked_ns"][place] = time.time_ns()
        rows["outcome"][place] = ACKED

    def _landed(self, task: asyncio.Task[None]) -> None:
        reading = self._sending.pop(task)
        self._wake.set()
        if task.cancelled():
            self._again(reading)
        elif task.exception() is not None:
            self._refused = task.exception()
            self._again(reading)
        else:
            self._done(reading[0], reading[1])

    def _again(self, reading: Reading) -> None:
        """A reading without an acknowledgement goes first when the connection is back."""
        batch, place, _ = reading
        batch.rows["maybe"][place] = True
        if batch.rows["attempts"][place] >= self._attempts:
            self._done(batch, place)
        else:
            self._queue.append(reading)

    async def _requeue(self) -> None:
        """Takes back what was on its way, in its order."""
        waiting, self._queue = self._queue, deque()
        tasks = list(self._sending)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Their callbacks ran before that of `gather`, which was added after them.
        self._queue.extend(waiting)
        self._wake.set()


async def _until_lost(client: aiomqtt.Client) -> None:
    async for _ in client.messages:
        pass


def _sever(client: aiomqtt.Client) -> None:
    """Closes the socket without a DISCONNECT, as a network does."""
    paho = client._client  # noqa: SLF001 - aiomqtt has no word for it
    sock: Any = paho.socket()
    if sock is not None:
        with contextlib.suppress(OSError):
            # That of ssl would let paho read on below TLS.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
