"""SplitShard, MergeShards, UpdateShardCount, and the splits that an on-demand stream does itself."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from localcloud.http import AwsError
from localcloud.kinesis.control import STREAM_SHARDS
from localcloud.kinesis.shard import MAX_HASH_KEY
from localcloud.kinesis.stream import ON_DEMAND

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.kinesis.control import ControlPlane
    from localcloud.kinesis.shard import Shard
    from localcloud.kinesis.stream import Stream

log = logging.getLogger(__name__)

UPDATES_A_DAY = 10


class Resharding:
    """Operations that change which shards are open.

    Args:
        control: Where the streams are.
    """

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    def operations(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """The operations by API name."""
        return {
            "SplitShard": self._split_shard,
            "MergeShards": self._merge_shards,
            "UpdateShardCount": self._update_shard_count,
        }

    def _split_shard(self, body: dict[str, Any]) -> None:
        stream = self._provisioned(body, "SplitShard")
        shard = _open_shard(stream, body["ShardToSplit"])
        text = body["NewStartingHashKey"]
        if not isinstance(text, str) or not text.isdecimal() or int(text) > MAX_HASH_KEY:
            raise AwsError("InvalidArgumentException", f"NewStartingHashKey {text!r} is invalid")
        at = int(text)
        if not shard.start_hash < at <= shard.end_hash:
            raise AwsError(
                "InvalidArgumentException",
                f"NewStartingHashKey {at} is not inside the range of {shard.shard_id}",
            )
        self._control.require_shards(1)
        stream.split(shard, at)

    def _merge_shards(self, body: dict[str, Any]) -> None:
        stream = self._provisioned(body, "MergeShards")
        one = _open_shard(stream, body["ShardToMerge"])
        other = _open_shard(stream, body["AdjacentShardToMerge"])
        low, high = sorted((one, other), key=lambda shard: shard.start_hash)
        if low.end_hash + 1 != high.start_hash:
            raise AwsError(
                "InvalidArgumentException",
                f"shards {one.shard_id} and {other.shard_id} are not adjacent",
            )
        stream.merge(one, other)

    def _update_shard_count(self, body: dict[str, Any]) -> dict[str, Any]:
        stream, target = self._provisioned(body, "UpdateShardCount"), body["TargetShardCount"]
        now = len(stream.open_shards)
        if body.get("ScalingType") != "UNIFORM_SCALING":
            raise AwsError("ValidationException", "ScalingType must be UNIFORM_SCALING")
        if not isinstance(target, int) or not 1 <= target <= STREAM_SHARDS:
            raise AwsError(
                "InvalidArgumentException", f"TargetShardCount must be from 1 to {STREAM_SHARDS}"
            )
        if not now / 2 <= target <= now * 2:
            raise AwsError(
                "InvalidArgumentException",
                f"UpdateShardCount cannot scale from {now} to {target}: "
                "at most double and at least half",
            )
        self._control.require_shards(max(0, target - now))
        stream.count_call("UpdateShardCount", UPDATES_A_DAY)
        if target != now:
            stream.reshard(target)
        return {
            "StreamName": stream.name,
            "StreamARN": stream.arn,
            "CurrentShardCount": now,
            "TargetShardCount": target,
        }

    def _provisioned(self, body: dict[str, Any], operation: str) -> Stream:
        stream = self._control.find(body)
        if stream.mode == ON_DEMAND:
            raise AwsError(
                "ValidationException",
                f"{operation} is for provisioned streams: {stream.name} is in on-demand mode",
            )
        return stream


def scale(stream: Stream) -> bool:
    """Splits shards of an on-demand stream until it takes double its peak; whether it did."""
    wanted = stream.throughput.wanted_shards(stream.clock.epoch_s())
    if wanted is None or stream.mode != ON_DEMAND:
        return False
    before = len(stream.open_shards)
    scale_to(stream, min(wanted, STREAM_SHARDS))
    grown = len(stream.open_shards) != before
    if grown:
        log.info("on-demand stream %s: %d shards", stream.name, len(stream.open_shards))
    return grown


def scale_to(stream: Stream, count: int) -> None:
    """Splits the widest shards until there are `count` open ones."""
    while len(stream.open_shards) < count:
        widest = max(stream.open_shards, key=lambda shard: shard.end_hash - shard.start_hash)
        stream.split(widest, (widest.start_hash + widest.end_hash + 1) // 2)


def _open_shard(stream: Stream, shard_id: str) -> Shard:
    shard = stream.shard(shard_id)
    if shard.closed:
        raise AwsError(
            "ResourceInUseException", f"Shard {shard_id} in stream {stream.name} is closed."
        )
    return shard
