"""Aggregated records in the format of the Kinesis Producer Library: many readings in one record.

Format: "KPL Aggregated Record Format" in the producer library's repository: four magic bytes, a
protobuf message with a table of partition keys, a table of explicit hash keys and the user
records, and the MD5 of the message. Consumers of AWS's libraries, and Firehose, take it apart.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

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
_INDEXES = [_KEY_INDEX + text for text in _VARINTS]
# The head of a user record around data of a size, for indexes of two bytes and of three.
_AROUND, _AROUND_MORE = (
    [_RECORD + _varint(index + len(head) + size) for size, head in enumerate(_RECORD_HEADS)]
    for index in (2, 3)
)
_SHORT = 128


def aggregate(
    payloads: Sequence[bytes], keys: Sequence[str], hash_keys: Sequence[str | None] = ()
) -> bytes:
    """One record of some readings.

    Args:
        payloads: The readings.
        keys: Their partition keys.
        hash_keys: Their explicit hash keys, if any has one; None of those that do not.
    """
    table = list(dict.fromkeys(keys))
    parts = [_keys(table)]
    if len(table) == len(keys):
        indexes = _indexes(len(keys))
    else:
        places = {key: _index(place) for place, key in enumerate(table)}
        indexes = [places[key] for key in keys]
    if any(hash_keys):
        known = {key: n for n, key in enumerate(dict.fromkeys(k for k in hash_keys if k))}
        parts += [_field(_HASH_KEY, key.encode()) for key in known]
        indexes = [
            index + (_HASH_KEY_INDEX + _varint(known[key]) if key else b"")
            for index, key in zip(indexes, hash_keys, strict=True)
        ]
    sizes = list(map(len, payloads))
    small = max(sizes) < _SMALL
    heads = [_RECORD_HEADS[size] for size in sizes] if small else list(map(_head, sizes))
    if small and not any(hash_keys) and len(table) == len(keys):
        # An index below 128 has two bytes with its tag, one below 16,384 has three.
        outer = [_AROUND[size] for size in sizes[:128]]
        outer += [_AROUND_MORE[size] for size in sizes[128:]]
    else:
        outer = [
            _head(len(index) + len(head) + size)
            for index, head, size in zip(indexes, heads, sizes, strict=True)
        ]
    records = [b""] * (4 * len(payloads))
    records[0::4], records[1::4], records[2::4], records[3::4] = outer, indexes, heads, payloads
    message = b"".join(parts + records)
    digest = hashlib.md5(message, usedforsecurity=False).digest()
    return b"".join((MAGIC, message, digest))


def _keys(table: Sequence[str]) -> bytes:
    """The table of partition keys."""
    size = len(table[0])
    if size < _SHORT and len(set(map(len, table))) == 1:
        # Tag and length are characters of ASCII: one text of all, if the keys are of ASCII, too.
        head = _KEY.decode() + chr(size)
        text = (head + head.join(table)).encode()
        if len(text) == (size + 2) * len(table):
            return text
    return b"".join([_field(_KEY, key.encode()) for key in table])


def _indexes(count: int) -> list[bytes]:
    """The indexes of `count` keys, one after the other."""
    if count <= _SMALL:
        return _INDEXES[:count]
    return [_index(number) for number in range(count)]


def _index(number: int) -> bytes:
    return _INDEXES[number] if number < _SMALL else _KEY_INDEX + _varint(number)


def _head(length: int) -> bytes:
    return _RECORD_HEADS[length] if length < _SMALL else _RECORD + _varint(length)


def _field(tag: bytes, value: bytes) -> bytes:
    return tag + _varint(len(value)) + value
