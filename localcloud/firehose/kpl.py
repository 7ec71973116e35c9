"""Records that the Kinesis Producer Library aggregated, taken apart again.

Format: "KPL Aggregated Record Format" in the producer library's repository: four magic bytes, a
protobuf message, and the MD5 of the message.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAGIC = b"\xf3\x89\x9a\xc2"
_DIGEST = 16
_KEYS_FIELD, _RECORDS_FIELD = 1, 3
_KEY_INDEX_FIELD, _DATA_FIELD = 1, 3
_VARINT, _BYTES = 0, 2


def split(data: bytes) -> list[tuple[bytes, str | None]]:
    """(data, partition key) of the user records inside a Kinesis record.

    A record that is not aggregated is its own user record, whose key is None: that of the record.
    """
    if not data.startswith(MAGIC) or len(data) <= len(MAGIC) + _DIGEST:
        return [(data, None)]
    message, digest = data[len(MAGIC) : -_DIGEST], data[-_DIGEST:]
    if hashlib.md5(message, usedforsecurity=False).digest() != digest:
        return [(data, None)]
    try:
        fields = list(_fields(message))
        keys = [str(inner, "utf-8", "replace") for field, inner in fields if field == _KEYS_FIELD]
        records: list[tuple[bytes, str | None]] = []
        for field, inner in fields:
            if field == _RECORDS_FIELD:
                members = dict(_fields(inner))
                records.append((bytes(members[_DATA_FIELD]), keys[int(members[_KEY_INDEX_FIELD])]))
    except (IndexError, KeyError, TypeError, ValueError):
        return [(data, None)]
    return records


def split_all(datas: Sequence[bytes]) -> list[list[tuple[bytes, str | None]]] | None:
    """As `split` of each; None where none of them is aggregated."""
    if MAGIC not in {data[: len(MAGIC)] for data in datas}:
        return None
    return [split(data) for data in datas]


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, bytes or number) of every field."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == _VARINT:
            number, at = _varint(message, at)
            yield tag >> 3, number
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
