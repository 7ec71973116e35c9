"""The control plane of Kinesis: streams are made, found, described and deleted.

Changes take effect at once: a stream is ACTIVE when the call that made or changed it returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from localcloud.arn import arn
from localcloud.durable import moment
from localcloud.http import AwsError
from localcloud.kinesis.limits import MIB, Clock
from localcloud.kinesis.stream import (
    AUTO,
    ON_DEMAND,
    PROVISIONED,
    USER_PARTITION_KEY,
    Stream,
    describe_shard,
)
from localcloud.kinesis.tags import checked_tags
from localcloud.kinesis.throughput import FIRST_SHARDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.kinesis.kept import KeptStreams
    from localcloud.kinesis.memory import Memory
    from localcloud.seams import CloudContext

SHARD_QUOTA = 500
STREAM_SHARDS = 10_000
ON_DEMAND_QUOTA = 50
LARGEST_RECORD_KIB = 10_240
_DESCRIBED_SHARDS = 100


class ControlPlane:
    """Streams of one account and region, and the operations that make and describe them.

    Args:
        context: The cloud.
        memory: The bound on what streams hold.
        kept: Where their records are kept; None where memory is all.
    """

    def __init__(
        self, context: CloudContext, memory: Memory, kept: KeptStreams | None = None
    ) -> None:
        self.context = context
        self.streams: dict[str, Stream] = {}
        self.clock = Clock(moment.now_s)
        self.committed = False
        self._memory = memory
        self._kept = kept

    def operations(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """The operations by API name."""
        return {
            "CreateStream": self._create_stream,
            "DeleteStream": self._delete_stream,
            "DescribeStream": self._describe_stream,
            "DescribeStreamSummary": self._describe_stream_summary,
            "DescribeLimits": self._describe_limits,
        }

    def find(self, body: dict[str, Any]) -> Stream:
        """The stream that a request names by StreamARN or StreamName.

        Raises:
            AwsError: ResourceNotFoundException, or ValidationException where it names none.
        """
        if body.get("StreamId"):
            raise AwsError("InvalidArgumentException", "StreamId is reserved by AWS: leave it out")
        name = body.get("StreamName")
        if body.get("StreamARN"):
            stream = self.by_arn(body["StreamARN"])
            if name and name != stream.name:
                raise AwsError(
                    "InvalidArgumentException", "StreamARN and StreamName name different streams"
                )
            return stream
        if not name:
            raise AwsError("ValidationException", "StreamName or StreamARN is required")
        found = self.streams.get(name)
        if found is None:
            raise AwsError(
                "ResourceNotFoundException",
                f"Stream {name} under account {self.context.account_id} not found.",
            )
        return found

    def by_arn(self, stream_arn: str) -> Stream:
        """The stream of that ARN.

        Raises:
            AwsError: ResourceNotFoundException.
        """
        stream = self.streams.get(stream_arn.rpartition("/")[2])
        if stream is None or stream.arn != stream_arn:
            raise AwsError("ResourceNotFoundException", f"Stream {stream_arn} not found.")
        return stream

    @staticmethod
    def end_dry_run(body: dict[str, Any]) -> None:
        """Ends a request that only asked whether it would succeed.

        Raises:
            AwsError: DryRunOperationException.
        """
        if body.get("DryRun"):
            raise AwsError(
                "DryRunOperationException",
                "The request would have succeeded, but the DryRun parameter was set.",
            )

    def require_shards(self, more: int) -> None:
        """Refuses what would open more provisioned shards than the account may have.

        Raises:
            AwsError: LimitExceededException.
        """
        open_now = sum(
            len(stream.open_shards)
            for stream in self.streams.values()
            if stream.mode == PROVISIONED
        )
        if open_now + more > SHARD_QUOTA:
            raise AwsError(
                "LimitExceededException",
                f"This request would exceed the shard limit for the account "
                f"{self.context.account_id} in {self.context.region}. "
                f"Current shard count for the account: {open_now}. Limit: {SHARD_QUOTA}. "
                f"Number of additional shards that would have resulted from this request: {more}.",
            )

    def require_on_demand(self) -> None:
        """Refuses one more on-demand stream than the account may have.

        Raises:
            AwsError: LimitExceededException.
        """
        if self._on_demand_count() >= ON_DEMAND_QUOTA:
            raise AwsError(
                "LimitExceededException",
                f"an account has at most {ON_DEMAND_QUOTA} streams in on-demand mode",
            )

    def _create_stream(self, body: dict[str, Any]) -> None:
        name = body["StreamName"]
        if name in self.streams:
            raise AwsError(
                "ResourceInUseException",
                f"Stream {name} under account {self.context.account_id} already exists.",
            )
        mode = checked_mode(body.get("StreamModeDetails") or {"StreamMode": PROVISIONED})
        count = self._first_shards(mode, body)
        strategy = checked_strategy(body.get("RecordDistributionStrategy"), mode)
        max_record_bytes = checked_record_size(body.get("MaxRecordSizeInKiB", 1024))
        tags = checked_tags(body.get("Tags") or {}, {})
        resource = f"stream/{name}"
        clock = Clock(self.clock.epoch_s, self.clock.monotonic_s)
        stream = Stream(
            name,
            arn("kinesis", self.context.region, self.context.account_id, resource),
            mode,
            clock.epoch_ms() / 1000,
            clock,
            tags=tags,
            max_record_bytes=max_record_bytes,
            distribution=strategy,
            warm_mib_per_s=body.get("WarmThroughputMiBps"),
        )
        stream.add_even_shards(count)
        if self._kept is not None and self.context.restored.is_set():
            self._kept.begin(stream)
        self.streams[name] = stream

    def _first_shards(self, mode: str, body: dict[str, Any]) -> int:
        warm = body.get("WarmThroughputMiBps")
        if mode == ON_DEMAND:
            self.require_on_demand()
            self.require_commitment(warm)
            return max(FIRST_SHARDS, warm or 0)
        count = body.get("ShardCount")
        if not isinstance(count, int) or count < 1:
            raise AwsError("ValidationException", "ShardCount of at least 1 is required")
        if warm is not None:
            raise AwsError(
                "ValidationException", "WarmThroughputMiBps is for on-demand streams only"
            )
        self.require_shards(count)
        return count

    def require_commitment(self, warm: Any) -> None:
        """Refuses warm throughput in an account without the commitment that unlocks it.

        Raises:
            AwsError: ValidationException.
        """
        if warm is not None and not self.committed:
            raise AwsError(
                "ValidationException",
                "warm throughput needs MinimumThroughputBillingCommitment: "
                "enable it with UpdateAccountSettings",
            )

    def _delete_stream(self, body: dict[str, Any]) -> None:
        stream = self.find(body)
        if stream.consumers and not body.get("EnforceConsumerDeletion"):
            raise AwsError(
                "ResourceInUseException",
                f"Stream {stream.name} under account {self.context.account_id} has registered "
                "consumers: deregister them, or set EnforceConsumerDeletion",
            )
        stream.consumers.clear()
        del self.streams[stream.name]
        for shard in stream.open_shards:
            stream.close(shard)
        self._memory.forget(stream)
        if self._kept is not None and self.context.restored.is_set():
            self._kept.end(stream)

    def _describe_stream(self, body: dict[str, Any]) -> dict[str, Any]:
        stream = self.find(body)
        limit = min(body.get("Limit", _DESCRIBED_SHARDS), _DESCRIBED_SHARDS)
        after = body.get("ExclusiveStartShardId", "")
        shards = [shard for shard in stream.shards if shard.shard_id > after]
        return {
            "StreamDescription": {
                **self._common(stream),
                "Shards": [describe_shard(shard) for shard in shards[:limit]],
                "HasMoreShards": len(shards) > limit,
            }
        }

    def _describe_stream_summary(self, body: dict[str, Any]) -> dict[str, Any]:
        stream = self.find(body)
        summary = {
            **self._common(stream),
            "OpenShardCount": len(stream.open_shards),
            "ConsumerCount": len(stream.consumers),
            "MaxRecordSizeInKiB": stream.max_record_bytes // 1024,
            "ChannelCount": 0,
        }
        if stream.mode == ON_DEMAND:
            summary["RecordDistributionStrategy"] = stream.distribution
        if stream.warm_mib_per_s is not None:
            summary["WarmThroughput"] = warm_throughput(stream)
        return {"StreamDescriptionSummary": summary}

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

    def _describe_limits(self, _body: dict[str, Any]) -> dict[str, Any]:
        return {
            "ShardLimit": SHARD_QUOTA,
            "OpenShardCount": sum(len(stream.open_shards) for stream in self.streams.values()),
            "OnDemandStreamCount": self._on_demand_count(),
            "OnDemandStreamCountLimit": ON_DEMAND_QUOTA,
            "ChannelCount": 0,
            "ChannelCountLimit": 0,
        }

    def _on_demand_count(self) -> int:
        return sum(stream.mode == ON_DEMAND for stream in self.streams.values())


def warm_throughput(stream: Stream) -> dict[str, int]:
    """The API's WarmThroughputObject: scaling takes no time here."""
    warm = stream.warm_mib_per_s or 0
    return {"TargetMiBps": warm, "CurrentMiBps": warm}


def checked_mode(details: dict[str, Any]) -> str:
    """The mode of StreamModeDetails.

    Raises:
        AwsError: ValidationException.
    """
    mode = details.get("StreamMode")
    if mode not in {PROVISIONED, ON_DEMAND}:
        raise AwsError("ValidationException", f"StreamMode {mode!r} is unknown")
    return str(mode)


def checked_strategy(strategy: Any, mode: str) -> str:
    """A RecordDistributionStrategy.

    Raises:
        AwsError: ValidationException, or InvalidArgumentException on a provisioned stream.
    """
    if strategy not in {None, AUTO, USER_PARTITION_KEY}:
        raise AwsError("ValidationException", f"RecordDistributionStrategy {strategy!r} is unknown")
    if strategy is not None and mode != ON_DEMAND:
        raise AwsError(
            "InvalidArgumentException", "RecordDistributionStrategy is for on-demand streams only"
        )
    return strategy or USER_PARTITION_KEY


def checked_record_size(kib: Any) -> int:
    """A MaxRecordSizeInKiB, in bytes.

    Raises:
        AwsError: ValidationException.
    """
    if not isinstance(kib, int) or not MIB // 1024 <= kib <= LARGEST_RECORD_KIB:
        raise AwsError(
            "ValidationException",
            f"MaxRecordSizeInKiB must be from {MIB // 1024} to {LARGEST_RECORD_KIB}",
        )
    return kib * 1024
