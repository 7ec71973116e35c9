"""What a stream is set to: retention, encryption, monitoring, record size, mode, tags, policies."""

from __future__ import annotations

import inspect
import json
import re
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from localcloud.http import AwsError
from localcloud.kinesis.control import (
    checked_mode,
    checked_record_size,
    checked_strategy,
    warm_throughput,
)
from localcloud.kinesis.metrics import SHARD_METRICS
from localcloud.kinesis.stream import (
    DEFAULT_RETENTION_HOURS,
    ON_DEMAND,
    USER_PARTITION_KEY,
    Consumer,
    Stream,
)
from localcloud.kinesis.tags import checked_tags, tag_list
from localcloud.kinesis.throughput import FIRST_SHARDS, Throughput

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.kinesis.control import ControlPlane

MAX_RETENTION_HOURS = 8760
CHANGES_OF_KEY_A_DAY = 25
CHANGES_OF_MODE_A_DAY = 2
LISTED_TAGS = 50
MAX_WARM_MIB_PER_S = 10 * 1024
OWN_KEY = "alias/aws/kinesis"
_GUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_KEY = rf"({_GUID}|mrk-[0-9a-f]{{32}})"
_KEY_FORMS = re.compile(
    rf"{_KEY}|alias/[\w/-]+|arn:aws[\w-]*:kms:[\w-]+:\d{{12}}:(key/{_KEY}|alias/[\w/-]+)"
)
# KMS's answers, as Kinesis passes them on.
_KMS_ERRORS = {"NotFoundException": "KMSNotFoundException"}
_KMS_STATES = {"Disabled": "KMSDisabledException"}


class Settings:
    """Operations that set one thing of one stream.

    Args:
        control: Where the streams are.
    """

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    def operations(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """The operations by API name."""
        return {
            "IncreaseStreamRetentionPeriod": self._increase_retention,
            "DecreaseStreamRetentionPeriod": self._decrease_retention,
            "StartStreamEncryption": self._start_encryption,
            "StopStreamEncryption": self._stop_encryption,
            "EnableEnhancedMonitoring": self._enable_monitoring,
            "DisableEnhancedMonitoring": self._disable_monitoring,
            "UpdateMaxRecordSize": self._update_max_record_size,
            "UpdateStreamMode": self._update_stream_mode,
            "UpdateStreamRecordDistributionStrategy": self._update_strategy,
            "UpdateStreamWarmThroughput": self._update_warm_throughput,
            "AddTagsToStream": self._add_tags,
            "RemoveTagsFromStream": self._remove_tags,
            "ListTagsForStream": self._list_stream_tags,
            "TagResource": self._tag_resource,
            "UntagResource": self._untag_resource,
            "ListTagsForResource": self._list_resource_tags,
            "PutResourcePolicy": self._put_policy,
            "GetResourcePolicy": self._get_policy,
            "DeleteResourcePolicy": self._delete_policy,
        }

    # Retention, monitoring, record size

    def _increase_retention(self, body: dict[str, Any]) -> None:
        stream, hours = self._control.find(body), body["RetentionPeriodHours"]
        if not stream.retention_hours <= hours <= MAX_RETENTION_HOURS:
            raise _bad_retention(stream, hours, stream.retention_hours, MAX_RETENTION_HOURS)
        # What had expired stays so: it is dropped before more would be kept.
        stream.trim()
        stream.retention_hours = hours

    def _decrease_retention(self, body: dict[str, Any]) -> None:
        stream, hours = self._control.find(body), body["RetentionPeriodHours"]
        if not DEFAULT_RETENTION_HOURS <= hours <= stream.retention_hours:
            raise _bad_retention(stream, hours, DEFAULT_RETENTION_HOURS, stream.retention_hours)
        stream.retention_hours = hours

    def _enable_monitoring(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._set_monitoring(body, lambda now, wanted: now | wanted)

    def _disable_monitoring(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._set_monitoring(body, lambda now, unwanted: now - unwanted)

    def _set_monitoring(
        self, body: dict[str, Any], change: Callable[[set[str], set[str]], set[str]]
    ) -> dict[str, Any]:
        stream, names = self._control.find(body), set(body["ShardLevelMetrics"])
        if "ALL" in names:
            names = set(SHARD_METRICS)
        unknown = sorted(names - set(SHARD_METRICS))
        if unknown:
            raise AwsError("ValidationException", f"unknown shard level metrics {unknown}")
        before = list(stream.shard_metrics)
        stream.shard_metrics = sorted(change(set(before), names))
        return {
            "StreamName": stream.name,
            "StreamARN": stream.arn,
            "CurrentShardLevelMetrics": before,
            "DesiredShardLevelMetrics": stream.shard_metrics,
        }

    def _update_max_record_size(self, body: dict[str, Any]) -> None:
        stream = self._control.find(body)
        stream.allow_records_of(checked_record_size(body["MaxRecordSizeInKiB"]))

    # Encryption

    async def _start_encryption(self, body: dict[str, Any]) -> None:
        stream, key_id = self._control.find(body), _checked_key(body)
        await self._require_key(key_id)
        stream.count_call("StartStreamEncryption", CHANGES_OF_KEY_A_DAY)
        stream.encryption_type, stream.key_id = "KMS", key_id

    def _stop_encryption(self, body: dict[str, Any]) -> None:
        stream = self._control.find(body)
        _checked_key(body)
        stream.count_call("StopStreamEncryption", CHANGES_OF_KEY_A_DAY)
        stream.encryption_type, stream.key_id = "NONE", None

    async def _require_key(self, key_id: str) -> None:
        """Asks KMS for the key, unless it is the one that Kinesis owns.

        Raises:
            AwsError: KMSNotFoundException, KMSDisabledException or KMSInvalidStateException.
        """
        if key_id.endswith(OWN_KEY):
            return
        kms = await self._control.context.client("kms")
        try:
            key = (await kms.describe_key(KeyId=key_id))["KeyMetadata"]
        except ClientError as error:
            told = error.response["Error"]
            code = _KMS_ERRORS.get(told["Code"], "KMSAccessDeniedException")
            raise AwsError(code, f"KMS key {key_id}: {told['Message']}") from error
        if key["KeyState"] != "Enabled":
            code = _KMS_STATES.get(key["KeyState"], "KMSInvalidStateException")
            raise AwsError(code, f"{key['Arn']} is {key['KeyState']}.")

    # Mode

    def _update_stream_mode(self, body: dict[str, Any]) -> None:
        stream, mode = self._control.find(body), checked_mode(body["StreamModeDetails"])
        warm = body.get("WarmThroughputMiBps")
        if mode != stream.mode:
            if mode == ON_DEMAND:
                self._control.require_on_demand()
            stream.count_call("UpdateStreamMode", CHANGES_OF_MODE_A_DAY)
        if mode != ON_DEMAND:
            if warm is not None:
                raise AwsError(
                    "ValidationException", "WarmThroughputMiBps is for on-demand streams only"
                )
            stream.distribution, stream.warm_mib_per_s = USER_PARTITION_KEY, None
        self._control.require_commitment(warm)
        if mode == ON_DEMAND and stream.mode != ON_DEMAND:
            stream.throughput = Throughput(stream.clock.epoch_s())
        stream.mode = mode
        if warm is not None:
            self._warm(stream, warm)

    def _update_strategy(self, body: dict[str, Any]) -> None:
        stream = self._control.find(body)
        stream.distribution = checked_strategy(body["RecordDistributionStrategy"], stream.mode)

    def _update_warm_throughput(self, body: dict[str, Any]) -> dict[str, Any]:
        stream, warm = self._control.find(body), body["WarmThroughputMiBps"]
        if stream.mode != ON_DEMAND:
            raise AwsError("ValidationException", "a provisioned stream has no warm throughput")
        self._control.require_commitment(warm)
        self._warm(stream, warm)
        return {
            "StreamARN": stream.arn,
            "StreamName": stream.name,
            "WarmThroughput": warm_throughput(stream),
        }

    def _warm(self, stream: Stream, warm: int) -> None:
        if not 0 <= warm <= MAX_WARM_MIB_PER_S:
            raise AwsError(
                "InvalidArgumentException",
                f"WarmThroughputMiBps must be from 0 to {MAX_WARM_MIB_PER_S}",
            )
        stream.warm_mib_per_s = warm
        stream.reshard(max(FIRST_SHARDS, warm))

    # Tags and policies

    def _add_tags(self, body: dict[str, Any]) -> None:
        stream = self._control.find(body)
        stream.tags = checked_tags(body["Tags"], stream.tags)

    def _remove_tags(self, body: dict[str, Any]) -> None:
        stream = self._control.find(body)
        for key in body["TagKeys"]:
            stream.tags.pop(key, None)

    def _list_stream_tags(self, body: dict[str, Any]) -> dict[str, Any]:
        after, limit = body.get("ExclusiveStartTagKey", ""), body.get("Limit", LISTED_TAGS)
        tags = [tag for tag in tag_list(self._control.find(body).tags) if tag["Key"] > after]
        return {"Tags": tags[:limit], "HasMoreTags": len(tags) > limit}

    def _tag_resource(self, body: dict[str, Any]) -> None:
        resource = self.resource(body)
        resource.tags = checked_tags(body["Tags"], resource.tags)

    def _untag_resource(self, body: dict[str, Any]) -> None:
        tags = self.resource(body).tags
        for key in body["TagKeys"]:
            tags.pop(key, None)

    def _list_resource_tags(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"Tags": tag_list(self.resource(body).tags)}

    def _put_policy(self, body: dict[str, Any]) -> None:
        resource, policy = self.resource(body), body["Policy"]
        try:
            document = json.loads(policy)
        except (TypeError, ValueError) as error:
            raise AwsError("InvalidArgumentException", f"Policy is not JSON: {error}") from error
        if not isinstance(document, dict) or not document.get("Statement"):
            raise AwsError("InvalidArgumentException", "Policy has no Statement")
        resource.policy = policy

    def _get_policy(self, body: dict[str, Any]) -> dict[str, Any]:
        policy = self.resource(body).policy
        if policy is None:
            raise AwsError(
                "ResourceNotFoundException",
                f"No resource policy found for resource ARN {body['ResourceARN']}",
            )
        return {"Policy": policy}

    def _delete_policy(self, body: dict[str, Any]) -> None:
        self._get_policy(body)
        self.resource(body).policy = None

    def resource(self, body: dict[str, Any]) -> Stream | Consumer:
        """The stream, or the consumer, that ResourceARN names.

        Raises:
            AwsError: ResourceNotFoundException.
        """
        arn = body["ResourceARN"]
        stream_arn, consumer, _ = arn.partition("/consumer/")
        stream = self._control.by_arn(stream_arn)
        if not consumer:
            return stream
        for found in stream.consumers.values():
            if found.arn == arn:
                return found
        raise AwsError("ResourceNotFoundException", f"Consumer {arn} not found.")


async def finished(answer: Any) -> Any:
    """What an operation answers, whether or not it has to wait for it."""
    return await answer if inspect.isawaitable(answer) else answer


def _checked_key(body: dict[str, Any]) -> str:
    if body["EncryptionType"] != "KMS":
        raise AwsError("ValidationException", "EncryptionType must be KMS")
    key_id = body["KeyId"]
    if not isinstance(key_id, str) or not _KEY_FORMS.fullmatch(key_id):
        raise AwsError(
            "InvalidArgumentException",
            f"KeyId {key_id!r} is no key id, key ARN, alias name (alias/...) or alias ARN",
        )
    return key_id


def _bad_retention(stream: Stream, hours: Any, low: int, high: int) -> AwsError:
    return AwsError(
        "InvalidArgumentException",
        f"Requested retention period ({hours} hours) for stream {stream.name} must be from "
        f"{low} to {high} hours",
    )
