"""Alarms: each tells somebody, and the topic, its key and the queues behind it let it through."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from stack.preflight.document import Finding, refers_to, services, statements, texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stack.preflight.document import Document

CLOUDWATCH, SNS = "cloudwatch.amazonaws.com", "sns.amazonaws.com"
KEY_ACTIONS = ("kms:Decrypt", "kms:GenerateDataKey")


def check_alarms(document: Document) -> Iterator[Finding]:
    """Alarms that nobody hears."""
    topics = set()
    for address, given in document.of("aws_cloudwatch_metric_alarm"):
        actions = [action for action in texts(given.get("alarm_actions")) if action]
        if not actions or given.get("actions_enabled") is False:
            yield Finding("alarm-actions", address, "tells nobody: set alarm_actions to a topic")
        topics |= {
            topic
            for topic, _ in document.of("aws_sns_topic")
            if any(refers_to(action, topic) for action in actions)
        }
    for topic, given in document.of("aws_sns_topic"):
        if topic in topics:
            yield from _check_topic(document, topic, given)
    yield from _check_subscriptions(document)
    for address, _ in document.of("aws_sqs_queue"):
        if not any(document.about("aws_sqs_queue_policy", "queue_url", address)):
            yield Finding("queue-policy", address, "has no policy: say who may send")


def _check_topic(document: Document, topic: str, given: dict[str, Any]) -> Iterator[Finding]:
    policies = document.about("aws_sns_topic_policy", "arn", topic)
    if not any(_allows(each.get("policy"), CLOUDWATCH, "sns:Publish") for each in policies):
        text = f"its policy does not let {CLOUDWATCH} publish: alarms do not reach it"
        yield Finding("alarm-delivery", topic, text)
    for address, key in document.of("aws_kms_key"):
        if refers_to(given.get("kms_master_key_id"), address):
            for action in KEY_ACTIONS:
                if not _allows(key.get("policy"), CLOUDWATCH, action):
                    text = f"does not let {CLOUDWATCH} use {action}: alarms do not reach {topic}"
                    yield Finding("alarm-delivery", address, text)


def _check_subscriptions(document: Document) -> Iterator[Finding]:
    for address, given in document.of("aws_sns_topic_subscription"):
        if given.get("protocol") != "sqs":
            continue
        for queue, _ in document.of("aws_sqs_queue"):
            if not refers_to(given.get("endpoint"), queue):
                continue
            policies = document.about("aws_sqs_queue_policy", "queue_url", queue)
            if not any(_allows(each.get("policy"), SNS, "sqs:SendMessage") for each in policies):
                text = f"the policy of {queue} does not let {SNS} send: nothing is delivered"
                yield Finding("alarm-delivery", address, text)


def _allows(policy: Any, service: str, action: str) -> bool:
    return any(
        statement.get("Effect") == "Allow"
        and service in services(statement)
        and any(fnmatchcase(action, pattern) for pattern in texts(statement.get("Action")))
        for statement in statements(policy)
    )
