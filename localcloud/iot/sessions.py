"""Sessions: what the broker remembers of a client, connected or not."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from localcloud.iot.packets import publish

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.iot.packets import Message

# Of "AWS IoT Core message broker limits": unacknowledged messages, and queued ones of a session.
MAX_IN_FLIGHT = 100
MAX_QUEUED = 10_000
# How long a persistent session outlives its connection, where the client does not say.
EXPIRY_S = 3600
_LAST_PACKET_ID = 65535


class Session:
    """One client's subscriptions, and messages at QoS 1 on their way to it.

    Args:
        client_id: Whose.
        expiry_s: How long it outlives a connection; 0 is not at all.
    """

    def __init__(self, client_id: str, expiry_s: int) -> None:
        self.client_id = client_id
        self.expiry_s = expiry_s
        self.subscriptions: dict[str, int] = {}
        self.version = 0
        self.receive_maximum = MAX_IN_FLIGHT
        self._send: Callable[[bytes], None] | None = None
        self._queue: deque[Message] = deque()
        self._in_flight: dict[int, Message] = {}
        self._last_id = 0
        self._left_s = 0.0
        self.dropped = 0

    def attach(self, version: int, send: Callable[[bytes], None]) -> None:
        """The client is connected; `send` writes to it."""
        self.version, self._send = version, send

    def resume(self) -> None:
        """Sends again what was not acknowledged, and what came meanwhile."""
        if self._send is None:
            return
        for packet_id, message in self._in_flight.items():
            self._send(publish(self.version, message, packet_id, 1, again=True, retain=False))
        self._fill()

    def detach(self) -> None:
        """The client is gone."""
        self._send = None
        self._left_s = time.monotonic()

    def expired(self, now_s: float) -> bool:
        """Whether it has outlived its connection for long enough."""
        return self._send is None and now_s - self._left_s >= self.expiry_s

    def deliver(self, message: Message, qos: int, *, retain: bool = False) -> bool:
        """Sends a message to the client, or keeps it; whether either was done."""
        qos = min(qos, message.qos)
        if not qos:
            if self._send is None:
                return False
            self._send(publish(self.version, message, 0, 0, retain=retain))
            return True
        if len(self._queue) >= MAX_QUEUED:
            self.dropped += 1
            return False
        self._queue.append(message)
        self._fill()
        return True

    def acknowledged(self, packet_id: int) -> None:
        """The client has a message."""
        if self._in_flight.pop(packet_id, None) is not None:
            self._fill()

    def _fill(self) -> None:
        most = min(MAX_IN_FLIGHT, self.receive_maximum)
        while self._send is not None and self._queue and len(self._in_flight) < most:
            message = self._queue.popleft()
            packet_id = self._next_id()
            self._in_flight[packet_id] = message
            self._send(publish(self.version, message, packet_id, 1, retain=message.retain))

    def _next_id(self) -> int:
        while True:
            self._last_id = self._last_id % _LAST_PACKET_ID + 1
            if self._last_id not in self._in_flight:
                return self._last_id
