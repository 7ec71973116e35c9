"""MQTT 3.1.1 and 5 on the wire: bytes to packets and packets to bytes.

Follows the OASIS specifications "MQTT Version 3.1.1" and "MQTT Version 5.0".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 8, 9, 10, 11, 12, 13, 14
V311, V5 = 4, 5

_TWO, _FOUR = struct.Struct(">H"), struct.Struct(">I")
_MAX_LENGTH_BYTES = 4
# The types of MQTT 5's properties by their identifiers.
_PROPERTIES = {
    0x01: "byte", 0x02: "four", 0x03: "text", 0x08: "text", 0x09: "binary", 0x0B: "varint",
    0x11: "four", 0x12: "text", 0x13: "two", 0x15: "text", 0x16: "binary", 0x17: "byte",
    0x18: "four", 0x19: "byte", 0x1A: "text", 0x1C: "text", 0x1F: "text", 0x21: "two",
    0x22: "two", 0x23: "two", 0x24: "byte", 0x25: "byte", 0x26: "pair", 0x27: "four",
    0x28: "byte", 0x29: "byte", 0x2A: "byte",
}  # fmt: skip
USER_PROPERTY, SUBSCRIPTION_ID = 0x26, 0x0B
SESSION_EXPIRY, RECEIVE_MAXIMUM, TOPIC_ALIAS, MAXIMUM_PACKET = 0x11, 0x21, 0x23, 0x27
WILL_DELAY = 0x18
# Those of a message that go on to its subscribers.
_FORWARDED = (0x01, 0x02, 0x03, 0x08, 0x09, USER_PROPERTY)

Properties = dict[int, Any]


class MalformedError(Exception):
    """Bytes that are no packet."""


@dataclass(frozen=True, slots=True)
class Message:
    """An application message.

    Attributes:
        topic: Its topic.
        payload: Its bytes.
        qos: 0 or 1 (2 where a client asks for what is not served).
        retain: Whether it is kept for later subscribers.
        properties: MQTT 5's, by identifier.
    """

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Connect:
    """A client's first packet."""

    version: int
    client_id: str
    clean: bool
    keep_alive_s: int
    will: Message | None
    properties: Properties


@dataclass(frozen=True, slots=True)
class Publish:
    """A message from a client; `packet_id` is 0 at QoS 0."""

    message: Message
    packet_id: int


@dataclass(frozen=True, slots=True)
class Subscribe:
    """(filter, QoS) pairs, or filters alone of an UNSUBSCRIBE with QoS 0."""

    packet_id: int
    topics: list[tuple[str, int]]


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        part = self._data[self.at : self.at + count]
        if len(part) != count:
            raise MalformedError("a packet ends too early")
        self.at += count
        return part

    def byte(self) -> int:
        return self.take(1)[0]

    def two(self) -> int:
        return int(_TWO.unpack(self.take(2))[0])

    def four(self) -> int:
        return int(_FOUR.unpack(self.take(4))[0])

    def varint(self) -> int:
        value = 0
        for place in range(_MAX_LENGTH_BYTES):
            byte = self.byte()
            value |= (byte & 0x7F) << (7 * place)
            if not byte & 0x80:
                return value
        raise MalformedError("a number has too many bytes")

    def binary(self) -> bytes:
        return self.take(self.two())

    def text(self) -> str:
        try:
            found = self.binary().decode()
        except UnicodeDecodeError as error:
            raise MalformedError("a text is not UTF-8") from error
        if "\0" in found:
            raise MalformedError("a text holds the null character")
        return found

    def pair(self) -> tuple[str, str]:
        return self.text(), self.text()

    def properties(self) -> Properties:
        found: Properties = {}
        length = self.varint()
        end = self.at + length
        while self.at < end:
            name = self.varint()
            kind = _PROPERTIES.get(name)
            if kind is None:
                raise MalformedError(f"property {name} is unknown")
            value = getattr(self, kind)()
            if name in {USER_PROPERTY, SUBSCRIPTION_ID}:
                found.setdefault(name, []).append(value)
            elif name in found:
                raise MalformedError(f"property {name} is there twice")
            else:
                found[name] = value
        if self.at != end:
            raise MalformedError("properties are longer than they say")
        return found

    def rest(self) -> bytes:
        return self._data[self.at :]

    @property
    def left(self) -> int:
        return len(self._data) - self.at


def frame_length(buffer: bytearray) -> tuple[int, int] | None:
    """(bytes of the fixed header, bytes after it) of the first packet; None where more is needed.

    Raises:
        MalformedError: its length is none.
    """
    length = 0
    for place in range(1, _MAX_LENGTH_BYTES + 1):
        if place >= len(buffer):
            return None
        byte = buffer[place]
        length |= (byte & 0x7F) << (7 * (place - 1))
        if not byte & 0x80:
            return place + 1, length
    raise MalformedError("a packet's length has too many bytes")


def read_connect(body: bytes) -> Connect:
    """A CONNECT packet.

    Raises:
        MalformedError: it is none; also where it asks for another protocol.
    """
    reader = _Reader(body)
    if reader.text() != "MQTT":
        raise MalformedError("the protocol is not MQTT")
    version = reader.byte()
    if version not in {V311, V5}:
        raise MalformedError(f"protocol level {version} is not served: use MQTT 3.1.1 or 5")
    flags, keep_alive_s = reader.byte(), reader.two()
    if flags & 1:
        raise MalformedError("a reserved flag is set")
    properties = reader.properties() if version == V5 else {}
    client_id = reader.text()
    will = None
    if flags & 0x04:
        will_properties = reader.properties() if version == V5 else {}
        topic, payload = reader.text(), reader.binary()
        will = Message(topic, payload, flags >> 3 & 3, bool(flags & 0x20), will_properties)
    elif flags & 0x38:
        raise MalformedError("flags of a last will without one")
    if flags & 0x80:
        reader.text()
    if flags & 0x40:
        reader.binary()
    if reader.left:
        raise MalformedError("a CONNECT has more than it says")
    return Connect(version, client_id, bool(flags & 0x02), keep_alive_s, will, properties)


def read_publish(flags: int, body: bytes, version: int) -> Publish:
    """A PUBLISH packet.

    Raises:
        MalformedError: it is none.
    """
    qos = flags >> 1 & 3
    if qos == 3:  # noqa: PLR2004 - of two bits
        raise MalformedError("QoS 3 does not exist")
    reader = _Reader(body)
    topic = reader.text()
    packet_id = reader.two() if qos else 0
    if qos and not packet_id:
        raise MalformedError("packet identifier 0")
    properties = reader.properties() if version == V5 else {}
    return Publish(
        Message(topic, reader.rest(), qos, bool(flags & 1), properties), packet_id
    )  # fmt: skip


def read_subscribe(body: bytes, version: int) -> Subscribe:
    """A SUBSCRIBE packet.

    Raises:
        MalformedError: it is none.
    """
    reader = _Reader(body)
    packet_id = reader.two()
    if version == V5:
        reader.properties()
    topics = []
    while reader.left:
        topics.append((reader.text(), reader.byte() & 3))
    if not topics or not packet_id:
        raise MalformedError("a SUBSCRIBE without a topic or an identifier")
    return Subscribe(packet_id, topics)


def read_unsubscribe(body: bytes, version: int) -> Subscribe:
    """An UNSUBSCRIBE packet.

    Raises:
        MalformedError: it is none.
    """
    reader = _Reader(body)
    packet_id = reader.two()
    if version == V5:
        reader.properties()
    topics = []
    while reader.left:
        topics.append((reader.text(), 0))
    return Subscribe(packet_id, topics)


def read_puback(body: bytes) -> int:
    """The packet identifier of a PUBACK.

    Raises:
        MalformedError: it is none.
    """
    return _Reader(body).two()


def read_disconnect(body: bytes, version: int) -> tuple[int, Properties]:
    """(reason, properties) of a DISCONNECT; 4 is one that keeps the last will.

    Raises:
        MalformedError: it is none.
    """
    if version != V5 or not body:
        return 0, {}
    reader = _Reader(body)
    reason = reader.byte()
    return reason, reader.properties() if reader.left else {}


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, byte = value >> 7, value & 0x7F
        out.append(byte | 0x80 if value else byte)
        if not value:
            return bytes(out)


def _text(value: str) -> bytes:
    data = value.encode()
    return _TWO.pack(len(data)) + data


def _encoded(properties: Properties) -> bytes:
    out = bytearray()
    for name, several in properties.items():
        for value in several if isinstance(several, list) else [several]:
            out += _varint(name)
            kind = _PROPERTIES[name]
            if kind == "byte":
                out.append(value)
            elif kind == "two":
                out += _TWO.pack(value)
            elif kind == "four":
                out += _FOUR.pack(value)
            elif kind == "varint":
                out += _varint(value)
            elif kind == "text":
                out += _text(value)
            elif kind == "pair":
                out += _text(value[0]) + _text(value[1])
            else:
                out += _TWO.pack(len(value)) + value
    return _varint(len(out)) + bytes(out)


def _packet(kind: int, body: bytes, flags: int = 0) -> bytes:
    return bytes([kind << 4 | flags]) + _varint(len(body)) + body


def connack(version: int, *, present: bool, reason: int, properties: Properties) -> bytes:
    """A CONNACK."""
    body = bytes([int(present), reason])
    return _packet(CONNACK, body + _encoded(properties) if version == V5 else body)


def puback(version: int, packet_id: int, reason: int = 0) -> bytes:
    """A PUBACK."""
    body = _TWO.pack(packet_id)
    if version == V5 and reason:
        body += bytes([reason])
    return _packet(PUBACK, body)


def suback(version: int, packet_id: int, reasons: list[int]) -> bytes:
    """A SUBACK."""
    head = _TWO.pack(packet_id) + (b"\0" if version == V5 else b"")
    return _packet(SUBACK, head + bytes(reasons))


def unsuback(version: int, packet_id: int, reasons: list[int]) -> bytes:
    """An UNSUBACK."""
    head = _TWO.pack(packet_id)
    return _packet(UNSUBACK, head + b"\0" + bytes(reasons) if version == V5 else head)


def publish(
    version: int, message: Message, packet_id: int, qos: int, *, again: bool = False, retain: bool
) -> bytes:
    """A PUBLISH to a subscriber."""
    body = _text(message.topic)
    if qos:
        body += _TWO.pack(packet_id)
    if version == V5:
        kept = {name: message.properties[name] for name in _FORWARDED if name in message.properties}
        body += _encoded(kept)
    return _packet(PUBLISH, body + message.payload, again << 3 | qos << 1 | retain)


def disconnect(reason: int) -> bytes:
    """A DISCONNECT, which MQTT 5 alone has from a server."""
    return _packet(DISCONNECT, bytes([reason, 0]))


PONG = _packet(PINGRESP, b"")
