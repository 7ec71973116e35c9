"""Where readings come in: the Kinesis stream, and IoT Core in front of it for MQTT devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stack.bindings import aws
from stack.constructs.scope import allow, policy, role

if TYPE_CHECKING:
    from stack.constructs.messaging import Messaging
    from stack.constructs.scope import Scope


def ingest_stream(scope: Scope, key: Any) -> Any:
    """The stream that takes every reading."""
    return aws.kinesis_stream.KinesisStream(
        scope.stack,
        "ingest",
        name=scope.names.stream,
        shard_count=scope.config.shards,
        retention_period=scope.config.stream_retention_hours,
        encryption_type="KMS",
        kms_key_id=key.arn,
        stream_mode_details=aws.kinesis_stream.KinesisStreamStreamModeDetails(
            stream_mode="PROVISIONED"
        ),
    )


def iot_core(scope: Scope, key: Any, stream: Any, messages: Messaging) -> Any:
    """Thing type, thing group, policies and topic rule.

    Devices publish to ENVIRONMENT-ROOT/THING/readings, gateways on the topics of all devices. The double dollars keep Terraform from
    reading IoT's own expressions as its own.
    """
    root = scope.names.topic_root
    thing = "$${iot:Connection.Thing.ThingName}"
    aws.iot_thing_type.IotThingType(
        scope.stack, "device-type", name=scope.names("device"), deprecated=False
    )
    aws.iot_thing_group.IotThingGroup(scope.stack, "device-group", name=scope.names("devices"))
    aws.iot_policy.IotPolicy(
        scope.stack,
        "gateway-policy",
        name=scope.names("gateway"),
        policy=policy(
            allow(["iot:Connect"], [scope.arn("iot", f"client/{thing}")]),
            allow(["iot:Publish"], [scope.arn("iot", f"topic/{root}/*/readings")]),
        ),
    )
    aws.iot_policy.IotPolicy(
        scope.stack,
        "device-policy",
        name=scope.names("device"),
        policy=policy(
            allow(["iot:Connect"], [scope.arn("iot", f"client/{thing}")]),
            allow(["iot:Publish"], [scope.arn("iot", f"topic/{root}/{thing}/readings")]),
        ),
    )
    statements = [
        allow(["kinesis:PutRecord", "kinesis:PutRecords"], [stream.arn]),
        allow(["sqs:SendMessage"], [messages.rule_errors.arn]),
        allow(["kms:GenerateDataKey", "kms:Decrypt"], [key.arn]),
    ]
    rule_role = role(scope, "topic-rule", "iot.amazonaws.com", statements)
    rule = aws.iot_topic_rule
    return rule.IotTopicRule(
        scope.stack,
        "readings-rule",
        name=scope.names.rule("readings"),
        description="Readings of devices into the stream",
        enabled=True,
        sql=f"SELECT * FROM '{root}/+/readings'",  # noqa: S608 - IoT's SQL, and no input in it
        sql_version="2016-03-23",
        kinesis=[
            rule.IotTopicRuleKinesis(
                role_arn=rule_role.arn, stream_name=stream.name, partition_key="$${topic(2)}"
            )
        ],
        error_action=rule.IotTopicRuleErrorAction(
            sqs=rule.IotTopicRuleErrorActionSqs(
                queue_url=messages.rule_errors.url, role_arn=rule_role.arn, use_base64=True
            )
        ),
    )
