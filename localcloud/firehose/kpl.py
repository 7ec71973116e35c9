"""Records that the Kinesis Producer Library aggregated, taken apart again.

Format: "KPL Aggregated Record Format" in the producer library's repository: four magic bytes, a
protobuf message, and the MD5 of the message.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"\xf3\x89\x9a\xc2"
_DIGEST = 16
_RECORDS_FIELD = 3
_DATA_FIELD = 3
_VARINT, _BYTES = 0, 2


def split(data: bytes) -> list[bytes]:
    """The user records inside a Kinesis record; the record itself where it is not aggregated."""
    if not data.startswith(MAGIC) or len(data) <= len(MAGIC) + _DIGEST:
        return [data]
    message, digest = data[len(MAGIC) : -_DIGEST], data[-_DIGEST:]
    if hashlib.md5(message, usedforsecurity=False).digest() != digest:
        return [data]
    try:
        return [
            inner
            for number, record in _fields(message)
            if number == _RECORDS_FIELD
            for field, inner in _fields(record)
            if field == _DATA_FIELD
        ]
    except (IndexError, ValueError):
        return [data]


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """(field number, bytes) of every length-delimited field."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == _VARINT:
            _, at = _varint(message, at)
        elif tag & 7 == _BYTES:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("field reaches beyond the message")
            yield tag >> 3, message[at : at + length]
            at += length
        else:
            raise ValueError("unknown wire type")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            return value, at
        shift += 7
