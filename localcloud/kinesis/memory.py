"""How much all streams together may hold, and which records give way when it is reached.

Counted is what the producers sent (data and partition keys) and 16 bytes a record. Beyond the
bound the oldest records that were read give way: those that every reader inside the process (event
source mappings, Firehose) has passed, or, in a stream that none of them reads, those that
GetRecords or SubscribeToShard has returned. What nobody has read is never dropped: writes are
refused instead.
"""

from __future__ import annotations

import heapq
import logging
from typing import TYPE_CHECKING, Any

from localcloud.durable.readers import KeptReaders, Place
from localcloud.kinesis.limits import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable

    from localcloud.kinesis.shard import Shard
    from localcloud.kinesis.stream import Stream

log = logging.getLogger(__name__)

# Below the bound by this part of it, so that making room is rare and not a matter of every call.
_ROOM = 1 / 16


class Readers:
    """How far each reader inside the process has come, by stream, reader and shard.

    Attributes:
        kept: Keeps it, where the cloud has a folder.
    """

    def __init__(self) -> None:
        self._positions: dict[str, dict[str, dict[str, int]]] = {}
        self.kept: KeptReaders | None = None

    def restore(self, kept: KeptReaders, stream_arns: Iterable[str]) -> None:
        """Takes back how far the readers of streams had come, and keeps it from now on."""
        for stream_arn in stream_arns:
            for reader, places in kept.of(stream_arn).items():
                for shard_id, place in places.items():
                    self.checkpoint(stream_arn, reader, shard_id, place.position)
        self.kept = kept

    def checkpoint(
        self, stream_arn: str, reader: str, shard_id: str, position: int, state: Any = None
    ) -> None:
        """Tells that a reader needs nothing before `position` any more, but for its `state`."""
        self._positions.setdefault(stream_arn, {}).setdefault(reader, {})[shard_id] = position
        if self.kept is not None:
            self.kept.moved(stream_arn, reader, shard_id, Place(position, state))

    def forget(self, stream_arn: str, reader: str) -> None:
        """Tells that a reader is gone."""
        readers = self._positions.get(stream_arn, {})
        readers.pop(reader, None)
        if not readers:
            self._positions.pop(stream_arn, None)
        if self.kept is not None:
            self.kept.forget(stream_arn, reader)

    def forget_stream(self, stream_arn: str) -> None:
        """Tells that a stream is gone: one that is made by its name begins anew."""
        self._positions.pop(stream_arn, None)
        if self.kept is not None:
            self.kept.forget(stream_arn)

    def passed(self, stream: Stream, shard: Shard) -> int:
        """The position before which nobody needs a shard's records."""
        readers = self._positions.get(stream.arn)
        if not readers:
            return shard.read_position
        return min(positions.get(shard.shard_id, 0) for positions in readers.values())


class Memory:
    """The bound on what streams hold.

    Args:
        max_bytes: Bytes that all streams together may hold.
        readers: Who tells what was read.
    """

    def __init__(self, max_bytes: int, readers: Readers) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0
        self.evicted_bytes = 0
        self.refused_records = 0
        self._readers = readers
        self._told = False

    def room(self, streams: Iterable[Stream]) -> bool:
        """Whether another call's records may be stored; makes room where some were read."""
        if self.held_bytes < self.max_bytes:
            return True
        self._evict(streams, int(self.max_bytes * (1 - _ROOM)))
        return self.held_bytes < self.max_bytes

    def _evict(self, streams: Iterable[Stream], wanted_bytes: int) -> None:
        passed = {
            shard: self._readers.passed(stream, shard)
            for stream in streams
            for shard in stream.shards
        }
        queue = [
            (oldest_ms, index, shard)
            for index, (shard, position) in enumerate(passed.items())
            if (oldest_ms := shard.oldest(position)) is not None
        ]
        heapq.heapify(queue)
        freed = 0
        while queue and self.held_bytes - freed > wanted_bytes:
            _, index, shard = heapq.heappop(queue)
            freed += shard.drop_oldest()
            oldest_ms = shard.oldest(passed[shard])
            if oldest_ms is not None:
                heapq.heappush(queue, (oldest_ms, index, shard))
        self.held_bytes -= freed
        self.evicted_bytes += freed
        if freed and not self._told:
            self._told = True
            log.warning(
                "streams reached FLEETCAST_KINESIS_MIB (%d): records that were read give way "
                "before their retention ends; raise it to keep more",
                self.max_bytes // MIB,
            )

    def forget(self, stream: Stream) -> None:
        """Gives back what a deleted stream held."""
        self.held_bytes -= sum(shard.bytes_held for shard in stream.shards)
        self._readers.forget_stream(stream.arn)

    def status(self) -> dict[str, Any]:
        """What is held, and what the bound cost."""
        return {
            "held_mib": round(self.held_bytes / MIB, 1),
            "max_mib": self.max_bytes // MIB,
            "evicted_mib": round(self.evicted_bytes / MIB, 1),
            "refused_records": self.refused_records,
        }
