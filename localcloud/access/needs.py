"""What a request needs to be allowed: actions on resources, and the use of keys.

Actions and resources are those of the "Service Authorization Reference"; of services outside the
pipeline the action is the operation, and the resource is `*`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, parse_qsl, unquote
from xml.etree import ElementTree as ET

from localcloud.access.policy import parse
from localcloud.naming import route_of
from localcloud.timestream.columns import members_of
from localcloud.timestream.unload import is_unload

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.access.stored import Policy, Stored
    from localcloud.http import Request

USE = ("kms:GenerateDataKey",)
BOTH = ("kms:GenerateDataKey", "kms:Decrypt")
READ = ("kms:Decrypt",)
# What reads a stream needs.
READ_STREAM = (
    "kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:DescribeStream", "kinesis:ListShards",
)  # fmt: skip
_BATCHES = {
    "SendMessageBatch": "SendMessage",
    "DeleteMessageBatch": "DeleteMessage",
    "ChangeMessageVisibilityBatch": "ChangeMessageVisibility",
    "PublishBatch": "Publish",
}
_S3_ACTIONS = {
    "HeadObject": "GetObject",
    "CopyObject": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "UploadPartCopy": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "HeadBucket": "ListBucket",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListParts": "ListMultipartUploadParts",
    "DeleteObjects": "DeleteObject",
    "ListBuckets": "ListAllMyBuckets",
}
_OF_OBJECTS = {
    "GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload", "ListMultipartUploadParts",
    "GetObjectTagging", "PutObjectTagging", "DeleteObjectTagging", "GetObjectAttributes",
}  # fmt: skip
# Resources of IoT Core's actions: the kind, and the parameter that names it. An action that is not
# here, such as AttachThingPrincipal, is allowed on all or on nothing.
_IOT: dict[str, tuple[tuple[str, str], ...]] = {
    "AddThingToThingGroup": (("thing", "thingName"), ("thinggroup", "thingGroupName")),
    "AttachPolicy": (("", "target"),),
    "CreatePolicy": (("policy", "policyName"),),
    "CreateThing": (("thing", "thingName"),),
    "DeleteCertificate": (("cert", "certificateId"),),
    "DeleteThing": (("thing", "thingName"),),
    "DescribeCertificate": (("cert", "certificateId"),),
    "DescribeThing": (("thing", "thingName"),),
    "DetachPolicy": (("", "target"),),
    "ListThingGroupsForThing": (("thing", "thingName"),),
    "ListThingPrincipals": (("thing", "thingName"),),
    "RemoveThingFromThingGroup": (("thing", "thingName"), ("thinggroup", "thingGroupName")),
    "UpdateCertificate": (("cert", "certificateId"),),
    "UpdateThing": (("thing", "thingName"),),
}
_TABLES = re.compile(r'"([^"]+)"\s*\.\s*"([^"]+)"|\bFROM\s+(\w+)\.(\w+)', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Need:
    """One action on one resource.

    Attributes:
        action: The action.
        resource: ARN, or `*`.
        policy: The resource's own policy, if it has one.
        key: ARN, id or alias of the key that is used, or empty.
        key_actions: What is done with it.
        key_context: Condition keys of that use.
    """

    action: str
    resource: str = "*"
    policy: Policy | None = None
    key: str = ""
    key_actions: tuple[str, ...] = ()
    key_context: dict[str, str] = field(default_factory=dict)


class Needs:
    """Reads requests.

    Args:
        stored: What moto keeps.
        account_id: Account in ARNs.
        region: Region in ARNs.

    Attributes:
        streams: Gives ARN, policy and key of a Kinesis stream or consumer by a request's body;
            Kinesis sets it.
    """

    streams: Callable[[dict[str, Any]], tuple[str, str | None, str]]

    def __init__(self, stored: Stored, account_id: str, region: str) -> None:
        self._stored = stored
        self._account_id = account_id
        self._region = region
        self._readers: dict[str, Callable[[Request, str], list[Need]]] = {
            "kinesis": self._kinesis,
            "timestream": self._timestream,
            "sqs": self._sqs,
            "sns": self._sns,
            "secretsmanager": self._secrets,
            "kms": self._kms,
            "logs": self._logs,
            "s3": self._s3,
            "lambda": self._lambda,
            "firehose": self._firehose,
            "iot": self._iot,
            "monitoring": lambda _request, operation: [Need(f"cloudwatch:{operation}")],
        }

    def of(self, request: Request, operation: str) -> list[Need]:
        """What a request needs; nothing where anybody may make it."""
        if request.service == "sts" and operation == "GetCallerIdentity":
            return []
        reader = self._readers.get(request.service)
        if reader is None:
            return [Need(f"{request.service}:{operation or '(unknown)'}")]
        return reader(request, operation)

    def _arn(self, service: str, resource: str) -> str:
        return f"arn:aws:{service}:{self._region}:{self._account_id}:{resource}"

    def _kinesis(self, request: Request, operation: str) -> list[Need]:
        if operation in {"ListStreams", "DescribeLimits", "DescribeAccountSettings"}:
            return [Need(f"kinesis:{operation}")]
        arn, policy, key = self.streams(request.json())
        actions: tuple[str, ...] = ()
        if operation in {"PutRecord", "PutRecords"}:
            actions = USE
        elif operation in {"GetRecords", "SubscribeToShard"}:
            actions = READ
        return [stream_need(f"kinesis:{operation}", arn, policy, key, actions)]

    def _timestream(self, request: Request, operation: str) -> list[Need]:
        body = members_of(request) if operation == "WriteRecords" else request.json()
        if operation in {"Query", "PrepareQuery"}:
            tables = {
                (m[1] or m[3], m[2] or m[4]) for m in _TABLES.finditer(body.get("QueryString", ""))
            }
            # Its rights to the bucket are asked for when it writes.
            unloads = is_unload(body.get("QueryString", ""))
            actions = ["timestream:Select", *(["timestream:Unload"] if unloads else [])]
            return [
                Need(action, self._arn("timestream", f"database/{d}/table/{t}"))
                for d, t in sorted(tables)
                for action in actions
            ] or [Need(f"timestream:{'Unload' if unloads else 'SelectValues'}")]
        if operation in {
            "DescribeAccountSettings",
            "DescribeEndpoints",
            "UpdateAccountSettings",
            "CancelQuery",
            "ListDatabases",
            "ListScheduledQueries",
            "DescribeBatchLoadTask",
            "ListBatchLoadTasks",
            "ResumeBatchLoadTask",
        }:
            return [Need(f"timestream:{operation}")]
        if operation == "CreateBatchLoadTask":
            database, table = body.get("TargetDatabaseName", ""), body.get("TargetTableName", "")
            target = self._arn("timestream", f"database/{database}/table/{table}")
            needed = ("timestream:CreateBatchLoadTask", "timestream:WriteRecords")
            return [Need(action, target) for action in needed]
        if operation == "CreateScheduledQuery":
            made = self._arn("timestream", f"scheduled-query/{body.get('Name', '')}")
            return [Need("timestream:CreateScheduledQuery", made)]
        resource = (
            body.get("ResourceARN")
            or body.get("ScheduledQueryArn")
            or self._arn(
                "timestream",
                f"database/{body.get('DatabaseName', '')}"
                + (f"/table/{body['TableName']}" if body.get("TableName") else ""),
            )
        )
        return [Need(f"timestream:{operation}", resource)]

    def _sqs(self, request: Request, operation: str) -> list[Need]:
        body = _members(request)
        action = f"sqs:{_BATCHES.get(operation, operation)}"
        url = body.get("QueueUrl") or request.path
        name = str(body.get("QueueName") or url.rstrip("/").rpartition("/")[2])
        if not name:
            return [Need(action)]
        return [self.queue(action, name)]

    def queue(self, action: str, name: str) -> Need:
        """An action on a queue."""
        policy, key = self._stored.queue(name)
        actions: tuple[str, ...] = ()
        if action == "sqs:SendMessage":
            actions = BOTH
        elif action == "sqs:ReceiveMessage":
            actions = READ
        context = {"kms:viaservice": f"sqs.{self._region}.amazonaws.com"}
        return Need(action, self._arn("sqs", name), policy, key, actions, context)

    def destination(self, arn: str) -> Need:
        """Sending a message to a queue or topic."""
        if arn.split(":")[2] == "sqs":
            return self.queue("sqs:SendMessage", arn.rpartition(":")[2])
        return self._topic("sns:Publish", arn)

    def _sns(self, request: Request, operation: str) -> list[Need]:
        body = _members(request)
        action = f"sns:{_BATCHES.get(operation, operation)}"
        arn = body.get("TopicArn") or body.get("TargetArn") or body.get("ResourceArn")
        return [self._topic(action, arn) if arn else Need(action)]

    def _topic(self, action: str, arn: str) -> Need:
        policy, key = self._stored.topic(arn)
        context = {
            "kms:viaservice": f"sns.{self._region}.amazonaws.com",
            "kms:encryptioncontext:aws:sns:topicarn": arn,
        }
        return Need(action, arn, policy, key, BOTH if action == "sns:Publish" else (), context)

    def _secrets(self, request: Request, operation: str) -> list[Need]:
        action = f"secretsmanager:{operation}"
        secret_id = request.json().get("SecretId")
        if not secret_id:
            return [Need(action)]
        arn, policy, key = self._stored.secret(secret_id)
        actions = {"GetSecretValue": READ, "PutSecretValue": BOTH, "UpdateSecret": BOTH}
        context = {
            "kms:viaservice": f"secretsmanager.{self._region}.amazonaws.com",
            "kms:encryptioncontext:secretarn": arn,
        }
        return [Need(action, arn, policy, key, actions.get(operation, ()), context)]

    def _kms(self, request: Request, operation: str) -> list[Need]:
        key_id = request.json().get("KeyId")
        key = self._stored.key(key_id) if key_id else None
        if key is None:
            return [Need(f"kms:{operation}")]
        return [Need("", key.arn, None, key.arn, (f"kms:{operation}",))]

    def _logs(self, request: Request, operation: str) -> list[Need]:
        body = request.json()
        arn = body.get("logGroupIdentifier") or body.get("resourceArn") or ""
        name = body.get("logGroupName") or arn.partition(":log-group:")[2].partition(":")[0]
        if not name:
            return [Need(f"logs:{operation}")]
        return [self.log(f"logs:{operation}", name, body.get("logStreamName") or "")]

    def log(self, action: str, group: str, stream: str) -> Need:
        """An action on a log group or stream."""
        return Need(action, self._arn("logs", f"log-group:{group}:log-stream:{stream}"))

    def _s3(self, request: Request, operation: str) -> list[Need]:
        name = _S3_ACTIONS.get(operation, operation)
        bucket, _, key = unquote(request.path.lstrip("/")).partition("/")
        if not bucket:
            return [Need(f"s3:{name}")]
        if operation == "DeleteObjects":
            policy, _ = self._stored.bucket(bucket)
            resources = [f"arn:aws:s3:::{bucket}/{deleted}" for deleted in _deleted(request.body)]
            return [Need("s3:DeleteObject", resource, policy) for resource in resources]
        source = request.headers.get("x-amz-copy-source")
        copied = []
        if source:
            found, _, copied_key = unquote(source.partition("?")[0].lstrip("/")).partition("/")
            copied = [self._object("GetObject", found, copied_key, request, operation)]
        return [*copied, self._object(name, bucket, key, request, operation)]

    def _object(self, name: str, bucket: str, key: str, request: Request, operation: str) -> Need:
        policy, default_key = self._stored.bucket(bucket)
        resource = f"arn:aws:s3:::{bucket}"
        if name in _OF_OBJECTS and key:
            resource += f"/{key}"
        kms = ""
        actions: tuple[str, ...] = ()
        if name == "PutObject":
            asked = request.headers.get("x-amz-server-side-encryption")
            kms = request.headers.get("x-amz-server-side-encryption-aws-kms-key-id", "")
            kms = kms or ("" if asked == "AES256" else default_key)
            actions = BOTH if operation == "CompleteMultipartUpload" else USE
        elif name == "GetObject":
            kms, actions = self._stored.object_key(bucket, key), READ
        context = {
            "kms:viaservice": f"s3.{self._region}.amazonaws.com",
            "kms:encryptioncontext:aws:s3:arn": f"arn:aws:s3:::{bucket}",
        }
        return Need(f"s3:{name}", resource, policy, kms, actions, context)

    def _lambda(self, request: Request, operation: str) -> list[Need]:
        action = "InvokeFunction" if operation.startswith("Invoke") else operation
        found = re.search(r"/functions/([^/]+)", request.path)
        if found is None:
            return [Need(f"lambda:{action}")]
        name = unquote(found.group(1)).partition(":function:")[2] or unquote(found.group(1))
        return [Need(f"lambda:{action}", self._arn("lambda", f"function:{name.split(':')[0]}"))]

    def _iot(self, request: Request, operation: str) -> list[Need]:
        found = route_of(request)
        given = {**request.json(), **(found[1] if found else {})}
        resources = []
        for kind, name in _IOT.get(operation, ()):
            value = str(given.get(name, "*"))
            resources.append(self._arn("iot", f"{kind}/{value}") if kind else value)
        return [Need(f"iot:{operation}", one) for one in resources or ["*"]]

    def _firehose(self, request: Request, operation: str) -> list[Need]:
        name = request.json().get("DeliveryStreamName")
        resource = self._arn("firehose", f"deliverystream/{name}") if name else "*"
        return [Need(f"firehose:{operation}", resource)]


def stream_need(
    action: str, arn: str, policy: str | None, key: str, key_actions: tuple[str, ...]
) -> Need:
    """An action on a Kinesis stream or consumer."""
    parsed = None
    if policy:
        parsed = parse(policy)
    context = {
        "kms:viaservice": f"kinesis.{arn.split(':')[3]}.amazonaws.com" if ":" in arn else "",
        "kms:encryptioncontext:aws:kinesis:arn": arn,
    }
    return Need(action, arn, parsed, key, key_actions, context)


def _deleted(body: bytes) -> list[str]:
    """The keys of a DeleteObjects request; all there are, where it cannot be read."""
    try:
        root = ET.fromstring(body)  # noqa: S314 - of a caller on this machine; moto reads it so
    except ET.ParseError:
        return ["*"]
    keys = [one.text or "" for one in root.iter() if one.tag.rpartition("}")[2] == "Key"]
    return list(dict.fromkeys(keys)) or ["*"]


def _members(request: Request) -> dict[str, Any]:
    """Members of a request in JSON or in the query protocol."""
    if request.operation:
        return request.json()
    given = dict(parse_qsl(request.body.decode("utf-8", "replace")))
    return {**{k: v[0] for k, v in parse_qs(request.query).items()}, **given}
