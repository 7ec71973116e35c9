"""The control plane of Kinesis: streams, shards, retention, encryption, tags, consumers.

Changes take effect at once: a stream is ACTIVE when the call that made or changed it returns.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from localcloud.arn import arn
from localcloud.http import AwsError
from localcloud.kinesis.stream import DEFAULT_RETENTION_HOURS, Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.kinesis.shard import Shard
    from localcloud.seams import CloudContext

SHARD_QUOTA = 500
ON_DEMAND_SHARDS = 4
MAX_RETENTION_HOURS = 8760
MAX_TAGS = 50
SHARD_METRICS = (
    "IncomingBytes",
    "IncomingRecords",
    "OutgoingBytes",
    "OutgoingRecords",
    "WriteProvisionedThroughputExceeded",
    "ReadProvisionedThroughputExceeded",
    "IteratorAgeMilliseconds",
)


class ControlPlane:
    """Streams of one account and region, and the operations on them that move no records."""

    def __init__(self, context: CloudContext) -> None:
        self._context = context
        self.streams: dict[str, Stream] = {}

    def operations(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """The operations by API name."""
        return {
            "CreateStream": self._create_stream,
            "DeleteStream": self._delete_stream,
            "DescribeStream": self._describe_stream,
            "DescribeStreamSummary": self._describe_stream_summary,
            "ListStreams": self._list_streams,
            "ListShards": self._list_shards,
            "IncreaseStreamRetentionPeriod": self._increase_retention,
            "DecreaseStreamRetentionPeriod": self._decrease_retention,
            "StartStreamEncryption": self._start_encryption,
            "StopStreamEncryption": self._stop_encryption,
            "EnableEnhancedMonitoring": self._enable_monitoring,
            "DisableEnhancedMonitoring": self._disable_monitoring,
            "SplitShard": self._split_shard,
            "MergeShards": self._merge_shards,
            "UpdateShardCount": self._update_shard_count,
            "UpdateStreamMode": self._update_stream_mode,
            "DescribeLimits": self._describe_limits,
            "AddTagsToStream": self._add_tags,
            "RemoveTagsFromStream": self._remove_tags,
            "ListTagsForStream": self._list_stream_tags,
            "TagResource": self._tag_resource,
            "UntagResource": self._untag_resource,
            "ListTagsForResource": self._list_resource_tags,
        }

    def find(self, body: dict[str, Any]) -> Stream:
        """The stream that a request names by StreamARN or StreamName.

        Raises:
            AwsError: ResourceNotFoundException, or ValidationException where it names none.
        """
        if body.get("StreamARN"):
            return self.by_arn(body["StreamARN"])
        name = body.get("StreamName")
        if not name:
            raise AwsError("ValidationException", "StreamName or StreamARN is required")
        stream = self.streams.get(name)
        if stream is None:
            raise AwsError(
                "ResourceNotFoundException",
                f"Stream {name} under account {self._context.account_id} not found.",
            )
        return stream

    def by_arn(self, stream_arn: str) -> Stream:
        """The stream of that ARN.

        Raises:
            AwsError: ResourceNotFoundException.
        """
        stream = self.streams.get(stream_arn.rpartition("/")[2])
        if stream is None or stream.arn != stream_arn:
            raise AwsError("ResourceNotFoundException", f"Stream {stream_arn} not found.")
        return stream

    def children(self, stream: Stream, parent: Shard) -> list[dict[str, Any]]:
        """The ChildShards that GetRecords tells at the end of a shard."""
        found = []
        for shard in stream.shards:
            parents = [name for name in (shard.parent, shard.adjacent_parent) if name]
            if parent.shard_id in parents:
                described = stream.describe_shard(shard)
                found.append(
                    {
                        "ShardId": shard.shard_id,
                        "ParentShards": parents,
                        "HashKeyRange": described["HashKeyRange"],
                    }
                )
        return found

    def _create_stream(self, body: dict[str, Any]) -> None:
        name = body["StreamName"]
        if name in self.streams:
            raise AwsError(
                "ResourceInUseException",
                f"Stream {name} under account {self._context.account_id} already exists.",
            )
        mode = body.get("StreamModeDetails", {}).get("StreamMode", "PROVISIONED")
        if mode not in {"PROVISIONED", "ON_DEMAND"}:
            raise AwsError("ValidationException", f"StreamMode {mode!r} is unknown")
        count = ON_DEMAND_SHARDS if mode == "ON_DEMAND" else body.get("ShardCount")
        if not isinstance(count, int) or count < 1:
            raise AwsError("ValidationException", "ShardCount of at least 1 is required")
        if count > SHARD_QUOTA:
            raise AwsError(
                "LimitExceededException",
                f"This request would exceed the shard limit for the account "
                f"{self._context.account_id} in {self._context.region}. Limit: {SHARD_QUOTA}.",
            )
        resource = f"stream/{name}"
        stream = Stream(
            name,
            arn("kinesis", self._context.region, self._context.account_id, resource),
            mode,
            time.time(),
        )
        stream.add_even_shards(count)
        stream.tags.update(body.get("Tags", {}))
        self.streams[name] = stream

    def _delete_stream(self, body: dict[str, Any]) -> None:
        stream = self.find(body)
        del self.streams[stream.name]
        for shard in stream.open_shards:
            stream.close(shard)

    def _describe_stream(self, body: dict[str, Any]) -> dict[str, Any]:
        stream = self.find(body)
        limit = body.get("Limit", 100)
        after = body.get("ExclusiveStartShardId", "")
        shards = [shard for shard in stream.shards if shard.shard_id > after]
        return {
            "StreamDescription": {
                **self._common(stream),
                "Shards": [stream.describe_shard(shard) for shard in shards[:limit]],
                "HasMoreShards": len(shards) > limit,
            }
        }

    def _describe_stream_summary(self, body: dict[str, Any]) -> dict[str, Any]:
        stream = self.find(body)
        return {
            "StreamDescriptionSummary": {
                **self._common(stream),
                "OpenShardCount": len(stream.open_shards),
                "ConsumerCount": 0,
            }
        }

    def _common(self, stream: Stream) -> dict[str, Any]:
        common = {
            "StreamName": stream.name,
            "StreamARN": stream.arn,
            "StreamStatus": "ACTIVE",
            "StreamModeDetails": {"StreamMode": stream.mode},
            "RetentionPeriodHours": stream.retention_hours,
            "StreamCreationTimestamp": stream.created_s,
            "EnhancedMonitoring": [{"ShardLevelMetrics": stream.shard_metrics}],
            "EncryptionType": stream.encryption_type,
        }
        return common if stream.key_id is None else {**common, "KeyId": stream.key_id}

    def _list_streams(self, body: dict[str, Any]) -> dict[str, Any]:
        limit = body.get("Limit", 100)
        after = body.get("ExclusiveStartStreamName") or body.get("NextToken") or ""
        names = sorted(name for name in self.streams if name > after)
        page = names[:limit]
        answer: dict[str, Any] = {
            "StreamNames": page,
            "HasMoreStreams": len(names) > limit,
            "StreamSummaries": [
                {
                    "StreamName": name,
                    "StreamARN": self.streams[name].arn,
                    "StreamStatus": "ACTIVE",
                    "StreamModeDetails": {"StreamMode": self.streams[name].mode},
                    "StreamCreationTimestamp": self.streams[name].created_s,
                }
                for name in page
            ],
        }
        if len(names) > limit:
            answer["NextToken"] = page[-1]
        return answer

    def _list_shards(self, body: dict[str, Any]) -> dict[str, Any]:
        token = body.get("NextToken")
        after = body.get("ExclusiveStartShardId", "")
        if token:
            name, _, after = token.partition("|")
            stream = self.find({"StreamName": name})
        else:
            stream = self.find(body)
        kind = body.get("ShardFilter", {}).get("Type", "FROM_TRIM_HORIZON")
        if kind not in {"FROM_TRIM_HORIZON", "AT_LATEST", "AFTER_SHARD_ID", "AT_TRIM_HORIZON"}:
            raise AwsError("InvalidArgumentException", f"ShardFilter {kind} is not served locally")
        after = body.get("ShardFilter", {}).get("ShardId", after)
        shards = [
            shard
            for shard in stream.shards
            if shard.shard_id > after and not (kind == "AT_LATEST" and shard.closed)
        ]
        limit = body.get("MaxResults", 1000)
        answer: dict[str, Any] = {
            "Shards": [stream.describe_shard(shard) for shard in shards[:limit]]
        }
        if len(shards) > limit:
            answer["NextToken"] = f"{stream.name}|{shards[limit - 1].shard_id}"
        return answer

    def _increase_retention(self, body: dict[str, Any]) -> None:
        stream, hours = self.find(body), body["RetentionPeriodHours"]
        if not stream.retention_hours <= hours <= MAX_RETENTION_HOURS:
            raise AwsError(
                "InvalidArgumentException",
                f"Requested retention period ({hours} hours) for stream {stream.name} must be from "
                f"{stream.retention_hours} to {MAX_RETENTION_HOURS} hours",
            )
        stream.retention_hours = hours

    def _decrease_retention(self, body: dict[str, Any]) -> None:
        stream, hours = self.find(body), body["RetentionPeriodHours"]
        if not DEFAULT_RETENTION_HOURS <= hours <= stream.retention_hours:
            raise AwsError(
                "InvalidArgumentException",
                f"Requested retention period ({hours} hours) for stream {stream.name} must be from "
                f"{DEFAULT_RETENTION_HOURS} to {stream.retention_hours} hours",
            )
        stream.retention_hours = hours

    def _start_encryption(self, body: dict[str, Any]) -> None:
        stream = self.find(body)
        if body["EncryptionType"] != "KMS":
            raise AwsError("ValidationException", "EncryptionType must be KMS")
        stream.encryption_type, stream.key_id = "KMS", body["KeyId"]

    def _stop_encryption(self, body: dict[str, Any]) -> None:
        stream = self.find(body)
        stream.encryption_type, stream.key_id = "NONE", None

    def _enable_monitoring(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._set_monitoring(body, lambda now, wanted: now | wanted)

    def _disable_monitoring(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._set_monitoring(body, lambda now, unwanted: now - unwanted)

    def _set_monitoring(
        self, body: dict[str, Any], change: Callable[[set[str], set[str]], set[str]]
    ) -> dict[str, Any]:
        stream, names = self.find(body), set(body["ShardLevelMetrics"])
        if "ALL" in names:
            names = set(SHARD_METRICS)
        if not names <= set(SHARD_METRICS):
            raise AwsError("ValidationException", f"unknown shard level metrics {sorted(names)}")
        before = list(stream.shard_metrics)
        stream.shard_metrics = sorted(change(set(before), names))
        return {
            "StreamName": stream.name,
            "StreamARN": stream.arn,
            "CurrentShardLevelMetrics": before,
            "DesiredShardLevelMetrics": stream.shard_metrics,
        }

    def _split_shard(self, body: dict[str, Any]) -> None:
        stream = self.find(body)
        shard = _open_shard(stream, body["ShardToSplit"])
        at = int(body["NewStartingHashKey"])
        if not shard.start_hash < at <= shard.end_hash:
            raise AwsError(
                "InvalidArgumentException",
                f"NewStartingHashKey {at} is not inside the range of {shard.shard_id}",
            )
        stream.close(shard)
        stream.add_shard(shard.start_hash, at - 1, shard.shard_id)
        stream.add_shard(at, shard.end_hash, shard.shard_id)

    def _merge_shards(self, body: dict[str, Any]) -> None:
        stream = self.find(body)
        one = _open_shard(stream, body["ShardToMerge"])
        other = _open_shard(stream, body["AdjacentShardToMerge"])
        low, high = sorted((one, other), key=lambda shard: shard.start_hash)
        if low.end_hash + 1 != high.start_hash:
            raise AwsError(
                "InvalidArgumentException",
                f"shards {one.shard_id} and {other.shard_id} are not adjacent",
            )
        stream.close(one)
        stream.close(other)
        stream.add_shard(low.start_hash, high.end_hash, one.shard_id, other.shard_id)

    def _update_shard_count(self, body: dict[str, Any]) -> dict[str, Any]:
        stream, target = self.find(body), body["TargetShardCount"]
        now = len(stream.open_shards)
        if stream.mode == "ON_DEMAND":
            raise AwsError("ValidationException", "an on-demand stream scales by itself")
        if body.get("ScalingType") != "UNIFORM_SCALING":
            raise AwsError("ValidationException", "ScalingType must be UNIFORM_SCALING")
        if not now / 2 <= target <= now * 2:
            raise AwsError(
                "InvalidArgumentException",
                f"UpdateShardCount cannot scale from {now} to {target}: "
                "at most double and at least half",
            )
        if target != now:
            stream.reshard(target)
        return {
            "StreamName": stream.name,
            "StreamARN": stream.arn,
            "CurrentShardCount": now,
            "TargetShardCount": target,
        }

    def _update_stream_mode(self, body: dict[str, Any]) -> None:
        mode = body["StreamModeDetails"]["StreamMode"]
        if mode not in {"PROVISIONED", "ON_DEMAND"}:
            raise AwsError("ValidationException", f"StreamMode {mode!r} is unknown")
        self.find(body).mode = mode

    def _describe_limits(self, _body: dict[str, Any]) -> dict[str, Any]:
        streams = self.streams.values()
        return {
            "ShardLimit": SHARD_QUOTA,
            "OpenShardCount": sum(len(stream.open_shards) for stream in streams),
            "OnDemandStreamCount": sum(stream.mode == "ON_DEMAND" for stream in streams),
            "OnDemandStreamCountLimit": 50,
        }

    def _add_tags(self, body: dict[str, Any]) -> None:
        stream = self.find(body)
        if len({**stream.tags, **body["Tags"]}) > MAX_TAGS:
            raise AwsError("InvalidArgumentException", f"a stream has at most {MAX_TAGS} tags")
        stream.tags.update(body["Tags"])

    def _remove_tags(self, body: dict[str, Any]) -> None:
        stream = self.find(body)
        for key in body["TagKeys"]:
            stream.tags.pop(key, None)

    def _list_stream_tags(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"Tags": _tag_list(self.find(body)), "HasMoreTags": False}

    def _tag_resource(self, body: dict[str, Any]) -> None:
        self._add_tags({"StreamARN": body["ResourceARN"], "Tags": body["Tags"]})

    def _untag_resource(self, body: dict[str, Any]) -> None:
        self._remove_tags({"StreamARN": body["ResourceARN"], "TagKeys": body["TagKeys"]})

    def _list_resource_tags(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"Tags": _tag_list(self.by_arn(body["ResourceARN"]))}


def _tag_list(stream: Stream) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(stream.tags.items())]


def _open_shard(stream: Stream, shard_id: str) -> Shard:
    shard = stream.shard(shard_id)
    if shard.closed:
        raise AwsError(
            "ResourceInUseException", f"Shard {shard_id} in stream {stream.name} is closed."
        )
    return shard
