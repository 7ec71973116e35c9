"""One MQTT connection: kept open, its readings published at QoS 1, taken up again when it breaks.

A reading is on its way from its PUBLISH to its PUBACK. What is on its way when a connection ends may
have landed or not; it is published again, as MQTT asks of QoS 1, so that it may land twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiomqtt

from simulator.transports.mqttclient import MqttClient

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from simulator.transports import Traffic
    from simulator.transports.mqttreading import Reading

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


@dataclass(slots=True)
class Shared:
    """What the connections of a run share.

    Attributes:
        traffic: Counts.
        done: Is told a reading when its outcome is decided.
        admit: Waits for a connection's turn in the ramp.
        attempts: Most times that a reading is published.
        in_flight: Readings on their way.
    """

    traffic: Traffic
    done: Callable[[Reading], None]
    admit: Callable[[], Awaitable[None]]
    attempts: int
    in_flight: int = 0


class Link:
    """One connection with its readings.

    Args:
        host: The broker.
        port: Its port.
        client_id: As whom.
        tls: With which certificate.
        shared: What it has in common with others.
    """

    def __init__(
        self, host: str, port: int, client_id: str, tls: Callable[[], ssl.SSLContext], shared: Shared
    ) -> None:  # fmt: skip
        self._host, self._port = host, port
        self.client_id = client_id
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        self._shared = shared
        self._queue: deque[Reading] = deque()
        # By the ids of their messages, the oldest first.
        self._sending: dict[int, Reading] = {}
        # Where readings are published; None where there is no connection, or one that is over.
        self._client: MqttClient | None = None
        # Why the connection is over, when nobody told: it was refused, silent, or is cut off (None).
        self._over: asyncio.Future[aiomqtt.MqttError | None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._allowed = asyncio.Event()
        self._allowed.set()
        self._abandoned = False
        self._emptied = asyncio.Event()
        # Set once the first connection stands, or failed for good.
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

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

    def send(self, reading: Reading) -> None:
        """Takes a reading."""
        self._queue.append(reading)
        self._publish()

    def cut(self) -> None:
        """Drops the connection, as where the network is gone; `restore` lets it come back."""
        self._allowed.clear()
        self._end(None)

    def restore(self) -> None:
        """Lets the connection come back."""
        self._allowed.set()

    async def close(self) -> None:
        """Ends the connection with a DISCONNECT."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def abandon(self, grace_s: float) -> None:
        """Publishes nothing more; waits for what is on its way, then gives everything an outcome."""
        self._abandoned = True
        if self._sending:
            self._emptied.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self._emptied.wait()
        await self.close()
        # What was on its way when this was closed is among it.
        while self._queue:
            reading = self._queue.popleft()
            reading.given_up()
            self._shared.done(reading)

    # Connections

    async def _run(self) -> None:
        failures = 0
        while True:
            await self._allowed.wait()
            await self._shared.admit()
            began_s = time.monotonic()
            connection = self._made()
            try:
                async with connection as client:
                    if not self.opened.done():
                        self.opened.set_result(None)
                    failures = 0
                    await self._talk(client)
            except (aiomqtt.MqttError, OSError) as error:
                self._shared.traffic.failed(error)
                if isinstance(error, aiomqtt.MqttCodeError) and not self.opened.done():
                    # Refused by the broker before it was ever accepted: trying again helps nobody.
                    self.opened.set_exception(error)
                    return
            finally:
                connection.discard()
                self._requeue()
            if self._allowed.is_set():
                failures += 1
                low, high = BACKOFF_S
                wait_s = random.uniform(0, min(high, low * 2.0**failures))  # noqa: S311 - jitter
                took_s = time.monotonic() - began_s
                await asyncio.sleep(max(0.0, wait_s - took_s) if failures > 1 else wait_s)

    def _made(self) -> MqttClient:
        if self._context is None:
            self._context = self._tls()
        return MqttClient(
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

    async def _talk(self, client: MqttClient) -> None:
        """Publishes until the connection ends or is cut off.

        Raises:
            MqttError: it ended.
        """
        self._over = asyncio.get_running_loop().create_future()
        if not self._allowed.is_set():
            self._end(None)
        client.landed = self._landed
        self._client = client
        try:
            self._publish()
            lost = client.disconnected
            ends: list[asyncio.Future[Any]] = [lost, self._over]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            # Nothing more is published, but what is read counts.
            self._client = None
            if self._over.done():
                why = self._over.result()
                if why is not None:
                    raise why
                if _sever(client):
                    await asyncio.wait([lost])
            error = lost.exception() if lost.done() else None
            raise aiomqtt.MqttError(f"the connection ended: {error or 'cut off'}") from error
        finally:
            self._client = None
            if self._watch is not None:
                self._watch.cancel()
                self._watch = None

    def _end(self, why: aiomqtt.MqttError | None) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(why)

    # Readings

    def _publish(self) -> None:
        """Publishes what waits, as far as the window goes."""
        client, shared = self._client, self._shared
        if client is None or self._abandoned:
            return
        traffic, now_ns, now_s = shared.traffic, time.time_ns(), time.monotonic()
        while self._queue and len(self._sending) < WINDOW:
            reading = self._queue.popleft()
            reading.sent_ns = reading.sent_ns or now_ns
            reading.begun_s = now_s
            reading.attempts += 1
            payload = reading.payload
            traffic.requests += 1
            traffic.records += 1
            traffic.bytes += len(payload)
            traffic.retries += reading.attempts > 1
            try:
                number = client.begin(reading.topic, payload)
            except aiomqtt.MqttError as error:
                # The connection is over, whether it was told or not.
                self._client = None
                self._again(reading)
                self._end(aiomqtt.MqttError(f"nothing can be published: {error}"))
                return
            self._sending[number] = reading
            shared.in_flight += 1
        if self._sending and self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(ACK_S, self._look)

    def _look(self) -> None:
        """Ends a connection whose oldest message was not acknowledged for too long."""
        self._watch = None
        if not self._sending:
            return
        left_s = next(iter(self._sending.values())).begun_s + ACK_S - time.monotonic()
        if left_s > 0:
            self._watch = asyncio.get_running_loop().call_later(left_s, self._look)
        else:
            self._end(aiomqtt.MqttError(f"no acknowledgement within {ACK_S:.0f} s"))

    def _landed(self, numbers: list[int]) -> None:
        now_ns, shared = time.time_ns(), self._shared
        for number in numbers:
            reading = self._sending.pop(number, None)
            if reading is not None:
                reading.acknowledged(now_ns)
                shared.in_flight -= 1
                shared.done(reading)
        if self._queue:
            self._publish()
        if not self._sending:
            self._emptied.set()

    def _again(self, reading: Reading) -> None:
        """A reading without an acknowledgement goes first when the connection is back."""
        reading.maybe = True
        if reading.attempts >= self._shared.attempts:
            self._shared.done(reading)
        else:
            self._queue.appendleft(reading)

    def _requeue(self) -> None:
        """Takes back what was on its way, in its order."""
        self._shared.in_flight -= len(self._sending)
        for reading in reversed(self._sending.values()):
            self._again(reading)
        self._sending.clear()
        self._emptied.set()


def _sever(client: aiomqtt.Client) -> bool:
    """Closes the socket without a DISCONNECT, as a network does; whether there was one."""
    paho = client._client  # noqa: SLF001 - aiomqtt has no word for it
    sock: Any = paho.socket()
    if sock is not None:
        with contextlib.suppress(OSError):
            # That of ssl would let paho read on below TLS.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
    return sock is not None
