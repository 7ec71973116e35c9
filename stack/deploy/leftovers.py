"""Environments that stand in an account, found by the names of their resources alone.

What deployed them may be gone, and their state with it: an interrupted nightly run, a machine that
broke. Every resource is looked for in the list of its own service, so that also half an environment
is found.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stack.alarms import ALARM_NAMES
from stack.names import PREFIX

if TYPE_CHECKING:
    from stack.deploy.builtin.resource import Clients

ROLES = ("archive", "iot-logs", "processor", "provisioning", "topic-rule")
QUEUES = ("failures", "probe", "quarantine", "rule-errors")


@dataclass(frozen=True, slots=True)
class Found:
    """One resource.

    Attributes:
        type: Its Terraform type.
        name: As its service has it.
        attributes: What deleting it needs.
        created: When, where the service tells.
    """

    type: str
    name: str
    attributes: dict[str, Any]
    created: datetime | None = None

    def __str__(self) -> str:
        return f"{self.type} {self.name}"


@dataclass(slots=True)
class Leftover:
    """What there is of one environment.

    Attributes:
        environment: Its suffix.
        resources: What was found, in an order in which it can be deleted.
    """

    environment: str
    resources: list[Found] = field(default_factory=list)

    @property
    def newest(self) -> datetime | None:
        """When the youngest of its resources was made; None where no service tells."""
        times = [found.created for found in self.resources if found.created is not None]
        return max(times, default=None)


# What a list says: (what the resource is, its environment).
Names = Callable[[str], str | None]


def _named(*whats: str, before: str = "", after: str = "", between: str = "-") -> Names:
    """Reads the environment off a name."""
    pattern = re.compile(
        rf"{re.escape(before)}{PREFIX}{between}(?:{'|'.join(whats)}){between}(.+?){after}"
    )

    def environment(name: str) -> str | None:
        match = pattern.fullmatch(name)
        # Topic rules have underscores where all else has hyphens.
        return match.group(1).replace("_", "-") if match else None

    return environment


@dataclass(frozen=True, slots=True)
class _Listing:
    """How resources of one type are listed, and what is made of an entry."""

    type: str
    service: str
    operation: str
    member: str
    environment: Names
    name: Callable[[Any], str]
    attributes: Callable[[Any], dict[str, Any]]
    created: Callable[[Any], Any] = lambda _: None


def _by(key: str) -> Callable[[Any], str]:
    return lambda entry: str(entry[key])


def _last(text: str, separator: str = ":") -> str:
    return text.rpartition(separator)[2]


# In an order in which they can be deleted: what reads or writes something before that.
LISTINGS = (
    _Listing(
        "aws_lambda_event_source_mapping", "lambda", "list_event_source_mappings",
        "EventSourceMappings", _named("processor"), lambda e: _last(e["FunctionArn"]),
        lambda e: {"uuid": e["UUID"]},
    ),
    _Listing(
        "aws_lambda_function", "lambda", "list_functions", "Functions", _named("processor"),
        _by("FunctionName"), lambda e: {"function_name": e["FunctionName"]},
    ),
    _Listing(
        "aws_iot_topic_rule", "iot", "list_topic_rules", "rules",
        _named("readings", between="_"), _by("ruleName"), lambda e: {"name": e["ruleName"]},
        lambda e: e.get("createdAt"),
    ),
    _Listing(
        "aws_iot_provisioning_template", "iot", "list_provisioning_templates", "templates",
        _named("fleet"), _by("templateName"), lambda e: {"name": e["templateName"]},
        lambda e: e.get("creationDate"),
    ),
    _Listing(
        "aws_iot_policy", "iot", "list_policies", "policies",
        _named("claim", "device", "gateway"),
        _by("policyName"), lambda e: {"name": e["policyName"]},
    ),
    _Listing(
        "aws_iot_thing_group", "iot", "list_thing_groups", "thingGroups", _named("devices"),
        _by("groupName"), lambda e: {"name": e["groupName"]},
    ),
    _Listing(
        "aws_iot_thing_type", "iot", "list_thing_types", "thingTypes", _named("device"),
        _by("thingTypeName"), lambda e: {"name": e["thingTypeName"]},
        lambda e: (e.get("thingTypeMetadata") or {}).get("creationDate"),
    ),
    _Listing(
        "aws_kinesis_firehose_delivery_stream", "firehose", "list_delivery_streams",
        "DeliveryStreamNames", _named("archive"), str, lambda e: {"name": e},
    ),
    _Listing(
        "aws_kinesis_stream", "kinesis", "list_streams", "StreamSummaries", _named("ingest"),
        _by("StreamName"), lambda e: {"name": e["StreamName"]},
        lambda e: e.get("StreamCreationTimestamp"),
    ),
    _Listing(
        "aws_cloudwatch_metric_alarm", "cloudwatch", "describe_alarms", "MetricAlarms",
        _named(*ALARM_NAMES), _by("AlarmName"), lambda e: {"alarm_name": e["AlarmName"]},
        lambda e: e.get("AlarmConfigurationUpdatedTimestamp"),
    ),
    _Listing(
        "aws_cloudwatch_dashboard", "cloudwatch", "list_dashboards", "DashboardEntries",
        _named("telemetry"), _by("DashboardName"),
        lambda e: {"dashboard_name": e["DashboardName"]}, lambda e: e.get("LastModified"),
    ),
    _Listing(
        "aws_sns_topic_subscription", "sns", "list_subscriptions", "Subscriptions",
        _named("alarms"), lambda e: _last(e["TopicArn"]), lambda e: {"arn": e["SubscriptionArn"]},
    ),
    _Listing(
        "aws_sns_topic", "sns", "list_topics", "Topics", _named("alarms"),
        lambda e: _last(e["TopicArn"]), lambda e: {"arn": e["TopicArn"]},
    ),
    _Listing(
        "aws_sqs_queue", "sqs", "list_queues", "QueueUrls", _named(*QUEUES),
        lambda e: _last(e, "/"), lambda e: {"url": e},
    ),
    _Listing(
        "aws_timestreamwrite_table", "timestream-write", "list_tables", "Tables",
        _named("readings"), _by("TableName"),
        lambda e: {"database_name": e["DatabaseName"], "table_name": e["TableName"]},
        lambda e: e.get("CreationTime"),
    ),
    _Listing(
        "aws_timestreamwrite_database", "timestream-write", "list_databases", "Databases",
        _named("telemetry"), _by("DatabaseName"),
        lambda e: {"database_name": e["DatabaseName"]}, lambda e: e.get("CreationTime"),
    ),
    _Listing(
        "aws_secretsmanager_secret", "secretsmanager", "list_secrets", "SecretList",
        _named("signing-key"), _by("Name"), lambda e: {"arn": e["ARN"], "recovery_days": 0},
        lambda e: e.get("CreatedDate"),
    ),
    _Listing(
        "aws_cloudwatch_log_group", "logs", "describe_log_groups", "logGroups",
        _named("processor", before="/aws/lambda/"), _by("logGroupName"),
        lambda e: {"name": e["logGroupName"]}, lambda e: e.get("creationTime"),
    ),
    _Listing(
        "aws_cloudwatch_log_group", "logs", "describe_log_groups", "logGroups",
        _named("archive", before="/aws/kinesisfirehose/"), _by("logGroupName"),
        lambda e: {"name": e["logGroupName"]}, lambda e: e.get("creationTime"),
    ),
    _Listing(
        "aws_iam_role_policy", "iam", "list_roles", "Roles", _named(*ROLES), _by("RoleName"),
        lambda e: {"role": e["RoleName"], "name": e["RoleName"]},
    ),
    _Listing(
        "aws_iam_role", "iam", "list_roles", "Roles", _named(*ROLES), _by("RoleName"),
        lambda e: {"name": e["RoleName"]}, lambda e: e.get("CreateDate"),
    ),
    _Listing(
        "aws_s3_bucket", "s3", "list_buckets", "Buckets", _named("archive", after=r"-\d{12}"),
        _by("Name"), lambda e: {"bucket": e["Name"], "force_destroy": True},
        lambda e: e.get("CreationDate"),
    ),
    # The key goes by its alias, and after it.
    _Listing(
        "aws_kms_key", "kms", "list_aliases", "Aliases", _named("telemetry", before="alias/"),
        _by("AliasName"), lambda e: {"key_id": e["TargetKeyId"], "window": 7},
        lambda e: e.get("CreationDate"),
    ),
    _Listing(
        "aws_kms_alias", "kms", "list_aliases", "Aliases", _named("telemetry", before="alias/"),
        _by("AliasName"), lambda e: {"name": e["AliasName"]},
    ),
)  # fmt: skip


async def find_leftovers(clients: Clients, prefix: str) -> list[Leftover]:
    """Environments whose names begin with `prefix`, by name.

    Args:
        clients: Of the account and region to look in.
        prefix: What the names of environments must begin with.
    """
    found: dict[str, Leftover] = {}
    entries: dict[tuple[str, str, str], list[Any]] = {}
    for listing in LISTINGS:
        asked = (listing.service, listing.operation, listing.member)
        if asked not in entries:
            entries[asked] = [e async for e in _entries(await clients(asked[0]), *asked[1:])]
        for entry in entries[asked]:
            name = listing.name(entry)
            environment = listing.environment(name)
            if environment is None or not environment.startswith(prefix):
                continue
            resource = Found(
                listing.type, name, listing.attributes(entry), _moment(listing.created(entry))
            )
            found.setdefault(environment, Leftover(environment)).resources.append(resource)
    return [found[name] for name in sorted(found)]


async def _entries(client: Any, operation: str, member: str) -> AsyncIterator[Any]:
    if client.can_paginate(operation):
        async for page in client.get_paginator(operation).paginate():
            for entry in page.get(member) or ():
                yield entry
        return
    # Firehose has pages and no paginator: each begins after the last name of the one before.
    answer: Mapping[str, Any] = await getattr(client, operation)()
    while True:
        names = answer.get(member) or []
        for entry in names:
            yield entry
        if not names or not answer.get("HasMoreDeliveryStreams"):
            return
        answer = await getattr(client, operation)(ExclusiveStartDeliveryStreamName=names[-1])


def _moment(told: Any) -> datetime | None:
    """A time as services tell it: a datetime, or epoch milliseconds."""
    if isinstance(told, int | float):
        return datetime.fromtimestamp(told / 1000, UTC)
    return told if isinstance(told, datetime) else None
