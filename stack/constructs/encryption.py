"""The customer key of the environment, and exactly the services that may use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stack.bindings import aws
from stack.constructs.scope import policy

if TYPE_CHECKING:
    from stack.constructs.scope import Scope


def encryption_key(scope: Scope) -> Any:
    """The KMS key, its alias and its policy.

    Roles of the account are let in by their own policies (the first statement hands that over to
    IAM). Services that act by themselves are named: CloudWatch publishes alarms to the encrypted
    topic, SNS sends to encrypted queues, CloudWatch Logs encrypts log groups.
    """
    account = {"StringEquals": {"aws:SourceAccount": scope.account_id}}
    logs = f"logs.{scope.config.region}.amazonaws.com"
    groups = scope.arn("logs", "log-group:*")
    use = ["kms:Decrypt", "kms:GenerateDataKey*"]
    key = aws.kms_key.KmsKey(
        scope.stack,
        "key",
        description=f"fleetcast telemetry of environment {scope.config.environment}",
        enable_key_rotation=True,
        deletion_window_in_days=30 if scope.config.is_production else 7,
        policy=policy(
            {
                "Sid": "AccountDelegatesToIam",
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{scope.account_id}:root"},
                "Action": "kms:*",
                "Resource": "*",
            },
            {
                "Sid": "AlarmsReachTheTopic",
                "Effect": "Allow",
                "Principal": {"Service": "cloudwatch.amazonaws.com"},
                "Action": use,
                "Resource": "*",
                "Condition": account,
            },
            {
                "Sid": "TopicReachesQueues",
                "Effect": "Allow",
                "Principal": {"Service": "sns.amazonaws.com"},
                "Action": use,
                "Resource": "*",
                "Condition": account,
            },
            {
                "Sid": "LogsAreEncrypted",
                "Effect": "Allow",
                "Principal": {"Service": logs},
                "Action": [*use, "kms:Encrypt", "kms:ReEncrypt*", "kms:DescribeKey"],
                "Resource": "*",
                "Condition": {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}},
            },
        ),
    )
    aws.kms_alias.KmsAlias(
        scope.stack, "key-alias", name=scope.names.alias("telemetry"), target_key_id=key.key_id
    )
    return key
