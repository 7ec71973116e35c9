"""The Kinesis stream and the Firehose delivery stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stack.deploy.builtin.calls import exists, unless_gone
from stack.deploy.builtin.resource import Resource, block, tag_changes, tag_list

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stack.deploy.builtin.resource import Arguments, Clients

DEFAULT_RETENTION_HOURS = 24


async def _create_stream(clients: Clients, new: Arguments) -> dict[str, Any]:
    kinesis, name = await clients("kinesis"), new["name"]
    mode = block(new.get("stream_mode_details")).get("stream_mode", "PROVISIONED")
    sized = {"ShardCount": int(new["shard_count"])} if mode == "PROVISIONED" else {}
    await kinesis.create_stream(StreamName=name, StreamModeDetails={"StreamMode": mode}, **sized)
    await kinesis.get_waiter("stream_exists").wait(StreamName=name)
    told = await kinesis.describe_stream_summary(StreamName=name)
    arn = told["StreamDescriptionSummary"]["StreamARN"]
    have = {"id": arn, "arn": arn, "name": name}
    empty = {"shard_count": new.get("shard_count")}
    return await _update_stream(clients, have, empty, new)


async def _read_stream(clients: Clients, have: Mapping[str, Any]) -> bool:
    kinesis = await clients("kinesis")
    return await exists(kinesis.describe_stream_summary(StreamName=have["name"]))


async def _update_stream(
    clients: Clients, have: Mapping[str, Any], old: Arguments, new: Arguments
) -> dict[str, Any]:
    kinesis, name = await clients("kinesis"), have["name"]
    before = int(old.get("retention_period") or DEFAULT_RETENTION_HOURS)
    after = int(new.get("retention_period") or DEFAULT_RETENTION_HOURS)
    if after > before:
        await kinesis.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=after)
    elif after < before:
        await kinesis.decrease_stream_retention_period(StreamName=name, RetentionPeriodHours=after)
    if old.get("shard_count") != new.get("shard_count"):
        await kinesis.update_shard_count(
            StreamName=name,
            TargetShardCount=int(new["shard_count"]),
            ScalingType="UNIFORM_SCALING",
        )
    kind, key = new.get("encryption_type", "NONE"), new.get("kms_key_id")
    if (kind, key) != (old.get("encryption_type", "NONE"), old.get("kms_key_id")):
        if kind == "KMS":
            await kinesis.start_stream_encryption(StreamName=name, EncryptionType="KMS", KeyId=key)
        else:
            await kinesis.stop_stream_encryption(
                StreamName=name, EncryptionType="KMS", KeyId=old["kms_key_id"]
            )
    changed, removed = tag_changes(old, new)
    if changed:
        await kinesis.add_tags_to_stream(StreamName=name, Tags=changed)
    if removed:
        await kinesis.remove_tags_from_stream(StreamName=name, TagKeys=removed)
    return dict(have)


async def _delete_stream(clients: Clients, have: Mapping[str, Any]) -> None:
    kinesis = await clients("kinesis")
    call = kinesis.delete_stream(StreamName=have["name"], EnforceConsumerDeletion=True)
    await unless_gone(call)


def _s3_destination(new: Arguments) -> dict[str, Any]:
    s3 = block(new["extended_s3_configuration"])
    destination: dict[str, Any] = {
        "RoleARN": s3["role_arn"],
        "BucketARN": s3["bucket_arn"],
        "Prefix": s3.get("prefix", ""),
        "ErrorOutputPrefix": s3.get("error_output_prefix", ""),
        "BufferingHints": {
            "SizeInMBs": int(s3.get("buffering_size", 5)),
            "IntervalInSeconds": int(s3.get("buffering_interval", 300)),
        },
        "CompressionFormat": s3.get("compression_format", "UNCOMPRESSED"),
        # What the provider says, too, where it is told nothing of them.
        "CustomTimeZone": "UTC",
        "FileExtension": "",
        "DataFormatConversionConfiguration": {"Enabled": False},
        "EncryptionConfiguration": {"KMSEncryptionConfig": {"AWSKMSKeyARN": s3["kms_key_arn"]}}
        if s3.get("kms_key_arn")
        else {"NoEncryptionConfig": "NoEncryption"},
    }
    logging = block(s3.get("cloudwatch_logging_options"))
    if logging:
        destination["CloudWatchLoggingOptions"] = {
            "Enabled": bool(logging.get("enabled")),
            "LogGroupName": logging["log_group_name"],
            "LogStreamName": logging["log_stream_name"],
        }
    processing = block(s3.get("processing_configuration"))
    if processing:
        destination["ProcessingConfiguration"] = {
            "Enabled": bool(processing.get("enabled")),
            "Processors": [
                {
                    "Type": processor["type"],
                    "Parameters": [
                        {
                            "ParameterName": parameter["parameter_name"],
                            "ParameterValue": parameter["parameter_value"],
                        }
                        for parameter in processor.get("parameters") or ()
                    ],
                }
                for processor in processing.get("processors") or ()
            ],
        }
    return destination


async def _create_delivery(clients: Clients, new: Arguments) -> dict[str, Any]:
    firehose, name = await clients("firehose"), new["name"]
    source = block(new.get("kinesis_source_configuration"))
    more: dict[str, Any] = {}
    if source:
        more = {
            "DeliveryStreamType": "KinesisStreamAsSource",
            "KinesisStreamSourceConfiguration": {
                "KinesisStreamARN": source["kinesis_stream_arn"],
                "RoleARN": source["role_arn"],
            },
        }
    answer = await firehose.create_delivery_stream(
        DeliveryStreamName=name,
        ExtendedS3DestinationConfiguration=_s3_destination(new),
        Tags=tag_list(new),
        **more,
    )
    arn = answer["DeliveryStreamARN"]
    return {"id": arn, "arn": arn, "name": name}


async def _read_delivery(clients: Clients, have: Mapping[str, Any]) -> bool:
    firehose = await clients("firehose")
    return await exists(firehose.describe_delivery_stream(DeliveryStreamName=have["name"]))


async def _update_delivery(
    clients: Clients, have: Mapping[str, Any], old: Arguments, new: Arguments
) -> dict[str, Any]:
    firehose, name = await clients("firehose"), have["name"]
    if _s3_destination(old) != _s3_destination(new):
        told = await firehose.describe_delivery_stream(DeliveryStreamName=name)
        description = told["DeliveryStreamDescription"]
        await firehose.update_destination(
            DeliveryStreamName=name,
            CurrentDeliveryStreamVersionId=description["VersionId"],
            DestinationId=description["Destinations"][0]["DestinationId"],
            ExtendedS3DestinationUpdate=_s3_destination(new),
        )
    changed, removed = tag_changes(old, new)
    if changed:
        tags = [{"Key": key, "Value": value} for key, value in changed.items()]
        await firehose.tag_delivery_stream(DeliveryStreamName=name, Tags=tags)
    if removed:
        await firehose.untag_delivery_stream(DeliveryStreamName=name, TagKeys=removed)
    return dict(have)


async def _delete_delivery(clients: Clients, have: Mapping[str, Any]) -> None:
    firehose = await clients("firehose")
    await unless_gone(firehose.delete_delivery_stream(DeliveryStreamName=have["name"]))


TYPES = {
    "aws_kinesis_stream": Resource(
        schema={
            **dict.fromkeys(
                ("name", "shard_count", "retention_period", "encryption_type", "kms_key_id", "tags")
            ),
            "stream_mode_details": {"stream_mode": None},
        },
        create=_create_stream,
        read=_read_stream,
        update=_update_stream,
        delete=_delete_stream,
        replace_on=frozenset({"name", "stream_mode_details"}),
        taggable=True,
    ),
    "aws_kinesis_firehose_delivery_stream": Resource(
        schema={
            "name": None,
            "destination": None,
            "tags": None,
            "kinesis_source_configuration": {"kinesis_stream_arn": None, "role_arn": None},
            "extended_s3_configuration": {
                **dict.fromkeys(
                    ("role_arn", "bucket_arn", "prefix", "error_output_prefix", "buffering_size",
                     "buffering_interval", "compression_format", "kms_key_arn")
                ),
                "cloudwatch_logging_options": dict.fromkeys(
                    ("enabled", "log_group_name", "log_stream_name")
                ),
                "processing_configuration": {
                    "enabled": None,
                    "processors": {
                        "type": None,
                        "parameters": {"parameter_name": None, "parameter_value": None},
                    },
                },
            },
        },
        create=_create_delivery,
        read=_read_delivery,
        update=_update_delivery,
        delete=_delete_delivery,
        replace_on=frozenset({"name", "destination", "kinesis_source_configuration"}),
        taggable=True,
    ),
}  # fmt: skip
