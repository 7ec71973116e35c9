"""Records that a producer aggregated, taken apart into the readings that they hold.

Format: "KPL Aggregated Record Format" in the Kinesis Producer Library's repository: four magic
bytes, a protobuf message, and the MD5 of the message. A record that only looks like one is left as
it is; what it is not then shows when it is checked.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"\xf3\x89\x9a\xc2"
_DIGEST = 16
_KEYS_FIELD, _RECORDS_FIELD = 1, 3
_KEY_INDEX_FIELD, _DATA_FIELD = 1, 3
_VARINT, _BYTES = 0, 2
_VARINT_BITS = 64


def split(data: bytes) -> list[tuple[bytes, str]] | None:
    """(data, partition key) of what is inside a record; None if it is not aggregated."""
    if not data.startswith(MAGIC) or len(data) <= len(MAGIC) + _DIGEST:
        return None
    message = data[len(MAGIC) : -_DIGEST]
    if hashlib.md5(message, usedforsecurity=False).digest() != data[-_DIGEST:]:
        return None
    keys: list[str] = []
    members: list[dict[int, Any]] = []
    try:
        for field, value in _fields(message):
            if field == _KEYS_FIELD:
                keys.append(str(value, "utf-8"))
            elif field == _RECORDS_FIELD:
                members.append(dict(_fields(value)))
        found = [(member[_DATA_FIELD], keys[member[_KEY_INDEX_FIELD]]) for member in members]
        if all(isinstance(payload, bytes) for payload, _ in found):
            return found or None
    except (IndexError, KeyError, TypeError, ValueError):
        pass
    return None


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, bytes or number) of every field."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == _VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value
        elif tag & 7 == _BYTES:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("a field reaches beyond the message")
            yield tag >> 3, message[at : at + length]
            at += length
        else:
            raise ValueError("a wire type that the format does not have")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = message[at]
    at += 1
    if value < 0x80:  # noqa: PLR2004 - the continuation bit
        return value, at
    value &= 0x7F
    for shift in range(7, _VARINT_BITS, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            return value, at
    raise ValueError("a number without an end")
