"""Policy documents in requests: one with a condition operator that is not served is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from localcloud.access.conditions import unknown_operators
from localcloud.http import AwsError

if TYPE_CHECKING:
    from localcloud.http import Request

# Operation to where its document is, and what its service calls a malformed one.
_IAM = ("PolicyDocument", "MalformedPolicyDocument")
_PLACES: dict[tuple[str, str], tuple[str, str]] = {
    **{
        ("iam", operation): _IAM
        for operation in (
            "PutRolePolicy", "PutUserPolicy", "PutGroupPolicy", "CreatePolicy",
            "CreatePolicyVersion", "UpdateAssumeRolePolicy",
        )
    },
    ("iam", "CreateRole"): ("AssumeRolePolicyDocument", "MalformedPolicyDocument"),
    ("kms", "PutKeyPolicy"): ("Policy", "MalformedPolicyDocumentException"),
    ("kms", "CreateKey"): ("Policy", "MalformedPolicyDocumentException"),
    ("kinesis", "PutResourcePolicy"): ("Policy", "InvalidArgumentException"),
    ("secretsmanager", "PutResourcePolicy"): (
        "ResourcePolicy", "MalformedPolicyDocumentException"
    ),
    ("sqs", "SetQueueAttributes"): ("Attributes.Policy", "InvalidAttributeValue"),
    ("sqs", "CreateQueue"): ("Attributes.Policy", "InvalidAttributeValue"),
    ("sns", "SetTopicAttributes"): ("AttributeValue", "InvalidParameter"),
    ("s3", "PutBucketPolicy"): ("", "MalformedPolicy"),
}  # fmt: skip
SERVICES = frozenset(service for service, _ in _PLACES)


def check_document(request: Request, operation: str) -> None:
    """Refuses a policy with a condition operator that is not known.

    Raises:
        AwsError: in the service's words for a malformed policy.
    """
    place = _PLACES.get((request.service, operation))
    if place is None:
        return
    where, code = place
    try:
        statements = json.loads(_document(request, where))["Statement"]
        found = [
            operator
            for statement in (statements if isinstance(statements, list) else [statements])
            for operator in unknown_operators(statement.get("Condition") or {})
        ]
    except (AttributeError, KeyError, TypeError, ValueError):
        # No policy, or none that can be read: who takes it says so.
        return
    if found:
        raise AwsError(
            code,
            f"the condition operator {found[0]} is not known: policies are enforced here, and this "
            "one would not be; use an operator of the IAM guide",
        )


def _document(request: Request, where: str) -> Any:
    if not where:
        return request.body
    if request.operation:
        value: Any = request.json()
        for part in where.split("."):
            value = (value or {}).get(part)
        return value
    given = parse_qs(request.body.decode("utf-8", "replace"))
    if request.service == "sns" and given.get("AttributeName") != ["Policy"]:
        return None
    return given.get(where, [None])[0]
