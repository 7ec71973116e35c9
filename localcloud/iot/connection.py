"""One client's connection: bytes to packets, the order of packets, keep-alive, and its end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from localcloud.iot import packets
from localcloud.iot.packets import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.iot.broker import Broker
    from localcloud.iot.devices import Device
    from localcloud.iot.packets import Message
    from localcloud.iot.sessions import Session

# A payload has 128 KiB at most; what MQTT 5 may put around it is more than a topic.
MAX_PAYLOAD = 128 * 1024
MAX_PACKET = MAX_PAYLOAD + 16 * 1024
# How long a client may take to send its CONNECT.
CONNECT_S = 30.0
KEEP_ALIVE_S = (30, 1200)
# What a client may leave unread before it is given up.
MAX_UNREAD = 8 * 1024 * 1024
NORMAL, WITH_WILL = 0x00, 0x04
MALFORMED, PROTOCOL, NOT_AUTHORIZED, TOO_LARGE = 0x81, 0x82, 0x87, 0x95
TAKEN_OVER, TIMEOUT, SHUTTING_DOWN, NO_QOS2 = 0x8E, 0x8D, 0x8B, 0x9B


class Connection(asyncio.Protocol):
    """A connection after its TLS handshake.

    Args:
        broker: Who decides.
        identify: Tells whose certificate a transport has; None where nobody may have it.

    Attributes:
        session: Of its client; None before CONNECT was accepted.
        version: Of the protocol; 0 before CONNECT.
        will: What is published when it ends without a DISCONNECT.
        reason: Why it ended, as IoT Core's lifecycle events name it.
    """

    device: Device

    def __init__(
        self, broker: Broker, identify: Callable[[asyncio.BaseTransport], Device | None]
    ) -> None:
        self._broker = broker
        self._identify = identify
        self.session: Session | None = None
        self.version = 0
        self.will: Message | None = None
        self.reason = "CONNECTION_LOST"
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._watch: asyncio.TimerHandle | None = None
        self._keep_alive_s = CONNECT_S
        self._heard_s = 0.0
        self._waiting = False

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins to wait for CONNECT."""
        device = self._identify(transport)
        if device is None:
            transport.close()
            return
        self.device = device
        self._transport = transport  # type: ignore[assignment] # of a stream
        loop = asyncio.get_running_loop()
        self._heard_s = loop.time()
        self._watch = loop.call_later(CONNECT_S, self._look)

    def data_received(self, data: bytes) -> None:
        """Takes bytes."""
        if self._transport is None:
            return
        self._heard_s = asyncio.get_running_loop().time()
        self._buffer += data
        self._read()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Ends the client's connection, whichever side closed it."""
        if self._watch is not None:
            self._watch.cancel()
        self._transport = None
        self._broker.ended(self)

    # For the broker

    @property
    def closing(self) -> bool:
        """Whether nothing more is read from it."""
        return self._transport is None or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Sends bytes; a client that reads nothing for long is dropped."""
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > MAX_UNREAD:
            self.reason = "CLIENT_ERROR"
            self._transport.abort()

    def keep_alive(self, asked_s: int) -> int:
        """Sets how long the client may be silent; returns what was set."""
        least, most = KEEP_ALIVE_S
        taken_s = most if asked_s == 0 or asked_s > most else max(least, asked_s)
        self._keep_alive_s = taken_s * 1.5
        self._again()
        return taken_s

    def wait(self) -> None:
        """Reads nothing more until `go_on`: the rules are behind."""
        if self._transport is not None and not self._waiting:
            self._waiting = True
            self._transport.pause_reading()

    def go_on(self) -> None:
        """Reads again."""
        if not self._waiting:
            return
        self._waiting = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._heard_s = asyncio.get_running_loop().time()
            self._read()

    def close(self, why: str, code: int = NORMAL, *, last: bytes = b"") -> None:
        """Ends it; MQTT 5 is told why."""
        if self._transport is None or self._transport.is_closing():
            return
        self.reason = why
        if last:
            self._transport.write(last)
        elif self.version == packets.V5 and self.session is not None:
            self._transport.write(packets.disconnect(code))
        self._transport.close()

    def leave(self) -> None:
        """The client said that it goes."""
        self.reason = "CLIENT_INITIATED_DISCONNECT"
        if self._transport is not None:
            self._transport.close()

    # Packets

    def _read(self) -> None:
        try:
            while not self._waiting and not self.closing and (frame := self._frame()) is not None:
                self._take(*frame)
        except MalformedError as error:
            self._broker.refused(self, "CLIENT_ERROR", str(error))
            self.close("CLIENT_ERROR", MALFORMED)

    def _frame(self) -> tuple[int, int, bytes] | None:
        """(kind, flags, body) of the next packet; None where more is needed."""
        if self.session is None and self._buffer and self._buffer[0] >> 4 != packets.CONNECT:
            raise MalformedError("the first packet is no CONNECT")
        found = packets.frame_length(self._buffer)
        if found is None:
            return None
        head, length = found
        if length > MAX_PACKET:
            self._too_large(length)
            return None
        if len(self._buffer) < head + length:
            return None
        first, body = self._buffer[0], bytes(self._buffer[head : head + length])
        del self._buffer[: head + length]
        return first >> 4, first & 0x0F, body

    def _too_large(self, size: int) -> None:
        self._broker.refused(
            self, "CLIENT_ERROR", f"a message of {size} bytes: at most {MAX_PAYLOAD} are taken"
        )
        self._buffer.clear()
        self.close("CLIENT_ERROR", TOO_LARGE)

    def _take(self, kind: int, flags: int, body: bytes) -> None:
        if self.session is None:
            connect = packets.read_connect(body)
            self.version = connect.version
            self._broker.connect(self, connect)
        elif kind == packets.PUBLISH:
            told = packets.read_publish(flags, body, self.version)
            if len(told.message.payload) > MAX_PAYLOAD:
                self._too_large(len(told.message.payload))
            else:
                self._broker.publish(self, told)
        elif kind == packets.PUBACK:
            self.session.acknowledged(packets.read_puback(body))
        elif kind == packets.PINGREQ:
            self._broker.ping(self)
        elif kind == packets.SUBSCRIBE:
            self._broker.subscribe(self, packets.read_subscribe(body, self.version))
        elif kind == packets.UNSUBSCRIBE:
            self._broker.unsubscribe(self, packets.read_unsubscribe(body, self.version))
        elif kind == packets.DISCONNECT:
            code, properties = packets.read_disconnect(body, self.version)
            if code != WITH_WILL:
                self.will = None
            self.session.expiry_s = properties.get(packets.SESSION_EXPIRY, self.session.expiry_s)
            self.leave()
        else:
            raise MalformedError(f"a packet of type {kind} from a client")

    # Keep-alive

    def _again(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        loop = asyncio.get_running_loop()
        due_s = self._heard_s + self._keep_alive_s - loop.time()
        self._watch = loop.call_later(max(0.01, due_s), self._look)

    def _look(self) -> None:
        """Ends a client that was silent for too long; one that waits for us is not."""
        loop = asyncio.get_running_loop()
        if self._waiting or loop.time() - self._heard_s < self._keep_alive_s:
            if self._waiting:
                self._heard_s = loop.time()
            self._again()
            return
        if self.session is None:
            self._broker.refused(self, "CLIENT_ERROR", f"no CONNECT within {CONNECT_S:.0f} s")
        self.close("MQTT_KEEP_ALIVE_TIMEOUT", TIMEOUT)
