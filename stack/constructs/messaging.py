"""The topic of the alarms, and the queues of what failed, was refused, or is watched by tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stack.bindings import aws
from stack.constructs.scope import policy

if TYPE_CHECKING:
    from stack.constructs.scope import Scope

RETENTION_S = 14 * 24 * 3600
VISIBILITY_S = 60
# What AWS took before it took 1 MiB; older providers refuse more.
MESSAGE_BYTES = 262_144


@dataclass(frozen=True, slots=True)
class Messaging:
    """The topic and the queues; `probe` is None where the configuration has none."""

    topic: Any
    failures: Any
    quarantine: Any
    rule_errors: Any
    probe: Any | None


def messaging(scope: Scope, key: Any) -> Messaging:
    """Makes the topic, the queues and their policies."""
    topic = aws.sns_topic.SnsTopic(
        scope.stack, "alarms-topic", name=scope.names("alarms"), kms_master_key_id=key.arn
    )
    aws.sns_topic_policy.SnsTopicPolicy(
        scope.stack,
        "alarms-topic-policy",
        arn=topic.arn,
        policy=policy(
            {
                "Sid": "AlarmsPublish",
                "Effect": "Allow",
                "Principal": {"Service": "cloudwatch.amazonaws.com"},
                "Action": "sns:Publish",
                "Resource": topic.arn,
                "Condition": {
                    "StringEquals": {"aws:SourceAccount": scope.account_id},
                    "ArnLike": {"aws:SourceArn": scope.arn("cloudwatch", "alarm:*")},
                },
            }
        ),
    )
    probe = None
    if scope.config.probe_queue:
        probe = _queue(scope, "probe", key, sender="sns.amazonaws.com", source=topic.arn)
        aws.sns_topic_subscription.SnsTopicSubscription(
            scope.stack,
            "probe-subscription",
            topic_arn=topic.arn,
            protocol="sqs",
            endpoint=probe.arn,
        )
    return Messaging(
        topic=topic,
        failures=_queue(scope, "failures", key),
        quarantine=_queue(scope, "quarantine", key),
        rule_errors=_queue(scope, "rule-errors", key),
        probe=probe,
    )


def _queue(
    scope: Scope, what: str, key: Any, *, sender: str | None = None, source: str | None = None
) -> Any:
    """An encrypted queue that is reached over TLS only, by roles of the account and by `sender`."""
    queue = aws.sqs_queue.SqsQueue(
        scope.stack,
        f"{what}-queue",
        name=scope.names(what),
        message_retention_seconds=RETENTION_S,
        visibility_timeout_seconds=VISIBILITY_S,
        max_message_size=MESSAGE_BYTES,
        kms_master_key_id=key.arn,
        kms_data_key_reuse_period_seconds=300,
    )
    statements: list[dict[str, Any]] = [
        {
            "Sid": "TlsOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "sqs:*",
            "Resource": queue.arn,
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    ]
    if sender:
        statements.append(
            {
                "Sid": "SenderSends",
                "Effect": "Allow",
                "Principal": {"Service": sender},
                "Action": "sqs:SendMessage",
                "Resource": queue.arn,
                "Condition": {"ArnEquals": {"aws:SourceArn": source}},
            }
        )
    aws.sqs_queue_policy.SqsQueuePolicy(
        scope.stack, f"{what}-queue-policy", queue_url=queue.url, policy=policy(*statements)
    )
    return queue
