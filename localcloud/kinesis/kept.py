"""The records of streams, kept in a log for each stream.

A segment of a log is removed when none of its records is held any more, so that the logs take no
more than the streams hold, and a segment. Each begins with how far the shards are, since the
records that tell it may be gone.
"""

from __future__ import annotations

import struct
from array import array
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from localcloud.kinesis.segment import Accepted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from localcloud.durable.folder import Folder
    from localcloud.durable.log import Log
    from localcloud.kinesis.shard import Shard
    from localcloud.kinesis.stream import Stream

KIND = "streams"
_LENGTH = struct.Struct("<I")


class Put(NamedTuple):
    """What one call puts into one shard."""

    shard: Shard
    first: int
    accepted: Accepted


class _Kept:
    """The log of one stream.

    Attributes:
        ends: By segment, the position after the last record of each shard in it.
    """

    def __init__(self, log: Log) -> None:
        self.log = log
        self.ends: dict[int, dict[str, int]] = {}

    def noted(self, segment: int, shard_id: str, end: int) -> None:
        ends = self.ends.setdefault(segment, {})
        ends[shard_id] = max(ends.get(shard_id, 0), end)


class KeptStreams:
    """The logs of all streams.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._kept: dict[str, _Kept] = {}

    def begin(self, stream: Stream) -> None:
        """Begins the log of a stream that was made."""
        self._folder.forget(KIND, stream.name)
        self._kept[stream.name] = _Kept(self._folder.log(KIND, stream.name))

    def end(self, stream: Stream) -> None:
        """Removes the log of a stream that is gone."""
        kept = self._kept.pop(stream.name, None)
        if kept is not None:
            kept.log.close()
        self._folder.forget(KIND, stream.name)

    def append(self, stream: Stream, puts: Sequence[Put]) -> None:
        """Writes what a call puts into a stream.

        Raises:
            NotKeptError: it could not be written.
        """
        kept = self._kept[stream.name]
        entries = [_encoded(stream, put) for put in puts]
        if kept.log.full:
            entries.insert(0, _standing(stream))
        segment = kept.log.append(entries)
        for put in puts:
            end = put.first + len(put.accepted.datas)
            kept.noted(segment, put.shard.shard_id, end)

    def trim(self, stream: Stream) -> None:
        """Removes the oldest segments, as far as their records are not held any more."""
        kept = self._kept[stream.name]
        first = {shard.shard_id: shard.first_position for shard in stream.shards}
        for segment in kept.log.segments[:-1]:
            ends = kept.ends.get(segment, {})
            if any(shard in first and end > first[shard] for shard, end in ends.items()):
                return
            kept.log.drop(segment)
            kept.ends.pop(segment, None)

    def restore(self, streams: Iterable[Stream]) -> Iterator[int]:
        """Puts the records back into streams that were made again; gives the bytes of each put.

        Raises:
            TargetError: a log is damaged.
        """
        known = {stream.name: stream for stream in streams}
        self._folder.keep_only(KIND, known)
        for name, stream in known.items():
            kept = self._kept[name] = _Kept(self._folder.log(KIND, name))
            shards = {shard.shard_id: shard for shard in stream.shards}
            for segment, entry in kept.log.entries():
                (length,) = _LENGTH.unpack_from(entry)
                head = orjson.loads(entry[_LENGTH.size : _LENGTH.size + length])
                if head.get("created_ms") != _created_ms(stream):
                    # Left behind by a stream of this name that was being deleted.
                    continue
                for shard_id, (end, read) in head.get("standing", {}).items():
                    if shard_id in shards:
                        shards[shard_id].stand_at(end, read)
                shard = shards.get(head.get("shard", ""))
                if shard is not None:
                    accepted = _accepted(head, entry[_LENGTH.size + length :])
                    added = shard.restore(accepted, head["first"])
                    kept.noted(segment, shard.shard_id, shard.end_position)
                    yield added

    def close(self) -> None:
        """Ends writing."""
        for kept in self._kept.values():
            kept.log.close()


def _created_ms(stream: Stream) -> int:
    return round(stream.created_s * 1000)


def _standing(stream: Stream) -> bytes:
    """How far the shards of a stream are."""
    standing = {
        shard.shard_id: (shard.end_position, shard.read_position) for shard in stream.shards
    }
    head = orjson.dumps({"created_ms": _created_ms(stream), "standing": standing})
    return _LENGTH.pack(len(head)) + head


def _encoded(stream: Stream, put: Put) -> bytes:
    accepted = put.accepted
    head = orjson.dumps(
        {
            "created_ms": _created_ms(stream),
            "shard": put.shard.shard_id,
            "first": put.first,
            "arrival_ms": accepted.arrival_ms,
            "size": accepted.size,
            "encryption": accepted.encryption_type,
            "count": len(accepted.datas),
        }
    )
    keys = [key.encode() for key in accepted.keys]
    return b"".join(
        [
            _LENGTH.pack(len(head)),
            head,
            array("I", map(len, keys)).tobytes(),
            array("I", map(len, accepted.datas)).tobytes(),
            *keys,
            *accepted.datas,
        ]
    )


def _accepted(head: dict[str, Any], content: bytes) -> Accepted:
    count = head["count"]
    lengths = array("I")
    at = 2 * count * lengths.itemsize
    lengths.frombytes(content[:at])
    found = []
    for length in lengths:
        found.append(content[at : at + length])
        at += length
    keys = [key.decode() for key in found[:count]]
    return Accepted(keys, found[count:], head["size"], head["arrival_ms"], head["encryption"])
