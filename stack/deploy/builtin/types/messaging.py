"""SNS topics, SQS queues, their policies and subscriptions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stack.deploy.builtin.calls import exists, unless_gone
from stack.deploy.builtin.resource import Resource, tag_changes, tag_list

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stack.deploy.builtin.resource import Arguments, Clients

_QUEUE_ATTRIBUTES = {
    "message_retention_seconds": ("MessageRetentionPeriod", "345600"),
    "visibility_timeout_seconds": ("VisibilityTimeout", "30"),
    "max_message_size": ("MaximumMessageSize", "262144"),
    "kms_master_key_id": ("KmsMasterKeyId", ""),
    "kms_data_key_reuse_period_seconds": ("KmsDataKeyReusePeriodSeconds", "300"),
}


async def _create_topic(clients: Clients, new: Arguments) -> dict[str, Any]:
    sns = await clients("sns")
    attributes = {}
    if new.get("kms_master_key_id"):
        attributes["KmsMasterKeyId"] = new["kms_master_key_id"]
    answer = await sns.create_topic(Name=new["name"], Attributes=attributes, Tags=tag_list(new))
    arn = answer["TopicArn"]
    return {"id": arn, "arn": arn, "name": new["name"]}


async def _read_topic(clients: Clients, have: Mapping[str, Any]) -> bool:
    sns = await clients("sns")
    return await exists(sns.get_topic_attributes(TopicArn=have["arn"]))


async def _update_topic(
    clients: Clients, have: Mapping[str, Any], old: Arguments, new: Arguments
) -> dict[str, Any]:
    sns, arn = await clients("sns"), have["arn"]
    await sns.set_topic_attributes(
        TopicArn=arn,
        AttributeName="KmsMasterKeyId",
        AttributeValue=new.get("kms_master_key_id", ""),
    )
    changed, removed = tag_changes(old, new)
    if changed:
        tags = [{"Key": key, "Value": value} for key, value in changed.items()]
        await sns.tag_resource(ResourceArn=arn, Tags=tags)
    if removed:
        await sns.untag_resource(ResourceArn=arn, TagKeys=removed)
    return dict(have)


async def _delete_topic(clients: Clients, have: Mapping[str, Any]) -> None:
    sns = await clients("sns")
    await unless_gone(sns.delete_topic(TopicArn=have["arn"]))


async def _put_topic_policy(clients: Clients, new: Arguments) -> dict[str, Any]:
    sns = await clients("sns")
    await sns.set_topic_attributes(
        TopicArn=new["arn"], AttributeName="Policy", AttributeValue=new["policy"]
    )
    return {"id": new["arn"], "arn": new["arn"], "policy": new["policy"]}


async def _read_topic_policy(clients: Clients, have: Mapping[str, Any]) -> bool:
    sns = await clients("sns")
    return await exists(
        sns.get_topic_attributes(TopicArn=have["arn"]),
        lambda told: _same_policy(told["Attributes"], have),
    )


def _same_policy(attributes: Mapping[str, str], have: Mapping[str, Any]) -> bool:
    """Whether a policy is the one that was set: topics have one of AWS's before that."""
    told = attributes.get("Policy")
    return bool(told and "policy" in have and json.loads(told) == json.loads(have["policy"]))


async def _update_topic_policy(
    clients: Clients, _: Mapping[str, Any], __: Arguments, new: Arguments
) -> dict[str, Any]:
    return await _put_topic_policy(clients, new)


async def _leave(_: Clients, __: Mapping[str, Any]) -> None:
    """The policy goes with what it belongs to."""


async def _subscribe(clients: Clients, new: Arguments) -> dict[str, Any]:
    sns = await clients("sns")
    attributes = {}
    if new.get("raw_message_delivery"):
        attributes["RawMessageDelivery"] = "true"
    answer = await sns.subscribe(
        TopicArn=new["topic_arn"],
        Protocol=new["protocol"],
        Endpoint=new["endpoint"],
        Attributes=attributes,
        ReturnSubscriptionArn=True,
    )
    arn = answer["SubscriptionArn"]
    return {"id": arn, "arn": arn}


async def _read_subscription(clients: Clients, have: Mapping[str, Any]) -> bool:
    sns = await clients("sns")
    return await exists(sns.get_subscription_attributes(SubscriptionArn=have["arn"]))


async def _unsubscribe(clients: Clients, have: Mapping[str, Any]) -> None:
    sns = await clients("sns")
    await unless_gone(sns.unsubscribe(SubscriptionArn=have["arn"]))


def _queue_attributes(new: Arguments) -> dict[str, str]:
    return {
        attribute: str(new.get(argument) or default)
        for argument, (attribute, default) in _QUEUE_ATTRIBUTES.items()
        if new.get(argument) or default
    }


async def _create_queue(clients: Clients, new: Arguments) -> dict[str, Any]:
    sqs = await clients("sqs")
    answer = await sqs.create_queue(
        QueueName=new["name"],
        Attributes=_queue_attributes(new),
        tags=dict(new.get("tags") or {}),
    )
    url = answer["QueueUrl"]
    told = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return {"id": url, "url": url, "arn": told["Attributes"]["QueueArn"], "name": new["name"]}


async def _read_queue(clients: Clients, have: Mapping[str, Any]) -> bool:
    sqs = await clients("sqs")
    return await exists(sqs.get_queue_attributes(QueueUrl=have["url"], AttributeNames=["QueueArn"]))


async def _update_queue(
    clients: Clients, have: Mapping[str, Any], old: Arguments, new: Arguments
) -> dict[str, Any]:
    sqs, url = await clients("sqs"), have["url"]
    await sqs.set_queue_attributes(QueueUrl=url, Attributes=_queue_attributes(new))
    changed, removed = tag_changes(old, new)
    if changed:
        await sqs.tag_queue(QueueUrl=url, Tags=changed)
    if removed:
        await sqs.untag_queue(QueueUrl=url, TagKeys=removed)
    return dict(have)


async def _delete_queue(clients: Clients, have: Mapping[str, Any]) -> None:
    sqs = await clients("sqs")
    await unless_gone(sqs.delete_queue(QueueUrl=have["url"]))


async def _put_queue_policy(clients: Clients, new: Arguments) -> dict[str, Any]:
    sqs = await clients("sqs")
    await sqs.set_queue_attributes(QueueUrl=new["queue_url"], Attributes={"Policy": new["policy"]})
    return {"id": new["queue_url"], "url": new["queue_url"], "policy": new["policy"]}


async def _read_queue_policy(clients: Clients, have: Mapping[str, Any]) -> bool:
    sqs = await clients("sqs")
    return await exists(
        sqs.get_queue_attributes(QueueUrl=have["url"], AttributeNames=["Policy"]),
        lambda told: _same_policy(told.get("Attributes") or {}, have),
    )


async def _update_queue_policy(
    clients: Clients, _: Mapping[str, Any], __: Arguments, new: Arguments
) -> dict[str, Any]:
    return await _put_queue_policy(clients, new)


TYPES = {
    "aws_sns_topic": Resource(
        schema=dict.fromkeys(("name", "kms_master_key_id", "tags")),
        create=_create_topic,
        read=_read_topic,
        update=_update_topic,
        delete=_delete_topic,
        replace_on=frozenset({"name"}),
        taggable=True,
    ),
    "aws_sns_topic_policy": Resource(
        schema=dict.fromkeys(("arn", "policy")),
        create=_put_topic_policy,
        read=_read_topic_policy,
        update=_update_topic_policy,
        delete=_leave,
        replace_on=frozenset({"arn"}),
    ),
    "aws_sns_topic_subscription": Resource(
        schema=dict.fromkeys(("topic_arn", "protocol", "endpoint", "raw_message_delivery")),
        create=_subscribe,
        read=_read_subscription,
        delete=_unsubscribe,
    ),
    "aws_sqs_queue": Resource(
        schema=dict.fromkeys(("name", *_QUEUE_ATTRIBUTES, "tags")),
        create=_create_queue,
        read=_read_queue,
        update=_update_queue,
        delete=_delete_queue,
        replace_on=frozenset({"name"}),
        taggable=True,
    ),
    "aws_sqs_queue_policy": Resource(
        schema=dict.fromkeys(("queue_url", "policy")),
        create=_put_queue_policy,
        read=_read_queue_policy,
        update=_update_queue_policy,
        delete=_leave,
        replace_on=frozenset({"queue_url"}),
    ),
}
