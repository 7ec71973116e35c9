"""What every construct is built with, and how policies are written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stack.bindings import aws

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stack.config import StackConfig
    from stack.names import Names

# Services that tell for which account they act when they assume a role (confused deputy).
SENDS_SOURCE_ACCOUNT = {"firehose.amazonaws.com", "iot.amazonaws.com"}


@dataclass(frozen=True, slots=True)
class Scope:
    """The stack under construction.

    Attributes:
        stack: The CDKTF stack that resources belong to.
        config: Its settings.
        names: Its names.
        account_id: Terraform expression of the account's id.
    """

    stack: Any
    config: StackConfig
    names: Names
    account_id: str

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a resource of this account and region."""
        return f"arn:aws:{service}:{self.config.region}:{self.account_id}:{resource}"


def allow(actions: Sequence[str], resources: Sequence[str], **more: Any) -> dict[str, Any]:
    """A statement that allows `actions` on `resources`."""
    return {"Effect": "Allow", "Action": list(actions), "Resource": list(resources), **more}


def policy(*statements: dict[str, Any]) -> str:
    """A policy document."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, sort_keys=True)


def role(scope: Scope, what: str, service: str, statements: Sequence[dict[str, Any]]) -> Any:
    """A role that only `service` acting for this account may assume, with one inline policy."""
    name = scope.names(what)
    trust: dict[str, Any] = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"Service": service},
    }
    if service in SENDS_SOURCE_ACCOUNT:
        trust["Condition"] = {"StringEquals": {"aws:SourceAccount": scope.account_id}}
    made = aws.iam_role.IamRole(
        scope.stack, f"{what}-role", name=name, assume_role_policy=policy(trust)
    )
    aws.iam_role_policy.IamRolePolicy(
        scope.stack, f"{what}-role-policy", name=name, role=made.name, policy=policy(*statements)
    )
    return made


def log_group(scope: Scope, what: str, name: str, key: Any) -> Any:
    """An encrypted log group with the configured retention."""
    return aws.cloudwatch_log_group.CloudwatchLogGroup(
        scope.stack,
        f"{what}-logs",
        name=name,
        retention_in_days=scope.config.log_retention_days,
        kms_key_id=key.arn,
    )
