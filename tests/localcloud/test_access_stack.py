"""Every statement of the deployed stack's policies is needed: taken away, something specific fails.

What fails is looked at where AWS would fail: in the function's answer, in the mapping's state, in the
alarm's history, in the queue that stays empty.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import time
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from fleetcast.target import LOCAL_ACCOUNT, Target
from localcloud.access.decide import Policies, Principal, refusal
from localcloud.access.policy import parse
from localcloud.app import LocalCloud
from localcloud.faults.spec import parse as fault_of
from localcloud.iot.provisioning import RejectedError
from stack.config import StackConfig
from stack.deploy import deploy
from stack.processor.readings import canonical, sign

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from stack.outputs import StackOutputs

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENVIRONMENT = "access"
# Holder and statement: what must be seen when it is gone; see `Stack`.
EXPECTED = {
    ("role processor", "kinesis:DescribeStream"): ("mapping", "kinesis:GetRecords"),
    ("role processor", "timestream:WriteRecords"): ("function", "timestream:WriteRecords"),
    ("role processor", "timestream:DescribeEndpoints"): ("function", "DescribeEndpoints"),
    ("role processor", "secretsmanager:GetSecretValue"): ("function", "GetSecretValue"),
    ("role processor", "sqs:SendMessage"): ("quarantine", "itemIdentifier"),
    ("role processor", "kms:Decrypt"): ("function", "kms:Decrypt"),
    ("role processor", "logs:CreateLogStream"): ("logs", "logs:CreateLogStream"),
    ("role archive", "kinesis:DescribeStream"): ("delivery", "kinesis:GetRecords"),
    ("role archive", "s3:AbortMultipartUpload"): ("delivery", "s3:PutObject"),
    ("role archive", "kms:Decrypt"): ("delivery", "kms:"),
    ("role archive", "logs:PutLogEvents"): ("delivery log", "logs:PutLogEvents"),
    ("role topic-rule", "kinesis:PutRecord"): ("rule", "kinesis:PutRecord"),
    ("role topic-rule", "sqs:SendMessage"): ("error action", "sqs:SendMessage"),
    ("role topic-rule", "kms:GenerateDataKey"): ("rule", "kms:GenerateDataKey"),
    ("role provisioning", "iot:CreateThing"): ("provisioning", "iot:DescribeThing"),
    ("role provisioning", "iot:AddThingToThingGroup"): ("provisioning", "AddThingToThingGroup"),
    ("role provisioning", "iot:AttachThingPrincipal"): ("provisioning", "AttachThingPrincipal"),
    ("role provisioning", "iot:AttachPolicy"): ("provisioning", "iot:DescribeCertificate"),
    ("key", "AccountDelegatesToIam"): ("function", "kms:Decrypt"),
    ("key", "AlarmsReachTheTopic"): ("alarm", "kms:GenerateDataKey"),
    ("key", "TopicReachesQueues"): ("probe", "kms:GenerateDataKey"),
    ("key", "LogsAreEncrypted"): ("logs", "kms:GenerateDataKey"),
    ("topic alarms", "AlarmsPublish"): ("alarm", "sns:Publish"),
    ("queue probe", "SenderSends"): ("probe", "sqs:SendMessage"),
}
# A denial is needed for what it denies.
DENIALS = {
    ("queue probe", "TlsOnly"),
    ("queue failures", "TlsOnly"),
    ("queue quarantine", "TlsOnly"),
    ("queue rule-errors", "TlsOnly"),
    ("bucket", "TlsOnly"),
}
QUEUES = ("probe", "failures", "quarantine", "rule-errors")
ROLES = ("processor", "archive", "topic-rule", "provisioning")


class Stack:
    """The deployed stack, its policies, and what can be seen of it."""

    def __init__(
        self, local: LocalCloud, outputs: StackOutputs, clients: Any, eventually: Any
    ) -> None:
        self.local, self.outputs, self.clients = local, outputs, clients
        self.eventually = eventually
        self.key_id = ""
        self._key = b""

    def name(self, what: str) -> str:
        return f"fleetcast-{what}-{ENVIRONMENT}"

    def own(self, service: str) -> Any:
        return next(s for s in self.local._services if service in s.signing_names)

    # Policies

    async def read(self, holder: str) -> dict[str, Any]:
        kind, _, what = holder.partition(" ")
        match kind:
            case "role":
                answer = await self.clients["iam"].get_role_policy(
                    RoleName=self.name(what), PolicyName=self.name(what)
                )
                return answer["PolicyDocument"]
            case "key":
                text = (
                    await self.clients["kms"].get_key_policy(
                        KeyId=self.key_id, PolicyName="default"
                    )
                )["Policy"]
            case "topic":
                answer = await self.clients["sns"].get_topic_attributes(
                    TopicArn=self.outputs.topic_arn
                )
                text = answer["Attributes"]["Policy"]
            case "queue":
                answer = await self.clients["sqs"].get_queue_attributes(
                    QueueUrl=await self.url(what), AttributeNames=["Policy"]
                )
                text = answer["Attributes"]["Policy"]
            case _:
                answer = await self.clients["s3"].get_bucket_policy(
                    Bucket=self.outputs.archive_bucket
                )
                text = answer["Policy"]
        return json.loads(text)

    async def write(self, holder: str, document: dict[str, Any]) -> None:
        kind, _, what = holder.partition(" ")
        text = json.dumps(document)
        match kind:
            case "role":
                await self.clients["iam"].put_role_policy(
                    RoleName=self.name(what), PolicyName=self.name(what), PolicyDocument=text
                )
            case "key":
                await self.clients["kms"].put_key_policy(
                    KeyId=self.key_id, PolicyName="default", Policy=text
                )
            case "topic":
                await self.clients["sns"].set_topic_attributes(
                    TopicArn=self.outputs.topic_arn, AttributeName="Policy", AttributeValue=text
                )
            case "queue":
                await self.clients["sqs"].set_queue_attributes(
                    QueueUrl=await self.url(what), Attributes={"Policy": text}
                )

    async def url(self, what: str) -> str:
        return (await self.clients["sqs"].get_queue_url(QueueName=self.name(what)))["QueueUrl"]

    @asynccontextmanager
    async def without(self, holder: str, statement: str) -> AsyncIterator[None]:
        """The stack while one statement is gone."""
        whole = await self.read(holder)
        left = [one for one in whole["Statement"] if told(one) != statement]
        assert len(left) == len(whole["Statement"]) - 1
        # A policy has a statement; this one lets nobody do anything.
        nothing = {
            "Effect": "Deny", "Principal": {"AWS": LOCAL_ACCOUNT}, "Action": "sns:Nothing",
            "Resource": self.outputs.topic_arn,
        }  # fmt: skip
        if holder.startswith("role"):
            del nothing["Principal"]
        await self.write(holder, {**whole, "Statement": left or [nothing]})
        try:
            yield
        finally:
            await self.write(holder, whole)

    # What can be seen; each gives a text, empty as long as nothing failed

    async def reading(self, *, good: bool = True) -> bytes:
        if not self._key:
            answer = await self.clients["secretsmanager"].get_secret_value(
                SecretId=self.outputs.signing_secret_arn
            )
            self._key = answer["SecretString"].encode()
        value = {
            "v": 1, "run": "access", "device": uuid.uuid4().hex[:8], "class": "c", "site": "s",
            "seq": 1, "ts": int(time.time() * 1000), "signals": {"temperature": 4.0},
        }  # fmt: skip
        key = self._key if good else b"another"
        return canonical({**value, "sig": sign(canonical(value), key)})

    async def function(self, *, good: bool = True) -> str:
        """What the function fails with, in a process that knows nothing yet."""
        client = self.clients["lambda"]
        name = self.outputs.function_name
        await client.update_function_configuration(FunctionName=name, Description=uuid.uuid4().hex)
        kinesis = {
            "data": base64.b64encode(await self.reading(good=good)).decode(), "partitionKey": "k",
            "sequenceNumber": "1", "approximateArrivalTimestamp": time.time(),
        }  # fmt: skip
        event = {"Records": [{"eventID": "shardId-0:1", "kinesis": kinesis}]}
        answer = await client.invoke(FunctionName=name, Payload=json.dumps(event), LogType="Tail")
        payload = json.loads(await answer["Payload"].read())
        if payload == {"batchItemFailures": []}:
            return ""
        return json.dumps(payload) + base64.b64decode(answer["LogResult"]).decode()

    async def quarantine(self) -> str:
        return await self.function(good=False)

    async def mapping(self) -> str:
        await self.put()
        (mapping,) = self.own("lambda").status()["mappings"].values()
        return mapping["last_result"].partition("PROBLEM: ")[2]

    async def logs(self) -> str:
        """Why lines of the function are not in its log group; empty once new ones are."""
        functions, logs = self.own("lambda"), await self.local.context.client("logs")
        group = f"/aws/lambda/{self.outputs.function_name}"
        dropped = functions.status()["log_lines_dropped"]
        began_ms = int(time.time() * 1000)
        await self.function()
        if functions.status()["log_lines_dropped"] > dropped:
            return functions.status()["log_lines_refused"]

        async def written() -> bool:
            answer = await logs.filter_log_events(logGroupName=group, startTime=began_ms)
            return any("REPORT RequestId" in event["message"] for event in answer["events"])

        await self.eventually(written)
        return ""

    async def put(self) -> None:
        await self.clients["kinesis"].put_record(
            StreamName=self.outputs.stream_name, Data=await self.reading(), PartitionKey="k"
        )

    async def delivery(self) -> str:
        await self.put()
        return self.engine.last_error

    @property
    def engine(self) -> Any:
        streams = self.own("firehose")._delivery_streams
        return streams[self.outputs.delivery_stream_name].engine

    async def delivery_log(self) -> str:
        """An error of the delivery is logged, or the log says why not."""
        access, board = self.local.context.access, self.local.context.faults.board
        denied, errors = access.denied, self.engine._errors
        before = errors._task
        fault = board.add(
            fault_of(
                {"service": "s3", "operation": "PutObject", "kind": "error",
                 "code": "MethodNotAllowed"}
            )
        )  # fmt: skip
        try:
            await self.put()
            await self.eventually(lambda: errors._task is not before and errors._task.done())
        finally:
            board.clear(fault.id)
        return "logs:PutLogEvents" if access.denied > denied else ""

    async def rule(self) -> str:
        """What the topic rule fails with."""
        return await self._published("action", "Success", "Failure")

    async def error_action(self) -> str:
        """What the topic rule's error action fails with."""
        board = self.local.context.faults.board
        fault = board.add(
            fault_of(
                {"service": "kinesis", "operation": "PutRecord", "kind": "error",
                 "code": "ResourceNotFoundException"}
            )
        )  # fmt: skip
        try:
            return await self._published("error action", "ErrorActionSuccess", "ErrorActionFailure")
        finally:
            board.clear(fault.id)

    async def _published(self, which: str, *outcomes: str) -> str:
        """Publishes a reading; what failed of it."""
        iot = self.own("iot")

        def ended() -> int:
            counts = iot.status()["counts"]
            return sum(counts.get(outcome, 0) for outcome in outcomes)

        before = ended()
        iot._rules._failures[which] = ""
        topic = f"fleetcast-{ENVIRONMENT}/fleetcast-dev-000001-{ENVIRONMENT}/readings"
        client = await self.local.context.client("iot-data")
        await client.publish(topic=topic, payload=await self.reading(), qos=1)
        await self.eventually(lambda: ended() > before)
        return iot.status()["last_failures"][which]

    async def provisioning(self) -> str:
        """Provisions a device that is new; why it was rejected."""
        provisioning = self.own("iot")._provisioning
        number, _, _ = await provisioning._issue(None)
        asked = {
            "certificateOwnershipToken": provisioning._token(number),
            "parameters": {"Device": uuid.uuid4().hex},
        }
        try:
            await provisioning._register(self.name("fleet"), asked)
        except RejectedError as error:
            return error.message
        return ""

    async def alarm(self) -> str:
        client = self.clients["cloudwatch"]
        name = next(iter(self.outputs.alarms.values()))
        await client.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="before")
        began = dt.datetime.now(dt.UTC)
        await client.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="test")

        async def acted() -> list[dict[str, Any]]:
            answer = await client.describe_alarm_history(
                AlarmName=name, HistoryItemType="Action", StartDate=began
            )
            return answer["AlarmHistoryItems"]

        items = await self.eventually(acted)
        return items[0]["HistorySummary"].partition("Received error: ")[2]

    async def probe(self) -> str:
        client = self.clients["sqs"]
        url = self.outputs.probe_queue_url
        text = uuid.uuid4().hex
        await self.clients["sns"].publish(TopicArn=self.outputs.topic_arn, Message=text)
        while messages := (await client.receive_message(QueueUrl=url, MaxNumberOfMessages=10)).get(
            "Messages"
        ):
            if any(text in message["Body"] for message in messages):
                return ""
        access = self.local.context.access
        queue = f"arn:aws:sqs:us-east-1:{LOCAL_ACCOUNT}:{self.name('probe')}"
        return access.delivery_refusal(self.outputs.topic_arn, queue) or "nothing came"


def told(statement: dict[str, Any]) -> str:
    """How a statement is named here: its Sid, or its first action."""
    actions = statement["Action"]
    return statement.get("Sid") or (actions if isinstance(actions, str) else actions[0])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(
    tmp_path_factory: pytest.TempPathFactory, eventually: Callable[..., Any]
) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("access")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEETCAST_HOME", str(folder))
        async with LocalCloud(port=0) as local:
            target = Target.named("local", port=local.port)
            config = StackConfig.for_target("local", ENVIRONMENT, region=target.region)
            config = config.model_copy(update={"archive_buffer_s": 0, "batch_window_s": 0})
            outputs = await deploy(config, target, "builtin", progress=lambda _: None)
            clients = {
                service: await local.context.client(service)
                for service in (
                    "iam", "kms", "sns", "sqs", "s3", "lambda", "kinesis", "cloudwatch",
                    "secretsmanager",
                )
            }  # fmt: skip
            found = Stack(local, outputs, clients, eventually)
            aliases = (await clients["kms"].list_aliases())["Aliases"]
            found.key_id = next(
                a["TargetKeyId"] for a in aliases if a["AliasName"].endswith(ENVIRONMENT)
            )
            yield found


async def statements(stack: Stack) -> set[tuple[str, str]]:
    """Every statement of every policy."""
    holders = [
        *(f"role {what}" for what in ROLES), "key", "topic alarms",
        *(f"queue {what}" for what in QUEUES), "bucket",
    ]  # fmt: skip
    return {
        (holder, told(statement))
        for holder in holders
        for statement in (await stack.read(holder))["Statement"]
    }


async def test_every_statement_is_accounted_for(stack: Stack) -> None:
    assert await statements(stack) == {*EXPECTED, *DENIALS}
    roles = (await stack.clients["iam"].list_roles())["Roles"]
    assert {role["RoleName"] for role in roles} == {stack.name(what) for what in ROLES}


async def test_nothing_fails_while_all_statements_are_there(stack: Stack) -> None:
    checks = ["function", "quarantine", "logs", "alarm", "probe", "mapping", "delivery", "rule",
              "error_action", "provisioning"]  # fmt: skip
    assert {name: await getattr(stack, name)() for name in [*checks, "delivery_log"]} == {
        **dict.fromkeys(checks, ""), "delivery_log": ""
    }  # fmt: skip
    assert stack.local.context.access.denied == 0


@pytest.mark.parametrize(("holder", "statement"), EXPECTED, ids=lambda text: text.replace(" ", "-"))
async def test_without_a_statement_something_specific_fails(
    stack: Stack, eventually: Callable[..., Any], holder: str, statement: str
) -> None:
    check, expected = EXPECTED[holder, statement]
    look = getattr(stack, check.replace(" ", "_"))
    async with stack.without(holder, statement):

        async def failed() -> bool:
            return expected in await look()

        await eventually(failed)

    async def recovered() -> bool:
        return await look() == ""

    await eventually(recovered)


@pytest.mark.parametrize(("holder", "statement"), sorted(DENIALS))
async def test_a_denial_denies(stack: Stack, holder: str, statement: str) -> None:
    document = await stack.read(holder)
    (denial,) = [one for one in document["Statement"] if told(one) == statement]
    resource = denial["Resource"] if isinstance(denial["Resource"], str) else denial["Resource"][0]
    action = denial["Action"].replace("*", "SendMessage")
    role = Principal("arn:aws:sts::1:assumed-role/r/s", LOCAL_ACCOUNT, "arn:aws:iam::1:role/r")
    allowed = parse(json.dumps({"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}))
    for secure, denied in (("true", False), ("false", True)):
        why = refusal(
            role, action, resource,
            Policies((allowed,), None, parse(json.dumps(document))),
            {"aws:securetransport": (secure,)},
        )  # fmt: skip
        assert (why is not None) == denied


@pytest.mark.parametrize("what", ["processor", "archive"])
async def test_a_role_that_its_service_may_not_assume_is_refused(stack: Stack, what: str) -> None:
    iam, name = stack.clients["iam"], stack.name(what)
    role = (await iam.get_role(RoleName=name))["Role"]
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}
        ],
    }  # fmt: skip
    await iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))
    try:
        if what == "processor":
            client = stack.clients["lambda"]
            with pytest.raises(client.exceptions.InvalidParameterValueException, match="assumed"):
                await client.update_function_configuration(
                    FunctionName=stack.outputs.function_name, Role=role["Arn"]
                )
        else:
            firehose = await stack.local.context.client("firehose")
            told = (
                await firehose.describe_delivery_stream(
                    DeliveryStreamName=stack.outputs.delivery_stream_name
                )
            )["DeliveryStreamDescription"]
            with pytest.raises(firehose.exceptions.InvalidArgumentException, match="assume role"):
                await firehose.update_destination(
                    DeliveryStreamName=stack.outputs.delivery_stream_name,
                    CurrentDeliveryStreamVersionId=told["VersionId"],
                    DestinationId=told["Destinations"][0]["DestinationId"],
                    ExtendedS3DestinationUpdate={"Prefix": "readings/"},
                )
    finally:
        await iam.update_assume_role_policy(
            RoleName=name, PolicyDocument=json.dumps(role["AssumeRolePolicyDocument"])
        )


async def test_a_mapping_of_a_role_that_may_not_read_is_refused(stack: Stack) -> None:
    client = stack.clients["lambda"]
    (mapping,) = (await client.list_event_source_mappings())["EventSourceMappings"]
    kinesis = stack.clients["kinesis"]
    await kinesis.create_stream(StreamName="other", ShardCount=1)
    arn = mapping["EventSourceArn"].rpartition("/")[0] + "/other"
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="Cannot access"):
        await client.create_event_source_mapping(
            EventSourceArn=arn, FunctionName=stack.outputs.function_name, StartingPosition="LATEST"
        )
