"""Aggregated records in the format of the Kinesis Producer Library: many readings in one record.

Format: "KPL Aggregated Record Format" in the producer library's repository: four magic bytes, a
protobuf message with a table of partition keys and the user records, and the MD5 of the message.
Consumers of AWS's libraries, and Firehose, take it apart.

All records of a request are put together in columns, as one text; a record is a piece of it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from simulator import columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from simulator.columns import Column

MAGIC = b"\xf3\x89\x9a\xc2"
# The producer library's own default: large enough to pay, small enough for a throttled shard.
MAX_AGGREGATE = 50 * 1024
# Of a user record: tags, lengths and indexes; and the magic bytes and the digest of a record.
RECORD_OVERHEAD, OVERHEAD = 24, 20
_KEY, _KEY_INDEX, _RECORD = b"\x0a", b"\x08", b"\x1a"


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
_TAGGED = {
    tag: pa.array([tag + text for text in _VARINTS], columns.BINARY)
    for tag in (_KEY, _KEY_INDEX, _RECORD)
}


def _tagged(tag: bytes, numbers: NDArray[np.int64]) -> pa.Array:
    """A tag and a number for each reading."""
    if numbers.max(initial=0) < _SMALL:
        return columns.taken(_TAGGED[tag], numbers)
    return pa.array([tag + _varint(number) for number in numbers.tolist()], columns.BINARY)


def aggregate(
    payloads: Column[bytes],
    keys: Column[str],
    groups: NDArray[np.int64],
    owners: NDArray[np.int64] | None = None,
) -> list[bytes]:
    """Records of readings, a record of each group.

    Args:
        payloads: The readings.
        keys: Their partition keys.
        groups: How many readings, one after the other, each record has; at least 1.
        owners: Numbers that are as different as the keys are, where there are such.
    """
    if owners is None:
        owners = keys.array.dictionary_encode().indices.to_numpy()
    table, ends, indexes = _tables(keys, groups, owners)
    names = columns.as_bytes(table.array)
    heads = columns.side_by_side(_tagged(_KEY, columns.sizes(names)), names)
    sizes, index = payloads.sizes, _tagged(_KEY_INDEX, indexes)
    data = _tagged(_RECORD, sizes)
    inner = columns.sizes(index) + columns.sizes(data) + sizes
    records = columns.side_by_side(_tagged(_RECORD, inner), index, data, payloads.array)
    made = []
    told = columns.pieces(heads, ends), columns.pieces(records, groups.cumsum())
    for keyed, body in zip(*told, strict=True):
        digest = hashlib.md5(keyed, usedforsecurity=False)
        digest.update(body)
        made.append(b"".join((MAGIC, keyed, body, digest.digest())))
    return made


def _tables(
    keys: Column[str], groups: NDArray[np.int64], owners: NDArray[np.int64]
) -> tuple[Column[str], NDArray[np.int64], NDArray[np.int64]]:
    """(the records' tables of keys, where each of these ends, each reading's index in its own)."""
    count, ends = len(keys), groups.cumsum()
    in_order = np.sort(owners)
    if (in_order[1:] != in_order[:-1]).all():
        return keys, ends, np.arange(count) - np.repeat(ends - groups, groups)
    record = np.repeat(np.arange(len(groups)), groups)
    code = record * (int(in_order[-1]) + 1) + owners
    _, first, place = np.unique(code, return_index=True, return_inverse=True)
    ends = np.searchsorted(record[first], np.arange(len(groups)), side="right")
    begins = np.append(0, ends[:-1])
    return keys.take(first), ends, place - begins[record]
