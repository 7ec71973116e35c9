"""One stream: its shards over time, and the settings that DescribeStream tells."""

from __future__ import annotations

import bisect
import hashlib
import time
from dataclasses import dataclass, field
from typing import Any

from localcloud.http import AwsError
from localcloud.kinesis.shard import MAX_HASH_KEY, Shard

DEFAULT_RETENTION_HOURS = 24


def hash_key(partition_key: str) -> int:
    """The 128-bit hash key of a partition key: MD5, as the API reference says."""
    digest = hashlib.md5(partition_key.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest, "big")


@dataclass(slots=True)
class Stream:
    """A stream. `shards` holds closed ones too, oldest first."""

    name: str
    arn: str
    mode: str
    created_s: float
    shards: list[Shard] = field(default_factory=list)
    retention_hours: int = DEFAULT_RETENTION_HOURS
    encryption_type: str = "NONE"
    key_id: str | None = None
    shard_metrics: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    _open: list[Shard] = field(default_factory=list)
    _starts: list[int] = field(default_factory=list)

    def add_even_shards(self, count: int) -> list[Shard]:
        """Creates `count` shards that split the hash space evenly; returns them."""
        width = (MAX_HASH_KEY + 1) // count
        made = []
        for index in range(count):
            end = MAX_HASH_KEY if index == count - 1 else (index + 1) * width - 1
            made.append(self.add_shard(index * width, end))
        return made

    def add_shard(
        self, start: int, end: int, parent: str | None = None, adjacent: str | None = None
    ) -> Shard:
        """Creates one shard over [start, end]."""
        number = len(self.shards)
        shard = Shard(
            f"shardId-{number:012d}", number, start, end, int(time.time() * 1000), parent, adjacent
        )
        self.shards.append(shard)
        self._index()
        return shard

    def close(self, shard: Shard) -> None:
        """Closes a shard for writing; its readers see its end."""
        shard.closed = True
        shard.wake()
        self._index()

    def _index(self) -> None:
        self._open = sorted(
            (shard for shard in self.shards if not shard.closed), key=lambda s: s.start_hash
        )
        self._starts = [shard.start_hash for shard in self._open]

    @property
    def open_shards(self) -> list[Shard]:
        """Shards that take writes, by hash range."""
        return self._open

    def shard_for(self, key: int) -> Shard:
        """The open shard whose range holds `key`."""
        return self._open[bisect.bisect_right(self._starts, key) - 1]

    def shard(self, shard_id: str) -> Shard:
        """The shard of that id.

        Raises:
            AwsError: ResourceNotFoundException.
        """
        for shard in self.shards:
            if shard.shard_id == shard_id:
                return shard
        raise AwsError(
            "ResourceNotFoundException",
            f"Could not find shard {shard_id} in stream {self.name}",
        )

    def reshard(self, count: int) -> None:
        """Replaces the open shards by `count` even ones, as UpdateShardCount does at its end.

        Each new shard names the old shards that its range begins and ends in as its parents.
        """
        old = list(self._open)
        for shard in old:
            self.close(shard)
        for made in self.add_even_shards(count):
            parents = [
                shard
                for shard in old
                if shard.start_hash <= made.end_hash and shard.end_hash >= made.start_hash
            ]
            made.parent = parents[0].shard_id
            made.adjacent_parent = parents[-1].shard_id if len(parents) > 1 else None

    def trim(self) -> int:
        """Drops records older than the retention; returns how many."""
        before_ms = int((time.time() - self.retention_hours * 3600) * 1000)
        return sum(shard.trim(before_ms) for shard in self.shards)

    def describe_shard(self, shard: Shard) -> dict[str, Any]:
        """The API's Shard structure."""
        sequence: dict[str, str] = {"StartingSequenceNumber": shard.first_sequence_number}
        if shard.closed:
            sequence["EndingSequenceNumber"] = shard.sequence_number(shard.end_position)
        described: dict[str, Any] = {
            "ShardId": shard.shard_id,
            "HashKeyRange": {
                "StartingHashKey": str(shard.start_hash),
                "EndingHashKey": str(shard.end_hash),
            },
            "SequenceNumberRange": sequence,
        }
        if shard.parent:
            described["ParentShardId"] = shard.parent
        if shard.adjacent_parent:
            described["AdjacentParentShardId"] = shard.adjacent_parent
        return described
