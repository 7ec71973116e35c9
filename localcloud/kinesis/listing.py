"""ListStreams and ListShards: pages, filters, and the tokens that lead from one to the next."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from localcloud.http import AwsError
from localcloud.kinesis.read import refuse_future
from localcloud.kinesis.stream import describe_shard

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.kinesis.control import ControlPlane
    from localcloud.kinesis.limits import Clock
    from localcloud.kinesis.shard import Shard
    from localcloud.kinesis.stream import Stream

TOKEN_LIFE_S = 300
_LISTED_SHARDS = 1000
_LISTED_STREAMS = 100


class Listing:
    """Operations that list streams and shards.

    Args:
        control: Where the streams are.
    """

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    def operations(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """The operations by API name."""
        return {"ListStreams": self._list_streams, "ListShards": self._list_shards}

    def _list_streams(self, body: dict[str, Any]) -> dict[str, Any]:
        clock = self._control.clock
        limit = min(body.get("Limit", _LISTED_STREAMS), _LISTED_STREAMS)
        token = body.get("NextToken")
        after = body.get("ExclusiveStartStreamName") or ""
        if token:
            (after,) = read_token(clock, token, 1)
        names = sorted(name for name in self._control.streams if name > after)
        page = names[:limit]
        answer: dict[str, Any] = {
            "StreamNames": page,
            "HasMoreStreams": len(names) > limit,
            "StreamSummaries": [
                {
                    "StreamName": name,
                    "StreamARN": self._control.streams[name].arn,
                    "StreamStatus": "ACTIVE",
                    "StreamModeDetails": {"StreamMode": self._control.streams[name].mode},
                    "StreamCreationTimestamp": self._control.streams[name].created_s,
                }
                for name in page
            ],
        }
        if len(names) > limit:
            answer["NextToken"] = make_token(clock, page[-1])
        return answer

    def _list_shards(self, body: dict[str, Any]) -> dict[str, Any]:
        clock, token = self._control.clock, body.get("NextToken")
        shard_filter = body.get("ShardFilter") or {}
        after = body.get("ExclusiveStartShardId", "")
        if token:
            if body.get("StreamName") or after or body.get("StreamCreationTimestamp"):
                raise AwsError(
                    "InvalidArgumentException",
                    "NextToken and StreamName, ExclusiveStartShardId or StreamCreationTimestamp "
                    "cannot be provided together.",
                )
            name, after, kind, shard_id, timestamp_s = read_token(clock, token, 5)
            stream = self._control.find({"StreamName": name})
            shard_filter = {"Type": kind, "ShardId": shard_id, "Timestamp": float(timestamp_s)}
        else:
            stream = self._control.find(body)
            require_creation(stream, body)
        shards = [s for s in _filtered(stream, shard_filter) if s.shard_id > after]
        limit = min(body.get("MaxResults", _LISTED_SHARDS), _LISTED_SHARDS)
        answer: dict[str, Any] = {"Shards": [describe_shard(shard) for shard in shards[:limit]]}
        if len(shards) > limit:
            answer["NextToken"] = make_token(
                clock,
                stream.name,
                shards[limit - 1].shard_id,
                shard_filter.get("Type", "FROM_TRIM_HORIZON"),
                shard_filter.get("ShardId", ""),
                str(shard_filter.get("Timestamp", 0)),
            )
        return answer


def make_token(clock: Clock, *parts: str) -> str:
    """A NextToken that stands for some parts, for five minutes."""
    text = "|".join((f"{clock.epoch_s():.3f}", *parts))
    return base64.b64encode(text.encode()).decode()


def read_token(clock: Clock, token: str, count: int) -> list[str]:
    """The parts of a NextToken.

    Raises:
        AwsError: ExpiredNextTokenException, or InvalidArgumentException where it is none.
    """
    try:
        made, *parts = base64.b64decode(token, validate=True).decode().split("|")
        made_s = float(made)
    except (binascii.Error, ValueError) as error:
        raise AwsError("InvalidArgumentException", "NextToken is invalid.") from error
    if len(parts) != count:
        raise AwsError("InvalidArgumentException", "NextToken is another operation's.")
    if clock.epoch_s() - made_s > TOKEN_LIFE_S:
        raise AwsError("ExpiredNextTokenException", f"NextToken is older than {TOKEN_LIFE_S} s.")
    return parts


def require_creation(stream: Stream, body: dict[str, Any]) -> None:
    """Refuses a StreamCreationTimestamp that is another stream's of the same name.

    Raises:
        AwsError: ResourceNotFoundException.
    """
    wanted_s = body.get("StreamCreationTimestamp")
    # AWS's SDKs send whole seconds of what they were told.
    if wanted_s is not None and abs(wanted_s - stream.created_s) >= 1:
        raise AwsError(
            "ResourceNotFoundException",
            f"Stream {stream.name} was not created at {wanted_s} but at {stream.created_s}",
        )


def _filtered(stream: Stream, shard_filter: dict[str, Any]) -> list[Shard]:
    """The shards that a ShardFilter lets through.

    Raises:
        AwsError: InvalidArgumentException.
    """
    kind = shard_filter.get("Type", "FROM_TRIM_HORIZON")
    horizon_ms = stream.horizon_ms()
    if kind in {"AT_TIMESTAMP", "FROM_TIMESTAMP"}:
        timestamp_s = shard_filter.get("Timestamp")
        if not isinstance(timestamp_s, int | float):
            raise AwsError("InvalidArgumentException", f"Timestamp is required for {kind}")
        refuse_future(timestamp_s, stream.clock.epoch_ms())
        timestamp_ms = timestamp_s * 1000
    match kind:
        case "AT_LATEST":
            return [shard for shard in stream.shards if not shard.closed]
        case "AFTER_SHARD_ID":
            if not shard_filter.get("ShardId"):
                raise AwsError("InvalidArgumentException", f"ShardId is required for {kind}")
            return [shard for shard in stream.shards if shard.shard_id > shard_filter["ShardId"]]
        case "AT_TRIM_HORIZON":
            return [shard for shard in stream.shards if _open_at(shard, horizon_ms)]
        case "AT_TIMESTAMP":
            return [shard for shard in stream.shards if _open_at(shard, timestamp_ms)]
        case "FROM_TRIM_HORIZON":
            timestamp_ms = horizon_ms
        case "FROM_TIMESTAMP":
            timestamp_ms = max(timestamp_ms, horizon_ms)
        case _:
            raise AwsError("InvalidArgumentException", f"ShardFilter Type {kind!r} is unknown")
    return [s for s in stream.shards if s.closed_ms is None or s.closed_ms >= timestamp_ms]


def _open_at(shard: Shard, timestamp_ms: float) -> bool:
    return shard.created_ms <= timestamp_ms and (
        shard.closed_ms is None or shard.closed_ms >= timestamp_ms
    )
