"""All that AWS tells of a deployed environment: every describing, getting and listing call.

What is other in each deployment (identifiers that AWS gives, moments) is masked, so that two
deployments can be compared.
"""

from __future__ import annotations

import json
import re
from contextlib import AsyncExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

import botocore.session
from botocore import xform_name
from botocore.exceptions import ClientError

from stack.alarms import ALARM_NAMES
from stack.names import Names

if TYPE_CHECKING:
    from fleetcast.target import Target

ROLES = ("archive", "iot-logs", "processor", "provisioning", "topic-rule")
QUEUES = ("failures", "probe", "quarantine", "rule-errors")
BUCKET_READS = (
    "get_bucket_accelerate_configuration", "get_bucket_acl", "get_bucket_cors",
    "get_bucket_encryption", "get_bucket_lifecycle_configuration", "get_bucket_location",
    "get_bucket_logging", "get_bucket_notification_configuration",
    "get_bucket_ownership_controls", "get_bucket_policy", "get_bucket_policy_status",
    "get_bucket_replication", "get_bucket_request_payment", "get_bucket_tagging",
    "get_bucket_versioning", "get_bucket_website", "get_object_lock_configuration",
    "get_public_access_block", "list_object_versions",
)  # fmt: skip
Call = tuple[str, str, dict[str, Any]]

# Members that are other in each deployment.
_OWN = {
    "AlarmConfigurationUpdatedTimestamp", "CurrentKeyMaterialId", "GenerationId",
    "LastProcessingResult", "PublicKey", "RevisionId", "RoleId", "RoleLastUsed",
    "StateReason", "StateReasonData", "StateTransitionedTimestamp", "StateUpdatedTimestamp",
    "StateValue", "StateTransitionTime", "VersionId", "VersionIdsToStages", "generationId",
    "SecretString", "StartingSequenceNumber",
    # How much waits, and where the local cloud has a function's code.
    "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "Location",
}  # fmt: skip
_TIMES = re.compile(r"(?i)(date|time|timestamp|lastmodified|createdat)$")
_MASKS = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"127\.0\.0\.1:\d+"), "<endpoint>"),
    (re.compile(r"(:secret:[\w-]+)-[A-Za-z0-9]{6}\b"), r"\1-<random>"),
)


def calls(environment: str, found: dict[str, str]) -> list[Call]:
    """Every call that tells something of a resource of the environment.

    Args:
        environment: Its suffix.
        found: Identifiers that AWS gave: account, bucket, key, mapping, subscription, urls by queue.
    """
    name = Names(environment)

    def arn(service: str, resource: str) -> str:
        return f"arn:aws:{service}:us-east-1:{found['account']}:{resource}"

    stream, database = arn("kinesis", f"stream/{name.stream}"), name("telemetry")
    topic, function = arn("sns", name("alarms")), arn("lambda", f"function:{name.function}")
    table = {"DatabaseName": database, "TableName": name("readings")}
    series = arn("timestream", f"database/{database}")
    rule, policy = name.rule("readings"), name("device")
    made: list[Call] = [
        ("kinesis", "describe_stream", {"StreamName": name.stream}),
        ("kinesis", "describe_stream_summary", {"StreamName": name.stream}),
        ("kinesis", "list_shards", {"StreamName": name.stream}),
        ("kinesis", "list_stream_consumers", {"StreamARN": stream}),
        ("kinesis", "list_tags_for_stream", {"StreamName": name.stream}),
        ("firehose", "describe_delivery_stream", {"DeliveryStreamName": name.delivery_stream}),
        ("firehose", "list_tags_for_delivery_stream", {"DeliveryStreamName": name.delivery_stream}),
        ("timestream-write", "describe_database", {"DatabaseName": database}),
        ("timestream-write", "describe_table", table),
        ("timestream-write", "list_tables", {"DatabaseName": database}),
        ("timestream-write", "list_tags_for_resource", {"ResourceARN": series}),
        (
            "timestream-write",
            "list_tags_for_resource",
            {"ResourceARN": f"{series}/table/{table['TableName']}"},
        ),
        ("lambda", "get_function", {"FunctionName": name.function}),
        ("lambda", "get_function_configuration", {"FunctionName": name.function}),
        ("lambda", "get_function_concurrency", {"FunctionName": name.function}),
        ("lambda", "list_tags", {"Resource": function}),
        ("lambda", "list_versions_by_function", {"FunctionName": name.function}),
        ("lambda", "get_policy", {"FunctionName": name.function}),
        ("lambda", "get_event_source_mapping", {"UUID": found["mapping"]}),
        ("lambda", "list_event_source_mappings", {"FunctionName": name.function}),
        ("secretsmanager", "describe_secret", {"SecretId": name("signing-key")}),
        ("secretsmanager", "get_secret_value", {"SecretId": name("signing-key")}),
        ("secretsmanager", "get_resource_policy", {"SecretId": name("signing-key")}),
        ("kms", "describe_key", {"KeyId": found["key"]}),
        ("kms", "get_key_policy", {"KeyId": found["key"], "PolicyName": "default"}),
        ("kms", "get_key_rotation_status", {"KeyId": found["key"]}),
        ("kms", "list_key_policies", {"KeyId": found["key"]}),
        ("kms", "list_resource_tags", {"KeyId": found["key"]}),
        ("kms", "list_aliases", {"KeyId": found["key"]}),
        ("kms", "list_grants", {"KeyId": found["key"]}),
        ("sns", "get_topic_attributes", {"TopicArn": topic}),
        ("sns", "list_subscriptions_by_topic", {"TopicArn": topic}),
        ("sns", "get_subscription_attributes", {"SubscriptionArn": found["subscription"]}),
        ("sns", "list_tags_for_resource", {"ResourceArn": topic}),
        ("iot", "describe_thing_type", {"thingTypeName": policy}),
        ("iot", "list_tags_for_resource", {"resourceArn": arn("iot", f"thingtype/{policy}")}),
        ("iot", "get_policy", {"policyName": policy}),
        ("iot", "list_policy_versions", {"policyName": policy}),
        ("iot", "list_targets_for_policy", {"policyName": policy}),
        ("iot", "list_tags_for_resource", {"resourceArn": arn("iot", f"policy/{policy}")}),
        ("iot", "get_policy", {"policyName": name("gateway")}),
        ("iot", "list_policy_versions", {"policyName": name("gateway")}),
        ("iot", "list_targets_for_policy", {"policyName": name("gateway")}),
        ("iot", "list_tags_for_resource", {"resourceArn": arn("iot", f"policy/{name('gateway')}")}),
        ("iot", "describe_thing_group", {"thingGroupName": name("devices")}),
        (
            "iot",
            "list_tags_for_resource",
            {
                "resourceArn": arn("iot", f"thinggroup/{name('devices')}"),
            },
        ),
        ("iot", "get_policy", {"policyName": name("claim")}),
        ("iot", "get_v2_logging_options", {}),
        ("iot", "describe_provisioning_template", {"templateName": name.template}),
        (
            "iot",
            "list_tags_for_resource",
            {"resourceArn": arn("iot", f"provisioningtemplate/{name.template}")},
        ),
        ("iot", "get_topic_rule", {"ruleName": rule}),
        ("iot", "list_tags_for_resource", {"resourceArn": arn("iot", f"rule/{rule}")}),
        ("cloudwatch", "get_dashboard", {"DashboardName": name("telemetry")}),
    ]
    for short in ALARM_NAMES:
        made.append(("cloudwatch", "describe_alarms", {"AlarmNames": [name(short)]}))
        alarm = arn("cloudwatch", f"alarm:{name(short)}")
        made.append(("cloudwatch", "list_tags_for_resource", {"ResourceARN": alarm}))
    for group in (
        f"/aws/lambda/{name.function}",
        f"/aws/kinesisfirehose/{name.delivery_stream}",
    ):
        made.append(("logs", "describe_log_groups", {"logGroupNamePrefix": group}))
        made.append(("logs", "describe_log_streams", {"logGroupName": group}))
        made.append(("logs", "describe_metric_filters", {"logGroupName": group}))
        made.append(("logs", "describe_subscription_filters", {"logGroupName": group}))
        where = arn("logs", f"log-group:{group}")
        made.append(("logs", "list_tags_for_resource", {"resourceArn": where}))
    for queue in QUEUES:
        url = found[f"{queue} url"]
        every = {"QueueUrl": url, "AttributeNames": ["All"]}
        made.append(("sqs", "get_queue_attributes", every))
        made.append(("sqs", "list_queue_tags", {"QueueUrl": url}))
        made.append(("sqs", "list_dead_letter_source_queues", {"QueueUrl": url}))
    for role in ROLES:
        who = {"RoleName": name(role)}
        made += [
            ("iam", "get_role", who),
            ("iam", "list_role_tags", who),
            ("iam", "list_role_policies", who),
            ("iam", "list_attached_role_policies", who),
            ("iam", "get_role_policy", {**who, "PolicyName": name(role)}),
        ]
    made += [("s3", operation, {"Bucket": found["bucket"]}) for operation in BUCKET_READS]
    return made


def more_calls(made: list[Call]) -> list[Call]:
    """Every other call that describes, gets or lists, and asks for nothing but the same names.

    The models of the services say what there is, so that none is forgotten; what one refuses, as
    for a function URL that there is not, it must refuse after both engines.
    """
    session = botocore.session.get_session()
    called = {(service, operation) for service, operation, _ in made}
    more: list[Call] = []
    for service in sorted({service for service, _, _ in made}):
        model = session.get_service_model(service)
        for name in model.operation_names:
            operation = xform_name(name)
            if not name.startswith(("Describe", "Get", "List")) or (service, operation) in called:
                continue
            asked = model.operation_model(name).input_shape
            needed = set(asked.required_members) if asked else set()
            given = [
                {key: arguments[key] for key in sorted(needed)}
                for asked_service, _, arguments in made
                if asked_service == service and needed and needed <= arguments.keys()
            ]
            # The same names once, whatever call they are from.
            different = {json.dumps(arguments): arguments for arguments in given}
            more += [(service, operation, arguments) for arguments in different.values()]
    return more


# Every list of an account that may have something of the stack in it, and where its answer has it.
LISTS = (
    ("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
    ("cloudwatch", "list_dashboards", "DashboardEntries", "DashboardName"),
    ("firehose", "list_delivery_streams", "DeliveryStreamNames", ""),
    ("iam", "list_roles", "Roles", "RoleName"),
    ("iam", "list_policies", "Policies", "PolicyName"),
    ("iam", "list_users", "Users", "UserName"),
    ("iot", "list_policies", "policies", "policyName"),
    ("iot", "list_provisioning_templates", "templates", "templateName"),
    ("iot", "list_thing_groups", "thingGroups", "groupName"),
    ("iot", "list_thing_types", "thingTypes", "thingTypeName"),
    ("iot", "list_things", "things", "thingName"),
    ("iot", "list_topic_rules", "rules", "ruleName"),
    ("kinesis", "list_streams", "StreamNames", ""),
    ("kms", "list_aliases", "Aliases", "AliasName"),
    ("kms", "list_keys", "Keys", "KeyId"),
    ("lambda", "list_event_source_mappings", "EventSourceMappings", "UUID"),
    ("lambda", "list_functions", "Functions", "FunctionName"),
    ("logs", "describe_log_groups", "logGroups", "logGroupName"),
    ("s3", "list_buckets", "Buckets", "Name"),
    ("secretsmanager", "list_secrets", "SecretList", "Name"),
    ("sns", "list_subscriptions", "Subscriptions", "SubscriptionArn"),
    ("sns", "list_topics", "Topics", "TopicArn"),
    ("sqs", "list_queues", "QueueUrls", ""),
    ("timestream-write", "list_databases", "Databases", "DatabaseName"),
    ("timestream-write", "list_tables", "Tables", "TableName"),
)


class Account:
    """Read-only calls of a target."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._opened = AsyncExitStack()
        self._clients: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()

    async def ask(self, service: str, operation: str, given: dict[str, Any]) -> Any:
        """What a call answers, with all its pages; the code of its refusal where it is refused."""
        if service not in self._clients:
            opening = self._target.client(service)
            self._clients[service] = await self._opened.enter_async_context(opening)
        client = self._clients[service]
        try:
            if client.can_paginate(operation):
                pages = client.get_paginator(operation).paginate(**given)
                return await pages.build_full_result()
            return await getattr(client, operation)(**given)
        except ClientError as error:
            return {"refused": error.response["Error"]["Code"]}

    async def names(self) -> dict[str, list[str]]:
        """Names of all that every service lists; keys that wait for their deletion are left out."""
        listed = {}
        for service, operation, member, name in LISTS:
            answer = await self.ask(service, operation, {})
            entries = answer.get(member, [])
            found = [entry[name] if name else entry for entry in entries]
            if operation == "list_keys":
                found = [key for key in found if await self._is_in_use(key)]
            if operation == "list_aliases":
                found = [alias for alias in found if not alias.startswith("alias/aws/")]
            listed[f"{service} {operation}"] = sorted(found)
        return listed

    async def _is_in_use(self, key: str) -> bool:
        told = (await self.ask("kms", "describe_key", {"KeyId": key}))["KeyMetadata"]
        return bool(told["KeyState"] != "PendingDeletion" and told["KeyManager"] == "CUSTOMER")

    async def everything(self, environment: str) -> dict[str, Any]:
        """The masked answer of every call about an environment."""
        name = Names(environment)
        found = {"account": (await self.ask("sts", "get_caller_identity", {}))["Account"]}
        found["bucket"] = f"{name('archive')}-{found['account']}"
        told = await self.ask("kms", "describe_key", {"KeyId": name.alias("telemetry")})
        found["key"] = told["KeyMetadata"]["KeyId"]
        told = await self.ask("lambda", "list_event_source_mappings",
                              {"FunctionName": name.function})  # fmt: skip
        found["mapping"] = told["EventSourceMappings"][0]["UUID"]
        topic = f"arn:aws:sns:us-east-1:{found['account']}:{name('alarms')}"
        told = await self.ask("sns", "list_subscriptions_by_topic", {"TopicArn": topic})
        found["subscription"] = told["Subscriptions"][0]["SubscriptionArn"]
        for queue in QUEUES:
            told = await self.ask("sqs", "get_queue_url", {"QueueName": name(queue)})
            found[f"{queue} url"] = told["QueueUrl"]
        answers = {}
        asked = calls(environment, found)
        for service, operation, given in [*asked, *more_calls(asked)]:
            label = f"{service} {operation} {' '.join(map(str, given.values()))}"
            answers[_masked_text(label)] = masked(await self.ask(service, operation, given))
        return answers


def masked(value: Any) -> Any:
    """A value without what is other in each deployment; lists of objects in one order."""
    if isinstance(value, datetime):
        return "<time>"
    if isinstance(value, dict):
        return {
            name: "<own>" if name in _OWN or _TIMES.search(name) else masked(member)
            for name, member in value.items()
            if name != "ResponseMetadata"
        }
    if isinstance(value, list):
        members = [masked(member) for member in value]
        return sorted(members, key=lambda member: json.dumps(member, sort_keys=True))
    if isinstance(value, str):
        if value.startswith("{"):
            # Policies and other documents: the same whatever their spaces and order.
            return masked(json.loads(value))
        return _masked_text(value)
    return value


def _masked_text(text: str) -> str:
    for pattern, mask in _MASKS:
        text = pattern.sub(mask, text)
    return text


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two masked answers differ, a line each."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            line
            for name in sorted(one.keys() | other.keys())
            for line in differences(one.get(name), other.get(name), f"{where}/{name}")
        ]
    return [] if one == other else [f"{where}: {one!r} and {other!r}"]
