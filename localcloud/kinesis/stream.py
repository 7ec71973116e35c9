"""One stream: its shards over time, where a key goes, and the settings that Describe tells."""

from __future__ import annotations

import bisect
import hashlib
import itertools
from dataclasses import dataclass, field
from typing import Any

from localcloud.http import AwsError
from localcloud.kinesis.limits import MIB, Clock
from localcloud.kinesis.shard import MAX_HASH_KEY, Shard
from localcloud.kinesis.throughput import Throughput

DEFAULT_RETENTION_HOURS = 24
PROVISIONED = "PROVISIONED"
ON_DEMAND = "ON_DEMAND"
USER_PARTITION_KEY = "USER_PARTITION_KEY"
AUTO = "AUTO"
# Routes that a stream remembers: a fleet's keys come again and again, and MD5 costs more than a
# look into a dictionary. When there are more keys than this, the routes start anew.
MAX_ROUTES = 131_072


def hash_key(partition_key: str) -> int:
    """The 128-bit hash key of a partition key: MD5, as the API reference says."""
    digest = hashlib.md5(partition_key.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest, "big")


@dataclass(slots=True, eq=False)
class Consumer:
    """A registered consumer of enhanced fan-out."""

    name: str
    arn: str
    created_s: float
    tags: dict[str, str] = field(default_factory=dict)
    policy: str | None = None


@dataclass(slots=True, eq=False)
class Stream:
    """A stream. `shards` holds closed ones too, oldest first, until their records have expired."""

    name: str
    arn: str
    mode: str
    created_s: float
    clock: Clock = field(default_factory=Clock)
    shards: list[Shard] = field(default_factory=list)
    retention_hours: int = DEFAULT_RETENTION_HOURS
    encryption_type: str = "NONE"
    key_id: str | None = None
    shard_metrics: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    policy: str | None = None
    consumers: dict[str, Consumer] = field(default_factory=dict)
    max_record_bytes: int = MIB
    distribution: str = USER_PARTITION_KEY
    warm_mib_per_s: int | None = None
    throughput: Throughput = field(init=False)
    history: dict[str, list[float]] = field(default_factory=dict)
    routes: dict[str, Shard] = field(default_factory=dict)
    dimensions: dict[str, str] = field(init=False)
    _open: list[Shard] = field(default_factory=list)
    _starts: list[int] = field(default_factory=list)
    _by_id: dict[str, Shard] = field(default_factory=dict)
    _made: int = 0
    _turns: itertools.cycle[Shard] | None = None

    def __post_init__(self) -> None:
        self.dimensions = {"StreamName": self.name}
        self.throughput = Throughput(self.clock.epoch_s())

    def add_even_shards(self, count: int) -> list[Shard]:
        """Creates `count` shards that split the hash space evenly; returns them."""
        starts = even_starts(count)
        ends = [*(start - 1 for start in starts[1:]), MAX_HASH_KEY]
        return [self.add_shard(start, end) for start, end in zip(starts, ends, strict=True)]

    def add_shard(
        self, start: int, end: int, parent: str | None = None, adjacent: str | None = None
    ) -> Shard:
        """Creates one shard over [start, end]."""
        shard = Shard(
            f"shardId-{self._made:012d}",
            self._made,
            start,
            end,
            self.clock.epoch_ms(),
            parent,
            adjacent,
            self.clock,
            self.max_record_bytes,
        )
        self._made += 1
        self.shards.append(shard)
        self._by_id[shard.shard_id] = shard
        self._index()
        return shard

    def close(self, shard: Shard) -> None:
        """Closes a shard for writing; its readers see its end."""
        shard.close()
        self._index()

    def split(self, shard: Shard, at: int) -> tuple[Shard, Shard]:
        """Replaces a shard by two, of which the second begins at hash key `at`."""
        self.close(shard)
        return (
            self.add_shard(shard.start_hash, at - 1, shard.shard_id),
            self.add_shard(at, shard.end_hash, shard.shard_id),
        )

    def merge(self, shard: Shard, adjacent: Shard) -> Shard:
        """Replaces two neighbours by one."""
        self.close(shard)
        self.close(adjacent)
        return self.add_shard(
            min(shard.start_hash, adjacent.start_hash),
            max(shard.end_hash, adjacent.end_hash),
            shard.shard_id,
            adjacent.shard_id,
        )

    def reshard(self, count: int) -> None:
        """Splits and merges until `count` even shards are open, as UpdateShardCount does.

        A bound that is already there within rounding stays. Shards that are split first and whose
        parts are then merged with a neighbour's are short-lived, as AWS says of its own.
        """
        starts = [self._snapped(start, count) for start in even_starts(count)]
        for start in starts:
            shard = self.shard_for(start)
            if shard.start_hash != start:
                self.split(shard, start)
        for low, end in zip(starts, [*starts[1:], MAX_HASH_KEY + 1], strict=True):
            shard = self.shard_for(low)
            while shard.end_hash + 1 < end:
                shard = self.merge(shard, self.shard_for(shard.end_hash + 1))

    def _snapped(self, start: int, count: int) -> int:
        near = [bound for bound in self._starts if abs(bound - start) <= count]
        return near[0] if near else start

    def _index(self) -> None:
        self._open = sorted(
            (shard for shard in self.shards if not shard.closed), key=lambda s: s.start_hash
        )
        self._starts = [shard.start_hash for shard in self._open]
        self.routes.clear()
        self._turns = None

    @property
    def open_shards(self) -> list[Shard]:
        """Shards that take writes, by hash range."""
        return self._open

    def shard_for(self, key: int) -> Shard:
        """The open shard whose range holds `key`."""
        return self._open[bisect.bisect_right(self._starts, key) - 1]

    def route(self, partition_key: str) -> Shard:
        """Where the records of a key go; remembered in `routes`."""
        if len(self.routes) >= MAX_ROUTES:
            self.routes.clear()
        shard = self.routes[partition_key] = self.shard_for(hash_key(partition_key))
        return shard

    def next_shard(self) -> Shard:
        """The open shard whose turn it is, where the service distributes records."""
        if self._turns is None:
            self._turns = itertools.cycle(self._open)
        return next(self._turns)

    def shard(self, shard_id: str) -> Shard:
        """The shard of that id.

        Raises:
            AwsError: ResourceNotFoundException.
        """
        shard = self._by_id.get(shard_id)
        if shard is None:
            raise AwsError(
                "ResourceNotFoundException",
                f"Could not find shard {shard_id} in stream {self.name}",
            )
        return shard

    def horizon_ms(self) -> int:
        """The oldest arrival that is still kept, but not before the stream began."""
        kept_ms = self.clock.epoch_ms() - self.retention_hours * 3_600_000
        return max(kept_ms, round(self.created_s * 1000))

    def trim(self) -> int:
        """Drops records, and closed shards, that are older than the retention.

        Returns:
            The bytes that became free.
        """
        before_ms = self.clock.epoch_ms() - self.retention_hours * 3_600_000
        freed = sum(shard.trim(before_ms) for shard in self.shards)
        for shard in list(self.shards):
            if shard.closed_ms is not None and shard.closed_ms < before_ms:
                self.shards.remove(shard)
                del self._by_id[shard.shard_id]
        return freed

    def allow_records_of(self, max_record_bytes: int) -> None:
        """Sets the largest record of the stream."""
        self.max_record_bytes = max_record_bytes
        for shard in self._open:
            shard.allow_records_of(max_record_bytes)

    def count_call(self, operation: str, most: int, within_s: float = 86_400) -> None:
        """Counts a call that AWS allows `most` times in a rolling window.

        Raises:
            AwsError: LimitExceededException.
        """
        now_s = self.clock.epoch_s()
        calls = [s for s in self.history.get(operation, ()) if s > now_s - within_s]
        if len(calls) >= most:
            raise AwsError(
                "LimitExceededException",
                f"{operation} can be called {most} times in {within_s / 3600:.0f} hours "
                f"on stream {self.name}",
            )
        self.history[operation] = [*calls, now_s]

    def children(self, parent: Shard) -> list[dict[str, Any]]:
        """The ChildShards that readers are told at the end of a shard."""
        found = []
        for shard in self.shards:
            parents = [name for name in (shard.parent, shard.adjacent_parent) if name]
            if parent.shard_id in parents:
                found.append(
                    {
                        "ShardId": shard.shard_id,
                        "ParentShards": parents,
                        "HashKeyRange": _range(shard),
                    }
                )
        return found


def even_starts(count: int) -> list[int]:
    """The first hash keys of `count` even shards."""
    width = (MAX_HASH_KEY + 1) // count
    return [index * width for index in range(count)]


def describe_shard(shard: Shard) -> dict[str, Any]:
    """The API's Shard structure."""
    sequence: dict[str, str] = {"StartingSequenceNumber": shard.starting_sequence_number}
    if shard.closed:
        sequence["EndingSequenceNumber"] = shard.sequence_number(shard.end_position)
    described: dict[str, Any] = {
        "ShardId": shard.shard_id,
        "HashKeyRange": _range(shard),
        "SequenceNumberRange": sequence,
    }
    if shard.parent:
        described["ParentShardId"] = shard.parent
    if shard.adjacent_parent:
        described["AdjacentParentShardId"] = shard.adjacent_parent
    return described


def _range(shard: Shard) -> dict[str, str]:
    return {"StartingHashKey": str(shard.start_hash), "EndingHashKey": str(shard.end_hash)}
