"""Who may do what: single actions on single resources, each role for one service, TLS only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stack.preflight.document import Finding, services, statements, texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stack.preflight.document import Document

# Actions for which AWS has no resource, with the reason.
WITHOUT_RESOURCE = {
    "iot:AttachThingPrincipal": "neither things nor certificates are resources of it",
    "timestream:DescribeEndpoints": "it is called before any resource is known",
    "cloudwatch:PutMetricData": "metrics have no ARN; a condition on the namespace can bound it",
    "logs:DescribeLogGroups": "it lists groups",
    "xray:PutTraceSegments": "traces have no ARN",
    "xray:PutTelemetryRecords": "traces have no ARN",
}


def check_access(document: Document) -> Iterator[Finding]:
    """Statements that allow more than they need to."""
    for kind in ("aws_iam_role_policy", "aws_iam_policy"):
        for address, given in document.of(kind):
            for statement in statements(given.get("policy")):
                yield from _check_grant(address, statement)
    for address, given in document.of("aws_iam_role"):
        yield from _check_trust(address, given)
    for kind in ("aws_s3_bucket_policy", "aws_sqs_queue_policy", "aws_sns_topic_policy"):
        for address, given in document.of(kind):
            yield from _check_public(address, given)
    yield from _check_tls(document)


def _check_grant(address: str, statement: dict[str, Any]) -> Iterator[Finding]:
    if statement.get("Effect") != "Allow":
        return
    actions = texts(statement.get("Action"))
    if "NotAction" in statement or "NotResource" in statement:
        yield Finding("least-privilege", address, "allows all but something: name what is allowed")
    for action in actions:
        if action == "*" or action.endswith(":*"):
            yield Finding("least-privilege", address, f"allows {action}: name the actions")
    if "*" in texts(statement.get("Resource")):
        unbound = [action for action in actions if action not in WITHOUT_RESOURCE]
        if unbound:
            text = f"allows {', '.join(unbound)} on every resource: name the resources"
            yield Finding("least-privilege", address, text)


def _check_trust(address: str, given: dict[str, Any]) -> Iterator[Finding]:
    trusted = statements(given.get("assume_role_policy"))
    if not trusted:
        yield Finding("trust", address, "has no policy that says who may assume it")
    for statement in trusted:
        who = services(statement)
        if len(who) != 1 and not isinstance(statement.get("Principal"), dict):
            yield Finding("trust", address, "can be assumed by anybody: name one service")
        elif len(who) > 1:
            text = f"can be assumed by {', '.join(who)}: make a role for each"
            yield Finding("trust", address, text)


def _check_public(address: str, given: dict[str, Any]) -> Iterator[Finding]:
    for statement in statements(given.get("policy")):
        principal = statement.get("Principal")
        anybody = principal == "*" or (isinstance(principal, dict) and principal.get("AWS") == "*")
        if statement.get("Effect") == "Allow" and anybody and not statement.get("Condition"):
            yield Finding("public", address, "allows anybody: name who, or add a condition")


def _check_tls(document: Document) -> Iterator[Finding]:
    for kind, policy, argument in (
        ("aws_s3_bucket", "aws_s3_bucket_policy", "bucket"),
        ("aws_sqs_queue", "aws_sqs_queue_policy", "queue_url"),
    ):
        for address, _ in document.of(kind):
            policies = list(document.about(policy, argument, address))
            if not any(
                _denies_plain(statement)
                for given in policies
                for statement in statements(given.get("policy"))
            ):
                text = "takes requests without TLS: deny them where aws:SecureTransport is false"
                yield Finding("tls", address, text)


def _denies_plain(statement: dict[str, Any]) -> bool:
    condition = statement.get("Condition") or {}
    secure = (condition.get("Bool") or {}).get("aws:SecureTransport")
    return statement.get("Effect") == "Deny" and str(secure).lower() == "false"
