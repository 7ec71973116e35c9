"""Aggregated records in the format of the Kinesis Producer Library: many readings in one record.

Format: "KPL Aggregated Record Format" in the producer library's repository: four magic bytes, a
protobuf message with a table of partition keys, a table of explicit hash keys and the user
records, and the MD5 of the message. Consumers of AWS's libraries, and Firehose, take it apart.
"""

from __future__ import annotations

import hashlib
from itertools import chain, repeat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAGIC = b"\xf3\x89\x9a\xc2"
# The producer library's own default: large enough to pay, small enough for a throttled shard.
MAX_AGGREGATE = 50 * 1024
# Of a user record: tags, lengths and indexes; and the magic bytes and the digest of a record.
RECORD_OVERHEAD, OVERHEAD = 24, 20
_KEY, _HASH_KEY, _RECORD = b"\x0a", b"\x12", b"\x1a"
_KEY_INDEX, _HASH_KEY_INDEX = b"\x08", b"\x10"


def _varint(number: int) -> bytes:
    """A number in protobuf's base-128 form."""
    parts = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits a byte
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


_SMALL = 16384
_VARINTS = [_varint(number) for number in range(_SMALL)]
_RECORD_HEADS = [_RECORD + text for text in _VARINTS]
_KEY_HEADS = [_KEY + text for text in _VARINTS[:2048]]
_INDEXES = [_KEY_INDEX + text for text in _VARINTS]


def aggregate(
    payloads: Sequence[bytes], keys: Sequence[str], hash_keys: Sequence[str | None] = ()
) -> bytes:
    """One record of some readings.

    Args:
        payloads: The readings.
        keys: Their partition keys.
        hash_keys: Their explicit hash keys, if any has one; None of those that do not.
    """
    texts = [key.encode() for key in keys]
    table = dict.fromkeys(texts)
    if len(table) == len(texts):
        indexes: Iterable[bytes] = _indexes(range(len(texts)))
    else:
        places = {key: place for place, key in enumerate(table)}
        indexes = _indexes([places[key] for key in texts])
    parts = [_field(_KEY, key) if len(key) >= len(_KEY_HEADS) else _KEY_HEADS[len(key)] + key
             for key in table]  # fmt: skip
    if any(hash_keys):
        known = {key: n for n, key in enumerate(dict.fromkeys(k for k in hash_keys if k))}
        parts += [_field(_HASH_KEY, key.encode()) for key in known]
        indexes = [
            index + (_HASH_KEY_INDEX + _varint(known[key]) if key else b"")
            for index, key in zip(indexes, hash_keys, strict=True)
        ]
    indexes = list(indexes)
    heads = [_head(len(payload)) for payload in payloads]
    outer = [
        _head(len(index) + len(head) + len(payload))
        for index, head, payload in zip(indexes, heads, payloads, strict=True)
    ]
    parts += chain.from_iterable(zip(outer, indexes, heads, payloads, strict=True))
    message = b"".join(parts)
    return MAGIC + message + hashlib.md5(message, usedforsecurity=False).digest()


def _indexes(numbers: Sequence[int]) -> list[bytes]:
    if len(numbers) <= _SMALL:
        return [_INDEXES[number] for number in numbers]
    return list(map(b"".join, zip(repeat(_KEY_INDEX), map(_varint, numbers), strict=False)))


def _head(length: int) -> bytes:
    return _RECORD_HEADS[length] if length < _SMALL else _RECORD + _varint(length)


def _field(tag: bytes, value: bytes) -> bytes:
    return tag + _varint(len(value)) + value
