"""`application/vnd.amazon.eventstream`: messages of an answer that goes on.

The format is that of "Event stream encoding" in AWS's documentation: a prelude of two lengths and
its CRC, headers, the payload, and the CRC of all of it.
"""

from __future__ import annotations

import struct
import zlib

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_STRING = 7


def event(kind: str, payload: bytes, content_type: str) -> bytes:
    """An event message."""
    return _message(
        {":message-type": "event", ":event-type": kind, ":content-type": content_type}, payload
    )


def exception(kind: str, payload: bytes, content_type: str) -> bytes:
    """A message that tells an error, after which the stream ends."""
    return _message(
        {":message-type": "exception", ":exception-type": kind, ":content-type": content_type},
        payload,
    )


def _message(headers: dict[str, str], payload: bytes) -> bytes:
    packed = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", _STRING, len(value))
        + value.encode()
        for name, value in headers.items()
    )  # fmt: skip
    prelude = struct.pack("!II", 12 + len(packed) + len(payload) + 4, len(packed))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + packed + payload
    return message + struct.pack("!I", zlib.crc32(message))
