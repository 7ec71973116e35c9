"""Bodies of PutRecords requests, put together in columns: Base64 and all.

The text of a request is JSON, `{"StreamName":..,"Records":[{"Data":..,"PartitionKey":..},..]}`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import orjson
import pyarrow as pa
import pybase64

from simulator import columns, kpl
from simulator.columns import Column

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from simulator.batch import Batch
    from simulator.transports.shards import ShardMap

# So many readings are put together as fast one by one as in columns.
FEW = 200
_BETWEEN = b'","'
_KEY, _NEXT, _END = b'","PartitionKey":"', b'"},{"Data":"', b'"}]}'
_KEY_PART, _NEXT_PART = columns.constant(_KEY), columns.constant(_NEXT)
# Base64 takes three bytes at a time: what fills up texts, by how much more than threes they have.
_FILL = pa.array([b"", b"\0\0", b"\0"], columns.BINARY)
_NOTHING_THERE = ord("=")
_SPACE, _QUOTE, _BACKSLASH = b' "\\'


def record_texts(payloads: Column[bytes], keys: Column[str]) -> Column[bytes]:
    """Readings that are a record each as they stand in requests, to be sent as often as need be."""
    if len(payloads) < FEW:
        coded = map(pybase64.b64encode, payloads)
        named = orjson.dumps(keys.tolist())[2:-2].split(_BETWEEN)
        return columns.of_bytes(
            [b"".join((data, _KEY, key, _NEXT)) for data, key in zip(coded, named, strict=True)]
        )
    return Column(
        columns.side_by_side(_base64(payloads.array), _KEY_PART, _json_texts(keys), _NEXT_PART)
    )


def plain_body(stream: str, records: Column[bytes]) -> bytes:
    """The body of a request with records that `record_texts` made."""
    return b"".join((_head(stream), columns.whole(records.array)[: -len(_NEXT)], _END))


def aggregated_body(
    stream: str, batch: Batch, groups: NDArray[np.int64], shards: ShardMap
) -> bytes:
    """The body of a request in which every group of readings is a record.

    A reading that is alone goes as it is; others go under the first one's key, with the hash key
    of their shard, so that the record goes where they belong.
    """
    parts = [_head(stream)]
    firsts = groups.cumsum() - groups
    keys = batch.keys.take(firsts)
    owners = np.ascontiguousarray(batch.rows["device"]) if batch.own_keys else None
    told = zip(
        groups.tolist(), firsts.tolist(),
        kpl.aggregate(batch.payloads, batch.keys, groups, owners),
        keys.tolist(), _json_texts(keys).to_pylist(), strict=True,
    )  # fmt: skip
    for count, first, record, key, key_text in told:
        if count == 1:
            parts += [pybase64.b64encode(batch.payloads[first]), _KEY, key_text, _NEXT]
        else:
            hash_key = shards.hash_keys[shards.of_key(key)].encode()
            where = b'","ExplicitHashKey":"' + hash_key + _KEY
            parts += [pybase64.b64encode(record), where, key_text, _NEXT]
    parts[-1] = _END
    return b"".join(parts)


def _head(stream: str) -> bytes:
    return b'{"StreamName":' + orjson.dumps(stream) + b',"Records":[{"Data":"'


def _base64(texts: pa.Array) -> pa.Array:
    """Each text in Base64."""
    over = columns.sizes(texts) % 3
    filled = columns.side_by_side(texts, columns.taken(_FILL, over))
    coded = bytearray(pybase64.b64encode(columns.whole(filled)))
    at = columns.bounds(filled)
    ends = (at[1:] - at[0]) // 3 * 4
    places = np.frombuffer(coded, np.uint8)
    places[ends[over > 0] - 1] = _NOTHING_THERE
    places[ends[over == 1] - 2] = _NOTHING_THERE
    return columns.cut(coded, ends)


def _json_texts(keys: Column[str]) -> pa.Array:
    """Texts as they stand between the quotes of a JSON string."""
    text = np.frombuffer(columns.whole(keys.array), np.uint8)
    if not ((text < _SPACE) | (text == _QUOTE) | (text == _BACKSLASH)).any():
        return columns.as_bytes(keys.array)
    return pa.array(orjson.dumps(keys.tolist())[2:-2].split(b'","'), columns.BINARY)
